"""Trying one runtime after the other, for ``openrt doctor``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from openrt_core import selection
from openrt_core.cli import console
from openrt_core.errors import OpenrtError, SettingError
from openrt_core.events import Event
from openrt_core.manager import Manager
from openrt_core.models import ExecResult, SandboxSpec
from openrt_core.sandbox import Sandbox
from openrt_core.settings import Settings, load, registry
from openrt_core.settings.spec import make_spec
from openrt_core.settings.table import TABLE
from openrt_core.settings.values import MASK

T = TypeVar("T")
Emit = Callable[[Event], None]
COMMAND_LIMIT: Final = 60.0
"""Seconds for ``true``."""


@attrs.frozen(kw_only=True)
class Step:
    """One thing that was tried.

    Attributes:
        name: ``load``, ``preflight``, ``provision``, ``command`` or ``teardown``.
        ok: whether it went well.
        seconds: that it took.
        error: what went wrong, else "".
        code: of the error, else "".
        hint: what to do next, or "".
    """

    name: str
    ok: bool
    seconds: float
    error: str = ""
    code: str = ""
    hint: str = ""


@attrs.frozen(kw_only=True)
class Report:
    """What came of one runtime. ``selected``: whether it counts for the exit code."""

    name: str
    distribution: str
    version: str
    selected: bool
    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """Whether every step went well."""
        return all(step.ok for step in self.steps)


def examine(names: Sequence[str], emit: Emit) -> Iterator[Report]:
    """Tries the runtimes of these names, which all count; without names all that are installed,
    of which the one of the setting RUNTIME counts.

    Raises:
        RuntimeNotFoundError, RuntimeAmbiguousError: of ``names``.
        SettingError
    """
    if names:
        for found in [selection.find(name, emit) for name in names]:
            yield _tried(found, emit, selected=True)
        return
    chosen = None
    wanted = load().core.runtime
    try:
        found = selection.find(wanted, emit)
        chosen = (found.name, found.distribution)
    except OpenrtError as error:  # none, or several
        step = Step(name="load", ok=False, seconds=0.0, **_told(error, None))
        yield Report(name=wanted, distribution="", version="", selected=True, steps=(step,))
    for found in selection.installed():
        yield _tried(found, emit, selected=(found.name, found.distribution) == chosen)


def _tried(found: selection.Found, emit: Emit, *, selected: bool) -> Report:
    patient = _Patient()
    patient.examine(found, emit)
    return Report(
        name=found.name,
        distribution=found.distribution,
        version=found.version,
        selected=selected,
        steps=tuple(patient.steps),
    )


class _Patient:
    """A runtime that is being tried."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._settings: Settings | None = None

    def examine(self, found: selection.Found, emit: Emit) -> None:
        """Does each step that those before it allow."""
        manager = self._step("load", lambda: self._load(found, emit))
        spec = manager and self._step("preflight", lambda: self._preflight(manager, emit))
        if not manager or not spec:
            return
        sandbox = self._step("provision", lambda: Sandbox.create(manager=manager, spec=spec))
        if sandbox is None:
            return
        try:
            self._step("command", lambda: _true(sandbox))
        finally:
            self._step("teardown", sandbox.kill)

    def _load(self, found: selection.Found, emit: Emit) -> Manager:
        name = f"{found.distribution}:{found.name}"
        self._settings = load(runtime=found.name)
        return Manager.open(name, self._settings, emit=emit)

    def _preflight(self, manager: Manager, emit: Emit) -> SandboxSpec:
        features = manager.capabilities.features
        # Never kept, whatever the settings say: this one is nobody's.
        spec = make_spec(manager.settings, features=features, emit=emit, keep=False)
        if manager.hooks.has("openrt_preflight"):
            manager.hooks.call(bool, "openrt_preflight", spec=spec)
        return spec

    def _step(self, name: str, work: Callable[[], T]) -> T | None:
        began = time.monotonic()
        try:
            value = work()
        except Exception as error:  # noqa: BLE001  # told in the report: that is what it is for
            seconds = time.monotonic() - began
            told = _told(error, self._settings)
            self.steps.append(Step(name=name, ok=False, seconds=seconds, **told))
            return None
        self.steps.append(Step(name=name, ok=True, seconds=time.monotonic() - began))
        return value


def _true(sandbox: Sandbox) -> ExecResult:
    return sandbox.exec(["true"], check=True, timeout=COMMAND_LIMIT)


def _told(error: Exception, settings: Settings | None) -> dict[str, str]:
    console.trace(error)
    if isinstance(error, OpenrtError):
        text, code, hint = str(error), error.code, error.hint
    else:
        text, code = f"{type(error).__name__}: {error}", "bug"
        hint = "This is a bug in the runtime; --debug before the command shows where."
    text = " ".join([text, *getattr(error, "__notes__", ())])
    return {"error": _masked(text, settings), "code": code, "hint": _masked(hint, settings)}


def _masked(text: str, settings: Settings | None) -> str:
    """Without the values of secrets: a vendor's own error may hold one."""
    secrets = set() if settings is None else set(_secrets(settings))
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _secrets(settings: Settings) -> Iterator[str]:
    declared = [v for plugin in registry.installed() for v in plugin.variables.values()]
    for variable in (*TABLE.values(), *declared):
        if variable.masked:
            with contextlib.suppress(SettingError):  # a value that it does not take is not used
                value: Any = settings.value(variable)
                texts = value.values() if isinstance(value, Mapping) else [value]
                # Shorter ones are no secrets, and stand in every other word.
                yield from (t for t in map(str, texts) if value is not None and len(t) >= 4)
