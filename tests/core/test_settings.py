"""Settings: precedence, types, errors, files."""

from __future__ import annotations

import os
import pathlib

import attrs
import pytest

from openrt_core import settings
from openrt_core.errors import SettingError
from openrt_core.settings import TABLE, setting
from openrt_core.settings.loading import read


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def project(home):
    folder = home / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def load(home, project):
    def load(folder=project, runtime=None, **environ):
        return settings.load({"HOME": str(home), **environ}, folder, runtime)

    return load


def user_file(home, text):
    path = home / ".config" / "openrt" / "openrt.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# Precedence ---------------------------------------------------------------------------------------


def test_each_place_goes_before_the_next(load, home, project):
    def value(**environ):
        found = load(**environ)
        where = found.find(TABLE["SANDBOX_TIMEOUT"])
        return found.core.timeout, where and where.source.label

    assert value() == (120.0, None)
    path = user_file(home, "timeout = 1")
    assert value() == (1.0, str(path))
    (project / "openrt.toml").write_text("timeout = 2")
    assert value() == (2.0, str(project / "openrt.toml"))
    assert value(SANDBOX_TIMEOUT="3") == (3.0, "environment")
    assert load(RUNTIME="local", runtime="modal").core.runtime == "modal"


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_value_counts_as_unset(load, project, empty):
    (project / "openrt.toml").write_text("timeout = 2\nplatform = ''")
    found = load(SANDBOX_TIMEOUT=empty, SANDBOX_API_KEY=empty)
    assert found.core.timeout == 2
    assert found.core.platform is None
    assert found.is_set("SANDBOX_TIMEOUT")
    assert not found.is_set("SANDBOX_API_KEY")
    assert not found.is_set("SANDBOX_PLATFORM")


def test_the_environment_and_folder_of_this_process(monkeypatch, project, home):
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(project)
    monkeypatch.setenv("SANDBOX_TIMEOUT", "7")
    (project / "openrt.toml").write_text("user_id = 5")
    assert settings.load().core.timeout == 7
    assert settings.load().core.user_id == 5


def test_the_defaults_of_the_core(load):
    core = load().core
    assert (core.runtime, core.timeout, core.close_delay) == ("docker", 120.0, 3600.0)
    assert core.base_image == "nikolaik/python-nodejs:python3.12-nodejs22"
    assert (core.keep, core.enable_gpu, core.use_host_network) == (False, False, False)
    assert (core.user_id, core.image, core.volumes, core.wrappers) == (None, None, None, ())
    assert dict(core.env) == dict(core.startup_env) == {}


# Types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [*((t, True) for t in ("true", "1", "yes", "on", "TRUE", " Yes ", "On"))]
    + [(t, False) for t in ("false", "0", "no", "off", "FALSE", "No", " oFF")],
)
def test_booleans(load, text, value):
    assert load(SANDBOX_KEEP_RUNTIME_ALIVE=text).core.keep is value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a,b", ("a", "b")),
        (" a , b ", ("a", "b")),
        ("a", ("a",)),
        ('["a", "b"]', ("a", "b")),
        ("['a', 'b']", ("a", "b")),
        ("('a',)", ("a",)),
        ("[0, 1]", ("0", "1")),
        ("0,1", ("0", "1")),
    ],
)
def test_lists(load, text, value):
    found = load(SANDBOX_CUDA_VISIBLE_DEVICES=text, SANDBOX_ADDITIONAL_NETWORKS=text)
    assert found.core.cuda_visible_devices == value
    assert found.get("SANDBOX_ADDITIONAL_NETWORKS") == value


@pytest.mark.parametrize(
    "text", ['{"A": "1", "B": "x y"}', "{'A': '1', 'B': 'x y'}", '{"A": 1, "B": "x y"}']
)
def test_dicts(load, text):
    assert load(SANDBOX_RUNTIME_STARTUP_ENV_VARS=text).core.startup_env == {"A": "1", "B": "x y"}


@pytest.mark.parametrize("text", ["docker", " Docker ", "DOCKER"])
def test_the_case_of_a_runtime_does_not_matter(load, text):
    assert load(RUNTIME=text).core.runtime == "docker"
    assert load(runtime=text).core.runtime == "docker"


def test_a_runtime_of_one_distribution(load):
    assert load(RUNTIME="Acme-Sandboxes:Docker").core.runtime == "acme-sandboxes:docker"


def test_sandbox_environment_is_taken_as_it_is(load):
    odd = " $HOME `id` \\ \udcff\n"
    core = load(SANDBOX_ENV_Path=odd, SANDBOX_ENV_EMPTY="").core
    assert core.env == {"Path": odd, "EMPTY": ""}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SANDBOX_KEEP_RUNTIME_ALIVE", "maybe"),
        ("SANDBOX_KEEP_RUNTIME_ALIVE", "2"),
        ("SANDBOX_USE_HOST_NETWORK", "y"),
        ("SANDBOX_TIMEOUT", "abc"),
        ("SANDBOX_TIMEOUT", "0"),
        ("SANDBOX_TIMEOUT", "-1"),
        ("SANDBOX_TIMEOUT", "nan"),
        ("SANDBOX_TIMEOUT", "1e999"),
        ("SANDBOX_TIMEOUT", "1_0"),
        ("SANDBOX_TIMEOUT", "1-1"),
        ("SANDBOX_USER_ID", "me"),
        ("SANDBOX_USER_ID", "-1"),
        ("SANDBOX_USER_ID", "1.5"),
        ("SANDBOX_USER_ID", "4294967295"),
        ("SANDBOX_USER_ID", "9" * 5000),
        ("SANDBOX_CUDA_VISIBLE_DEVICES", "a,,b"),
        ("SANDBOX_CUDA_VISIBLE_DEVICES", "[1, [2]]"),
        ("SANDBOX_CUDA_VISIBLE_DEVICES", "[a"),
        ("SANDBOX_CUDA_VISIBLE_DEVICES", "{}"),
        ("SANDBOX_CUDA_VISIBLE_DEVICES", "[]"),
        ("SANDBOX_CUDA_VISIBLE_DEVICES", "[" * 100_000),
        ("SANDBOX_RUNTIME_STARTUP_ENV_VARS", "A=1"),
        ("SANDBOX_RUNTIME_STARTUP_ENV_VARS", "[1]"),
        ("SANDBOX_RUNTIME_STARTUP_ENV_VARS", '{"A": true}'),
        ("SANDBOX_RUNTIME_STARTUP_ENV_VARS", '{"A": {"B": "C"}}'),
        ("SANDBOX_RUNTIME_STARTUP_ENV_VARS", '{"A=B": "C"}'),
        ("SANDBOX_RUNTIME_STARTUP_ENV_VARS", "{1: 2}"),
        ("SANDBOX_RUNTIME_STARTUP_ENV_VARS", "__import__('os')"),
        ("RUNTIME", "no such"),
        ("SANDBOX_ENV_X", "nul\0"),
    ],
)
def test_a_wrong_value_is_an_error_that_says_what_to_write(load, name, text):
    with pytest.raises(SettingError) as caught:
        load(**{name: text})
    message = str(caught.value)
    variable = TABLE.get(name, TABLE["SANDBOX_ENV_"])
    shown = "********" if variable.private else repr(text)[:77]
    assert f"{name} (environment) is {shown}" in message
    assert f"for example {name}={variable.example}" in message
    assert "it takes " in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SANDBOX_REMOTE_RUNTIME_API_URL", "ftp://x"),
        ("SANDBOX_REMOTE_RUNTIME_API_URL", "x"),
        ("SANDBOX_REMOTE_RUNTIME_CLASS", "kata"),
        ("SANDBOX_REMOTE_RUNTIME_RESOURCE_FACTOR", "3"),
        ("SANDBOX_VOLUME_OVERLAYS", "~/x"),
    ],
)
def test_wrong_values_of_runtimes_are_errors_when_they_are_asked_for(load, name, text):
    found = load(**{name: text})
    with pytest.raises(SettingError, match=name):
        found.get(name)


def test_choices_are_compared_in_any_case(load):
    assert (
        load(SANDBOX_REMOTE_RUNTIME_CLASS="GVisor").get("SANDBOX_REMOTE_RUNTIME_CLASS") == "gvisor"
    )
    factor = load(SANDBOX_REMOTE_RUNTIME_RESOURCE_FACTOR="4")
    assert factor.get("SANDBOX_REMOTE_RUNTIME_RESOURCE_FACTOR") == 4


def test_paths_are_absolute(load, project):
    found = load(SANDBOX_VOLUME_OVERLAYS="./x").get("SANDBOX_VOLUME_OVERLAYS")
    assert found == pathlib.Path(project, "x")


def test_secrets_are_in_no_error_and_no_repr(load):
    @attrs.frozen
    class Settings:
        key: str = setting("ACME_KEY", "url", secret=True, example="https://…")

    secret = "hunter2"
    with pytest.raises(SettingError) as caught:
        load(ACME_KEY=secret).for_runtime("acme", Settings)
    assert secret not in str(caught.value)
    assert "********" in str(caught.value)
    found = load(ACME_KEY=f"http://{secret}")
    assert found.for_runtime("acme", Settings).key == f"http://{secret}"
    assert secret not in repr(found.for_runtime("acme", Settings)) + repr(found.sources)
    with pytest.raises(SettingError) as caught:
        load(SANDBOX_REMOTE_RUNTIME_API_URL=f"ftp://u:{secret}@x").get(
            "SANDBOX_REMOTE_RUNTIME_API_URL"
        )
    assert secret not in str(caught.value)


def test_an_unknown_setting_cannot_be_asked_for(load):
    with pytest.raises(SettingError, match="SANDBOX_NOPE"):
        load().get("SANDBOX_NOPE")


# A runtime's own settings -------------------------------------------------------------------------


@attrs.frozen
class Acme:
    region: str = setting("SANDBOX_ACME_REGION", "str", "eu", help="Where.", example="us")
    size: int | None = setting("SANDBOX_ACME_SIZE", "int", aliases=("SANDBOX_ACME_FACTOR",))
    key: str | None = setting("SANDBOX_API_KEY")


def test_settings_of_a_runtime(load, project):
    assert load().for_runtime("acme", Acme) == Acme()
    (project / "openrt.toml").write_text("[sandbox]\nacme_region = 'us'")
    found = load(SANDBOX_ACME_FACTOR="3", SANDBOX_API_KEY="k").for_runtime("acme", Acme)
    assert found == Acme(region="us", size=3, key="k")


def test_a_field_that_setting_did_not_make(load):
    @attrs.frozen
    class Wrong:
        region: str = "eu"

    with pytest.raises(TypeError, match=r"Wrong\.region"):
        load().for_runtime("acme", Wrong)


def test_a_variable_that_the_table_does_not_know():
    with pytest.raises(LookupError, match="SANDBOX_NOPE"):
        setting("SANDBOX_NOPE")


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("openrt.toml", "{}"),
        ("openrt.toml", "[sandbox]\n{}"),
        ("pyproject.toml", "[tool.openrt]\n{}"),
        ("pyproject.toml", "[tool.openrt.sandbox]\n{}"),
    ],
)
def test_keys_are_at_top_level_or_in_a_sandbox_table(load, project, name, text):
    (project / name).write_text(
        text.format(
            "user_id = 5\ntimeout = '7'\nkeep_runtime_alive = true\n"
            "cuda_visible_devices = [0, '1']\n"
            "env_Case = ' $HOME '\nworkspace_base = '~/code'\nruntime = 'local'\n"
            "runtime_startup_env_vars = { A = 'b' }"
        )
    )
    core = load().core
    assert (core.user_id, core.timeout, core.keep) == (5, 7.0, True)
    assert core.cuda_visible_devices == ("0", "1")
    assert core.env == {"Case": " $HOME "}
    assert core.startup_env == {"A": "b"}
    assert core.runtime == "local"


@pytest.mark.parametrize(
    "line", ["user_id = true", "timeout = [1]", "use_host_network = 1", "volumes = 3"]
)
def test_a_wrong_type_in_a_file_names_the_file(load, project, line):
    path = project / "openrt.toml"
    path.write_text(line)
    with pytest.raises(SettingError) as caught:
        load()
    assert str(path) in str(caught.value)


def test_home_is_expanded_in_files_and_never_in_the_environment(load, home, project):
    (project / "openrt.toml").write_text('volumes = "$HOME/a:/a,~/b:/b,${HOME}/c:/c"')
    assert [m.source for m in load().mounts()] == [f"{home}/{name}" for name in "abc"]
    with pytest.raises(SettingError, match="was not expanded"):
        load(SANDBOX_VOLUMES="$HOME/a:/a").mounts()
    (project / "openrt.toml").write_text("volume_overlays = '~/over'")
    assert load().get("SANDBOX_VOLUME_OVERLAYS") == home / "over"


def test_shell_text_in_a_file_is_left_alone(load, project):
    (project / "openrt.toml").write_text("runtime_extra_deps = 'cp x $HOME'")
    assert load().get("SANDBOX_RUNTIME_EXTRA_DEPS") == "cp x $HOME"


def test_relative_mounts_in_a_project_file_are_relative_to_it(load, project):
    (project / ".git").mkdir()
    (project / "sub").mkdir()
    (project / "openrt.toml").write_text("volumes = './src:/workspace'")
    (mount,) = load(folder=project / "sub").mounts()
    assert mount.source == str(project / "src")
    (mount,) = load(folder=project / "sub", SANDBOX_VOLUMES="./src:/workspace").mounts()
    assert mount.source == str(project / "sub" / "src")


def test_the_nearest_file_of_the_project_counts(load, home, project):
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    (home / "openrt.toml").write_text("user_id = 1")
    assert load(folder=deep).core.user_id == 1
    (project / "openrt.toml").write_text("user_id = 2")
    assert load(folder=deep).core.user_id == 2
    (deep / "pyproject.toml").write_text("[tool.openrt]\nuser_id = 3")
    assert load(folder=deep).core.user_id == 3
    (deep / "pyproject.toml").write_text("[tool.other]\nuser_id = 4")
    assert load(folder=deep).core.user_id == 2
    (project / "a" / ".git").mkdir()
    assert load(folder=deep).core.user_id is None


def test_folders_above_are_no_project_without_git_or_home(load, tmp_path):
    deep = tmp_path / "elsewhere" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "elsewhere" / "openrt.toml").write_text("user_id = 1")
    assert load(folder=deep).core.user_id is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_above_of_a_third_user_is_passed_over(load, tmp_path, monkeypatch):
    shared, mine = tmp_path / "shared", tmp_path / "shared" / "mine"
    mine.mkdir(parents=True)
    (shared / ".git").mkdir()
    (shared / "openrt.toml").write_text("user_id = 1")
    os.chown(shared / "openrt.toml", 4242, 4242)
    assert load(folder=mine).core.user_id is None
    os.chown(mine, 4242, 4242)
    assert load(folder=mine).core.user_id == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = = 1", "cannot be read"),
        ("sandbox = 1", "it is a table"),
        ("timeout = 1\n[sandbox]\ntimeout = 1", "sets timeout twice"),
    ],
)
def test_files_that_cannot_be_used(load, project, text, message):
    (project / "openrt.toml").write_text(text)
    with pytest.raises(SettingError, match=message):
        load()


def test_two_files_in_one_folder(load, project):
    (project / "openrt.toml").write_text("")
    (project / "pyproject.toml").write_text("[tool.openrt]")
    with pytest.raises(SettingError, match="keep one"):
        load()


@pytest.mark.parametrize(
    "line",
    [
        "api_key = 'k'",
        "modal_api_token_secret = 'k'",
        "remote_runtime_api_url = 'https://evil.example'",
        "openrt_wrappers = []",
        "docker_runtime_kwargs = { privileged = true }",
    ],
)
def test_a_project_must_not_redirect_keys(load, home, project, line):
    (project / "openrt.toml").write_text(line)
    with pytest.raises(SettingError, match="which a project's file must not") as caught:
        load()
    assert "evil" not in str(caught.value)
    # also for what a plugin declares, when the value is asked for
    (project / "openrt.toml").unlink()
    user_file(home, line)
    load()


def test_a_project_must_not_set_secrets_of_a_plugin(load, project):
    @attrs.frozen
    class Settings:
        token: str | None = setting("SANDBOX_ACME_TOKEN", "str", secret=True)

    (project / "openrt.toml").write_text("acme_token = 't'")
    with pytest.raises(SettingError, match="acme_token"):
        load().for_runtime("acme", Settings)


def test_the_config_folder_of_xdg(load, tmp_path):
    (tmp_path / "xdg" / "openrt").mkdir(parents=True)
    (tmp_path / "xdg" / "openrt" / "openrt.toml").write_text("user_id = 9")
    assert load(XDG_CONFIG_HOME=str(tmp_path / "xdg")).core.user_id == 9
    assert load(XDG_CONFIG_HOME="xdg").core.user_id is None


def test_reading_alone_looks_at_no_value(home, project):
    found = read({"HOME": str(home), "SANDBOX_TIMEOUT": "x"}, project)
    with pytest.raises(SettingError, match="SANDBOX_TIMEOUT"):
        found.core  # noqa: B018


def test_a_folder_that_is_not_there(home, tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="does not exist"):
        settings.load({"HOME": str(home)}, tmp_path / "gone")
    gone = tmp_path / "soon-gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingError, match="does not exist any more"):
        settings.load({"HOME": str(home)})


def test_defaults_cannot_be_spoilt(load):
    load().get("SANDBOX_RUNTIME_STARTUP_ENV_VARS")["A"] = "b"
    assert load().get("SANDBOX_RUNTIME_STARTUP_ENV_VARS") == {}
