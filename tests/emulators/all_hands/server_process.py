"""One real agent server in a bubblewrap sandbox of its own: the emulated platform's pod."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import secrets
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import attrs

_VENV = "/opt/agent-server"
_HOME = "/home/openhands"
# A watcher inside ends all when the pipe that this process holds is closed, so a test run that is
# killed leaves nothing. Bubblewrap's --die-with-parent does not do: it counts from the thread that
# forked, and a parent that dies while the sandbox is being made leaves it.
_WATCHED = 'exec 3<&0 </dev/null; { read -r _; kill -KILL -1; } <&3 & exec "$@" 3<&-'
# What the platform sets, and no caller can override.
_SETTINGS = {
    "HOME": _HOME,
    "PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{_VENV}/bin",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else the import stalls on a machine without network
    "OPENHANDS_SUPPRESS_BANNER": "1",
    "OH_ENABLE_VSCODE": "false",
    "OH_PRELOAD_TOOLS": "false",
}


@attrs.frozen
class Pod:
    """What /start asks for, as far as it changes the process."""

    environment: Mapping[str, str] = attrs.field(factory=dict)
    working_dir: str = "/"
    uid: int = 10001
    gid: int = 10001


class ServerProcess:
    """A running agent server, its session key chosen by the platform.

    Args:
        server: path of the `agent-server` executable in its venv.
        state: folder for this sandbox; made if missing. `workspace`, `tmp` and `home` in it are the
            sandbox's /workspace, /tmp and home folder; `server.log` is what the server printed.
        pod: what was asked for.

    Raises:
        FileNotFoundError: no bubblewrap next to the server nor on PATH.
        RuntimeError: bubblewrap could not make the sandbox; the text has its message.
    """

    def __init__(self, server: Path, state: Path, pod: Pod) -> None:
        self.state = state
        self.session_key = secrets.token_hex(16)
        self.port = _free_port()
        self._ready = False
        self._kill_lock = threading.Lock()
        for name in ("workspace", "tmp", "home"):
            (state / name).mkdir(parents=True, exist_ok=True)
        environment = {
            "LANG": "C.UTF-8",
            **pod.environment,
            **_SETTINGS,
            "SESSION_API_KEY": self.session_key,
            "OH_SESSION_API_KEYS_0": self.session_key,
        }
        read, write = os.pipe()
        with open(read) as info, open(state / "server.log", "wb") as log:
            try:
                self._bwrap = subprocess.Popen(
                    [
                        *(_bwrap(server), *_mounts(server.parent.parent, state)),
                        *(*_options(pod, write), "--", "/bin/sh", "-c", _WATCHED, "sh"),
                        *(f"{_VENV}/bin/python", "-m", "openhands.agent_server"),
                        *("--host", "127.0.0.1", "--port", str(self.port)),
                    ],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Without a reader of its own bubblewrap dies of SIGPIPE when this process is
                    # killed now, and leaves its child waiting for ever.
                    pass_fds=(read, write),
                    start_new_session=True,
                )
            finally:
                os.close(write)
            told = info.read()
        try:
            # The namespace's first process: the kernel reports its end when all others have ended.
            init = int(json.loads(told)["child-pid"])
            self._init_fd = os.pidfd_open(init)
            self._namespace = os.readlink(f"/proc/{init}/ns/pid")
        except (ValueError, OSError) as error:
            self._bwrap.wait()
            log_text = (state / "server.log").read_text()
            raise RuntimeError(f"no sandbox: {log_text[-2000:]}") from error

    def alive(self) -> bool:
        """Say whether the sandbox's processes still run."""
        return self._bwrap.poll() is None

    def healthy(self) -> bool:
        """Ask the server's /health, until it was healthy once."""
        if not self._ready and self.alive():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                with contextlib.closing(connection):
                    connection.request("GET", "/health")
                    self._ready = connection.getresponse().status == 200
        return self._ready and self.alive()

    def pids(self) -> list[int]:
        """Return the host's pids of every process in the sandbox."""
        return pids_in_namespace(self._namespace)

    def kill(self, timeout: float = 60.0) -> None:
        """End every process of the sandbox and wait until the last is gone. Twice is fine.

        Raises:
            TimeoutError: something is still there after `timeout` seconds.
        """
        with self._kill_lock:
            if self._init_fd < 0:
                return
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_fd, signal.SIGKILL)
            poller = select.poll()
            poller.register(self._init_fd, select.POLLIN)
            if not poller.poll(timeout * 1000):
                raise TimeoutError(f"the sandbox {self.state.name} outlived SIGKILL")
            self._bwrap.wait(timeout)
            if self._bwrap.stdin is not None:
                self._bwrap.stdin.close()
            os.close(self._init_fd)
            self._init_fd = -1


def _bwrap(server: Path) -> str:
    beside = server.parent / "bwrap"
    found = str(beside) if beside.exists() else shutil.which("bwrap")
    if found is None:
        raise FileNotFoundError(f"no bwrap in {server.parent} nor on PATH")
    return found


def _options(pod: Pod, info_fd: int) -> list[str]:
    return [
        *("--unshare-user", "--uid", str(pod.uid), "--gid", str(pod.gid)),
        *("--unshare-pid", "--unshare-ipc", "--new-session"),
        *("--info-fd", str(info_fd), "--chdir", pod.working_dir),
    ]


def _mounts(venv: Path, state: Path) -> list[str]:
    """Share the system's programs only: a folder that a client forgot to copy is not there."""
    mounts: list[str] = []
    for name in ("/usr", "/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        path = Path(name)
        if path.is_symlink():
            mounts += ["--symlink", os.readlink(path), name]
        elif path.exists():
            mounts += ["--ro-bind", name, name]
    mounts += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run", "--tmpfs", "/var"]
    # The platform's network is the host's here, so its name servers have to be found too.
    resolver = Path("/etc/resolv.conf").resolve()
    if resolver.is_relative_to("/run") and resolver.exists():
        mounts += ["--ro-bind", str(resolver), str(resolver)]
    for folder, target in (("workspace", "/workspace"), ("tmp", "/tmp"), ("home", _HOME)):
        mounts += ["--bind", str(state / folder), target]
    mounts += ["--ro-bind", str(venv.resolve()), _VENV]
    base = (venv / "bin" / "python").resolve().parent.parent
    if not base.is_relative_to("/usr"):
        mounts += ["--ro-bind", str(base), str(base)]
    return mounts


def _free_port() -> int:
    # Below the range that the kernel gives to outgoing connections: those could take the port
    # in the seconds before the server binds it.
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def pids_in_namespace(namespace: str) -> list[int]:
    """Return the processes whose /proc/PID/ns/pid is `namespace`, as the host numbers them."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                found.append(int(entry))
    return found
