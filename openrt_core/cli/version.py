"""``openrt version``."""

from __future__ import annotations

import importlib.metadata
import platform

import click

from openrt_core.cli import console


def own_version() -> str:
    """The version of openrt-core."""
    return importlib.metadata.version("openrt-core")


@click.command("version")
def command() -> None:
    """Show the versions of openrt and its runtimes.

    \b
    Example:
      openrt version
    """
    from openrt_core import selection

    click.echo(f"openrt {own_version()} (Python {platform.python_version()})")
    for found in selection.installed():
        line = f"{found.distribution} {found.version} (runtime {found.name})"
        click.echo(console.printable(line))
