"""The documents that are made from the code are not stale."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_documents_are_what_the_generator_writes():
    if not (DOCS / "generate.py").exists():
        pytest.skip("the documents are not beside these tests")
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, text in generate.DOCUMENTS.items():
        assert (DOCS / name).read_text("utf-8") == text(), f"run `python docs/generate.py` ({name})"
