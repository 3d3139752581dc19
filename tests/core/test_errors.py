from __future__ import annotations

import errno
import inspect
import pickle
import re

import pytest

from openrt_core import errors
from openrt_core.errors import (
    CommandTimedOutError,
    FileAccessError,
    FileError,
    FileMissingError,
    OpenrtError,
    SandboxGoneError,
    SettingError,
    StartTimeoutError,
    TransportError,
    file_error,
)
from openrt_core.models import ExecResult, PostMortem

CLASSES = [
    c
    for _, c in inspect.getmembers(errors, inspect.isclass)
    if issubclass(c, OpenrtError) and not c.__name__.startswith("_")
]


def make(kind):
    if kind in (CommandTimedOutError, errors.CommandFailedError):
        return kind("message", result=ExecResult(exit_code=1))
    return kind("message")


def test_the_drawn_tree_is_the_tree():
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for line in str(errors.__doc__).splitlines():
        match = re.match(r"    (?P<lead>[│├└─ ]*)(?P<name>[A-Z]\w+Error)\b", line)
        if match:
            depth = len(match["lead"]) // 4
            path[depth:] = [match["name"]]
            drawn[match["name"]] = path[depth - 1] if depth else None
    real = {
        c.__name__: next((b.__name__ for b in c.__mro__[1:] if b in CLASSES), None) for c in CLASSES
    }
    assert drawn == real


def test_every_class_has_a_code_of_its_own_below_that_of_its_parent():
    codes = {c: c.code for c in CLASSES}
    assert len(set(codes.values())) == len(codes)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_message_hint_and_retryable(kind):
    error = make(kind)
    assert str(error) == error.message == "message"
    assert isinstance(error.hint, str)
    assert isinstance(error.retryable, bool)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_pickling(kind):
    error = make(kind)
    error.hint, error.retryable, error.code = "hint", True, "finer"
    error.add_note("note")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.__dict__ == error.__dict__
    assert (str(again), again.args) == (str(error), error.args)


def test_a_file_error_survives_pickling_with_number_and_path():
    again = pickle.loads(pickle.dumps(file_error(errno.EXDEV, "/a")))
    assert (again.errno, again.filename) == (errno.EXDEV, "/a")


def test_arguments_go_before_the_defaults_of_the_class():
    error = TransportError("m", hint="", retryable=True, code="transport.x", started="no")
    assert (error.hint, error.retryable, error.code, error.started) == (
        "",
        True,
        "transport.x",
        "no",
    )
    assert (TransportError("m").started, TransportError.code) == ("unknown", "transport")


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (SettingError, ValueError),
        (StartTimeoutError, TimeoutError),
        (CommandTimedOutError, TimeoutError),
        (FileError, OSError),
        (FileMissingError, FileNotFoundError),
        (FileAccessError, PermissionError),
        (errors.FileIsDirectoryError, IsADirectoryError),
        (errors.FileNotDirectoryError, NotADirectoryError),
        (errors.FileExistsAlreadyError, FileExistsError),
    ],
)
def test_errors_are_the_builtin_ones_too(kind, builtin):
    assert issubclass(kind, builtin)


def test_a_gone_sandbox_carries_its_post_mortem():
    mortem = PostMortem(reason="oom", oom_killed=True)
    assert SandboxGoneError("gone", post_mortem=mortem).post_mortem is mortem


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, FileMissingError),
        (errno.EACCES, FileAccessError),
        (errno.EPERM, FileAccessError),
        (errno.EROFS, FileAccessError),
        (errno.EISDIR, errors.FileIsDirectoryError),
        (errno.ENOTDIR, errors.FileNotDirectoryError),
        (errno.EEXIST, errors.FileExistsAlreadyError),
        (errno.ENOSPC, FileError),
    ],
)
def test_a_number_gives_the_error_of_its_kind(number, kind):
    error = file_error(number, "/a\n")
    assert (type(error), error.errno, error.filename) == (kind, number, "/a\n")
    assert "'/a\\n'" in str(error)
