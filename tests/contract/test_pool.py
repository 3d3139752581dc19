"""Pools of warm sandboxes on real runtimes."""

from __future__ import annotations

import os
import pathlib
import re
import signal

import pytest
from support.leftovers import Watch, host_processes
from support.polling import until

from openrt_core import Pool

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "pool.md"


@pytest.fixture
def ours(runtime):
    """A runtime that is on this machine."""
    if runtime.name not in ("local", "docker"):
        pytest.skip(f"{runtime.name}: its sandboxes are not on this machine")
    return runtime


def kill_from_outside(runtime, id):
    """Ends a sandbox behind the back of openrt."""
    if runtime.name == "local":
        for pid in host_processes(id):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not host_processes(id))
        return
    import docker

    client = docker.from_env(timeout=60)
    try:
        for one in client.api.containers(filters={"label": f"openrt.id={id}"}):
            client.api.kill(one["Id"])
        until(lambda: not client.api.containers(filters={"label": f"openrt.id={id}"}))
    finally:
        client.close()


def warm(pool, count):
    """The ids of the members, once there are so many."""
    until(lambda: len(pool._keeper._idle) == count)
    return {member.handle.id for member in pool._keeper._idle}


def test_a_warm_member_is_used_a_killed_one_is_not_and_nothing_is_left(ours):
    watch = Watch(ours)
    with Pool(ours.name, size=2, **ours.defaults({})) as pool:
        first = warm(pool, 2)
        with pool.acquire(120) as sandbox:
            assert sandbox.id in first
            assert sandbox.exec("echo warm", check=True).text == "warm\n"
        watch.expect_nothing(sandbox.id)
        dead = warm(pool, 2)
        for id in dead:
            kill_from_outside(ours, id)
        with pool.acquire(120) as other:
            assert other.id not in dead | first
            assert other.exec("echo alive", check=True).text == "alive\n"
        last = warm(pool, 2)
    watch.expect_nothing(*first, *dead, *last, other.id)


def test_the_programs_of_the_page_run(ours, monkeypatch, capsys):
    if not PAGE.exists():
        pytest.skip("the documents are not beside these tests")
    monkeypatch.setenv("RUNTIME", ours.name)
    if ours.image is not None:
        monkeypatch.setenv("SANDBOX_RUNTIME_CONTAINER_IMAGE", ours.image)
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for program in programs:
        exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == "one\ntwo\nthree\n" + 3 * "done\n"
