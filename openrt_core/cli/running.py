"""One command in a sandbox, joined to the streams, the terminal and the signals of this process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Final

import attrs

from openrt_core import features
from openrt_core.cli import console
from openrt_core.cli.joining import join
from openrt_core.cli.main import FAILED
from openrt_core.cli.terminal import Terminal
from openrt_core.errors import CommandNotStartedError, OpenrtError
from openrt_core.manager import Manager
from openrt_core.models import Command, SandboxHandle, SandboxSpec, TerminalSize
from openrt_core.sandbox import Sandbox
from openrt_core.settings import Settings, load
from openrt_core.settings.spec import make_spec

CANNOT_RUN: Final = 126
NOT_FOUND: Final = 127


class Interrupted(KeyboardInterrupt):
    """The signal that ends this run; only the first one is raised."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@attrs.frozen(kw_only=True)
class Job:
    """What is to be run.

    Attributes:
        argv: program and arguments.
        runtime: its name; None for the setting RUNTIME.
        stdin: whether the command gets our stdin.
        tty: whether it gets a terminal of the size of ours.
        timeout: seconds; None for SANDBOX_TIMEOUT when that is set, else no limit.
        command: further arguments of ``Sandbox.start``.
    """

    argv: Sequence[str]
    runtime: str | None
    stdin: bool
    tty: bool = False
    timeout: float | None = None
    command: Mapping[str, Any] = attrs.field(factory=dict)


Open = Callable[[Manager, Settings, console.Reporter], contextlib.AbstractContextManager[Sandbox]]


def run(job: Job, arguments: Mapping[str, Any]) -> int:
    """Makes a sandbox, runs a command in it, removes it; the exit code.

    Args:
        job: what to run.
        arguments: of ``make_spec``.
    """

    @contextlib.contextmanager
    def create(
        manager: Manager, settings: Settings, reporter: console.Reporter
    ) -> Iterator[Sandbox]:
        can = manager.capabilities.features
        spec = make_spec(settings, features=can, emit=reporter.emit, **arguments)
        _check(manager, job, spec)
        if job.tty and "TERM" not in spec.env:
            spec = attrs.evolve(spec, env={**spec.env, **_term()})
        with Sandbox.create(manager=manager, spec=spec) as sandbox:
            try:
                yield sandbox
            finally:
                if sandbox.keep:
                    console.say(f"The sandbox {sandbox.id} is kept.")

    return _perform(job, create)


def execute(job: Job, id: str) -> int:
    """Runs a command in a sandbox that is there, and leaves it there; the exit code."""
    env = dict(job.command.get("env") or {})
    if job.tty:
        env = {**_term(), **env}
    with_term = attrs.evolve(job, command={**job.command, "env": env})
    return _perform(with_term, lambda manager, *_: Sandbox.connect(id, manager=manager))


def _perform(job: Job, opened: Open) -> int:
    reporter = console.Reporter()
    console.take_logs()
    try:
        with signals():
            return _attended(job, opened, reporter)
    except Interrupted as interrupt:
        reporter.clear()
        return interrupted(interrupt)
    except OpenrtError as error:
        reporter.clear()
        return console.failure(error, _code(error))


def _attended(job: Job, opened: Open, reporter: console.Reporter) -> int:
    terminal = Terminal(raw=job.stdin) if job.tty else None
    try:
        settings = load(runtime=job.runtime)
        timeout = job.timeout
        if timeout is None and settings.is_set("SANDBOX_TIMEOUT"):
            timeout = settings.core.timeout
        manager = Manager.open(job.runtime, settings, emit=reporter.emit)
        with opened(manager, settings, reporter) as sandbox:
            reporter.clear()
            size = None if terminal is None else terminal.size
            process = sandbox.start(
                job.argv, stdin=job.stdin, timeout=timeout, tty=size, **job.command
            )
            return join(process, terminal)
    finally:
        # Once more, should the signal have struck while it was given back.
        if terminal is not None:
            terminal.leave()


def _check(manager: Manager, job: Job, spec: SandboxSpec) -> None:
    """Refuses what this runtime cannot do with a command before a sandbox is made for it."""
    named = SandboxHandle(runtime=manager.name, id=spec.id, user=spec.user)
    tty = TerminalSize() if job.tty else None
    command = Command(argv=tuple(job.argv), stdin=job.stdin, tty=tty)
    features.check_command(manager.name, manager.capabilities.features, named, command)


def _term() -> dict[str, str]:
    name = os.environ.get("TERM")
    return {"TERM": name} if name else {}


def interrupted(interrupt: Interrupted) -> int:
    """The exit code for it; tells what was left undone."""
    for note in getattr(interrupt, "__notes__", ()):
        console.say(note)
    return 128 + interrupt.number


@contextlib.contextmanager
def signals() -> Iterator[None]:
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
                os.write(2, b"openrt: The sandbox is being removed." + console.line_end.encode())
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


def _code(error: OpenrtError) -> int:
    if not isinstance(error, CommandNotStartedError):
        return FAILED
    kind = error.code.rpartition(".")[2]
    if kind in ("cwd", "user"):
        return FAILED
    return NOT_FOUND if kind == "not_found" else CANNOT_RUN
