"""Choosing one installed runtime, and the wrappers around it. Only what is chosen is imported."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from openrt_core import events
from openrt_core.errors import (
    ConfigurationError,
    OpenrtError,
    PluginError,
    RuntimeAmbiguousError,
    RuntimeNotFoundError,
)
from openrt_core.events import Event
from openrt_core.hook_calls import Wrapper
from openrt_core.plugin import RuntimeContext, WrapperContext
from openrt_core.settings.table import RUNTIME_ALIASES

if TYPE_CHECKING:
    from openrt_core.settings import Settings

Emit = Callable[[Event], None]

RUNTIMES: Final = "openrt.runtimes"
SETTINGS: Final = "openrt.settings"
WRAPPERS: Final = "openrt.wrappers"
PUBLISHED: Final = frozenset({"docker", "local", "modal", "remote"})
"""Runtimes with a distribution openrt-NAME: only for telling users what to install."""


@attrs.frozen(eq=False)
class Found:
    """An entry point that was found in metadata; nothing of it is imported yet.

    Attributes:
        name: of the entry point.
        distribution: the name of the distribution, normalised.
        version: of the distribution.
        entry_point: as the metadata has it.
    """

    name: str
    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


def installed(group: str = RUNTIMES) -> list[Found]:
    """Every entry point of a group, by metadata, ordered by name and distribution."""
    return list(_scanned(group, tuple((folder, _changed(folder)) for folder in sys.path)))


@functools.lru_cache(maxsize=16)
def _scanned(group: str, state: tuple[tuple[str, int], ...]) -> tuple[Found, ...]:
    """What is installed while sys.path is in this state: reading all metadata takes milliseconds,
    more than a local sandbox takes to start.
    """
    found = [
        Found(
            name=point.name,
            distribution=normalised(point.dist.name) if point.dist else "unknown",
            version=point.dist.version if point.dist else "?",
            entry_point=point,
        )
        for point in importlib.metadata.entry_points(group=group)
    ]
    return tuple(sorted(found, key=lambda f: (f.name, f.distribution)))


def _changed(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def normalised(distribution: str) -> str:
    """The name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def find(name: str, emit: Emit = events.report) -> Found:
    """The runtime of this name. Nothing is imported.

    Args:
        name: ``name`` or ``distribution:name``; case and surrounding space do not matter.
        emit: is told when the name is deprecated.

    Raises:
        RuntimeNotFoundError: no distribution offers it.
        RuntimeAmbiguousError: several do.
    """
    distribution, _, wanted = name.strip().lower().rpartition(":")
    distribution, wanted = normalised(distribution), wanted.strip()
    if wanted in RUNTIME_ALIASES:
        alias, wanted = wanted, RUNTIME_ALIASES[wanted]
        message = f"The runtime {alias!r} is called {wanted!r} now: set RUNTIME={wanted}."
        emit(Event(kind="deprecation", message=message))
    every = installed()
    named = [f for f in every if f.name.lower() == wanted]
    found = [f for f in named if distribution in ("", f.distribution)]
    if not found:
        raise _not_found(wanted, distribution, every)
    if len(found) > 1:
        choices = ", ".join(f"RUNTIME={f.distribution}:{f.name}" for f in found)
        raise RuntimeAmbiguousError(
            f"Several distributions offer the runtime {wanted!r}: "
            f"{', '.join(f'{f.distribution} {f.version}' for f in found)}.",
            hint=f"Choose one ({choices}) or uninstall the others.",
        )
    return found[0]


def _not_found(wanted: str, distribution: str, every: Sequence[Found]) -> RuntimeNotFoundError:
    by = f" of the distribution {distribution!r}" if distribution else ""
    listed = ", ".join(str(f) for f in every) or "none"
    hint = f"`pip install openrt-{wanted}` installs it." if wanted in PUBLISHED else None
    return RuntimeNotFoundError(
        f"No runtime {wanted!r}{by} is installed. Installed: {listed}.", hint=hint
    )


def load(found: Found, settings: Settings | None, emit: Emit = events.report) -> object:
    """Imports a runtime and makes its plugin.

    Args:
        found: which.
        settings: the user's; those of the runtime are taken out of them.
        emit: given to the runtime.

    Raises:
        PluginError: it cannot be imported or made.
        SettingError: one of its settings is wrong.
    """
    who = f"The runtime {found}"
    own: Any = None
    declared = [
        f
        for f in installed(SETTINGS)
        if f.name == found.name and f.distribution == found.distribution
    ]
    if declared:
        if settings is None:
            from openrt_core import settings as settings_module

            settings = settings_module.load(runtime=found.name)
        from openrt_core.settings import registry

        own = settings.for_runtime(found.name, registry.settings_class(declared[0]))
    context = RuntimeContext(
        name=found.name, settings=own, emit=emit, state_folder=state_folder(found.name)
    )
    return _made(found, who, context)


def load_wrappers(
    names: Sequence[str], runtime: str, emit: events.Emitter | None = None
) -> tuple[Wrapper, ...]:
    """Imports the wrappers of these names and makes them, in their order.

    Args:
        names: of their entry points, the outermost first.
        runtime: the name of the runtime that they will be around.
        emit: what they emit through and may subscribe to; None for one that reports.

    Raises:
        PluginError: one is missing, ambiguous, named twice, or cannot be loaded: a policy that is
            not there must not look as if it were.
    """
    if not names:
        return ()
    if len(set(names)) < len(names):
        raise PluginError(f"OPENRT_WRAPPERS names a wrapper twice: {', '.join(names)}.")
    every = installed(WRAPPERS)
    emitter = emit or events.Emitter(events.report)
    return tuple(_load_wrapper(name, every, runtime, emitter) for name in names)


def _load_wrapper(name: str, every: Sequence[Found], runtime: str, emit: events.Emitter) -> Wrapper:
    found = [f for f in every if f.name == name]
    if not found:
        listed = ", ".join(str(f) for f in every) or "none"
        raise PluginError(f"No wrapper {name!r} is installed. Installed: {listed}.")
    if len(found) > 1:
        distributions = ", ".join(f.distribution for f in found)
        raise PluginError(f"Several distributions offer the wrapper {name!r}: {distributions}.")
    context = WrapperContext(name=name, runtime=runtime, emit=emit, subscribe=emit.subscribe)
    return Wrapper(name, _made(found[0], f"The wrapper {found[0]}", context))


def _imported(found: Found, who: str) -> Any:
    try:
        return found.entry_point.load()
    except Exception as error:
        raise PluginError(
            f"{who} cannot be loaded: importing {found.entry_point.module} of {found.distribution} "
            f"{found.version} failed: {type(error).__name__}: {error}",
            hint=f"Reinstall {found.distribution}, or look at the cause below.",
        ) from error


def _made(found: Found, who: str, context: RuntimeContext | WrapperContext) -> object:
    factory = _imported(found, who)
    if not callable(factory):
        raise PluginError(f"{who}: {found.entry_point.value} is no factory.")
    try:
        return factory(context)
    except OpenrtError:
        raise
    except Exception as error:
        raise PluginError(
            f"{who}: {found.entry_point.value} failed: {type(error).__name__}: {error}"
        ) from error


def state_folder(runtime: str) -> pathlib.Path:
    """The user's folder for a runtime's state, by the XDG base directory specification; not made.

    Raises:
        ConfigurationError: the user has no home folder.
    """
    base = os.environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        try:
            base = str(pathlib.Path.home() / ".local" / "state")
        except RuntimeError as error:
            raise ConfigurationError(
                "There is no home folder to keep state in.", hint="Set HOME or XDG_STATE_HOME."
            ) from error
    return pathlib.Path(base, "openrt", runtime)


def choose(
    runtime: str | None,
    settings: Settings | None,
    wrappers: Sequence[str | Wrapper] | None,
    emit: Emit | None,
) -> tuple[str, object, tuple[Wrapper, ...], Settings, events.Emitter]:
    """What ``Manager.open`` makes a manager of: name, plugin, wrappers, settings and emitter."""
    from openrt_core import settings as settings_module

    emitter = events.Emitter(emit or events.report, remember=True)
    given = settings
    if settings is None:
        settings = settings_module.load(runtime=runtime)
    found = find(settings.core.runtime if runtime is None else runtime, emitter)
    if given is None and settings.core.runtime.rpartition(":")[2] != found.name:
        # An alias: the variables of the runtime that it stands for are the ones that count.
        settings = settings_module.load(runtime=found.name)
    asked = settings.get("OPENRT_WRAPPERS") or () if wrappers is None else wrappers
    named = load_wrappers([w for w in asked if isinstance(w, str)], found.name, emitter)
    emitter.loaded()
    by_name = {w.name: w for w in named}
    ordered = tuple(by_name[w] if isinstance(w, str) else w for w in asked)
    return found.name, load(found, settings, emitter), ordered, settings, emitter
