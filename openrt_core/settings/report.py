"""Every setting with its value and its origin, for ``openrt config``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from openrt_core.errors import SettingError
from openrt_core.settings import registry, values
from openrt_core.settings.loading import Found, Settings
from openrt_core.settings.table import TABLE
from openrt_core.settings.variables import APPLICATION, CORE, Variable


@attrs.frozen(kw_only=True)
class Row:
    """One setting.

    Attributes:
        name: of the variable.
        value: typed, plain enough for JSON; masked where it must be; None when there is none.
        origin: ``default``, ``environment`` or the path of a file.
        owner: the distribution that it belongs to, or ``application``.
        note: why it is not used here, or what is wrong with it; "" for nothing.
        error: whether ``note`` is an error.
        shown: whether it is listed without --all.
        help: one sentence.
    """

    name: str
    value: Any
    origin: str
    owner: str
    note: str
    error: bool
    shown: bool
    help: str


def rows(settings: Settings) -> list[Row]:
    """All known settings: the core's, those of the runtimes, the application's."""
    plugins = list(registry.installed())
    found = [row for variable in TABLE.values() for row in _of(settings, variable, plugins)]
    for plugin in plugins:
        for variable in plugin.variables.values():
            if variable.name not in TABLE:
                owned = attrs.evolve(variable, owner=plugin.distribution)
                found.extend(_of(settings, owned, plugins))
    return found


def _of(settings: Settings, variable: Variable, plugins: list[registry.Declared]) -> Iterator[Row]:
    if not variable.prefix:
        yield _row(settings, variable, plugins)
        return
    for key, found in settings.family(variable).items():
        member = attrs.evolve(variable, name=found.name, kind="str", prefix=False, convert=None)
        yield _row(settings, attrs.evolve(member, help=f"{key} in the sandbox."), plugins)


def _row(settings: Settings, variable: Variable, plugins: list[registry.Declared]) -> Row:
    note, error, found, value = _standing(variable, plugins), False, None, variable.default
    try:
        found = settings.find(variable)
        if found is not None:
            value = settings.value(variable)
    except SettingError as problem:
        note, error, value = str(problem), True, None
    used = not note or error
    return Row(
        name=variable.name,
        value=_plain(variable, value, found),
        origin=found.source.label if found else "default",
        owner=variable.owner,
        note=note,
        error=error,
        shown=used or found is not None,
        help=variable.help,
    )


def _standing(variable: Variable, plugins: list[registry.Declared]) -> str:
    """Why a variable is not used here; "" when it is."""
    if variable.owner == APPLICATION:
        return "belongs to the application, ignored here"
    if not variable.by_runtime or any(variable.name in plugin.names for plugin in plugins):
        return ""
    if variable.owner == CORE:
        return "not honoured by any installed runtime"
    if any(plugin.distribution == variable.owner for plugin in plugins):
        return f"not honoured by this version of {variable.owner}"
    return f"belongs to {variable.owner}, which is not installed"


def _plain(variable: Variable, value: Any, found: Found | None) -> Any:
    if found is not None and variable.masked:
        return values.MASK
    if isinstance(value, str):
        return values.without_password(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, dict) else str(value)
