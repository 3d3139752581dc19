# mypy: disable-error-code="override"
# A hook may leave out parameters that it does not need.
from __future__ import annotations

import logging
import pathlib
import sys
import textwrap

import attrs
import pytest

from openrt_core.errors import PluginError
from openrt_core.events import Emitter, Event, report
from openrt_core.manager import Manager
from openrt_core.plugin import WrapperContext
from openrt_core.settings import load

NOTE = Event(kind="note", message="one")


def test_what_becomes_of_events_when_nobody_asked(caplog):
    with pytest.warns(FutureWarning, match="old"):
        report(Event(kind="deprecation", message="old"))
    with caplog.at_level(logging.DEBUG, logger="openrt"):
        report(NOTE)
        report(Event(kind="progress", message="two", source="docker"))
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "one"),
        ("DEBUG", "docker: two"),
    ]


def test_all_who_listen_are_told():
    told: list[Event] = []
    target: list[Event] = []
    emitter = Emitter(target.append)
    emitter.subscribe(told.append)
    emitter(NOTE)
    assert told == target == [NOTE]


def test_what_was_missed_is_told_until_all_are_loaded():
    first: list[Event] = []
    second: list[Event] = []
    emitter = Emitter(lambda event: None, remember=True)
    emitter(NOTE)
    emitter.subscribe(first.append)
    emitter.loaded()
    emitter.subscribe(second.append)
    assert first == [NOTE]
    assert not second


def test_nobody_who_listens_can_break_the_emitter(caplog):
    def fail(event):
        raise ValueError("broken")

    told: list[Event] = []
    target: list[Event] = []
    emitter = Emitter(target.append)
    emitter.subscribe(fail)
    emitter.subscribe(told.append)
    emitter(NOTE)
    assert told == target == [NOTE]
    assert "a listener to events failed" in caplog.text
    Emitter(fail)(NOTE)


def test_what_a_listener_emits_reaches_the_target_and_no_listener():
    told: list[Event] = []
    target: list[Event] = []
    emitter = Emitter(target.append)

    def answer(event):
        told.append(event)
        emitter(attrs.evolve(event, message="again"))

    emitter.subscribe(answer)
    emitter(NOTE)
    emitter(NOTE)
    assert told == [NOTE, NOTE]
    assert [e.message for e in target] == ["again", "one", "again", "one"]


def test_a_context_made_by_hand_has_no_events_to_subscribe_to():
    context = WrapperContext(name="x", runtime="fake", emit=lambda event: None)
    context.subscribe(lambda event: None)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with a runtime and a wrapper that writes down the events that it sees."""
    (tmp_path / "events_sample.py").write_text(
        textwrap.dedent(
            """
            from openrt_core.events import Event
            from openrt_core.plugin import hookimpl
            from support.fake_runtime import FakeRuntime

            class Talks(FakeRuntime):
                @hookimpl
                def openrt_provision(self, spec, attachments):
                    self.emit(Event(kind="progress", message="pulling", source=self.name))
                    return FakeRuntime.openrt_provision(self, spec, attachments)

            def create(context):
                runtime = Talks(name=context.name)
                runtime.emit = context.emit
                return runtime

            class Wrapper:
                pass

            def watch(context):
                wrapper = Wrapper()
                wrapper.seen = []
                context.subscribe(lambda event: wrapper.seen.append(event.message))
                context.emit(Event(kind="note", message="watching", source=context.name))
                return wrapper

            def broken(context):
                context.subscribe(lambda event: 1 / 0)
                return Wrapper()
            """
        )
    )
    info = tmp_path / "events_sample-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: events-sample\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[openrt.runtimes]\ntalks = events_sample:create\n"
        "[openrt.wrappers]\nwatch = events_sample:watch\nbroken = events_sample:broken\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("events_sample", None)


def test_a_wrapper_sees_what_the_runtime_and_the_core_emit_and_cannot_break_it(installed):
    from openrt_core import Sandbox

    told: list[Event] = []
    settings = load(environ={"OPENRT_WRAPPERS": "broken,watch"}, folder=pathlib.Path("/"))
    manager = Manager.open("talks", settings, emit=told.append)
    (wrapper,) = [w.plugin for w in manager.hooks.wrappers if w.name == "watch"]
    with Sandbox.create(manager=manager):
        manager.emit(NOTE)
    assert vars(wrapper)["seen"] == ["watching", "pulling", "one"]
    assert [event.message for event in told] == ["watching", "pulling", "one"]


def test_a_wrapper_sees_what_was_emitted_before_it_was_loaded(installed, monkeypatch):
    from openrt_core import selection

    monkeypatch.setattr(selection, "RUNTIME_ALIASES", {"oldname": "talks"})
    told: list[Event] = []
    manager = Manager.open("oldname", wrappers=["watch"], emit=told.append)
    seen = vars(manager.hooks.wrappers[0].plugin)["seen"]
    assert seen == [event.message for event in told]
    assert "'oldname' is called 'talks' now" in seen[0]


def test_a_wrapper_that_is_missing_is_an_error_all_the_same(installed):
    with pytest.raises(PluginError, match="No wrapper 'nosuch'"):
        Manager.open("talks", wrappers=["nosuch"])
