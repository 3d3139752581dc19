"""What all tests share: signals as a terminal gives them, repeatable property tests, a clean
environment."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

from openrt_core import exits

# A shell that starts us in the background has us ignore these, and every child of ours with us.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    signal.signal(
        _number, signal.SIG_DFL if _number != signal.SIGINT else signal.default_int_handler
    )

# The same examples on each run: a run that fails can be repeated, and a loaded machine is not an
# error.
hypothesis.settings.register_profile(
    "openrt",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("openrt")

_OURS = (
    "SANDBOX_",
    "WORKSPACE_",
    "OPENRT_WRAPPERS",
    "OPENRT_MAX_PROVISIONING",
    "OPENRT_AUDIT_LOG",
    "OPENRT_POLICY_FOLDER",
    "RUNTIME",
    "MODAL_",
)


@pytest.fixture(autouse=True, scope="session")
def _clean_environment(tmp_path_factory):
    """Nobody's own settings and state reach the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_OURS):
                patch.delenv(name)
        home = tmp_path_factory.mktemp("home")
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, str(home / name.lower()))
        yield


@pytest.fixture(autouse=True)
def _no_fakes_left_open():
    """Runtimes in memory go with their test, and their sandboxes with them: ids are used again."""
    yield
    for runtime, id in list(exits._removals):
        if runtime == "fake":
            exits.discard(runtime, id)
