"""Networks that a sandbox joins beside its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from openrt_core.errors import OpenrtError, SettingError
from openrt_core.models import SandboxSpec
from openrt_docker.engine import Engine, is_missing, translated

VARIABLE: Final = "SANDBOX_ADDITIONAL_NETWORKS"


def check(engine: Engine, names: Sequence[str], spec: SandboxSpec) -> None:
    """Refuses networks that are not there, and those that go with no other.

    Raises:
        SettingError
    """
    if names and spec.network in ("none", "host"):
        raise SettingError(
            f"{VARIABLE} cannot be with network={spec.network}.",
            hint=f"Unset {VARIABLE}, or use another network.",
        )
    for name in names:
        if name in ("none", "host"):
            raise SettingError(f"{VARIABLE} names {name!r}, which goes with no other network.")
        try:
            with translated(f"look up the network {name}"):
                engine.client().api.inspect_network(name)
        except OpenrtError as error:
            if not is_missing(error):
                raise
            raise SettingError(
                f"{VARIABLE} names the network {name!r}, which the engine does not have.",
                hint="`docker network ls` lists those it has.",
            ) from error


def join(engine: Engine, names: Sequence[str], container: str) -> None:
    """Connects a container that is not started yet, so that no command runs without them.

    Raises:
        ProvisionError: the engine would not.
    """
    for name in names:
        with translated(f"join the network {name}"):
            engine.client().api.connect_container_to_network(container, name)
