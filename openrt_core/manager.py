"""One runtime with its wrappers: what is checked before its hooks, what is cleaned up after."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from openrt_core import events, exits, features, hookspecs, provisioning
from openrt_core.capture import CaptureBudget
from openrt_core.errors import ID_TAKEN, OpenrtError, PluginError, SettingError, TransportError
from openrt_core.exec_transfer import ExecTransfer
from openrt_core.hook_calls import Hooks, Wrapper
from openrt_core.kept_calls import KeptCalls
from openrt_core.models import (
    Attachment,
    Capabilities,
    Command,
    SandboxHandle,
    SandboxSpec,
    SandboxStatus,
)
from openrt_core.process import Process
from openrt_core.uninterrupted import uninterrupted

if TYPE_CHECKING:
    from openrt_core.events import Event
    from openrt_core.settings import Settings


class Manager(KeptCalls):
    """The only one who calls hooks. Thread-safe; cheap to make; one process can hold several.

    Args:
        name: of the runtime, as it stands in handles.
        plugin: what the runtime's factory returned.
        wrappers: wrappers around its hooks, the first is the outermost.
        settings: the user's settings, for what is made with this manager; None: they are read when
            they are needed.
        emit: is told what happens in the core; None: as for ``open``.

    Attributes:
        emit: tells whoever opened it, and the wrappers that subscribed, of an event.

    Raises:
        PluginError: the plugin or a wrapper breaks the contract.
    """

    def __init__(
        self,
        name: str,
        plugin: object,
        wrappers: Sequence[Wrapper] = (),
        settings: Settings | None = None,
        emit: Callable[[Event], None] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.emit = events.Emitter.of(emit)
        self.plugin = plugin
        self._settings = settings
        defaults = ExecTransfer(functools.partial(self.start, bare=True))
        self.hooks = Hooks(name, plugin, wrappers, defaults)
        defaults.stdin = "stdin" in self.hooks.features
        core = hookspecs.REQUIRED | hookspecs.CORE
        self.capabilities = Capabilities(
            hooks=frozenset(h.removeprefix("openrt_") for h in self.hooks.own - core),
            features=self.hooks.features,
        )

    @classmethod
    def open(
        cls,
        runtime: str | None = None,
        settings: Settings | None = None,
        wrappers: Sequence[str | Wrapper] | None = None,
        emit: Callable[[Event], None] | None = None,
    ) -> Manager:
        """The manager of an installed runtime, which is imported now.

        Args:
            runtime: its name, or ``distribution:name``; None for the setting RUNTIME.
            settings: None reads them from the environment and the files.
            wrappers: names or loaded wrappers, the first is the outermost; None for the setting
                OPENRT_WRAPPERS.
            emit: is told of progress and notes; None: what is deprecated is warned of, the rest is
                logged.

        Raises:
            RuntimeNotFoundError, RuntimeAmbiguousError, PluginError, SettingError
        """
        from openrt_core import selection

        return cls(*selection.choose(runtime, settings, wrappers, emit))

    @property
    def settings(self) -> Settings:
        """The user's settings."""
        if self._settings is None:
            from openrt_core import settings

            self._settings = settings.load(runtime=self.name)
        return self._settings

    # The life of a sandbox ------------------------------------------------------------------------

    def create(self, spec: SandboxSpec) -> SandboxHandle:
        """Makes a sandbox. Whatever goes wrong, and on Ctrl-C, what was made of it is removed.

        Waits while OPENRT_MAX_PROVISIONING others are made in this process.

        Raises:
            UnsupportedError: before anything is spent.
            SettingError: one of its id was made in this process and is not removed.
            ProvisionError: or one of its kinds.
        """
        if exits.holds(self.name, spec.id):
            raise self._in_use(spec.id)
        prepared = self.hooks.call(SandboxSpec, "openrt_prepare", spec=spec)
        if prepared.id != spec.id:
            raise PluginError(
                f"openrt_prepare changed the sandbox's id {spec.id} to {prepared.id}."
            )
        features.check_spec(self.name, self.hooks.features | self.capabilities.hooks, prepared)
        if self.hooks.has("openrt_preflight"):
            self.hooks.call(bool, "openrt_preflight", spec=prepared)
        prepared = self.with_built_image(prepared)
        with provisioning.place(self.settings.core.max_provisioning):
            return self._create(prepared)

    def _create(self, spec: SandboxSpec) -> SandboxHandle:
        named = SandboxHandle(runtime=self.name, id=spec.id)
        outer = sys.exception()
        # Before anything is made, so that no moment is left in which a Ctrl-C leaks it.
        if not exits.claim(self.name, spec.id, lambda: self._remove(named)):
            raise self._in_use(spec.id)
        try:
            handle = self._provision(spec)
            if spec.keep:
                exits.discard(self.name, spec.id)
            else:
                exits.add(self.name, spec.id, lambda: self._remove(handle))
        except BaseException as error:
            if _id_taken(error, outer):
                # What has this id is somebody else's.
                exits.discard(self.name, spec.id)
            else:
                self._clean_up(named, error)
            raise
        self._use(handle.id)
        return handle

    def keeps(self, handle: SandboxHandle) -> bool:
        """Whether a sandbox that this process made lives on when it is closed: wrappers may have
        decided otherwise than who asked for it."""
        return not exits.holds(self.name, handle.id)

    def _in_use(self, id: str) -> SettingError:
        return SettingError(
            f"The sandbox {id} of the runtime {self.name!r} was made in this process already, and "
            "is not removed.",
            hint="Each sandbox has an id of its own: attrs.evolve(spec, id=new_id()).",
        )

    def _provision(self, spec: SandboxSpec) -> SandboxHandle:
        attachments = tuple(
            self.hooks.call(Attachment, "openrt_mount", mount=mount, spec=spec)
            for mount in spec.mounts
        )
        handle = self.hooks.call(
            SandboxHandle, "openrt_provision", spec=spec, attachments=attachments
        )
        return self._checked(handle, "openrt_provision", spec.id)

    def status(self, handle: SandboxHandle) -> SandboxStatus:
        """The state of a sandbox."""
        return self.hooks.call(SandboxStatus, "openrt_status", handle=handle)

    def teardown(self, handle: SandboxHandle) -> bool:
        """Removes a sandbox, to the end whatever Ctrl-C; True if it was there.

        When it or a wrapper of it fails, it is called once more without the wrappers, and the first
        error is raised.
        """

        def remove() -> bool:
            removed = self.hooks.call(bool, "openrt_teardown", handle=handle)
            self._unuse(handle.id)
            exits.discard(self.name, handle.id)
            return removed

        # Should this be interrupted twice, the exit of the interpreter makes up for it.
        exits.add(self.name, handle.id, lambda: self._remove(handle))
        try:
            return uninterrupted(remove)
        except Exception as error:
            self._clean_up(handle, error)
            raise

    def _remove(self, handle: SandboxHandle) -> bool:
        """The bare hook: no wrapper can stop it."""
        removed = self.hooks.call(bool, "openrt_teardown", bare=True, handle=handle)
        exits.discard(self.name, handle.id)
        return removed

    def _clean_up(self, handle: SandboxHandle, error: BaseException) -> None:
        """Removes what ``error`` may have left, and leaves ``error`` to be seen."""
        try:
            uninterrupted(lambda: self._remove(handle))
        except Exception as failure:  # noqa: BLE001  # told with the error that is raised
            left = f"The sandbox {handle.id} of the runtime {self.name!r} may be left behind"
            error.add_note(f"{left}: {failure}")

    # Commands -------------------------------------------------------------------------------------

    def start(
        self,
        handle: SandboxHandle,
        command: Command,
        budget: CaptureBudget | None = None,
        *,
        bare: bool = False,
    ) -> Process:
        """Starts a command. Whatever goes wrong, and on Ctrl-C, it is killed.

        Args:
            handle: the sandbox.
            command: what to run.
            budget: the sandbox's share of memory for captured output.
            bare: whether wrappers are left out.

        Raises:
            UnsupportedError: before it starts.
            SandboxGoneError, TransportError: it was not started.
        """
        command = self.hooks.call(
            Command,
            "openrt_prepare_command",
            bare=bare,
            handle=handle,
            command=_with_defaults(command, handle),
        )
        features.check_command(self.name, self.hooks.features, handle, command)
        process = Process(_with_defaults(command, handle), budget)
        try:
            process.arm()
            returned = self.hooks.call(
                Process,
                "openrt_exec",
                bare=bare,
                handle=handle,
                command=process.command,
                process=process,
            )
            if returned is not process:
                returned.kill()
                raise PluginError(
                    f"openrt_exec of the runtime {self.name!r} returned a foreign Process."
                )
        except BaseException as error:
            process.kill()
            # Its end may never be told now; callbacks and waiters must not hang on it.
            process.failed(error if isinstance(error, Exception) else _given_up())
            raise
        return process


def _with_defaults(command: Command, handle: SandboxHandle) -> Command:
    if command.cwd is not None and (command.user is not None or handle.user is None):
        return command
    return attrs.evolve(
        command,
        cwd=handle.workdir if command.cwd is None else command.cwd,
        user=handle.user if command.user is None else command.user,
    )


def _id_taken(error: BaseException | None, outer: BaseException | None) -> bool:
    """Whether ``error`` is, or came of, the runtime's word that the id is taken.

    Args:
        error: may be what a wrapper made of it.
        outer: what was being handled before, which is not looked at.
    """
    while error is not None and error is not outer:
        if isinstance(error, OpenrtError) and error.code == ID_TAKEN:
            return True
        error = error.__cause__ or error.__context__
    return False


def _given_up() -> TransportError:
    return TransportError("The command was given up while it was being started.", started="unknown")
