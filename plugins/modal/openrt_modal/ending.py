"""The ends of sandboxes: made, and told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from openrt_core.models import PostMortem
from openrt_modal.sdk import Sdk

if TYPE_CHECKING:
    import modal


async def terminate(sandbox: modal.Sandbox) -> None:
    """Ends the sandbox and returns when it has ended."""
    # Waiting retries for ever when a worker is lost; the limit of the call ends it.
    await sandbox.terminate.aio(wait=True)


async def post_mortem(sdk: Sdk, id: str, limit: float) -> PostMortem | None:
    """What Modal knows of the end of a sandbox.

    Args:
        sdk: the account.
        id: of the sandbox.
        limit: seconds that it may take to end.

    Returns:
        None when it still runs.
    """
    sandbox = await sdk.find(id, ended=True)
    if sandbox is None:
        return PostMortem(reason="Modal knows of no such sandbox")
    end = time.monotonic() + limit
    code = await sandbox.poll.aio()
    while code is None and time.monotonic() < end:
        await asyncio.sleep(0.05)
        code = await sandbox.poll.aio()
    if code is None:
        return None
    return PostMortem(reason="Modal ended it, or its first process ended", exit_code=code)
