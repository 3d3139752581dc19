"""Nobody but the agent speaks for it, and no client hears what is another's."""

from __future__ import annotations

import os

import pytest
from support import killers, runtimes, undefended
from support.client import talk
from support.killers import holds
from support.polling import until


def cannot_be_impersonated(sandbox, user):
    """A command forges a sibling's output and end; the sandbox must be fresh, for its ids."""
    with holds():
        sibling = start_sibling(sandbox)
        attack = sandbox.start(killers.forgery(1), user=user)
        assert attack.stdout.read().startswith(b"tried"), "no process of the agent was found"
        assert attack.wait(killers.PATIENCE).exit_code == 0
        sibling.stdin.write(b"go\n")
        result = sibling.wait(killers.PATIENCE)
        assert (result.exit_code, sibling.stdout.read()) == (3, b"real\n")
        assert sandbox.exec("echo up").stdout == b"up\n"


def start_sibling(sandbox):
    """The sandbox's first operation; once it is known to run, a message about it is believable."""
    sibling = sandbox.start("read word; echo real; exit 3", stdin=True)
    until(lambda: sibling.pid is not None, killers.PATIENCE)
    return sibling


def test_a_forged_message_changes_nothing(runtime, shared, offered):
    offered("kill_tree")
    # The agent is root where it can switch to other users.
    switches = "user" in shared.capabilities and (runtime.name != "local" or os.geteuid() == 0)
    with runtime.create() as sandbox:
        cannot_be_impersonated(sandbox, 0 if switches else None)


def test_without_its_defence_a_forged_message_is_believed(tmp_path, monkeypatch):
    program = undefended.build("undefended_dumpable", tmp_path)
    undefended.use(monkeypatch, "local", program)
    with runtimes.opened("local", tmp_path) as runtime, runtime.create() as sandbox:
        sibling = start_sibling(sandbox)
        # As the agent's own user: a switch of users would hide the agent's memory after all.
        sandbox.start(killers.forgery(1))
        result = sibling.wait(killers.PATIENCE)
        assert (result.exit_code, sibling.stdout.read()) == (77, b"forged\n")
    with runtime.create() as sandbox, pytest.raises(AssertionError):
        cannot_be_impersonated(sandbox, None)


def clients_do_not_mix(runtime, *faults):
    """Another process works in the same sandbox at the same time."""
    with runtime.create() as sandbox, holds():
        with killers.Client("guest", runtime.name, sandbox.id, *faults) as guest:
            guest.expect("joined")
            guest.tell()
            assert talk(sandbox, "owner") == []
            assert guest.expect("wrong") == []
            assert guest.process.wait(killers.PATIENCE) == 0
        assert sandbox.exec("echo up").stdout == b"up\n"


def test_two_clients_do_not_hear_each_other(runtime, offered):
    offered("connect")
    clients_do_not_mix(runtime)


def test_two_clients_on_one_stream_break_it(tmp_path):
    with runtimes.opened("docker", tmp_path) as runtime, pytest.raises(AssertionError):
        clients_do_not_mix(runtime, "attach")
