"""Files and folders into every runtime's sandbox and back."""

from __future__ import annotations

import hashlib
import os
import stat
import uuid

import pytest
from support import odd_tree
from support.tars import snapshot

from openrt_core.errors import FileIsDirectoryError, FileMissingError, FileNotDirectoryError

MIB = 1024 * 1024


@pytest.fixture
def remote(shared):
    """A path in the sandbox where nothing is yet."""
    path = f"/tmp/transfer-{uuid.uuid4().hex}"
    yield path
    # Not everybody may remove what is in a folder that nobody may write to.
    shared.exec(["chmod", "-R", "u+rwx", path])
    if shared.files.exists(path, follow=False):
        shared.files.remove(path, recursive=True)


def test_a_tree_of_odd_entries_goes_there_and_back(shared, remote, tmp_path):
    tree = odd_tree.make(tmp_path / "tree")
    size = shared.files.upload(tree, f"{remote}/a/b")
    assert shared.files.download(f"{remote}/a/b", tmp_path / "c/d") == size
    assert snapshot(tmp_path / "c/d") == snapshot(tree)
    assert stat.S_IMODE((tmp_path / "c/d").stat().st_mode) == stat.S_IMODE(tree.stat().st_mode)
    assert (tmp_path / "c/d").stat().st_mtime == tree.stat().st_mtime
    there = {e.name: e for e in shared.files.list(f"{remote}/a/b")}
    assert there["mode755"].mode == 0o755
    assert there["link1"].target == "nowhere"
    assert int(there["folder555"].mtime) == (tree / "folder555").stat().st_mtime_ns // 10**9


def test_a_file_of_20_mib_goes_there_and_back(shared, remote, tmp_path):
    block = hashlib.sha256(b"seed").digest() * 32
    with open(tmp_path / "f", "wb") as file:
        for number in range(20 * 1024):
            file.write(number.to_bytes(8, "big") + block[8:])
    os.chmod(tmp_path / "f", 0o640)
    os.utime(tmp_path / "f", (1_000_000_000, 1_000_000_000))
    steps: list[tuple[int, int | None]] = []
    size = shared.files.upload(
        tmp_path / "f", remote, progress=lambda done, total: steps.append((done, total))
    )
    assert size == 20 * MIB
    assert steps[-1] == (size, size)
    there = shared.files.stat(remote)
    assert (there.size, there.mode, int(there.mtime)) == (size, 0o640, 1_000_000_000)
    assert shared.files.download(remote, tmp_path / "back") == size
    assert (tmp_path / "back").read_bytes() == (tmp_path / "f").read_bytes()
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o640
    assert (tmp_path / "back").stat().st_mtime == 1_000_000_000


def test_into_a_folder_and_over_what_is_there(shared, remote, tmp_path):
    files = shared.files
    (tmp_path / "f").write_text("1")
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/x").write_text("2")
    files.mkdir(remote)
    files.write(f"{remote}/e/kept", "3")
    files.write(f"{remote}/e/x", "old")
    files.upload(tmp_path / "f", remote)
    files.upload(tmp_path / "d", remote)
    assert sorted(e.name for e in files.list(remote)) == ["e", "f"]
    assert [files.read(f"{remote}/e/{name}") for name in ("kept", "x")] == [b"3", b"2"]
    (tmp_path / "back").mkdir()
    files.download(f"{remote}/f", tmp_path / "back")
    files.download(remote, tmp_path / "back")
    assert (tmp_path / "back/f").read_text() == "1"
    assert sorted(os.listdir(tmp_path / "back/e")) == ["kept", "x"]


def test_errors_are_of_their_kind(shared, remote, tmp_path):
    files = shared.files
    (tmp_path / "f").write_text("1")
    files.write(f"{remote}/file", "")
    files.mkdir(f"{remote}/folder/f", parents=True)
    with pytest.raises(FileMissingError):
        files.download(f"{remote}/none", tmp_path / "back")
    with pytest.raises(FileNotDirectoryError):
        files.upload(tmp_path / "f", f"{remote}/file/below")
    with pytest.raises(FileNotDirectoryError):
        files.upload(tmp_path, f"{remote}/file")
    with pytest.raises(FileIsDirectoryError):
        files.upload(tmp_path / "f", f"{remote}/folder")
    assert sorted(os.listdir(tmp_path)) == ["f"]
    assert [e.name for e in files.list(f"{remote}/folder")] == ["f"]


def test_what_is_uploaded_belongs_to_the_user(shared, offered, remote, tmp_path):
    offered("user")
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_text("1")
    shared.files.upload(tmp_path / "d", f"{remote}/d", user=1234)
    shared.files.upload(tmp_path / "d/e/f", f"{remote}/f", user=1234)
    for path in (f"{remote}/d", f"{remote}/d/e/f", f"{remote}/f"):
        assert shared.files.stat(path).uid == 1234
    shared.files.download(f"{remote}/d", tmp_path / "back", user=1234)
    assert (tmp_path / "back/e/f").read_text() == "1"
    shared.files.remove(remote, recursive=True, user=1234)
