# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import stat
import threading
import time
from typing import Any

import attrs
import pytest
from support import odd_tree
from support.fake_runtime import SPEC, FakeRuntime, hang, manage
from support.host_runtime import HostRuntime
from support.tars import END, file, link, snapshot

from openrt_core import AsyncSandbox, Sandbox, running
from openrt_core.errors import (
    FileAccessError,
    FileError,
    FileIsDirectoryError,
    FileMissingError,
    FileNotDirectoryError,
    PluginError,
    SettingError,
    TransportError,
    UnsupportedError,
)
from openrt_core.events import Event
from openrt_core.manager import Manager
from openrt_core.models import Exit
from openrt_core.plugin import hookimpl
from openrt_core.process import STDERR, STDOUT

MIB = 1024 * 1024
STREAMED = frozenset({"stdin", "streams"})
TOOLS = [
    "cat",
    "chmod",
    "ls",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "rmdir",
    "sh",
    "stat",
    "tar",
    "touch",
]


def sandbox_in(folder, features=STREAMED, **replaced):
    runtime = HostRuntime(features=features, replaced=replaced)
    return Sandbox.create(manager=manage(runtime), spec=attrs.evolve(SPEC, workdir=str(folder)))


@pytest.fixture
def far(tmp_path):
    """The working folder of the sandbox."""
    folder = tmp_path / "far"
    folder.mkdir()
    return folder


@pytest.fixture
def near(tmp_path):
    """The folder of this machine."""
    folder = tmp_path / "near"
    folder.mkdir()
    return folder


@pytest.fixture(params=["gnu", "busybox"])
def box(request, tmp_path, far):
    """A sandbox over exec alone, with the host's tools and with busybox's."""
    replaced: dict[str, tuple[str, ...]] = {}
    if request.param == "busybox":
        busybox = shutil.which("busybox") or pytest.skip("there is no busybox here")
        replaced["/bin/sh"] = only(tmp_path / "tools", TOOLS, busybox)
    with sandbox_in(far, **replaced) as sandbox:
        yield sandbox


@pytest.fixture
def plain_box(far):
    with sandbox_in(far) as sandbox:
        yield sandbox


def only(folder, tools, busybox=None):
    """A shell that finds these tools and no others."""
    folder.mkdir()
    for tool in tools:
        (folder / tool).symlink_to(busybox or shutil.which(tool) or pytest.skip(f"no {tool} here"))
    return ("/usr/bin/env", f"PATH={folder}", str(folder / "sh"))


# What arrives -------------------------------------------------------------------------------------


def test_a_tree_of_odd_entries_goes_there_and_back(box, near, far):
    tree = odd_tree.make(near / "tree")
    size = box.files.upload(tree, "a/b/tree")
    assert snapshot(far / "a/b/tree") == snapshot(tree)
    assert box.files.download("a/b/tree", near / "c/d/back") == size
    assert snapshot(near / "c/d/back") == snapshot(tree)
    for copy in (far / "a/b/tree", near / "c/d/back"):
        assert copy.stat().st_mode == tree.stat().st_mode
        assert copy.stat().st_mtime == tree.stat().st_mtime


def test_hard_links_stay_together_on_the_way_back(box, near, far):
    (far / "d").mkdir()
    (far / "d/a").write_text("1")
    os.link(far / "d/a", far / "d/b")
    box.files.download("d", near / "d")
    assert (near / "d/a").samefile(near / "d/b")


def test_permission_bits_come_without_setuid_setgid_and_sticky(box, near, far):
    for base in (near, far):
        (base / "d").mkdir()
        for name in ("d/f", "f"):
            (base / name).touch()
            (base / name).chmod(0o7755)
    box.files.upload(near / "d", "up")
    box.files.upload(near / "f", "up-f")
    box.files.download("d", near / "down")
    box.files.download("f", near / "down-f")
    for path in (far / "up/f", far / "up-f", near / "down/f", near / "down-f"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["f", "-n", "new\nline", "a'b\"c$d`e\\f", os.fsdecode(b"\xff")])
def test_a_file_under_an_odd_name(box, near, far, name):
    (near / name).write_bytes(bytes(range(256)) * 5)
    (near / name).chmod(0o710)
    os.utime(near / name, (1_000_000_000, 1_000_000_000))
    box.files.upload(near / name, f"x/{name}")
    assert snapshot(far / "x") == {os.fsencode(name): snapshot(near)[os.fsencode(name)]}
    box.files.download(f"x/{name}", near / "back" / name)
    assert snapshot(near / "back") == snapshot(far / "x")


def test_a_file_goes_into_a_folder_under_its_name(box, near, far):
    for base, others in ((near, far), (far, near)):
        (base / "from").write_text(base.name)
        (others / "into").mkdir()
    box.files.upload(near / "from", "into")
    box.files.download("from", near / "into")
    assert (far / "into/from").read_text() == "near"
    assert (near / "into/from").read_text() == "far"


def test_a_file_takes_the_place_of_one_with_its_own_mode(box, near, far):
    for base in (near, far):
        (base / "old").write_text("old")
        (base / "old").chmod(0o600)
        (base / "new").write_text("new")
        (base / "new").chmod(0o755)
    box.files.upload(near / "new", "old")
    box.files.download("new", near / "old")
    for base in (near, far):
        assert (base / "old").read_text() == "new"
        assert stat.S_IMODE((base / "old").stat().st_mode) == 0o755
        assert sorted(os.listdir(base)) == ["new", "old"]


def test_a_folder_is_merged_and_keeps_its_own_mode(box, near, far):
    for base in (near, far):
        (base / "from/d/e").mkdir(parents=True)
        (base / "from/d/e/f").write_text("new")
        (base / "from").chmod(0o711)
        (base / "to/d/e").mkdir(parents=True)
        (base / "to/d/e/f").write_text("old")
        (base / "to/d/kept").write_text("kept")
        (base / "to").chmod(0o750)
    box.files.upload(near / "from", "to")
    box.files.download("from", near / "to")
    for base in (near, far):
        assert (base / "to/d/e/f").read_text() == "new"
        assert (base / "to/d/kept").read_text() == "kept"
        assert stat.S_IMODE((base / "to").stat().st_mode) == 0o750


def test_the_path_that_is_named_is_followed_and_nothing_below_it(box, near, far):
    for base in (near, far):
        (base / "real").mkdir()
        (base / "real/l").symlink_to("f")
        (base / "real/f").write_text("1")
        (base / "named").symlink_to("real")
        (base / "named-f").symlink_to("real/f")
    box.files.upload(near / "named", "up")
    box.files.upload(near / "named-f", "up-f")
    box.files.download("named", near / "down")
    box.files.download("named-f", near / "down-f")
    for base, prefix in ((far, "up"), (near, "down")):
        assert sorted(os.listdir(base / prefix)) == ["f", "l"]
        assert os.readlink(base / prefix / "l") == "f"
        assert (base / f"{prefix}-f").read_text() == "1"
        assert not (base / f"{prefix}-f").is_symlink()


def test_a_local_link_is_replaced_by_a_file_and_not_written_through(plain_box, near, far):
    (far / "f").write_text("new")
    (near / "precious").write_text("precious")
    (near / "l").symlink_to("precious")
    plain_box.files.download("f", near / "l")
    assert (near / "precious").read_text() == "precious"
    assert (near / "l").read_text() == "new"


def test_sockets_are_left_out(box, near, far):
    # The name of a socket must be short.
    for base in (near, far):
        (base / "d").mkdir()
        (base / "d/f").touch()
        here = os.open(base / "d", os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{here}/s")
        os.close(here)
    box.files.upload(near / "d", "up")
    box.files.download("d", near / "down")
    assert os.listdir(far / "up") == os.listdir(near / "down") == ["f"]


def test_a_file_of_the_kernel_that_says_it_is_empty(plain_box, near):
    assert plain_box.files.download("/proc/self/status", near / "status") > 0
    assert (near / "status").read_bytes().startswith(b"Name:")


def test_a_large_file_is_never_whole_in_memory(plain_box, near, far):
    with open(near / "large", "wb") as opened:
        opened.truncate(130 * MIB)
        opened.seek(-3, os.SEEK_END)
        opened.write(b"end")
    largest = before = 0

    def progress(done, total):
        nonlocal largest, before
        assert total == 130 * MIB
        largest, before = max(largest, done - before), done

    plain_box.files.upload(near / "large", "large", progress=progress)
    assert largest <= MIB
    assert (far / "large").stat().st_size == 130 * MIB
    with open(far / "large", "rb") as copied:
        copied.seek(-4, os.SEEK_END)
        assert copied.read() == b"\0end"


# Without stdin, without tar -----------------------------------------------------------------------


def test_without_stdin_a_file_goes_in_arguments_and_a_folder_not_at_all(near, far):
    data = bytes(range(256)) * 300
    (near / "f").write_bytes(data)
    with sandbox_in(far, frozenset({"streams"})) as sandbox:
        sandbox.files.upload(near / "f", "d/g")
        sandbox.files.mkdir("into")
        sandbox.files.upload(near / "f", "into")
        with pytest.raises(UnsupportedError, match="stdin"):
            sandbox.files.upload(near, "folder")
    assert (far / "d/g").read_bytes() == (far / "into/f").read_bytes() == data
    assert sorted(os.listdir(far)) == ["d", "into"]


def test_without_tar_a_file_goes_and_a_folder_is_told_so(tmp_path, near, far):
    (near / "f").write_text("1")
    shell = only(tmp_path / "tools", [tool for tool in TOOLS if tool != "tar"])
    with sandbox_in(far, **{"/bin/sh": shell}) as sandbox:
        sandbox.files.upload(near / "f", "d/g")
        sandbox.files.download("d/g", near / "g")
        for call in (
            lambda: sandbox.files.upload(near, "new"),
            lambda: sandbox.files.download("d", near / "new"),
        ):
            with pytest.raises(FileError, match="has no tar") as caught:
                call()
            assert caught.value.errno == errno.ENOSYS
            assert "busybox" in caught.value.hint
    assert (near / "g").read_text() == "1"
    assert not (near / "new").exists()
    assert not (far / "new").exists()


# What fails ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (FileMissingError, lambda f, near: f.download("none", near / "x")),
        (FileMissingError, lambda f, near: f.download("dangling", near / "x")),
        (FileNotDirectoryError, lambda f, near: f.download("file/x", near / "x")),
        (FileNotDirectoryError, lambda f, near: f.upload(near / "file", "file/x")),
        (FileNotDirectoryError, lambda f, near: f.upload(near / "dir", "file")),
        (FileNotDirectoryError, lambda f, near: f.upload(near / "dir", "file/x")),
        (FileNotDirectoryError, lambda f, near: f.upload(near / "dir", "dangling")),
        (FileIsDirectoryError, lambda f, near: f.upload(near / "file", "holds")),
    ],
)
def test_errors_of_the_sandbox_are_of_their_kind_and_name_the_path(box, near, far, kind, call):
    for base in (near, far):
        (base / "file").write_text("x")
        (base / "dir").mkdir()
        (base / "dangling").symlink_to("nowhere")
    (far / "holds/file").mkdir(parents=True)
    before = snapshot(near), snapshot(far, times=False)
    with pytest.raises(kind) as caught:
        call(box.files, near)
    assert caught.value.filename.startswith(str(far))
    assert (snapshot(near), snapshot(far, times=False)) == before


@pytest.mark.parametrize(
    ("kind", "number", "call"),
    [
        (FileNotFoundError, errno.ENOENT, lambda f, near: f.upload(near / "none", "x")),
        (FileNotFoundError, errno.ENOENT, lambda f, near: f.upload(near / "dangling", "x")),
        (OSError, errno.EINVAL, lambda f, near: f.upload(near / "fifo", "x")),
        (IsADirectoryError, errno.EISDIR, lambda f, near: f.download("file", near / "holds")),
        (NotADirectoryError, errno.ENOTDIR, lambda f, near: f.download("dir", near / "file")),
        (NotADirectoryError, errno.ENOTDIR, lambda f, near: f.download("dir", near / "dangling")),
        (OSError, errno.EINVAL, lambda f, near: f.download("file", near / "fifo")),
    ],
)
def test_errors_of_this_machine_are_those_of_the_system(plain_box, near, far, kind, number, call):
    for base in (near, far):
        (base / "file").write_text("x")
        (base / "dir").mkdir()
    (near / "dangling").symlink_to("nowhere")
    (near / "holds/file").mkdir(parents=True)
    os.mkfifo(near / "fifo")
    before = snapshot(near), snapshot(far)
    with pytest.raises(kind) as caught:
        call(plain_box.files, near)
    assert not isinstance(caught.value, FileError)
    assert caught.value.errno == number
    assert caught.value.filename.startswith(str(near))
    assert (snapshot(near), snapshot(far)) == before


def test_fifos_are_refused_on_both_sides(box, near, far):
    for base in (near, far):
        (base / "d").mkdir()
        os.mkfifo(base / "d/fifo")
    with pytest.raises(OSError) as local:
        box.files.upload(near / "d", "up")
    assert not isinstance(local.value, FileError)
    assert local.value.filename == str(near / "d/fifo")
    with pytest.raises(FileError, match="a FIFO") as caught:
        box.files.download("d", near / "down")
    assert caught.value.code == "file.archive"
    with pytest.raises(FileError, match="Invalid argument"):
        box.files.download("d/fifo", near / "f")


@pytest.mark.skipif(os.getuid() == 0, reason="root may do everything")
def test_what_may_not_be_read_or_written_is_an_access_error(box, near, far):
    for base in (near, far):
        (base / "d").mkdir()
        (base / "d/f").touch(mode=0)
        (base / "closed").mkdir(mode=0o500)
    with pytest.raises(FileAccessError):
        box.files.download("d", near / "down")
    with pytest.raises(FileAccessError):
        box.files.upload(near / "closed", "closed/below")
    with pytest.raises(PermissionError) as caught:
        box.files.upload(near / "d", "up")
    assert caught.value.filename == str(near / "d/f")


def test_the_limit_of_a_download(plain_box, near, far):
    (far / "d").mkdir()
    (far / "d/f").write_bytes(bytes(10_000))
    for path in ("d", "d/f"):
        with pytest.raises(FileError) as caught:
            plain_box.files.download(path, near / "x", limit=9_999)
        assert caught.value.errno == errno.EFBIG
        assert not (near / "x/f").exists()
    assert plain_box.files.download("d/f", near / "f", limit=10_000) == 10_000
    assert sorted(os.listdir(near)) == ["f", "x"]


@pytest.mark.parametrize("change", [-100, 100])
def test_a_file_that_changes_its_size_while_it_is_read(plain_box, near, far, change):
    (near / "d").mkdir()
    (near / "d/f").write_bytes(b"1" * 3 * MIB)
    (near / "d/g").write_text("after")

    def progress(done, total):
        os.truncate(near / "d/f", 3 * MIB + change)

    with pytest.raises(OSError, match="changed its size") as caught:
        plain_box.files.upload(near / "d", "folder", progress=progress)
    assert caught.value.filename == str(near / "d/f")
    assert (far / "folder/f").stat().st_size == 3 * MIB
    assert (far / "folder/g").read_text() == "after"
    os.truncate(near / "d/f", 3 * MIB)
    with pytest.raises(OSError, match="changed its size"):
        plain_box.files.upload(near / "d/f", "file", progress=progress)
    assert os.listdir(far) == ["folder"]


class Stop(BaseException):
    """As KeyboardInterrupt, but nobody else's."""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Stop])
def test_what_is_interrupted_leaves_no_half_file_and_no_command(far, near, error):
    runtime = HostRuntime(features=STREAMED)
    for base in (near, far):
        (base / "old").write_text("old")
        (base / "f").write_bytes(bytes(3 * MIB))

    def progress(done, total):
        raise error

    spec = attrs.evolve(SPEC, workdir=str(far))
    with Sandbox.create(manager=manage(runtime), spec=spec) as sandbox:
        for call in (
            lambda: sandbox.files.upload(near / "f", "old", progress=progress),
            lambda: sandbox.files.upload(near / "f", "new", progress=progress),
            lambda: sandbox.files.download("f", near / "old", progress=progress),
            lambda: sandbox.files.download("f", near / "new", progress=progress),
        ):
            with pytest.raises(error):
                call()
    for base in (near, far):
        assert sorted(os.listdir(base)) == ["f", "old"]
        assert (base / "old").read_text() == "old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_that_is_interrupted_ends_the_command(near, error):
    (near / "f").write_bytes(bytes(3 * MIB))

    def progress(done, total):
        raise error

    def sends(process):
        process.started(1)
        process.feed(STDOUT, b"\n" + file(b"f", bytes(2 * MIB)))

    def takes(process):
        process.started(1)
        process.add_stdin_credit(1 << 40)

    for script, call in (
        (sends, lambda s: s.files.download("d", near / "x", progress=progress)),
        (takes, lambda s: s.files.upload(near, "d", progress=progress)),
    ):
        runtime = FakeRuntime(script=script)
        with (
            Sandbox.create(manager=manage(runtime), spec=SPEC) as sandbox,
            pytest.raises(error),
        ):
            call(sandbox)
        assert all(controls.killed.is_set() for controls in runtime.controls)
    assert os.listdir(near / "x") == []


# A sandbox that lies ------------------------------------------------------------------------------


def scripted(stdout=b"", stderr=b"", code=0, end=True):
    def script(process):
        process.add_stdin_credit(1 << 40)
        process.feed(STDOUT, stdout)
        process.feed(STDERR, stderr)
        if end:
            process.exited(Exit(code=code))

    return Sandbox.create(manager=manage(FakeRuntime(script=script)), spec=SPEC)


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("answer", [b"x" * 5000, b"1 2\nx", b"999 1 1\nx", b"644 -1 1\nx", b"\0\n"])
def test_a_hostile_first_line(near, answer, end):
    with scripted(answer, end=end) as sandbox, pytest.raises(TransportError, match="be read"):
        sandbox.files.download("f", near / "f")
    assert os.listdir(near) == []


@pytest.mark.parametrize("answer", [b"", b"644 3"])
def test_an_answer_that_ends_too_early(near, answer):
    with scripted(answer) as sandbox, pytest.raises(FileError, match="too early"):
        sandbox.files.download("f", near / "f")
    assert os.listdir(near) == []


@pytest.mark.parametrize("end", [True, False])
def test_a_hostile_archive(near, end):
    data = b"\n" + link(b"l", b"/etc") + file(b"l/passwd")
    with scripted(data + END, end=end) as sandbox, pytest.raises(NotADirectoryError):
        sandbox.files.download("d", near / "d")
    with (
        scripted(b"\n" + file(b"../f") + END, end=end) as sandbox,
        pytest.raises(FileError, match="leads out"),
    ):
        sandbox.files.download("d", near / "d")
    assert os.listdir(near / "d") == ["l"]
    assert os.listdir(near) == ["d"]


def test_a_cut_archive_is_explained_by_what_tar_complained_of(near):
    complaint = b"tar: ./x: Cannot open: Permission denied\ntar: Exiting with failure status\n"
    with (
        scripted(b"\n" + file(b"f")[:700], complaint, code=2) as sandbox,
        pytest.raises(FileAccessError, match="Permission denied"),
    ):
        sandbox.files.download("d", near / "d")
    with (
        scripted(b"\n" + file(b"f") + END, complaint, code=2) as sandbox,
        pytest.raises(FileAccessError),
    ):
        sandbox.files.download("d", near / "d")
    with scripted(b"\n" + file(b"f")[:700]) as sandbox, pytest.raises(FileError, match="cut off"):
        sandbox.files.download("d", near / "d")


def test_what_a_failing_tool_says_is_bounded_and_not_shown_raw(near):
    (near / "f").touch()
    for call in (
        lambda s: s.files.download("f", near / "g"),
        lambda s: s.files.upload(near / "f", "f"),
        lambda s: s.files.upload(near, "d"),
    ):
        with (
            scripted(stderr=b"\x1b]0;owned\x07" * 1_000_000, code=9) as sandbox,
            pytest.raises(FileError, match="status 9") as caught,
        ):
            call(sandbox)
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_an_upload_that_is_not_read_to_its_end(near):
    (near / "f").write_bytes(bytes(3 * MIB))
    for call in (
        lambda s: s.files.upload(near / "f", "f"),
        lambda s: s.files.upload(near, "d"),
    ):
        with scripted() as sandbox, pytest.raises(FileError, match="too early"):
            call(sandbox)


def test_a_transfer_that_stands_still_is_given_up(near, monkeypatch):
    monkeypatch.setattr(running, "STALL", 0.05)
    (near / "f").write_bytes(bytes(MIB))
    runtime = FakeRuntime(script=hang)
    with Sandbox.create(manager=manage(runtime), spec=SPEC) as sandbox:
        for call in (
            lambda: sandbox.files.download("f", near / "g"),
            lambda: sandbox.files.upload(near, "d"),
        ):
            with pytest.raises(TransportError, match="stood still"):
                call()
    assert all(controls.killed.is_set() for controls in runtime.controls)


# Progress -----------------------------------------------------------------------------------------


def test_progress_is_told_to_the_caller_and_as_events(near, far):
    events: list[Event] = []
    manager = Manager("fake", HostRuntime(features=STREAMED), emit=events.append)
    (near / "d").mkdir()
    (near / "d/f\n").write_bytes(bytes(20 * MIB))
    with Sandbox.create(manager=manager, spec=attrs.evolve(SPEC, workdir=str(far))) as sandbox:
        for call, known in (
            (lambda p: sandbox.files.upload(near / "d/f\n", "f\n", progress=p), True),
            (lambda p: sandbox.files.download("f\n", near / "g", progress=p), True),
            (lambda p: sandbox.files.upload(near / "d", "d", progress=p), False),
            (lambda p: sandbox.files.download("d", near / "e", progress=p), False),
        ):
            steps: list[tuple[int, int | None]] = []
            events.clear()
            size = call(lambda done, total, steps=steps: steps.append((done, total)))
            assert size == 20 * MIB
            assert steps[-1] == (size, size)
            assert [done for done, _ in steps] == sorted(done for done, _ in steps)
            assert {total for _, total in steps[:-1]} == {size if known else None}
            assert {e.kind for e in events} == {"progress"}
            assert 3 <= len(events) <= 4
            assert (events[-1].done, events[-1].total, events[-1].unit) == (size, size, "bytes")
            assert events[-1].sandbox == sandbox.id
            assert all(e.message.isprintable() for e in events)


# Hooks, async -------------------------------------------------------------------------------------


class Own(FakeRuntime):
    """Writes down what its hooks are asked for."""

    asked: Any = ()
    answer: Any = 5

    @hookimpl
    def openrt_upload(self, source, path, user, progress):
        progress(2, None)
        self.asked = (source, path, user)
        return self.answer

    @hookimpl
    def openrt_download(self, path, target, user, limit):
        self.asked = (path, target, user, limit)
        return self.answer


def test_a_runtime_with_hooks_of_its_own_is_asked_instead(monkeypatch, near):
    monkeypatch.chdir(near)
    runtime: Own = Own()
    steps: list[tuple[int, int | None]] = []
    spec = attrs.evolve(SPEC, workdir="/w")
    with Sandbox.create(manager=manage(runtime), spec=spec) as sandbox:
        assert {"upload", "download"} <= sandbox.capabilities.hooks
        assert sandbox.files.upload("a", "b/", user=7, progress=lambda *s: steps.append(s)) == 5
        assert runtime.asked == (str(near / "a"), "/w/b", 7)
        assert steps == [(2, None), (5, 5)]
        assert sandbox.files.download("/b", "a/", user="me", limit=9) == 5
        assert runtime.asked == ("/b", str(near / "a"), "me", 9)
        runtime.answer = None
        with pytest.raises(PluginError, match="openrt_upload of the runtime 'fake'"):
            sandbox.files.upload("a", "b")
    assert runtime.commands == []


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes"])
def test_what_is_no_path_is_refused(plain_box, near, path):
    for call in (
        lambda: plain_box.files.upload(path, "x"),
        lambda: plain_box.files.upload(near, path),
        lambda: plain_box.files.download(path, near / "x"),
        lambda: plain_box.files.download("x", path),
    ):
        with pytest.raises(SettingError, match="no path"):
            call()


def test_the_default_is_no_capability(plain_box):
    assert not {"upload", "download"} & plain_box.capabilities.hooks


async def open_async(far):
    spec = attrs.evolve(SPEC, workdir=str(far))
    return await AsyncSandbox.create(manager=manage(HostRuntime(features=STREAMED)), spec=spec)


def test_async_code_has_the_same(near, far):
    async def go():
        async with await open_async(far) as sandbox:
            steps: list[int] = []
            await sandbox.files.upload(near / "d", "d", progress=lambda done, _: steps.append(done))
            assert steps[-1] == 1
            await sandbox.files.download("d", near / "back", limit=10_000)
            with pytest.raises(FileMissingError):
                await sandbox.files.download("none", near / "none")

    (near / "d").mkdir()
    (near / "d/f").write_text("1")
    asyncio.run(go())
    assert (far / "d/f").read_text() == (near / "back/f").read_text() == "1"


def test_a_transfer_that_is_cancelled_ends_and_cleans_up(near, far):
    (near / "f").write_bytes(bytes(5 * MIB))
    cancelled = threading.Event()

    async def go():
        async with await open_async(far) as sandbox:
            loop, begun = asyncio.get_running_loop(), asyncio.Event()

            def progress(done, total):
                loop.call_soon_threadsafe(begun.set)
                assert cancelled.wait(60)

            task = asyncio.ensure_future(sandbox.files.upload(near / "f", "f", progress=progress))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(os.listdir(far)) == 1  # the half of it
            cancelled.set()
            end = time.monotonic() + 60
            while os.listdir(far):
                assert time.monotonic() < end
                await asyncio.sleep(0.01)

    asyncio.run(go())
