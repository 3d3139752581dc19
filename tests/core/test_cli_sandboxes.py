"""``openrt exec`` and ``openrt rm``, on a scripted runtime."""

from __future__ import annotations

import pytest
from support.command_line import Program


@pytest.fixture
def openrt(tmp_path):
    return Program(tmp_path)


@pytest.mark.parametrize("separator", [[], ["--"]])
def test_exec_passes_everything_behind_the_id(openrt, separator):
    arguments = ["-e", "A=1", "--user", "12", "--workdir", "sub", "--timeout", "3"]
    code, out, err = openrt("exec", *arguments, "box", *separator, "print", "--keep", "-e")
    assert (code, out, err) == (0, b"--keep", "-e")
    assert "print timeout=3.0 stdin=False tty=None" in openrt.logged()
    assert "[('A', '1')] /w/sub 12 ['--keep', '-e']" in openrt.logged()


def test_exec_takes_the_name_of_a_user_and_stdin(openrt):
    assert openrt("exec", "--user", "me", "-i", "box", "cat", input=b"abc") == (0, b"abc", "")
    assert "/w 'me' []" in openrt.logged()


def test_exec_leaves_the_sandbox_alone(openrt):
    for argv, code in ((["exit", "3"], 3), (["lost"], 125), (["missing", "not_found"], 127)):
        assert openrt("exec", "box", "--", *argv)[0] == code
    assert "teardown" not in openrt.logged()


def test_exec_in_a_sandbox_that_is_gone(openrt):
    code, out, err = openrt("exec", "gone", "--", "exit", "0")
    assert (code, out) == (125, b"")
    assert err.startswith("openrt: There is no \\x1b[2J sandbox. ")
    assert err.count("\n") == 1


def test_rm_prints_what_it_removed(openrt):
    assert openrt("rm", "a", "b") == (0, b"a\nb\n", "")
    assert "teardown ended a" in openrt.logged()


def test_rm_of_a_sandbox_that_is_not_there(openrt):
    code, out, err = openrt("rm", "absent", "b")
    assert (code, out) == (1, b"b\n")
    assert err == "openrt: The runtime 'fake' has no sandbox absent.\n"


def test_rm_goes_on_after_one_that_fails(openrt):
    code, out, err = openrt("rm", "absent", "stuck", "b")
    assert (code, out) == (125, b"b\n")
    assert "openrt: It is \\x1b]0;stuck\\x07. " in err
    assert "Wait.\n" in err


def test_rm_checks_all_ids_first(openrt):
    code, out, err = openrt("rm", "a", "B/../c")
    assert (code, out) == (125, b"")
    assert "'B/../c'" in err
    assert openrt.logged() == ""
