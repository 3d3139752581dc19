"""openrt: run commands and edit files in a sandbox, wherever it lives."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# ruff: noqa: F401  # __all__ is computed, so that each name stands twice and not three times

if TYPE_CHECKING:
    from openrt_core.aio import AsyncSandbox
    from openrt_core.errors import (
        AuthenticationError,
        CommandError,
        CommandFailedError,
        CommandNotStartedError,
        CommandTimedOutError,
        ConfigurationError,
        EngineUnreachableError,
        FileAccessError,
        FileError,
        FileExistsAlreadyError,
        FileIsDirectoryError,
        FileMissingError,
        FileNotDirectoryError,
        ImageNotFoundError,
        OpenrtError,
        PluginError,
        ProvisionError,
        QuotaError,
        RuntimeAmbiguousError,
        RuntimeNotFoundError,
        SandboxGoneError,
        SettingError,
        StartTimeoutError,
        TransportError,
        UnsupportedError,
        VolumeError,
    )
    from openrt_core.manager import Manager
    from openrt_core.models import (
        Attachment,
        Capabilities,
        Command,
        Entry,
        ExecResult,
        Exit,
        Mount,
        OutputMode,
        PostMortem,
        SandboxHandle,
        SandboxSpec,
        SandboxStatus,
        TerminalSize,
        Usage,
    )
    from openrt_core.plugin import RuntimeContext, WrapperContext, hookimpl
    from openrt_core.process import Controls, Process
    from openrt_core.sandbox import Sandbox

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
    "openrt_core.process": ("Controls", "Process"),
    "openrt_core.sandbox": ("Sandbox",),
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
