"""The task command router: commands in a running sandbox, and the streams of its entry process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from emulators.modal.control import ControlPlane
from emulators.modal.process import Dropped, Output, Process
from emulators.modal.sandboxes import Sandbox, Sandboxes
from grpclib import GRPCError, Status
from modal_proto import task_command_router_pb2 as messages


class CommandRouter:
    """``TaskCommandRouter`` of all sandboxes at one address.

    When a sandbox ends, its open streams reach their end, and every other call, a pending wait
    too, is answered NOT_FOUND, which the client's own comments name as the reply for a task that
    shut down. While a sandbox is stalled no call of it gets any further.
    """

    def __init__(self, control: ControlPlane, sandboxes: Sandboxes) -> None:
        self._control = control
        self._sandboxes = sandboxes

    def check(self, method: str, metadata: Mapping[str, object]) -> None:
        """Refuse a call without the token of a sandbox. Raises GRPCError(UNAUTHENTICATED)."""
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        if scheme != "Bearer" or self._sandboxes.of_jwt(token) is None:
            raise GRPCError(Status.UNAUTHENTICATED, "not the token of a task")

    async def _live(self, request: Any) -> Sandbox:
        sandbox = self._sandboxes.of_task(request.task_id)
        await sandbox.flowing.wait()
        if not sandbox.alive:
            raise _gone(sandbox)
        return sandbox

    async def _process(self, request: Any) -> tuple[Sandbox, Process]:
        sandbox = await self._live(request)
        process = sandbox.execs.get(request.exec_id)
        if process is None:
            raise GRPCError(Status.NOT_FOUND, f"exec {request.exec_id} not found")
        return sandbox, process

    async def TaskExecStart(self, request: Any) -> Any:
        """Starts a command; the exec id makes it idempotent."""
        sandbox = await self._live(request)
        if request.HasField("pty_info"):
            raise GRPCError(Status.UNIMPLEMENTED, "the emulator has no PTY")
        secrets = self._control.environment(request.secret_sources, request.secret_ids)
        sandbox.execute(request, {**request.env, **secrets})
        return messages.TaskExecStartResponse()

    async def TaskExecStdioRead(self, request: Any) -> AsyncIterator[Any]:
        """Output of a command from an offset on, as it comes."""
        sandbox, process = await self._process(request)
        stderr = request.file_descriptor == messages.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR
        output = process.stderr if stderr else process.stdout
        async for data in _flow(sandbox, output, request.offset):
            yield messages.TaskExecStdioReadResponse(data=data)

    async def TaskExecStdinWrite(self, request: Any) -> Any:
        """Writes at an offset; answers when the command's pipe has taken it all."""
        _, process = await self._process(request)
        await _write(process, request.offset, request.data, request.eof)
        return messages.TaskExecStdinWriteResponse()

    async def TaskExecStdinWriteStream(self, *, stream: Any) -> Any:
        """The same for a whole source in one call. Only an explicit end closes stdin."""
        first = await stream.recv_message()
        if first is None or first.WhichOneof("payload") != "start":
            raise GRPCError(Status.INVALID_ARGUMENT, "the first message must be a start")
        sandbox, process = await self._process(first.start)
        offset = first.start.offset
        async for message in stream:
            await sandbox.flowing.wait()
            if message.WhichOneof("payload") == "end":
                await _write(process, offset, b"", True)
                break
            await _write(process, offset, message.data, False)
            offset += len(message.data)
        return messages.TaskExecStdinWriteStreamResponse()

    async def TaskExecStdinStatus(self, request: Any) -> Any:
        """How far stdin got."""
        _, process = await self._process(request)
        return messages.TaskExecStdinStatusResponse(
            num_bytes_written=process.stdin.accepted, closed=process.stdin.closed
        )

    async def TaskExecPoll(self, request: Any) -> Any:
        """The exit status, unset while the command runs."""
        _, process = await self._process(request)
        return messages.TaskExecPollResponse(**process.status)

    async def TaskExecWait(self, request: Any) -> Any:
        """The exit status, when the command has ended."""
        sandbox, process = await self._process(request)
        await process.ended.wait()
        await sandbox.flowing.wait()
        if not sandbox.alive:
            raise _gone(sandbox)
        return messages.TaskExecWaitResponse(**process.status)

    async def SandboxStdioReadV2(self, request: Any) -> AsyncIterator[Any]:
        """Output of the entry process, also after the sandbox's end."""
        sandbox = self._sandboxes.of_task(request.task_id)
        await sandbox.flowing.wait()
        offset = request.offset
        stderr = request.file_descriptor == messages.SANDBOX_STDIO_FILE_DESCRIPTOR_STDERR
        async for data in _flow(sandbox, sandbox.entry_output(stderr), offset):
            yield messages.SandboxStdioReadV2Response(data=data, starting_offset=offset)
            offset += len(data)

    async def SandboxStdinWriteV2(self, request: Any) -> Any:
        """Writes to the entry process."""
        sandbox = await self._live(request)
        assert sandbox.jail is not None
        await _write(sandbox.jail.outer, request.offset, request.data, request.eof)
        return messages.SandboxStdinWriteV2Response()


async def _flow(sandbox: Sandbox, output: Output, offset: int) -> AsyncIterator[bytes]:
    try:
        async for data in output.read_from(offset):
            await sandbox.flowing.wait()
            yield data
        await sandbox.flowing.wait()
    except Dropped as error:
        raise GRPCError(Status.OUT_OF_RANGE, str(error)) from None


async def _write(process: Process, offset: int, data: bytes, end: bool) -> None:
    try:
        await process.stdin.write(offset, data, end)
    except ValueError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None


def _gone(sandbox: Sandbox) -> GRPCError:
    return GRPCError(Status.NOT_FOUND, f"task {sandbox.task_id} has shut down")
