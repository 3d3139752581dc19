"""``openrt doctor`` and ``openrt completion``, on a scripted runtime."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from support.command_line import DEADLINE, Program

STEPS = ["load", "preflight", "provision", "command", "teardown"]


@pytest.fixture
def openrt(tmp_path):
    return Program(tmp_path)


def examined(openrt, **environ):
    code, out, _ = openrt("doctor", "--json", "fake", environ=environ)
    (report,) = json.loads(out)
    return code, report


def test_a_runtime_that_works(openrt):
    code, report = examined(openrt)
    assert (code, report["ok"], report["selected"]) == (0, True, True)
    assert [step["name"] for step in report["steps"]] == STEPS
    assert all(step["ok"] and step["seconds"] >= 0 for step in report["steps"])
    assert openrt.left() == 0
    code, out, _ = openrt("doctor", "fake")
    assert code == 0
    assert out.decode().startswith("fake (fake-runtime-for-cli 1.0): works, selected\n  load ")


@pytest.mark.parametrize(
    ("environ", "failed", "code"),
    [
        ({"FAKE_BUG": "oops"}, "load", "configuration.plugin"),
        ({"FAKE_REFUSAL": "Wrong key."}, "preflight", "provision.authentication"),
        ({"SANDBOX_RUNTIME_CONTAINER_IMAGE": "broken"}, "provision", "provision"),
    ],
)
def test_what_fails_is_told_with_a_hint(openrt, environ, failed, code):
    status, report = examined(openrt, **environ)
    assert (status, report["ok"]) == (1, False)
    last = report["steps"][-1]
    assert (last["name"], last["ok"], last["code"]) == (failed, False, code)
    assert last["error"]
    assert openrt.left() == 0


def test_only_the_selected_runtime_counts(openrt):
    broken = {"FAKE_BUG": "oops", "RUNTIME": "nope"}
    code, out, _ = openrt("doctor", "--json", environ=broken)
    reports = {report["name"]: report for report in json.loads(out)}
    assert code == 1
    assert reports["nope"]["selected"]
    assert reports["nope"]["steps"][0]["code"] == "configuration.runtime_not_found"
    assert not reports["fake"]["selected"]
    code, _, err = openrt("doctor", "nope")
    assert code == 125
    assert "No runtime 'nope' is installed" in err


def test_no_secret_and_no_control_character_is_shown(openrt):
    secrets = {"SANDBOX_API_KEY": "hunter2hunter2", "SANDBOX_ENV_TOKEN": "swordfish"}
    said = "\x1b[2J denied to hunter2hunter2, and to swordfish"
    for name in ("FAKE_REFUSAL", "FAKE_BUG"):
        environ = {**secrets, name: said}
        for arguments in (["doctor", "fake"], ["doctor", "--json", "fake"]):
            code, out, err = openrt(*arguments, environ=environ)
            told = out.decode() + err
            assert code == 1
            assert "denied to ********, and to ********" in told
            assert not any(secret in told for secret in secrets.values())
            assert "\x1b" not in told


def test_completion_of_commands_and_runtimes(openrt):
    def completed(*words):
        environ = {
            "_OPENRT_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["openrt", *words]),
            "COMP_CWORD": str(len(words)),
        }
        return openrt(environ=environ)[1].decode().split()

    assert "plain,runtimes" in completed("run")  # it may be either
    assert "plain,fake" in completed("run", "--runtime", "fa")
    assert completed("doctor", "fa") == ["plain,fake"]
    assert completed("runtimes", "fa") == ["plain,fake"]
    assert "plain,--image" in completed("run", "--im")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(openrt, shell):
    code, out, err = openrt("completion", shell)
    assert (code, err) == (0, "")
    assert f"_OPENRT_COMPLETE={shell}_complete" in out.decode()
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=out, capture_output=True, timeout=DEADLINE)
        assert checked.returncode == 0, checked.stderr


def test_completion_of_an_unknown_shell(openrt):
    code, out, err = openrt("completion", "tcsh")
    assert (code, out) == (125, b"")
    assert "'bash', 'zsh', 'fish'" in err
