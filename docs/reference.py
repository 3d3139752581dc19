"""The texts of docs/cli.md, docs/errors.md and docs/hooks.md, made from the code."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator

import click

import openrt_core
from openrt_core import errors as error_tree
from openrt_core import hookspecs, plugin
from openrt_core.cli.main import COMMANDS, openrt

MADE = "<!-- Made by docs/generate.py from {source}: change that, not this. -->\n"

CLI = """
# The command line

`openrt COMMAND --help` says the same as this. Options stand before the command that is to be run;
what stands behind it is its own. What openrt itself has to say goes to stderr, each error as one
paragraph with a hint.

| exit code | meaning |
|---|---|
| 0 to 255 | that of the command, with `run`, `shell` and `exec` |
| 124 | the command was killed at its time limit |
| 125 | openrt itself failed, or was called wrongly |
| 126 | the program could not be run |
| 127 | there is no such program |
| 128 + n | signal n ended the command, or openrt (130: Ctrl-C) |

A plugin adds a command with an entry point of the group `openrt.commands` that names a click
command.

Before the command: `--debug` shows the traceback of an error, `--version` the version.
"""

ERRORS = """
# Errors

Every error of openrt is an `OpenrtError`. It has a `code`, stable and made for programs; a
`hint`, what to do next; and `retryable`, whether the same call may succeed when it is simply made
again. Those below are the defaults of the class: an error may say more. Its `code` may be finer
than that of its class, for example `command.not_found` of a CommandNotStartedError.
"""

HOOKS = """
# Hooks

A runtime implements these hooks, wrappers go around them (`openrt_core.plugin` says how both are
installed). {intro}
"""


def commands() -> str:
    """docs/cli.md."""
    parent = click.Context(openrt, info_name="openrt")
    parts = [MADE.format(source="openrt_core/cli") + CLI]
    for name in COMMANDS:
        command = openrt.get_command(parent, name)
        assert command is not None
        parts.append(_command(command, click.Context(command, info_name=name, parent=parent)))
    return "\n".join(parts)


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {context.command_path}\n", f"```\n{usage}\n```\n"]
    for block in inspect.cleandoc(command.help or "").split("\n\n"):
        if not block.startswith("\b"):
            lines.append(block + "\n")
            continue
        title, _, text = block.removeprefix("\b").strip("\n").partition("\n")
        lines.append(f"{title}\n\n```\n{textwrap.dedent(text)}\n```\n")
    lines.extend(_option(p) for p in command.params if isinstance(p, click.Option))
    return "\n".join(lines) + "\n"


def _option(option: click.Option) -> str:
    # Not click's own record of it, which is another one in each version of click.
    value = "" if option.is_flag else f" {option.metavar}"
    repeated = " Can be given several times." if option.multiple else ""
    return f"- `{', '.join(option.opts)}{value}`: {option.help}{repeated}"


def errors() -> str:
    """docs/errors.md."""
    parts = [MADE.format(source="openrt_core/errors.py") + ERRORS]
    parts.extend(map(_error, error_classes()))
    return "\n".join(parts)


def error_classes() -> Iterator[type[error_tree.OpenrtError]]:
    """Every public class of openrt_core.errors, in its order."""
    for name, kind in vars(error_tree).items():
        public = inspect.isclass(kind) and not name.startswith("_")
        if public and issubclass(kind, error_tree.OpenrtError):
            yield kind


def _error(kind: type[error_tree.OpenrtError]) -> str:
    bases = [b.__name__ for b in kind.__mro__[1:] if _tells(b)]
    facts = [f"Code: `{kind.code}`.", f"Is a: {', '.join(f'`{base}`' for base in bases)}."]
    if kind.default_retryable:
        facts.append("Retryable.")
    if kind.default_hint:
        facts.append(f"Hint: {kind.default_hint}")
    return f"## {kind.__name__}\n\n{_docstring(kind)}\n\n{' '.join(facts)}\n"


def _tells(base: type) -> bool:
    return base is not object and base is not BaseException and not base.__name__.startswith("_")


def hooks() -> str:
    """docs/hooks.md."""
    intro = inspect.getdoc(hookspecs) or ""
    intro = intro.partition("\n\n")[2]
    parts = [MADE.format(source="the hookspecs in openrt_core") + HOOKS.format(intro=_prose(intro))]
    parts.extend(map(_hook, hook_functions()))
    features = [f"- `{name}`: {text}" for name, text in sorted(plugin.FEATURES.items())]
    parts.append("## Features\n\nWhat a runtime may name in `features`:\n\n" + "\n".join(features))
    return "\n".join(parts) + "\n"


def hook_functions() -> list[Callable[..., object]]:
    """Every hookspec of the core: the required ones first, then the core's own, then by name."""
    found = {}
    for module in pkgutil.iter_modules(openrt_core.__path__):
        if module.name.endswith("specs"):
            for value in vars(importlib.import_module(f"openrt_core.{module.name}")).values():
                if hasattr(value, f"{plugin.PROJECT}_spec"):
                    found[value.__name__] = value
    return sorted(found.values(), key=lambda f: (_standing(f.__name__), f.__name__))


def _standing(name: str) -> int:
    if name in hookspecs.REQUIRED:
        return 0
    return 1 if name in hookspecs.CORE else 2


def _hook(function: Callable[..., object]) -> str:
    name = function.__name__
    signature = inspect.signature(function)
    parameters = [f"{p.name}: {p.annotation}" for p in signature.parameters.values()]
    text = f"{name}({', '.join(parameters)}) -> {signature.return_annotation}"
    if len(text) > 96:
        lines = "".join(f"    {parameter},\n" for parameter in parameters)
        text = f"{name}(\n{lines}) -> {signature.return_annotation}"
    standing = ("Required.", "The core's own.", "Optional: a capability.")[_standing(name)]
    return f"## {name}\n\n```python\n{text}\n```\n\n{standing} {_docstring(function)}\n"


def _docstring(documented: object) -> str:
    """A docstring as Markdown: its sections become lists."""
    return _prose(inspect.getdoc(documented) or "")


def _prose(text: str) -> str:
    blocks = []
    for block in re.split(r"\n\n(?!    )", text):
        head, _, rest = block.partition("\n")
        if head in ("Args:", "Attributes:"):
            blocks.append("\n".join(_items(inspect.cleandoc(rest))))
        elif head == "Raises:":
            blocks.append(f"Raises: {inspect.cleandoc(rest)}")
        elif "::\n\n" in block:
            before, _, code = block.partition("::\n\n")
            blocks.append(f"{before}:\n\n```python\n{textwrap.dedent(code)}\n```")
        else:
            blocks.append(block)
    return re.sub(r"(?<!`)``(?!`)", "`", "\n\n".join(blocks))


def _items(text: str) -> Iterator[str]:
    for item in re.split(r"\n(?!    )", text):
        name, _, meaning = item.partition(": ")
        yield f"- `{name}`: {meaning}"
