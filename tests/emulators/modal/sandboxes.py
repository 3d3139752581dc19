"""The sandboxes: made from an image's root, entered by execs, ended for one of four reasons."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from emulators.modal.bubblewrap import Jail
from emulators.modal.files import FileStore, find_program, resolve
from emulators.modal.process import Output, Process
from emulators.modal.tokens import mint
from grpclib import GRPCError, Status
from modal_proto import api_pb2

Result = api_pb2.GenericResult

DEFAULT_ENTRY = ("sleep", "infinity")
BASE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "MODAL_IS_REMOTE": "1",
}


@attrs.define(eq=False)
class Sandbox:
    """One sandbox, also after its end. ``result`` is None until its end is certain."""

    id: str
    task_id: str
    app_id: str
    name: str
    image_id: str
    workdir: str
    lifetime: float
    offline: bool
    env: dict[str, str] = attrs.field(repr=False)
    tags: dict[str, str]
    folder: Path
    created: float = attrs.field(factory=time.time)
    jwt: str = attrs.field(init=False, repr=False)
    result: Any = None
    finished: asyncio.Event = attrs.field(factory=asyncio.Event)
    flowing: asyncio.Event = attrs.field(factory=asyncio.Event)
    jail: Jail | None = None
    execs: dict[str, Process] = attrs.field(factory=dict)
    _lock: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    _tasks: list[asyncio.Task[None]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.jwt = mint(task_id=self.task_id)
        self.flowing.set()

    @property
    def root(self) -> Path:
        """The sandbox's own copy of the root file system."""
        return self.folder / "root"

    @property
    def alive(self) -> bool:
        """Whether commands can run in it; false from the moment its end is certain."""
        return self.result is None and self.jail is not None and not self.jail.ending

    async def start(self, rootfs: Path, argv: Sequence[str], place: Callable[[Path], None]) -> None:
        """Copy the root, let ``place`` add files to it, and run ``argv`` inside.

        It goes on if the caller is cancelled, as the real service does when a client is lost.
        """
        self._tasks.append(asyncio.create_task(self._start(rootfs, argv, place)))
        await asyncio.shield(self._tasks[-1])

    async def _start(
        self, rootfs: Path, argv: Sequence[str], place: Callable[[Path], None]
    ) -> None:
        failure = _failure(127, f"executable file not found: {argv[0]}")
        async with self._lock:
            try:
                await _copy(rootfs, self.root)
                await asyncio.to_thread(place, self.root)
                resolve(self.root, self.workdir).mkdir(parents=True, exist_ok=True)
                if find_program(self.root, argv[0], self.workdir, self.env):
                    self.jail = await Jail.start(
                        self.root, argv, self.env, workdir=self.workdir, offline=self.offline
                    )
            except (OSError, RuntimeError) as error:
                failure = _failure(1, str(error))
        if self.jail is None:
            await self.end(failure)
        else:
            self._tasks.append(asyncio.create_task(self._keep(self.jail)))

    async def _keep(self, jail: Jail) -> None:
        """Wait for the entry process; end it all when the lifetime is over."""
        try:
            await asyncio.wait_for(jail.outer.ended.wait(), self.lifetime)
        except TimeoutError:
            await self.end(Result(status=Result.GENERIC_STATUS_TIMEOUT, exitcode=124))
            return
        code = jail.outer.popen.returncode
        success = Result(status=Result.GENERIC_STATUS_SUCCESS)
        await self.end(success if code == 0 else _failure(code if code > 0 else 128 - code))

    async def end(self, result: Any) -> None:
        """Kill every process and conclude with ``result``, unless it has ended or is ending."""
        if self.result is None:
            # First the result: an exec that dies of this must find its sandbox already ended.
            self.result = result
            self._tasks.append(asyncio.create_task(self._end()))
        await self.finished.wait()

    async def _end(self) -> None:
        async with self._lock:
            if self.jail is not None:
                await self.jail.end()
                self.jail.close()
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
            self.finished.set()

    def execute(self, request: Any, env: Mapping[str, str]) -> None:
        """Start the exec of a TaskExecStart request once, whatever is repeated.

        Raises GRPCError(INVALID_ARGUMENT) if the program or the working directory is not there.
        """
        if request.exec_id in self.execs:
            return
        jail, argv = self.jail, list(request.command_args)
        assert jail is not None
        workdir = request.workdir or self.workdir
        env = {**self.env, **env}
        if not argv or not find_program(jail.root, argv[0], workdir, env):
            name = argv[0] if argv else ""
            raise _invalid(f"Failed to start command: executable file not found: {name!r}")
        if not resolve(jail.root, workdir).is_dir():
            raise _invalid(f"Failed to start command: no such directory: {workdir}")
        # In both enumerations DEVNULL is the value 0.
        streams = {"stdout": request.stdout_config, "stderr": request.stderr_config}
        self.execs[request.exec_id] = Process.start(
            jail.enter(argv, workdir),
            env,
            discard=frozenset(name for name, config in streams.items() if config == 0),
            time_limit=request.timeout_secs or None,
        )

    def entry_output(self, stderr: bool) -> Output:
        """What the entry process wrote, also after its end."""
        if self.jail is None:
            return Output()
        return self.jail.outer.stderr if stderr else self.jail.outer.stdout


class Sandboxes:
    """All sandboxes of one emulator. ``rootfs`` stands in for every image."""

    def __init__(self, rootfs: Path, folder: Path, files: FileStore) -> None:
        self._rootfs = rootfs
        self._folder = folder
        self._files = files
        self._by_id: dict[str, Sandbox] = {}
        self._by_task: dict[str, Sandbox] = {}
        self._by_jwt: dict[str, Sandbox] = {}
        # Left by an emulator that was killed; its processes died with it.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    async def create(self, request: Any, env: Mapping[str, str]) -> Sandbox:
        """Make the sandbox of a SandboxCreateV2 request. One that cannot start has failed.

        Raises GRPCError: ALREADY_EXISTS if a live sandbox of the app has the name, NOT_FOUND for a
        mount.
        """
        definition = request.definition
        if definition.name and self.named(request.app_id, definition.name):
            message = f"Sandbox with name '{definition.name}' already exists"
            raise GRPCError(Status.ALREADY_EXISTS, message)
        for mount_id in definition.mount_ids:
            if not self._files.has_mount(mount_id):
                raise GRPCError(Status.NOT_FOUND, f"Mount {mount_id} not found")
        sandbox = self._register(request, env)

        def place(root: Path) -> None:
            for mount_id in definition.mount_ids:
                self._files.place(mount_id, root)

        argv = list(definition.entrypoint_args) or list(DEFAULT_ENTRY)
        await sandbox.start(self._rootfs, argv, place)
        return sandbox

    def _register(self, request: Any, env: Mapping[str, str]) -> Sandbox:
        definition = request.definition
        access = api_pb2.NetworkAccess
        # 26 characters: the client takes ids of 22 for those of the older kind of sandbox.
        sandbox_id = "sb-" + uuid.uuid4().hex[:26].upper()
        sandbox = Sandbox(
            id=sandbox_id,
            task_id="ta-" + uuid.uuid4().hex[:25].upper() + "V",
            app_id=request.app_id,
            name=definition.name,
            image_id=definition.image_id,
            workdir=definition.workdir or "/",
            lifetime=definition.timeout_secs or 300,
            # An allowlist cannot be enforced here: nothing is reachable rather than everything.
            offline=definition.network_access.network_access_type
            in (access.BLOCKED, access.NetworkAccessType.ALLOWLIST),
            env={**BASE_ENV, "MODAL_SANDBOX_ID": sandbox_id, **env},
            tags={tag.tag_name: tag.tag_value for tag in request.tags},
            folder=self._folder / sandbox_id,
        )
        self._by_id[sandbox.id] = self._by_task[sandbox.task_id] = self._by_jwt[sandbox.jwt] = (
            sandbox
        )
        return sandbox

    def get(self, sandbox_id: str) -> Sandbox:
        """The sandbox of that id. Raises GRPCError(NOT_FOUND)."""
        return _found(self._by_id.get(sandbox_id), f"Sandbox {sandbox_id} not found")

    def of_task(self, task_id: str) -> Sandbox:
        """The sandbox of that task id, alive or not. Raises GRPCError(NOT_FOUND)."""
        return _found(self._by_task.get(task_id), f"task {task_id} not found")

    def of_jwt(self, jwt: str) -> Sandbox | None:
        """The sandbox whose router accepts that token."""
        return self._by_jwt.get(jwt)

    def named(self, app_id: str, name: str, *, ended: bool = False) -> Sandbox | None:
        """The newest sandbox of that name in the app, among the live ones unless ``ended``."""
        for sandbox in self.newest_first():
            if (sandbox.app_id, sandbox.name) == (app_id, name) and (
                ended or sandbox.result is None
            ):
                return sandbox
        return None

    def newest_first(self) -> list[Sandbox]:
        """All sandboxes, the ended ones too."""
        return list(self._by_id.values())[::-1]

    async def close(self) -> None:
        """End every sandbox."""
        result = Result(status=Result.GENERIC_STATUS_TERMINATED, exitcode=137)
        await asyncio.gather(*(sandbox.end(result) for sandbox in self.newest_first()))


async def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    # "/." takes the content of the folder; reflinks make it free where the file system has them.
    command = ["cp", "-a", "--reflink=auto", f"{source}/.", str(target)]
    copy = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await copy.communicate()
    if copy.returncode:
        raise RuntimeError(f"rootfs: {errors.decode(errors='replace')}")


def _failure(code: int, message: str = "") -> Any:
    return Result(status=Result.GENERIC_STATUS_FAILURE, exitcode=code, exception=message)


def _invalid(message: str) -> GRPCError:
    return GRPCError(Status.INVALID_ARGUMENT, message)


def _found(sandbox: Sandbox | None, message: str) -> Sandbox:
    if sandbox is None:
        raise GRPCError(Status.NOT_FOUND, message)
    return sandbox
