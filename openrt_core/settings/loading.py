"""Settings: looked up in their sources, in the order of precedence, with their origin kept."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from openrt_core import volumes
from openrt_core.errors import SettingError
from openrt_core.models import Mount
from openrt_core.settings import values
from openrt_core.settings.core import CoreSettings
from openrt_core.settings.sources import Source, expand, home_of, project_file, user_file
from openrt_core.settings.table import TABLE
from openrt_core.settings.variables import Variable, declared

T = TypeVar("T")


@attrs.frozen
class Found:
    """A variable that is set.

    Attributes:
        name: as it was written: the variable's name or one of its aliases.
        raw: the value as it stands there.
        source: where.
    """

    name: str
    raw: Any = attrs.field(repr=False)
    source: Source


class Settings:
    """All sources of settings of one call, read once.

    Attributes:
        sources: in the order of precedence.
        home: the user's home folder.
        folder: the current folder.
    """

    def __init__(
        self, sources: tuple[Source, ...], *, home: pathlib.Path, folder: pathlib.Path
    ) -> None:
        self.sources = sources
        self.home = home
        self.folder = folder

    @functools.cached_property
    def core(self) -> CoreSettings:
        """The settings that the core uses.

        Raises:
            SettingError: one has a value that it does not take.
        """
        return self._make(CoreSettings)

    def get(self, name: str) -> Any:
        """The typed value of one variable of the table; its default when it is not set.

        Raises:
            SettingError: it has a value that it does not take, or is not known.
        """
        return self.value(_known(name))

    def is_set(self, name: str) -> bool:
        """Whether a variable of the table is set anywhere, by its name or an alias."""
        variable = _known(name)
        return bool(self.family(variable)) if variable.prefix else self.find(variable) is not None

    def for_runtime(self, name: str, cls: type[T]) -> T:
        """An instance of the Settings class of a runtime.

        Args:
            name: of the runtime.
            cls: the attrs class that its ``openrt.settings`` entry point names.

        Raises:
            SettingError: one has a value that it does not take.
            TypeError: a field of the class was not made by ``setting``.
        """
        del name  # one runtime's variables do not depend on what it is installed as
        return self._make(cls)

    def _make(self, cls: type[T]) -> T:
        return cls(**{field: self.value(v) for field, v in declared(cls).items()})

    def value(self, variable: Variable) -> Any:
        """The typed value of a variable; its default when it is not set.

        Raises:
            SettingError: it has a value that it does not take.
        """
        if variable.prefix:
            return {
                key: self._read(attrs.evolve(variable, kind="dict"), found, {key: found.raw})[key]
                for key, found in self.family(variable).items()
            }
        found = self.find(variable)
        if found is not None:
            return self._read(variable, found, found.raw)
        default = variable.default
        return dict(default) if isinstance(default, dict) else default

    def find(self, variable: Variable) -> Found | None:
        """Where a variable is set, by precedence; within one source its name goes before its
        aliases.

        Raises:
            SettingError: the project's file sets it, which must not.
        """
        for source in self.sources:
            for name in (variable.name, *variable.aliases):
                raw = source.find(name)
                if raw is not None:
                    _refuse_project(variable, source)
                    return Found(name, raw, source)
        return None

    def family(self, variable: Variable) -> dict[str, Found]:
        """The members of a family that are set, by what follows the prefix."""
        members: dict[str, Found] = {}
        for source in reversed(self.sources):
            for key, raw in source.family(variable).items():
                members[key] = Found(variable.name + key, raw, source)
        return members

    def mounts(self) -> tuple[Mount, ...]:
        """The mounts of SANDBOX_VOLUMES; when that is not set, of the WORKSPACE_* variables.

        Relative paths are relative to the current folder; in a project's file to the folder of the
        file, so that
        they mean the same wherever in the project openrt is called.

        Raises:
            VolumeError: they cannot be read.
        """
        found = self.find(TABLE["SANDBOX_VOLUMES"])
        if found is None:
            return self.workspace_mounts()
        return volumes.parse(self.core.volumes or "", home=self.home, cwd=found.source.folder)

    def workspace_mounts(self) -> tuple[Mount, ...]:
        """The mount of the WORKSPACE_* variables, or none.

        Raises:
            VolumeError: they cannot be read.
        """
        return volumes.from_workspace(
            base=self.core.workspace_base,
            mount_path=self.core.workspace_mount_path,
            rewrite=self.core.workspace_mount_rewrite,
            target=self.core.workspace_mount_path_in_sandbox,
            home=self.home,
            cwd=self.folder,
        )

    def _read(self, variable: Variable, found: Found, raw: Any) -> Any:
        if found.source.is_file and variable.expand and not variable.secret:
            raw = expand(raw, self.home)
        try:
            return values.read(variable, raw, found.source.folder)
        except (ValueError, OverflowError) as error:
            raise _refusal(variable, found) from error


def _known(name: str) -> Variable:
    if name not in TABLE:
        raise SettingError(f"{name} is no setting of openrt.")
    return TABLE[name]


def _refusal(variable: Variable, found: Found) -> SettingError:
    where = "" if found.source.kind == "argument" else f" ({found.source.label})"
    example = f", for example {found.name}={variable.example}" if variable.example else ""
    return SettingError(
        f"{found.name}{where} is {values.show(variable, found.raw)}; "
        f"it takes {values.takes(variable)}{example}."
    )


def _refuse_project(variable: Variable, source: Source) -> None:
    """A repository that was merely checked out must not set keys, or say where they are sent."""
    if source.kind == "project" and (variable.secret or variable.user_only):
        raise SettingError(
            f"{source.label} sets {variable.key}, which a project's file must not.",
            hint=f"Set {variable.name} in the environment or in your own openrt.toml.",
        )


def read(
    environ: Mapping[str, str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    runtime: str | None = None,
) -> Settings:
    """As ``load``, but values are looked at only when they are asked for."""
    environ = os.environ if environ is None else environ
    try:
        place = pathlib.Path(os.getcwd() if folder is None else os.path.abspath(folder))
    except FileNotFoundError as error:
        raise SettingError("The current folder does not exist any more.", hint="") from error
    home = home_of(environ)
    given = {} if runtime is None else {"RUNTIME": runtime}
    sources = (
        Source(kind="argument", label="argument", values=given, folder=place),
        Source(kind="environment", label="environment", values=dict(environ), folder=place),
        project_file(place, home),
        user_file(environ, home, place),
    )
    return Settings(tuple(s for s in sources if s is not None), home=home, folder=place)


def load(
    environ: Mapping[str, str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    runtime: str | None = None,
) -> Settings:
    """The settings that hold here: argument > environment > project's file > user's file > default.

    Args:
        environ: the environment; None for that of this process.
        folder: the current folder, where the project's openrt.toml is looked for; None for that of
            this process.
        runtime: goes before RUNTIME.

    Raises:
        SettingError: a file cannot be read, or a variable that the core uses has a value that it
        does not take.
    """
    settings = read(environ, folder, runtime)
    for variable in TABLE.values():
        if not variable.prefix and (variable.secret or variable.user_only):
            settings.find(variable)
    settings.core  # noqa: B018  reading it is the check
    return settings
