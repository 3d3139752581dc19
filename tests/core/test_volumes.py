"""Mounts as text: SANDBOX_VOLUMES and the WORKSPACE_* variables."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrt_core import volumes
from openrt_core.errors import VolumeError
from openrt_core.models import Mount


def parse(text):
    return volumes.parse(text, home="/home/me", cwd="/home/me/work")


@pytest.mark.parametrize(
    ("text", "mounts"),
    [
        # from the documents, with $HOME as a shell leaves it
        ("/home/me/OpenHands:/workspace:rw", [("/home/me/OpenHands", "/workspace", "rw")]),
        ("/mnt/c/dev/OpenHands:/workspace:rw", [("/mnt/c/dev/OpenHands", "/workspace", "rw")]),
        ("/path/to/reference/code:/data:ro", [("/path/to/reference/code", "/data", "ro")]),
        (
            "/home/me/projects:/workspace:rw,/path/to/large/dataset:/data:ro",
            [("/home/me/projects", "/workspace", "rw"), ("/path/to/large/dataset", "/data", "ro")],
        ),
        (
            "/path1:/workspace/path1,/path2:/workspace/path2:ro",
            [("/path1", "/workspace/path1", "rw"), ("/path2", "/workspace/path2", "ro")],
        ),
        ("/path/to/your/code:/workspace", [("/path/to/your/code", "/workspace", "rw")]),
        # the rest of the grammar
        ("/a:/b:overlay", [("/a", "/b", "overlay")]),
        (" /a:/b , /c:/d:ro ", [("/a", "/b", "rw"), ("/c", "/d", "ro")]),
        ("/a:/workspace/", [("/a", "/workspace", "rw")]),
        ("/a://workspace//x/.", [("/a", "/workspace/x", "rw")]),
        ("~:/a,~/x:/b", [("/home/me", "/a", "rw"), ("/home/me/x", "/b", "rw")]),
        ("./src:/a,../up:/b", [("/home/me/work/src", "/a", "rw"), ("/home/me/up", "/b", "rw")]),
        (".:/workspace", [("/home/me/work", "/workspace", "rw")]),
        ("src/sub:/a", [("/home/me/work/src/sub", "/a", "rw")]),
        ("cache:/data", [("cache", "/data", "rw")]),
        (r"C:\dir:/workspace", [(r"C:\dir", "/workspace", "rw")]),
        (r"C:\dir\sub:/workspace:ro", [(r"C:\dir\sub", "/workspace", "ro")]),
        ("C:/dir:/workspace", [("C:/dir", "/workspace", "rw")]),
        ("c:/data", [("c", "/data", "rw")]),
        ("c:/data:ro", [("c", "/data", "ro")]),
        ("/same:/a,/same:/b:ro", [("/same", "/a", "rw"), ("/same", "/b", "ro")]),
        ("/with space/x:/a b", [("/with space/x", "/a b", "rw")]),
        ("", []),
        ("  ", []),
    ],
)
def test_what_a_text_means(text, mounts):
    assert parse(text) == tuple(Mount(*m) for m in mounts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/a:/b,", "Mount 2 (from character 7): it is empty"),
        (",/a:/b", "Mount 1 (from character 1): it is empty"),
        ("/a:/b, ,/c:/d", "Mount 2 (from character 8): it is empty"),
        ("/a:/b,/c:/d:RO", "Mount 2 (from character 7): the mode 'RO' is not known"),
        ("/a:/b:z", "rw, ro or overlay"),
        ("/a:/b:", "the mode '' is not known"),
        ("/a", "not of the form"),
        ("/a:/b:ro:x", "not of the form"),
        (":/b", "not of the form"),
        ("/a:b", "'b' is not absolute"),
        ("/a:", "'' is not absolute"),
        ("/a:/", "root of the sandbox"),
        ("/a://", "root of the sandbox"),
        ("/a:/b/../c", "'..'"),
        ("/a:/w,/b:/w/", "Two mounts have the container path '/w'"),
        ("~other/x:/a", "'~other/x' was not expanded"),
        ("$HOME/x:/a", "'$HOME/x' was not expanded"),
        ("-x:/a", "neither a path nor the name of a volume"),
        ("/a\0:/b", "NUL"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(VolumeError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert caught.value.hint


def test_home_and_folder_are_the_callers(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir(tmp_path)
    sources = [m.source for m in volumes.parse("~/a:/a,./b:/b")]
    assert sources == ["/home/somebody/a", str(tmp_path / "b")]


paths = st.text(st.characters(exclude_characters="\0,:", exclude_categories=["Cs"]), min_size=1)
sources = paths.map(lambda p: "/" + p.strip()) | st.from_regex(
    r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True
)
targets = st.lists(st.from_regex(r"[a-zA-Z0-9 _-]{0,5}[a-z0-9]", fullmatch=True), min_size=1)
mounts = st.lists(
    st.builds(
        Mount,
        sources,
        targets.map(lambda parts: "/" + "/".join(parts)),
        st.sampled_from(["rw", "ro", "overlay"]),
    ),
    unique_by=lambda m: m.target,
)


@given(mounts)
def test_a_written_text_is_read_as_the_same_mounts(wanted):
    assert volumes.parse(volumes.format(wanted)) == tuple(wanted)


@given(st.text(alphabet=r"aC/\:,~.$ -rwo" + "\0\n\ud800é") | st.text())
def test_no_text_raises_anything_else(text):
    with contextlib.suppress(VolumeError):
        read = parse(text)
        with contextlib.suppress(VolumeError):  # a backslash at the end of a source, for one
            assert volumes.parse(volumes.format(read)) == read


@pytest.mark.parametrize("source", ["/with,comma", "/with:colon", "relative/x", "~/x"])
def test_what_cannot_be_written_is_refused(source):
    with pytest.raises(VolumeError):
        volumes.format([Mount(source, "/a")])


def workspace(**given):
    return volumes.from_workspace(home="/home/me", cwd="/home/me/work", **given)


@pytest.mark.parametrize(
    ("given", "mount"),
    [
        ({"base": "/code"}, ("/code", "/workspace")),
        ({"base": "./code"}, ("/home/me/work/code", "/workspace")),
        ({"base": "/opt/workspace_base", "mount_path": "/code"}, ("/code", "/workspace")),
        ({"mount_path": "/code", "target": "/src"}, ("/code", "/src")),
        ({"base": "/home/me/x", "rewrite": "/home:/mnt/home"}, ("/mnt/home/me/x", "/workspace")),
        ({"rewrite": "/home/me:/mnt"}, ("/mnt/work", "/workspace")),
        ({"base": "/x", "mount_path": "/code", "rewrite": "/x:/y"}, ("/y", "/workspace")),
    ],
)
def test_workspace_variables(given, mount):
    assert workspace(**given) == (Mount(*mount),)


def test_no_workspace_variables():
    assert workspace() == ()
    assert workspace(target="/src") == ()


@pytest.mark.parametrize("rewrite", ["/home", ":/x", "a:b:c", "/nowhere:/x"])
def test_a_rewrite_that_cannot_be(rewrite):
    with pytest.raises(VolumeError, match="WORKSPACE_MOUNT_REWRITE"):
        workspace(base="/home/me/x", rewrite=rewrite)


def test_a_workspace_target_must_be_absolute():
    with pytest.raises(VolumeError, match="not absolute"):
        workspace(base="/x", target="src")
