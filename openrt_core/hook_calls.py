"""The hooks of one runtime and its wrappers: checked when put together, typed when called."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

import attrs
import pluggy

from openrt_core import hookspecs, kept_specs, life_specs
from openrt_core.errors import PluginError, UnsupportedError
from openrt_core.models import (
    Attachment,
    Command,
    Entry,
    SandboxHandle,
    SandboxSpec,
    SandboxStatus,
)
from openrt_core.plugin import FEATURES, PROJECT, SPEC_VERSION, hookimpl
from openrt_core.process import Process

T = TypeVar("T")

RESULTS: Final = MappingProxyType(
    {
        "openrt_prepare": SandboxSpec,
        "openrt_prepare_command": Command,
        "openrt_preflight": bool,
        "openrt_mount": Attachment,
        "openrt_provision": SandboxHandle,
        "openrt_exec": Process,
        "openrt_teardown": bool,
        "openrt_connect": SandboxHandle,
        "openrt_status": SandboxStatus,
        "openrt_list": list,
        "openrt_pause": bool,
        "openrt_resume": bool,
        "openrt_snapshot": str,
        "openrt_expose": str,
        "openrt_build_image": str,
        "openrt_disconnect": bool,
        "openrt_list_commands": list,
        "openrt_attach": Process,
        "openrt_forget_command": bool,
        "openrt_read_file": bytes,
        "openrt_write_file": int,
        "openrt_list_files": list,
        "openrt_stat_file": Entry,
        "openrt_remove_file": bool,
        "openrt_rename_file": bool,
        "openrt_make_directory": bool,
        "openrt_upload": int,
        "openrt_download": int,
    }
)
"""What each hook returns. A test holds it against the hookspecs."""


@attrs.frozen(eq=False)
class Wrapper:
    """A loaded wrapper.

    Attributes:
        name: of its entry point, as in OPENRT_WRAPPERS.
        plugin: what its factory returned.
    """

    name: str
    plugin: object


class Identity:
    """The core's own two hooks."""

    @hookimpl
    def openrt_prepare(self, spec: SandboxSpec) -> SandboxSpec:
        return spec

    @hookimpl
    def openrt_prepare_command(self, command: Command) -> Command:
        return command


class Hooks:
    """The hooks of one runtime.

    Args:
        name: of the runtime.
        plugin: the runtime; checked for its version, its features, and that it implements each
            required hook once.
        wrappers: the first is the outermost.
        defaults: the core's object for hooks that the runtime lacks, or None.

    Raises:
        PluginError: the runtime or a wrapper breaks the contract.
    """

    def __init__(
        self,
        name: str,
        plugin: object,
        wrappers: Sequence[Wrapper] = (),
        defaults: object | None = None,
    ) -> None:
        self.name = name
        self.wrappers = tuple(wrappers)
        self.features = _check_plugin(name, plugin)
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._manager.add_hookspecs(life_specs)
        self._manager.add_hookspecs(kept_specs)
        self._register(plugin, f"runtime {name}", f"The runtime {name!r}")
        self.own = self._check_runtime(plugin)
        self._register(Identity(), "core", "The core")
        if defaults is not None:
            self._register(_without(defaults, self.own), "core defaults", "The core")
        for wrapper in reversed(self.wrappers):
            self._register(
                wrapper.plugin, f"wrapper {wrapper.name}", f"The wrapper {wrapper.name!r}"
            )
            self._check_wrapper(wrapper)
        self._bare = {
            hook: self._manager.subset_hook_caller(hook, [w.plugin for w in self.wrappers])
            for hook in RESULTS
        }
        self._full = {hook: getattr(self._manager.hook, hook) for hook in RESULTS}
        self._implemented = frozenset(h for h, c in self._bare.items() if c.get_hookimpls())

    def has(self, hook: str) -> bool:
        """Whether somebody, the runtime or the core for it, implements the hook."""
        return hook in self._implemented

    def call(self, kind: type[T], hook: str, /, *, bare: bool = False, **arguments: Any) -> T:
        """Calls one hook.

        Args:
            kind: the type of its result.
            hook: its name.
            bare: whether wrappers are left out.
            arguments: its arguments.

        Raises:
            UnsupportedError: nobody implements it; no wrapper has run.
            PluginError: the result is of another type.
        """
        if hook not in self._implemented:
            what = hook.removeprefix("openrt_").replace("_", " ")
            raise UnsupportedError(f"The runtime {self.name!r} has no {what}.")
        result = (self._bare if bare else self._full)[hook](**arguments)
        # bool is an int, but no count of bytes.
        if not isinstance(result, kind) or (kind is int and isinstance(result, bool)):
            raise self._wrong(hook, f"{type(result).__name__}, not {kind.__name__}", bare)
        return result

    def _wrong(self, hook: str, returned: str, bare: bool) -> PluginError:
        names = ", ".join(w.name for w in self.wrappers)
        around = f" with the wrappers {names} around it" if names and not bare else ""
        return PluginError(f"{hook} of the runtime {self.name!r}{around} returned {returned}.")

    def _register(self, plugin: object, name: str, who: str) -> None:
        _check_hashable(plugin, who)
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            # pluggy's text begins with the plugin's repr, which may hold anything; its last line is
            # the fault.
            fault = str(error).strip().splitlines()[-1]
            raise PluginError(f"{who} breaks the contract of the hooks: {fault}.") from error

    def _check_runtime(self, plugin: object) -> frozenset[str]:
        own: set[str] = set()
        for caller in self._manager.get_hookcallers(plugin) or ():
            impls = caller.get_hookimpls()
            if caller.name in hookspecs.CORE:
                raise self._fault(f"{caller.name} is the core's, for wrappers to go around")
            if any(i.wrapper or i.hookwrapper for i in impls):
                raise self._fault(f"its {caller.name} is a wrapper")
            if len(impls) > 1:
                raise self._fault(f"it implements {caller.name} {len(impls)} times")
            if inspect.iscoroutinefunction(impls[0].function):
                raise self._fault(f"its {caller.name} is async; hooks are blocking")
            own.add(caller.name)
        unmarked = sorted(h for h in RESULTS if h not in own and callable(getattr(plugin, h, None)))
        if unmarked:
            raise self._fault(f"{', '.join(unmarked)} lacks @hookimpl")
        missing = sorted(hookspecs.REQUIRED - own)
        if missing:
            raise self._fault(f"it does not implement {', '.join(missing)}")
        return frozenset(own)

    def _check_wrapper(self, wrapper: Wrapper) -> None:
        for caller in self._manager.get_hookcallers(wrapper.plugin) or ():
            for impl in caller.get_hookimpls():
                if impl.plugin is not wrapper.plugin:
                    continue
                fault = _wrapper_fault(impl)
                if fault:
                    raise PluginError(f"{caller.name} of the wrapper {wrapper.name!r} {fault}.")

    def _fault(self, fault: str) -> PluginError:
        return PluginError(f"The runtime {self.name!r} breaks the contract of the hooks: {fault}.")


def _check_plugin(name: str, plugin: object) -> frozenset[str]:
    """Checks what a runtime says of itself; its features."""
    if plugin is None or inspect.isclass(plugin):
        raise PluginError(
            f"The factory of the runtime {name!r} returned {plugin!r}, not an instance."
        )
    version = getattr(plugin, "spec_version", None)
    if version != SPEC_VERSION:
        raise PluginError(
            f"The runtime {name!r} was written for version {version!r} of the hooks; "
            f"this core has version {SPEC_VERSION}.",
            hint="Upgrade the runtime's distribution and openrt-core together.",
        )
    features = getattr(plugin, "features", None)
    if not isinstance(features, (frozenset, set)):
        raise PluginError(f"The runtime {name!r} has no set of features.")
    unknown = sorted(str(f) for f in features if f not in FEATURES)
    if unknown:
        raise PluginError(f"The runtime {name!r} names unknown features: {', '.join(unknown)}.")
    return frozenset(features)


def _check_hashable(plugin: object, who: str) -> None:
    if type(plugin).__hash__ is None:
        raise PluginError(f"{who} cannot be hashed; an attrs class says @attrs.define(eq=False).")


def _wrapper_fault(impl: pluggy.HookImpl) -> str:
    if not impl.wrapper:
        return "is no wrapper; it must be a generator marked @hookimpl(wrapper=True)"
    order = "tryfirst" if impl.tryfirst else "trylast" if impl.trylast else ""
    return f"says {order}; OPENRT_WRAPPERS gives the order" if order else ""


def _without(defaults: object, hooks: frozenset[str]) -> object:
    """Lets ``defaults`` implement none of these hooks: each has exactly one implementation."""
    for hook in hooks & set(dir(defaults)):
        # An attribute that is no function hides the method of the class from pluggy.
        setattr(defaults, hook, None)
    return defaults
