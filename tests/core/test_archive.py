"""What an archive from the sandbox may say, and what is refused. Each refusal is one rule."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile

import pytest
from support.tars import (
    END,
    GNU,
    USTAR,
    base256,
    extra,
    file,
    folder,
    hard,
    header,
    link,
    padded,
    pax,
    snapshot,
    unpack,
)

from openrt_core import tar_reader
from openrt_core.errors import FileError

GOOD = folder(b"./d/") + file(b"./d/f", b"x" * 700) + link(b"./l", b"d/f") + hard(b"./h", b"./d/f")


@pytest.fixture
def root(tmp_path):
    """A folder to extract into, beside one that nothing may touch."""
    (tmp_path / "outside").mkdir(mode=0o700)
    (tmp_path / "outside/secret").write_text("secret")
    (tmp_path / "secret").write_text("secret")
    made = tmp_path / "root"
    made.mkdir()
    before = {k: v for k, v in snapshot(tmp_path).items() if not k.startswith(b"root")}
    yield made
    after = {k: v for k, v in snapshot(tmp_path).items() if not k.startswith(b"root")}
    assert after == before


def refused(data, root, **options):
    with pytest.raises(FileError) as caught:
        unpack(data, root, **options)
    assert caught.value.code == "file.archive"
    assert caught.value.filename == "/remote"
    assert len(str(caught.value)) < 1000
    return caught.value


# What is taken ------------------------------------------------------------------------------------


def test_files_folders_links_and_hard_links_are_written(root):
    assert unpack(GOOD + END, root) == 700
    assert (root / "d/f").read_bytes() == b"x" * 700
    assert os.readlink(root / "l") == "d/f"
    assert (root / "h").samefile(root / "d/f")
    assert (root / "d/f").stat().st_mtime == 1_000_000_000


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 3 * 1024 * 1024 + 1])
def test_contents_of_every_length_are_exact(root, size):
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    unpack(file(b"a", data) + file(b"b", b"after") + END, root)
    assert (root / "a").read_bytes() == data
    assert (root / "b").read_bytes() == b"after"


def test_a_stream_in_single_bytes_is_the_same(root):
    stream = io.BytesIO(GOOD + END)
    unpack(b"", root, read=lambda _: stream.read(1))
    assert (root / "d/f").read_bytes() == b"x" * 700


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_of_every_format(root, format):
    long = f"{'d' * 90}/{'e' * 90}"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        info = tarfile.TarInfo(long)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
        if format != tarfile.USTAR_FORMAT:
            info = tarfile.TarInfo("l")
            info.type, info.linkname = tarfile.SYMTYPE, "t" * 300
            tar.addfile(info)
    unpack(buffer.getvalue(), root)
    assert (root / long).read_bytes() == b"abc"
    assert format == tarfile.USTAR_FORMAT or os.readlink(root / "l") == "t" * 300


def test_the_prefix_counts_in_ustar_and_not_in_gnu(root):
    old = header(b"gnu", magic=GNU, prefix=b"elsewhere")
    unpack(header(b"name", magic=USTAR, prefix=b"in/a") + old + END, root)
    assert (root / "in/a/name").is_file()
    assert (root / "gnu").is_file()


def test_extended_headers_give_name_size_and_time(root):
    name = "ü\n\udcff".encode("utf-8", "surrogateescape")
    records = pax(path=name, size=b"3", mtime=b"12345.9", SCHILY__xattr__a=b"b\n=")
    unpack(extra(b"x", records) + header(b"other", size=0) + padded(b"abc") + END, root)
    assert os.listdir(os.fsencode(root)) == [name]
    assert (root / os.fsdecode(name)).read_bytes() == b"abc"
    assert (root / os.fsdecode(name)).stat().st_mtime == 12345


@pytest.mark.parametrize(("field", "when"), [(base256(1 << 33), 1 << 33), (base256(-5), -5)])
def test_times_in_base_256(root, field, when):
    unpack(header(b"f", mtime=field) + END, root)
    assert int((root / "f").stat().st_mtime) == when


def test_a_time_before_1970_is_rounded_downwards(root):
    unpack(extra(b"x", pax(mtime=b"-1.5")) + header(b"f") + END, root)
    assert (root / "f").stat().st_mtime == -2


def test_old_tar_marks_folders_by_a_slash(root):
    unpack(header(b"d/", b"\0", mode=0o700, magic=b"") + END, root)
    assert (root / "d").is_dir()


def test_modes_come_without_setuid_setgid_and_sticky(root):
    unpack(header(b"f", mode=0o7755) + folder(b"d", 0o7711) + END, root)
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o711


def test_folders_get_mode_and_time_after_what_is_in_them(root):
    unpack(folder(b"d", 0o500) + folder(b"d/e", 0) + file(b"d/f") + END, root)
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o500
    assert (root / "d").stat().st_mtime == 1_000_000_000
    assert stat.S_IMODE((root / "d/e").stat().st_mode) == 0


def test_the_folder_itself_takes_its_mode_only_when_it_is_new(root):
    unpack(folder(b"./", 0o711) + END, root, made=False)
    assert stat.S_IMODE(root.stat().st_mode) != 0o711
    unpack(folder(b"./", 0o711) + END, root, made=True)
    assert stat.S_IMODE(root.stat().st_mode) == 0o711


def test_a_later_member_of_a_name_takes_the_place_of_the_first(root):
    unpack(file(b"f", b"1") + file(b"f", b"2") + link(b"f", b"x") + file(b"f", b"3") + END, root)
    assert (root / "f").read_bytes() == b"3"
    assert os.listdir(root) == ["f"]


def test_what_was_there_is_replaced_and_not_written_to(root):
    (root / "kept").write_text("kept")
    (root / "f").write_text("old")
    os.link(root / "f", root / "other")
    unpack(file(b"f", b"new") + END, root)
    assert (root / "f").read_text() == "new"
    assert (root / "other").read_text() == "old"
    assert (root / "kept").read_text() == "kept"


def test_links_are_kept_as_they_are_wherever_they_point(root):
    targets = [b"/etc/passwd", b"../outside", b"nowhere", b"../" * 33, b"x" * 100]
    unpack(b"".join(link(b"l%d" % n, t) for n, t in enumerate(targets)) + END, root)
    assert [os.readlink(os.fsencode(root / f"l{n}")) for n in range(5)] == targets


# What is refused: places --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [b"/f", b"//f", b"..", b"../f", b"a/../f", b"a/..", b"./../f", b"a/../../root/f"]
)
@pytest.mark.parametrize("make", [file, folder, lambda n: link(n, b"x"), lambda n: hard(n, b"x")])
def test_a_name_that_is_not_below_the_folder(root, name, make):
    refused(make(name) + END, root)
    assert os.listdir(root) == []


@pytest.mark.parametrize(
    ("key", "value"), [("path", b"/f"), ("path", b"a/../../f"), ("path", b"a\0b")]
)
def test_a_name_that_is_not_below_the_folder_in_an_extended_header(root, key, value):
    refused(extra(b"x", pax(**{key: value})) + header(b"fine") + END, root)
    refused(extra(b"L", b"../f\0") + header(b"fine") + END, root)


@pytest.mark.parametrize("target", [b"../outside", b"/etc", b"d"])
@pytest.mark.parametrize("member", [file(b"l/f"), folder(b"l/f"), link(b"l/f", b"x"), folder(b"l")])
def test_a_link_of_the_archive_is_not_followed(root, target, member):
    with pytest.raises(NotADirectoryError) as caught:
        unpack(folder(b"d") + link(b"l", target) + member + END, root)
    assert caught.value.filename.startswith(str(root / "l"))
    assert os.listdir(root / "d") == []


@pytest.mark.parametrize("member", [file(b"l/f"), folder(b"l/d"), folder(b"l"), file(b"a/l/f")])
def test_a_link_that_was_there_is_not_followed(root, member):
    (root / "l").symlink_to("../outside")
    (root / "a").mkdir()
    (root / "a/l").symlink_to(root.parent / "outside")
    with pytest.raises(NotADirectoryError):
        unpack(member + END, root)


def test_a_file_takes_the_place_of_a_link_and_does_not_go_through_it(root):
    (root / "l").symlink_to("../secret")
    unpack(link(b"m", b"../secret") + file(b"l", b"1") + file(b"m", b"2") + END, root)
    assert (root / "l").read_bytes() == b"1"
    assert not (root / "l").is_symlink()
    assert (root / "m").read_bytes() == b"2"


@pytest.mark.parametrize("member", [file(b"d"), link(b"d", b"x"), file(b"e") + hard(b"d", b"e")])
def test_a_folder_is_never_replaced(root, member):
    (root / "d").mkdir()
    (root / "d/f").touch()
    with pytest.raises(IsADirectoryError):
        unpack(member + END, root)
    assert os.listdir(root / "d") == ["f"]


def test_a_file_is_no_folder(root):
    (root / "f").touch()
    for member in (folder(b"f"), file(b"f/g")):
        with pytest.raises(NotADirectoryError):
            unpack(member + END, root)


@pytest.mark.parametrize(
    "target", [b"there", b"nowhere", b"l", b"d", b"d/nowhere", b"f/x", b"down/secret", b"."]
)
def test_a_hard_link_to_other_things_than_files_of_the_archive(root, target):
    (root / "there").write_text("was there before")
    (root / "down").symlink_to("../outside")
    before = file(b"f") + folder(b"d") + link(b"l", b"../secret")
    refused(before + hard(b"h", target) + END, root)
    assert not (root / "h").exists()


@pytest.mark.parametrize("target", [b"../secret", b"/etc/passwd", b"a/../../secret", b""])
def test_a_hard_link_out_of_the_folder(root, target):
    refused(hard(b"h", target) + END, root)


def test_a_hard_link_to_itself_or_twice_changes_nothing(root):
    unpack(file(b"f", b"1") + hard(b"f", b"f") + hard(b"g", b"f") + hard(b"g", b"f") + END, root)
    assert sorted(os.listdir(root)) == ["f", "g"]
    assert (root / "g").read_bytes() == b"1"


# What is refused: kinds ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"3", b"4", b"6", b"S", b"D", b"M", b"N", b"V", b"A", b"\xff"])
def test_devices_fifos_sparse_files_and_what_is_unknown(root, kind):
    refused(header(b"f", kind) + END, root)
    assert os.listdir(root) == []


def test_sparse_files_in_extended_headers(root):
    refused(extra(b"x", pax(GNU__sparse__major=b"1")) + file(b"f") + END, root)


@pytest.mark.parametrize("record", [{"path": b"p"}, {"linkpath": b"p"}, {"size": b"9"}])
def test_one_name_for_all_members(root, record):
    refused(extra(b"g", pax(**record)) + file(b"f") + END, root)


def test_a_harmless_global_header_is_passed_over(root):
    unpack(extra(b"g", pax(comment=b"x")) + file(b"f") + END, root)
    assert (root / "f").is_file()


@pytest.mark.parametrize("kind", [b"1", b"2", b"5"])
def test_content_where_none_belongs(root, kind):
    refused(file(b"f") + header(b"g", kind, size=1, target=b"f") + bytes(512) + END, root)


@pytest.mark.parametrize("data", [link(b"l", b""), file(b""), file(b"."), link(b"./", b"x")])
def test_no_name_and_no_target(root, data):
    refused(data + END, root)


# What is refused: amounts -------------------------------------------------------------------------


def test_names_of_4096_bytes_and_no_more(root):
    long = b"/".join([b"n" * 99] * 40) + b"/" + b"m" * 96
    assert len(long) == 4096
    for content in (extra(b"L", long + b"\0"), extra(b"x", pax(path=long))):
        data = content + header(b"f") + END
        reader = tar_reader.TarReader(tar_reader.Source(io.BytesIO(data).read), "/remote")
        assert [b"/".join(member.parts) for member in reader] == [long]
    for content in (
        extra(b"L", long + b"n\0"),
        extra(b"L", b"n" * 5000),
        extra(b"x", pax(path=long + b"n")),
    ):
        assert refused(content + header(b"f") + END, root).errno == errno.ENAMETOOLONG
    refused(extra(b"K", b"t" * 4098) + link(b"l", b"t") + END, root)
    refused(extra(b"x", pax(linkpath=b"t" * 4097)) + link(b"l", b"t") + END, root)
    assert os.listdir(root) == []


def test_256_folders_and_no_more(root):
    unpack(extra(b"L", b"d/" * 255 + b"f\0") + header(b"f") + END, root)
    assert refused(extra(b"L", b"d/" * 256 + b"f\0") + header(b"f") + END, root)


def test_the_number_of_members(root, monkeypatch):
    monkeypatch.setattr(tar_reader, "MEMBERS", 3)
    three = b"".join(file(b"%d" % n) for n in range(3))
    unpack(three + END, root)
    assert refused(three + file(b"3") + END, root).errno == errno.EFBIG
    assert len(os.listdir(root)) == 3


def test_the_names_of_folders_that_are_kept_in_mind(root, monkeypatch):
    monkeypatch.setattr("openrt_core.tar_extract._KEPT_BYTES", 10)
    refused(folder(b"aaaaaa") + folder(b"bbbbbb") + END, root)


def test_extended_headers_of_64_kib_and_no_more(root):
    fits = pax(comment=b"c" * (64 * 1024 - 20))
    unpack(extra(b"x", fits) + file(b"f") + END, root)
    refused(extra(b"x", pax(comment=b"c" * 64 * 1024)) + file(b"f") + END, root)
    refused(header(b"x", b"x", size=1 << 32) + END, root)


def test_the_limit_of_bytes_counts_before_anything_is_written(root):
    data = file(b"a", bytes(3000)) + file(b"b", bytes(3000)) + END
    assert unpack(data, root, limit=7024) == 6000
    for name in ("a", "b"):
        (root / name).unlink()
    assert refused(data, root, limit=7023).errno == errno.EFBIG
    assert os.listdir(root) == ["a"]


@pytest.mark.parametrize("size", [base256(1 << 80), base256(1 << 35), b"77777777777\0"])
def test_a_size_that_nobody_has(root, size):
    assert refused(header(b"f", size=size, mode=0o644) + END, root, limit=1 << 30)
    assert os.listdir(root) == []


@pytest.mark.parametrize("size", [base256(-1), b"-1\0", b"0x10\0", b"99\0", b"1 2\0", b"1\x002"])
def test_a_size_that_is_none(root, size):
    refused(header(b"f", size=size) + END, root)


@pytest.mark.parametrize("value", [b"-1", b"1e9", b"", b"9" * 30, "\u0663".encode(), b" 1"])
def test_a_size_in_an_extended_header_that_is_none(root, value):
    refused(extra(b"x", pax(size=value)) + file(b"f") + END, root)


@pytest.mark.parametrize("value", [b"soon", b"", b"1e3", b"9" * 30, b"999999999999999", b"nan"])
def test_a_time_that_is_none(root, value):
    refused(extra(b"x", pax(mtime=value)) + file(b"f") + END, root)
    refused(header(b"f", mtime=base256(1 << 70)) + END, root)


# What is refused: what is no archive --------------------------------------------------------------


def test_every_archive_that_is_cut_off(root):
    whole = GOOD + extra(b"L", b"n" * 200 + b"\0") + header(b"n", size=600) + bytes(1024)
    for length in [*range(0, len(whole), 97), len(whole)]:
        refused(whole[:length], root)
    unpack(whole + END, root)


def test_of_a_file_that_is_cut_off_nothing_is_left(root):
    (root / "old").write_text("old")
    refused(file(b"first") + header(b"f", size=5000) + bytes(3000), root)
    assert sorted(os.listdir(root)) == ["first", "old"]
    refused(header(b"old", size=5000) + bytes(3000), root)
    assert sorted(os.listdir(root)) == ["first", "old"]
    assert (root / "old").read_text() == "old"


def test_nothing_but_nul_follows_the_end(root):
    unpack(GOOD + END + bytes(9216), root)
    refused(GOOD + END + b"x", root)
    refused(GOOD + END + file(b"f"), root)
    refused(GOOD + END + bytes(2 * 1024 * 1024), root)


def test_a_wrong_checksum(root):
    block = bytearray(header(b"f"))
    block[0] ^= 1
    refused(bytes(block) + END, root)
    refused(b"\x1f\x8b" + b"z" * 2000, root)


@pytest.mark.parametrize(
    "content",
    [
        b"5 a=",
        b"x",
        b"999 a=b\n",
        b"0 a=b\n",
        b"6 a=b",
        b"3 =\n",
        b"06 a=b\n",
        b"6 a=bc\n",
        b"-6 a=b\n",
        b"6 a=b\n6",
        b"99999999999999999999 a=b\n",
    ],
)
def test_an_extended_header_that_cannot_be_read(root, content):
    refused(extra(b"x", content) + file(b"f") + END, root)


def test_headers_without_a_member(root):
    for kind in (b"L", b"K", b"x", b"g"):
        refused(extra(kind, b"") + END, root)
        refused(extra(kind, b"") * 2 + file(b"f") + END, root)


def test_a_local_error_is_of_the_system_and_names_the_path(root):
    with pytest.raises(OSError) as caught:
        unpack(extra(b"L", b"n" * 300 + b"\0") + header(b"f") + END, root)
    assert not isinstance(caught.value, FileError)
    assert caught.value.errno == errno.ENAMETOOLONG
    assert caught.value.filename == str(root / ("n" * 300))
