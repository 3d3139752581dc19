"""Settings of the docker runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from openrt_core.settings import setting


@attrs.frozen(kw_only=True)
class Settings:
    """What the docker runtime takes from the environment, beside what the core takes and the
    engine's own DOCKER_*.

    Attributes:
        additional_networks: joined before the sandbox starts.
        kwargs: more arguments of the container; see ``openrt_docker.kwargs``.
        extra_deps: the core makes ``SandboxSpec.image_commands`` of it.
        force_rebuild: the core makes ``SandboxSpec.image_rebuild`` of it.
    """

    binding_address: str = setting(
        "SANDBOX_RUNTIME_BINDING_ADDRESS",
        "str",
        "127.0.0.1",
        help="Host address of published ports; nothing is published unless a port is asked for.",
        example="127.0.0.1",
    )
    additional_networks: tuple[str, ...] = setting("SANDBOX_ADDITIONAL_NETWORKS")
    kwargs: Mapping[str, Any] = setting("SANDBOX_DOCKER_RUNTIME_KWARGS")
    extra_deps: str | None = setting("SANDBOX_RUNTIME_EXTRA_DEPS")
    force_rebuild: bool = setting("SANDBOX_FORCE_REBUILD_RUNTIME")
