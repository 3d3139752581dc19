"""Settings of the remote runtime."""

from __future__ import annotations

from typing import Literal

import attrs

from openrt_core.settings import setting


@attrs.frozen(kw_only=True)
class Settings:
    """What the remote runtime takes from the environment, beside what the core takes.

    Attributes:
        api_url: origin of the control plane; None for All Hands' own, when there is a key.
        api_key: of the control plane.
        init_timeout: seconds until a sandbox must be ready, when ``start_timeout`` was not given.
        api_timeout: seconds for one call of the control plane.
        enable_retries: whether network errors of calls that may be repeated are retried.
        runtime_class: isolation; None for what V1 clients ask for, sysbox.
        resource_factor: size.
        pause_closed: whether a sandbox that was made and kept here is paused when it is closed.
    """

    api_url: str | None = setting("SANDBOX_REMOTE_RUNTIME_API_URL")
    api_key: str | None = setting("SANDBOX_API_KEY")
    init_timeout: float = setting("SANDBOX_REMOTE_RUNTIME_INIT_TIMEOUT")
    api_timeout: float = setting("SANDBOX_REMOTE_RUNTIME_API_TIMEOUT")
    enable_retries: bool = setting("SANDBOX_REMOTE_RUNTIME_ENABLE_RETRIES")
    runtime_class: Literal["none", "gvisor", "sysbox"] | None = setting(
        "SANDBOX_REMOTE_RUNTIME_CLASS"
    )
    resource_factor: int = setting("SANDBOX_REMOTE_RUNTIME_RESOURCE_FACTOR")
    pause_closed: bool = setting("SANDBOX_PAUSE_CLOSED_RUNTIMES")
