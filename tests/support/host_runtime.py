"""A runtime of four functions whose commands are processes of this machine, without isolation."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from typing import IO

import attrs
from support.fake_runtime import FakeControls, FakeRuntime

from openrt_core.models import Command, Exit, SandboxHandle
from openrt_core.plugin import hookimpl
from openrt_core.process import STDERR, STDOUT, Process


class HostControls(FakeControls):
    """Controls of one process."""

    def __init__(self, process: Process, child: subprocess.Popen[bytes]) -> None:
        super().__init__(process)
        self.child = child

    def kill(self) -> None:
        self.killed.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)

    def write(self, data: bytes) -> None:
        assert self.child.stdin is not None
        try:
            self.child.stdin.write(data)
            self.child.stdin.flush()
        except BrokenPipeError:
            return

    def close_stdin(self) -> None:
        assert self.child.stdin is not None
        try:
            self.child.stdin.close()
        except BrokenPipeError:
            return


@attrs.define(eq=False)
class HostRuntime(FakeRuntime):
    """Runs commands here. ``replaced`` maps programs to what stands in for them."""

    features: frozenset[str] = frozenset({"stdin", "streams"})
    replaced: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    @hookimpl
    def openrt_exec(self, handle: SandboxHandle, command: Command, process: Process) -> Process:
        self.commands.append(command)
        program, *arguments = command.argv
        child = subprocess.Popen(
            [*self.replaced.get(program, (program,)), *arguments],
            stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=command.cwd,
            env={"PATH": "/usr/bin:/bin", **command.env},
            start_new_session=True,
        )
        process.attach(HostControls(process, child))
        process.started(child.pid)
        threading.Thread(target=_serve, args=(process, child), daemon=True).start()
        process.add_stdin_credit(1 << 40)
        return process


def _serve(process: Process, child: subprocess.Popen[bytes]) -> None:
    readers = [
        threading.Thread(target=_copy, args=(process, stream, pipe), daemon=True)
        for stream, pipe in ((STDOUT, child.stdout), (STDERR, child.stderr))
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    status = child.wait()
    process.exited(Exit(code=status) if status >= 0 else Exit(signal=-status))


def _copy(process: Process, stream: int, pipe: IO[bytes] | None) -> None:
    assert pipe is not None
    while data := pipe.read(65536):
        process.feed(stream, data)
    pipe.close()
