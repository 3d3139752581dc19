"""The emulator as a process: both services on loopback, and a test's orders over stdin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from emulators.modal.blobs import BlobStore
from emulators.modal.control import ControlPlane
from emulators.modal.files import FileStore
from emulators.modal.router import CommandRouter
from emulators.modal.rpc import Service, method_name
from emulators.modal.sandboxes import Sandboxes
from emulators.modal.tokens import Accounts
from grpclib import GRPCError, Status
from grpclib.events import RecvRequest, listen
from grpclib.server import Server
from modal_proto import api_grpc, api_pb2, task_command_router_grpc


class ModalServer:
    """Everything of one emulator. ``state`` holds the sandboxes' roots and the uploaded files."""

    def __init__(self, rootfs: Path, state: Path, credentials: dict[str, str]) -> None:
        files = FileStore(state / "files")
        self.calls: Counter[str] = Counter()
        self.sandboxes = Sandboxes(rootfs, state / "sandboxes", files)
        self._accounts = Accounts(dict(credentials))
        self._blobs = BlobStore()
        self.control = ControlPlane(self._accounts, self.sandboxes, files, self._blobs)
        self._router = CommandRouter(self.control, self.sandboxes)
        self._servers: list[Server] = []

    async def start(self, port: int = 0) -> str:
        """Listen on 127.0.0.1 and return the control plane's URL; the router takes a free port."""
        await self._blobs.start()
        control = Service(api_grpc.ModalClientBase, self.control, self.calls)
        router = Service(task_command_router_grpc.TaskCommandRouterBase, self._router, self.calls)
        self.control.router_url = await self._listen(router, self._router.check, 0)
        return await self._listen(control, self._accounts.check, port)

    async def _listen(self, service: Service, check: Any, port: int) -> str:
        async def on_request(event: RecvRequest) -> None:
            check(method_name(event.method_name), event.metadata)

        server = Server([service])
        listen(server, RecvRequest, on_request)
        # By name: asyncio sets TCP_NODELAY only on sockets that say they are TCP, and without it
        # each small message waits 40 ms for the other side's acknowledgement.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(("127.0.0.1", port))
        await server.start(sock=listener)
        self._servers.append(server)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening and end every sandbox."""
        for server in self._servers:
            server.close()
        await self._blobs.close()
        await self.sandboxes.close()

    async def order(self, order: dict[str, str]) -> Any:
        """Carry out one order of a test and return its answer, which is plain JSON data.

        ``live``: ids of sandboxes that can run commands; ``stall``, ``resume``, ``crash``: act on
        ``sandbox``; ``calls``: how often each call was made; ``images``: Dockerfile lines by image
        id. Raises GRPCError(NOT_FOUND) for an unknown sandbox, (INVALID_ARGUMENT) for an unknown
        order.
        """
        name = order["do"]
        if name == "live":
            return [sandbox.id for sandbox in self.sandboxes.newest_first() if sandbox.alive]
        if name == "calls":
            return dict(self.calls)
        if name == "images":
            return {
                key: list(image.dockerfile_commands) for key, image in self.control.images.items()
            }
        sandbox = self.sandboxes.get(order["sandbox"])
        if name == "stall":
            sandbox.flowing.clear()
        elif name == "resume":
            sandbox.flowing.set()
        elif name == "crash":
            status = api_pb2.GenericResult.GENERIC_STATUS_FAILURE
            await sandbox.end(
                api_pb2.GenericResult(status=status, exitcode=137, exception="worker lost")
            )
        else:
            raise GRPCError(Status.INVALID_ARGUMENT, f"unknown order {name}")
        return None


async def _obey(server: ModalServer, stop: asyncio.Event) -> None:
    """Answer orders, one JSON object a line, until stdin ends: then the test is gone, so go too."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            answer = {"answer": await server.order(json.loads(line))}
        except GRPCError as error:
            answer = {"error": error.message or error.status.name}
        print(json.dumps(answer), flush=True)
    stop.set()


async def serve(
    rootfs: Path,
    state: Path,
    *,
    port: int,
    credentials: dict[str, str],
    lifetime: float | None,
    obey: bool,
) -> None:
    """Run until SIGTERM, SIGINT, ``lifetime`` seconds have passed, or stdin ends when ``obey``.

    Prints one line of JSON with the URL when ready.
    """
    server, stop = ModalServer(rootfs, state, credentials), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    url = await server.start(port)
    print(json.dumps({"url": url, "pid": os.getpid()}), flush=True)
    orders = asyncio.create_task(_obey(server, stop)) if obey else None
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), lifetime)
    if orders is not None:
        orders.cancel()
    await server.close()
