"""The documents that are made from the code are not stale, and leave nothing out."""

from __future__ import annotations

import importlib.util
import inspect
import pathlib

import pytest

from openrt_core import errors
from openrt_core.cli.main import COMMANDS
from openrt_core.hook_calls import RESULTS
from openrt_core.settings import TABLE, registry

DOCS = pathlib.Path(__file__).parents[2] / "docs"


@pytest.fixture
def documents(monkeypatch):
    """What the generator makes: texts by their names."""
    if not (DOCS / "generate.py").exists():
        pytest.skip("the documents are not beside these tests")
    monkeypatch.syspath_prepend(str(DOCS))
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    return {name: text() for name, text in generate.DOCUMENTS.items()}


@pytest.mark.parametrize("name", ["settings.md", "cli.md", "errors.md", "hooks.md"])
def test_documents_are_what_the_generator_writes(documents, name):
    written = (DOCS / name).read_text("utf-8")
    assert written == documents[name], "run `python docs/generate.py`"


def missing(documents, name, headings):
    lines = set(documents[name].splitlines())
    return {heading for heading in headings if heading not in lines}


def test_every_command_is_documented(documents):
    assert not missing(documents, "cli.md", {f"## openrt {name}" for name in COMMANDS})


def test_every_hook_is_documented_with_its_signature(documents):
    assert not missing(documents, "hooks.md", {f"## {name}" for name in RESULTS})
    assert "openrt_mount(mount: Mount, spec: SandboxSpec) -> Attachment" in documents["hooks.md"]


def test_every_setting_is_documented(documents):
    names = {f"### {name}X" if known.prefix else f"### {name}" for name, known in TABLE.items()}
    assert not missing(documents, "settings.md", names)


def test_every_setting_of_the_installed_runtimes_of_openrt_is_documented():
    for declared in registry.installed():
        if declared.distribution.startswith("openrt-"):
            assert not declared.error
            assert declared.names <= set(TABLE)


def test_every_error_is_documented_with_its_code(documents):
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.OpenrtError) and name[0] != "_":
            _, _, section = documents["errors.md"].partition(f"## {name}\n")
            section = section.partition("\n## ")[0]
            assert f"Code: `{kind.code}`." in section
            assert kind.default_hint in section


def test_codes_of_errors_are_each_one_class_s():
    kinds = [
        kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.OpenrtError) and name[0] != "_"
    ]
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
