"""Settings of the docker runtime."""

from __future__ import annotations

import attrs

from openrt_core.settings import setting


@attrs.frozen(kw_only=True)
class Settings:
    """What the docker runtime takes from the environment, beside what the core takes and the
    engine's own DOCKER_*."""

    binding_address: str = setting(
        "SANDBOX_RUNTIME_BINDING_ADDRESS",
        "str",
        "127.0.0.1",
        help="Host address of published ports; nothing is published unless a port is asked for.",
        example="127.0.0.1",
    )
