"""``openrt`` as a program of its own, with a scripted runtime that is found by its metadata."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time

TESTS = pathlib.Path(__file__).parent.parent
DEADLINE = 60

RUNTIME = """
import logging, os, pathlib, threading, time, warnings
from openrt_core.errors import (
    AuthenticationError, CommandNotStartedError, ProvisionError, SandboxGoneError)
from openrt_core.events import Event
from openrt_core.models import Exit, SandboxHandle
from openrt_core.plugin import hookimpl
from openrt_core.process import STDERR, STDOUT
from support.fake_runtime import FakeControls, FakeRuntime

LOG = pathlib.Path(os.environ["FAKE_LOG"])

def log(line):
    with LOG.open("a") as file:
        file.write(line + "\\n")

def script(process):
    command = process.command
    word, *rest = command.argv
    log(f"{word} timeout={command.timeout} stdin={command.stdin} tty={command.tty}")
    log(f"{sorted(command.env.items())} {command.cwd} {command.user!r} {rest}")
    process.started(1)
    if word == "print":
        process.feed(STDOUT, os.fsencode(rest[0]))
        process.feed(STDERR, os.fsencode(rest[1]))
        process.exited(Exit(code=0))
    elif word in ("/bin/sh", "true"):
        process.exited(Exit(code=0))
    elif word == "exit":
        process.exited(Exit(code=int(rest[0])))
    elif word == "signal":
        process.exited(Exit(signal=int(rest[0])))
    elif word == "late":
        process.feed(STDOUT, b"partial")
        process.exited(Exit(signal=9, timed_out=True))
    elif word == "hang":
        process.feed(STDOUT, b"started\\n")
    elif word == "flood":
        process.feed(STDOUT, b"y\\n" * 500_000)  # and then it hangs, until it is killed
    elif word == "ends":
        process.feed(STDOUT, f"started {command.tty}\\n".encode())
        process.add_stdin_credit(1 << 30)
        if rest[0] == "late":
            process.exited(Exit(signal=9, timed_out=True))
        elif rest[0] == "lost":
            process.failed(SandboxGoneError("The sandbox is gone."))
        else:
            process.exited(Exit(code=3))
    elif word == "cat":
        process.add_stdin_credit(1 << 30)
    elif word == "missing":
        process.failed(CommandNotStartedError("no such program", code="command." + rest[0]))
    elif word == "lost":
        process.feed(STDOUT, b"partial")
        process.failed(SandboxGoneError("The sandbox is gone."))
    elif word == "terminal":
        size = command.tty
        process.feed(STDOUT, f"started {size.rows} {size.columns}\\n".encode())
        process.add_stdin_credit(1 << 30)
    elif word == "bug":
        raise ZeroDivisionError("bug\\x1b[31m")

def hostile(emit, text):
    fail = threading.Thread(target=lambda: 1 / int(text))
    fail.start()
    fail.join()
    logging.getLogger("vendor").warning("logged %s", text)
    warnings.warn("warned " + text, UserWarning)
    emit(Event(kind="note", message="noted " + text))
    emit(Event(kind="progress", message="went on " + text, done=1, unit=text))
    try:
        raise ValueError("caused " + text)
    except ValueError as error:
        error.add_note("left " + text)
        failure = ProvisionError("refused " + text, hint="try " + text)
        failure.add_note("also " + text)
        raise failure from error

class Controls(FakeControls):
    def write(self, data):
        self.process.feed(STDOUT, data)
        if self.process.command.tty and b"q" in data:
            self.process.exited(Exit(code=7))
    def resize(self, size):
        if self.process.command.argv[-1] == "crash":
            raise ZeroDivisionError("a bug in resize")
        self.process.feed(STDOUT, f"size {size.rows} {size.columns}\\n".encode())
    def close_stdin(self):
        if not self.process.command.tty:
            self.process.exited(Exit(code=0))

class Runtime(FakeRuntime):
    @hookimpl
    def openrt_provision(self, spec, attachments):
        handle = super().openrt_provision(spec, attachments)
        self.emit(Event(kind="progress", message="pulling", done=1, total=2, unit="layers"))
        mounts = [(m.source, m.target, m.mode) for m in spec.mounts]
        log(f"provision {spec.id} {sorted(spec.env.items())} {spec.network} {spec.user} "
            f"{spec.image} {mounts} {spec.workdir} {spec.keep}")
        if "hostile" in (spec.image or ""):
            hostile(self.emit, spec.image)
        if spec.image == "broken":
            raise ProvisionError("no \\x1b[2J luck\\nat all", hint="Try again.")
        deadline = time.monotonic() + 60
        while spec.image == "slow" and time.monotonic() < deadline:
            time.sleep(0.01)
        return handle
    @hookimpl
    def openrt_preflight(self, spec):
        if "FAKE_REFUSAL" in os.environ:
            raise AuthenticationError(os.environ["FAKE_REFUSAL"])
        return True
    @hookimpl
    def openrt_connect(self, id):
        if id == "gone":
            raise SandboxGoneError("There is no \\x1b[2J sandbox.")
        return SandboxHandle(runtime="fake", id=id, workdir="/w", native={"label": "\\x1b[2J"})
    @hookimpl
    def openrt_exec(self, handle, command, process):
        process.attach(Controls(process))
        script(process)
        return process
    @hookimpl
    def openrt_teardown(self, handle):
        log(f"teardown began {handle.id}")
        hold = os.environ.get("FAKE_HOLD")
        deadline = time.monotonic() + 60
        while hold and os.path.exists(hold) and time.monotonic() < deadline:
            time.sleep(0.01)
        if handle.id == "stuck":
            raise ProvisionError("It is \\x1b]0;stuck\\x07.", hint="Wait.")
        log(f"teardown ended {handle.id}")
        return handle.id != "absent"

def create(context):
    if "FAKE_BUG" in os.environ:
        raise ValueError(os.environ["FAKE_BUG"])
    runtime = Runtime()
    if "FAKE_FEATURES" in os.environ:
        runtime.features = frozenset(os.environ["FAKE_FEATURES"].split())
    runtime.emit = context.emit
    return runtime
"""


class Program:
    """``openrt`` with the scripted runtime installed."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "log"
        info = folder / "site" / "fake_runtime_for_cli-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / "site" / "fake_runtime_for_cli.py").write_text(RUNTIME)
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: fake-runtime-for-cli\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(
            "[openrt.runtimes]\nfake = fake_runtime_for_cli:create\n"
        )
        self.environ = {
            **os.environ,
            "HOME": str(folder),
            "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{TESTS}",
            "FAKE_LOG": str(self.log),
            "RUNTIME": "fake",
        }

    def start(self, *arguments, environ=None, **popen):
        return subprocess.Popen(
            [sys.executable, "-m", "openrt_core.cli", *arguments],
            env={**self.environ, **(environ or {})},
            cwd=self.folder,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
            | popen,
        )

    def __call__(self, *arguments, input=None, environ=None):
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        process = self.start(*arguments, environ=environ, stdin=stdin)
        out, err = process.communicate(input, timeout=DEADLINE)
        return process.returncode, out, err.decode()

    def logged(self):
        return self.log.read_text() if self.log.exists() else ""

    def wait_for(self, text):
        deadline = time.monotonic() + DEADLINE
        while text not in self.logged():
            assert time.monotonic() < deadline, self.logged()
            time.sleep(0.01)

    def left(self):
        """How many sandboxes were made and not removed."""
        lines = self.logged().splitlines()
        made = {line.split()[1] for line in lines if line.startswith("provision ")}
        return len(made - {line.split()[2] for line in lines if "teardown ended" in line})
