"""Settings and arguments together, as a SandboxSpec."""

from __future__ import annotations

import os

import pytest

from openrt_core import settings
from openrt_core.errors import SettingError, VolumeError
from openrt_core.events import Event
from openrt_core.models import Mount, SandboxSpec
from openrt_core.settings.spec import default_user, make_spec
from openrt_core.settings.table import TABLE

ME = os.getuid() or None


@pytest.fixture
def spec(tmp_path, plugin):
    def spec(environ=None, **arguments):
        arguments.setdefault("emit", lambda event: None)
        found = settings.load({"HOME": str(tmp_path), **(environ or {})}, tmp_path)
        return make_spec(found, **arguments)

    return spec


def test_nothing_set_is_the_default_of_every_field(spec):
    made = spec()
    assert made == SandboxSpec(id=made.id, user=ME)


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"SANDBOX_RUNTIME_CONTAINER_IMAGE": "x:1"}, "image", "x:1"),
        ({"SANDBOX_BASE_CONTAINER_IMAGE": "y:1"}, "image", "y:1"),
        (
            {"SANDBOX_RUNTIME_CONTAINER_IMAGE": "x:1", "SANDBOX_BASE_CONTAINER_IMAGE": "y:1"},
            "image",
            "x:1",
        ),
        ({"SANDBOX_USER_ID": "1234"}, "user", 1234),
        ({"SANDBOX_USER_ID": "0"}, "user", 0),
        ({"SANDBOX_VOLUMES": "/a:/b:ro"}, "mounts", (Mount("/a", "/b", "ro"),)),
        ({"WORKSPACE_BASE": "/a"}, "mounts", (Mount("/a", "/workspace"),)),
        (
            {"WORKSPACE_BASE": "/a", "SANDBOX_VOLUMES": "/b:/b"},
            "mounts",
            (Mount("/b", "/b"),),
        ),
        (
            {"WORKSPACE_MOUNT_PATH": "/a", "WORKSPACE_MOUNT_PATH_IN_SANDBOX": "/src"},
            "mounts",
            (Mount("/a", "/src"),),
        ),
        ({"SANDBOX_USE_HOST_NETWORK": "yes"}, "network", "host"),
        ({"SANDBOX_USE_HOST_NETWORK": "no"}, "network", "default"),
        ({"SANDBOX_ENABLE_GPU": "1"}, "gpu", "all"),
        ({"SANDBOX_ENABLE_GPU": "1", "SANDBOX_CUDA_VISIBLE_DEVICES": "0,2"}, "gpu", "0,2"),
        ({"SANDBOX_CUDA_VISIBLE_DEVICES": "0,2"}, "gpu", None),
        ({"SANDBOX_PLATFORM": "linux/arm64"}, "platform", "linux/arm64"),
        ({"SANDBOX_KEEP_RUNTIME_ALIVE": "true"}, "keep", True),
        ({"SANDBOX_KEEP_REMOTE_RUNTIME_ALIVE": "true"}, "keep", True),
        ({"SANDBOX_KEEP_RUNTIME_ALIVE": "true"}, "idle_limit", 3600.0),
        ({"SANDBOX_KEEP_RUNTIME_ALIVE": "1", "SANDBOX_CLOSE_DELAY": "60"}, "idle_limit", 60.0),
        ({"SANDBOX_CLOSE_DELAY": "60"}, "idle_limit", None),
        ({"SANDBOX_TIMEOUT": "5"}, "start_timeout", 300.0),
    ],
)
def test_settings(spec, environ, field, value):
    assert getattr(spec(environ), field) == value


def test_the_order_of_environments(spec):
    made = spec(
        {
            "SANDBOX_ENV_A": "1",
            "SANDBOX_ENV_B": "1",
            "SANDBOX_ENV_C": "1",
            "SANDBOX_RUNTIME_STARTUP_ENV_VARS": '{"B": "2", "C": "2"}',
        },
        env={"C": "3"},
    )
    assert dict(made.env) == {"A": "1", "B": "2", "C": "3"}


def test_arguments_go_before_settings(spec):
    made = spec(
        {
            "SANDBOX_RUNTIME_CONTAINER_IMAGE": "x",
            "SANDBOX_VOLUMES": "/a:/b",
            "SANDBOX_USER_ID": "5",
            "SANDBOX_USE_HOST_NETWORK": "1",
            "SANDBOX_KEEP_RUNTIME_ALIVE": "1",
        },
        image="y",
        volumes="",
        user=6,
        network="none",
        keep=False,
        workdir="/w",
        labels={"a": "b"},
        secrets={"S": "s"},
        start_timeout=9,
        cpu=None,
    )
    assert (made.image, made.mounts, made.user, made.network) == ("y", (), 6, "none")
    assert (made.keep, made.workdir, dict(made.labels)) == (False, "/w", {"a": "b"})
    assert (dict(made.secrets), made.start_timeout, made.cpu) == ({"S": "s"}, 9, None)


def test_volumes_as_texts_and_models(spec):
    made = spec(volumes=["/a:/a,/b:/b", Mount("/c", "/c", "ro")])
    assert [m.target for m in made.mounts] == ["/a", "/b", "/c"]
    with pytest.raises(VolumeError, match="Two mounts"):
        spec(volumes=["/a:/x", Mount("/c", "/x/")])


def test_defaults_that_a_runtime_cannot_honour_are_left_out_but_wishes_are_not(spec):
    can = frozenset({"streams", "keep"})
    made = spec(features=can, keep=True)
    assert (made.user, made.idle_limit) == (None, None)
    made = spec({"SANDBOX_USER_ID": "7", "SANDBOX_CLOSE_DELAY": "8"}, features=can, keep=True)
    assert (made.user, made.idle_limit) == (7, 8.0)
    made = spec(features=can | {"user", "idle_limit"}, keep=True)
    assert (made.user, made.idle_limit) == (ME, 3600.0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")
def test_root_gets_the_owner_of_the_workspace(spec, tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    assert spec(volumes=f"{folder}:/workspace").user is None
    os.chown(folder, 1234, 1234)
    assert spec(volumes=f"{folder}:/workspace").user == 1234
    assert spec(volumes=f"{folder}:/workspace", user=0).user == 0
    assert spec({"SANDBOX_USER_ID": "0"}, volumes=f"{folder}:/workspace").user == 0
    assert spec(volumes=f"{folder}:/data").user is None
    assert spec(volumes="cache:/workspace").user is None
    assert spec(volumes="/no/such/folder:/workspace").user is None


def test_another_caller_is_the_user_whoever_owns_the_workspace(tmp_path):
    assert default_user([Mount(str(tmp_path), "/workspace")], caller=4242) == 4242


# What nobody honours ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["SANDBOX_RUNTIME_EXTRA_DEPS", "SANDBOX_FORCE_REBUILD_RUNTIME", "SANDBOX_VOLUME_OVERLAYS"],
)
def test_what_no_runtime_honours_is_refused_by_name(spec, plugin, name):
    environ = {"RUNTIME": "acme", name: TABLE[name].example}
    plugin("acme", "openrt-acme", variables=[])
    with pytest.raises(SettingError, match=f"{name} .environment. is not honoured .* 'acme'"):
        spec(environ)
    plugin("honest", "openrt-honest", variables=[name])
    spec({**environ, "RUNTIME": "honest"})
    spec({**environ, "RUNTIME": "openrt-honest:honest"})


def test_what_asks_for_nothing_is_not_refused(spec):
    spec({"SANDBOX_FORCE_REBUILD_RUNTIME": "false"})
    # means something only with a port, or for a kept sandbox
    spec({"SANDBOX_RUNTIME_BINDING_ADDRESS": "127.0.0.1", "SANDBOX_PAUSE_CLOSED_RUNTIMES": "1"})
    with pytest.raises(SettingError, match="SANDBOX_PAUSE_CLOSED_RUNTIMES"):
        spec({"SANDBOX_PAUSE_CLOSED_RUNTIMES": "true"}, keep=True)


def test_variables_of_another_runtime_may_be_set(spec, plugin):
    plugin("acme", "openrt-acme", variables=[])
    spec({"RUNTIME": "acme", "SANDBOX_API_KEY": "k", "SANDBOX_ADDITIONAL_NETWORKS": "a,b"})
    plugin("acme2", "openrt-docker", variables=[])
    with pytest.raises(SettingError, match="SANDBOX_ADDITIONAL_NETWORKS"):
        spec({"RUNTIME": "openrt-docker:acme2", "SANDBOX_ADDITIONAL_NETWORKS": "a,b"})


def test_variables_of_the_application_do_not_matter(spec):
    spec({"SANDBOX_VSCODE_PORT": "x", "SANDBOX_RM_ALL_CONTAINERS": "true"})


def test_notes_are_told_once(spec):
    told: list[Event] = []
    for _ in range(2):
        spec({"SANDBOX_TOLD_ONCE": "1", "SANDBOX_KEEP_REMOTE_RUNTIME_ALIVE": "0"}, emit=told.append)
    assert [e.message for e in told if "TOLD_ONCE" in e.message] == [
        "SANDBOX_TOLD_ONCE is no setting of openrt or of an installed runtime."
    ]


# The derived image --------------------------------------------------------------------------------


def test_extra_deps_are_added_to_the_base_image(spec, plugin):
    plugin("acme", "openrt-acme", ["SANDBOX_RUNTIME_EXTRA_DEPS", "SANDBOX_FORCE_REBUILD_RUNTIME"])
    environ = {"RUNTIME": "acme", "SANDBOX_RUNTIME_EXTRA_DEPS": "apt-get install -y jq && id"}
    made = spec(environ)
    assert (made.image, made.image_commands) == (None, ("apt-get install -y jq && id",))
    assert made.image_rebuild is False
    based = {"SANDBOX_BASE_CONTAINER_IMAGE": "debian:12", "SANDBOX_FORCE_REBUILD_RUNTIME": "yes"}
    made = spec({**environ, **based})
    assert (made.image, made.image_rebuild) == ("debian:12", True)


def test_an_image_that_is_used_as_it_is_gets_no_extra_deps(spec, plugin):
    plugin("acme", "openrt-acme", ["SANDBOX_RUNTIME_EXTRA_DEPS"])
    environ = {"RUNTIME": "acme", "SANDBOX_RUNTIME_EXTRA_DEPS": "x"}
    told: list[Event] = []
    made = spec({**environ, "SANDBOX_RUNTIME_CONTAINER_IMAGE": "mine"}, emit=told.append)
    assert (made.image, made.image_commands) == ("mine", ())
    assert ["no effect" in event.message for event in told] == [True]
    assert spec(environ, image="mine").image_commands == ()


def test_what_counts_is_the_runtime_that_was_chosen(spec, plugin):
    plugin("acme", "openrt-acme", variables=[])
    plugin("other", "openrt-other", ["SANDBOX_RUNTIME_EXTRA_DEPS"])
    environ = {"RUNTIME": "other", "SANDBOX_RUNTIME_EXTRA_DEPS": "x"}
    spec(environ)
    with pytest.raises(SettingError, match="'acme'"):
        spec(environ, runtime="acme")
    spec({**environ, "RUNTIME": "openrt-other:other"}, runtime="other")
