"""``openrt run``."""

from __future__ import annotations

import math
import os

import click

from openrt_core.cli import console


def _environment(
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


def _seconds(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (0 < value < math.inf):
        raise click.BadParameter("it takes seconds, a number above 0.")
    return value


@click.command(
    "run", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False}
)
@click.option("--runtime", metavar="NAME", help="The runtime; else the setting RUNTIME (docker).")
@click.option("--image", metavar="IMAGE", help="The image; else SANDBOX_RUNTIME_CONTAINER_IMAGE.")
@click.option(
    "-v", "--volume", "volumes", multiple=True, metavar="HOST:PATH[:MODE]",
    help="A mount; mode is rw, ro or overlay. Given, SANDBOX_VOLUMES does not count.",
)  # fmt: skip
@click.option(
    "-e", "--env", multiple=True, metavar="NAME[=VALUE]", callback=_environment,
    help="A variable of the sandbox; without a value, the one that it has here.",
)  # fmt: skip
@click.option("--network", metavar="NETWORK", help="none, host, default or the name of one.")
@click.option("--user", type=click.IntRange(min=0), metavar="UID", help="The uid of the command.")
@click.option("--workdir", metavar="PATH", help="The folder that it runs in; else /workspace.")
@click.option(
    "--timeout", type=float, callback=_seconds, metavar="SECONDS",
    help="Kill it, with all that it started, after so long. Else SANDBOX_TIMEOUT, else no limit.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Leave the sandbox when the command has ended.")
@click.option("-i", "--interactive", is_flag=True, help="Give it the stdin of openrt.")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
def command(
    runtime: str | None,
    image: str | None,
    volumes: tuple[str, ...],
    env: dict[str, str],
    network: str | None,
    user: int | None,
    workdir: str | None,
    timeout: float | None,
    keep: bool,
    interactive: bool,
    argv: tuple[str, ...],
) -> int:
    """Run one command in a new sandbox.

    Its output comes as it is written, byte for byte, and its exit code is that of openrt: 128 and
    the signal when a
    signal ended it, 124 at the time limit, 127 when there is no such program, 126 when it cannot
    be run, 130 after
    Ctrl-C, 125 when openrt itself failed. No shell is involved; for one, run `sh -c '…'`.

    \b
    Examples:
      openrt run -- python3 -c 'print("hello")'
      openrt run -v .:/workspace -v ~/data:/data:ro -e TOKEN -- make test
      openrt run --runtime local --network none --timeout 60 -- ./untrusted.sh
      tar c src | openrt run -i --image debian:12 -- tar tv
    """
    from openrt_core.cli import running

    return running.run(
        argv,
        runtime=runtime,
        interactive=interactive,
        timeout=timeout,
        reporter=console.Reporter(),
        arguments={
            "image": image,
            "volumes": volumes or None,
            "env": env,
            "network": network,
            "user": user,
            "workdir": workdir,
            "keep": keep or None,
        },
    )
