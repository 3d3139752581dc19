from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import attrs
import pytest

from openrt_core.errors import SettingError
from openrt_core.models import (
    Attachment,
    Capabilities,
    Command,
    ExecResult,
    Exit,
    Mount,
    SandboxHandle,
    SandboxSpec,
    TerminalSize,
    new_id,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("id", v) for v in ("", "A", "-a", "a_b", "a" * 64, "a\n", None, 3)],
        *[("image", v) for v in ("", "a\0b", 3)],
        *[("workdir", v) for v in ("", "relative", "/a\0", None)],
        *[("user", v) for v in (-1, True, 1.0, "root")],
        *[("network", v) for v in ("", None)],
        *[("ports", v) for v in ([0], [65536], ["80"], [80.0])],
        *[("cpu", v) for v in (0, -1, NAN, INF, "2", True)],
        *[(f, v) for f in ("memory", "pids", "disk") for v in (0, -1, 1.5, True)],
        *[(f, v) for f in ("lifetime", "idle_limit", "start_timeout") for v in (0, NAN, INF, "1")],
        *[(f, v) for f in ("keep", "read_only") for v in (None, "yes", 2)],
        *[(f, {n: "x"}) for f in ("env", "secrets") for n in ("", "A=B", "A\0", 3)],
        *[(f, {"A": v}) for f in ("env", "secrets", "labels") for v in ("\0", 3, None)],
        ("mounts", [Mount("/a", "/x"), Mount("/b", "/x/")]),
        ("mounts", ["/a:/b"]),
    ],
)
def test_a_spec_refuses_what_cannot_be_and_names_the_field(field, value):
    with pytest.raises(SettingError, match=f"SandboxSpec.{field}"):
        SandboxSpec(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("argv", v) for v in ([], [""], ["a", 3], ["a\0"], [b"a"])],
        *[("user", v) for v in (-1, 2**32 - 1, "", "a:b", "a\n", True, 1.5)],
        *[("timeout", v) for v in (0, -1, NAN, INF, "3")],
        *[("grace", v) for v in (-1, NAN, INF)],
        *[("cwd", v) for v in ("", "relative")],
        ("stdin", "yes"),
        ("merge_stderr", None),
        ("env", {"A": 1}),
    ],
)
def test_a_command_refuses_what_cannot_be_and_names_the_field(field, value):
    with pytest.raises(SettingError, match=f"Command.{field}"):
        Command(**{"argv": ["x"], field: value})


@pytest.mark.parametrize("fields", [{"rows": 0}, {"columns": 1.5}, {"rows": True}, {"rows": 65536}])
def test_a_terminal_s_size_is_checked(fields):
    with pytest.raises(SettingError, match="TerminalSize"):
        TerminalSize(**fields)


@pytest.mark.parametrize(
    "args", [("", "/a"), ("/a", "a"), ("/a", "/b", "rx"), (None, "/a"), ("/a", 3)]
)
def test_a_mount_refuses_what_cannot_be(args):
    with pytest.raises(SettingError, match="Mount"):
        Mount(*args)


def test_the_target_of_a_mount_has_no_slash_at_its_end():
    assert Mount("/a", "/workspace/").target == "/workspace"
    assert Mount("/a", "//").target == "/"


@pytest.mark.parametrize(
    ("source", "named"), [("/a", False), ("C:\\a", False), ("c:/a", False), ("cache", True)]
)
def test_a_source_without_a_path_is_a_named_volume(source, named):
    assert Mount(source, "/a").named is named


@pytest.mark.parametrize("value", ["hunter2", "hunter2\0"])
def test_secrets_are_never_shown(value):
    try:
        shown = repr(SandboxSpec(secrets={"TOKEN": value}))
    except SettingError as error:
        shown = str(error)
    assert "hunter2" not in shown
    assert "hunter2" not in repr(Command(argv=["x"], env={"TOKEN": "hunter2"}))


@pytest.mark.parametrize("fields", [{}, {"code": 0, "signal": 9}], ids=["neither", "both"])
def test_an_exit_has_exactly_one_of_code_and_signal(fields):
    with pytest.raises(ValueError, match="exactly one"):
        Exit(**fields)


def test_models_cannot_be_changed_even_through_what_they_were_made_of():
    env = {"A": "1"}
    command: Any = Command(argv=["x"], env=env)
    env["A"] = "2"
    assert command.env["A"] == "1"
    for change in (
        lambda: command.env.update(A="3"),
        lambda: command.env.__setitem__("A", "3"),
        lambda: command.env.pop("A"),
        lambda: command.env.clear(),
    ):
        with pytest.raises(TypeError):
            change()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        command.argv = ()


@pytest.mark.parametrize(
    "model",
    [
        SandboxHandle(runtime="docker", id="a1", labels={"a": "b"}, native={"n": [1]}),
        SandboxSpec(env={"A": "1"}, mounts=[Mount("/a", "/b")], options={"x": 1}),
        Command(argv=["x"], env={"A": "1"}),
        Attachment("bind", Mount("/a", "/b"), {"x": 1}),
        ExecResult(exit_code=1, stdout=b"x"),
    ],
)
def test_models_can_be_copied_and_handed_to_another_process(model):
    assert pickle.loads(pickle.dumps(model)) == model
    assert copy.deepcopy(model) == model


def test_a_handle_is_plain_data():
    handle = SandboxHandle(runtime="docker", id="a1", labels={"a": "b"}, native={"n": {"m": 1}})
    text = json.dumps(attrs.asdict(handle))
    assert SandboxHandle(**json.loads(text)) == handle


def test_new_ids_fit_every_back_end_and_differ():
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(SandboxSpec(id=i).id == i for i in ids)


def test_a_result_says_whether_it_went_well():
    assert ExecResult(exit_code=0).ok
    assert not ExecResult(exit_code=0, timed_out=True).ok
    result = ExecResult(exit_code=3, stdout=b"\xff\xc3\xa9", stderr_dropped=1)
    assert (result.ok, result.returncode, result.text, result.truncated) == (
        False,
        3,
        "\ufffdé",
        True,
    )


def test_a_capability_is_a_hook_or_a_feature():
    capabilities = Capabilities(hooks=frozenset({"status"}), features=frozenset({"gpu"}))
    assert "status" in capabilities
    assert "gpu" in capabilities
    assert "tty" not in capabilities


def test_a_refused_value_is_shown_cut():
    with pytest.raises(SettingError) as caught:
        SandboxSpec(workdir="x" * 10_000)
    assert len(str(caught.value)) < 200
