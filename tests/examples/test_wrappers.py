# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
"""The example wrappers, found by the metadata that their own pyproject.toml gives them."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import sys
import tomllib

import pytest
from support import runtimes
from support.fake_runtime import FakeRuntime, hang

from openrt_core import Sandbox
from openrt_core.errors import (
    CommandFailedError,
    ConfigurationError,
    PluginError,
    SettingError,
    TransportError,
    VolumeError,
)
from openrt_core.events import Emitter, Event
from openrt_core.manager import Manager
from openrt_core.models import Exit
from openrt_core.plugin import hookimpl
from openrt_core.selection import load_wrappers

FOLDER = pathlib.Path(__file__).parents[2] / "examples" / "wrappers"
SECRET = "hunter2-is-secret"
VALUE = "a-value-of-env"


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """As pip would have it: the package and its metadata on sys.path."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    info = tmp_path / "site" / f"openrt_example_wrappers-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"]["openrt.wrappers"].items()
    (info / "entry_points.txt").write_text(
        "[openrt.wrappers]\n" + "".join(f"{name} = {value}\n" for name, value in points)
    )
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in [n for n in sys.modules if n.startswith("openrt_example_wrappers")]:
        del sys.modules[name]


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "audit.jsonl"
    monkeypatch.setenv("OPENRT_AUDIT_LOG", str(path))
    return path


@pytest.fixture
def allowed(tmp_path, monkeypatch):
    folder = tmp_path / "allowed"
    (folder / "project").mkdir(parents=True)
    monkeypatch.setenv("OPENRT_POLICY_FOLDER", str(folder))
    return folder


def manage(runtime, *names):
    return Manager("fake", runtime, load_wrappers(names, "fake"))


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def whats(log):
    return [line["what"] for line in lines(log)]


# audit --------------------------------------------------------------------------------------------


def script(process):
    process.exited(Exit(code=3))


class WithFiles(FakeRuntime):
    @hookimpl
    def openrt_read_file(self):
        return b"the content"

    @hookimpl
    def openrt_write_file(self, data):
        return len(data)


def test_the_log_tells_what_was_done_and_how_it_ended(log):
    manager = manage(WithFiles(script=script), "audit")
    with Sandbox.create(manager=manager, network="none") as sandbox:
        with pytest.raises(CommandFailedError):
            sandbox.exec(["make", "test"], check=True)
        sandbox.files.write("/a", b"12345")
        sandbox.files.read("/a")
    assert whats(log) == [
        *("prepare", "prepare.done", "provision", "provision.done"),
        *("exec", "exec.ended", "exec.done"),
        *("write_file", "write_file.done", "read_file", "read_file.done"),
        *("teardown", "teardown.done"),
    ]
    written = {line["what"]: line for line in lines(log)}
    assert {line["sandbox"] for line in lines(log)} == {sandbox.id}
    assert written["prepare"]["network"] == "none"
    assert written["exec"]["argv"] == ["make", "test"]
    assert (written["exec.ended"]["exit_code"], written["exec.ended"]["signal"]) == (3, None)
    assert (written["write_file"]["path"], written["write_file"]["size"]) == ("/a", 5)


def test_no_values_no_secrets_no_contents(log):
    manager = manage(WithFiles(script=script), "audit")
    env, secrets = {"A": VALUE}, {"TOKEN": SECRET}
    with Sandbox.create(manager=manager, env=env, secrets=secrets) as sandbox:
        sandbox.exec(f"curl -H {SECRET} {VALUE}", env={"B": "another-value"}, timeout=9)
        sandbox.exec(["echo", "another-value"], env={"B": "another-value"})
        sandbox.files.write("/a", b"the content")
        sandbox.files.read("/a")
    text = log.read_text()
    for hidden in (SECRET, VALUE, "another-value", "the content"):
        assert hidden not in text
    execs = [line for line in lines(log) if line["what"] == "exec"]
    assert execs[0]["argv"][-1] == "curl -H ******** ********"
    assert execs[0]["env"] == ["B"]


def test_a_command_that_is_lost_is_told(log):
    runtime = FakeRuntime(script=hang)
    with Sandbox.create(manager=manage(runtime, "audit")) as sandbox:
        process = sandbox.start("sleep 1000")
        process.failed(TransportError(f"gone {SECRET}"))
    (ended,) = [line for line in lines(log) if line["what"] == "exec.ended"]
    assert ended["error"] == "transport"
    assert SECRET not in log.read_text()


def test_events_are_logged_by_their_kind(log):
    emitter = Emitter(lambda event: None)
    load_wrappers(["audit"], "fake", emitter)
    emitter(Event(kind="note", message=SECRET, source="docker", sandbox="box"))
    (line,) = lines(log)
    assert (line["what"], line["kind"], line["source"]) == ("event", "note", "docker")
    assert SECRET not in log.read_text()


def test_the_file_is_the_users_own_and_is_appended_to(log):
    log.write_text("{}\n")
    log.chmod(0o644)
    Sandbox.create(manager=manage(FakeRuntime(), "audit")).close()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert lines(log)[0] == {}
    assert len(lines(log)) == 7


@pytest.mark.parametrize("obstacle", ["a folder", "a link", "no folder", "a fifo"])
def test_when_it_cannot_be_written_nothing_is_done(log, obstacle, tmp_path, monkeypatch):
    if obstacle == "a folder":
        log.mkdir()
    elif obstacle == "a link":
        log.symlink_to(tmp_path / "elsewhere")
    elif obstacle == "a fifo":
        os.mkfifo(log)
    else:
        monkeypatch.setenv("OPENRT_AUDIT_LOG", str(tmp_path / "none" / "log"))
    runtime = FakeRuntime()
    with pytest.raises(ConfigurationError, match=r"audit log .* cannot be written"):
        Sandbox.create(manager=manage(runtime, "audit"))
    assert "provision" not in runtime.log
    assert not (tmp_path / "elsewhere").exists()


def test_when_it_cannot_be_written_any_more_commands_are_refused_and_removal_is_not(log):
    runtime = FakeRuntime(script=script)
    sandbox = Sandbox.create(manager=manage(runtime, "audit"))
    log.unlink()
    log.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        sandbox.exec("true")
    log.rmdir()  # what was missed stays missed
    with pytest.raises(ConfigurationError, match="cannot be written"):
        sandbox.exec("true")
    assert "exec" not in runtime.log
    with pytest.raises(ConfigurationError, match="cannot be written"):
        sandbox.close()
    assert not runtime.alive


@pytest.mark.parametrize(
    ("name", "variable"), [("audit", "OPENRT_AUDIT_LOG"), ("policy", "OPENRT_POLICY_FOLDER")]
)
@pytest.mark.parametrize("value", ["", "relative/path"])
def test_a_wrapper_that_is_not_configured_refuses_to_load(monkeypatch, name, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises((SettingError, PluginError), match=variable):
        load_wrappers([name], "fake")


# policy -------------------------------------------------------------------------------------------


def test_mounts_inside_of_the_folder_pass_and_the_network_is_none(allowed):
    runtime = FakeRuntime()
    volumes = f"{allowed}/project:/workspace:ro"
    with Sandbox.create(manager=manage(runtime, "policy"), volumes=volumes, network="host"):
        pass
    (spec,) = runtime.specs
    assert spec.network == "none"
    assert [mount.source for mount in spec.mounts] == [os.path.realpath(allowed / "project")]


@pytest.mark.parametrize(
    "source", ["/etc", "{allowed}/..", "{allowed}/link", "{allowed}x", "{allowed}/link/deeper"]
)
def test_mounts_outside_of_the_folder_are_refused(allowed, source):
    (allowed / "link").symlink_to("/etc")
    (allowed.parent / "allowedx").mkdir()
    runtime = FakeRuntime()
    with pytest.raises(VolumeError, match=r"inside .* only"):
        Sandbox.create(
            manager=manage(runtime, "policy"),
            volumes=f"{source.format(allowed=allowed)}:/workspace",
        )
    assert not runtime.log


def test_a_link_inside_is_mounted_as_what_it_leads_to(allowed):
    (allowed / "link").symlink_to(allowed / "project")
    runtime = FakeRuntime()
    Sandbox.create(manager=manage(runtime, "policy"), volumes=f"{allowed}/link:/workspace").close()
    assert runtime.specs[0].mounts[0].source == os.path.realpath(allowed / "project")


def test_named_volumes_and_options_are_refused(allowed):
    runtime = FakeRuntime()
    with pytest.raises(VolumeError, match="named volume"):
        Sandbox.create(manager=manage(runtime, "policy"), volumes="cache:/data")
    with pytest.raises(SettingError, match="privileged"):
        Sandbox.create(manager=manage(runtime, "policy"), options={"privileged": True})
    assert not runtime.log


def test_the_audit_sees_what_the_policy_refuses(allowed, log):
    with pytest.raises(VolumeError):
        Sandbox.create(manager=manage(FakeRuntime(), "audit", "policy"), volumes="/etc:/workspace")
    assert whats(log) == ["prepare", "prepare.failed"]
    assert lines(log)[1]["error"] == "configuration.volume"


def test_both_around_a_real_runtime(allowed, log, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENRT_WRAPPERS", "audit,policy")
    project = allowed / "project"
    (project / "a").write_text("content")
    for folder in (tmp_path, *tmp_path.parents):
        if folder != pathlib.Path("/") and folder.stat().st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    with runtimes.opened("local", tmp_path) as runtime:
        with runtime.create(volumes=f"{project}:/workspace") as sandbox:
            assert sandbox.exec("cat a", check=True).text == "content"
            links = sandbox.exec("cat /proc/net/dev").text.splitlines()[2:]
            assert {line.split(":")[0].strip() for line in links} <= {"lo"}
        with pytest.raises(VolumeError):
            runtime.create(volumes="/etc:/workspace")
    assert whats(log)[-2:] == ["prepare", "prepare.failed"]
    ended = [line for line in lines(log) if line["what"] == "exec.ended"]
    assert [line["exit_code"] for line in ended] == [0, 0]
    assert "content" not in log.read_text()
