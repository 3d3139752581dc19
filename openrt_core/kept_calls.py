"""The optional hooks about what lives on without a client, as typed calls; ``Manager`` inherits
them."""

from __future__ import annotations

import collections
import threading

from openrt_core.capture import CaptureBudget
from openrt_core.errors import PluginError, SettingError, TransportError
from openrt_core.life_calls import LifeCalls
from openrt_core.models import BackgroundCommand, Command, OutputMode, SandboxHandle
from openrt_core.models.sandbox import ID_PATTERN
from openrt_core.process import Process
from openrt_core.uninterrupted import uninterrupted

Commands = list[BackgroundCommand]  # inside the class `list` is a method


class KeptCalls(LifeCalls):
    """Calls of optional hooks; see ``openrt_core.kept_specs`` for parameters and errors."""

    def __init__(self) -> None:
        self._uses: collections.Counter[str] = collections.Counter()
        self._uses_lock = threading.Lock()

    def connect(self, id: str) -> SandboxHandle:
        """Joins a sandbox by its id. Whatever goes wrong, and on Ctrl-C, the connection goes.

        Raises:
            UnsupportedError: this runtime cannot.
            SandboxGoneError: there is none of this id.
        """
        self._use(id)
        try:
            handle = self.hooks.call(SandboxHandle, "openrt_connect", id=id)
            return self._checked(handle, "openrt_connect", id)
        except BaseException as error:
            self._leave(id, error)
            raise

    def disconnect(self, handle: SandboxHandle) -> bool:
        """Ends one use of a sandbox that lives on: each ``create`` and ``connect`` is one. With
        the last the connection goes, where the runtime has this hook; True if there was one."""
        if self._used_on(handle.id) or not self.hooks.has("openrt_disconnect"):
            return False
        return self.hooks.call(bool, "openrt_disconnect", handle=handle)

    # Background commands --------------------------------------------------------------------------

    def list_commands(self, handle: SandboxHandle) -> Commands:
        """The background commands of a sandbox, ordered by their ids."""
        commands = self.hooks.call(list, "openrt_list_commands", handle=handle)
        if not all(isinstance(command, BackgroundCommand) for command in commands):
            raise PluginError(
                f"openrt_list_commands of the runtime {self.name!r} returned other things than "
                "BackgroundCommand."
            )
        return sorted(commands, key=lambda command: command.id)

    def attach(
        self,
        handle: SandboxHandle,
        command_id: str,
        offsets: tuple[int, int] = (0, 0),
        output: OutputMode = OutputMode.STREAM,
        budget: CaptureBudget | None = None,
    ) -> Process:
        """Attaches to a background command. Whatever goes wrong here, the command is left alone.

        Args:
            handle: the sandbox.
            command_id: of the command.
            offsets: of stdout and stderr, bytes, 0 or more.
            output: what becomes of its output.
            budget: the sandbox's share of memory for captured output.

        Raises:
            SettingError: an offset or the id is none.
        """
        if not all(type(n) is int and 0 <= n < 1 << 63 for n in offsets):
            raise SettingError("An offset is a whole number of bytes, 0 or more.", hint="")
        process = Process(Command(argv=(command_id,), output=output), budget)
        try:
            returned = self.hooks.call(
                Process,
                "openrt_attach",
                handle=handle,
                command_id=command_id,
                offsets=offsets,
                process=process,
            )
            if returned is not process:
                raise PluginError(
                    f"openrt_attach of the runtime {self.name!r} returned a foreign Process."
                )
        except BaseException as error:
            ended = TransportError("The attaching to a command was given up.", started="yes")
            process.failed(error if isinstance(error, Exception) else ended)
            raise
        return process

    def forget_command(self, handle: SandboxHandle, command_id: str) -> bool:
        """Forgets a background command that has ended; False when there is none."""
        return self.hooks.call(bool, "openrt_forget_command", handle=handle, command_id=command_id)

    # ----------------------------------------------------------------------------------------------

    def _use(self, id: str) -> None:
        with self._uses_lock:
            self._uses[id] += 1

    def _used_on(self, id: str) -> bool:
        """Ends one use; whether there are others."""
        with self._uses_lock:
            self._uses[id] -= 1
            if self._uses[id] > 0:
                return True
            del self._uses[id]
            return False

    def _leave(self, id: str, error: BaseException) -> None:
        """Ends the connection that ``error`` may have left, and leaves ``error`` to be seen."""
        if self._used_on(id) or not self.hooks.has("openrt_disconnect"):
            return
        if not ID_PATTERN.fullmatch(id):
            return  # no sandbox has it
        handle = SandboxHandle(runtime=self.name, id=id)
        hook = "openrt_disconnect"
        try:
            # The bare hook: no wrapper can stop it.
            uninterrupted(lambda: self.hooks.call(bool, hook, bare=True, handle=handle))
        except Exception as failure:  # noqa: BLE001  # told with the error that is raised
            left = f"The connection to the sandbox {id} of the runtime {self.name!r} may be left"
            error.add_note(f"{left}: {failure}")

    def _checked(self, handle: SandboxHandle, hook: str, id: str) -> SandboxHandle:
        if (handle.runtime, handle.id) != (self.name, id):
            raise PluginError(
                f"{hook} of the runtime {self.name!r} returned the handle of "
                f"{handle.runtime}:{handle.id}, not of {self.name}:{id}."
            )
        return handle

    def _unuse(self, id: str) -> None:
        with self._uses_lock:
            self._uses.pop(id, None)
