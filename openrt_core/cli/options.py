"""Options that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


def environment(
    ctx: click.Context, parameter: click.Parameter, items: tuple[str, ...]
) -> dict[str, str]:
    """K=V, or K for the value that it has here."""
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name:
            raise click.BadParameter(f"{item!r} has no name; it takes NAME=VALUE or NAME.")
        if not equals and name not in os.environ:
            raise click.BadParameter(f"{name!r} is not set here; write {name}=VALUE.")
        found[name] = value if equals else os.environ[name]
    return found


def seconds(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A number above 0."""
    if value is not None and not (0 < value < math.inf):
        raise click.BadParameter("it takes seconds, a number above 0.")
    return value


def runtime_names(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The installed runtimes, for the shell's completion. Nothing of them is imported."""
    from click.shell_completion import CompletionItem

    from openrt_core import selection

    names = dict.fromkeys(found.name for found in selection.installed())
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


runtime = click.option(
    "--runtime", metavar="NAME", shell_complete=runtime_names,
    help="The runtime; else the setting RUNTIME (docker).",
)  # fmt: skip
timeout = click.option(
    "--timeout", type=float, callback=seconds, metavar="SECONDS",
    help="Kill it, with all that it started, after so long. Else SANDBOX_TIMEOUT, else no limit.",
)  # fmt: skip
interactive = click.option("-i", "--interactive", is_flag=True, help="Give it the stdin of openrt.")
tty = click.option(
    "-t", "--tty", is_flag=True,
    help="Give it a terminal, like the one on the stdin of openrt.",
)  # fmt: skip
json = click.option("--json", "as_json", is_flag=True, help="For programs.")


def of_a_sandbox(function: F) -> F:
    """The options that say what sandbox is made."""
    for option in reversed(_OF_A_SANDBOX):
        function = option(function)
    return function


_OF_A_SANDBOX = (
    runtime,
    click.option(
        "--image", metavar="IMAGE", help="The image; else SANDBOX_RUNTIME_CONTAINER_IMAGE."
    ),
    click.option(
        "-v", "--volume", "volumes", multiple=True, metavar="HOST:PATH[:MODE]",
        help="A mount; mode is rw, ro or overlay. Given, SANDBOX_VOLUMES does not count.",
    ),
    click.option(
        "-e", "--env", multiple=True, metavar="NAME[=VALUE]", callback=environment,
        help="A variable of the sandbox; without a value, the one that it has here.",
    ),
    click.option("--network", metavar="NETWORK", help="none, host, default or the name of one."),
    click.option("--user", type=click.IntRange(min=0), metavar="UID", help="The uid of commands."),
    click.option(
        "--workdir", metavar="PATH", help="The folder that commands run in; else /workspace."
    ),
    timeout,
    click.option("--keep", is_flag=True, help="Leave the sandbox when the command has ended."),
)  # fmt: skip


def spec_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``make_spec`` out of the values of ``of_a_sandbox``'s options."""
    names = ("image", "env", "network", "user", "workdir")
    arguments = {name: given[name] for name in names}
    return {**arguments, "volumes": given["volumes"] or None, "keep": given["keep"] or None}
