"""What the killer tests share: programs beside the test, and what a command may try."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from types import TracebackType

from support import undefended

from openrt_core import Sandbox
from openrt_core.errors import OpenrtError

PATIENCE = 120.0
"""Seconds that a test waits for what should come within moments: machines may be loaded."""

TESTS = pathlib.Path(__file__).resolve().parents[1]
NASTY = undefended.AGENT / "src" / "testdata" / "nasty.c"


@contextlib.contextmanager
def holds() -> Iterator[None]:
    """What a sandbox fails with in here is a failed check, as a wrong answer is."""
    try:
        yield
    except OpenrtError as error:
        raise AssertionError(f"the sandbox failed: {type(error).__name__}: {error}") from error


class Client:
    """One of the programs of `client.py`, as a process of its own that ends with the block."""

    def __init__(self, *arguments: str) -> None:
        paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "support.client", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: list[list[str]] = []
        self._unread = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def expect(self, word: str) -> list[str]:
        """The words after ``word`` on its first line that begins so, waiting for it."""
        end = time.monotonic() + PATIENCE
        while True:
            for line in self.lines:
                if line[:1] == [word]:
                    return line[1:]
            self._read(word, end - time.monotonic())

    def tell(self) -> None:
        """Lets it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def _read(self, word: str, seconds: float) -> None:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        assert select.select([fd], [], [], max(seconds, 0))[0], f"no {word!r} after {self.lines}"
        data = os.read(fd, 65536)
        if not data:
            assert self.process.stderr is not None
            raise AssertionError(
                f"it ended without {word!r}: {self.process.stderr.read().decode(errors='replace')}"
            )
        *lines, self._unread = (self._unread + data).split(b"\n")
        self.lines += [line.decode().split() for line in lines]


# A forged message --------------------------------------------------------------------------------


def forgery(operation: int) -> str:
    """A shell script that writes what the agent would: output and the end of this operation.

    It goes through /proc to every descriptor of each process that is the agent or started it,
    stdout first.
    """
    frames = _frame(0x83, operation, b"\x01forged\n") + _frame(
        0x85,
        operation,
        json.dumps(
            {"exit_code": 77, "signal": None, "core": False, "timed_out": False, "killed": False}
            | {"wall": 0.5, "user": 0.25, "system": 0.125, "max_rss": 4096}
        ).encode(),
    )
    octal = "".join(f"\\{byte:03o}" for byte in frames)
    return f"""
        for fd in 1 0 $(seq 2 30); do
            for process in /proc/[0-9]*; do
                # In brackets, so that this shell's own command line is none that fits.
                if grep -q 'openrt-agen[t]' $process/cmdline 2>/dev/null; then
                    echo tried
                    printf '{octal}' >$process/fd/$fd
                fi
            done
        done 2>/dev/null
        true
    """


def _frame(kind: int, id: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload), kind, id) + payload


# A tree of processes that does not want to die ---------------------------------------------------


def compile_nasty(folder: pathlib.Path) -> bytes:
    """The program of `nasty.c`, for a sandbox with any image."""
    if shutil.which("gcc") is None:
        undefended.lacking("gcc")
    program = folder / "nasty"
    command = ["gcc", "-static", "-O1", "-pthread", "-o", str(program), str(NASTY)]
    subprocess.run(command, check=True, timeout=300)
    return program.read_bytes()


def processes(sandbox: Sandbox) -> list[str]:
    """What runs in a sandbox, and what nobody reaped: `STATE NAME COMMAND LINE`, sorted."""
    script = (
        "for p in /proc/[0-9]*; do"
        ' { read -r _ name state _ <$p/stat && line=$(tr "\\0" " " <$p/cmdline)'
        ' && printf "%s\\n" "$state $name $line"; } 2>/dev/null;'
        " done; true"
    )
    return sorted(sandbox.exec(script).text.splitlines())
