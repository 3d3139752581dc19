"""What is left of a sandbox, as the machine or the back end tells it, not openrt."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterable

import attrs
from support.runtimes import Runtime

from openrt_core.selection import state_folder

PATIENCE = 90.0
"""Seconds in which what is to vanish must have vanished."""


@attrs.define(eq=False)
class Watch:
    """Remembers what was there, and tells what came and stayed.

    Local and docker are asked about the ids of the test, for others use them meanwhile. The
    emulators belong to the test session alone, and give names of their own.
    """

    runtime: Runtime
    _before: set[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._before = self._live()

    def left(self, ids: Iterable[str]) -> list[str]:
        """What is left of the sandboxes with these ids."""
        if self.runtime.name == "local":
            return [what for id in ids for what in _local(id)]
        if self.runtime.name == "docker":
            return [what for id in ids for what in _containers(id)]
        return sorted(self._live() - self._before)

    def expect_nothing(self, *ids: str) -> None:
        """Waits until nothing is left of them."""
        assert ids, "the test saw no sandbox at all"
        end = time.monotonic() + PATIENCE
        while left := self.left(ids):
            assert time.monotonic() < end, f"left behind: {left}"
            time.sleep(0.05)

    def _live(self) -> set[str]:
        if self.runtime.name == "modal":
            return set(self.runtime.control.live())
        if self.runtime.name == "remote":
            return {one.session_id for one in self.runtime.control.live()}
        return set()


def host_processes(mark: str) -> list[int]:
    """Processes of this machine with ``mark`` in their command line."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if mark.encode() in line:
                found.append(int(entry.name))
    return found


def _local(id: str) -> list[str]:
    folder = state_folder("local") / "sandboxes" / id
    processes = [f"process {pid}" for pid in host_processes(id)]
    return processes + ([str(folder)] if folder.exists() else [])


def _containers(id: str) -> list[str]:
    import docker

    client = docker.from_env(timeout=60)
    try:
        found = client.api.containers(all=True, filters={"label": f"openrt.id={id}"})
    finally:
        client.close()
    return [f"container {one['Id'][:12]} {one['State']}" for one in found]
