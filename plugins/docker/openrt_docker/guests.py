"""Streams into running containers, by an exec that joins the agent."""

from __future__ import annotations

from typing import Any, Final

from openrt_agent.messages import clean
from openrt_core.errors import ProvisionError
from openrt_docker.attach import EngineEndpoint
from openrt_docker.engine import Engine, translated

_SHOWN: Final = 500


class GuestEndpoint(EngineEndpoint):
    """The stream of one exec, whose first bytes are kept: they are the engine's own words when it
    could not start the program.

    Args:
        raw: as the SDK gives it.
        exec_id: the exec's, of the engine.
    """

    def __init__(self, raw: Any, exec_id: str) -> None:
        super().__init__(raw)
        self.exec_id = exec_id
        self._first = b""

    def receive(self, size: int) -> bytes | None:
        """As of any endpoint."""
        data = super().receive(size)
        if data and len(self._first) < _SHOWN:
            self._first += data[: _SHOWN - len(self._first)]
        return data

    def first(self) -> str:
        """The first that came, without what would steer a terminal; hostile."""
        return clean(self._first.decode("utf-8", "replace").strip(), _SHOWN)


def refusal(engine: Engine, endpoint: GuestEndpoint) -> ProvisionError | None:
    """Why no program runs at the other end; None when one did, or does.

    Raises:
        EngineUnreachableError, ProvisionError: the engine does not say.
    """
    with translated("look at the exec that joins the container"):
        found = engine.client().api.exec_inspect(endpoint.exec_id)
    # An exec that never had a process has no pid; what a process did with its stream is its own.
    if found.get("Running") or found.get("Pid"):
        return None
    return ProvisionError(f"The engine could not run the agent to join: {endpoint.first()}")
