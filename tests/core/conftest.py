"""Distributions that exist only for a test."""

from __future__ import annotations

import importlib

import pytest


@pytest.fixture
def plugin(tmp_path_factory, monkeypatch):
    """Makes an importable distribution with a runtime's settings, found by its metadata."""

    def make(name, distribution, variables=(), fields=""):
        folder = tmp_path_factory.mktemp(distribution)
        package = distribution.replace("-", "_")
        lines = [fields or "pass"]
        lines += [f'field_{n}: object = setting("{v}")' for n, v in enumerate(variables)]
        (folder / f"{package}.py").write_text(
            "import attrs\nfrom openrt_core.settings import setting\n"
            "@attrs.frozen\nclass Settings:\n" + "".join(f"    {line}\n" for line in lines)
        )
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[openrt.settings]\n{name} = {package}:Settings\n")
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()

    return make
