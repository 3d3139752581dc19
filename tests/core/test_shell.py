"""Shell sessions on odd runtimes, with odd answers; the contract tests run real shells."""

from __future__ import annotations

from typing import Any

import pytest
from support.fake_runtime import FakeRuntime, hang, manage

from openrt_core import AsyncShell, Sandbox, Shell
from openrt_core.errors import (
    CommandError,
    CommandNotStartedError,
    SandboxGoneError,
    SettingError,
    TransportError,
    UnsupportedError,
)
from openrt_core.models import Exit, OutputMode
from openrt_core.plugin import FEATURES
from openrt_core.process import STDERR, STDOUT


class Session:
    """Answers the helpers of a session by what they are; ``answers`` replaces some."""

    def __init__(self, **answers):
        self.answers = answers
        self.seen = []
        self.main: Any = None

    def __call__(self, process):
        script, _, *words = process.command.argv[2:]
        process.started(7)
        if process.command.output is OutputMode.DISCARD:
            self.main = process
            return
        kind = next(k for k, sign in SIGNS.items() if sign in script)
        self.seen.append(kind)
        answer = self.answers.get(kind, DEFAULTS[kind])
        answer(process, words)


SIGNS = {
    "setup": "mkfifo",
    "hello": "command set +m",
    "recover": "sweep",
    "run": "lost",
    "ended": "cat ",
    "remove": "rm -rf",
}


def says(text, **exit):
    def answer(process, words):
        process.feed(STDOUT, text.format(*words).encode())
        process.feed(STDERR, b"trouble\x1b")
        process.exited(Exit(**(exit or {"code": 0})))

    return answer


DEFAULTS = {
    "setup": says("/tmp/{0}\n/bin/bash\n"),
    "hello": says("42\n"),
    "recover": says(""),
    "run": says("out", code=3),
    "ended": says("5"),
    "remove": says(""),
}


def sandbox(script, **fields):
    return Sandbox.create(manager=manage(FakeRuntime(script, **fields)), image="x")


def test_the_public_names():
    assert {Shell.__name__, AsyncShell.__name__} == {"Shell", "AsyncShell"}


@pytest.mark.parametrize("missing", ["streams", "kill_tree"])
def test_a_runtime_that_lacks_a_feature_is_refused_before_anything_runs(missing):
    session = Session()
    box = sandbox(session, features=frozenset(FEATURES) - {missing})
    with pytest.raises(UnsupportedError, match=missing):
        box.shell()
    assert session.seen == []


def test_a_session_is_set_up_used_and_removed():
    session = Session()
    with sandbox(session).shell(env={"A": "1"}, cwd="/x", user=5) as shell:
        assert shell.run("anything").exit_code == 3
        assert not shell.closed
        command = session.main.command
        assert (dict(command.env), command.cwd, command.user) == ({"A": "1", "ENV": ""}, "/x", 5)
        assert command.timeout is None
    assert shell.closed
    assert session.main.done
    assert session.seen == ["setup", "hello", "run", "remove"]


@pytest.mark.parametrize(
    "answer", ["", "/tmp/other\n/bin/sh\n", "/etc/{0}\n/bin/sh\n", "/tmp/{0}\n", "/tmp/{0}\na\nb\n"]
)
def test_an_answer_that_names_another_folder_is_not_believed(answer):
    session = Session(setup=says(answer))
    with pytest.raises(TransportError):
        sandbox(session).shell()
    assert session.seen == ["setup"]


def test_a_folder_that_cannot_be_made_is_told():
    with pytest.raises(CommandError, match=r"trouble\?"):
        sandbox(Session(setup=says("", code=1))).shell()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says("", code=1), CommandNotStartedError),
        (says("4 2"), CommandNotStartedError),
        (says("", code=3), UnsupportedError),
    ],
)
def test_a_shell_that_does_not_answer_is_removed(answer, error):
    session = Session(hello=answer)
    with pytest.raises(error):
        sandbox(session).shell()
    assert session.main.done
    assert session.seen[-1] == "remove"


def test_a_helper_without_a_status_is_the_end_of_the_shell():
    session = Session(run=says("out", signal=9))
    shell = sandbox(session).shell()
    result = shell.run("exit 5")
    assert (result.exit_code, result.signal, result.stdout) == (5, None, b"out")
    assert shell.closed
    assert session.seen[-2:] == ["ended", "remove"]


@pytest.mark.parametrize("told", ["", "x", "256", "-1", "5 6"])
def test_without_the_status_of_the_shell_the_session_is_lost(told):
    shell = sandbox(Session(run=says("", signal=9), ended=says(told))).shell()
    with pytest.raises(CommandError, match="was lost") as caught:
        shell.run("exit 5")
    assert caught.value.code == "command.session_lost"
    assert shell.closed


def test_an_error_of_the_way_ends_the_session():
    def fails(process, words):
        process.failed(SandboxGoneError("gone"))

    session = Session(run=fails)
    shell = sandbox(session).shell()
    with pytest.raises(SandboxGoneError):
        shell.run("x")
    assert shell.closed
    assert session.main.done


def test_what_waits_is_let_go_when_the_session_was_killed():
    session: Any = Session(run=lambda process, words: session.main.exited(Exit(signal=9)))
    shell = sandbox(session).shell()
    assert shell.run("x", timeout=None).exit_code == 5


def test_ctrl_c_ends_the_session():
    def interrupted(process, words):
        raise KeyboardInterrupt

    session = Session(run=interrupted)
    shell = sandbox(session).shell()
    with pytest.raises(KeyboardInterrupt):
        shell.run("x")
    assert shell.closed
    assert session.seen[-1] == "remove"


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="colour"):
        sandbox(hang).shell(colour="red")
    with sandbox(Session()).shell() as shell, pytest.raises(SettingError, match="NUL"):
        shell.run("a\0b")
