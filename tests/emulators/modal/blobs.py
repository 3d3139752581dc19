"""Where the client puts uploads of 4 MiB and more: one HTTP PUT to an address it was given."""

from __future__ import annotations

import hashlib
import socket
import uuid

from aiohttp import web

MAX_BLOB = 1 << 30
"""Bytes of the largest upload."""


class BlobStore:
    """Uploads, each until it is taken once. Stands in for S3, whose ETag the client checks."""

    def __init__(self) -> None:
        self._data: dict[str, bytes | None] = {}
        self._runner: web.AppRunner | None = None
        self._url = ""

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        application = web.Application(client_max_size=MAX_BLOB)
        application.router.add_put("/{blob}", self._put)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(self._runner, listener).start()
        self._url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def announce(self) -> tuple[str, str]:
        """A new blob's id and the URL to put it to."""
        blob_id = f"bl-{uuid.uuid4().hex[:22]}"
        self._data[blob_id] = None
        return blob_id, f"{self._url}/{blob_id}"

    async def _put(self, request: web.Request) -> web.Response:
        blob_id = request.match_info["blob"]
        if blob_id not in self._data:
            raise web.HTTPNotFound
        data = await request.read()
        self._data[blob_id] = data
        return web.Response(headers={"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    def take(self, blob_id: str) -> bytes:
        """The content of a blob, which is then forgotten. Raises ValueError if it was not put."""
        data = self._data.pop(blob_id, None)
        if data is None:
            raise ValueError(f"blob {blob_id} was not uploaded")
        return data
