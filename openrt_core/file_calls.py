"""The file hooks of one runtime, as typed calls; ``Manager`` inherits them."""

from __future__ import annotations

from openrt_core.errors import PluginError
from openrt_core.hook_calls import Hooks
from openrt_core.models import Entry, SandboxHandle

User = int | str | None


class FileCalls:
    """Calls of the file hooks: the runtime's own, else the core's defaults over exec.

    Paths are absolute; see ``openrt_core.hookspecs`` for parameters and errors.
    """

    name: str
    hooks: Hooks

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
