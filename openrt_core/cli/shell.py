"""``openrt shell``."""

from __future__ import annotations

import os
from typing import Any, Final

import click

from openrt_core.cli import options

SHELL: Final = (
    "/bin/sh",
    "-c",
    "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi",
)


@click.command("shell")
@options.of_a_sandbox
def command(**given: Any) -> int:
    """Open a shell in a new sandbox.

    It is bash where the sandbox has one, else sh, and no login shell. The sandbox is removed when
    it ends, unless --keep says otherwise. Without a terminal it reads commands from stdin. The
    exit code is as for `openrt run`.

    \b
    Examples:
      openrt shell -v .:/workspace
      openrt shell --runtime local --network none < script.sh
    """
    from openrt_core.cli import running

    job = running.Job(
        argv=SHELL,
        runtime=given["runtime"],
        stdin=True,
        tty=os.isatty(0),
        timeout=given["timeout"],
    )
    return running.run(job, options.spec_arguments(given))
