"""The control plane: apps, images, secrets, mounts and the life of sandboxes."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterable
from typing import Any

from emulators.modal.blobs import BlobStore
from emulators.modal.files import FileStore, MountedFile
from emulators.modal.sandboxes import Sandbox, Sandboxes
from emulators.modal.tokens import Accounts
from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

IMAGE_BUILDER = "2025.06"
Result = api_pb2.GenericResult


class ControlPlane:
    """``modal.client.ModalClient``, as far as sandboxes need it; other calls are UNIMPLEMENTED.

    A user's mistake is never answered UNKNOWN or INTERNAL, for the client would retry those.
    """

    def __init__(
        self, accounts: Accounts, sandboxes: Sandboxes, files: FileStore, blobs: BlobStore
    ) -> None:
        self._accounts = accounts
        self._sandboxes = sandboxes
        self._files = files
        self._blobs = blobs
        self._apps: dict[str, str] = {}
        self._secrets: dict[str, dict[str, str]] = {}
        self._image_ids: dict[bytes, str] = {}
        self.images: dict[str, Any] = {}
        self.router_url = ""

    async def ClientHello(self, request: Any) -> Any:
        """Validates credentials; the check itself is on every call."""
        return api_pb2.ClientHelloResponse(image_builder_version=IMAGE_BUILDER)

    async def AuthTokenGet(self, request: Any) -> Any:
        """The token that V2 calls carry besides the credentials."""
        return api_pb2.AuthTokenGetResponse(token=self._accounts.input_plane_token)

    async def EnvironmentGetOrCreate(self, request: Any) -> Any:
        """There is one environment, whatever it is called."""
        settings = api_pb2.EnvironmentSettings(image_builder_version=IMAGE_BUILDER)
        name = request.deployment_name or "main"
        metadata = api_pb2.EnvironmentMetadata(name=name, settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    async def AppGetOrCreate(self, request: Any) -> Any:
        """Looks an app up by name, and makes it if asked to."""
        name = request.app_name
        if name not in self._apps:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise _not_found(f"App '{name}' not found in environment 'main'.")
            self._apps[name] = _new_id("ap")
        app_id = self._apps[name]
        metadata = api_pb2.AppHandleMetadata(app_id=app_id)
        return api_pb2.AppGetOrCreateResponse(app_id=app_id, handle_metadata=metadata)

    async def ImageGetOrCreate(self, request: Any) -> Any:
        """Records the definition; every image is "built" at once and is the rootfs."""
        key = request.image.SerializeToString(deterministic=True)
        image_id = self._image_ids.setdefault(key, _new_id("im"))
        self.images[image_id] = request.image
        return api_pb2.ImageGetOrCreateResponse(
            image_id=image_id,
            metadata=api_pb2.ImageMetadata(image_builder_version=IMAGE_BUILDER),
            result=Result(status=Result.GENERIC_STATUS_SUCCESS),
        )

    async def ImageFromId(self, request: Any) -> Any:
        """Looks up an image that was made here."""
        if request.image_id not in self.images:
            raise _not_found(f"Image {request.image_id} not found")
        return api_pb2.ImageFromIdResponse(
            image_id=request.image_id, metadata=api_pb2.ImageMetadata()
        )

    async def SecretGetOrCreate(self, request: Any) -> Any:
        """Keeps an anonymous secret; the ones stored by name do not exist here."""
        if request.deployment_name and not request.env_dict:
            raise _not_found(f"Secret '{request.deployment_name}' not found in environment 'main'.")
        secret_id = _new_id("st")
        self._secrets[secret_id] = dict(request.env_dict)
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret_id)

    async def BlobCreate(self, request: Any) -> Any:
        """An address for one upload, whatever its size: no multipart uploads."""
        blob_id, url = self._blobs.announce()
        return api_pb2.BlobCreateResponse(
            blob_id=blob_id,
            blob_ids=[blob_id],
            upload_urls=api_pb2.UploadUrlList(items=[url]),
        )

    async def MountBatchedCheckExistence(self, request: Any) -> Any:
        """Which contents were not uploaded yet."""
        with _invalid_argument():
            missing = [
                digest for digest in request.sha256_hex_hashes if not self._files.has(digest)
            ]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def MountPutFile(self, request: Any) -> Any:
        """Takes content, inline or from a blob; without any, only tells whether it is there."""
        kind = request.WhichOneof("data_oneof")
        with _invalid_argument():
            if kind == "data":
                self._files.put(request.sha256_hex, request.data)
            elif kind == "data_blob_id":
                self._files.put(request.sha256_hex, self._blobs.take(request.data_blob_id))
            return api_pb2.MountPutFileResponse(exists=self._files.has(request.sha256_hex))

    async def MountGetOrCreate(self, request: Any) -> Any:
        """Makes a mount of uploaded files. A mount looked up by name is an empty one."""
        files = [MountedFile(file.filename, file.sha256_hex, file.mode) for file in request.files]
        with _invalid_argument():
            mount_id = self._files.add_mount(files)
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount_id, handle_metadata=api_pb2.MountHandleMetadata()
        )

    def environment(self, sources: Iterable[Any], secret_ids: Iterable[str] = ()) -> dict[str, str]:
        """The variables of secrets and inline sources, in order. Raises GRPCError(NOT_FOUND)."""
        env: dict[str, str] = {}
        for secret_id in secret_ids:
            env.update(self._secret(secret_id))
        for source in sources:
            inline = source.WhichOneof("source") == "env"
            env.update(source.env.contents if inline else self._secret(source.secret_id))
        return env

    def _secret(self, secret_id: str) -> dict[str, str]:
        if secret_id not in self._secrets:
            raise _not_found(f"Secret {secret_id} not found")
        return self._secrets[secret_id]

    async def SandboxCreateV2(self, request: Any) -> Any:
        """Makes a sandbox and returns when commands can run in it, or when it has failed."""
        if request.app_id not in self._apps.values():
            raise _not_found(f"App {request.app_id} not found")
        if request.definition.image_id not in self.images:
            raise _not_found(f"Image {request.definition.image_id} not found")
        env = self.environment(request.secret_sources, request.definition.secret_ids)
        sandbox = await self._sandboxes.create(request, env)
        return api_pb2.SandboxCreateV2Response(
            sandbox_id=sandbox.id,
            task_id=sandbox.task_id,
            metadata=_metadata(sandbox),
            command_router_access=api_pb2.CommandRouterAccess(url=self.router_url, jwt=sandbox.jwt),
        )

    async def SandboxGetCommandRouterAccess(self, request: Any) -> Any:
        """Address and token of a live sandbox's router; NOT_FOUND for one that has ended."""
        if request.sandbox_id:
            sandbox = self._sandboxes.get(request.sandbox_id)
        else:
            sandbox = self._sandboxes.of_task(request.task_id)
        if not sandbox.alive:
            raise _not_found(f"Sandbox {sandbox.id} has already completed")
        return api_pb2.SandboxGetCommandRouterAccessResponse(url=self.router_url, jwt=sandbox.jwt)

    async def SandboxGetTaskIdV2(self, request: Any) -> Any:
        """The task of a live sandbox, or the result of an ended one."""
        sandbox = self._sandboxes.get(request.sandbox_id)
        if sandbox.result is not None:
            return api_pb2.SandboxGetTaskIdResponse(task_result=sandbox.result)
        return api_pb2.SandboxGetTaskIdResponse(task_id=sandbox.task_id)

    async def SandboxWaitV2(self, request: Any) -> Any:
        """Waits ``timeout`` seconds at most for the end; no result if it still runs."""
        sandbox = self._sandboxes.get(request.sandbox_id)
        if request.timeout and not sandbox.finished.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(sandbox.finished.wait(), request.timeout)
        return api_pb2.SandboxWaitResponse(result=_ended(sandbox), metadata=_metadata(sandbox))

    async def SandboxTerminateV2(self, request: Any) -> Any:
        """Ends a sandbox; answers when none of its processes is left."""
        sandbox = self._sandboxes.get(request.sandbox_id)
        before = _ended(sandbox)
        await sandbox.end(Result(status=Result.GENERIC_STATUS_TERMINATED, exitcode=137))
        return api_pb2.SandboxTerminateResponse(existing_result=before)

    async def SandboxListV2(self, request: Any) -> Any:
        """Sandboxes newest first, in one page; the client asks again with the oldest one's time."""
        wanted = {tag.tag_name: tag.tag_value for tag in request.tags}
        chosen = [
            sandbox
            for sandbox in self._sandboxes.newest_first()
            if (request.include_finished or sandbox.result is None)
            and request.app_id in ("", sandbox.app_id)
            and wanted.items() <= sandbox.tags.items()
            and (not request.before_timestamp or sandbox.created < request.before_timestamp)
        ]
        return api_pb2.SandboxListResponse(sandboxes=[_info(sandbox) for sandbox in chosen])

    async def SandboxGetFromNameV2(self, request: Any) -> Any:
        """The newest sandbox of that name."""
        app_id = self._apps.get(request.app_name, "")
        sandbox = self._sandboxes.named(
            app_id, request.sandbox_name, ended=request.include_terminated
        )
        if sandbox is None:
            return await self.SandboxGetFromName(request)
        return api_pb2.SandboxGetFromNameResponse(
            sandbox_id=sandbox.id, metadata=_metadata(sandbox)
        )

    async def SandboxGetFromName(self, request: Any) -> Any:
        """Where the client looks next: among sandboxes of the older kind; there are none."""
        raise _not_found(
            f"Sandbox with name '{request.sandbox_name}' not found in App '{request.app_name}'."
        )

    async def SandboxTagsGetV2(self, request: Any) -> Any:
        """All tags of a sandbox."""
        return api_pb2.SandboxTagsGetResponse(tags=_tags(self._sandboxes.get(request.sandbox_id)))

    async def SandboxTagsSetV2(self, request: Any) -> Any:
        """Replaces all tags of a sandbox."""
        sandbox = self._sandboxes.get(request.sandbox_id)
        sandbox.tags = {tag.tag_name: tag.tag_value for tag in request.tags}
        return Empty()


def _info(sandbox: Sandbox) -> Any:
    return api_pb2.SandboxInfo(
        id=sandbox.id,
        created_at=sandbox.created,
        app_id=sandbox.app_id,
        name=sandbox.name,
        image_id=sandbox.image_id,
        tags=_tags(sandbox),
        metadata=_metadata(sandbox),
        task_info=api_pb2.TaskInfo(id=sandbox.task_id, result=_ended(sandbox)),
    )


def _tags(sandbox: Sandbox) -> list[Any]:
    return [
        api_pb2.SandboxTag(tag_name=key, tag_value=value) for key, value in sandbox.tags.items()
    ]


def _ended(sandbox: Sandbox) -> Any:
    """The result once nothing of the sandbox is left, else None."""
    return sandbox.result if sandbox.finished.is_set() else None


def _metadata(sandbox: Sandbox) -> Any:
    return api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id, result=_ended(sandbox))


def _new_id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:22]}"


def _not_found(message: str) -> GRPCError:
    return GRPCError(Status.NOT_FOUND, message)


@contextlib.contextmanager
def _invalid_argument() -> Any:
    try:
        yield
    except ValueError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None
