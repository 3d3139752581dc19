"""The client of one agent: commands and files over one connection."""

from __future__ import annotations

import errno
import signal
import struct
import threading
import time
from collections.abc import Callable
from typing import Final

from openrt_agent import wire
from openrt_agent.background import BackgroundClient, is_command_name, no_background
from openrt_agent.connection import Connection, Describe
from openrt_agent.endpoint import Endpoint
from openrt_agent.file_client import FileClient
from openrt_agent.forward import Listener
from openrt_agent.messages import AgentError, Hello, clean
from openrt_agent.operations import Kind, Operation
from openrt_agent.requests import StartRequest, to_json
from openrt_agent.session import Session
from openrt_core.errors import (
    CommandNotStartedError,
    OpenrtError,
    StartTimeoutError,
    TransportError,
)
from openrt_core.models import Exit, TerminalSize
from openrt_core.process import Controls, Process

CLIENT: Final = "openrt-python"
LEASE: Final = 600.0


class AgentClient:
    """Runs commands and moves files through one agent. Thread-safe; has no thread of its own.

    Attributes:
        hello: what the agent said of itself.
        files: file operations.
        background: the background commands of the sandbox.
    """

    def __init__(self, connection: Connection, hello: Hello) -> None:
        self.hello = hello
        self.files = FileClient(connection)
        self.background = BackgroundClient(connection)
        self._connection = connection
        self._listeners: dict[int, Listener] = {}
        self._forwarding = threading.Lock()

    @classmethod
    def open(
        cls,
        endpoint: Endpoint,
        *,
        timeout: float,
        lease: float = LEASE,
        linger: float = 0.0,
        describe: Describe | None = None,
    ) -> AgentClient:
        """Greets the agent behind ``endpoint``, which is closed when this fails.

        Args:
            endpoint: the way to the agent.
            timeout: seconds for the agent's answer.
            lease: seconds, 5 to 86,400: whoever hears nothing for so long ends the connection.
            linger: seconds that an agent which this client owns lives on without any client; 0:
                it ends with this connection.
            describe: asked for a better error when the stream ends unexpectedly, in a thread of
                its own; what it says within 5 s counts.

        Raises:
            StartTimeoutError: no answer in time.
            TransportError, SandboxGoneError: the stream ended, or no agent of this version
                answered.
        """
        session = Session(lease=lease, now=time.monotonic(), linger=linger)
        connection = Connection(endpoint, session, describe)
        try:
            connection.send(session.greeting(CLIENT))
            if not connection.settled.wait(timeout):
                raise StartTimeoutError(
                    f"The agent in the sandbox did not answer within {timeout:g} s."
                )
            if session.hello is None:
                raise connection.reason("no")
        except BaseException:
            connection.close()
            raise
        return cls(connection, session.hello)

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, from whichever side."""
        return self._connection.closed

    def start(self, request: StartRequest, process: Process) -> None:
        """Starts a command; returns at once. The agent's answers are fed to ``process``.

        Raises:
            TransportError, SandboxGoneError: it was not started.
            CommandNotStartedError: its arguments and environment are too large.
            SettingError: a text that stands for no bytes.
        """
        kind: Kind = "command" if request.detach is None else "detached"
        self._begin(kind, wire.START, request.payload(process.window), process)
        process.add_stdin_credit(wire.INPUT_CREDIT)

    def attach(self, name: str, offsets: tuple[int, int], process: Process) -> None:
        """Attaches to a background command; returns at once. What it printed from the offsets on is
        fed to ``process``, and its end. CommandError goes there when there is none of this name.

        Raises:
            TransportError, SandboxGoneError
        """
        if not is_command_name(name):
            process.failed(no_background(name))
            return
        window = process.window
        value = {"command": name, "offsets": offsets, "credit": [window, window]}
        self._begin("detached", wire.ATTACH, to_json(value), process)

    def _begin(self, kind: Kind, frame: int, payload: bytes, process: Process) -> None:
        connection = self._connection
        connection.check()
        running = _Running(connection, process, attaches=frame == wire.ATTACH)
        operation = connection.session.open(kind, running, (process.window, process.window))
        running.operation = operation
        # Before START goes out: whoever interrupts this can then kill what may have been started.
        process.attach(running)
        connection.begin(operation, wire.encode(frame, operation.id, payload))
        running.cancel_if_asked()

    def forward(self, port: int) -> tuple[str, int]:
        """Host and port here that stand for a TCP port of the sandbox's loopback, until the
        connection ends. The same port twice is the same address. Anybody on this machine can
        connect to it.

        Raises:
            TransportError, SandboxGoneError: the connection has ended.
            OSError: no local socket could be made.
        """
        self._connection.check()
        with self._forwarding:
            listener = self._listeners.get(port)
            if listener is None:
                listener = self._listeners[port] = Listener(self._connection, port)
        return listener.address

    def close(self) -> None:
        """Closes the stream; the owner's ends the sandbox, unless it lingers. What runs here fails.
        Idempotent."""
        self._connection.close()

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Has ``callback()`` called, in the I/O thread, when the connection has ended."""
        self._connection.add_close_callback(callback)


class _Running(Controls):
    """One command: its process's controls, and the handler of what the agent says about it."""

    __slots__ = ("_attaches", "_cancel", "_connection", "_process", "operation")

    operation: Operation

    def __init__(self, connection: Connection, process: Process, *, attaches: bool) -> None:
        self._connection = connection
        self._process = process
        self._attaches = attaches
        self._cancel = False

    def cancel_if_asked(self) -> None:
        """Makes up for a kill that was asked for before START was on its way."""
        if self._cancel:
            self._send(wire.CANCEL)

    def _send(self, kind: int, payload: bytes = b"") -> None:
        if self.operation.queued and self._connection.session.is_open(self.operation):
            self._connection.send(wire.encode(kind, self.operation.id, payload))

    # Controls ----------------------------------------------------------------------------------

    def kill(self) -> None:
        again, self._cancel = self._cancel, True
        if not again:
            self._send(wire.CANCEL)

    def signal(self, number: int, *, group: bool) -> None:
        self._send(wire.SIGNAL, bytes((number & 0xFF, 1 if group else 0)))

    def write(self, data: bytes) -> None:
        session = self._connection.session
        if session.is_open(self.operation):
            for frame in session.feed_input(self.operation, data):
                self._connection.send(frame)

    def close_stdin(self) -> None:
        self._send(wire.STDIN_EOF)

    def resize(self, size: TerminalSize) -> None:
        self._send(wire.RESIZE, struct.pack(">HH", size.rows, size.columns))

    def credit(self, stream: int, amount: int) -> None:
        frame = self._connection.session.grant(self.operation, stream, amount)
        if frame is not None:
            self._connection.send(frame)

    # Handler -----------------------------------------------------------------------------------

    def on_started(self, pid: int) -> None:
        self._process.started(pid)
        # Once more, should Ctrl-C have struck between the last two steps of start().
        self.cancel_if_asked()

    def on_output(self, stream: int, data: bytes) -> None:
        self._process.feed(stream, data)

    def on_gap(self, stream: int, amount: int) -> None:
        self._process.lost(stream, amount)

    def on_input_credit(self, amount: int) -> None:
        self._process.add_stdin_credit(amount)

    def on_exited(self, exit: Exit) -> None:
        self._process.exited(exit)

    def on_failed(self, error: AgentError) -> None:
        if self._cancel and error.code == "cancelled":
            # Killed before its program ran: a race that users need not see.
            self._process.exited(Exit(signal=signal.SIGKILL, duration=0.0))
            return
        name = self._process.command.argv[0]
        unknown = self._attaches and error.code == "not_found"
        self._process.failed(no_background(name) if unknown else _not_started(name, error))

    def on_ended(self, result: dict[str, object]) -> None:
        raise AssertionError("the session lets no END of a command through")

    def on_lost(self, error: OpenrtError) -> None:
        self._process.failed(error)


def _not_started(program: str, error: AgentError) -> OpenrtError:
    if error.code == "too_many":
        return TransportError(
            "The sandbox has no room for one more command now.", started="no", retryable=True
        )
    return CommandNotStartedError(
        f"{clean(program, 200)!r} was not started: {error.message}",
        code=f"command.{error.code}",
        retryable=error.errno == errno.EAGAIN,
    )
