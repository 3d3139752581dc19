"""Sandboxes by what their tags tell of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from openrt_agent.runtime import AgentRuntime
from openrt_core.errors import SettingError
from openrt_core.models import SandboxHandle
from openrt_core.plugin import RuntimeContext, hookimpl
from openrt_modal import creation
from openrt_modal.sdk import Sdk
from openrt_modal.settings import Settings


class Lives(AgentRuntime):
    """What the tags of sandboxes tell."""

    def __init__(self, context: RuntimeContext) -> None:
        super().__init__(context)
        self._sdk = Sdk(context.settings or Settings(), self._end_all)

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
        for told in self._sdk.call("list the sandboxes", self._tags(dict(labels))):
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
