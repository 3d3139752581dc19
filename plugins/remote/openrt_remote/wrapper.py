"""The shell script that becomes a command.

The server runs ``/bin/sh -c`` in a session of its own and reports exactly how that process ended.
So the script sets all up and then *becomes* the program (exec): its exit code or signal is the
server's answer, and its process group is the command's. Output goes to files, byte for byte; what a
background child still holds open then stalls nobody.

In the command's folder: ``run`` (this script, removed when it starts: it holds the environment),
``pid``, ``out``, ``err``, ``fail`` (why the program was not started), ``in`` (a FIFO) and
``in.N.SIZE`` (what goes into it; SIZE 0 is the end).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from openrt_core.errors import UnsupportedError
from openrt_core.models import Command

NOT_STARTED: Final = 125
"""Exit status of a script that could not become the program; ``fail`` says why."""
REASONS: Final = {
    "cwd": "There is no folder {cwd!r} in the sandbox that may be entered.",
    "program": "There is no program {program!r} in the sandbox that may be run.",
    "stdin": "The sandbox has no mkfifo, which input for a command needs.",
}

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Shells refuse to set these, or to set them to any text.
_SHELLS_OWN: Final = frozenset(
    {"BASHOPTS", "BASH_VERSINFO", "EUID", "LINENO", "OPTIND", "PPID", "SHELLOPTS", "UID", "_"}
)
_SERVERS_OWN: Final = (
    "SESSION_API_KEY OH_SESSION_API_KEYS_0 OH_BASH_EVENTS_DIR OH_CONVERSATIONS_PATH"
)

# The pid is written first and only once: the same script never runs twice.
_BEGIN: Final = b"""
set -C
{ echo $$ >"$openrt_d/pid"; } 2>/dev/null || exit 125
set +C
fail() { echo "$1" >"$openrt_d/fail"; exit 125; }
rm -f "$openrt_d/run"
"""

# Which program exec will find; exec itself does not tell 127 of its own from the program's.
_LOOK: Final = b"""
look() (
  case $1 in */*) [ -f "$1" ] && [ -x "$1" ]; exit ;; esac
  set -f
  IFS=:
  for folder in $2; do
    if [ -f "${folder:-.}/$1" ] && [ -x "${folder:-.}/$1" ]; then exit 0; fi
  done
  exit 1
)
"""

# A feeder keeps the FIFO open until the last part, or until the command is over. It sleeps longer
# when nothing came for a second.
_FEED: Final = b"""
mkfifo -m 600 "$openrt_d/in" || fail stdin
feed() {
  exec >"$openrt_d/in"
  n=0 idle=0
  while kill -0 $$ || [ -d /proc/$$ ]; do
    for part in "$openrt_d/in.$n."*; do :; done
    size=${part##*.}
    if [ -f "$part" ] && [ "$(wc -c <"$part")" -eq "$size" ]; then
      [ "$size" -eq 0 ] && exit
      cat "$part" || exit
      rm -f "$part"
      n=$((n + 1)) idle=0
    elif [ $idle -lt 50 ]; then
      idle=$((idle + 1))
      sleep 0.02 || sleep 1
    else
      sleep 0.2 || sleep 1
    fi
  done
}
( feed </dev/null 2>/dev/null & )
exec <"$openrt_d/in"
"""

# Waits for the pid: the server answers before the script has begun. (dash takes no -- here.)
_SIGNAL: Final = """openrt_d={folder}
n=0
while [ ! -s "$openrt_d/pid" ] && [ $n -lt 50 ]; do sleep 0.1 || sleep 1; n=$((n + 1)); done
read -r p <"$openrt_d/pid" && kill -{number} "{sign}$p"
"""


def quoted(text: str) -> bytes:
    """A word of the shell that stands for ``text``, whatever bytes it holds."""
    return b"'" + os.fsencode(text).replace(b"'", b"'\\''") + b"'"


def quoted_text(text: str) -> str:
    """The same for a script that goes as JSON."""
    return "'" + text.replace("'", "'\\''") + "'"


def settable(name: str) -> bool:
    """Whether the shell can pass on a variable of this name."""
    return _NAME.fullmatch(name) is not None and name not in _SHELLS_OWN


def check_names(environment: Mapping[str, str]) -> None:
    """Refuses what the shell cannot pass on.

    Raises:
        UnsupportedError: before anything has run.
    """
    for name in environment:
        if not settable(name):
            raise UnsupportedError(
                f"The remote runtime cannot set the variable {name!r}: a shell has to.",
                hint="Set it in the command itself: env NAME=VALUE program.",
            )


def script(command: Command, folder: str, environment: Mapping[str, str], cwd: str) -> bytes:
    """The text of ``run``.

    Args:
        command: what to run.
        folder: the command's own, without quotes in its name.
        environment: the sandbox's and the command's, one over the other.
        cwd: absolute.
    """
    errors = b"2>&1" if command.merge_stderr else b'2>"$openrt_d/err"'
    path = quoted(environment["PATH"]) if "PATH" in environment else b'"$PATH"'
    exports = [
        b"export " + name.encode() + b"=" + quoted(value) for name, value in environment.items()
    ]
    lines = [
        b"openrt_d=" + quoted(folder),
        _BEGIN,
        b'exec </dev/null >"$openrt_d/out" ' + errors,
        b"cd " + quoted(cwd) + b" 2>/dev/null || fail cwd",
        b"unset OLDPWD " + _SERVERS_OWN.encode(),
        _LOOK,
        b"look " + quoted(command.argv[0]) + b" " + path + b" || fail program",
        _FEED if command.stdin else b"",
        *exports,
        b"exec " + b" ".join(quoted(word) for word in command.argv),
    ]
    return b"\n".join(lines) + b"\n"


def invocation(folder: str) -> str:
    """What the server is told to run."""
    return f". '{folder}/run'"


def signal_script(folder: str, number: int, *, group: bool) -> str:
    """Sends a signal to a command or its process group."""
    return _SIGNAL.format(folder=f"'{folder}'", number=number, sign="-" if group else "")


def alive_script(folder: str) -> str:
    """Status 0 as long as the command is there."""
    # kill may not be allowed, for one that became another user's.
    return f"read -r p <'{folder}/pid' && {{ kill -0 $p 2>/dev/null || [ -d /proc/$p ]; }}"


def removal(folders: list[str], events: list[UUID], events_folder: str) -> str:
    """Removes what is left of commands, and the server's records of them: it looks through all of
    those each time it is asked about one."""
    records = " ".join(f"*_{event.hex}*" for event in events)
    kept = " ".join(f"'{folder}'" for folder in folders)
    return f"rm -rf {kept}; cd '{events_folder}' && exec rm -f {records}"


def failure(reason: str, command: Command, cwd: str) -> str:
    """The sentence for what ``fail`` holds."""
    known = REASONS.get(reason.strip(), "The program {program!r} could not be started.")
    return known.format(cwd=cwd, program=command.argv[0])
