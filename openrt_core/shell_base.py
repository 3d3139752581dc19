"""What ``Shell`` and ``AsyncShell`` share: the state of a session, and what its helpers say."""

from __future__ import annotations

import os
import posixpath
import secrets
from typing import Final

import attrs

from openrt_core import shell_scripts as scripts
from openrt_core.base import CommandArguments, SandboxBase, checked
from openrt_core.errors import (
    CommandError,
    CommandNotStartedError,
    CommandTimedOutError,
    OpenrtError,
    SandboxGoneError,
    SettingError,
    TransportError,
    UnsupportedError,
)
from openrt_core.models import ExecResult
from openrt_core.process import Process
from openrt_core.shell_steps import RunArguments, ShellArguments, Step, Steps

NEEDED: Final = ("streams", "kill_tree")
"""Features of a runtime without which there are no sessions."""
STEP_LIMIT: Final = 30.0
"""Seconds for each step of making a session, and of its end."""
RECOVER_LIMIT: Final = 10.0
"""Seconds that the shell has to come back once its command was killed; it is asked twice."""
ARGUMENT_LIMIT: Final = 64 * 1024
"""Bytes of a command that is handed over as an argument; Linux takes 128 KiB."""

_SHELL_LOST: Final = 9
"""The signal by which a helper of RUN says that it has no status to tell."""
_INTERRUPTED: Final = 130
"""``$?`` after a command that was dropped."""


class ShellBase:
    """The state of one session, without the calls that wait."""

    def __init__(self, sandbox: SandboxBase, arguments: ShellArguments) -> None:
        missing = [name for name in NEEDED if name not in sandbox.capabilities.features]
        if missing:
            raise UnsupportedError(
                f"The runtime {sandbox.runtime!r} cannot do a shell session "
                f"(feature {' and '.join(missing)})."
            )
        unknown = set(arguments) - ShellArguments.__annotations__.keys()
        if unknown:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
        self._sandbox = sandbox
        self._arguments = arguments
        self._name = f".openrt-shell-{secrets.token_hex(16)}"
        self._folder = ""
        self._pid = ""
        self._last = 0
        self._main: Process | None = None
        self._helper: Process | None = None
        self._closed = False
        self._ending = False

    @property
    def closed(self) -> bool:
        """Whether it is over: closed here, or its shell has ended."""
        return self._closed

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<{type(self).__name__} {self._pid}{state}>"

    def _check_open(self) -> None:
        if self._closed:
            raise CommandError(
                "The shell session is over.",
                hint="Start another one with sandbox.shell().",
                code="command.session_over",
            )

    # What it does, as steps that the caller makes, waiting or awaiting ----------------------------

    def _open(self) -> Steps[None]:
        result = yield self._step(scripts.SETUP, self._name)
        program = self._read_setup(result)
        try:
            yield self._main_step(program)
            result = yield self._step(scripts.HELLO, self._folder, new_token())
            self._raise_lost()
            self._read_hello(result)
        except Exception as error:
            yield from self._end_after(error)
            raise

    def _run(self, command: str, check: bool, arguments: RunArguments) -> Steps[ExecResult]:
        self._check_open()
        step = self._run_step(command, arguments)
        try:
            result = yield step
        except CommandTimedOutError as error:
            raise (yield from self._timed_out(error)) from None
        except Exception as error:
            # What the shell does now is not known.
            yield from self._end_after(error)
            raise
        if result.signal == _SHELL_LOST:
            result = yield from self._ended(result)
        self._last = result.exit_code
        return checked(result, check)

    def _timed_out(self, error: CommandTimedOutError) -> Steps[CommandTimedOutError]:
        """Has the shell drop its command, and ends the session when it does not."""
        told = error.message.rstrip(".")
        self._last = _INTERRUPTED
        for _ in range(2):
            try:
                recover = (self._folder, new_token(), self._pid)
                result = yield self._step(scripts.RECOVER, *recover, limit=RECOVER_LIMIT)
            except CommandTimedOutError:
                continue
            except OpenrtError:
                break
            if result.ok:
                message = f"{told}; the shell session goes on."
                return CommandTimedOutError(message, result=error.result)
            break
        yield from self._end_after(error)
        return CommandTimedOutError(
            f"{told}, and the shell session with it: the shell did not come back.",
            result=error.result,
            hint="A builtin that cannot be interrupted, or a command that removed the trap on "
            f"signal {scripts.ABORT}, ends with its session. Start another with sandbox.shell().",
        )

    def _ended(self, result: ExecResult) -> Steps[ExecResult]:
        """The result of a command with which the shell ended."""
        told = ""
        if not self._closed:
            try:
                self._raise_lost()
                told = (yield self._step(scripts.ENDED, self._folder)).text
            except Exception as error:
                yield from self._end_after(error)
                raise
            yield from self._end()
        if not told.isdecimal() or int(told) > 255:
            raise CommandError(
                "The shell session was closed while the command ran, or was lost: its shell or a "
                "helper of it was killed, or its folder was removed.",
                hint="Start another one with sandbox.shell().",
                code="command.session_lost",
            )
        return attrs.evolve(result, exit_code=int(told), signal=None)

    def _raise_lost(self) -> None:
        """Raises what the session's processes were lost by, if they were."""
        if self._main is not None and self._main.done:
            self._main.poll()

    def _end(self) -> Steps[None]:
        """Kills all of it and removes its folder. Idempotent."""
        self._closed = True
        if self._ending:
            return
        self._ending = True
        if self._main is not None:
            self._main.kill()
            yield None
        if self._folder and not self._sandbox.closed:
            try:
                yield self._step(scripts.REMOVE, self._folder)
            except SandboxGoneError:
                return

    def _end_after(self, error: Exception) -> Steps[None]:
        """Ends it because of ``error``, which is what the user has to see."""
        try:
            yield from self._end()
        except OpenrtError as failure:
            error.add_note(f"Closing the shell session failed: {failure}")

    # Its steps ------------------------------------------------------------------------------------

    def _step(self, script: str, *arguments: str, limit: float = STEP_LIMIT) -> Step:
        given: CommandArguments = {
            "cwd": "/",
            "user": self._arguments.get("user"),
            "timeout": limit,
        }
        return Step(argv=_script(script, *arguments), arguments=given)

    def _main_step(self, found: str) -> Step:
        program = self._arguments.get("program") or found
        argv = [program] if isinstance(program, str) else [*program]
        if posixpath.basename(argv[0]) == "bash":
            argv += ["--norc", "--noprofile", "--noediting"]
        given: CommandArguments = {
            "cwd": self._arguments.get("cwd"),
            # ENV names what an interactive shell would run first.
            "env": {**(self._arguments.get("env") or {}), "ENV": ""},
            "user": self._arguments.get("user"),
            "timeout": None,
        }
        return Step(
            argv=_script(scripts.MAIN, self._folder, *argv, "-i"), arguments=given, main=True
        )

    def _run_step(self, command: str, arguments: RunArguments) -> Step:
        if "\0" in command:
            raise SettingError("A command of a session is a str without NUL.", hint="")
        data = os.fsencode(command)
        words = (self._folder, new_token(), self._pid, str(self._last))
        given: CommandArguments = {"cwd": "/", "user": self._arguments.get("user")}
        if "timeout" in arguments:
            given["timeout"] = arguments["timeout"]
        if len(data) <= ARGUMENT_LIMIT:
            return Step(argv=_script(scripts.RUN, *words, command), arguments=given)
        argv = _script(scripts.RUN_LONG, *words)
        return Step(argv=argv, arguments=given, input=data + b"\n")

    def _read_setup(self, result: ExecResult) -> str:
        """Takes the folder, and returns the shell that was found."""
        if not result.ok:
            raise CommandError(
                f"The shell session cannot be made: {_shown(result.stderr)}",
                hint="It needs mkdir, mkfifo, and a folder like /tmp that the user can write.",
                code="command.session",
            )
        lines = result.text.splitlines()
        if len(lines) != 2 or lines[0] not in {f"{base}/{self._name}" for base in scripts.BASES}:
            raise TransportError("The sandbox's answer cannot be read.", started="yes")
        self._folder = lines[0]
        return lines[1]

    def _read_hello(self, result: ExecResult) -> None:
        if result.exit_code == scripts.NO_PIPES:
            raise UnsupportedError("This runtime gives commands no pipes, as a session needs them.")
        pid = result.text.strip()
        if not result.ok or not pid.isdecimal():
            raise CommandNotStartedError(
                f"The shell of the session did not start: {_shown(result.stderr)}",
                hint="program= takes bash, dash or busybox ash; cwd= a folder; user= a user.",
            )
        self._pid = pid

    # For those who make the steps -----------------------------------------------------------------

    def _watch(self, main: Process) -> None:
        """Has a command that waits let go when the session's processes are gone."""
        self._main = main
        main.add_done_callback(lambda _: self._let_go())

    def _let_go(self) -> None:
        helper = self._helper
        if helper is not None:
            helper.kill()

    def _serve(self, helper: Process, step: Step) -> None:
        self._helper = helper
        if step.input is not None:
            helper.feed_input(step.input)
        if self._main is not None and self._main.done and not self._ending:
            helper.kill()


def new_token() -> str:
    """A word that no earlier answer of the shell can hold."""
    return secrets.token_hex(16)


def _script(script: str, *arguments: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script, "openrt-shell", *arguments)


def _shown(stderr: bytes) -> str:
    text = stderr[-200:].decode("utf-8", "replace").strip()
    return "".join(c if c.isprintable() else "?" for c in text) or "it said nothing"
