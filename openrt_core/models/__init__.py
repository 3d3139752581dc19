"""What users, the core and runtimes hand each other: plain frozen values, validated when they are
made."""

from __future__ import annotations

from openrt_core.models.capabilities import Capabilities
from openrt_core.models.command import (
    BackgroundCommand,
    Command,
    ExecResult,
    Exit,
    OutputMode,
    TerminalSize,
    Usage,
)
from openrt_core.models.files import Entry, EntryType
from openrt_core.models.sandbox import (
    Attachment,
    Mount,
    MountMode,
    PostMortem,
    SandboxHandle,
    SandboxSpec,
    SandboxStatus,
    new_id,
)

__all__ = [
    "Attachment",
    "BackgroundCommand",
    "Capabilities",
    "Command",
    "Entry",
    "EntryType",
    "ExecResult",
    "Exit",
    "Mount",
    "MountMode",
    "OutputMode",
    "PostMortem",
    "SandboxHandle",
    "SandboxSpec",
    "SandboxStatus",
    "TerminalSize",
    "Usage",
    "new_id",
]
