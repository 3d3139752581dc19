"""What is the modal runtime's own: credentials, tags, ends of sandboxes, and a back end in
trouble."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from support.runtimes import environment

from openrt_core import Sandbox
from openrt_core.errors import (
    AuthenticationError,
    CommandTimedOutError,
    OpenrtError,
    ProvisionError,
    SandboxGoneError,
    SettingError,
    StartTimeoutError,
    TransportError,
    UnsupportedError,
    VolumeError,
)
from openrt_core.models import Mount, SandboxHandle, SandboxSpec
from openrt_core.plugin import RuntimeContext

IMAGE = "openrt-test/busybox"


def spec(**fields):
    return SandboxSpec(image=IMAGE, **fields)


def native(sandbox):
    """Modal's own id."""
    return sandbox.handle.native["sandbox"]


def raw(sandbox):
    """The modal library's own object."""
    import modal

    client = modal.Client.from_credentials("ak-test", "as-test")
    return modal.Sandbox.from_id(native(sandbox), client=client)


class TestCredentials:
    def test_a_wrong_secret_is_told_without_it(self, runtime):
        with (
            environment({"MODAL_API_TOKEN_SECRET": "as-wrong-secret"}),
            pytest.raises(AuthenticationError) as caught,
        ):
            runtime.create()
        assert "as-wrong-secret" not in str(caught.value) + caught.value.hint

    def test_one_half_names_the_other(self, runtime):
        with (
            environment({"MODAL_API_TOKEN_SECRET": ""}),
            pytest.raises(SettingError, match="MODAL_API_TOKEN_SECRET is not"),
        ):
            runtime.create()

    def test_none_at_all(self, runtime, python, tmp_path):
        done, _ = python(
            CREATE,
            MODAL_API_TOKEN_ID="",
            MODAL_API_TOKEN_SECRET="",
            MODAL_CONFIG_PATH=str(tmp_path / "none.toml"),
        )
        assert "AuthenticationError" in done.stderr.splitlines()[-1]

    def test_the_profile_of_the_library(self, runtime, python, tmp_path):
        profile = tmp_path / "modal.toml"
        profile.write_text(
            '[test]\ntoken_id = "ak-test"\ntoken_secret = "as-test"\nactive = true\n'
        )
        done, answer = python(
            CREATE,
            MODAL_API_TOKEN_ID="",
            MODAL_API_TOKEN_SECRET="",
            MODAL_CONFIG_PATH=str(profile),
        )
        assert answer == "hi\n", done.stderr


CREATE = """
import json
from openrt_core import Sandbox
with Sandbox.create("modal", image="openrt-test/busybox") as sandbox:
    print(json.dumps(sandbox.exec("echo hi").text))
"""


class TestCreation:
    def test_tags_say_whose_it_is(self, runtime):
        with runtime.create(labels={"team": "a"}, workdir="/made/here", user=1234) as sandbox:
            assert raw(sandbox).get_tags() == {
                "team": "a",
                "openrt.id": sandbox.id,
                "openrt.workdir": "/made/here",
                "openrt.user": "1234",
            }
            with Sandbox.connect(sandbox.id, "modal") as guest:
                assert guest.exec("pwd; id -u").text == "/made/here\n1234\n"
                assert guest.handle.labels == {"team": "a"}

    def test_secrets_stay_with_the_commands(self, runtime):
        with runtime.create(env={"E": "env"}, secrets={"S": "hidden"}) as sandbox:
            assert sandbox.exec('echo "$E $S"').text == "env hidden\n"
            entry = sandbox.exec("cat /proc/[12]/environ /proc/[12]/cmdline", user=0).stdout
            assert b"hidden" not in entry

    def test_network_none(self, runtime):
        with runtime.create(network="none") as sandbox:
            links = sandbox.exec("ip -o link").text.splitlines()
        assert [line.split(":")[1].strip() for line in links if line] == ["lo"]

    def test_a_taken_id_is_refused(self, runtime):
        other = plugin()
        with runtime.create() as sandbox:
            with pytest.raises(ProvisionError):
                other.openrt_provision(spec(id=sandbox.id), ())
            assert sandbox.exec("echo here").text == "here\n"
        assert other.openrt_teardown(sandbox.handle) is False

    def test_folders_of_this_machine_are_refused(self, runtime, tmp_path):
        with pytest.raises((UnsupportedError, VolumeError)):
            runtime.create(volumes=f"{tmp_path}:/workspace")
        with pytest.raises(VolumeError) as caught:
            plugin().openrt_mount(Mount(str(tmp_path), "/workspace"), spec())
        assert "files" in caught.value.hint

    def test_too_long_a_lifetime_is_refused_before_anything_is_made(self, runtime):
        with pytest.raises(SettingError, match="86400"):
            Sandbox.create("modal", spec=spec(lifetime=90_000.0))


def plugin():
    """The runtime itself, without the core."""
    from openrt_core import selection

    return selection.choose("modal", None, None, None)[1]


def exit_code(told):
    """Of the post-mortem that an error or a status carries."""
    assert told.post_mortem is not None
    return told.post_mortem.exit_code


class TestEnds:
    def test_the_lifetime_ends_it(self, runtime):
        with Sandbox.create("modal", spec=spec(lifetime=15.0)) as sandbox:
            process = sandbox.start("sleep 1000")
            with pytest.raises(SandboxGoneError) as caught:
                process.wait(120)
            assert exit_code(caught.value) == 124
            assert sandbox.status().state == "gone"

    def test_a_crash_is_told_with_its_exit_code(self, runtime):
        with runtime.create() as sandbox:
            process = sandbox.start("sleep 1000")
            assert sandbox.status().state == "running"
            runtime.control.crash(native(sandbox))
            with pytest.raises(SandboxGoneError) as caught:
                process.wait(120)
            assert exit_code(caught.value) == 137
            assert exit_code(sandbox.status()) == 137
            with pytest.raises(SandboxGoneError):
                sandbox.exec("true")
        assert sandbox.kill() is False

    def test_a_killed_agent_takes_the_sandbox_along(self, runtime, eventually):
        with runtime.create() as sandbox:
            with pytest.raises((SandboxGoneError, TransportError)):
                sandbox.exec(KILL_AGENT, env={"TAG": sandbox.id}, user=0, timeout=120)
            eventually(lambda: native(sandbox) not in runtime.control.live(), "it ends")

    def test_closing_leaves_nothing(self, runtime):
        with runtime.create() as sandbox:
            assert native(sandbox) in runtime.control.live()
        assert native(sandbox) not in runtime.control.live()

    def test_teardown_waits_for_a_creation_in_flight(self, runtime):
        modal, before = plugin(), set(runtime.control.live())
        asked = spec(start_timeout=0.001)
        with pytest.raises(StartTimeoutError):
            modal.openrt_provision(asked, ())
        handle = SandboxHandle(runtime="modal", id=asked.id)
        assert modal.openrt_teardown(handle) is True
        assert modal.openrt_teardown(handle) is False
        assert set(runtime.control.live()) <= before

    def test_a_sandbox_of_somebody_else_is_left_alone(self, runtime):
        import modal

        client = modal.Client.from_credentials("ak-test", "as-test")
        app = modal.App.lookup("openrt", create_if_missing=True, client=client)
        other = modal.Sandbox.create(
            name="others", app=app, image=modal.Image.debian_slim(), client=client
        )
        handle = SandboxHandle(runtime="modal", id="others")
        assert plugin().openrt_teardown(handle) is False
        assert other.poll() is None
        with pytest.raises(SandboxGoneError):
            plugin().openrt_connect("others")
        other.terminate()

    def test_the_exit_of_the_interpreter(self, runtime, python):
        before = set(runtime.control.live())
        done, answer = python(
            "from openrt_core import Sandbox; import json;"
            "s = Sandbox.create('modal', image='openrt-test/busybox');"
            "print(json.dumps(s.handle.native['sandbox']))"
        )
        assert answer not in runtime.control.live()
        assert done.returncode == 0
        assert "left behind" not in done.stderr
        assert set(runtime.control.live()) <= before

    @pytest.mark.parametrize(
        "use",
        ["", "assert sandbox.status().state == 'running'", "made = Sandbox.create('modal')"],
        ids=["unused", "used", "one of its own"],
    )
    def test_the_exit_of_a_forked_child_ends_nothing_of_its_parent(self, runtime, python, use):
        before = set(runtime.control.live())
        done, answer = python(FORK, use, SANDBOX_RUNTIME_CONTAINER_IMAGE=IMAGE)
        assert answer == [0, "still here\n"], done.stderr
        assert set(runtime.control.live()) <= before

    def test_at_the_exit_an_interrupted_end_leaves_the_others_to_be_ended(
        self, runtime, tmp_path, caplog
    ):
        from openrt_modal.plugin import ModalRuntime

        class Interrupted(ModalRuntime):
            def openrt_teardown(self, handle):
                tried.append(handle.id)
                if len(tried) < 3:
                    raise (SystemExit, ValueError)[len(tried) - 1]
                return True

        tried: list[str] = []
        modal = Interrupted(RuntimeContext(name="modal", emit=print, state_folder=tmp_path))
        modal._mine = {"a" * 32, "b" * 32, "c" * 32}
        modal._end_all()
        assert set(tried) == modal._mine
        left = [record.getMessage() for record in caplog.records if record.name == "openrt"]
        assert [id in line for id, line in zip(tried[:2], left, strict=True)] == [True, True]


KILL_AGENT = """
# Its shims are killed with it, and this shell with its own shim; so that one is left out, and who
# is left is killed until there is nobody to do it.
while :; do
    for process in /proc/[0-9]*; do
        read -r name <$process/comm || continue
        [ "$name" = openrt-agent ] || continue
        [ "$process" != "/proc/$PPID" ] || continue
        if grep -q "$TAG" $process/cmdline; then kill -9 ${process#/proc/}; fi
    done
done 2>/dev/null
"""

FORK = """
import json, os, sys
from openrt_core import Sandbox
sandbox = Sandbox.create("modal")
child = os.fork()
if child == 0:
    exec(sys.argv[1])
    sys.exit(0)
status = os.waitpid(child, 0)[1]
print(json.dumps([status, sandbox.exec("echo still here").text]))
sandbox.close()
"""

KILLED = """
import os, signal
from openrt_agent import AgentRuntime
from openrt_core import Sandbox
from openrt_modal import creation
from openrt_modal.stream import ExecStream
AgentRuntime.lease = 5.0
creation.OWNER_WAIT = 5
if os.environ.get("BEFORE_JOINING"):
    def die(*_):
        print("made", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    ExecStream.open = die
sandbox = Sandbox.create("modal", image="openrt-test/busybox")
sandbox.start("sleep 1000")
print("made", flush=True)
signal.pause()
"""


class TestKilledClients:
    @pytest.mark.parametrize("when", ["", "BEFORE_JOINING"])
    def test_the_sandbox_ends_within_the_lease(self, runtime, eventually, when):
        before = set(runtime.control.live())
        variables = {**os.environ, **({when: "1"} if when else {})}
        command = [sys.executable, "-c", KILLED]
        with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == b"made\n"
            made = set(runtime.control.live()) - before
            client.kill()
            assert client.wait() == -signal.SIGKILL
        assert len(made) == 1
        eventually(lambda: not made & set(runtime.control.live()), "it ends")


class TestTrouble:
    def test_a_missing_environment_is_told(self, runtime, monkeypatch):
        import modal

        from openrt_modal.sdk import Sdk

        async def nowhere(self):
            raise modal.exception.NotFoundError("Environment 'staging' not found")

        monkeypatch.setattr(Sdk, "app", nowhere)
        for call in (runtime.create, lambda: Sandbox.list(runtime=runtime.name)):
            with pytest.raises(ProvisionError, match="staging") as caught:
                call()
            assert "MODAL_ENVIRONMENT" in caught.value.hint

    def test_a_start_that_hangs_in_joining_is_a_start_timeout(self, runtime, monkeypatch):
        from openrt_modal.stream import ExecStream

        async def hang(*_):
            await asyncio.Event().wait()

        monkeypatch.setattr(ExecStream, "open", hang)
        with pytest.raises(StartTimeoutError):
            runtime.create(start_timeout=3.0)

    def test_a_stalled_stream_ends_in_an_error_within_the_limit(self, runtime):
        with runtime.create() as sandbox:
            runtime.control.stall(native(sandbox))
            try:
                with pytest.raises((TransportError, CommandTimedOutError)):
                    sandbox.exec("true", timeout=1)
            finally:
                runtime.control.resume(native(sandbox))

    def test_a_stall_loses_nothing(self, runtime):
        with runtime.create() as sandbox:
            process = sandbox.start(["cat"], stdin=True)
            runtime.control.stall(native(sandbox))
            process.stdin.write(b"one\n")
            runtime.control.resume(native(sandbox))
            process.stdin.write(b"two\n")
            process.stdin.close()
            assert process.stdout.read() == b"one\ntwo\n"
            assert process.wait(120).ok

    def test_a_back_end_that_dies(self, runtime, tmp_path):
        from emulators.modal.emulator import Emulator

        rootfs = os.environ["OPENRT_TEST_ROOTFS_BUSYBOX"]
        with Emulator(rootfs=rootfs, state=tmp_path) as doomed, environment(doomed.environment):
            client = subprocess.Popen(
                [sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, stdin=subprocess.PIPE
            )
            with client:
                assert client.stdout is not None
                assert client.stdout.readline() == b"made\n"
                doomed.kill()
                out = client.communicate(b"go\n", timeout=300)[0].decode()
        lines = out.splitlines()
        assert lines[0] in ("TransportError", "SandboxGoneError")
        assert lines[1] == "EngineUnreachableError"


ORPHAN = """
import sys
from openrt_core import Sandbox
from openrt_core.errors import OpenrtError
sandbox = Sandbox.create("modal", image="openrt-test/busybox")
print("made", flush=True)
sys.stdin.readline()
for call in (lambda: sandbox.exec("true", timeout=3), sandbox.kill):
    try:
        call()
        print("no error")
    except OpenrtError as error:
        print(type(error).__name__, flush=True)
"""


def test_bytes_in_order_both_ways_at_once(runtime):
    """Many writers over one exec: nothing is lost, doubled or mixed."""
    with runtime.create() as sandbox:
        processes = [sandbox.start(["cat"], stdin=True) for _ in range(20)]
        for number, process in enumerate(processes):
            for part in range(50):
                process.stdin.write(b"%d.%d\n" % (number, part))
        for number, process in enumerate(processes):
            process.stdin.close()
            expected = b"".join(b"%d.%d\n" % (number, part) for part in range(50))
            assert process.stdout.read() == expected


def test_errors_are_ours(runtime):
    """Nothing of the library's own reaches the user."""
    with pytest.raises(OpenrtError):
        Sandbox.connect("no-such-id", "modal")
