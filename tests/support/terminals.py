"""A program on a terminal of its own, started as a job, as a shell does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence

DEADLINE = 60

# Leads the session, as a shell does. Its first two arguments are descriptors: for orders to it
# and for what it reports. It hands neither on to the program. The third says where that starts.
LEADER = """
import fcntl, os, signal, sys, termios
orders, reports = os.fdopen(int(sys.argv[1]), "r"), os.fdopen(int(sys.argv[2]), "w", buffering=1)
for end in (orders, reports):
    os.set_inheritable(end.fileno(), False)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
# The kernel tells the leader alone that the terminal is gone; shells pass it on.
signal.signal(signal.SIGHUP, lambda *_: os.killpg(child, signal.SIGHUP))
child = os.fork()
if not child:
    os.setpgid(0, 0)
    if sys.argv[3] == "foreground":
        os.tcsetpgrp(0, os.getpid())
    for number in (signal.SIGTTOU, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(sys.argv[4], sys.argv[4:])
print("started", child, file=reports)
while True:
    _, status = os.waitpid(child, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        print("ended", os.waitstatus_to_exitcode(status), file=reports)
        break
    os.tcsetpgrp(0, os.getpgrp())
    print("stopped", os.WSTOPSIG(status), file=reports)
    if orders.readline() == "foreground\\n":
        os.tcsetpgrp(0, child)
    os.killpg(child, signal.SIGCONT)
"""


class OnTerminal:
    """The program. A context manager that ends it.

    Attributes:
        pid: of the program.
        before: the modes of the terminal before it was started.
        output: what it wrote so far.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        rows: int = 31,
        columns: int = 97,
        foreground: bool = True,
    ) -> None:
        self.output = b""
        self.master, self._slave = pty.openpty()
        self.resize(rows, columns)
        self.before = self.modes()
        orders, self._orders = os.pipe()
        self._reports, reports = os.pipe()
        where = "foreground" if foreground else "background"
        self._leader = subprocess.Popen(
            [sys.executable, "-c", LEADER, str(orders), str(reports), where, *argv],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            pass_fds=(orders, reports),
            start_new_session=True,
            env=env,
            cwd=cwd,
        )
        os.close(orders)
        os.close(reports)
        self._told = b""
        self.pid = self._report("started")

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        for fd in (self.master, self._slave, self._orders, self._reports):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._leader.kill()
        self._leader.wait(DEADLINE)

    def modes(self) -> list[object]:
        """The modes of the terminal, as the program's own side sees them."""
        return termios.tcgetattr(self._slave)

    @property
    def raw(self) -> bool:
        """Whether no byte is changed or stands for a signal."""
        iflag, oflag, _, lflag, *_ = termios.tcgetattr(self._slave)
        local = termios.ISIG | termios.ICANON | termios.ECHO | termios.IEXTEN
        return not (
            iflag & (termios.ICRNL | termios.IXON) or oflag & termios.OPOST or lflag & local
        )

    def resize(self, rows: int, columns: int) -> None:
        """Gives the terminal another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data: bytes) -> None:
        """Types."""
        os.write(self.master, data)

    def signal(self, number: int) -> None:
        """Sends a signal to the program."""
        os.kill(self.pid, number)

    def hang_up(self) -> None:
        """Closes the terminal, as a window is closed."""
        os.close(self._slave)
        os.close(self.master)

    def expect(self, text: bytes) -> bytes:
        """Waits until ``text`` was written after what was expected before; what came up to it."""
        end = time.monotonic() + DEADLINE
        while text not in self.output:
            assert time.monotonic() < end, self.output
            self._read(1.0)
        before, _, self.output = self.output.partition(text)
        return before

    def stopped(self) -> int:
        """Waits until the program is stopped; by which signal."""
        return self._report("stopped")

    def go_on(self, *, foreground: bool = True) -> None:
        """Has it go on, after it was stopped."""
        os.write(self._orders, b"foreground\n" if foreground else b"background\n")

    def ended(self) -> int:
        """Waits until it has ended; its exit code. All that it wrote is in ``output``."""
        code = self._report("ended")
        with contextlib.suppress(OSError):  # hung up
            while self._read(0.0):
                pass
        return code

    def _read(self, seconds: float) -> bool:
        """Whether something came within this time."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            self.output += os.read(self.master, 65536)
        return bool(ready)

    def _report(self, word: str) -> int:
        end = time.monotonic() + DEADLINE
        while b"\n" not in self._told:
            assert time.monotonic() < end, (word, self.output)
            ready, _, _ = select.select([self._reports], [], [], 0.05)
            if ready:
                told = os.read(self._reports, 4096)
                assert told, (word, self.output)
                self._told += told
            else:
                # Somebody has to read, or the program cannot write.
                with contextlib.suppress(OSError):
                    self._read(0.0)
        line, _, self._told = self._told.partition(b"\n")
        found, number = line.decode().split()
        assert found == word, (line, self.output)
        return int(number)
