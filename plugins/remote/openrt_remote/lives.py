"""Sandboxes as wholes: what only the control plane is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from openrt_core.errors import SandboxGoneError, SettingError
from openrt_core.models import SandboxHandle
from openrt_core.plugin import RuntimeContext, hookimpl
from openrt_remote.answers import Session, why_ended
from openrt_remote.control import ControlPlane
from openrt_remote.settings import Settings

DEFAULT_URL: Final = "https://runtime.app.all-hands.dev"


class Lives:
    """Sandboxes are found, listed, paused and resumed by their sessions' ids."""

    def __init__(self, context: RuntimeContext) -> None:
        self._name = context.name
        self._settings: Settings = context.settings or Settings()

    @hookimpl
    def openrt_list(self, labels: Mapping[str, str]) -> list[SandboxHandle]:
        """Every sandbox of the account, also those of other clients: the platform tells no
        difference. None has labels, and their working folders are known only to who joins them.
        """
        control = self._control()
        if labels:
            return []
        handles = []
        for id, session in control.sessions():
            if session.ended:
                continue
            try:
                handles.append(SandboxHandle(runtime=self._name, id=id))
            except SettingError:
                continue  # another client's, with an id that ours never have
        return handles

    @hookimpl
    def openrt_pause(self, handle: SandboxHandle) -> bool:
        """Has it paused by the platform. The next command or file call resumes it."""
        session = self._session(handle.id)
        if session.status == "paused":
            return False
        if not self._control().pause(session.runtime_id):
            raise SandboxGoneError(f"The sandbox {handle.id} is gone.")
        return True

    @hookimpl
    def openrt_resume(self, handle: SandboxHandle) -> bool:
        """Has it resumed by the platform. Calls wait until it is awake."""
        session = self._session(handle.id)
        if session.status != "paused":
            return False
        if not self._control().resume(session.runtime_id):
            raise SandboxGoneError(f"The sandbox {handle.id} is gone.")
        return True

    def _session(self, id: str) -> Session:
        session = self._control().session(id)
        if session is None:
            raise SandboxGoneError(f"There is no remote sandbox {id}.")
        if session.ended:
            raise SandboxGoneError(f"The sandbox {id} is gone: {why_ended(session)}.")
        return session

    def _control(self) -> ControlPlane:
        settings = self._settings
        if not settings.api_key:
            raise SettingError(
                "The remote runtime needs a key: SANDBOX_API_KEY is not set.",
                hint="Set SANDBOX_API_KEY, and SANDBOX_REMOTE_RUNTIME_API_URL unless it is for "
                f"{DEFAULT_URL}.",
            )
        return ControlPlane(
            url=(settings.api_url or DEFAULT_URL).rstrip("/"),
            key=settings.api_key,
            timeout=settings.api_timeout,
            retries=settings.enable_retries,
        )
