"""The settings that the core itself uses."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from openrt_core.settings.variables import setting


@attrs.frozen
class CoreSettings:
    """The settings that the core itself uses, typed; what each means is in docs/settings.md.

    Attributes:
        timeout: seconds, the default time limit of one command.
        env: what SANDBOX_ENV_X variables set, without the prefix.
        close_delay: seconds that a kept sandbox lingers without a client.
        wrappers: names of wrappers, the outermost first.
        max_provisioning: how many sandboxes one process makes at once.
    """

    runtime: str = setting("RUNTIME")
    image: str | None = setting("SANDBOX_RUNTIME_CONTAINER_IMAGE")
    base_image: str = setting("SANDBOX_BASE_CONTAINER_IMAGE")
    platform: str | None = setting("SANDBOX_PLATFORM")
    user_id: int | None = setting("SANDBOX_USER_ID")
    timeout: float = setting("SANDBOX_TIMEOUT")
    volumes: str | None = setting("SANDBOX_VOLUMES")
    workspace_base: str | None = setting("WORKSPACE_BASE")
    workspace_mount_path: str | None = setting("WORKSPACE_MOUNT_PATH")
    workspace_mount_rewrite: str | None = setting("WORKSPACE_MOUNT_REWRITE")
    workspace_mount_path_in_sandbox: str = setting("WORKSPACE_MOUNT_PATH_IN_SANDBOX")
    use_host_network: bool = setting("SANDBOX_USE_HOST_NETWORK")
    startup_env: Mapping[str, str] = setting("SANDBOX_RUNTIME_STARTUP_ENV_VARS")
    env: Mapping[str, str] = setting("SANDBOX_ENV_")
    enable_gpu: bool = setting("SANDBOX_ENABLE_GPU")
    cuda_visible_devices: tuple[str, ...] | None = setting("SANDBOX_CUDA_VISIBLE_DEVICES")
    keep: bool = setting("SANDBOX_KEEP_RUNTIME_ALIVE")
    close_delay: float = setting("SANDBOX_CLOSE_DELAY")
    wrappers: tuple[str, ...] = setting("OPENRT_WRAPPERS")
    max_provisioning: int = setting("OPENRT_MAX_PROVISIONING")
