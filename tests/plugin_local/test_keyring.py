"""Keys of the caller stay outside."""

from __future__ import annotations

import ctypes
import platform

import pytest

NUMBERS = {"x86_64": (248, 250), "aarch64": (217, 219)}
SESSION = -3

LOOK = """
import ctypes
call = ctypes.CDLL(None).syscall
print(call({keyctl}, 10, -3, b"user", b"openrt-test", 0) > 0)
"""


def test_the_session_keyring_is_not_the_callers(runtime):
    add_key, keyctl = NUMBERS[platform.machine()]
    call = ctypes.CDLL(None).syscall
    key = call(add_key, b"user", b"openrt-test", b"secret", 6, SESSION)
    if key < 0:
        pytest.skip("the kernel has no keys for us")
    try:
        with runtime.create() as sandbox:
            result = sandbox.exec(["/usr/bin/python3", "-c", LOOK.format(keyctl=keyctl)])
            if result.exit_code:
                pytest.skip("no Python in the sandbox")
            assert result.stdout == b"False\n"
    finally:
        call(keyctl, 9, key, SESSION)
