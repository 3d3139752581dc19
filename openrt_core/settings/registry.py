"""The Settings classes of installed runtimes, found by metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from openrt_core import selection
from openrt_core.errors import PluginError
from openrt_core.settings.variables import Variable, declared


@attrs.frozen
class Declared:
    """What one installed runtime declares.

    Attributes:
        runtime: its name.
        distribution: the distribution that offers it; "" when none does.
        variables: its variables, by name.
        error: why its Settings class cannot be used; "" when it can.
    """

    runtime: str
    distribution: str
    variables: Mapping[str, Variable]
    error: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The names of its variables."""
        return frozenset(self.variables)


def installed() -> Iterator[Declared]:
    """What every installed runtime declares. Imports their settings modules, which import no
    SDK.
    """
    for found in selection.installed(selection.SETTINGS):
        yield _declared(found)


def selected(runtime: str) -> Declared:
    """What one runtime declares, nothing when it is not installed.

    Args:
        runtime: ``name`` or ``distribution:name``.

    Raises:
        PluginError: its Settings class cannot be used.
    """
    distribution, _, name = runtime.rpartition(":")
    for found in selection.installed(selection.SETTINGS):
        if found.name == name and distribution in ("", found.distribution):
            result = _declared(found)
            if result.error:
                raise PluginError(result.error)
            return result
    return Declared(name, distribution, {})


def settings_class(found: selection.Found) -> type:
    """The Settings class of a runtime.

    Raises:
        PluginError: it cannot be imported, or is none.
    """
    try:
        cls = found.entry_point.load()
        declared(cls)
    except Exception as error:
        raise PluginError(
            f"The settings of the runtime {found} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return cls  # type: ignore[no-any-return]  # attrs takes nothing but a class


def _declared(found: selection.Found) -> Declared:
    try:
        variables = declared(settings_class(found)).values()
    except PluginError as error:
        return Declared(found.name, found.distribution, {}, str(error))
    return Declared(found.name, found.distribution, {v.name: v for v in variables})
