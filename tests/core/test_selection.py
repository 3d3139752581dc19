from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
import support

from openrt_core import selection
from openrt_core.errors import (
    ConfigurationError,
    PluginError,
    RuntimeAmbiguousError,
    RuntimeNotFoundError,
    SettingError,
)
from openrt_core.events import Event
from openrt_core.manager import Manager
from openrt_core.settings import load as load_settings

FOLDER = pathlib.Path(support.__path__[0], "distributions")


def install(monkeypatch, *folders):
    for folder in folders:
        monkeypatch.syspath_prepend(str(FOLDER / folder))
    for name in [n for n in sys.modules if n.startswith(("sample_", "other_sample"))]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def one(monkeypatch):
    install(monkeypatch, "one")


@pytest.fixture
def two(monkeypatch):
    install(monkeypatch, "one", "two")


def settings(**variables):
    return load_settings(environ=variables, folder=pathlib.Path("/"))


def test_a_runtime_is_found_by_metadata_and_not_imported(one):
    found = selection.find("sample")
    assert (found.name, found.distribution, found.version) == ("sample", "openrt-sample", "1.2")
    assert "sample_runtime" not in sys.modules


def test_case_and_surrounding_space_of_the_name_do_not_matter(one):
    assert selection.find("  SamPle ").name == "sample"


def test_no_such_runtime_lists_what_is_installed(one):
    with pytest.raises(RuntimeNotFoundError, match=r"sample \(openrt-sample 1\.2\)"):
        selection.find("nosuch")


@pytest.mark.parametrize("name", ["docker", "remote", "modal", "local"])
def test_a_known_runtime_that_is_not_installed_gets_the_pip_command(monkeypatch, name):
    monkeypatch.setattr(selection, "installed", list)
    with pytest.raises(RuntimeNotFoundError, match="Installed: none") as caught:
        selection.find(name)
    assert f"pip install openrt-{name}" in caught.value.hint


def test_several_of_one_name_are_an_error_that_names_the_distributions(two):
    with pytest.raises(RuntimeAmbiguousError, match=r"openrt-sample 1\.2, other-sample 0\.9") as e:
        selection.find("sample")
    assert "RUNTIME=other-sample:sample" in e.value.hint


@pytest.mark.parametrize(
    "name", ["other-sample:sample", "Other.Sample:sample", "OTHER__sample : Sample"]
)
def test_a_distribution_before_the_name_chooses_between_several(two, name):
    assert selection.find(name).distribution == "other-sample"


def test_a_distribution_that_does_not_offer_the_runtime_is_an_error(two):
    with pytest.raises(RuntimeNotFoundError, match="of the distribution 'nobody'"):
        selection.find("nobody:sample")


def test_eventstream_means_docker_and_is_deprecated(monkeypatch):
    point = EntryPoint("docker", "m:f", selection.RUNTIMES)
    found = selection.Found("docker", "openrt-docker", "1", point)
    monkeypatch.setattr(selection, "installed", lambda: [found])
    with pytest.warns(FutureWarning, match="RUNTIME=docker"):
        assert selection.find("EventStream").name == "docker"
    events: list[Event] = []
    selection.find("eventstream", events.append)
    assert [e.kind for e in events] == ["deprecation"]


def test_a_failing_import_names_distribution_and_module_and_keeps_the_cause(one):
    with pytest.raises(PluginError, match=r"sample_broken of openrt-sample 1\.2.*vendor_sdk") as e:
        Manager.open("broken", settings())
    assert isinstance(e.value.__cause__, ImportError)


def test_a_factory_that_cannot_be_called_is_an_error(one):
    with pytest.raises(PluginError, match="sample_runtime:NOT_CALLABLE is no factory"):
        Manager.open("nofactory", settings())


def test_a_factory_that_fails_is_an_error_with_its_cause(one):
    with pytest.raises(PluginError, match="no luck") as caught:
        Manager.open("fails", settings())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_factory_that_returns_a_class_is_refused(one):
    with pytest.raises(PluginError, match="not an instance"):
        Manager.open("asclass", settings())


def test_a_runtime_of_another_spec_version_is_refused(one):
    with pytest.raises(PluginError, match="'old' was written for version 0"):
        Manager.open("old", settings())


def test_a_runtime_gets_its_name_its_settings_and_its_state_folder(one, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    manager = Manager.open("sample", settings(SANDBOX_SAMPLE_SIZE="7"))
    context = sys.modules["sample_runtime"].CONTEXTS[-1]
    assert manager.name == context.name == "sample"
    assert context.settings.size == 7
    assert context.state_folder == pathlib.Path("/state/openrt/sample")


def test_a_wrong_setting_of_the_runtime_is_an_error_that_names_it(one):
    with pytest.raises(SettingError, match="SANDBOX_SAMPLE_SIZE"):
        Manager.open("sample", settings(SANDBOX_SAMPLE_SIZE="much"))


def test_the_setting_RUNTIME_selects(one):
    assert Manager.open(settings=settings(RUNTIME=" Sample ")).name == "sample"


def test_an_argument_goes_before_the_setting_RUNTIME(one):
    assert Manager.open("sample", settings(RUNTIME="nosuch")).name == "sample"


def test_what_is_installed_later_is_found(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "late" not in [f.name for f in selection.installed()]
    info = tmp_path / "late-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[openrt.runtimes]\nlate = late:create\n")
    os.utime(tmp_path, ns=(1, 1))  # file systems may count time too coarsely for a test
    assert selection.find("late").version == "1"


def test_one_process_can_hold_two_managers(one):
    first, second = (Manager.open("sample", settings()) for _ in range(2))
    assert first.plugin is not second.plugin


def test_wrappers_of_the_setting_are_loaded_in_their_order(one):
    manager = Manager.open("sample", settings(OPENRT_WRAPPERS="policy,audit"))
    assert [w.name for w in manager.hooks.wrappers] == ["policy", "audit"]


def test_an_empty_list_of_wrappers_goes_before_the_setting(one):
    manager = Manager.open("sample", settings(OPENRT_WRAPPERS="audit"), wrappers=())
    assert manager.hooks.wrappers == ()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nosuch", "No wrapper 'nosuch' is installed. Installed: audit"),
        ("missing", "sample_gone of openrt-sample"),
        ("audit,audit", "names a wrapper twice"),
    ],
)
def test_a_wrapper_that_cannot_be_loaded_stops_everything(one, named, message):
    with pytest.raises(PluginError, match=message):
        Manager.open("sample", settings(OPENRT_WRAPPERS=named))


def test_several_wrappers_of_one_name_are_an_error_that_names_the_distributions(monkeypatch):
    install(monkeypatch, "one", "two", "three")
    with pytest.raises(PluginError, match="other-sample, third-sample"):
        Manager.open("openrt-sample:sample", settings(), wrappers=["twice"])


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)

    def home():
        raise RuntimeError

    monkeypatch.setattr(pathlib.Path, "home", home)
    with pytest.raises(ConfigurationError) as caught:
        selection.state_folder("x")
    assert "XDG_STATE_HOME" in caught.value.hint


def test_importing_the_core_imports_no_plugin_and_none_of_its_own_modules():
    code = (
        "import sys, openrt_core; assert 'Sandbox' in dir(openrt_core);"
        "heavy = ('openrt_', 'docker', 'modal', 'httpx', 'pluggy', 'asyncio', 'attr');"
        "print(sorted(m for m in sys.modules if m.startswith(heavy)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert printed.strip() == "['openrt_core']"


def test_every_public_name_can_be_imported():
    import openrt_core

    assert not [name for name in openrt_core.__all__ if not hasattr(openrt_core, name)]
    assert not hasattr(openrt_core, "Nothing")
