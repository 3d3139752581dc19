"""The local runtime."""

from __future__ import annotations

import pytest
from support import runtimes


@pytest.fixture(scope="session")
def runtime(tmp_path_factory):
    """The local runtime."""
    with runtimes.opened("local", tmp_path_factory.mktemp("local")) as opened:
        yield opened
