"""Where settings come from: the environment and files of TOML."""

from __future__ import annotations

import os
import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from openrt_core.errors import SettingError
from openrt_core.settings.variables import Variable, file_key

SourceKind = Literal["argument", "environment", "project", "user", "default"]
FILE = "openrt.toml"


@attrs.frozen(kw_only=True)
class Source:
    """One place that sets variables.

    Attributes:
        kind: which of the places it is.
        label: for a person: ``environment``, or the path of a file.
        values: raw values by the variable's name; in a file by its key.
        folder: what relative paths in it are relative to.
    """

    kind: SourceKind
    label: str
    values: Mapping[str, Any] = attrs.field(repr=False)
    folder: pathlib.Path

    @property
    def is_file(self) -> bool:
        """Whether its values have the keys and the types of TOML."""
        return self.kind in ("project", "user")

    @staticmethod
    def key(name: str) -> str:
        """The key in a file of the variable of this name."""
        return file_key(name)

    def find(self, name: str) -> Any:
        """The raw value of the variable of this name; None when it is not set, or empty."""
        value = self.values.get(self.key(name) if self.is_file else name)
        return None if isinstance(value, str) and not value.strip() else value

    def family(self, variable: Variable) -> dict[str, Any]:
        """The members of a family, by what follows its prefix; empty values count here."""
        start = variable.key if self.is_file else variable.name
        return {
            name.removeprefix(start): value
            for name, value in self.values.items()
            if name.startswith(start) and name != start
        }


def home_of(environ: Mapping[str, str]) -> pathlib.Path:
    """The user's home folder."""
    return pathlib.Path(environ.get("HOME") or os.path.expanduser("~"))


def expand(value: object, home: pathlib.Path) -> object:
    """``$HOME`` and a leading ``~`` of a text, or of the texts of a list, replaced by the home
    folder.
    """
    if isinstance(value, list):
        return [expand(item, home) for item in value]
    if not isinstance(value, str):
        return value
    text = re.sub(r"\$(?:HOME\b|\{HOME\})", lambda _: str(home), value)
    return re.sub(r"(^|,)(\s*)~(?=/|$)", lambda m: f"{m[1]}{m[2]}{home}", text)


def project_file(folder: pathlib.Path, home: pathlib.Path) -> Source | None:
    """The nearest openrt.toml, or pyproject.toml with a ``[tool.openrt]``, of the project that
    ``folder`` is in.

    The folders above are the project's up to the one with ``.git`` or the home folder; without
    either, only
    ``folder`` itself is. A file above that belongs to a third user is passed over: in a shared
    folder it is not ours.
    """
    if not folder.is_dir():
        raise SettingError(f"The folder {folder} does not exist.", hint="")
    trusted = {0, os.getuid(), folder.stat().st_uid}
    for place in _project_folders(folder, home):
        source = _file_in(place)
        if source is not None and (place == folder or os.stat(source.label).st_uid in trusted):
            return source
    return None


def _project_folders(folder: pathlib.Path, home: pathlib.Path) -> list[pathlib.Path]:
    folders = []
    for place in (folder, *folder.parents):
        folders.append(place)
        if place == home or os.path.exists(place / ".git"):
            return folders
    return [folder]


def _file_in(folder: pathlib.Path) -> Source | None:
    own, shared = folder / FILE, folder / "pyproject.toml"
    tool = _read(shared).get("tool", {})
    table = tool.get("openrt") if isinstance(tool, dict) else None
    if os.path.isfile(own):
        if table is not None:
            raise SettingError(
                f"{own} and [tool.openrt] in {shared} both have settings; keep one.", hint=""
            )
        return _source("project", own, _read(own), folder)
    return None if table is None else _source("project", shared, table, folder)


def user_file(
    environ: Mapping[str, str], home: pathlib.Path, folder: pathlib.Path
) -> Source | None:
    """The openrt.toml in the user's config folder. Relative paths in it are relative to
    ``folder``.
    """
    base = pathlib.Path(environ.get("XDG_CONFIG_HOME", ""))
    path = (base if base.is_absolute() else home / ".config") / "openrt" / FILE
    return _source("user", path, _read(path), folder) if os.path.isfile(path) else None


def _read(path: pathlib.Path) -> dict[str, Any]:
    if not os.path.isfile(path):  # nor in a folder that we may not look into
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read: {error}", hint="") from error


def _source(kind: SourceKind, path: pathlib.Path, table: object, folder: pathlib.Path) -> Source:
    if not isinstance(table, dict):
        raise SettingError(f"[tool.openrt] in {path} is no table.", hint="")
    sandbox = table.get("sandbox", {})
    if not isinstance(sandbox, dict):
        raise SettingError(f"sandbox in {path} is {sandbox!r}; it is a table, [sandbox].", hint="")
    top = {key: value for key, value in table.items() if key != "sandbox"}
    twice = sorted(top.keys() & sandbox.keys())
    if twice:
        raise SettingError(f"{path} sets {twice[0]} twice: at top level and in [sandbox].", hint="")
    return Source(kind=kind, label=str(path), values={**top, **sandbox}, folder=folder)
