from __future__ import annotations

import asyncio
import atexit
import subprocess
import sys
import threading

import pytest

from openrt_core import errors
from openrt_modal.sdk import Sdk, translated
from openrt_modal.settings import Settings

theirs = pytest.importorskip("modal.exception")


@pytest.mark.parametrize(
    ("error", "expected", "retryable"),
    [
        (theirs.AuthError("token"), errors.AuthenticationError, False),
        (theirs.PermissionDeniedError("no"), errors.AuthenticationError, False),
        (theirs.ResourceExhaustedError("many"), errors.QuotaError, True),
        (theirs.ConflictError("ended"), errors.SandboxGoneError, False),
        (theirs.NotFoundError("none"), errors.SandboxGoneError, False),
        (theirs.SandboxTimeoutError("over"), errors.SandboxGoneError, False),
        (theirs.SandboxTerminatedError("over"), errors.SandboxGoneError, False),
        (theirs.AlreadyExistsError("taken"), errors.ProvisionError, False),
        (theirs.InvalidError("bad"), errors.ProvisionError, False),
        (theirs.InternalError("hm"), errors.ProvisionError, True),
        (theirs.ConnectionError("down"), errors.EngineUnreachableError, True),
        (ConnectionResetError("down"), errors.EngineUnreachableError, True),
        (TimeoutError(), errors.EngineUnreachableError, True),
        (theirs.RemoteError("Image build failed: manifest unknown"), errors.ImageNotFoundError, 0),
        (theirs.RemoteError("Image build failed: exit 1"), errors.ProvisionError, False),
    ],
)
def test_errors_become_ours(error, expected, retryable):
    with pytest.raises(errors.OpenrtError) as caught, translated("try it"):
        raise error
    assert type(caught.value) is expected
    assert caught.value.retryable == bool(retryable)
    assert caught.value.__cause__ is error
    assert str(error) in str(caught.value)
    assert "Could not try it" in str(caught.value)


def test_what_a_sandbox_is_made_of_is_not_a_sandbox_that_is_gone():
    with (
        pytest.raises(errors.ProvisionError) as caught,
        translated("create the sandbox", exists=False),
    ):
        raise theirs.NotFoundError("Environment 'staging' not found")
    assert "staging" in str(caught.value)
    assert "MODAL_ENVIRONMENT" in caught.value.hint


def test_other_errors_stay_what_they_are():
    with pytest.raises(ZeroDivisionError), translated("try it"):
        _ = 1 // 0
    with pytest.raises(errors.SettingError), translated("try it"):
        raise errors.SettingError("ours")


def test_a_call_that_hangs_ends_and_is_cancelled():
    sdk = Sdk(Settings(), lambda: None)
    cancelled = threading.Event()

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(errors.EngineUnreachableError, match="Could not try it"):
        sdk.call("try it", hang(), 0.1)
    assert cancelled.wait(60)


def test_first_calls_at_the_same_time_share_one_client(runtime, monkeypatch):
    sdk = Sdk(Settings(api_token_id="ak-test", api_token_secret="as-test"), lambda: None)
    register, registered = atexit.register, []

    def noting(function, *args, **kwargs):
        registered.append(function)
        return register(function, *args, **kwargs)

    monkeypatch.setattr(atexit, "register", noting)

    async def made():
        return await asyncio.gather(*(sdk.client() for _ in range(8)))

    assert len(set(map(id, sdk.call("make clients", made())))) == 1
    assert registered.count(sdk._exit) == 1


def test_all_calls_share_one_thread():
    sdk = Sdk(Settings(), lambda: None)

    async def here():
        return threading.get_ident()

    assert len({sdk.call("look", here()) for _ in range(10)}) == 1


def test_the_library_is_not_imported_before_it_is_needed():
    script = (
        "import sys, openrt_modal.plugin, openrt_modal.settings;"
        "from openrt_core.manager import Manager; m = Manager.open('modal');"
        "assert 'modal' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_name_that_is_taken_has_a_code_of_its_own():
    with pytest.raises(errors.ProvisionError) as caught, translated("create the sandbox"):
        raise theirs.AlreadyExistsError("taken")
    assert caught.value.code == "provision.id_taken"
