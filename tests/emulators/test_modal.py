"""The Modal emulator, driven by the unmodified client library."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from emulators.modal.emulator import Emulator

modal = pytest.importorskip("modal")

if os.environ.get("OPENRT_TEST_ROOTFS_BUSYBOX") is None:
    pytest.skip("OPENRT_TEST_ROOTFS_BUSYBOX is not set", allow_module_level=True)

DEADLINE = 60.0
BINARY = bytes(range(256)) * 4096  # 1 MiB


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE} s: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def rootfs() -> Path:
    return Path(os.environ["OPENRT_TEST_ROOTFS_BUSYBOX"])


@pytest.fixture(scope="module", autouse=True)
def _no_proxy() -> Iterator[None]:
    # The client reads this one when it connects, not when it is made.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODAL_DISABLE_API_PROXY", "1")
        yield


@pytest.fixture(scope="module")
def emulator(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(rootfs=rootfs, state=tmp_path_factory.mktemp("modal")) as running:
        yield running


def connect(emulator: Emulator, secret: str = "as-test") -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in emulator.environment.items():
            patch.setenv(name, value)
        return modal.Client.from_credentials("ak-test", secret)


@pytest.fixture(scope="module")
def client(emulator: Emulator) -> Any:
    return connect(emulator)


@pytest.fixture(scope="module")
def app(client: Any) -> Any:
    return modal.App.lookup("tests", create_if_missing=True, client=client)


@pytest.fixture
def create(client: Any, app: Any) -> Iterator[Callable[..., Any]]:
    made = []

    def make(*argv: str, **options: Any) -> Any:
        options.setdefault("image", modal.Image.from_registry("example.test/any:1"))
        made.append(modal.Sandbox.create(*argv, app=app, client=client, **options))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.terminate()


@pytest.fixture
def sandbox(create: Callable[..., Any]) -> Any:
    return create()


def run(sandbox: Any, *argv: str, **options: Any) -> tuple[int, bytes, bytes]:
    process = sandbox.exec(*argv, text=False, **options)
    return process.wait(), process.stdout.read(), process.stderr.read()


def shell(sandbox: Any, script: str, **options: Any) -> bytes:
    code, out, errors = run(sandbox, "sh", "-c", script, **options)
    assert code == 0, errors
    return out


class TestCredentials:
    def test_good_ones(self, client: Any) -> None:
        client.hello()

    def test_bad_secret(self, emulator: Emulator) -> None:
        with pytest.raises(modal.exception.AuthError, match="Token validation failed"):
            connect(emulator, "as-wrong").hello()

    def test_other_accounts(self, rootfs: Path, tmp_path: Path) -> None:
        accounts = {"ak-me": "as-me", "ak-test": "as-changed"}
        with Emulator(rootfs=rootfs, state=tmp_path, credentials=accounts) as other:
            connect(other, "as-changed").hello()
            with pytest.raises(modal.exception.AuthError):
                connect(other).hello()


class TestExec:
    def test_exit_code_and_streams_apart(self, sandbox: Any) -> None:
        assert run(sandbox, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")

    def test_death_by_signal(self, sandbox: Any) -> None:
        assert run(sandbox, "sh", "-c", "kill -TERM $$")[0] == 128 + signal.SIGTERM

    def test_one_mebibyte_both_ways(self, sandbox: Any) -> None:
        process = sandbox.exec("cat", text=False)
        process.stdin.write(BINARY)
        process.stdin.write_eof()
        process.stdin.drain()
        assert process.stdout.read() == BINARY
        assert process.wait() == 0

    def test_many_small_messages_over_one_exec(self, sandbox: Any) -> None:
        process = sandbox.exec("cat", text=False)
        output = iter(process.stdout)
        for number in range(200):
            message = b"%06d" % number
            process.stdin.write(message)
            process.stdin.drain()
            echo = b""
            while len(echo) < len(message):
                echo += next(output)
            assert echo == message
        process.stdin.write_eof()
        process.stdin.drain()
        assert process.wait() == 0

    def test_status_does_not_wait_for_background_children(self, sandbox: Any) -> None:
        process = sandbox.exec("sh", "-c", "sleep 1000 & exit 3", text=False)
        assert process.wait() == 3
        assert b"sleep 1000" in shell(sandbox, "ps")

    def test_time_out(self, sandbox: Any) -> None:
        process = sandbox.exec("sh", "-c", "sleep 1001; true", text=False, timeout=1)
        assert process.wait() in (-1, 137)
        eventually(lambda: b"sleep 1001" not in shell(sandbox, "ps"), "the command is killed")

    def test_program_not_found(self, sandbox: Any) -> None:
        with pytest.raises(modal.exception.InvalidError, match="not found"):
            sandbox.exec("no-such-program")

    def test_environment_workdir_and_secrets(self, create: Callable[..., Any]) -> None:
        secret = modal.Secret.from_dict({"TOKEN": "t"})
        sandbox = create(workdir="/made/here", env={"A": "1", "B": "1"}, secrets=[secret])
        script = "echo $A $B $TOKEN $PWD"
        assert shell(sandbox, script, env={"B": "2"}) == b"1 2 t /made/here\n"
        assert shell(sandbox, script, workdir="/tmp") == b"1 1 t /tmp\n"

    def test_execs_share_processes_and_files_with_the_entry(self, create: Any) -> None:
        sandbox = create("sh", "-c", "echo entry > /tmp/said; exec sleep 1002")
        eventually(lambda: shell(sandbox, "cat /tmp/said || true") == b"entry\n", "the entry runs")
        assert b"sleep 1002" in shell(sandbox, "ps")
        assert len(shell(sandbox, "ps").splitlines()) < 10


class TestIsolation:
    def test_files_are_not_shared(self, create: Any, rootfs: Path) -> None:
        one, other = create(), create()
        shell(one, "echo mine > /root/file; echo mine > /tmp/file; rm /bin/true")
        assert shell(other, "cd /; ls root tmp") == b"root:\n\ntmp:\n"
        assert run(other, "true")[0] == 0
        assert not (rootfs / "root/file").exists()

    def test_processes_are_not_shared(self, create: Any) -> None:
        one, other = create("sleep", "1003"), create()
        assert b"sleep 1003" in shell(one, "ps")
        assert b"sleep 1003" not in shell(other, "ps")

    def test_block_network(self, create: Any) -> None:
        sandbox = create(block_network=True)
        interfaces = [line for line in shell(sandbox, "ip -o link").splitlines() if line]
        assert len(interfaces) == 1
        assert b" lo:" in interfaces[0]

    def test_local_files(self, create: Any, tmp_path: Path) -> None:
        (tmp_path / "tool").write_bytes(b"#!/bin/sh\necho tool ran\n")
        (tmp_path / "tool").chmod(0o755)
        (tmp_path / "tree/below").mkdir(parents=True)
        (tmp_path / "tree/below/data").write_bytes(BINARY)
        image = modal.Image.debian_slim().add_local_file(tmp_path / "tool", "/opt/bin/tool")
        image = image.add_local_dir(tmp_path / "tree", "/srv/tree")
        (tmp_path / "large").write_bytes(BINARY * 5)
        image = image.add_local_file(tmp_path / "large", "/large")
        sandbox = create(image=image)
        assert run(sandbox, "cat", "/large")[1] == BINARY * 5
        assert run(sandbox, "/opt/bin/tool") == (0, b"tool ran\n", b"")
        assert run(sandbox, "cat", "/srv/tree/below/data")[1] == BINARY
        assert not Path("/opt/bin/tool").exists()


class TestLife:
    def test_terminate(self, create: Any, emulator: Emulator) -> None:
        sandbox = create()
        assert sandbox.poll() is None
        running = sandbox.exec("sleep", "1004")
        sandbox.terminate()
        assert sandbox.object_id not in emulator.live()
        assert sandbox.poll() == 137
        with pytest.raises(modal.exception.NotFoundError):
            running.wait()
        with pytest.raises(modal.exception.NotFoundError):
            sandbox.exec("true")

    def test_terminate_leaves_no_process(self, create: Any) -> None:
        marker = unique("1000")
        sandbox = create()
        shell(sandbox, f"(setsid sleep {marker} </dev/null >/dev/null 2>&1 &)")
        eventually(lambda: running(marker), "it runs")
        sandbox.terminate()
        assert not running(marker)

    def test_entry_ends(self, create: Any) -> None:
        sandbox = create("sh", "-c", "read line; echo got $line; exit 4")
        sandbox.stdin.write(b"hello\n")
        sandbox.stdin.drain()
        sandbox.wait(raise_on_termination=False)
        assert sandbox.returncode == 4
        assert sandbox.stdout.read() == "got hello\n"

    def test_entry_succeeds(self, create: Any) -> None:
        sandbox = create("true")
        sandbox.wait()
        assert sandbox.returncode == 0

    def test_entry_not_found(self, create: Any) -> None:
        sandbox = create("no-such-program")
        sandbox.wait()
        assert sandbox.returncode == 127

    def test_lifetime(self, create: Any) -> None:
        sandbox = create(timeout=1)
        with pytest.raises(modal.exception.SandboxTimeoutError):
            sandbox.wait()
        assert sandbox.returncode == 124

    def test_from_another_client(self, sandbox: Any, emulator: Emulator) -> None:
        shell(sandbox, "echo kept > /tmp/file")
        again = modal.Sandbox.from_id(sandbox.object_id, client=connect(emulator))
        assert run(again, "cat", "/tmp/file")[1] == b"kept\n"
        again.terminate()
        assert sandbox.poll() == 137
        dead = modal.Sandbox.from_id(sandbox.object_id, client=connect(emulator))
        with pytest.raises(modal.exception.ConflictError):
            dead.exec("true")

    def test_unknown_id(self, client: Any) -> None:
        with pytest.raises(modal.exception.NotFoundError):
            modal.Sandbox.from_id("sb-" + "0" * 26, client=client)

    def test_name(self, create: Any, client: Any) -> None:
        named = create(name="one")
        with pytest.raises(modal.exception.AlreadyExistsError):
            create(name="one")
        found = modal.Sandbox.from_name("tests", "one", client=client)
        assert found.object_id == named.object_id
        named.terminate()
        with pytest.raises(modal.exception.NotFoundError):
            modal.Sandbox.from_name("tests", "one", client=client)
        create(name="one")

    def test_tags(self, create: Any, client: Any, app: Any) -> None:
        def listed(**tags: str) -> set[str]:
            found = modal.Sandbox.list(app_id=app.app_id, tags=tags, client=client)
            return {sandbox.object_id for sandbox in found}

        one, other = create(tags={"owner": "a", "n": "1"}), create(tags={"owner": "a", "n": "2"})
        assert one.get_tags() == {"owner": "a", "n": "1"}
        assert listed(owner="a") == {one.object_id, other.object_id}
        one.set_tags({"n": "3"})
        assert one.get_tags() == {"n": "3"}
        assert listed(owner="a") == {other.object_id}
        other.terminate()
        assert listed(owner="a") == set()


class TestBounds:
    def test_a_flood_nobody_reads(self, sandbox: Any, emulator: Emulator) -> None:
        process = sandbox.exec("sh", "-c", "yes | head -c 200000000", text=False)
        assert shell(sandbox, "echo still here") == b"still here\n"
        assert sum(len(chunk) for chunk in process.stdout) == 200_000_000
        assert process.wait() == 0
        assert resident(emulator.pid) < 400 * 2**20


class TestCommand:
    def test_one_line_and_an_end(self, rootfs: Path, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "emulators.modal", "--port", "0", "--lifetime", "0.1"]
        done = subprocess.run(
            [*command, "--rootfs", str(rootfs), "--state", str(tmp_path)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
            check=True,
        )
        assert json.loads(done.stdout)["url"].startswith("http://127.0.0.1:")
        assert not list((tmp_path / "sandboxes").iterdir())


class TestFaults:
    def test_stall_holds_streams_and_loses_nothing(self, create: Any, emulator: Emulator) -> None:
        sandbox, other = create(), create()
        marker = unique("1200")
        process = sandbox.exec("sh", "-c", f"echo early; sleep {marker}; echo late", text=False)
        heard: list[bytes] = []
        reader = threading.Thread(target=lambda: heard.extend(process.stdout), daemon=True)
        reader.start()
        eventually(lambda: heard == [b"early\n"], "the stream is open")
        emulator.stall(sandbox.object_id)
        started = emulator.calls()["TaskExecStart"]
        blocked = subprocess.Popen(
            [sys.executable, "-c", STALLED, sandbox.object_id],
            env={**os.environ, **emulator.environment},
            stdout=subprocess.PIPE,
        )
        with blocked:
            try:
                assert blocked.stdout is not None
                assert blocked.stdout.readline() == b"starting\n"
                eventually(lambda: emulator.calls()["TaskExecStart"] > started, "the call arrives")
                assert sandbox.poll() is None
                (sleep,) = [p for p, line in running(marker).items() if line.startswith("sleep")]
                os.kill(sleep, signal.SIGKILL)
                eventually(lambda: not running(marker), "the command has ended")
                # While another sandbox answers ten times, the stalled one says nothing.
                for _ in range(10):
                    assert shell(other, "echo flows") == b"flows\n"
                assert blocked.poll() is None
                assert heard == [b"early\n"]
            finally:
                # Else a failure above would wait for ever for the blocked process.
                emulator.resume(sandbox.object_id)
            assert blocked.communicate(timeout=DEADLINE)[0] == b"done\n"
        reader.join(DEADLINE)
        assert heard == [b"early\n", b"late\n"]
        assert process.wait() == 0

    def test_crash(self, sandbox: Any, emulator: Emulator) -> None:
        emulator.crash(sandbox.object_id)
        assert sandbox.poll() == 137
        assert sandbox.object_id not in emulator.live()

    def test_unknown_sandbox(self, emulator: Emulator) -> None:
        with pytest.raises(LookupError, match="not found"):
            emulator.stall("sb-none")

    def test_killed_emulator_takes_its_sandboxes_along(self, rootfs: Path, tmp_path: Path) -> None:
        marker = unique("1100")
        with Emulator(rootfs=rootfs, state=tmp_path) as doomed:
            client = connect(doomed)
            app = modal.App.lookup("tests", create_if_missing=True, client=client)
            image = modal.Image.debian_slim()
            sandbox = modal.Sandbox.create("sleep", marker, app=app, image=image, client=client)
            sandbox.exec("setsid", "sleep", marker)
            eventually(lambda: len(running(f"setsid sleep {marker}")) >= 1, "they run")
            doomed.kill()
            eventually(lambda: not running(marker), "they are gone")


STALLED = """
import sys, modal
client = modal.Client.from_credentials("ak-test", "as-test")
sandbox = modal.Sandbox.from_id(sys.argv[1], client=client)
print("starting", flush=True)
sandbox.exec("true").wait()
print("done", flush=True)
"""


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def unique(seconds: str) -> str:
    """A duration for sleep that no other process of this machine has."""
    return f"{seconds}.{uuid.uuid4().int % 10**12:012d}"


def running(marker: str) -> dict[int, str]:
    """The command lines, on this machine, that contain the marker, by process id."""
    lines = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if marker in line:
            lines[int(folder.name)] = line
    return lines
