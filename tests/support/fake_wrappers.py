"""Wrappers for tests."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs

from openrt_core.plugin import hookimpl


class Denied(Exception):
    """What a wrapper refuses with."""


@attrs.define(eq=False)
class Recorder:
    """Writes down its name before and after each hook that it is around."""

    name: str
    log: list[str] = attrs.field(factory=list)

    @hookimpl(wrapper=True)
    def openrt_provision(self) -> Generator[None, Any, Any]:
        self.log.append(f"{self.name} before")
        result = yield
        self.log.append(f"{self.name} after")
        return result


class FailsAfter:
    """Raises once the hooks inside it are through."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def _fail(self) -> Generator[None, Any, Any]:
        yield
        raise self.error


class FailsAfterProvision(FailsAfter):
    @hookimpl(wrapper=True)
    def openrt_provision(self) -> Generator[None, Any, Any]:
        return (yield from self._fail())


class FailsAfterExec(FailsAfter):
    @hookimpl(wrapper=True)
    def openrt_exec(self) -> Generator[None, Any, Any]:
        return (yield from self._fail())


class FailsAfterTeardown(FailsAfter):
    @hookimpl(wrapper=True)
    def openrt_teardown(self) -> Generator[None, Any, Any]:
        return (yield from self._fail())


class FailsBeforeTeardown:
    """Stops teardown before it reaches the runtime."""

    @hookimpl(wrapper=True)
    def openrt_teardown(self) -> Generator[None, Any, Any]:
        yield from self._refuse()

    def _refuse(self) -> Generator[None, Any, Any]:
        raise Denied("no teardown")
