"""``openrt exec``."""

from __future__ import annotations

import click

from openrt_core.cli import options


@click.command("exec", context_settings={"allow_interspersed_args": False})
@options.runtime
@click.option(
    "-e", "--env", multiple=True, metavar="NAME[=VALUE]", callback=options.environment,
    help="A variable of the command; without a value, the one that it has here.",
)  # fmt: skip
@click.option("--user", metavar="USER", help="The uid or the name of its user.")
@click.option(
    "--workdir", metavar="PATH", help="The folder that it runs in; else that of the sandbox."
)
@options.timeout
@options.interactive
@options.tty
@click.argument("id")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
def command(
    runtime: str | None,
    env: dict[str, str],
    user: str | None,
    workdir: str | None,
    timeout: float | None,
    interactive: bool,
    tty: bool,
    id: str,
    argv: tuple[str, ...],
) -> int:
    """Run one command in a sandbox that is there.

    The sandbox is one that another process has open, or that was kept; it lives on. Exit codes,
    -i and -t are as for `openrt run`.

    \b
    Examples:
      openrt exec 0f3a… -- ls -l
      openrt exec --runtime local -it 0f3a… -- bash
    """
    from openrt_core.cli import running

    # As in other programs: `exec ID -- CMD`. What stands behind the id is never ours to read.
    argv = argv[1:] if argv[0] == "--" and len(argv) > 1 else argv
    job = running.Job(
        argv=argv,
        runtime=runtime,
        stdin=interactive,
        tty=tty,
        timeout=timeout,
        command={
            "env": env,
            "cwd": workdir,
            "user": int(user) if user is not None and user.isdecimal() else user,
        },
    )
    return running.execute(job, id)
