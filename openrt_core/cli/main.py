"""``openrt``: finds the command, runs it, and turns what it raises into a message and an exit
code.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from openrt_core.cli import console

FAILED = 125
"""Exit code when openrt itself failed, told apart from the codes of commands (as `docker run`
does).
"""
INTERRUPTED = 130

COMMANDS = {
    "run": "Run one command in a new sandbox.",
    "shell": "Open a shell in a new sandbox.",
    "exec": "Run one command in a sandbox that is there.",
    "rm": "Remove sandboxes by their ids.",
    "runtimes": "List the installed runtimes and what they can do.",
    "config": "Show every setting, its value and where it comes from.",
    "doctor": "Try the installed runtimes, one sandbox each, and say what is wrong.",
    "completion": "Print the script that has a shell complete openrt's words.",
    "version": "Show the versions of openrt and its runtimes.",
}
"""The commands with their line in --help: the help imports none of them."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"openrt_core.cli.{cmd_name}")
            command: click.Command = module.command
            return command
        return _from_a_plugin(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _from_a_plugin(name: str) -> click.Command | None:
    """A command of the entry point group ``openrt.commands``."""
    from importlib.metadata import entry_points

    from openrt_core.errors import PluginError

    found = list(entry_points(group="openrt.commands", name=name))
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(point.dist.name if point.dist else "?" for point in found)
        raise PluginError(f"Several distributions offer the command {name!r}: {names}.")
    try:
        command = found[0].load()
    except Exception as error:
        raise PluginError(
            f"The command {name!r} ({found[0].value}) cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(command, click.Command):
        raise PluginError(f"The command {name!r}: {found[0].value} is no click command.")
    return command


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from openrt_core.cli.version import own_version

        click.echo(f"openrt {own_version()}")
        ctx.exit()


def _debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    console.debug = value


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_debug,
    help="Show the traceback of an error.",
)  # fmt: skip
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version,
    help="Show the version and exit.",
)  # fmt: skip
def openrt() -> None:
    """Run commands in a sandbox, and choose with one variable where the sandbox lives.

    \b
    Examples:
      openrt run -- echo hello                     in a container of this machine
      RUNTIME=local openrt run -v .:/workspace -- make test
      openrt runtimes                              what is installed here
      openrt config                                what holds here, and why
    """


def _open_streams() -> None:
    """Has 0, 1 and 2 stand for something: when one is closed, the next file to be opened would
    be taken for it.
    """
    for _ in range(3):
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; None for those of this process.

    Returns:
        The exit code: of the command for ``run``, 0 when all went well, 125 when openrt failed,
        130 after Ctrl-C.
    """
    console.debug = False
    _open_streams()
    try:
        result: Any = openrt.main(arguments, prog_name="openrt", standalone_mode=False)
    except click.ClickException as error:
        return console.usage_error(error, FAILED)
    except click.Abort:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last resort: told, and exit code 125
        return console.failure(error, FAILED)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
