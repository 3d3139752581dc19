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


line_end = "\n"
"""What ends our lines; a terminal that is raw needs a carriage return, too."""


def printable(text: str) -> str:
    """One line in which nothing can steer a terminal: control characters are shown escaped."""
    spaced = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in spaced)


def say(message: str) -> None:
    """One line on stderr."""
    click.echo(f"openrt: {printable(message)}{line_end}", err=True, nl=False)


def trace(error: BaseException) -> None:
    """With --debug, the traceback of an error."""
    if debug:
        for line in "".join(traceback.format_exception(error)).splitlines():
            click.echo(f"{printable(line)}{line_end}", err=True, nl=False)


def failure(error: Exception, code: int) -> int:
    """Tells an error, its hint and its notes in one paragraph; with --debug, its traceback
    before.
    """
    from openrt_core.errors import OpenrtError

    trace(error)
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


def take_logs() -> None:
    """Has what openrt and vendors' SDKs log, warn of and raise in threads told as we tell things:
    left alone, Python writes it to stderr as it is, whatever steers terminals in it.
    """
    import logging
    import threading

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1] is not None:
                trace(record.exc_info[1])
            say(f"note: {record.getMessage()}")

    def raised(problem: threading.ExceptHookArgs) -> None:
        if problem.exc_value is not None:
            trace(problem.exc_value)
        say(f"note: A thread failed: {problem.exc_type.__name__}: {problem.exc_value}")

    threading.excepthook = raised
    logging.captureWarnings(True)
    if not logging.root.handlers:
        logging.root.addHandler(Handler(logging.WARNING))


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
                line = printable(event.message + _amount(event))
                click.echo(f"\r\x1b[K{line}", nl=False, err=True)
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
