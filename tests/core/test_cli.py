"""The command line without a sandbox: help, versions, settings; what it imports."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import click
import pytest

from openrt_core.cli import console
from openrt_core.cli.main import COMMANDS, main, openrt

SDKS = {"docker", "modal", "httpx", "requests", "grpclib"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, plugin):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def imported_by(*arguments):
    """The modules that a call of the command line has imported, in a process of its own."""
    program = (
        "import sys; from openrt_core.cli.main import main; main(sys.argv[1:]);"
        "print('\\n', *sys.modules)"
    )
    command = [sys.executable, "-c", program, *arguments]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120).stdout
    return set(out.decode().splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_no_sdk_and_no_plugin(arguments):
    modules = imported_by(*arguments)
    roots = {name.partition(".")[0] for name in modules}
    assert "click" in roots
    assert not roots & (SDKS | {"pluggy", "attrs", "attr", "openrt_agent"})
    assert not any(r.startswith("openrt_") and r != "openrt_core" for r in roots)


@pytest.mark.parametrize("arguments", [["runtimes"], ["config"], ["config", "--all"], ["version"]])
def test_no_list_imports_an_sdk(arguments):
    roots = {name.partition(".")[0] for name in imported_by(*arguments)}
    assert not roots & SDKS


def test_help_lists_every_command_with_its_own_words(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    context = click.Context(openrt)
    for name, line in COMMANDS.items():
        assert line in " ".join(out.split())
        command = openrt.get_command(context, name)
        assert command is not None
        assert command.get_short_help_str(1000) == line


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_an_example(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Example" in out
    assert f"openrt {name}" in out


def test_versions(capsys):
    version = importlib.metadata.version("openrt-core")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"openrt {version}\n"
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"openrt {version} (Python ")


@pytest.mark.parametrize("arguments", [["nope"], ["run"], ["--nope"], ["config", "--nope"]])
def test_wrong_arguments(arguments, capsys):
    assert main(arguments) == 125
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("openrt: ")
    assert "--help` shows how." in err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é ✓", "plain é ✓"),
        ("a\nb", "a b"),
        ("\x1b[31m\x07\x9b", "\\x1b[31m\\x07\\x9b"),
        ("\u202e\udcff", "\\u202e\\udcff"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert console.printable(text) == shown


# config -------------------------------------------------------------------------------------------


def config(capsys, *arguments):
    code = main(["config", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def rows(capsys, *arguments):
    code, out, _ = config(capsys, "--json", *arguments)
    return code, {row["name"]: row for row in json.loads(out)}


def test_config_shows_values_and_where_they_come_from(capsys, monkeypatch, folder):
    (folder / "openrt.toml").write_text("user_id = 5")
    monkeypatch.setenv("SANDBOX_TIMEOUT", "300")
    code, found = rows(capsys)
    assert code == 0
    assert (found["SANDBOX_TIMEOUT"]["value"], found["SANDBOX_TIMEOUT"]["origin"]) == (
        300,
        "environment",
    )
    assert found["SANDBOX_USER_ID"]["value"] == 5
    assert found["SANDBOX_USER_ID"]["origin"] == str(folder / "openrt.toml")
    assert (found["RUNTIME"]["value"], found["RUNTIME"]["origin"]) == ("docker", "default")
    code, out, _ = config(capsys)
    (line,) = [line.split() for line in out.splitlines() if line.startswith("SANDBOX_TIMEOUT")]
    assert line == ["SANDBOX_TIMEOUT", "300", "environment"]


def test_config_masks_secrets_and_environments(capsys, monkeypatch, folder):
    secret = "hunter2"
    for name in ("SANDBOX_API_KEY", "MODAL_TOKEN_SECRET", "SANDBOX_ENV_TOKEN"):
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("SANDBOX_RUNTIME_STARTUP_ENV_VARS", f'{{"T": "{secret}"}}')
    monkeypatch.setenv("SANDBOX_REMOTE_RUNTIME_API_URL", f"https://me:{secret}@x.example")
    monkeypatch.setenv("SANDBOX_DOCKER_RUNTIME_KWARGS", f"{{'environment': '{secret}'}}")
    for arguments in ([], ["--all"], ["--json"], ["--json", "--all"]):
        code, out, err = config(capsys, *arguments)
        assert code == 0
        assert secret not in out + err
    found = rows(capsys)[1]
    assert found["SANDBOX_API_KEY"]["value"] == "********"
    assert found["SANDBOX_ENV_TOKEN"]["value"] == "********"
    assert found["SANDBOX_API_KEY"]["note"] == "belongs to openrt-remote, which is not installed"


def test_config_names_what_is_not_used_here(capsys, monkeypatch, plugin):
    monkeypatch.setenv("SANDBOX_VSCODE_PORT", "1")
    found = rows(capsys)[1]
    assert found["SANDBOX_VSCODE_PORT"]["note"] == "belongs to the application, ignored here"
    assert "SANDBOX_SELECTED_REPO" not in found
    assert "SANDBOX_API_KEY" not in found
    everything = rows(capsys, "--all")[1]
    assert "SANDBOX_SELECTED_REPO" in everything
    plugin("remote", "openrt-remote", variables=["SANDBOX_API_KEY"])
    found = rows(capsys, "--all")[1]
    assert found["SANDBOX_API_KEY"]["note"] == ""
    assert found["SANDBOX_REMOTE_RUNTIME_CLASS"]["note"] == (
        "not honoured by this version of openrt-remote"
    )


def test_config_lists_the_settings_of_plugins(capsys, plugin):
    plugin(
        "acme", "openrt-acme", fields='region: str = setting("SANDBOX_ACME_REGION", "str", "eu")'
    )
    found = rows(capsys)[1]
    assert found["SANDBOX_ACME_REGION"]["value"] == "eu"
    assert found["SANDBOX_ACME_REGION"]["owner"] == "openrt-acme"


def test_config_shows_every_wrong_value(capsys, monkeypatch):
    monkeypatch.setenv("SANDBOX_TIMEOUT", "\x1b[31mx")
    monkeypatch.setenv("SANDBOX_USER_ID", "me")
    code, out, _ = config(capsys)
    assert code == 1
    assert "SANDBOX_TIMEOUT (environment) is '\\x1b[31mx'" in out
    assert "SANDBOX_USER_ID (environment) is 'me'" in out


def test_config_of_a_broken_file(capsys, folder):
    (folder / "openrt.toml").write_text("= 1")
    code, out, err = config(capsys)
    assert (code, out) == (125, "")
    assert "openrt.toml cannot be read" in err


def test_config_tells_notes_on_stderr(capsys, monkeypatch):
    monkeypatch.setenv("WORKSPACE_BASE", "/code/of/test_config_tells_notes")
    _, out, err = config(capsys)
    assert "openrt: note: WORKSPACE_BASE is deprecated: use SANDBOX_VOLUMES=/code/of/" in err
    assert "deprecated" not in out


def test_no_runtime_installed(capsys):
    assert main(["runtimes"]) == 0
    assert "pip install openrt-docker" in capsys.readouterr().err
