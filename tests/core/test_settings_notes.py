"""Deprecated, unknown and ineffective settings; the table of variables and the plugins."""

from __future__ import annotations

import pytest

from openrt_core import events, selection, settings
from openrt_core.settings import TABLE, declared
from openrt_core.settings.notes import notes
from openrt_core.settings.registry import settings_class


@pytest.fixture
def told(tmp_path, plugin):
    def told(file="", **environ):
        (tmp_path / "openrt.toml").write_text(file)
        found = notes(settings.load({"HOME": str(tmp_path), **environ}, tmp_path))
        return [(event.kind, event.message) for event in found]

    return told


def test_nothing_to_tell(told):
    assert told(SANDBOX_TIMEOUT="1", SANDBOX_ENV_X="1", SANDBOX_API_KEY="k", PATH="/bin") == []
    assert told(SANDBOX_VSCODE_PORT="1", SANDBOX_VOLUMES="/a:/b") == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SANDBOX_TIMEOUTS", " Did you mean SANDBOX_TIMEOUT?"),
        ("SANDBOX_VOLUME", " Did you mean SANDBOX_VOLUMES?"),
        ("SANDBOX_APIKEY", " Did you mean SANDBOX_API_KEY?"),
        ("SANDBOX_ENV_", ""),
        ("SANDBOX_ZZZZZZZZZZZZZZZZ", ""),
        ("SANDBOX_\x1b[31m", ""),
    ],
)
def test_an_unknown_variable_is_told_with_the_nearest_name(told, name, meant):
    ((kind, message),) = told(**{name: "1"})
    assert kind == "note"
    assert message.startswith(repr(name)[1:-1] + " is no setting")
    if meant:
        assert message.endswith(meant)
    assert message.isprintable()


def test_an_unknown_key_of_a_file(told, tmp_path):
    ((_, message),) = told("[sandbox]\ntimeouts = 1\nenv_X = '1'")
    assert message.startswith(f"'timeouts' in {tmp_path}/openrt.toml is no setting")
    assert message.endswith("Did you mean timeout?")


def test_a_variable_of_a_plugin_is_known(told, plugin):
    assert len(told(SANDBOX_ACME_REGION="eu")) == 1
    plugin("acme", "openrt-acme", fields='region: str = setting("SANDBOX_ACME_REGION", "str", "")')
    assert told(SANDBOX_ACME_REGION="eu") == []
    assert told("acme_region = 'eu'") == []


def test_a_plugin_whose_settings_cannot_be_loaded_is_told(told, plugin):
    plugin("acme", "openrt-acme", fields="region: str = 1 / 0")
    messages = [message for _, message in told(SANDBOX_ACME_REGION="eu")]
    assert len(messages) == 2
    assert "acme (openrt-acme 1.0) cannot be loaded: ZeroDivisionError" in messages[0]


def test_an_alias_is_deprecated(told):
    ((kind, message),) = told(SANDBOX_KEEP_REMOTE_RUNTIME_ALIVE="true")
    assert kind == "deprecation"
    assert "is called SANDBOX_KEEP_RUNTIME_ALIVE now" in message


def test_an_old_name_of_a_runtime(told, tmp_path):
    ((kind, message),) = told(RUNTIME=" EventStream")
    assert (kind, message) == (
        "deprecation",
        "The runtime eventstream is called docker now: set RUNTIME=docker.",
    )
    environ = {"HOME": str(tmp_path), "RUNTIME": "eventstream"}
    assert settings.load(environ, tmp_path).core.runtime == "docker"


def test_the_workspace_variables_are_deprecated(told, tmp_path):
    ((kind, message),) = told(WORKSPACE_BASE="./code", WORKSPACE_MOUNT_PATH="/x")
    assert kind == "deprecation"
    assert message == (
        "WORKSPACE_BASE and WORKSPACE_MOUNT_PATH are deprecated: "
        "use SANDBOX_VOLUMES=/x:/workspace:rw."
    )
    ((_, message),) = told(WORKSPACE_BASE="/a,b")
    assert "rename the folder" in message


def test_settings_without_effect(told):
    ((kind, message),) = told(WORKSPACE_BASE="/x", SANDBOX_VOLUMES="/a:/b")
    assert (kind, message) == (
        "note",
        "WORKSPACE_BASE has no effect, because SANDBOX_VOLUMES is set.",
    )
    ((_, message),) = told(WORKSPACE_MOUNT_PATH_IN_SANDBOX="/x")
    assert "no effect without WORKSPACE_BASE" in message
    ((_, message),) = told(SANDBOX_CUDA_VISIBLE_DEVICES="0")
    assert "SANDBOX_ENABLE_GPU" in message


def test_deprecations_are_seen_in_the_api(told):
    with pytest.warns(FutureWarning, match="SANDBOX_KEEP_RUNTIME_ALIVE"):
        events.report(
            events.Event(
                kind="deprecation", message=told(SANDBOX_KEEP_REMOTE_RUNTIME_ALIVE="1")[0][1]
            )
        )


# The table ----------------------------------------------------------------------------------------


def test_every_variable_says_what_it_is_for_and_how_it_looks():
    for variable in TABLE.values():
        assert variable.help.endswith("."), variable.name
        assert variable.owner, variable.name
        if variable.owner != "application":
            assert variable.example, variable.name


def test_the_examples_are_taken(tmp_path):
    for variable in TABLE.values():
        if variable.example and not variable.prefix:
            environ = {"HOME": str(tmp_path), variable.name: variable.example}
            settings.load(environ, tmp_path).get(variable.name)


def test_keys_of_files_are_unambiguous():
    assert len({variable.key for variable in TABLE.values()}) == len(TABLE)


@pytest.mark.parametrize("found", selection.installed(selection.SETTINGS), ids=str)
def test_an_installed_runtime_agrees_with_the_table(found):
    for variable in declared(settings_class(found)).values():
        if variable.name in TABLE:
            known = TABLE[variable.name]
            assert known.owner in (found.distribution, "openrt-core")
            for name in ("kind", "default", "secret", "aliases", "choices"):
                assert getattr(variable, name) == getattr(known, name), (variable.name, name)
