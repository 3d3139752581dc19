"""``openrt doctor``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from openrt_core.cli import console, options

if TYPE_CHECKING:
    from openrt_core.cli.checkup import Report


@click.command("doctor")
@click.argument("names", nargs=-1, metavar="[RUNTIME]...", shell_complete=options.runtime_names)
@options.json
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Try the installed runtimes, one sandbox each, and say what is wrong.

    Each is loaded, asked whether its engine answers and its credentials are there, and makes one
    sandbox as the settings say, in which `true` is run, and which is removed. With names, these
    are tried. The exit code is 1 when the selected runtime fails, which is that of the setting
    RUNTIME, or with names each of them. No secret is shown.

    \b
    Examples:
      openrt doctor
      openrt doctor --json docker
    """
    from openrt_core.cli import checkup, running

    console.take_logs()
    reporter = console.Reporter()
    reports = []
    try:
        with running.signals():
            for report in checkup.examine(names, reporter.emit):
                reporter.clear()
                reports.append(report)
                if not as_json:
                    click.echo(_paragraph(report))
    except running.Interrupted as interrupt:
        reporter.clear()
        return running.interrupted(interrupt)
    if as_json:
        click.echo(json.dumps([_plain(report) for report in reports], indent=2))
    return 1 if any(report.selected and not report.ok for report in reports) else 0


def _paragraph(report: Report) -> str:
    head = f"{report.name} ({report.distribution} {report.version})".replace(" ( )", "")
    selected = ", selected" if report.selected else ""
    lines = [f"{head}: {'works' if report.ok else 'fails'}{selected}"]
    for step in report.steps:
        lines.append(f"  {step.name:12} {step.seconds:8.3f} s  {'ok' if step.ok else 'failed'}")
        if not step.ok:
            lines.append(f"    {step.error} {step.hint}".rstrip())
    return "\n".join(console.printable(line) for line in lines)


def _plain(report: Report) -> dict[str, Any]:
    import attrs

    return {**attrs.asdict(report), "ok": report.ok}
