"""Whatever bytes come: a typed error or files below the folder, never anything elsewhere."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
from support.tars import END, base256, extra, header, padded, pax, snapshot, unpack

LIMIT = 64 * 1024
PLAIN = b"a b a/b a/b/c ./a .. ../b a/.. /etc/x l l/a l/l outside . a/ \xff there there/x down/x"
NAMES = st.sampled_from([b"", b"b/" * 300, *PLAIN.split()])
TARGETS = st.one_of(
    NAMES, st.sampled_from([b"../outside", b"../outside/secret", b"/tmp", b"..", b"l", b"a"])
)
KINDS = st.sampled_from([b"0", b"0", b"1", b"1", b"2", b"2", b"5", b"5", b"\0", b"3", b"6", b"S"])
SIZES = st.one_of(st.integers(0, 3000), st.sampled_from([base256(-1), base256(1 << 60), b"x"]))
CONTENT = st.binary(max_size=64)


@st.composite
def members(draw):
    before = draw(
        st.sampled_from(
            [
                b"",
                b"",
                extra(b"L", draw(NAMES)),
                extra(b"K", draw(TARGETS)),
                extra(b"x", pax(path=draw(NAMES))),
                extra(b"x", pax(linkpath=draw(TARGETS), mtime=b"1.5")),
                extra(b"x", draw(CONTENT)),
                extra(b"g", pax(comment=b"c")),
            ]
        )
    )
    content = draw(CONTENT)
    kind = draw(KINDS)
    size = len(content) if kind in (b"0", b"\0") else 0
    told = draw(st.one_of(st.just(size), st.just(size), SIZES))
    mode = draw(st.integers(0, 0o7777))
    made = header(draw(NAMES), kind, size=told, mode=mode, target=draw(TARGETS))
    return before + made + (padded(content) if size else b"")


@st.composite
def archives(draw):
    data = bytearray(b"".join(draw(st.lists(members(), max_size=8))) + END)
    for _ in range(draw(st.integers(0, 2))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


@settings(max_examples=400)
@given(st.one_of(archives(), st.binary(max_size=2000)))
def test_any_archive_is_extracted_within_the_folder_or_refused(data):
    with tempfile.TemporaryDirectory() as name:
        base = pathlib.Path(name)
        root = base / "root"
        for made in (root, base / "outside", root / "a"):
            made.mkdir()
        (base / "outside/secret").write_text("secret")
        (root / "there").write_text("there")
        (root / "down").symlink_to("../outside")
        outside = snapshot(base / "outside")
        mode = (base / "outside/secret").stat().st_mode
        # FileError is one as well; nothing else may come.
        with contextlib.suppress(OSError):
            unpack(data, root, limit=LIMIT)
        os.chmod(root, 0o700)
        assert snapshot(base / "outside") == outside
        assert sorted(os.listdir(base)) == ["outside", "root"]
        assert (base / "outside/secret").stat().st_mode == mode
        assert (base / "outside/secret").stat().st_nlink == 1
        check(root)


def check(root: pathlib.Path) -> None:
    """Only files, folders and links, without special bits, within the limit."""
    total = 0
    for where, folders, files in os.walk(root):
        for entry in folders + files:
            info = os.lstat(os.path.join(where, entry))
            assert stat.S_IFMT(info.st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
            assert stat.S_ISLNK(info.st_mode) or not info.st_mode & 0o7000
            total += info.st_size if stat.S_ISREG(info.st_mode) else 0
            assert not entry.startswith(".openrt-")
        for entry in folders:
            if not os.path.islink(os.path.join(where, entry)):
                os.chmod(os.path.join(where, entry), 0o700)
    assert total <= LIMIT
