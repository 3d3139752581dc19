"""What openrt itself says, on stderr."""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from openrt_core.events import Event

debug = False
"""Whether errors come with their traceback; set by --debug."""


def printable(text: str) -> str:
    """One line in which nothing can steer a terminal: control characters are shown escaped."""
    spaced = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in spaced)


def say(message: str) -> None:
    """One line on stderr."""
    click.echo(f"openrt: {printable(message)}", err=True)


def failure(error: Exception, code: int) -> int:
    """Tells an error, its hint and its notes in one paragraph; with --debug, its traceback
    before.
    """
    from openrt_core.errors import OpenrtError

    if debug:
        traceback.print_exception(error)
    parts = [str(error), *getattr(error, "__notes__", ())]
    if isinstance(error, OpenrtError):
        parts.append(error.hint)
    else:
        parts[0] = f"{type(error).__name__}: {error}"
        parts.append(
            "This is a bug in openrt or in a plugin; --debug before the command shows where."
        )
    say(" ".join(map(_sentence, filter(None, parts))))
    return code


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def usage_error(error: click.ClickException, code: int) -> int:
    """Tells what was wrong with the arguments, and where the help is."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = f" `{context.command_path} --help` shows how." if context else ""
    say(error.format_message() + where)
    return code


class Reporter:
    """Shows events: notes and deprecations always, progress on one line of a terminal only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._terminal = sys.stderr.isatty()
        self._drawn = False

    def emit(self, event: Event) -> None:
        """Shows one event. Thread-safe."""
        with self._lock:
            if event.kind != "progress":
                self._clear()
                say(f"note: {event.message}")
            elif self._terminal:
                click.echo(
                    f"\r\x1b[K{printable(event.message)}{_amount(event)}", nl=False, err=True
                )
                self._drawn = True

    def clear(self) -> None:
        """Removes the line of progress."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        if self._drawn:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._drawn = False


def _amount(event: Event) -> str:
    if event.done is None:
        return ""
    of = "" if event.total is None else f"/{event.total:g}"
    return f" {event.done:g}{of} {event.unit}".rstrip()
