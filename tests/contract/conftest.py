"""The shared cases run on each runtime that can be reached here."""

from __future__ import annotations

import pytest
from support import runtimes


@pytest.fixture(scope="session", params=runtimes.NAMES)
def backend(request, tmp_path_factory):
    """Each runtime in turn, with whatever stands in for its back end."""
    with runtimes.opened(request.param, tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.fixture
def runtime(backend):
    """Each runtime in turn, with the environment that leads to it as long as the test lasts."""
    with runtimes.environment(backend.variables):
        yield backend


@pytest.fixture(scope="session")
def shared(backend):
    """One sandbox for the cases that leave it as it was."""
    with runtimes.environment(backend.variables):
        sandbox = backend.create()
    with sandbox:
        yield sandbox


@pytest.fixture
def offered(runtime, shared):
    """``offered(feature)``: skips, naming the feature, when the runtime does not offer it."""

    def check(feature):
        if feature not in shared.capabilities:
            pytest.skip(f"not offered by {runtime.name}: {feature}")

    return check
