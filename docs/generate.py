"""Writes the documents that are made from the code: ``python docs/generate.py``.

A test fails when one of them is stale (tests/core/test_docs.py).
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable

import reference

from openrt_core.settings import TABLE, Variable
from openrt_core.settings.values import takes
from openrt_core.settings.variables import APPLICATION, CORE

FOLDER = pathlib.Path(__file__).parent

INTRODUCTION = """\
<!-- Made by docs/generate.py from openrt_core/settings/table.py: change that, not this. -->

# Settings

An argument (`--timeout`, `Sandbox.create(image=…)`) goes before the environment, that before the
project's file, that before the user's file, that before the default. An empty value counts as not
set. `openrt config` shows every setting, its value and which of these it came from; secrets are
masked.

A value that a setting does not take is an error. A `SANDBOX_` variable that nobody knows is
reported, with the nearest known name. A variable that concerns the selected runtime, but that
this version of it does not honour, is an error.

## Values

- Booleans: true, 1, yes, on and false, 0, no, off, in any case.
- Lists: JSON (`["a", "b"]`), Python (`['a', 'b']`) or `a,b`.
- Dicts: JSON (`{"A": "1"}`) or Python (`{'A': '1'}`).

## Files

The project's file is the nearest `openrt.toml`, or `pyproject.toml` with a `[tool.openrt]` table,
in the current folder or in one above it, up to the one that holds `.git` or to the home folder.
Without either, only the current folder counts. The user's file is `openrt/openrt.toml` in
`$XDG_CONFIG_HOME` (`~/.config`).

A key is the variable's name in lower case, without `SANDBOX_`, at top level or in a `[sandbox]`
table:

```toml
runtime = "local"

[sandbox]
timeout = 300
volumes = "./src:/workspace,~/data:/data:ro"
runtime_startup_env_vars = { CI = "1" }
```

`$HOME` and `~` are expanded in files, never in the environment. A relative path is relative to
the project's file, and in the user's file to the current folder. A project's file must not set
secrets, or anything else marked *not in a project's file*: a repository that was merely checked
out must not redirect keys or take away a policy.

## SANDBOX_VOLUMES

`host_path:container_path[:mode]`, several separated by commas. The mode is `rw` (the default),
`ro` or `overlay` (a writable view; the host's folder is never touched).

- `~` and relative host paths are resolved. A name without a slash (`cache:/data`) is a named
  volume.
- The container path is absolute; commands run in `/workspace` by default.
- `C:\\dir:/workspace` works; `c:/data` is the volume `c`.
"""

TITLES = {
    CORE: "All runtimes",
    "openrt-docker": "openrt-docker",
    "openrt-remote": "openrt-remote",
    "openrt-modal": "openrt-modal",
    APPLICATION: "The OpenHands application",
}


def settings() -> str:
    """docs/settings.md."""
    parts = [INTRODUCTION]
    ordered = sorted(TABLE.values(), key=lambda v: list(TITLES).index(v.owner))
    for owner, variables in itertools.groupby(ordered, key=lambda v: v.owner):
        parts.append(f"## {TITLES[owner]}\n\n" + "\n".join(map(_entry, variables)))
    return "\n".join(parts)


def _entry(variable: Variable) -> str:
    name = f"{variable.name}X" if variable.prefix else variable.name
    lines = [f"### {name}\n", variable.help]
    if variable.owner == APPLICATION:
        return "\n".join(lines) + "\n"
    facts = [f"Takes {takes(variable)}."]
    if variable.default not in (None, {}, ()):
        facts.append(f"Default: `{_text(variable.default)}`.")
    facts.append(f"Example: `{name}={variable.example}`.")
    if variable.aliases:
        facts.append(f"Deprecated name: {', '.join(f'`{alias}`' for alias in variable.aliases)}.")
    if variable.secret or variable.user_only:
        facts.append("*Not in a project's file.*")
    if variable.by_runtime and variable.owner == CORE:
        facts.append("Only with runtimes that honour it.")
    return "\n".join([*lines, "", " ".join(facts)]) + "\n"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


DOCUMENTS: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "cli.md": reference.commands,
    "errors.md": reference.errors,
    "hooks.md": reference.hooks,
}
"""The text of each document, by its name in this folder."""


def main() -> None:
    """Writes them all."""
    for name, text in DOCUMENTS.items():
        (FOLDER / name).write_text(text(), "utf-8")


if __name__ == "__main__":
    main()
