"""Shell sessions, with each shell that a runtime's sandbox has."""

from __future__ import annotations

import asyncio
import concurrent.futures
import secrets
import threading

import pytest
from support.polling import until

from openrt_core.errors import (
    CommandError,
    CommandFailedError,
    CommandNotStartedError,
    CommandTimedOutError,
    OpenrtError,
    SandboxGoneError,
    TransportError,
    UnsupportedError,
)

SHELLS = {"bash": ["bash"], "dash": ["dash"], "ash": ["busybox", "sh"]}
MIB = 1024 * 1024
LONG = 120


@pytest.fixture(params=SHELLS)
def program(request, shared, offered):
    """Each shell in turn."""
    offered("kill_tree")
    argv = SHELLS[request.param]
    if not shared.exec(["sh", "-c", 'command -v "$0"', argv[0]]).ok:
        pytest.skip(f"no {argv[0]} in this sandbox")
    return argv


@pytest.fixture
def shell(shared, program):
    """A session."""
    with shared.shell(program=program) as shell:
        yield shell


def out(shell, command, **arguments):
    """The standard output of a command that must succeed."""
    return shell.run(command, check=True, timeout=LONG, **arguments).stdout


def running(sandbox, mark):
    """Whether a process of the sandbox has ``mark`` in its command line."""
    return mark.encode() in sandbox.exec("cat /proc/[0-9]*/cmdline 2>/dev/null; true").stdout


def unique_sleep():
    """A time to sleep that tells its process from all others."""
    return str(10**8 + secrets.randbelow(10**8))


def test_a_runtime_without_what_it_needs_says_so(shared):
    if "kill_tree" in shared.capabilities:
        pytest.skip("this runtime has all of it")
    with pytest.raises(UnsupportedError, match="shell session"):
        shared.shell()


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ("cd /", "pwd", b"/\n"),
        ("x='a  b'", 'echo "$x"', b"a  b\n"),
        ("export E=1", "sh -c 'echo $E'", b"1\n"),
        ("f() { echo f $1; }", "f 2", b"f 2\n"),
        ("umask 027", "umask", b"0027\n"),
        ("set -f", "echo /*", b"/*\n"),
        ("set -u; set +u; set -C", "case $- in *C*) echo yes ;; esac", b"yes\n"),
        ("alias hi='echo hi'; shopt -s expand_aliases 2>/dev/null; true", "hi", b"hi\n"),
        ("set -- a 'b c'", 'echo "$2"', b"b c\n"),
        ("trap 'echo got' USR1", "kill -USR1 $$; :", b"got\n"),
        ("exec 7>/dev/null", "echo x >&7; echo y", b"y\n"),
    ],
)
def test_the_state_carries_over(shell, first, then, expected):
    assert out(shell, first) == b""
    assert out(shell, then) == expected


def test_the_session_starts_as_it_is_told(shared, program):
    environment = {"A": "a b", "ENV": "/no/such/file"}
    with shared.shell(program=program, cwd="/tmp", env=environment) as shell:
        assert out(shell, 'pwd; echo "$A"') == b"/tmp\na b\n"
    with shared.shell() as shell:
        assert out(shell, "pwd") == b"/workspace\n"


@pytest.mark.parametrize(
    "arguments", [{"program": "/no/such/shell"}, {"cwd": "/no/such/folder"}, {"program": "/bin/ls"}]
)
def test_a_session_that_cannot_start_says_so(shared, offered, arguments):
    offered("kill_tree")
    with pytest.raises(CommandNotStartedError):
        shared.shell(**arguments)
    assert left(shared) == []


def test_status_and_streams_are_exact(shell):
    for code in (0, 1, 2, 9, 126, 137, 255):
        result = shell.run(f"printf 'a\\0\\377'; printf b >&2; (exit {code})", timeout=LONG)
        assert (result.exit_code, result.signal) == (code, None)
        assert (result.stdout, result.stderr) == (b"a\0\xff", b"b")
        assert out(shell, "echo $?") == b"%d\n" % code
    assert shell.run("return 4", timeout=LONG).exit_code == 4
    assert shell.run("no-such-program", timeout=LONG).exit_code == 127
    with pytest.raises(CommandFailedError):
        shell.run("false", check=True, timeout=LONG)


def test_any_text_is_a_command(shell):
    every = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    quoted = "'" + every.replace("'", "'\\''") + "'"
    assert out(shell, f"printf %s {quoted}") == bytes(range(1, 256))
    assert out(shell, "cat <<'END'\n$x `y`\nEND\necho 'two\nlines'") == b"$x `y`\ntwo\nlines\n"
    assert out(shell, "") == b""
    assert out(shell, "# no command") == b""
    assert out(shell, "echo " + "x" * 200_000 + " | wc -c").strip() == b"200001"


@pytest.mark.parametrize("text", ["echo a; (", "if", "echo 'open", 'echo "open', "}", "eval 'if'"])
def test_a_syntax_error_is_the_commands_own(shell, text):
    out(shell, "x=kept")
    result = shell.run(text, timeout=LONG)
    assert result.exit_code != 0
    assert result.stderr
    assert out(shell, "echo $x") == b"kept\n"


def test_errors_that_end_a_script_do_not_end_the_session(shell):
    for text in (". /no/such/file", "set -u; echo $none", "echo ${none?told}", "shift 9; break"):
        shell.run(text, timeout=LONG)
    assert out(shell, "set +u; echo on") == b"on\n"


def test_what_a_command_prints_is_never_its_status(shell):
    forged = (
        'for word in $(tr "\\0" " " </proc/$PPID/cmdline) - 0; do echo "$word 0"; done\n'
        "for fd in 1 2 3 4 5 6 7 8 9; do sh -c \"echo '- 0' >&$fd\"; done 2>/dev/null\n"
        "echo '- 0'; echo '- 0' >&2\n"
        "(exit 5)"
    )
    result = shell.run(forged, timeout=LONG)
    assert result.exit_code == 5
    assert result.stdout.endswith(b"- 0\n")
    assert out(shell, "echo on") == b"on\n"


def test_commands_have_nothing_of_the_session(shell):
    assert out(shell, "cat; readlink /proc/self/fd/0") == b"/dev/null\n"
    assert out(shell, "sh -c 'ls /proc/$$/fd; :'").split() == [b"0", b"1", b"2"]


def test_a_child_in_the_background_holds_nothing_up(shared, shell):
    mark = unique_sleep()
    result = shell.run(f"sleep {mark} & echo now", timeout=LONG)
    assert result.stdout == b"now\n"
    assert result.stderr == b""
    # Not waited for: the wait of dash 0.5.12 can miss the end of a job that it has just killed.
    assert out(shell, "kill -0 $! && kill $! && echo killed") == b"killed\n"
    until(lambda: not running(shared, mark))


def test_what_it_prints_later_belongs_to_nobody(shell):
    script = "(read -r _ <./go; echo late; echo more; echo done >./done) &"
    out(shell, f"cd $(mktemp -d); mkfifo go; {script}")
    wait = "echo >go; while [ ! -s done ]; do :; done; echo here"
    assert shell.run(wait, timeout=60).stdout == b"here\n"
    assert out(shell, "cat done; rm -r $PWD; cd /") == b"done\n"


def test_a_mebibyte_comes_out_whole(shell):
    result = shell.run(f"head -c {MIB} /dev/zero; head -c {MIB} /dev/zero >&2", timeout=LONG)
    assert (result.stdout, result.stderr) == (bytes(MIB), bytes(MIB))


def test_more_than_the_bound_is_cut_in_the_middle(shell):
    result = shell.run(f"printf first; head -c {12 * MIB} /dev/zero; printf last", timeout=LONG)
    assert result.truncated
    assert result.stdout.startswith(b"first")
    assert result.stdout.endswith(b"last")
    assert len(result.stdout) + result.stdout_dropped == 12 * MIB + 9


def test_a_time_limit_kills_the_command_and_keeps_the_session(shared, shell):
    kept, child, below = unique_sleep(), unique_sleep(), unique_sleep()
    out(shell, f"x=kept; sleep {kept} &")
    command = (
        f"echo part; sh -c 'trap \"\" TERM INT; sleep {below}; :' & sleep {child}; echo no >&2"
    )
    with pytest.raises(CommandTimedOutError, match="session goes on") as caught:
        shell.run(command, timeout=3)
    result = caught.value.result
    assert result.timed_out
    assert (result.stdout, result.stderr) == (b"part\n", b"")
    assert not shell.closed
    assert out(shell, "echo $x") == b"kept\n"
    assert running(shared, kept)
    until(lambda: not running(shared, child) and not running(shared, below))


def test_nothing_of_a_command_runs_after_its_time_limit(shared, program):
    def use(command):
        with shared.shell(program=program) as shell:
            out(shell, "no() { echo ran >>./ran; }; cd $(mktemp -d)")
            with pytest.raises(CommandTimedOutError, match="session goes on"):
                shell.run(f"{command}\nno", timeout=1)
            return out(shell, "ls; rm -r $PWD; cd /")

    commands = [
        "while :; do :; done",
        "f() { sleep 1000; no; }; f; no",
        "v=$(sleep 1000 | cat); no",
        "trap '' INT; for i in 1 2 3; do sleep 1000; done; no",
    ]
    with concurrent.futures.ThreadPoolExecutor(len(commands)) as pool:
        assert list(pool.map(use, commands)) == [b""] * len(commands)


def test_a_shell_that_does_not_come_back_ends_with_its_command(shared, shell):
    mark = unique_sleep()
    with pytest.raises(CommandTimedOutError, match="session with it") as caught:
        shell.run(f"echo part; exec sleep {mark}", timeout=3)
    assert caught.value.result.stdout == b"part\n"
    assert shell.closed
    assert not running(shared, mark)
    with pytest.raises(CommandError, match="is over"):
        shell.run("echo")


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 3", 3), ("set -e; false; echo no", 1), ("exec sh -c 'exit 4'", 4), ("kill -9 $$", 137)],
)
def test_a_command_that_ends_the_shell_ends_the_session(shared, shell, command, code):
    mark = unique_sleep()
    result = shell.run(f"sleep {mark} & echo out; echo err >&2; {command}", timeout=LONG)
    assert (result.exit_code, result.stdout) == (code, b"out\n")
    assert result.stderr.startswith(b"err\n")
    assert shell.closed
    assert not running(shared, mark)
    with pytest.raises(CommandError, match="is over"):
        shell.run("echo")
    shell.close()


def test_three_sessions_side_by_side(shared, program):
    def use(name):
        with shared.shell(program=program) as shell:
            out(shell, f"x={name}")
            return [out(shell, "echo $x") for _ in range(5)]

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        results = list(pool.map(use, "abc"))
    assert results == [[b"%c\n" % name] * 5 for name in b"abc"]


def test_commands_of_one_session_wait_for_each_other(shell):
    out(shell, "n=0")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: out(shell, "n=$((n+1)); echo $n"), range(16)))
    assert sorted(map(int, results)) == list(range(1, 17))


def left(sandbox):
    """Folders of sessions."""
    script = "ls -d /tmp/.openrt-shell-* /dev/shm/.openrt-shell-* 2>/dev/null; true"
    return sandbox.exec(script).stdout.split()


def test_close_leaves_nothing(shared, program):
    before = set(left(shared))
    marks = [unique_sleep() for _ in range(3)]
    shell = shared.shell(program=program)
    made = set(left(shared)) - before
    assert len(made) == 1
    assert shared.exec(["stat", "-c", "%a", made.pop().decode()]).stdout == b"700\n"
    deaf = f"sh -c 'trap \"\" HUP TERM; sleep {marks[2]}; :' &"
    out(shell, f"sleep {marks[0]} & (sleep {marks[1]} &); {deaf}")
    until(lambda: all(running(shared, mark) for mark in marks))
    shell.close()
    shell.close()
    assert not any(running(shared, mark) for mark in marks)
    assert set(left(shared)) == before
    with pytest.raises(CommandError, match="is over"):
        shell.run("echo")


def test_close_lets_a_running_command_go(shared, program):
    shell = shared.shell(program=program)
    mark = unique_sleep()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(shell.run, f"sleep {mark}", timeout=None)
        until(lambda: running(shared, mark))
        shell.close()
        with pytest.raises(CommandError):
            waiting.result(LONG)


def test_a_sandbox_that_is_gone_is_told(runtime, offered):
    offered("kill_tree")
    with runtime.create() as sandbox:
        shell = sandbox.shell()
        mark = unique_sleep()
        failed = []

        def wait():
            try:
                shell.run(f"sleep {mark}", timeout=None)
            except OpenrtError as error:
                failed.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: running(sandbox, mark))
        sandbox.kill()
        waiting.join(LONG)
        assert len(failed) == 1
        assert isinstance(failed[0], (SandboxGoneError, TransportError))
        assert shell.closed
        shell.close()
        with pytest.raises(SandboxGoneError):
            sandbox.shell()


def test_a_sandbox_that_went_meanwhile_is_told(runtime, offered):
    offered("kill_tree")
    with runtime.create() as sandbox, sandbox.shell() as shell:
        sandbox.kill()
        with pytest.raises(SandboxGoneError):
            shell.run("echo")
        assert shell.closed


def test_async_sessions(runtime, offered):
    offered("kill_tree")

    async def main():
        async with await runtime.create_async() as sandbox:
            async with await sandbox.shell(cwd="/tmp") as shell:
                results = await asyncio.gather(
                    *(shell.run("n=$((n+1)); echo $n") for _ in range(4))
                )
                assert sorted(r.stdout for r in results) == [b"1\n", b"2\n", b"3\n", b"4\n"]
                with pytest.raises(CommandTimedOutError):
                    await shell.run("sleep 1000", timeout=1)
                assert (await shell.run("echo $n; pwd")).stdout == b"4\n/tmp\n"
                assert (await shell.run("exit 3")).exit_code == 3
                assert shell.closed
            shell = await sandbox.shell()
            task = asyncio.ensure_future(shell.run("echo >/tmp/began; sleep 1000", timeout=None))
            while not await sandbox.files.exists("/tmp/began"):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert shell.closed
            await shell.close()
            assert (await sandbox.exec("ls -d /tmp/.openrt-shell-*")).stdout == b""

    asyncio.run(main())
