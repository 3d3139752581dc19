"""What the host keeps of each local sandbox: a folder with its process and the socket of its agent.

The folder is made before the sandbox is, so that teardown by id finds it whenever provision is
cut short.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import socket
from typing import Any

from openrt_core.models import PostMortem, SandboxHandle
from openrt_core.models.sandbox import ID_PATTERN
from openrt_local import overlays

_LOG_SHOWN = 4096
_PID_LIMIT = 1 << 31
"""A pid_t ends here."""


class Sandbox:
    """The folder of one sandbox.

    Attributes:
        folder: STATE/sandboxes/ID, mode 0700.
        socket_path: where clients join its agent; on the host only.
        log_path: what bubblewrap and the agent said on stderr.
    """

    def __init__(self, state: pathlib.Path, id: str) -> None:
        self.folder = state / "sandboxes" / id
        self.socket_path = self.folder / "agent"
        self.log_path = self.folder / "log"
        self._record = self.folder / "sandbox.json"
        self._overlays = self.folder / "overlays"
        self._claim = -1

    def exists(self) -> bool:
        """Whether the folder is there."""
        return self.folder.is_dir()

    def make(self) -> None:
        """Makes the folder and claims it for as long as this process lives and nobody calls
        ``remove``.

        Raises:
            FileExistsError: the id is taken.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.mkdir(mode=0o700)
        while (claim := _claimed(self.folder)) < 0:
            # A sweep took it for abandoned in the moment before it was claimed.
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
        self._claim = claim

    def listen(self) -> socket.socket:
        """A listening socket for guests, which the agent inherits."""
        listener = socket.socket(socket.AF_UNIX)
        try:
            with _short(self.socket_path) as path:
                listener.bind(path)
            self.socket_path.chmod(0o600)
            listener.listen(64)
        except BaseException:
            listener.close()
            raise
        return listener

    def join(self) -> socket.socket:
        """A connection to the agent.

        Raises:
            OSError: nobody listens.
        """
        client = socket.socket(socket.AF_UNIX)
        try:
            with _short(self.socket_path) as path:
                client.settimeout(10)
                client.connect(path)
        except BaseException:
            client.close()
            raise
        return client

    def record(self, pid: int, handle: SandboxHandle) -> None:
        """Writes down the process and what a client that connects needs to know."""
        started = _started(pid)
        value = {
            "pid": pid,
            "started": started,
            "workdir": handle.workdir,
            "user": handle.user,
            "labels": handle.labels,
        }
        aside = self._record.with_suffix(".new")
        with aside.open("w") as file:
            file.write(json.dumps(value))
            file.flush()
            # Else a machine that fails may come back with the new name and no content.
            os.fsync(file.fileno())
        aside.rename(self._record)

    def read(self) -> dict[str, Any]:
        """What ``record`` wrote; empty when it did not come to that, or when the file holds
        anything else."""
        try:
            value = json.loads(self._record.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return value if _is_record(value) else {}

    def alive(self) -> bool:
        """Whether its process runs."""
        value = self.read()
        return bool(value) and _started(int(value["pid"])) == value["started"] != ""

    def end(self) -> None:
        """Kills bubblewrap, if it is the process that was written down, and its child, which is
        the first process of the sandbox and ends all others with it."""
        value = self.read()
        if not value:
            return
        pid = int(value["pid"])
        for process in (*_children(pid), pid):
            try:
                descriptor = os.pidfd_open(process)
            except ProcessLookupError:
                continue
            try:
                # Asked after the descriptor was opened, so that the number cannot have changed
                # hands in between.
                if _started(pid) == value["started"] and process in (*_children(pid), pid):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    _wait(descriptor)
            except ProcessLookupError:
                continue
            finally:
                os.close(descriptor)

    def note_overlays(self, folder: pathlib.Path) -> None:
        """Writes down, before it is made, the folder that ``remove`` is to remove with ours."""
        self._overlays.write_bytes(os.fsencode(folder))

    def remove(self) -> None:
        """Removes the folder, and that of its overlays."""
        with contextlib.suppress(FileNotFoundError):
            folder = pathlib.Path(os.fsdecode(self._overlays.read_bytes()))
            overlays.remove(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.let_go()

    def let_go(self) -> None:
        """Gives the claim up: once it has ended, any sweep may remove the folder. Idempotent."""
        claim, self._claim = self._claim, -1
        if claim >= 0:
            os.close(claim)

    def post_mortem(self, exit_code: int | None) -> PostMortem:
        """What is known of its end."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(os.fstat(log.fileno()).st_size - _LOG_SHOWN, 0))
                output = log.read(_LOG_SHOWN)
        except FileNotFoundError:
            output = b""
        return PostMortem(reason="its first process ended", exit_code=exit_code, output=output)


def ids(state: pathlib.Path) -> list[str]:
    """The ids that have a folder, of sandboxes that live or have ended."""
    folders = state / "sandboxes"
    if not folders.is_dir():
        return []
    with os.scandir(folders) as entries:
        return [e.name for e in entries if e.is_dir() and ID_PATTERN.fullmatch(e.name)]


def sweep(state: pathlib.Path) -> None:
    """Removes the folders of sandboxes that ended, and whose makers ended without removing them.

    A claim is a lock that the kernel releases with its process, whatever killed it and in
    whatever pid namespace it was.
    """
    for name in ids(state):
        sandbox = Sandbox(state, name)
        claim = _claimed(sandbox.folder)
        if claim >= 0:
            if not sandbox.alive():
                # What cannot be removed now may be at the next sweep; it is no reason against new
                # sandboxes.
                with contextlib.suppress(OSError):
                    sandbox.remove()
            os.close(claim)


def _is_record(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    pid, user, labels = value.get("pid"), value.get("user"), value.get("labels")
    return (
        type(pid) is int
        and 0 < pid < _PID_LIMIT
        and isinstance(value.get("started"), str)
        and isinstance(value.get("workdir"), str)
        and (user is None or type(user) is int)
        and (labels is None or isinstance(labels, dict))
    )


def _claimed(folder: pathlib.Path) -> int:
    """A descriptor that holds the claim on a folder; -1 when another holds it or the folder is
    gone."""
    try:
        claim = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    kept = False
    try:
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            kept = os.path.samestat(os.fstat(claim), folder.stat())
    finally:
        if not kept:
            os.close(claim)
    return claim if kept else -1


class _short:
    """A path short enough for sun_path (108 bytes), whatever the state folder is called: through
    a descriptor."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._folder = -1

    def __enter__(self) -> str:
        self._folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)


def _started(pid: int) -> str:
    """The start time of a process in clock ticks since boot, with the boot; "" when it is gone or
    dead."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else f"{boot}/{fields[19]}"


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child)
            for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _wait(descriptor: int) -> None:
    """Waits, at most 10 s, until the process of this pidfd has ended."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poller.poll(10_000)
