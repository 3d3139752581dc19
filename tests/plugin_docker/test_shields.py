"""What a command that is root in its container cannot do to the agent and to those who join."""

from __future__ import annotations

AUDIT_WRITE = 1 << 29


def test_commands_lack_the_capability_that_those_who_join_have(runtime, engine):
    with runtime.create(user=0) as sandbox:
        status = sandbox.exec("grep ^Cap /proc/self/status").stdout.decode()
        for line in status.splitlines():
            assert not int(line.split()[1], 16) & AUDIT_WRITE, line
        exec_in_it = engine.containers.get(f"openrt-{sandbox.id}").exec_run
        joining = exec_in_it(["grep", "^CapPrm", "/proc/self/status"]).output.decode()
        assert int(joining.split()[1], 16) & AUDIT_WRITE


def test_signals_do_not_end_the_sandbox(runtime):
    with runtime.create(user=0) as sandbox:
        sandbox.exec("for s in HUP INT QUIT ABRT SEGV TERM; do kill -s $s 1; done")
        assert sandbox.exec("echo alive").stdout == b"alive\n"


def test_the_container_is_stopped_by_the_signal_that_its_agent_heeds(runtime, engine):
    with runtime.create() as sandbox:
        config = engine.containers.get(f"openrt-{sandbox.id}").attrs["Config"]
        assert config["StopSignal"] == "SIGKILL"
