"""Whatever a command starts ends with it, and nothing else does."""

from __future__ import annotations

import pytest
from support import killers, runtimes, undefended
from support.killers import holds, processes
from support.polling import until

from openrt_core.errors import CommandTimedOutError

# It forks twice, starts a session and clears its environment, then waits with its parent.
ESCAPES = """
    (env -i setsid sh -c 'sleep {mark} & exec sleep {mark}' &)
    echo before
    exec sleep {mark}
"""

WAYS = (
    ("daemons", "plain", "group", "vfork", "thread"),
    ("daemons", "hoppers"),
    ("daemons", "stopparent", "plain"),
    ("daemons", "plain", "group", "vfork", "thread", "hoppers"),
)
RUNS = 50
SIBLING = 9
"""How many live of the tree "daemons plain thread"."""


@pytest.fixture(scope="session")
def nasty(tmp_path_factory):
    """A program whose children hide."""
    return killers.compile_nasty(tmp_path_factory.mktemp("nasty"))


def time_limit_leaves_nothing(sandbox):
    with holds():
        sibling = sandbox.start("read word; echo survived", stdin=True)
        mark = "998811"
        with pytest.raises(CommandTimedOutError) as caught:
            sandbox.exec(ESCAPES.format(mark=mark), timeout=3)
        left = [line for line in processes(sandbox) if mark in line]
        assert left == []
        assert caught.value.result.stdout == b"before\n"
        sibling.stdin.write(b"go\n")
        assert sibling.wait(killers.PATIENCE).exit_code == 0
        assert sibling.stdout.read() == b"survived\n"


def nasty_trees_leave_nothing(sandbox, program, runs):
    """Half of them are killed by the client, half at their time limit."""
    with holds():
        sandbox.files.write("/tmp/nasty", program, mode=0o755)
        sibling = sandbox.start(["/tmp/nasty", "daemons", "plain", "thread"], timeout=None)
        assert sibling.stdout.read(100) == b"ready\n"
        until(lambda: alive(sandbox) == alive(sandbox) == SIBLING)
        for run in range(runs):
            ways = WAYS[run // 2 % len(WAYS)]
            if run % 2:
                with pytest.raises(CommandTimedOutError):
                    sandbox.exec(["/tmp/nasty", *ways], timeout=0.2)
            else:
                process = sandbox.start(["/tmp/nasty", *ways], timeout=None)
                assert process.stdout.read(100) == b"ready\n"
                process.kill()
                assert process.wait(killers.PATIENCE).signal == 9
            assert alive(sandbox) == SIBLING, f"run {run}: {ways}"
        assert sibling.poll() is None
        sibling.kill()
        assert sibling.wait(killers.PATIENCE).signal == 9
        assert family(sandbox) == []


def family(sandbox) -> list[str]:
    """The processes of the program, also under the name that it gives itself, and their dead."""
    names = ("(nasty)", "(exe)")
    return [line for line in processes(sandbox) if line.split(" ", 2)[1] in names]


def alive(sandbox) -> int:
    """How many processes of the program live."""
    return len([line for line in family(sandbox) if not line.startswith("Z")])


def test_a_time_limit_reaches_what_hides(runtime, offered):
    offered("kill_tree")
    with runtime.create() as sandbox:
        time_limit_leaves_nothing(sandbox)


def test_fifty_nasty_trees_leave_nothing(runtime, offered, nasty):
    offered("kill_tree")
    with runtime.create() as sandbox:
        nasty_trees_leave_nothing(sandbox, nasty, RUNS)


@pytest.fixture
def group_only(tmp_path, monkeypatch):
    """A runtime whose agent kills process groups, not trees."""
    program = undefended.build("undefended_tree", tmp_path)
    undefended.use(monkeypatch, "local", program)
    with runtimes.opened("local", tmp_path) as runtime:
        yield runtime


def test_a_process_group_is_not_enough_for_a_time_limit(group_only):
    with group_only.create() as sandbox, pytest.raises(AssertionError, match="998811"):
        time_limit_leaves_nothing(sandbox)


def test_a_process_group_is_not_enough_for_nasty_trees(group_only, nasty):
    with group_only.create() as sandbox, pytest.raises(AssertionError, match="run 0"):
        nasty_trees_leave_nothing(sandbox, nasty, 2)
