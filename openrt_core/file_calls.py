"""The file hooks of one runtime, as typed calls; ``Manager`` inherits them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from openrt_core.errors import PluginError
from openrt_core.events import Event, Progress
from openrt_core.hook_calls import Hooks
from openrt_core.models import Entry, SandboxHandle

User = int | str | None
EVENT_BYTES: Final = 8 * 1024 * 1024
"""A transfer emits an event for each so many bytes."""


class FileCalls:
    """Calls of the file hooks: the runtime's own, else the core's defaults over exec.

    Paths are absolute; see ``openrt_core.hookspecs`` for parameters and errors.
    """

    name: str
    hooks: Hooks
    emit: Callable[[Event], None]

    def read_file(self, handle: SandboxHandle, path: str, user: User) -> bytes:
        """The content of a file."""
        return self.hooks.call(bytes, "openrt_read_file", handle=handle, path=path, user=user)

    def write_file(
        self, handle: SandboxHandle, path: str, data: bytes, mode: int | None, user: User
    ) -> int:
        """Writes a file; the number of bytes."""
        return self.hooks.call(
            int, "openrt_write_file", handle=handle, path=path, data=data, mode=mode, user=user
        )

    def list_files(self, handle: SandboxHandle, path: str, user: User) -> list[Entry]:
        """The entries of a folder."""
        entries = self.hooks.call(list, "openrt_list_files", handle=handle, path=path, user=user)
        if not all(isinstance(entry, Entry) for entry in entries):
            raise PluginError(
                f"openrt_list_files of the runtime {self.name!r} returned other things than Entry."
            )
        return entries

    def stat_file(self, handle: SandboxHandle, path: str, follow: bool, user: User) -> Entry:
        """One entry."""
        return self.hooks.call(
            Entry, "openrt_stat_file", handle=handle, path=path, follow=follow, user=user
        )

    def remove_file(self, handle: SandboxHandle, path: str, recursive: bool, user: User) -> bool:
        """Removes a file, link or folder."""
        return self.hooks.call(
            bool, "openrt_remove_file", handle=handle, path=path, recursive=recursive, user=user
        )

    def rename_file(self, handle: SandboxHandle, path: str, to: str, user: User) -> bool:
        """Renames."""
        return self.hooks.call(
            bool, "openrt_rename_file", handle=handle, path=path, to=to, user=user
        )

    def make_directory(
        self,
        handle: SandboxHandle,
        path: str,
        mode: int,
        parents: bool,
        exist_ok: bool,
        user: User,
    ) -> bool:
        """Makes a folder."""
        return self.hooks.call(
            bool,
            "openrt_make_directory",
            handle=handle,
            path=path,
            mode=mode,
            parents=parents,
            exist_ok=exist_ok,
            user=user,
        )

    def upload(
        self, handle: SandboxHandle, source: str, path: str, user: User, progress: Progress | None
    ) -> int:
        """Copies a file or folder of this machine into the sandbox."""
        event = Event(kind="progress", message=f"upload to {_line(path)}", sandbox=handle.id)
        told = _Told(self.emit, event, progress)
        done = self.hooks.call(
            int,
            "openrt_upload",
            handle=handle,
            source=source,
            path=path,
            user=user,
            progress=told,
        )
        told.end(done)
        return done

    def download(
        self,
        handle: SandboxHandle,
        path: str,
        target: str,
        user: User,
        limit: int,
        progress: Progress | None,
    ) -> int:
        """Copies a file or folder of the sandbox to this machine."""
        event = Event(kind="progress", message=f"download of {_line(path)}", sandbox=handle.id)
        told = _Told(self.emit, event, progress)
        done = self.hooks.call(
            int,
            "openrt_download",
            handle=handle,
            path=path,
            target=target,
            user=user,
            limit=limit,
            progress=told,
        )
        told.end(done)
        return done


class _Told:
    """Passes the progress of a transfer on: every step to the caller, some of them as events."""

    def __init__(
        self, emit: Callable[[Event], None], event: Event, progress: Progress | None
    ) -> None:
        self._emit = emit
        self._event = event
        self._progress = progress
        self._next = EVENT_BYTES

    def __call__(self, done: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(done, total)
        if done >= self._next:
            self._next = done + EVENT_BYTES
            self._emit(attrs.evolve(self._event, done=done, total=total, unit="bytes"))

    def end(self, done: int) -> None:
        """It is over: the total is known at last."""
        self._next = 0
        self(done, done)


def _line(path: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in path)
