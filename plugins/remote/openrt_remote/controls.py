"""What a running command is asked for, from any thread, kept for the loop that carries it out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from openrt_core.models import OutputMode
from openrt_core.process import STDERR, STDOUT, Controls, Process


class Output:
    """One output stream: how far it was fetched, and how much more may be.

    Attributes:
        number: STDOUT or STDERR.
        name: of its file in the command's folder.
        offset: bytes that were fetched.
        window: bytes that the reader has room for.
    """

    def __init__(self, number: int, name: str, window: int) -> None:
        self.number = number
        self.name = name
        self.offset = 0
        self.window = window


class Requests(Controls):
    """Controls of a command. They only write down, and wake the loop.

    Args:
        process: whose controls these are.
        loop: the worker's.

    Attributes:
        wake: set when something was asked for.
        signals: those to be sent, each with whether the group is meant.
        killed: whether it is to be killed.
        input: bytes for its stdin.
        input_closed: whether no more of them come.
        input_wake: set when bytes or the end came.
        outputs: the streams that are wanted.
    """

    def __init__(self, process: Process, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.wake = asyncio.Event()
        self.signals: list[tuple[int, bool]] = []
        self.killed = False
        self.input: list[bytes] = []
        self.input_closed = False
        self.input_wake = asyncio.Event()
        self.outputs: dict[int, Output] = {}
        if process.command.output is not OutputMode.DISCARD:
            self.outputs[STDOUT] = Output(STDOUT, "out", process.window)
            if not process.command.merge_stderr:
                self.outputs[STDERR] = Output(STDERR, "err", process.window)

    def kill(self) -> None:
        """Kills the command's process group; what left it (setsid) lives on."""
        self._post(self._kill)

    def signal(self, number: int, *, group: bool) -> None:
        """Sends a signal to the command, or to its process group."""
        self._post(self._signal, int(number), group)

    def write(self, data: bytes) -> None:
        """Has bytes carried to its stdin."""
        self._post(self._write, data)

    def close_stdin(self) -> None:
        """Has its stdin end."""
        self._post(self._close_input)

    def credit(self, stream: int, amount: int) -> None:
        """The reader took bytes, so more may be fetched."""
        self._post(self._add_credit, stream, amount)

    def _post(self, call: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)

    # On the loop ----------------------------------------------------------------------------------

    def _kill(self) -> None:
        self.killed = True
        self.wake.set()

    def _signal(self, number: int, group: bool) -> None:
        self.signals.append((number, group))
        self.wake.set()

    def _write(self, data: bytes) -> None:
        self.input.append(data)
        self.input_wake.set()
        self.wake.set()  # what comes in often makes something come out

    def _close_input(self) -> None:
        self.input_closed = True
        self.input_wake.set()

    def _add_credit(self, stream: int, amount: int) -> None:
        if stream in self.outputs:
            self.outputs[stream].window += amount
            self.wake.set()
