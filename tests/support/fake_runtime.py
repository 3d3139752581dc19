"""A runtime in memory: what its commands do is scripted, what was asked of it is written down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import attrs

from openrt_core.errors import SandboxGoneError
from openrt_core.hook_calls import Wrapper
from openrt_core.manager import Manager
from openrt_core.models import Attachment, Command, Exit, Mount, SandboxHandle, SandboxSpec
from openrt_core.plugin import FEATURES, hookimpl
from openrt_core.process import STDOUT, Controls, Process

Script = Callable[[Process], object]
SPEC = SandboxSpec(id="box")


class FakeControls(Controls):
    """Writes down what is asked of it; ``kill`` ends the command with SIGKILL."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.killed = threading.Event()
        self.written = bytearray()
        self.eof = threading.Event()
        self.credits: list[tuple[int, int]] = []

    def kill(self) -> None:
        self.killed.set()
        self.process.exited(Exit(signal=9))

    def write(self, data: bytes) -> None:
        self.written += data

    def close_stdin(self) -> None:
        self.eof.set()

    def credit(self, stream: int, amount: int) -> None:
        self.credits.append((stream, amount))


def succeed(process: Process) -> None:
    """A command that prints ``out`` and ends well."""
    process.started(7)
    process.feed(STDOUT, b"out")
    process.exited(Exit(code=0))


def hang(process: Process) -> None:
    """A command that never ends by itself."""
    process.started(7)


def echo_input(process: Process) -> None:
    """A command that takes all the input that comes, and ends when it is told to."""
    process.started(7)
    process.add_stdin_credit(1 << 20)


@attrs.define(eq=False)
class FakeRuntime:
    """The runtime. ``script`` is called for each command; ``log`` has the hooks in their order."""

    script: Script = succeed
    features: frozenset[str] = frozenset(FEATURES)
    spec_version: int = 1
    name: str = "fake"
    log: list[str] = attrs.field(factory=list)
    alive: set[str] = attrs.field(factory=set)
    controls: list[FakeControls] = attrs.field(factory=list)
    commands: list[Command] = attrs.field(factory=list)
    torn_down: list[SandboxHandle] = attrs.field(factory=list)
    specs: list[SandboxSpec] = attrs.field(factory=list)

    @hookimpl
    def openrt_mount(self, mount: Mount) -> Attachment:
        self.log.append("mount")
        return Attachment("bind", mount)

    @hookimpl
    def openrt_provision(
        self, spec: SandboxSpec, attachments: Sequence[Attachment]
    ) -> SandboxHandle:
        self.log.append("provision")
        self.specs.append(spec)
        self.alive.add(spec.id)
        return SandboxHandle(
            runtime=self.name,
            id=spec.id,
            workdir=spec.workdir,
            user=spec.user,
            native={"full": True},
        )

    @hookimpl
    def openrt_exec(self, handle: SandboxHandle, command: Command, process: Process) -> Process:
        self.log.append("exec")
        if handle.id not in self.alive:
            raise SandboxGoneError(f"There is no sandbox {handle.id}.")
        controls = FakeControls(process)
        self.controls.append(controls)
        self.commands.append(command)
        process.attach(controls)
        self.script(process)
        return process

    @hookimpl
    def openrt_teardown(self, handle: SandboxHandle) -> bool:
        self.log.append("teardown")
        self.torn_down.append(handle)
        there = handle.id in self.alive
        self.alive.discard(handle.id)
        return there


def manage(plugin: object | None = None, **wrappers: object) -> Manager:
    """A manager of ``plugin`` with these wrappers around it, the first is the outermost."""
    named = [Wrapper(name, wrapper) for name, wrapper in wrappers.items()]
    return Manager("fake", FakeRuntime() if plugin is None else plugin, named)
