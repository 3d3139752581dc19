"""One command in a sandbox of its own, joined to the streams and signals of this process."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Final

from openrt_core.cli import console
from openrt_core.errors import CommandNotStartedError, CommandTimedOutError, OpenrtError
from openrt_core.manager import Manager
from openrt_core.process import Process
from openrt_core.sandbox import Sandbox
from openrt_core.settings import Settings, load
from openrt_core.settings.spec import make_spec
from openrt_core.streams import InputWriter, OutputReader

TIMED_OUT: Final = 124
FAILED: Final = 125
CANNOT_RUN: Final = 126
NOT_FOUND: Final = 127
CHUNK: Final = 64 * 1024


class Interrupted(KeyboardInterrupt):
    """The signal that ends this run; only the first one is raised."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def run(
    argv: Sequence[str],
    *,
    runtime: str | None,
    interactive: bool,
    timeout: float | None,
    reporter: console.Reporter,
    arguments: Mapping[str, Any],
) -> int:
    """Makes a sandbox, runs a command in it, removes it; the exit code.

    Args:
        argv: program and arguments.
        runtime: its name; None for the setting RUNTIME.
        interactive: whether the command gets our stdin.
        timeout: seconds; None for SANDBOX_TIMEOUT when that is set, else no limit.
        reporter: shows events.
        arguments: of ``make_spec``.
    """
    try:
        with _signals():
            settings = load(runtime=runtime)
            if timeout is None and settings.is_set("SANDBOX_TIMEOUT"):
                timeout = settings.core.timeout
            with _sandbox(runtime, settings, reporter, arguments) as sandbox:
                reporter.clear()
                process = sandbox.start(argv, stdin=interactive, timeout=timeout)
                return _join(process)
    except Interrupted as interrupt:
        reporter.clear()
        for note in getattr(interrupt, "__notes__", ()):
            console.say(note)
        return 128 + interrupt.number
    except OpenrtError as error:
        reporter.clear()
        return console.failure(error, _code(error))


@contextlib.contextmanager
def _sandbox(
    runtime: str | None,
    settings: Settings,
    reporter: console.Reporter,
    arguments: Mapping[str, Any],
) -> Iterator[Sandbox]:
    manager = Manager.open(runtime, settings, emit=reporter.emit)
    features = manager.capabilities.features
    spec = make_spec(settings, features=features, emit=reporter.emit, **arguments)
    with Sandbox.create(manager=manager, spec=spec) as sandbox:
        try:
            yield sandbox
        finally:
            if sandbox.keep:
                console.say(f"The sandbox {sandbox.id} is kept.")


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Has the first SIGINT, SIGTERM or SIGHUP raise ``Interrupted``.

    Later ones are only told about: by then the sandbox is being removed, and cutting that short
    would leak it.
    """
    raised = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal raised
        if raised:
            # os.write, for a handler may interrupt a write to the same buffered stream
            with contextlib.suppress(OSError):
                os.write(2, b"openrt: The sandbox is being removed.\n")
            return
        raised = True
        raise Interrupted(number)

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # what nohup or a shell's background job ignores stays ignored
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for ended, handler in before.items():
            signal.signal(ended, handler)


def _join(process: Process) -> int:
    """Carries bytes until the command is over and all of its output is written; the exit code."""
    assert process.stdout is not None
    assert process.stderr is not None
    if process.stdin is not None:
        # A read from a terminal cannot be cut short: it ends with this program.
        threading.Thread(target=_feed, args=(process.stdin,), daemon=True).start()
    pumps = [_Pump(process, process.stdout, 1), _Pump(process, process.stderr, 2)]
    code, note, lost = 0, "", None
    try:
        try:
            code = process.wait().exit_code
        except CommandTimedOutError as error:
            code, note = TIMED_OUT, str(error)
        except OpenrtError as error:
            lost = error
        for pump in pumps:
            pump.join()
    except BaseException:
        process.kill()
        raise
    if lost is not None:
        raise lost
    for pump in pumps:
        if pump.error is not None:
            return _unwritten(pump.error)
    if note:
        console.say(note)
    return code


def _unwritten(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        # `openrt run … | head`: nobody reads any more, which is no error of anybody.
        return 128 + signal.SIGPIPE
    console.say(f"The output cannot be written: {error}")
    return FAILED


def _feed(stdin: InputWriter) -> None:
    with contextlib.suppress(BrokenPipeError):  # it ended, or closed its stdin
        try:
            while data := os.read(0, CHUNK):
                stdin.write(data)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            console.say(f"The input cannot be read: {error}")
        stdin.close()


class _Pump(threading.Thread):
    """Writes one stream of a command to one of our descriptors. When that fails, the command is
    killed.
    """

    def __init__(self, process: Process, reader: OutputReader, fd: int) -> None:
        super().__init__(daemon=True)
        self.error: OSError | None = None
        self._process = process
        self._reader = reader
        self._fd = fd
        self.start()

    def run(self) -> None:
        # the loss of the command is raised by its wait(), too
        with contextlib.suppress(OpenrtError):
            for data in self._reader:
                if self.error is None:
                    self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            _write(self._fd, data)
        except OSError as error:
            # What still comes is read and dropped: its end is told only behind its output.
            self.error = error
            self._process.kill()


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # whoever gave us this descriptor made it non-blocking
            select.select([], [fd], [])


def _code(error: OpenrtError) -> int:
    if not isinstance(error, CommandNotStartedError):
        return FAILED
    kind = error.code.rpartition(".")[2]
    if kind in ("cwd", "user"):
        return FAILED
    return NOT_FOUND if kind == "not_found" else CANNOT_RUN
