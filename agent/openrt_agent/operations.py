"""Operations of a connection, and what can be learnt of them."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, Protocol

from openrt_agent import wire
from openrt_agent.messages import AgentError, Hello
from openrt_core.errors import OpenrtError
from openrt_core.models import Exit

Kind = Literal["command", "detached", "file"]
"""``detached``: one attachment to a detached command. ``file``: whatever ends with END."""


_OVERDRAFTS: Final = {"command": wire.OVERDRAFT, "detached": wire.RING, "file": 0}


class Handler(Protocol):
    """Gets the events of one operation, in the I/O thread. Must not block."""

    def on_started(self, pid: int) -> None:
        """A command runs."""

    def on_output(self, stream: int, data: bytes) -> None:
        """Output of a command, or bytes of a file."""

    def on_gap(self, stream: int, amount: int) -> None:
        """So many bytes of a detached command's output are lost before what comes next."""

    def on_input_credit(self, amount: int) -> None:
        """So many bytes more may be sent."""

    def on_exited(self, exit: Exit) -> None:
        """A command ended. Final."""

    def on_failed(self, error: AgentError) -> None:
        """The agent could not do it. Final."""

    def on_ended(self, result: dict[str, Any]) -> None:
        """A file operation is done. Final."""

    def on_lost(self, error: OpenrtError) -> None:
        """The connection ended. Final."""


class Operation:
    """One command or file operation.

    Attributes:
        id: its number on the connection.
        kind: which of the three.
        overdraft: output bytes that may come beyond the credit, when a command has ended.
        handler: whoever gets its events; the session only carries it.
        queued: whether its first frame is on its way, so that others may follow.
        started: whether STARTED was seen.
    """

    __slots__ = (
        "allowed",
        "fed",
        "given",
        "handler",
        "id",
        "kind",
        "overdraft",
        "owed",
        "queued",
        "started",
        "step",
    )

    def __init__(self, id: int, kind: Kind, handler: Handler, window: tuple[int, int]) -> None:
        self.id = id
        self.kind: Kind = kind
        self.overdraft = _OVERDRAFTS[kind]
        self.handler = handler
        self.queued = False
        self.started = False
        self.allowed = [0, *window]  # per stream: output bytes that the agent may still send
        self.owed = [0, 0, 0]  # per stream: taken by the reader, not yet told the agent
        self.step = max(min(w for w in window if w) // 4, 1) if any(window) else 1
        self.given = wire.INPUT_CREDIT
        self.fed = 0  # input bytes that were sent, out of those given


class Started(NamedTuple):
    """A command runs."""

    operation: Operation
    pid: int


class Output(NamedTuple):
    """Output of a command, or bytes of a file."""

    operation: Operation
    stream: int
    data: bytes


class Gap(NamedTuple):
    """Output of a detached command was lost before what comes next."""

    operation: Operation
    stream: int
    amount: int


class InputCredit(NamedTuple):
    """So many bytes more may be sent."""

    operation: Operation
    amount: int


class Exited(NamedTuple):
    """A command ended. The operation is closed."""

    operation: Operation
    exit: Exit


class Failed(NamedTuple):
    """The agent could not do it. The operation is closed."""

    operation: Operation
    error: AgentError


class Ended(NamedTuple):
    """A file operation is done. The operation is closed."""

    operation: Operation
    result: dict[str, Any]


class Greeted(NamedTuple):
    """The agent's HELLO came."""

    hello: Hello


class Refused(NamedTuple):
    """FATAL: the agent ends the connection."""

    error: AgentError


Event = Started | Output | Gap | InputCredit | Exited | Failed | Ended | Greeted | Refused
