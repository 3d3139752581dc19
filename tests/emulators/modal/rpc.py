"""From plain async methods to a grpclib service: what a class does not define is UNIMPLEMENTED."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from grpclib import GRPCError, Status

Handler = Callable[[Any], Awaitable[None]]


class Service:
    """A grpclib service made of an implementation and the generated base class it belongs to.

    Each public method of ``implementation`` named like a call is one of: ``async (request) ->
    reply``, an async generator ``(request) -> replies``, or ``async (stream=…) -> reply`` for
    client streaming. ``calls`` counts the calls by name, finished or not.
    """

    def __init__(self, base: Any, implementation: object, calls: Counter[str]) -> None:
        self._base = base
        self._implementation = implementation
        self._calls = calls

    def __getattr__(self, name: str) -> Handler:
        method = getattr(self._implementation, name, None) if name[0].isupper() else None

        async def handle(stream: Any) -> None:
            self._calls[name] += 1
            if method is None:
                raise GRPCError(Status.UNIMPLEMENTED, f"the emulator does not have {name}")
            if "stream" in inspect.signature(method).parameters:
                await stream.send_message(await method(stream=stream))
                return
            request = await stream.recv_message()
            if request is None:
                raise GRPCError(Status.INVALID_ARGUMENT, f"{name} without a request")
            if inspect.isasyncgenfunction(method):
                # The HTTP/2 headers must go out at once: a quiet stream is open, not pending.
                await stream.send_initial_metadata()
                async for reply in method(request):
                    await stream.send_message(reply)
                return
            await stream.send_message(await method(request))

        return handle

    def __mapping__(self) -> dict[str, Any]:
        """The table grpclib asks for, built by the generated base from our handlers."""
        table: dict[str, Any] = self._base.__mapping__(self)
        return table


def method_name(path: str) -> str:
    """``/modal.client.ModalClient/AppGetOrCreate`` → ``AppGetOrCreate``."""
    return path.rsplit("/", 1)[-1]
