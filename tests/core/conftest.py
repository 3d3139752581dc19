"""Distributions that exist only for a test."""

from __future__ import annotations

import importlib
import uuid

import pytest

from openrt_core import selection


@pytest.fixture
def plugin(tmp_path_factory, monkeypatch):
    """Makes an importable distribution with a runtime's settings, found by its metadata.

    Only what it made is installed as far as the test can see.
    """
    made = set()
    installed = selection.installed
    monkeypatch.setattr(
        selection,
        "installed",
        lambda group=selection.RUNTIMES: [
            f for f in installed(group) if f.entry_point.module in made
        ],
    )

    def make(name, distribution, variables=(), fields=""):
        folder = tmp_path_factory.mktemp(distribution)
        module = f"plugin_{uuid.uuid4().hex}"  # imported once in a process under each name
        lines = [fields or "pass"]
        lines += [f'field_{n}: object = setting("{v}")' for n, v in enumerate(variables)]
        (folder / f"{module}.py").write_text(
            "import attrs\nfrom openrt_core.settings import setting\n"
            "@attrs.frozen\nclass Settings:\n" + "".join(f"    {line}\n" for line in lines)
        )
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[openrt.settings]\n{name} = {module}:Settings\n")
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        made.add(module)

    return make
