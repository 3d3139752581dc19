"""Every error that openrt raises, as one tree.

::

    OpenrtError
    ├── ConfigurationError            what was asked for cannot be: nothing was spent
    │   ├── SettingError              a wrong variable, file key or argument  (also ValueError)
    │   │   └── VolumeError           a mount that cannot be read or honoured
    │   ├── RuntimeNotFoundError      no installed distribution offers this runtime
    │   ├── RuntimeAmbiguousError     several distributions offer it
    │   ├── PluginError               a runtime or wrapper that fails to load or breaks the contract
    │   └── UnsupportedError          this runtime has no such capability
    ├── ProvisionError                a sandbox could not be made
    │   ├── ImageNotFoundError
    │   ├── AuthenticationError
    │   ├── QuotaError
    │   ├── EngineUnreachableError
    │   └── StartTimeoutError         (also TimeoutError)
    ├── SandboxGoneError              it is not there any more, with what is known of its end
    ├── TransportError                the way to the sandbox broke; ``started``: did the command run
    ├── CommandError
    │   ├── CommandTimedOutError      its tree was killed; has what it printed  (also TimeoutError)
    │   ├── CommandFailedError        ``check=True`` and it failed; carries the result
    │   └── CommandNotStartedError    no such program, no such folder, no such user
    └── FileError                     (also OSError, with errno)
        ├── FileMissingError          (also FileNotFoundError)
        ├── FileAccessError           (also PermissionError)
        ├── FileIsDirectoryError      (also IsADirectoryError)
        ├── FileNotDirectoryError     (also NotADirectoryError)
        └── FileExistsAlreadyError    (also FileExistsError)

Each class has a ``code``, stable and made for programs; each error has a ``hint``, what to do
next, and ``retryable``, whether the same call may succeed when it is simply made again.
"""

from __future__ import annotations

import errno as _errno
import os as _os
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

if TYPE_CHECKING:
    from openrt_core.models import ExecResult, PostMortem

ID_TAKEN: Final = "provision.id_taken"
"""The code of a ProvisionError: the back end has another sandbox of this id."""

Started = Literal["yes", "no", "unknown"]


class OpenrtError(Exception):
    """The root of all errors of openrt.

    Args:
        message: one sentence for a person, without secrets.
        hint: what to do next; "" when there is nothing to say.
        retryable: overrides the default of the class.
        code: a finer code below the one of the class, for example ``command.not_found``.
    """

    code: str = "openrt"
    default_hint: ClassVar[str] = ""
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retryable: bool | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.retryable = self.default_retryable if retryable is None else retryable
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with the message alone, which loses the rest or fails: a
        # pool of processes breaks on an error that it cannot unpickle.
        return _rebuilt, (type(self), self.message, self._state())

    def _state(self) -> dict[str, Any]:
        return dict(self.__dict__)


def _rebuilt(kind: type[OpenrtError], message: str, state: dict[str, Any]) -> OpenrtError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    for name, value in state.items():
        setattr(error, name, value)
    return error


class ConfigurationError(OpenrtError):
    """What was asked for cannot be. Nothing was spent."""

    code = "configuration"


class SettingError(ConfigurationError, ValueError):
    """A variable, a key of a file or an argument has a value that it does not take."""

    code = "configuration.setting"
    default_hint = "`openrt config` shows every setting, its value and where it came from."


class VolumeError(SettingError):
    """A mount that cannot be read, or that this runtime cannot honour."""

    code = "configuration.volume"
    default_hint = "The form is host_path:container_path[:mode], mode is rw, ro or overlay."


class RuntimeNotFoundError(ConfigurationError):
    """No installed distribution offers the runtime of this name."""

    code = "configuration.runtime_not_found"
    default_hint = "`openrt runtimes` lists what is installed."


class RuntimeAmbiguousError(ConfigurationError):
    """Several installed distributions offer a runtime of this name."""

    code = "configuration.runtime_ambiguous"
    default_hint = "Choose one with RUNTIME=distribution:name, or uninstall the others."


class PluginError(ConfigurationError):
    """A runtime or a wrapper cannot be loaded, or breaks the contract of the hooks."""

    code = "configuration.plugin"


class UnsupportedError(ConfigurationError):
    """The selected runtime has no such capability."""

    code = "configuration.unsupported"
    default_hint = "`openrt runtimes` shows what each runtime can do."


class ProvisionError(OpenrtError):
    """A sandbox could not be made; what had been made of it was removed.

    With the code ``provision.id_taken`` there is another sandbox of its id, which was left alone.
    """

    code = "provision"


class ImageNotFoundError(ProvisionError):
    """The image is neither here nor at its registry."""

    code = "provision.image_not_found"
    default_hint = (
        "Check the name of the image; SANDBOX_RUNTIME_CONTAINER_IMAGE or --image sets it."
    )


class AuthenticationError(ProvisionError):
    """The back end refused the credentials."""

    code = "provision.authentication"
    default_hint = "Check the credentials of this runtime; `openrt config` shows which are set."


class QuotaError(ProvisionError):
    """The back end has no room for one more sandbox now."""

    code = "provision.quota"
    default_retryable = True
    default_hint = "End sandboxes that are not needed, or try again later."


class EngineUnreachableError(ProvisionError):
    """Nobody answers where the back end should be."""

    code = "provision.engine_unreachable"
    default_retryable = True


class StartTimeoutError(ProvisionError, TimeoutError):
    """The sandbox was not ready within its start-up limit."""

    code = "provision.start_timeout"
    default_retryable = True


class SandboxGoneError(OpenrtError):
    """The sandbox is not there any more.

    Attributes:
        post_mortem: what the runtime knows of its end, or None.
    """

    code = "sandbox.gone"
    default_hint = "Make a new sandbox; its files and processes are lost."

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retryable: bool | None = None,
        code: str | None = None,
        post_mortem: PostMortem | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable, code=code)
        self.post_mortem = post_mortem


class TransportError(OpenrtError):
    """The way to the sandbox broke, or what came over it was not the protocol.

    Attributes:
        started: whether the command had started: "yes", "no" or "unknown".
    """

    code = "transport"
    default_hint = "The command may have run: look before you run it again."

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retryable: bool | None = None,
        code: str | None = None,
        started: Started = "unknown",
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable, code=code)
        self.started: Started = started


class CommandError(OpenrtError):
    """A command did not end well."""

    code = "command"


class _WithResult(CommandError):
    def __init__(self, message: str, *, result: ExecResult, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.result = result


class CommandTimedOutError(_WithResult, TimeoutError):
    """The time limit struck: the command's whole tree was killed.

    Attributes:
        result: what it had printed so far, with ``timed_out`` set.
    """

    code = "command.timed_out"
    default_hint = (
        "Give it more time with timeout= (--timeout, SANDBOX_TIMEOUT); None means no limit."
    )


class CommandFailedError(_WithResult):
    """The command ended with another status than 0, and ``check=True`` was given.

    Attributes:
        result: the whole result.
    """

    code = "command.failed"


class CommandNotStartedError(CommandError):
    """The program could not be run: it, the folder or the user is not there, or may not be used."""

    code = "command.not_started"
    default_hint = (
        "Check the program's name and PATH, the working folder and the user in the sandbox."
    )


class FileError(OpenrtError, OSError):
    """A file operation in the sandbox failed.

    Attributes:
        errno: the number of the error, as in the module of that name.
        filename: the path in the sandbox.
    """

    code = "file"
    default_errno: ClassVar[int] = _errno.EIO

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        number: int | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        OpenrtError.__init__(self, message, hint=hint, code=code)
        self.errno = self.default_errno if number is None else number
        self.strerror = message
        self.filename = path

    def _state(self) -> dict[str, Any]:
        # OSError keeps these outside of __dict__.
        own = {"errno": self.errno, "strerror": self.strerror, "filename": self.filename}
        return super()._state() | own


class FileMissingError(FileError, FileNotFoundError):
    """There is no such file or folder in the sandbox."""

    code = "file.not_found"
    default_errno = _errno.ENOENT


class FileAccessError(FileError, PermissionError):
    """The user of the call may not do this."""

    code = "file.permission"
    default_errno = _errno.EACCES


class FileIsDirectoryError(FileError, IsADirectoryError):
    """A folder is where a file was meant."""

    code = "file.is_a_directory"
    default_errno = _errno.EISDIR


class FileNotDirectoryError(FileError, NotADirectoryError):
    """A file is where a folder was meant."""

    code = "file.not_a_directory"
    default_errno = _errno.ENOTDIR


class FileExistsAlreadyError(FileError, FileExistsError):
    """Something of this name is there already."""

    code = "file.exists"
    default_errno = _errno.EEXIST


_FILE_KINDS = {
    kind.default_errno: kind
    for kind in (
        FileMissingError,
        FileAccessError,
        FileIsDirectoryError,
        FileNotDirectoryError,
        FileExistsAlreadyError,
    )
} | {_errno.EPERM: FileAccessError, _errno.EROFS: FileAccessError}


def file_error(number: int, path: str, message: str = "") -> FileError:
    """The error of the kind that belongs to a number of the module errno.

    Args:
        number: for example ``errno.ENOENT``.
        path: in the sandbox.
        message: "" for the system's text for the number.
    """
    kind = _FILE_KINDS.get(number, FileError)
    return kind(f"{message or _os.strerror(number)}: {path!r}", path=path, number=number)
