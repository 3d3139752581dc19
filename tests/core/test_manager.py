# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
from __future__ import annotations

import _thread
import contextvars
import os
import signal
import threading
import typing

import attrs
import pytest
from support.fake_runtime import SPEC, FakeRuntime, hang, manage, succeed
from support.fake_wrappers import (
    Denied,
    FailsAfterExec,
    FailsAfterProvision,
    FailsAfterTeardown,
    FailsBeforeTeardown,
    Recorder,
)
from support.polling import until

from openrt_core import exits, hookspecs, kept_specs, life_specs
from openrt_core.errors import ID_TAKEN, PluginError, ProvisionError, SettingError, UnsupportedError
from openrt_core.hook_calls import RESULTS
from openrt_core.models import (
    Command,
    Mount,
    OutputMode,
    SandboxHandle,
    SandboxSpec,
    SandboxStatus,
    TerminalSize,
)
from openrt_core.plugin import FEATURES, hookimpl
from openrt_core.process import Process

TRUE = Command(argv=("true",))


def spec(**fields):
    return attrs.evolve(SPEC, **fields)


def test_results_name_every_hook_with_the_type_of_its_spec():
    every = vars(hookspecs) | vars(life_specs) | vars(kept_specs)
    specs = {n: f for n, f in every.items() if n.startswith("openrt_")}
    returned = {n: typing.get_type_hints(f)["return"] for n, f in specs.items()}
    assert {n: typing.get_origin(t) or t for n, t in returned.items()} == dict(RESULTS)


# What is refused when a manager is made -----------------------------------------------------------


class WithoutExec(FakeRuntime):
    openrt_exec: typing.Any = None


class Misspelled(FakeRuntime):
    @hookimpl
    def openrt_red_file(self, handle):
        return b""


class WrongArguments(FakeRuntime):
    @hookimpl
    def openrt_status(self, sandbox):
        return None


class Unmarked(FakeRuntime):
    def openrt_status(self, handle):
        return None


class Twice(FakeRuntime):
    @hookimpl(specname="openrt_teardown")
    def another(self, handle):
        return True


class ImplementsPrepare(FakeRuntime):
    @hookimpl
    def openrt_prepare(self, spec):
        return spec


class WrapsItself(FakeRuntime):
    @hookimpl(wrapper=True)
    def openrt_status(self, handle):
        return (yield)


class Async(FakeRuntime):
    @hookimpl
    async def openrt_status(self, handle):
        return None


@attrs.define
class Equal(FakeRuntime):
    pass


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        (WithoutExec, "'fake' .* does not implement openrt_exec"),
        (Misspelled, "'fake' .*unknown hook 'openrt_red_file'"),
        (WrongArguments, "'fake' .*sandbox.* are declared"),
        (Unmarked, "openrt_status lacks @hookimpl"),
        (Twice, "implements openrt_teardown 2 times"),
        (ImplementsPrepare, "openrt_prepare is the core's"),
        (WrapsItself, "its openrt_status is a wrapper"),
        (Async, "its openrt_status is async"),
        (Equal, r"@attrs\.define\(eq=False\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_runtime_that_breaks_the_contract_is_refused(runtime, message):
    with pytest.raises(PluginError, match=message):
        manage(runtime())


def test_an_unknown_feature_is_named():
    with pytest.raises(PluginError, match="unknown features: warp"):
        manage(FakeRuntime(features=frozenset({"image", "warp"})))


def test_features_must_be_a_set():
    with pytest.raises(PluginError, match="no set of features"):
        manage(FakeRuntime(features=typing.cast("frozenset[str]", None)))


def test_a_wrong_spec_version_is_refused():
    with pytest.raises(PluginError, match="written for version 2"):
        manage(FakeRuntime(spec_version=2))


class Plain:
    @hookimpl
    def openrt_provision(self, spec):
        return SandboxHandle(runtime="fake", id=spec.id)


class OldStyle:
    @hookimpl(hookwrapper=True)
    def openrt_provision(self):
        yield


class First:
    @hookimpl(wrapper=True, tryfirst=True)
    def openrt_provision(self):
        return (yield)


class Last:
    @hookimpl(wrapper=True, trylast=True)
    def openrt_provision(self):
        return (yield)


class WrapsNothing:
    @hookimpl(wrapper=True)
    def openrt_provison(self):
        return (yield)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        (Plain, "openrt_provision of the wrapper 'w' is no wrapper"),
        (OldStyle, "openrt_provision of the wrapper 'w' is no wrapper"),
        (First, "openrt_provision of the wrapper 'w' says tryfirst"),
        (Last, "openrt_provision of the wrapper 'w' says trylast"),
        (WrapsNothing, "wrapper 'w' .*unknown hook 'openrt_provison'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_plain_wrapper_is_refused_by_name(wrapper, message):
    with pytest.raises(PluginError, match=message):
        manage(w=wrapper())


# Calls --------------------------------------------------------------------------------------------


def test_the_first_wrapper_is_the_outermost():
    log: list[str] = []
    manage(outer=Recorder("outer", log), inner=Recorder("inner", log)).create(SPEC)
    assert log == ["outer before", "inner before", "inner after", "outer after"]


class Returns(FakeRuntime):
    value: object = None

    @hookimpl
    def openrt_provision(self, spec):
        self.alive.add(spec.id)
        return self.value

    @hookimpl
    def openrt_write_file(self, path):
        return self.value

    @hookimpl
    def openrt_exec(self):
        return self.value


@pytest.mark.parametrize("value", [None, "box"])
def test_a_result_of_none_or_another_type_names_hook_and_runtime_and_leaks_nothing(value):
    runtime = Returns()
    runtime.value = value
    with pytest.raises(PluginError, match="openrt_provision of the runtime 'fake' returned") as e:
        manage(runtime).create(SPEC)
    assert type(value).__name__ in str(e.value)
    assert not runtime.alive


def test_a_bool_is_no_number_of_bytes():
    runtime = Returns()
    runtime.value = True
    with pytest.raises(PluginError, match="openrt_write_file of the runtime 'fake' returned bool"):
        manage(runtime).write_file(SandboxHandle(runtime="fake", id="box"), "/a", b"x", None, None)


class Forgets:
    @hookimpl(wrapper=True)
    def openrt_provision(self):
        yield


def test_a_wrapper_that_forgets_to_return_is_named_and_leaks_nothing():
    runtime = FakeRuntime()
    with pytest.raises(PluginError, match="wrappers careless around it returned NoneType"):
        manage(runtime, careless=Forgets()).create(SPEC)
    assert not runtime.alive


@pytest.mark.parametrize(("name", "id"), [("other", "box"), ("fake", "other")])
def test_a_handle_of_another_sandbox_is_refused(name, id):
    runtime = Returns()
    runtime.value = SandboxHandle(runtime=name, id=id)
    with pytest.raises(PluginError, match="returned the handle of"):
        manage(runtime).create(SPEC)
    assert not runtime.alive


class AroundStatus:
    ran = False

    @hookimpl(wrapper=True)
    def openrt_status(self):
        self.ran = True
        return (yield)


def test_a_hook_that_the_runtime_lacks_is_unsupported_before_any_wrapper_runs():
    wrapper = AroundStatus()
    with pytest.raises(UnsupportedError, match="'fake' has no status"):
        manage(w=wrapper).status(SandboxHandle(runtime="fake", id="box"))
    assert not wrapper.ran


class WithHooks(FakeRuntime):
    @hookimpl
    def openrt_status(self, handle):
        return SandboxStatus(state="running")

    @hookimpl
    def openrt_read_file(self, handle, path):
        return b"mine"

    @hookimpl
    def openrt_preflight(self, spec):
        self.log.append("preflight")
        return True


def test_a_capability_is_a_hook_that_the_runtime_owns_or_a_feature_that_it_names():
    capabilities = manage(WithHooks(features=frozenset({"gpu"}))).capabilities
    assert capabilities.hooks == {"status", "read_file", "preflight"}
    assert capabilities.features == {"gpu"}
    assert "gpu" in capabilities
    assert "write_file" not in capabilities


def test_a_file_hook_of_the_runtime_goes_before_the_core_s_default_and_has_no_second():
    runtime = WithHooks()
    assert manage(runtime).read_file(SandboxHandle(runtime="fake", id="box"), "/a", None) == b"mine"
    assert "exec" not in runtime.log


def test_preflight_comes_before_mount_and_mount_before_provision():
    runtime = WithHooks()
    manage(runtime).create(spec(mounts=[Mount("/a", "/b")]))
    assert runtime.log == ["preflight", "mount", "provision"]


# Features -----------------------------------------------------------------------------------------

OFF_DEFAULT: dict[str, dict[str, typing.Any]] = {
    "image": {"image": "debian"},
    "user": {"user": 5},
    "network_none": {"network": "none"},
    "network_host": {"network": "host"},
    "network_named": {"network": "mine"},
    "ports": {"ports": [80]},
    "cpu": {"cpu": 1},
    "memory": {"memory": 1},
    "pids": {"pids": 1},
    "disk": {"disk": 1},
    "gpu": {"gpu": "all"},
    "platform": {"platform": "linux/arm64"},
    "labels": {"labels": {"a": "b"}},
    "lifetime": {"lifetime": 1},
    "idle_limit": {"idle_limit": 1},
    "keep": {"keep": True},
    "read_only": {"read_only": True},
    "options": {"options": {"a": 1}},
    "overlay": {"mounts": [Mount("/a", "/b", "overlay")]},
    "named_volume": {"mounts": [Mount("cache", "/b")]},
}


def test_the_table_of_this_test_names_every_field_and_feature_of_a_spec():
    basic = {"id", "mounts", "env", "secrets", "workdir", "network", "start_timeout"}
    built = {"image_commands", "image_rebuild"}  # need a hook: test_life
    assert {a.name for a in attrs.fields(SandboxSpec)} - basic - built <= set(OFF_DEFAULT)
    others = {"bind", "copy", "stdin", "streams", "tty", "kill_tree", "background"}
    assert set(FEATURES) - others == set(OFF_DEFAULT)


@pytest.mark.parametrize("feature", OFF_DEFAULT)
def test_a_field_whose_feature_the_runtime_lacks_is_unsupported_before_anything_is_spent(feature):
    runtime = WithHooks(features=frozenset(FEATURES) - {feature})
    with pytest.raises(UnsupportedError, match=feature):
        manage(runtime).create(spec(**OFF_DEFAULT[feature]))
    assert runtime.log == []


@pytest.mark.parametrize("feature", OFF_DEFAULT)
def test_a_field_whose_feature_the_runtime_names_goes_through(feature):
    runtime = FakeRuntime(features=frozenset({feature}))
    manage(runtime).create(spec(**OFF_DEFAULT[feature]))
    assert runtime.alive == {"box"}
    manage(runtime).teardown(SandboxHandle(runtime="fake", id="box"))


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_a_mount_of_a_folder_needs_bind_or_copy(mode):
    mounted = spec(mounts=[Mount("/a", "/b", mode)])
    for feature in ("bind", "copy"):
        manager = manage(FakeRuntime(features=frozenset({feature})))
        manager.teardown(manager.create(mounted))
    runtime = FakeRuntime(features=frozenset(FEATURES) - {"bind", "copy"})
    with pytest.raises(UnsupportedError, match="bind or copy"):
        manage(runtime).create(mounted)
    assert runtime.log == []


@pytest.mark.parametrize(
    ("feature", "fields"),
    [
        ("stdin", {"stdin": True}),
        ("tty", {"tty": TerminalSize()}),
        ("user", {"user": 5}),
        ("background", {"background": True}),
    ],
)
def test_a_command_whose_feature_the_runtime_lacks_is_not_started(feature, fields):
    runtime = FakeRuntime(features=frozenset(FEATURES) - {feature})
    manager = manage(runtime)
    handle = manager.create(SPEC)
    with pytest.raises(UnsupportedError, match=feature):
        manager.start(handle, attrs.evolve(TRUE, **fields))
    assert "exec" not in runtime.log


# What goes wrong leaks nothing --------------------------------------------------------------------


class ChangesId:
    @hookimpl(wrapper=True)
    def openrt_prepare(self, spec):
        return attrs.evolve((yield), id="other")


def test_a_changed_id_from_prepare_is_refused_before_anything_is_spent():
    runtime = FakeRuntime()
    with pytest.raises(PluginError, match="changed the sandbox's id box to other"):
        manage(runtime, w=ChangesId()).create(SPEC)
    assert runtime.log == []


class ChangesImage:
    @hookimpl(wrapper=True)
    def openrt_prepare(self, spec):
        return attrs.evolve((yield), image="approved")

    @hookimpl(wrapper=True)
    def openrt_prepare_command(self, command):
        return attrs.evolve((yield), argv=("nice", *command.argv))


def test_a_wrapper_can_change_what_is_made_and_what_is_run():
    runtime = FakeRuntime()
    manager = manage(runtime, w=ChangesImage())
    manager.start(manager.create(SPEC), TRUE)
    assert runtime.specs[0].image == "approved"
    assert runtime.commands[0].argv == ("nice", "true")


class Fails(FakeRuntime):
    error: BaseException = ProvisionError("no room")

    @hookimpl
    def openrt_provision(self, spec):
        self.alive.add(spec.id)
        raise self.error


@pytest.mark.parametrize("error", [ProvisionError("no room"), ValueError(), KeyboardInterrupt()])
def test_after_any_exception_of_provision_the_bare_teardown_is_called_with_that_id(error):
    runtime = Fails()
    runtime.error = error
    with pytest.raises(type(error)) as caught:
        manage(runtime, w=FailsBeforeTeardown()).create(SPEC)
    assert caught.value is error
    assert runtime.torn_down == [SandboxHandle(runtime="fake", id="box")]
    assert not runtime.alive


def test_an_id_that_is_open_in_this_process_is_refused_and_what_has_it_is_left_alone():
    runtime = FakeRuntime()
    manager = manage(runtime)
    handle = manager.create(SPEC)
    for other in (manager, manage(runtime)):
        with pytest.raises(SettingError, match="box") as caught:
            other.create(SPEC)
        assert "new_id" in caught.value.hint
    assert (runtime.log, runtime.alive) == (["provision"], {"box"})
    assert exits.holds("fake", "box")
    manager.teardown(handle)
    manager.create(SPEC)
    assert runtime.alive == {"box"}


class Taken(FakeRuntime):
    @hookimpl
    def openrt_provision(self, spec):
        raise ProvisionError("somebody has it", code=ID_TAKEN)


class Rewords:
    @hookimpl(wrapper=True)
    def openrt_provision(self):
        try:
            return (yield)
        except ProvisionError:
            raise Denied("no") from None


@pytest.mark.parametrize("wrappers", [{}, {"w": Rewords()}])
def test_what_has_the_id_at_the_back_end_is_not_cleaned_up(wrappers):
    runtime = Taken(alive={"box"})
    with pytest.raises((ProvisionError, Denied)):
        manage(runtime, **wrappers).create(SPEC)
    assert (runtime.torn_down, runtime.alive) == ([], {"box"})
    assert not exits.holds("fake", "box")


def test_a_second_attempt_after_a_taken_id_is_cleaned_up():
    runtime = Fails()
    runtime.error = ProvisionError("no room")
    try:
        manage(Taken()).create(SPEC)
    except ProvisionError:
        with pytest.raises(ProvisionError, match="no room"):
            manage(runtime).create(spec(id="other"))
    assert [h.id for h in runtime.torn_down] == ["other"]


class MountFails(FakeRuntime):
    @hookimpl
    def openrt_mount(self):
        raise ValueError("no")


def test_after_an_exception_of_mount_the_bare_teardown_is_called():
    runtime = MountFails()
    with pytest.raises(ValueError, match="no"):
        manage(runtime).create(spec(mounts=[Mount("/a", "/b")]))
    assert [h.id for h in runtime.torn_down] == ["box"]


@pytest.mark.parametrize("error", [Denied("policy"), KeyboardInterrupt()])
def test_a_wrapper_that_fails_after_provision_leaks_nothing(error):
    runtime = FakeRuntime()
    with pytest.raises(type(error)) as caught:
        manage(runtime, w=FailsAfterProvision(error)).create(SPEC)
    assert caught.value is error
    assert runtime.log == ["provision", "teardown"]
    assert not runtime.alive


class CannotTearDown(Fails):
    @hookimpl
    def openrt_teardown(self):
        raise RuntimeError("engine gone")


def test_when_the_bare_teardown_fails_too_the_first_error_is_seen_with_a_note_of_the_id():
    with pytest.raises(ProvisionError, match="no room") as caught:
        manage(CannotTearDown()).create(SPEC)
    (note,) = caught.value.__notes__
    assert "box" in note
    assert "engine gone" in note


def test_ctrl_c_while_provision_waits_tears_down():
    class Slow(FakeRuntime):
        @hookimpl
        def openrt_provision(self, spec):
            self.alive.add(spec.id)
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(60)
            raise AssertionError("was not interrupted")

    runtime = Slow()
    with pytest.raises(KeyboardInterrupt):
        manage(runtime).create(SPEC)
    assert not runtime.alive


@attrs.define(eq=False)
class InterruptedTeardown(FakeRuntime):
    """Its teardown interrupts the main thread, and ends when it is told to."""

    go_on: threading.Event = attrs.field(factory=threading.Event)

    @hookimpl
    def openrt_teardown(self, handle):
        os.kill(os.getpid(), signal.SIGINT)
        assert self.go_on.wait(60)
        self.alive.discard(handle.id)
        return True


@pytest.fixture
def interrupts():
    """Has SIGINT raise KeyboardInterrupt after it called the functions in the list."""
    called: list[typing.Callable[[], object]] = []

    def interrupt(number, frame):
        for function in called:
            function()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    yield called
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_during_teardown_lets_it_end_and_is_raised_then(interrupts):
    runtime = InterruptedTeardown()
    manager = manage(runtime)
    handle = manager.create(SPEC)
    interrupts.append(runtime.go_on.set)
    with pytest.raises(KeyboardInterrupt):
        manager.teardown(handle)
    assert not runtime.alive


def test_a_second_ctrl_c_during_teardown_is_raised_at_once_and_teardown_goes_on(interrupts):
    runtime = InterruptedTeardown()
    manager = manage(runtime)
    handle = manager.create(SPEC)
    seen = []

    def again():
        seen.append(1)
        if len(seen) == 1:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    interrupts.append(again)
    with pytest.raises(KeyboardInterrupt):
        manager.teardown(handle)
    assert len(seen) == 2
    assert runtime.alive
    runtime.go_on.set()
    until(lambda: not runtime.alive)


def test_teardown_is_made_also_when_no_thread_can_be_had(monkeypatch):
    def refuse(function, args):
        raise RuntimeError("can't start new thread")

    runtime = FakeRuntime()
    manager = manage(runtime)
    handle = manager.create(SPEC)
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    assert manager.teardown(handle)
    assert not runtime.alive


@pytest.mark.parametrize("wrapper", [FailsAfterTeardown(Denied()), FailsBeforeTeardown()])
def test_a_wrapper_that_fails_around_teardown_leaks_nothing(wrapper):
    runtime = FakeRuntime()
    manager = manage(runtime, w=wrapper)
    handle = manager.create(SPEC)
    with pytest.raises(Denied):
        manager.teardown(handle)
    assert not runtime.alive


def test_teardown_says_whether_it_was_there():
    manager = manage()
    handle = manager.create(SPEC)
    assert [manager.teardown(handle), manager.teardown(handle)] == [True, False]


# Commands -----------------------------------------------------------------------------------------


def test_an_exec_wrapper_that_fails_after_exec_kills_the_process_and_ends_it():
    runtime = FakeRuntime(script=hang)
    manager = manage(runtime, w=FailsAfterExec(Denied("no")))
    handle = manager.create(SPEC)
    with pytest.raises(Denied):
        manager.start(handle, TRUE)
    (controls,) = runtime.controls
    assert controls.killed.is_set()
    assert controls.process.done


class Foreign(FakeRuntime):
    @hookimpl
    def openrt_exec(self, command):
        self.foreign = Process(command)
        return self.foreign


def test_a_foreign_process_is_refused():
    manager = manage(Foreign())
    with pytest.raises(PluginError, match="openrt_exec of the runtime 'fake' returned a foreign"):
        manager.start(manager.create(SPEC), TRUE)


def test_a_result_of_exec_that_is_none_is_refused():
    with pytest.raises(PluginError, match="openrt_exec of the runtime 'fake' returned NoneType"):
        manage(Returns()).start(SandboxHandle(runtime="fake", id="box"), TRUE)


class Outcome:
    def __init__(self):
        self.seen = []

    @hookimpl(wrapper=True)
    def openrt_exec(self, process):
        process.add_done_callback(lambda p: self.seen.append(p.result().exit_code))
        return (yield)


def test_a_wrapper_sees_the_outcome_through_a_callback_before_wait_returns():
    wrapper = Outcome()
    manager = manage(FakeRuntime(script=hang), w=wrapper)
    process = manager.start(manager.create(SPEC), TRUE)
    threading.Timer(0.05, process.kill).start()
    process.wait(60)
    assert wrapper.seen == [137]


def test_folder_and_user_are_filled_in_from_the_handle():
    runtime = FakeRuntime()
    manager = manage(runtime)
    handle = manager.create(spec(workdir="/w", user=7))
    manager.start(handle, TRUE)
    manager.start(handle, attrs.evolve(TRUE, cwd="/c", user="root"))
    assert [(c.cwd, c.user) for c in runtime.commands] == [("/w", 7), ("/c", "root")]


VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


@attrs.define(eq=False)
class Remembers(FakeRuntime):
    seen: list[str] = attrs.field(factory=list)

    @hookimpl
    def openrt_teardown(self, handle):
        self.seen.append(VARIABLE.get())
        return True


def test_context_variables_reach_teardown_in_its_own_thread():
    runtime = Remembers()
    manager = manage(runtime)
    token = VARIABLE.set("set")
    try:
        manager.teardown(manager.create(SPEC))
    finally:
        VARIABLE.reset(token)
    assert runtime.seen == ["set"]


def test_output_is_discarded_or_streamed_as_the_command_says():
    manager = manage(FakeRuntime(script=succeed))
    handle = manager.create(SPEC)
    streamed = manager.start(handle, attrs.evolve(TRUE, output=OutputMode.STREAM))
    assert streamed.stdout
    assert streamed.stdout.read() == b"out"
    discarded = manager.start(handle, attrs.evolve(TRUE, output=OutputMode.DISCARD))
    assert discarded.wait(60).stdout == b""
