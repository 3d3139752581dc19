"""Programs that use a sandbox, run as processes of their own: `python -m support.client NAME …`.

What they print, a line at a time, tells how far they are: first `id ID`, where they make a sandbox.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any

from openrt_core import Sandbox
from openrt_core.manager import Manager
from openrt_core.models import SandboxSpec
from openrt_core.plugin import hookimpl

LINES = 40_000


def say(*words: str) -> None:
    """One line for the test."""
    print(*words, flush=True)


class Announcer:
    """A wrapper that tells the id of what is about to be made, and when a command was started."""

    @hookimpl(wrapper=True)
    def openrt_provision(self, spec: SandboxSpec) -> Generator[None, Any, Any]:
        say("id", spec.id)
        return (yield)

    @hookimpl(wrapper=True)
    def openrt_exec(self) -> Generator[None, Any, Any]:
        process = yield
        say("started")
        return process


def create(runtime: str, image: str, lease: str = "") -> Sandbox:
    """A sandbox whose life is announced. ``lease`` is the agent's, instead of ten minutes."""
    from openrt_agent import AgentClient
    from openrt_core.hook_calls import Wrapper

    greet = AgentClient.open
    given: dict[str, Any] = {"lease": float(lease)} if lease else {}

    def open(endpoint: Any, **options: Any) -> AgentClient:
        say("greeting")
        return greet(endpoint, **{**options, **given})

    AgentClient.open = open  # type: ignore[method-assign]
    manager = Manager.open(runtime, wrappers=[Wrapper("announcer", Announcer())])
    if image:
        return Sandbox.create(manager=manager, image=image)
    return Sandbox.create(manager=manager)


def talk(sandbox: Sandbox, name: str) -> list[str]:
    """Commands with much output, several at once; the names of those whose output is not theirs."""

    def wrong(number: int) -> bool:
        tag = f"{name}-{number}"
        result = sandbox.exec(f"yes {tag} | head -n {LINES}; exit {number}", timeout=300)
        return (result.exit_code, result.stdout) != (number, f"{tag}\n".encode() * LINES)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(wrong, range(1, 25)))
    return [f"{name}-{number}" for number, answer in enumerate(answers, 1) if answer]


def run_guest(runtime: str, id: str, *faults: str) -> None:
    """Joins a sandbox and talks when it is told to; `wrong NAME…`, then the end."""
    if "attach" in faults:
        attach_again()
    with Sandbox.connect(id, runtime) as guest:
        say("joined")
        sys.stdin.readline()
        say("wrong", *talk(guest, "guest"))


def attach_again() -> None:
    """Takes a defence out: a second client shares the first one's stream."""
    from openrt_docker import container
    from openrt_docker.attach import EngineEndpoint
    from openrt_docker.plugin import DockerRuntime

    def join(self: DockerRuntime, handle: Any) -> Any:
        ends = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        api = self.engine.client().api
        return EngineEndpoint(api.attach_socket(container.name(handle.id), ends))

    DockerRuntime.join = join  # type: ignore[method-assign]


def run_sleeper(runtime: str, image: str, mark: str, lease: str = "") -> None:
    """Makes a sandbox and waits in a command for ever. Ctrl-C ends it in Python's own way."""
    with create(runtime, image, lease) as sandbox:
        say("created")
        sandbox.exec(f"echo started; sleep {mark}", timeout=None)


def run_reader(runtime: str, image: str, mark: str, agent: str = "") -> None:
    """Reads endless output of several commands; says so when it has got some of each.

    ``agent`` is one that does not heed the credit of the connection, which is not watched then.
    """
    if agent:
        import pytest
        from support import undefended

        patch = pytest.MonkeyPatch()
        undefended.use(patch, runtime, pathlib.Path(agent))
        patch.setattr("openrt_agent.wire.CONNECTION_CREDIT", 1 << 40)
    with create(runtime, image) as sandbox:
        # Without a shell between: what the test finds by its mark is what writes.
        processes = [sandbox.start(["yes", mark], timeout=None) for _ in range(8)]
        flowing = threading.Semaphore(0)

        def read(reader: Any) -> None:
            got = 0
            for chunk in reader:
                if got < 1_000_000 <= got + len(chunk):
                    flowing.release()
                got += len(chunk)

        for process in processes:
            threading.Thread(target=read, args=(process.stdout,), daemon=True).start()
        for _ in processes:
            flowing.acquire()
        say("flowing")
        processes[0].wait()


def follow_the_test() -> None:
    """Ends when the test's end of stdin is closed: the test may have been killed."""
    if not os.read(0, 1):
        os._exit(3)


RUNS: dict[str, Callable[..., None]] = {
    "guest": run_guest,
    "sleeper": run_sleeper,
    "reader": run_reader,
}

if __name__ == "__main__":
    if sys.argv[1] != "guest":
        threading.Thread(target=follow_the_test, daemon=True).start()
    RUNS[sys.argv[1]](*sys.argv[2:])
