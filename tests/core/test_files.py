# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
from __future__ import annotations

import errno
import os
import shutil
import stat
import threading

import attrs
import pytest
from support.fake_runtime import SPEC, FakeRuntime, manage
from support.host_runtime import HostRuntime
from support.polling import until

from openrt_core import Sandbox, exec_files
from openrt_core.errors import (
    FileAccessError,
    FileError,
    FileExistsAlreadyError,
    FileIsDirectoryError,
    FileMissingError,
    FileNotDirectoryError,
    PluginError,
    SettingError,
    TransportError,
)
from openrt_core.models import Entry, Exit
from openrt_core.plugin import hookimpl
from openrt_core.process import STDERR, STDOUT
from openrt_core.streams import STREAM_WINDOW

ODD_NAMES = [
    "plain",
    " leading and trailing ",
    "-n",
    "--help",
    "*",
    "a'b\"c$d`e\\f",
    "new\nline",
    "line\n",
    ".hidden",
    "..two",
    "ünï",
    os.fsdecode(b"\xff\xfe"),
    "x" * 255,
]
STREAMED = frozenset({"stdin", "streams"})


def sandbox_in(folder, features=STREAMED, **replaced):
    runtime = HostRuntime(features=features, replaced=replaced)
    return Sandbox.create(manager=manage(runtime), spec=attrs.evolve(SPEC, workdir=str(folder)))


@pytest.fixture(params=["sh", "bash", "busybox"])
def box(request, tmp_path):
    """A sandbox over exec alone, with each shell that is there."""
    replaced: dict[str, tuple[str, ...]] = {}
    if request.param == "bash":
        bash = shutil.which("bash") or pytest.skip("there is no bash here")
        replaced["/bin/sh"] = (bash,)
    elif request.param == "busybox":
        busybox = shutil.which("busybox") or pytest.skip("there is no busybox here")
        tools = tmp_path.parent / f"{tmp_path.name}-tools"
        tools.mkdir()
        for tool in ("sh", "cat", "chmod", "ls", "mkdir", "mv", "readlink", "rm", "rmdir", "stat"):
            (tools / tool).symlink_to(busybox)
        replaced["/bin/sh"] = ("/usr/bin/env", f"PATH={tools}", str(tools / "sh"))
    sandbox = sandbox_in(tmp_path, **replaced)
    yield sandbox
    sandbox.close()


@pytest.fixture
def plain_box(tmp_path):
    with sandbox_in(tmp_path) as sandbox:
        yield sandbox


@pytest.fixture(params=[STREAMED, frozenset()], ids=["through stdin", "through arguments"])
def writer(request, tmp_path):
    with sandbox_in(tmp_path, request.param) as sandbox:
        yield sandbox


def every_byte(size):
    return (bytes(range(256)) * (size // 256 + 1))[:size]


# Over exec alone ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 300, exec_files.ARGUMENT_BYTES, 200_001])
def test_exact_bytes_are_written_and_read_again(writer, tmp_path, size):
    data = every_byte(size)
    assert writer.files.write("f", data) == size
    assert (tmp_path / "f").read_bytes() == data
    assert writer.files.read("f") == data
    assert os.listdir(tmp_path) == ["f"]


def test_exact_bytes_with_every_shell(box):
    assert box.files.write("f", every_byte(3000)) == 3000
    assert box.files.read("f") == every_byte(3000)


def test_more_than_the_bound_of_captured_output_is_read_whole(plain_box, tmp_path):
    data = os.urandom(1 << 20) * 12
    (tmp_path / "big").write_bytes(data)
    assert plain_box.files.read("big") == data


def test_a_file_beyond_the_bound_of_reading_is_refused(plain_box, tmp_path, monkeypatch):
    monkeypatch.setattr(exec_files, "READ_LIMIT", 1000)
    (tmp_path / "big").write_bytes(bytes(1001))
    with pytest.raises(FileError) as caught:
        plain_box.files.read("big")
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(box, tmp_path, name):
    files = box.files
    path = f"{tmp_path}/{name}"
    files.mkdir("d")
    if len(os.fsencode(name)) < 200:
        files.write(path, "text")
        assert set(os.listdir(tmp_path)) == {name, "d"}
    else:
        (tmp_path / name).write_text("text")
    assert files.read_text(path) == "text"
    assert files.stat(path).size == 4
    files.rename(path, "d/moved")
    files.rename("d/moved", path)
    assert name in [e.name for e in files.list()]
    files.remove(path)
    assert not files.exists(path)
    if len(os.fsencode(name)) < 200:
        files.mkdir(f"{path}/below", parents=True)
        (tmp_path / "link").symlink_to(path)
        entry = files.stat("link", follow=False)
        assert (entry.type, entry.target) == ("link", path)
        files.remove(path, recursive=True)
        assert not (tmp_path / name).exists()


def test_a_listing_has_all_kinds_of_names_and_entries(box, tmp_path):
    for name in ODD_NAMES:
        (tmp_path / name).write_bytes(b"abc")
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "link\n").symlink_to("/to/../some\nwhere/")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    entries = {e.name: e for e in box.files.list()}
    assert set(entries) == set(os.listdir(tmp_path))
    there = os.stat(tmp_path / "plain")
    assert entries["plain"] == Entry(
        name="plain",
        type="file",
        size=3,
        mode=stat.S_IMODE(there.st_mode),
        mtime=float(int(there.st_mtime)),
        uid=there.st_uid,
        gid=there.st_gid,
    )
    assert (entries["folder"].type, entries["folder"].mode) == ("dir", 0o700)
    assert (entries["link\n"].type, entries["link\n"].target) == ("link", "/to/../some\nwhere/")
    assert entries["dangling"].target == "nowhere"
    assert entries["fifo"].type == "other"
    assert [e.name for e in box.files.list()] == sorted(entries)


def test_a_listing_of_an_empty_folder_is_empty(box):
    assert box.files.list() == []


def test_a_listing_of_many(plain_box, tmp_path):
    names = {f"{n:0200}" for n in range(1203)}
    for name in names:
        (tmp_path / name).touch()
    assert {e.name for e in plain_box.files.list()} == names


def test_stat_follows_links_or_not(box, tmp_path):
    (tmp_path / "f").write_bytes(b"12345")
    (tmp_path / "l").symlink_to("f")
    followed, itself = box.files.stat("l"), box.files.stat("l", follow=False)
    assert (followed.name, followed.type, followed.size) == (str(tmp_path / "l"), "file", 5)
    assert (itself.type, itself.target) == ("link", "f")


def test_writing_makes_missing_folders_and_sets_the_mode(writer, tmp_path):
    writer.files.write("a/b/new", "1")
    writer.files.write("tool", "2", mode=0o4750)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a/b/new").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "tool").stat().st_mode) == 0o4750


def test_writing_keeps_the_mode_of_a_file_that_is_there(writer, tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o640)
    writer.files.write("f", "new")
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_writing_follows_a_link_and_replaces_what_it_points_to(writer, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d/target")
    writer.files.write("l", "1")
    writer.files.write("l", "2")
    assert (tmp_path / "l").is_symlink()
    assert (tmp_path / "d/target").read_text() == "2"


def test_writing_replaces_the_file_so_that_a_reader_never_sees_half_of_it(writer, tmp_path):
    (tmp_path / "f").write_text("old")
    with open(tmp_path / "f") as reader:
        writer.files.write("f", "new")
        assert reader.read() == "old"


def test_rename_replaces_as_rename_does_and_never_moves_into(box, tmp_path):
    files = box.files
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    (tmp_path / "to-full").symlink_to("full")
    files.rename("a", "b")
    assert (tmp_path / "b").read_text() == "a"
    files.rename("full", "empty")
    assert os.listdir(tmp_path / "empty") == ["x"]
    with pytest.raises(FileIsDirectoryError):
        files.rename("b", "empty")
    with pytest.raises(FileNotDirectoryError):
        files.rename("empty", "b")
    files.mkdir("other")
    with pytest.raises(FileError) as caught:
        files.rename("other", "empty")
    assert caught.value.errno == errno.ENOTEMPTY
    files.rename("empty", "empty")
    (tmp_path / "to-full").unlink()
    (tmp_path / "to-full").symlink_to("empty")
    files.rename("b", "to-full")
    assert (tmp_path / "to-full").read_text() == "a"
    assert os.listdir(tmp_path / "empty") == ["x"]


def test_remove_never_follows_a_link(box, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").touch()
    (tmp_path / "l").symlink_to("d")
    box.files.remove("l/", recursive=True)
    assert sorted(os.listdir(tmp_path)) == ["d"]
    assert os.listdir(tmp_path / "d") == ["x"]


def test_mkdir_sets_the_mode_and_knows_parents_and_exist_ok(box, tmp_path):
    files = box.files
    files.mkdir("a/b", parents=True, mode=0o700)
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    files.mkdir("a/b", exist_ok=True)
    with pytest.raises(FileExistsAlreadyError):
        files.mkdir("a/b")
    with pytest.raises(FileMissingError):
        files.mkdir("c/d")


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (FileMissingError, lambda f: f.read("none")),
        (FileMissingError, lambda f: f.list("none")),
        (FileMissingError, lambda f: f.stat("none")),
        (FileMissingError, lambda f: f.stat("dangling")),
        (FileMissingError, lambda f: f.remove("none")),
        (FileMissingError, lambda f: f.rename("none", "x")),
        (FileMissingError, lambda f: f.rename("file", "none/x")),
        (FileIsDirectoryError, lambda f: f.read("dir")),
        (FileIsDirectoryError, lambda f: f.write("dir", "x")),
        (FileNotDirectoryError, lambda f: f.read("file/x")),
        (FileNotDirectoryError, lambda f: f.write("file/x", "x")),
        (FileNotDirectoryError, lambda f: f.list("file")),
        (FileNotDirectoryError, lambda f: f.stat("file/x")),
        (FileNotDirectoryError, lambda f: f.mkdir("file/x", parents=True)),
        (FileExistsAlreadyError, lambda f: f.mkdir("file")),
        (FileExistsAlreadyError, lambda f: f.mkdir("dangling")),
        (FileAccessError, lambda f: f.remove("/", recursive=True)),
    ],
)
def test_errors_are_of_their_kind_and_name_the_path(box, tmp_path, kind, call):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(kind) as caught:
        call(box.files)
    assert caught.value.errno
    assert os.path.isabs(caught.value.filename)


def test_removing_a_full_folder_needs_recursive(box, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").touch()
    with pytest.raises(FileError) as caught:
        box.files.remove("d")
    assert caught.value.errno == errno.ENOTEMPTY
    box.files.remove("d", recursive=True)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may do everything")
def test_what_may_not_be_read_is_an_access_error(plain_box, tmp_path):
    (tmp_path / "d").mkdir(mode=0)
    with pytest.raises(FileAccessError):
        plain_box.files.list("d")


def test_a_fifo_is_refused_rather_than_waited_for(box, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileError, match="Invalid argument"):
        box.files.read("fifo")


def test_an_image_without_the_tools_is_told_so(tmp_path):
    (tmp_path / "f").touch()
    replaced = {"/bin/sh": ("/usr/bin/env", "PATH=/nowhere", "/bin/sh")}
    with sandbox_in(tmp_path, **replaced) as sandbox:
        for call in (sandbox.files.list, lambda: sandbox.files.read("f")):
            with pytest.raises(FileError, match="lacks a tool") as caught:
                call()
            assert caught.value.errno == errno.ENOSYS


@attrs.define(eq=False)
class Cut(HostRuntime):
    """The way to it breaks at its third command."""

    features: frozenset[str] = frozenset()

    @hookimpl
    def openrt_exec(self, handle, command, process):
        if len(self.commands) == 2:
            self.commands.append(command)
            raise TransportError("cut")
        return HostRuntime.openrt_exec(self, handle, command, process)


def test_a_write_in_parts_that_fails_leaves_nothing_behind(tmp_path):
    spec = attrs.evolve(SPEC, workdir=str(tmp_path))
    with (
        Sandbox.create(manager=manage(Cut()), spec=spec) as sandbox,
        pytest.raises(TransportError, match="cut"),
    ):
        sandbox.files.write("f", bytes(100_000))
    assert os.listdir(tmp_path) == []


def test_a_listing_of_other_things_than_entries_names_hook_and_runtime():
    class Lists(FakeRuntime):
        @hookimpl
        def openrt_list_files(self):
            return ["name"]

    with (
        Sandbox.create(manager=manage(Lists()), spec=SPEC) as sandbox,
        pytest.raises(PluginError, match="openrt_list_files of the runtime 'fake'"),
    ):
        sandbox.files.list()


def test_wrappers_of_exec_do_not_see_what_file_hooks_run(tmp_path):
    class Denies:
        @hookimpl(wrapper=True)
        def openrt_exec(self):
            yield
            raise AssertionError("seen")

    spec = attrs.evolve(SPEC, workdir=str(tmp_path))
    with Sandbox.create(manager=manage(HostRuntime(), w=Denies()), spec=spec) as sandbox:
        sandbox.files.write("f", "x")
        assert sandbox.files.read_text("f") == "x"


def scripted(stdout=b"", stderr=b"", code=0):
    def script(process):
        process.feed(STDOUT, stdout)
        process.feed(STDERR, stderr)
        process.exited(Exit(code=code))

    return Sandbox.create(manager=manage(FakeRuntime(script=script)), spec=SPEC)


HOSTILE = [
    b"nonsense",
    b"81a4 1 2 3 4/./a",
    b"\0\0",
    b"z 1 2 3 4/./a/\n",
    b"81a4 5 " + b"9" * 400 + b" 0 0/./n/\n",
    b"81a4 -5 5 0 0/./n/\n",
    b"-1 5 5 0 0/./n/\n",
    b"f" * 60 + b" 1 1 1 1/./n/\n",
    b"81a4 5 5 -1 0/./n/\n",
    b"81a4 5 5 0 4294967296/./n/\n",
    b"81a4 5 5 0 0/./../\n",
    b"81a4 5 5 0 0/././\n",
    b"81a4 5 5 0 0/.//\n",
]


@pytest.mark.parametrize("answer", HOSTILE)
def test_a_hostile_listing_is_a_transport_error(answer):
    with scripted(answer) as sandbox, pytest.raises(TransportError):
        sandbox.files.list()


def test_a_complaint_that_comes_in_pieces_is_understood_whole():
    def script(process):
        for piece in (b"cat: /nope", b": No such file", b" or directory\n"):
            process.feed(STDERR, piece)
        process.exited(Exit(code=1))

    with (
        Sandbox.create(manager=manage(FakeRuntime(script=script)), spec=SPEC) as sandbox,
        pytest.raises(FileMissingError),
    ):
        sandbox.files.read("/nope")


def test_a_flood_of_complaints_is_taken_while_a_file_is_read():
    def flood(process):
        try:
            for _ in range(3):
                process._controls.credits.clear()
                process.feed(STDERR, b"x" * STREAM_WINDOW)
                # As a runtime with flow control: nothing more is sent until that was read.
                until(lambda: (STDERR, STREAM_WINDOW) in process._controls.credits)
            process.feed(STDOUT, b"content")
        finally:
            process.exited(Exit(code=0))

    def script(process):
        threading.Thread(target=flood, args=(process,), daemon=True).start()

    with Sandbox.create(manager=manage(FakeRuntime(script=script)), spec=SPEC) as sandbox:
        assert sandbox.files.read("/f") == b"content"


def test_what_a_failing_tool_says_is_not_shown_raw():
    with (
        scripted(stderr=b"\x1b]0;owned\x07" * 100, code=9) as sandbox,
        pytest.raises(FileError, match="status 9") as caught,
    ):
        sandbox.files.read("f")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


# The façade ---------------------------------------------------------------------------------------


class Own(FakeRuntime):
    """Writes down what its file hooks are asked for."""

    asked: tuple[object, ...] = ()

    @hookimpl
    def openrt_write_file(self, path, data, mode, user):
        self.asked = (path, data, mode, user)
        return len(data) - (data == b"short")


@pytest.mark.parametrize(
    ("path", "full"),
    [("a", "/w/a"), ("/a/", "/a"), ("a//", "/w/a"), ("../a", "/w/../a"), (".", "/w"), ("/", "/")],
)
def test_paths_are_absolute_or_relative_to_the_working_folder(path, full):
    runtime = Own()
    spec = attrs.evolve(SPEC, workdir="/w")
    with Sandbox.create(manager=manage(runtime), spec=spec) as sandbox:
        sandbox.files.write(path, "é", mode=0o600, user=5)
    assert runtime.asked == (full, "é".encode(), 0o600, 5)


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes"])
def test_what_is_no_path_is_refused(path):
    with (
        Sandbox.create(manager=manage(), spec=SPEC) as sandbox,
        pytest.raises(SettingError, match="no path"),
    ):
        sandbox.files.read(path)


@pytest.mark.parametrize("mode", [-1, 0o10000])
def test_what_is_no_mode_is_refused(mode):
    with Sandbox.create(manager=manage(), spec=SPEC) as sandbox:
        with pytest.raises(SettingError, match="permission bits"):
            sandbox.files.write("a", "", mode=mode)
        with pytest.raises(SettingError, match="permission bits"):
            sandbox.files.mkdir("a", mode=mode)


def test_a_short_write_is_an_error():
    with (
        Sandbox.create(manager=manage(Own()), spec=SPEC) as sandbox,
        pytest.raises(FileError, match="4 of 5 bytes"),
    ):
        sandbox.files.write("a", "short")
