"""The emulator for tests: started as a process of its own, asked and troubled through its stdin."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

ANSWER_LIMIT = 60.0
"""Seconds to wait for an answer, generous for a loaded machine."""


class Emulator:
    """``with Emulator(rootfs=…, state=…) as emulator:`` runs one; leaving the block ends it.

    ``rootfs`` is a folder with a Linux root file system, which every image becomes; ``state`` is a
    folder for the emulator's own files; ``credentials`` maps accepted token ids to secrets
    (default: ak-test, as-test). Should the test process die, the emulator ends, and every sandbox
    with it.
    """

    def __init__(
        self, *, rootfs: Path | str, state: Path | str, credentials: dict[str, str] | None = None
    ) -> None:
        self._rootfs = Path(rootfs)
        self._state = Path(state)
        self._credentials = credentials or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._unread = b""
        self.url = ""

    def __enter__(self) -> Emulator:
        command = [sys.executable, "-m", "emulators.modal", "--obey"]
        command += ["--rootfs", str(self._rootfs), "--state", str(self._state)]
        tokens = ",".join(f"{key}:{secret}" for key, secret in self._credentials.items())
        tests = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, "MODAL_EMULATOR_TOKENS": tokens},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        try:
            self.url = str(self._line()["url"])
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(ANSWER_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            process.stdout.close()

    @property
    def pid(self) -> int:
        """The emulator's process id."""
        return self._running().pid

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead an unmodified client here. Credentials are left to the test."""
        return {"MODAL_SERVER_URL": self.url, "MODAL_DISABLE_API_PROXY": "1"}

    def live(self) -> list[str]:
        """Ids of the sandboxes that can run commands, newest first."""
        return list(self._order(do="live"))

    def stall(self, sandbox_id: str) -> None:
        """From now on, no router call and no stream of that sandbox gets any further."""
        self._order(do="stall", sandbox=sandbox_id)

    def resume(self, sandbox_id: str) -> None:
        """End a stall; nothing was lost."""
        self._order(do="resume", sandbox=sandbox_id)

    def crash(self, sandbox_id: str) -> None:
        """End a sandbox as if its worker had failed; returns when no process of it is left."""
        self._order(do="crash", sandbox=sandbox_id)

    def calls(self) -> dict[str, int]:
        """How often each call was made."""
        return dict(self._order(do="calls"))

    def images(self) -> dict[str, list[str]]:
        """The Dockerfile lines of each image that was defined, by image id."""
        return dict(self._order(do="images"))

    def kill(self) -> None:
        """SIGKILL the emulator, and wait for its end; its sandboxes die with it."""
        process = self._running()
        process.kill()
        process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the emulator was not started: use it in a with statement")
        return self._process

    def _order(self, **order: str) -> Any:
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            process.stdin.write(json.dumps(order).encode() + b"\n")
            reply = self._line()
        if "error" in reply:
            raise LookupError(reply["error"])
        return reply["answer"]

    def _line(self) -> dict[str, Any]:
        """The next line of the emulator. Raises TimeoutError, or RuntimeError if it has ended."""
        stdout = self._running().stdout
        assert stdout is not None
        deadline = time.monotonic() + ANSWER_LIMIT
        while b"\n" not in self._unread:
            if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the emulator does not answer")
            chunk = os.read(stdout.fileno(), 65536)
            if not chunk:
                raise RuntimeError("the emulator has ended")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply
