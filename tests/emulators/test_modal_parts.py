"""Parts of the Modal emulator that need neither a sandbox nor the client library."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from emulators.modal.files import FileStore, MountedFile, find_program, resolve
from emulators.modal.process import Process

DEADLINE = 60.0
BINARY = bytes(range(256)) * 4096


class TestPaths:
    @pytest.mark.parametrize("path", ["/a/b", "a/b", "//a/b", "///a/b", "/../a/b", "/x/../a/./b"])
    def test_stay_below_the_root(self, tmp_path: Path, path: str) -> None:
        assert resolve(tmp_path, path) == tmp_path / "a/b"

    @pytest.mark.parametrize("target", ["/real", "real", "../../real", "//real", "/link2"])
    def test_links_too(self, tmp_path: Path, target: str) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(target)
        (tmp_path / "link2").symlink_to("real")
        assert resolve(tmp_path, "/link/file") == tmp_path / "real/file"

    def test_loop(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("/loop")
        with pytest.raises(OSError, match="too many"):
            resolve(tmp_path, "/loop")

    def test_programs_are_those_of_the_root(self, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/tool").touch(0o755)
        (tmp_path / "bin/text").touch(0o644)
        env = {"PATH": "/sbin:/bin"}
        assert find_program(tmp_path, "tool", "/", env)
        assert find_program(tmp_path, "./tool", "/bin", env)
        for name in ("text", "sh", "/bin/sh", "/bin", ""):
            assert not find_program(tmp_path, name, "/", env)


class TestFileStore:
    def test_content_is_placed_with_its_mode(self, tmp_path: Path) -> None:
        store, digest = FileStore(tmp_path / "store"), hashlib.sha256(b"data").hexdigest()
        with pytest.raises(ValueError, match="not uploaded"):
            store.add_mount([MountedFile("/f", digest, 0)])
        store.put(digest, b"data")
        files = [MountedFile("//opt/run", digest, 0o100755), MountedFile("/opt/f", digest, 0)]
        store.place(store.add_mount(files), tmp_path / "root")
        assert (tmp_path / "root/opt/run").read_bytes() == b"data"
        assert (tmp_path / "root/opt/run").stat().st_mode == 0o100755
        assert (tmp_path / "root/opt/f").stat().st_mode == 0o100644

    @pytest.mark.parametrize("digest", ["", "../" * 21 + "x", hashlib.sha256(b"x").hexdigest()])
    def test_wrong_digest(self, tmp_path: Path, digest: str) -> None:
        with pytest.raises(ValueError):
            FileStore(tmp_path).put(digest, b"data")


class TestOffsets:
    def test_stdin_repeated_by_offset_is_written_once(self) -> None:
        async def main() -> bytes:
            process = Process.start(["cat"], {"PATH": os.environ["PATH"]})
            await process.stdin.write(0, b"once")
            await process.stdin.write(0, b"once more")
            with pytest.raises(ValueError, match="offset 20"):
                await process.stdin.write(20, b"gap")
            await process.stdin.write(9, b"", end=True)
            await asyncio.wait_for(process.ended.wait(), DEADLINE)
            return b"".join([chunk async for chunk in process.stdout.read_from(0)])

        assert asyncio.run(main()) == b"once more"

    def test_output_from_any_offset(self) -> None:
        async def main() -> list[bytes]:
            process = Process.start(["echo", "0123456789"], {"PATH": os.environ["PATH"]})
            await asyncio.wait_for(process.ended.wait(), DEADLINE)
            return [
                b"".join([chunk async for chunk in process.stdout.read_from(offset)])
                for offset in (0, 5, 0, 11)
            ]

        assert asyncio.run(main()) == [b"0123456789\n", b"56789\n", b"0123456789\n", b""]

    def test_close_wakes_a_blocked_write(self) -> None:
        async def main() -> None:
            process = Process.start(["sleep", "1005"], {"PATH": os.environ["PATH"]})
            writing = asyncio.create_task(process.stdin.write(0, BINARY))
            await asyncio.sleep(0)
            process.kill()
            await asyncio.wait_for(writing, DEADLINE)

        asyncio.run(main())
