"""``openrt runtimes``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from openrt_core.cli import console, options

if TYPE_CHECKING:
    from openrt_core.selection import Found
    from openrt_core.settings import Settings


@click.command("runtimes")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=options.runtime_names)
@options.json
def command(names: tuple[str, ...], as_json: bool) -> int:
    """List the installed runtimes and what they can do.

    The exit code is 1 when one of them cannot be loaded.

    \b
    Examples:
      openrt runtimes
      openrt runtimes --json docker
    """
    from openrt_core import selection
    from openrt_core.settings.loading import read

    chosen = [selection.find(name) for name in names] if names else selection.installed()
    settings = read()
    described = [_describe(found, settings) for found in chosen]
    if as_json:
        click.echo(json.dumps(described, indent=2))
    elif described:
        click.echo("\n".join(_paragraph(entry) for entry in described))
    else:
        console.say("No runtime is installed. `pip install openrt-docker` installs one.")
    return 1 if any(entry["error"] for entry in described) else 0


def _describe(found: Found, settings: Settings) -> dict[str, Any]:
    from openrt_core import selection
    from openrt_core.errors import OpenrtError
    from openrt_core.manager import Manager

    entry: dict[str, Any] = {
        "name": found.name,
        "distribution": found.distribution,
        "version": found.version,
        "hooks": [],
        "features": [],
        "error": None,
    }
    try:
        plugin = selection.load(found, settings)
        capabilities = Manager(found.name, plugin, settings=settings).capabilities
    except OpenrtError as error:
        return {**entry, "error": str(error)}
    hooks, features = sorted(capabilities.hooks), sorted(capabilities.features)
    return {**entry, "hooks": hooks, "features": features}


def _paragraph(entry: dict[str, Any]) -> str:
    lines = [f"{entry['name']} ({entry['distribution']} {entry['version']})"]
    if entry["error"]:
        lines.append(f"  cannot be used: {entry['error']}")
    for kind in ("hooks", "features"):
        if entry[kind]:
            lines.append(f"  {kind}: {', '.join(entry[kind])}")
    return "\n".join(console.printable(line) for line in lines)
