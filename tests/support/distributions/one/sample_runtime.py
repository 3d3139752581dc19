"""A runtime that an installed distribution offers, over the one in ``support``."""

from __future__ import annotations

from support.fake_runtime import FakeRuntime

from openrt_core.plugin import RuntimeContext

NOT_CALLABLE = 3
CONTEXTS: list[RuntimeContext] = []


def create(context: RuntimeContext) -> FakeRuntime:
    CONTEXTS.append(context)
    return FakeRuntime(name=context.name)


def create_old(context: RuntimeContext) -> FakeRuntime:
    return FakeRuntime(name=context.name, spec_version=0)


def as_class(context: RuntimeContext) -> type[FakeRuntime]:
    return FakeRuntime


def fail(context: RuntimeContext) -> FakeRuntime:
    raise RuntimeError("no luck")
