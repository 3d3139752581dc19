"""``openrt rm``."""

from __future__ import annotations

import click

from openrt_core.cli import console, options


@click.command("rm")
@options.runtime
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def command(runtime: str | None, ids: tuple[str, ...]) -> int:
    """Remove sandboxes by their ids.

    Whoever made them, and whatever runs in them. Prints the ids of those that were removed. The
    exit code is 1 when one was not there, 125 when one could not be removed; the others are
    removed all the same.

    \b
    Example:
      openrt rm --runtime docker 0f3a…
    """
    from openrt_core.cli.main import FAILED
    from openrt_core.errors import OpenrtError
    from openrt_core.manager import Manager
    from openrt_core.models import SandboxHandle

    console.take_logs()
    manager = Manager.open(runtime, emit=console.Reporter().emit)
    handles = [SandboxHandle(runtime=manager.name, id=id) for id in ids]
    code = 0
    for handle in handles:
        try:
            was_there = manager.teardown(handle)
        except OpenrtError as error:
            code = console.failure(error, FAILED)
            continue
        if was_there:
            click.echo(handle.id)
            continue
        console.say(f"The runtime {manager.name!r} has no sandbox {handle.id}.")
        code = code or 1
    return code
