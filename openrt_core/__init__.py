"""openrt: run commands and edit files in a sandbox, wherever it lives."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # "as" says to type checkers that a name is public; __all__ is computed, which they cannot read.
    from openrt_core.aio import AsyncSandbox as AsyncSandbox
    from openrt_core.errors import AuthenticationError as AuthenticationError
    from openrt_core.errors import CommandError as CommandError
    from openrt_core.errors import CommandFailedError as CommandFailedError
    from openrt_core.errors import CommandNotStartedError as CommandNotStartedError
    from openrt_core.errors import CommandTimedOutError as CommandTimedOutError
    from openrt_core.errors import ConfigurationError as ConfigurationError
    from openrt_core.errors import EngineUnreachableError as EngineUnreachableError
    from openrt_core.errors import FileAccessError as FileAccessError
    from openrt_core.errors import FileError as FileError
    from openrt_core.errors import FileExistsAlreadyError as FileExistsAlreadyError
    from openrt_core.errors import FileIsDirectoryError as FileIsDirectoryError
    from openrt_core.errors import FileMissingError as FileMissingError
    from openrt_core.errors import FileNotDirectoryError as FileNotDirectoryError
    from openrt_core.errors import ImageNotFoundError as ImageNotFoundError
    from openrt_core.errors import OpenrtError as OpenrtError
    from openrt_core.errors import PluginError as PluginError
    from openrt_core.errors import ProvisionError as ProvisionError
    from openrt_core.errors import QuotaError as QuotaError
    from openrt_core.errors import RuntimeAmbiguousError as RuntimeAmbiguousError
    from openrt_core.errors import RuntimeNotFoundError as RuntimeNotFoundError
    from openrt_core.errors import SandboxGoneError as SandboxGoneError
    from openrt_core.errors import SettingError as SettingError
    from openrt_core.errors import StartTimeoutError as StartTimeoutError
    from openrt_core.errors import TransportError as TransportError
    from openrt_core.errors import UnsupportedError as UnsupportedError
    from openrt_core.errors import VolumeError as VolumeError
    from openrt_core.manager import Manager as Manager
    from openrt_core.models import Attachment as Attachment
    from openrt_core.models import Capabilities as Capabilities
    from openrt_core.models import Command as Command
    from openrt_core.models import Entry as Entry
    from openrt_core.models import ExecResult as ExecResult
    from openrt_core.models import Exit as Exit
    from openrt_core.models import Mount as Mount
    from openrt_core.models import OutputMode as OutputMode
    from openrt_core.models import PostMortem as PostMortem
    from openrt_core.models import SandboxHandle as SandboxHandle
    from openrt_core.models import SandboxSpec as SandboxSpec
    from openrt_core.models import SandboxStatus as SandboxStatus
    from openrt_core.models import TerminalSize as TerminalSize
    from openrt_core.models import Usage as Usage
    from openrt_core.plugin import RuntimeContext as RuntimeContext
    from openrt_core.plugin import WrapperContext as WrapperContext
    from openrt_core.plugin import hookimpl as hookimpl
    from openrt_core.pool import AsyncPool as AsyncPool
    from openrt_core.pool import Pool as Pool
    from openrt_core.process import Controls as Controls
    from openrt_core.process import Process as Process
    from openrt_core.sandbox import Sandbox as Sandbox
    from openrt_core.shell import AsyncShell as AsyncShell
    from openrt_core.shell import Shell as Shell

# Where each public name lives: a module is imported when one of its names is used, so that
# `openrt --help` is fast.
_MODULES = {
    "openrt_core.aio": ("AsyncSandbox",),
    "openrt_core.errors": (
        "AuthenticationError",
        "CommandError",
        "CommandFailedError",
        "CommandNotStartedError",
        "CommandTimedOutError",
        "ConfigurationError",
        "EngineUnreachableError",
        "FileAccessError",
        "FileError",
        "FileExistsAlreadyError",
        "FileIsDirectoryError",
        "FileMissingError",
        "FileNotDirectoryError",
        "ImageNotFoundError",
        "OpenrtError",
        "PluginError",
        "ProvisionError",
        "QuotaError",
        "RuntimeAmbiguousError",
        "RuntimeNotFoundError",
        "SandboxGoneError",
        "SettingError",
        "StartTimeoutError",
        "TransportError",
        "UnsupportedError",
        "VolumeError",
    ),
    "openrt_core.manager": ("Manager",),
    "openrt_core.models": (
        "Attachment",
        "Capabilities",
        "Command",
        "Entry",
        "ExecResult",
        "Exit",
        "Mount",
        "OutputMode",
        "PostMortem",
        "SandboxHandle",
        "SandboxSpec",
        "SandboxStatus",
        "TerminalSize",
        "Usage",
    ),
    "openrt_core.plugin": ("RuntimeContext", "WrapperContext", "hookimpl"),
    "openrt_core.pool": ("AsyncPool", "Pool"),
    "openrt_core.process": ("Controls", "Process"),
    "openrt_core.sandbox": ("Sandbox",),
    "openrt_core.shell": ("AsyncShell", "Shell"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_HOMES)  # computed: the names stand once


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
