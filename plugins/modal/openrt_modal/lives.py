"""Sandboxes by what Modal tells of them: their tags and their ends."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping
from typing import Final

from openrt_agent.runtime import AgentRuntime
from openrt_core.errors import OpenrtError, SandboxGoneError, SettingError
from openrt_core.models import SandboxHandle, SandboxStatus
from openrt_core.plugin import RuntimeContext, hookimpl
from openrt_modal import creation, ending
from openrt_modal.sdk import Sdk
from openrt_modal.settings import Settings

_END_LIMIT = 4.0
"""Seconds that a sandbox whose stream ended has to end, too; below the 5 s of ``Describe``."""


class Lives(AgentRuntime):
    """What Modal tells of sandboxes."""

    def __init__(self, context: RuntimeContext) -> None:
        super().__init__(context)
        self._sdk = Sdk(context.settings or Settings(), self._end_all)
        _all.add(self)

    def forked(self) -> None:
        """This is a child after a fork: what its parent made is the parent's to end."""
        self._sdk.forked()

    def _end_all(self) -> None:
        """At the exit of the interpreter."""
        raise NotImplementedError

    def _handle_of(self, id: str, told: Mapping[str, str]) -> SandboxHandle:
        """The handle of the sandbox with these tags."""
        user = told.get(creation.USER, "")
        return SandboxHandle(
            runtime=self.context.name,
            id=id,
            workdir=told.get(creation.WORKDIR, "/workspace"),
            user=int(user) if user.isdecimal() else None,
            labels={k: v for k, v in told.items() if not k.startswith("openrt.")},
        )

    @hookimpl
    def openrt_list(self, labels: Mapping[str, str]) -> list[SandboxHandle]:
        """Those of our app that have our tag."""
        handles = []
        for told in self._sdk.call("list the sandboxes", self._tags(dict(labels)), exists=False):
            try:
                handle = self._handle_of(told.get(creation.ID, ""), told)
            except SettingError:
                continue  # not one that openrt made
            if labels.items() <= handle.labels.items():
                handles.append(handle)
        return handles

    async def _tags(self, asked: dict[str, str]) -> list[dict[str, str]]:
        app, client = await self._sdk.app(), await self._sdk.client()
        import modal

        async def tags(sandbox: modal.Sandbox) -> dict[str, str]:
            try:
                return await sandbox.get_tags.aio()
            except modal.exception.NotFoundError:
                return {}  # it ended meanwhile

        listing = modal.Sandbox.list.aio(app_id=app.app_id, tags=asked or None, client=client)
        found = [sandbox async for sandbox in listing]
        return await asyncio.gather(*(tags(sandbox) for sandbox in found))

    @hookimpl
    def openrt_status(self, handle: SandboxHandle) -> SandboxStatus:
        """What Modal says; it remembers sandboxes that have ended."""
        gone = self._sdk.call("look up the sandbox", ending.post_mortem(self._sdk, handle.id, 0.0))
        if gone is None:
            return SandboxStatus(state="running")
        return SandboxStatus(state="gone", post_mortem=gone)

    def _describe(self, id: str) -> SandboxGoneError | None:
        """For a stream that ended: the sandbox's end, if that is why."""
        try:
            gone = self._sdk.call(
                "look up the sandbox", ending.post_mortem(self._sdk, id, _END_LIMIT / 2), _END_LIMIT
            )
        except OpenrtError:
            return None  # then what the stream itself said is all that is known
        if gone is None:
            return None
        return SandboxGoneError(f"The sandbox {id} has ended.", post_mortem=gone)


_all: Final[weakref.WeakSet[Lives]] = weakref.WeakSet()


def _after_fork() -> None:
    for lives in list(_all):
        lives.forked()


os.register_at_fork(after_in_child=_after_fork)
