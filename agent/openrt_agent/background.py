"""The background commands of a sandbox: a list of them, and forgetting one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from openrt_agent import messages, wire
from openrt_agent.connection import Connection
from openrt_agent.messages import AgentError
from openrt_agent.requests import to_json
from openrt_agent.wire import Violation
from openrt_core.errors import CommandError, OpenrtError, TransportError
from openrt_core.models import BackgroundCommand, Exit
from openrt_core.waiting import Latch

PATIENCE: Final = 60.0
"""Seconds that the agent has for its answer."""


class BackgroundClient:
    """Commands of one sandbox that belong to none of its connections. Its calls never hang.

    All raise TransportError or SandboxGoneError when the way to the sandbox broke.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> list[BackgroundCommand]:
        """Those that run and those that ended and are remembered, unordered."""
        answer = self._ask(wire.LIST, {})
        if isinstance(answer, AgentError):
            raise TransportError(f"The sandbox did not list its commands: {answer.message}")
        try:
            return messages.parse_commands(answer)
        except Violation as error:
            self._connection.violate(error)
            raise TransportError(
                f"What came from the sandbox is not the agent's protocol: {error}.",
                code="transport.protocol",
                started="yes",
            ) from None

    def forget(self, name: str) -> bool:
        """Forgets a command that has ended, with what it printed. False when there is none.

        Raises:
            CommandError: it still runs.
        """
        if not is_command_name(name):
            return False
        answer = self._ask(wire.FORGET, {"command": name})
        if not isinstance(answer, AgentError):
            return True
        if answer.code == "not_found":
            return False
        raise CommandError(
            f"The background command {messages.clean(name, 64)!r} was not forgotten: "
            f"{answer.message}.",
            hint="Kill it first, and wait for its end." if answer.code == "running" else "",
            code=f"command.{answer.code}",
        )

    def _ask(self, kind: int, value: Mapping[str, Any]) -> dict[str, Any] | AgentError:
        connection = self._connection
        connection.check()
        question = _Question()
        operation = connection.session.open("file", question, (0, 0))
        connection.begin(operation, wire.encode(kind, operation.id, to_json(value)))
        if not question.over.wait(PATIENCE):
            raise TransportError(f"The sandbox did not answer within {PATIENCE:g} s.")
        if isinstance(question.answer, OpenrtError):
            raise question.answer
        return question.answer


class _Question:
    """The handler of a request that has one answer."""

    def __init__(self) -> None:
        self.over = Latch()
        self.answer: dict[str, Any] | AgentError | OpenrtError = {}

    def on_failed(self, error: AgentError) -> None:
        self._finish(error)

    def on_ended(self, result: dict[str, Any]) -> None:
        self._finish(result)

    def on_lost(self, error: OpenrtError) -> None:
        self._finish(error)

    def _finish(self, answer: dict[str, Any] | AgentError | OpenrtError) -> None:
        self.answer = answer
        self.over.set()

    def on_input_credit(self, amount: int) -> None:
        """It has no input, so whatever the agent grants means nothing."""

    def on_started(self, pid: int) -> None:
        raise AssertionError("the session lets no STARTED of a request through")

    def on_exited(self, exit: Exit) -> None:
        raise AssertionError("the session lets no EXITED of a request through")

    def on_gap(self, stream: int, amount: int) -> None:
        raise AssertionError("the session lets no GAP of a request through")

    def on_output(self, stream: int, data: bytes) -> None:
        raise AssertionError("it gave no credit for output")


def is_command_name(name: str) -> bool:
    """Whether a background command can be called so."""
    return re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) is not None


def no_background(name: str) -> CommandError:
    """There is no such command, or none any more."""
    return CommandError(
        f"The sandbox has no background command {messages.clean(name, 64)!r}.",
        hint="Those that ended are forgotten once 64 others have ended, and with their sandbox.",
        code="command.unknown",
    )
