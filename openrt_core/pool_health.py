"""Whether a warm sandbox still lives: a cheap look, bounded, without wrappers."""

from __future__ import annotations

import logging
from typing import Final

from openrt_core.errors import CommandNotStartedError
from openrt_core.manager import Manager
from openrt_core.models import Command, OutputMode, SandboxHandle, SandboxStatus

log = logging.getLogger("openrt")

LIMIT: Final = 10.0
"""Seconds in which a sandbox must have answered."""


def alive(manager: Manager, handle: SandboxHandle) -> bool:
    """Asks the runtime for its status, or runs nothing in it when the runtime cannot say. Never
    raises: whatever fails, it is not fit for use.
    """
    try:
        if manager.hooks.has("openrt_status"):
            status = manager.hooks.call(SandboxStatus, "openrt_status", bare=True, handle=handle)
            return status.state == "running"
        return _answers(manager, handle)
    except Exception as error:  # noqa: BLE001  # not fit for use is all there is to say
        log.debug("the warm sandbox %s cannot be used: %s", handle.id, error)
        return False


def _answers(manager: Manager, handle: SandboxHandle) -> bool:
    nothing = Command(argv=("/bin/true",), timeout=LIMIT, output=OutputMode.DISCARD)
    try:
        process = manager.start(handle, nothing, bare=True)
        try:
            process.wait(LIMIT)
        except TimeoutError:
            process.kill()
            return False
    except CommandNotStartedError:
        # The image has no such program; that was the sandbox's answer.
        return True
    return True
