"""How a runtime or a wrapper plugs in.

A runtime is a distribution with two entry points of the same name::

    [project.entry-points."openrt.runtimes"]
    docker = "openrt_docker.plugin:create"        # (RuntimeContext) -> plugin
    [project.entry-points."openrt.settings"]
    docker = "openrt_docker.settings:Settings"    # an attrs class, see openrt_core.settings

The factory does no I/O. What it returns carries ``spec_version`` and ``features`` and implements
the hooks of ``openrt_core.hookspecs`` with ``@hookimpl``. Plugins are compared and hashed by
identity: an attrs class says ``@attrs.define(eq=False)``.

A wrapper is an entry point of the group ``openrt.wrappers`` that names a factory
``(WrapperContext) -> plugin``; it implements hooks only as ``@hookimpl(wrapper=True)``
generators, and is used when OPENRT_WRAPPERS names it. Its factory reads its own configuration
(plain environment variables, under a name of its own), and may subscribe to events::

    def create(context: WrapperContext) -> Audit:
        audit = Audit(os.environ["ACME_AUDIT_LOG"])
        context.subscribe(audit.event)        # every Event, of the runtime and of the core
        return audit
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, Protocol

import attrs
import pluggy

from openrt_core.events import Event

PROJECT = "openrt"
SPEC_VERSION = 1
"""Version of the hookspecs; a runtime says in ``spec_version`` which one it was written for."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

FEATURES: dict[str, str] = {
    "image": "SandboxSpec.image: any Linux image",
    "bind": "mounts of mode rw and ro that are live: both sides see changes at once",
    "copy": "mounts that are copied in, and back at the end",
    "overlay": "mounts of mode overlay",
    "named_volume": "mounts whose source is a named volume",
    "user": "SandboxSpec.user and Command.user",
    "network_none": "network=none",
    "network_host": "network=host",
    "network_named": "network=NAME",
    "ports": "SandboxSpec.ports",
    "cpu": "SandboxSpec.cpu",
    "memory": "SandboxSpec.memory",
    "pids": "SandboxSpec.pids",
    "disk": "SandboxSpec.disk",
    "gpu": "SandboxSpec.gpu",
    "platform": "SandboxSpec.platform",
    "labels": "SandboxSpec.labels",
    "lifetime": "SandboxSpec.lifetime",
    "idle_limit": "SandboxSpec.idle_limit",
    "keep": "SandboxSpec.keep: it lives on without a client",
    "read_only": "SandboxSpec.read_only",
    "options": "SandboxSpec.options",
    "stdin": "Command.stdin",
    "streams": "stdout and stderr apart",
    "tty": "Command.tty",
    "background": "Command.background: commands that belong to the sandbox, listed and attached to",
    "kill_tree": "a time limit or kill ends the whole tree and nothing else",
}
"""Every feature that a runtime may name, with what it stands for."""


class RuntimePlugin(Protocol):
    """What a factory of ``openrt.runtimes`` returns, beside its hooks."""

    @property
    def spec_version(self) -> int:
        """The SPEC_VERSION that it was written for."""

    @property
    def features(self) -> frozenset[str]:
        """Names out of FEATURES that it honours."""


@attrs.frozen(kw_only=True, eq=False)
class RuntimeContext:
    """What a runtime's factory is given.

    Attributes:
        name: the name of its entry point.
        settings: its parsed settings, an instance of the class that its ``openrt.settings`` entry
            point names; None when it has none.
        emit: reports an event (progress, notes) to the user of the core; thread-safe, cheap,
            never raises.
        state_folder: a folder of the user's for this runtime's own state; not yet made.
    """

    name: str
    settings: Any = attrs.field(default=None, repr=False)
    emit: Callable[[Event], None]
    state_folder: pathlib.Path


def _to_nobody(listener: Callable[[Event], None]) -> None:
    """For a context that is made by hand: nobody emits anything."""


@attrs.frozen(kw_only=True, eq=False)
class WrapperContext:
    """What a wrapper's factory is given.

    Attributes:
        name: the name of its entry point.
        runtime: the name of the runtime that it will be around.
        emit: as for a runtime.
        subscribe: has a function called with every event that the runtime, the core or another
            wrapper emits, also with those from before it was loaded. It runs in the thread that
            emits and must be short. What it raises is logged: it cannot stop what it is told of.
    """

    name: str
    runtime: str
    emit: Callable[[Event], None]
    subscribe: Callable[[Callable[[Event], None]], None] = attrs.field(default=_to_nobody)
