"""Users of images: as whom the engine would run the image's own program."""

from __future__ import annotations

import pytest

pytest.importorskip("openrt_docker")
from openrt_core import Sandbox
from openrt_docker import users

IDS = "id -u; id -g"


@pytest.mark.parametrize("user", ["1001:0", "1001:1002", "1001", "0:0", "0:10", "root"])
def test_commands_run_as_the_images_user_and_group(runtime, engine, configured, user):
    image = configured(f"USER {user}")
    expected = engine.containers.run(image, ["sh", "-c", IDS], remove=True).split()
    with Sandbox.create(runtime.name, image=image, user=None, keep=True) as sandbox:
        try:
            assert sandbox.exec(IDS, cwd="/").stdout.split() == expected
            sandbox.files.write("/tmp/file", b"")
            assert sandbox.exec("stat -c '%u %g' /tmp/file").stdout.split() == expected[:2]
            with Sandbox.connect(sandbox.id, runtime.name) as joined:
                assert joined.handle == sandbox.handle
                assert joined.exec(IDS, cwd="/").stdout.split() == expected
        finally:
            sandbox.kill()


def lines(*known):
    return lambda uid: uid in known


@pytest.mark.parametrize(
    ("image", "agent"),
    [
        ("", None),
        ("app", {"name": "app"}),
        ("app:staff", {"name": "app"}),
        ("app:7", {"name": "app"}),
        ("7", {"uid": 7}),
        ("8", {"uid": 8, "gid": 0, "groups": [0]}),
        ("0", {"uid": 0}),
        ("8:9", {"uid": 8, "gid": 9, "groups": [9]}),
        ("8:staff", {"uid": 8}),
    ],
)
def test_what_the_agent_is_told_of_an_images_user(image, agent):
    assert users.of_agent(users.of_image(image), lines(7)) == agent


def test_a_uid_that_was_asked_for_has_its_own_group():
    assert users.of_agent("8", lines()) == {"uid": 8}
