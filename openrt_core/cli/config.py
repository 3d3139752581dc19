"""``openrt config``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from openrt_core.cli import console, options

if TYPE_CHECKING:
    from openrt_core.settings.report import Row


@click.command("config")
@options.json
@click.option(
    "--all", "everything", is_flag=True,
    help="Also what is not used here: settings of runtimes that are not installed, or of others.",
)  # fmt: skip
def command(as_json: bool, everything: bool) -> int:
    """Show every setting, its value and where it comes from.

    An argument goes before the environment, that before openrt.toml (or [tool.openrt] of
    pyproject.toml) of the project, that before openrt.toml of your config folder. Secrets are
    masked. The exit code is 1 when a setting is wrong.

    \b
    Example:
      SANDBOX_TIMEOUT=300 openrt config
    """
    from openrt_core.errors import SettingError
    from openrt_core.settings.loading import read
    from openrt_core.settings.notes import tell
    from openrt_core.settings.report import rows

    settings = read()
    found = [row for row in rows(settings) if row.shown or everything]
    click.echo(_json(found) if as_json else _table(found))
    wrong = [row for row in found if row.error]
    if wrong:
        return 1
    try:
        tell(settings, console.Reporter().emit)
    except SettingError as error:  # single values are right, but not together
        return console.failure(error, 1)
    return 0


def _json(rows: Sequence[Row]) -> str:
    import attrs

    return json.dumps([_plain(attrs.asdict(row)) for row in rows], indent=2)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    del row["shown"]
    return row


def _table(rows: Sequence[Row]) -> str:
    lines = [(row.name, _value(row), row.origin, row.note) for row in rows]
    widths = [min(40, max(len(line[column]) for line in lines)) for column in range(3)]
    return "\n".join(
        console.printable(
            "  ".join(f"{c:{w}}" for c, w in zip(line, (*widths, 0), strict=True))
        ).rstrip()
        for line in lines
    )


def _value(row: Row) -> str:
    if row.value is None:
        return "-"
    if isinstance(row.value, str):
        return row.value
    return json.dumps(row.value, ensure_ascii=False)
