"""``openrt run``."""

from __future__ import annotations

from typing import Any

import click

from openrt_core.cli import options


@click.command("run", context_settings={"allow_interspersed_args": False})
@options.of_a_sandbox
@options.interactive
@options.tty
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
def command(argv: tuple[str, ...], interactive: bool, tty: bool, **given: Any) -> int:
    """Run one command in a new sandbox.

    Its output comes as it is written, byte for byte, and its exit code is that of openrt: 128 and
    the signal when a signal ended it, 124 at the time limit, 127 when there is no such program,
    126 when it cannot be run, 130 after Ctrl-C, 125 when openrt itself failed. No shell is
    involved; for one, run `sh -c '…'`, or `openrt shell`.

    With -it it has the terminal: keys, Ctrl-C among them, are its own until it ends. What ends it
    from outside then is a signal to openrt, or its time limit.

    \b
    Examples:
      openrt run -- python3 -c 'print("hello")'
      openrt run -v .:/workspace -v ~/data:/data:ro -e TOKEN -- make test
      openrt run --runtime local --network none --timeout 60 -- ./untrusted.sh
      tar c src | openrt run -i --image debian:12 -- tar tv
      openrt run -it --image python:3.12 -- python3
    """
    from openrt_core.cli import running

    job = running.Job(
        argv=argv,
        runtime=given["runtime"],
        stdin=interactive,
        tty=tty,
        timeout=given["timeout"],
    )
    return running.run(job, options.spec_arguments(given))
