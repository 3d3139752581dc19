"""What a user should know of settings that are deprecated, unknown or without effect."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator

from openrt_core import volumes
from openrt_core.errors import VolumeError
from openrt_core.events import Event
from openrt_core.settings import registry
from openrt_core.settings.loading import Settings
from openrt_core.settings.sources import Source
from openrt_core.settings.table import RUNTIME_ALIASES, TABLE
from openrt_core.settings.variables import file_key

_MOUNTS = ("WORKSPACE_BASE", "WORKSPACE_MOUNT_PATH", "WORKSPACE_MOUNT_REWRITE")
_TARGET = "WORKSPACE_MOUNT_PATH_IN_SANDBOX"
_told: set[str] = set()


def tell(settings: Settings, emit: Callable[[Event], None]) -> None:
    """Emits each note that this process has not emitted yet.

    Raises:
        SettingError: a value that a note is about is not taken.
    """
    for event in notes(settings):
        tell_once(event, emit)


def tell_once(event: Event, emit: Callable[[Event], None]) -> None:
    """Emits a note unless this process has emitted it."""
    if event.message not in _told:
        _told.add(event.message)
        emit(event)


def notes(settings: Settings) -> tuple[Event, ...]:
    """All notes about these settings."""
    return (
        *_aliases(settings),
        *_workspace(settings),
        *_without_effect(settings),
        *_unknown(settings),
    )


def _note(message: str) -> Event:
    return Event(kind="note", message=message, source="settings")


def _deprecation(message: str) -> Event:
    return Event(kind="deprecation", message=message, source="settings")


def _aliases(settings: Settings) -> Iterator[Event]:
    for variable in TABLE.values():
        found = settings.find(variable) if variable.aliases else None
        if found is not None and found.name != variable.name:
            yield _deprecation(f"{found.name} is deprecated: it is called {variable.name} now.")
    found = settings.find(TABLE["RUNTIME"])
    # an argument's name is told about by whoever looks the runtime up
    if found is not None and found.source.kind != "argument":
        old = str(found.raw).strip().lower()
        if old in RUNTIME_ALIASES:
            new = RUNTIME_ALIASES[old]
            yield _deprecation(f"The runtime {old} is called {new} now: set RUNTIME={new}.")


def _workspace(settings: Settings) -> Iterator[Event]:
    used = [name for name in (*_MOUNTS, _TARGET) if settings.is_set(name)]
    names = " and ".join(used)
    if not used:
        return
    has, are = ("has", "is") if len(used) == 1 else ("have", "are")
    if settings.is_set("SANDBOX_VOLUMES"):
        yield _note(f"{names} {has} no effect, because SANDBOX_VOLUMES is set.")
    elif used == [_TARGET]:
        yield _note(f"{names} {has} no effect without {' or '.join(_MOUNTS[:2])}.")
    else:
        mounts = settings.workspace_mounts()
        try:
            line = f": use SANDBOX_VOLUMES={volumes.format(mounts)}"
        except VolumeError:
            line = ", but SANDBOX_VOLUMES cannot say this path: rename the folder"
        yield _deprecation(f"{names} {are} deprecated{line}.")


def _without_effect(settings: Settings) -> Iterator[Event]:
    if settings.is_set("SANDBOX_CUDA_VISIBLE_DEVICES") and not settings.core.enable_gpu:
        yield _note("SANDBOX_CUDA_VISIBLE_DEVICES has no effect without SANDBOX_ENABLE_GPU=true.")


def _unknown(settings: Settings) -> Iterator[Event]:
    """Names that nobody declares. Plugins are asked only when the table does not know one."""
    single = (variable for variable in TABLE.values() if not variable.prefix)
    names = {name for variable in single for name in (variable.name, *variable.aliases)}
    if not any(_strange(source, names) for source in settings.sources):
        return
    for plugin in registry.installed():
        if plugin.error:
            yield _note(plugin.error)
        for variable in plugin.variables.values():
            names |= {variable.name, *variable.aliases}
    for source in settings.sources:
        for name in _strange(source, names):
            shown = f"{name!r} in {source.label}" if source.is_file else repr(name)[1:-1]
            near = _nearest(name, names)
            near = source.key(near) if source.is_file else near
            meant = f" Did you mean {near}?" if near else ""
            yield _note(f"{shown} is no setting of openrt or of an installed runtime.{meant}")


def _nearest(name: str, known: set[str]) -> str:
    """The known name that looks most like this one; "" for none. What all names begin with does
    not count.
    """
    by_key = {file_key(k): k for k in sorted(known)}
    near = difflib.get_close_matches(file_key(name), by_key, n=1, cutoff=0.7)
    return by_key[near[0]] if near else ""


def _strange(source: Source, names: set[str]) -> list[str]:
    """The names that one source sets and that are not in ``names``."""
    if source.kind == "argument":
        return []
    family = TABLE["SANDBOX_ENV_"]
    if source.is_file:
        keys = {Source.key(name) for name in names}
        return sorted(k for k in source.values if k not in keys and k not in _members(source))
    mine = (name for name in source.values if name.startswith("SANDBOX_"))
    members = {family.name + key for key in source.family(family)}
    return sorted(name for name in mine if name not in names | members)


def _members(source: Source) -> set[str]:
    family = TABLE["SANDBOX_ENV_"]
    return {family.key + key for key in source.family(family)}
