"""File operations through the real agent."""

from __future__ import annotations

import contextlib
import json
import os
import threading

import pytest
from support.agents import PATIENCE, PlayedAgent, linux, real_agent

from openrt_agent import wire
from openrt_agent.file_client import FileClient
from openrt_core.errors import (
    FileAccessError,
    FileError,
    FileExistsAlreadyError,
    FileIsDirectoryError,
    FileMissingError,
    FileNotDirectoryError,
    OpenrtError,
    TransportError,
)

MIB = 1 << 20


@pytest.fixture(scope="module")
def agent():
    with real_agent() as agent:
        yield agent


@pytest.fixture
def files(agent):
    return agent.client.files


@linux
class TestRealFiles:
    def test_write_and_read(self, files, tmp_path):
        path = tmp_path / "new folder" / "file\udcff é"
        data = os.urandom(1000)
        assert files.write(str(path), data) == 1000
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == 0o644
        assert files.read(str(path)) == data
        assert os.listdir(path.parent) == [path.name]

    def test_nothing(self, files, tmp_path):
        assert files.write(str(tmp_path / "empty"), b"") == 0
        assert files.read(str(tmp_path / "empty")) == b""

    def test_twenty_mebibytes(self, files, tmp_path):
        data = os.urandom(MIB) * 20
        assert files.write(str(tmp_path / "big"), data) == len(data)
        assert files.read(str(tmp_path / "big")) == data

    def test_a_part(self, files, tmp_path):
        (tmp_path / "f").write_bytes(b"0123456789")
        assert files.read(str(tmp_path / "f"), offset=3, length=4) == b"3456"
        assert files.read(str(tmp_path / "f"), offset=8) == b"89"

    def test_more_than_the_limit(self, files, tmp_path):
        (tmp_path / "f").write_bytes(b"x" * 11)
        assert files.read(str(tmp_path / "f"), limit=11) == b"x" * 11
        with pytest.raises(FileError) as caught:
            files.read(str(tmp_path / "f"), limit=10)
        assert caught.value.code == "file.too_large"
        with pytest.raises(FileError):
            files.read("/dev/zero", limit=5 * MIB)

    def test_modes(self, files, tmp_path):
        path = tmp_path / "script"
        files.write(str(path), b"", mode=0o750)
        assert path.stat().st_mode & 0o777 == 0o750
        files.write(str(path), b"again")
        assert path.stat().st_mode & 0o777 == 0o750

    def test_append_and_exclusive(self, files, tmp_path):
        path = str(tmp_path / "f")
        files.write(path, b"a", exclusive=True)
        with pytest.raises(FileExistsAlreadyError):
            files.write(path, b"b", exclusive=True)
        files.write(path, b"c", append=True)
        assert files.read(path) == b"ac"

    def test_stat_and_links(self, files, tmp_path):
        (tmp_path / "f").write_bytes(b"abc")
        (tmp_path / "l").symlink_to("f")
        entry = files.stat(str(tmp_path / "l"))
        assert (entry.name, entry.type, entry.size) == (str(tmp_path / "l"), "file", 3)
        assert entry.mtime == pytest.approx((tmp_path / "f").stat().st_mtime)
        link = files.stat(str(tmp_path / "l"), follow=False)
        assert (link.type, link.target) == ("link", "f")

    def test_list(self, files, tmp_path):
        assert files.list(str(tmp_path)) == []
        (tmp_path / "d").mkdir()
        (tmp_path / "f\n\udcff").write_bytes(b"abc")
        (tmp_path / "l").symlink_to("nowhere")
        os.mkfifo(tmp_path / "p")
        found = {(e.name, e.type) for e in files.list(str(tmp_path))}
        assert found == {("d", "dir"), ("f\n\udcff", "file"), ("l", "link"), ("p", "other")}

    def test_a_large_folder(self, files, tmp_path):
        for n in range(2000):
            (tmp_path / f"{n:04}").touch()
        assert len(files.list(str(tmp_path))) == 2000

    def test_mkdir_rename_remove(self, files, tmp_path):
        files.mkdir(str(tmp_path / "a" / "b"))
        files.mkdir(str(tmp_path / "a" / "b"))
        with pytest.raises(FileExistsAlreadyError):
            files.mkdir(str(tmp_path / "a"), exist_ok=False)
        with pytest.raises(FileMissingError):
            files.mkdir(str(tmp_path / "x" / "y"), parents=False)
        files.rename(str(tmp_path / "a"), str(tmp_path / "c"))
        with pytest.raises(FileError) as caught:
            files.remove(str(tmp_path / "c"))
        assert caught.value.code == "file.not_empty"
        files.remove(str(tmp_path / "c"), recursive=True)
        assert os.listdir(tmp_path) == []

    def test_the_kinds_of_errors(self, files, tmp_path):
        (tmp_path / "f").touch()
        with pytest.raises(FileMissingError) as caught:
            files.read(str(tmp_path / "no"))
        assert caught.value.errno == 2
        assert caught.value.filename == str(tmp_path / "no")
        with pytest.raises(FileIsDirectoryError):
            files.read(str(tmp_path))
        with pytest.raises(FileNotDirectoryError):
            files.list(str(tmp_path / "f"))
        with pytest.raises(FileError):
            files.remove("/")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")
    def test_the_rights_of_a_user(self, files, tmp_path):
        (tmp_path / "f").write_bytes(b"secret")
        (tmp_path / "f").chmod(0o600)
        with pytest.raises(FileAccessError):
            files.read(str(tmp_path / "f"), user={"uid": 54321, "gid": 54321})

    def test_many_at_once(self, files, tmp_path):
        wrong = []

        def work(n):
            path, data = str(tmp_path / str(n)), os.urandom(100_000)
            files.write(path, data)
            if files.read(path) != data:
                wrong.append(n)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_a_reader_that_is_interrupted_is_cancelled(self, agent, tmp_path):
        os.mkfifo(tmp_path / "p")
        files = FileClient(agent.client._connection, patience=0.2)
        with pytest.raises(TransportError, match="Nothing moved"):
            files.read(str(tmp_path / "p"))
        # The connection is as good as before.
        assert agent.client.files.stat(str(tmp_path / "p")).type == "other"


class Play:
    """A file operation against an agent that the test plays."""

    def __init__(self, work, *answers):
        self.agent = PlayedAgent()
        self.client = self.agent.connect()
        self.error = None
        thread = threading.Thread(target=self._run, args=(work,))
        thread.start()
        self.id, payload = self.agent.expect(wire.FILE)
        self.request = json.loads(payload)
        with contextlib.suppress(BrokenPipeError):  # the client hung up at the first of them
            for kind, answer in answers:
                self.agent.send(kind, self.id, answer)
        thread.join(PATIENCE)
        self.client.close()
        self.agent.close()

    def _run(self, work):
        try:
            work(self.client.files)
        except OpenrtError as error:
            self.error = error


ENTRY = {"type": "file", "size": 1, "mode": 0o644, "mtime_ns": 0, "uid": 0, "gid": 0}


@pytest.mark.parametrize(
    ("work", "answers"),
    [
        (lambda f: f.stat("/a"), [(wire.END, {})]),
        (lambda f: f.stat("/a"), [(wire.END, {"entry": {**ENTRY, "size": -1}})]),
        (lambda f: f.stat("/a"), [(wire.END, {"entry": {**ENTRY, "type": "door"}})]),
        (lambda f: f.list("/a"), [(wire.DATA, b"\1nonsense\n"), (wire.END, {"count": 1})]),
        (
            lambda f: f.list("/a"),
            [
                (wire.DATA, b"\1" + json.dumps({**ENTRY, "name": "../x"}).encode()),
                (wire.END, {"count": 1}),
            ],
        ),
        (lambda f: f.read("/a"), [(wire.DATA, b"\1abc"), (wire.END, {"size": 4})]),
        (lambda f: f.read("/a", limit=2), [(wire.DATA, b"\1abcd"), (wire.END, {"size": 4})]),
        (lambda f: f.write("/a", b"x"), [(wire.END, {"size": "1"})]),
        (lambda f: f.mkdir("/a"), [(wire.DATA, b"\1abc")]),
        (lambda f: f.mkdir("/a"), [(wire.EXITED, {})]),
    ],
)
def test_hostile_answers_end_the_connection(work, answers):
    play = Play(work, *answers)
    assert isinstance(play.error, TransportError)
    assert play.error.code == "transport.protocol"
    assert play.client.closed


def test_what_is_asked_for():
    play = Play(lambda f: f.read("/é", limit=99, user={"uid": 5}), (wire.END, {"size": 0}))
    assert play.error is None
    assert play.request == {
        "op": "read",
        "path": "/\xc3\xa9",
        "offset": 0,
        "length": 100,
        "credit": [100, 0],
        "user": {"uid": 5},
    }


def test_a_write_that_fails_early_is_not_sent_to_its_end():
    error = {"code": "no_space", "message": "disk full", "errno": 28}
    play = Play(lambda f: f.write("/a", bytes(5 * MIB)), (wire.ERROR, error))
    assert isinstance(play.error, FileError)
    assert (play.error.code, play.error.errno) == ("file.no_space", 28)
