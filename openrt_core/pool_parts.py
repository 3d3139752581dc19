"""What the keeper of a pool works with: members, those who wait, and what goes on."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from openrt_core import executors
from openrt_core.errors import SandboxGoneError, StartTimeoutError
from openrt_core.models import SandboxHandle
from openrt_core.provisioning import Ticket


@attrs.define(eq=False)
class Member:
    """A warm sandbox: its handle, and since when it is there (``time.monotonic``)."""

    handle: SandboxHandle
    born: float


@attrs.define(eq=False)
class Request:
    """Somebody who waits for a sandbox; ``wake`` is called when ``member`` or ``error`` is set."""

    wake: Callable[[], None]
    member: Member | None = None
    error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """It gets this error instead."""
        self.error = error
        self.wake()


@attrs.define(eq=False)
class Making:
    """A member that is being made: its place in the queue, and whether it has come to its turn."""

    ticket: Ticket = attrs.field(init=False)
    begun: bool = False


@attrs.define(eq=False)
class Check:
    """A look at a member: since when, or None while no thread has taken it up."""

    member: Member
    began: float | None = None


def submit(kind: executors.Kind, function: Callable[[], None]) -> None:
    """Runs a function in a thread of an executor, or here when there is none to be had."""
    try:
        executors.submit(kind, function)
    except RuntimeError:
        # The interpreter is going down and takes no more threads; it must be done all the same.
        function()


def closed_error() -> SandboxGoneError:
    """What those get who ask a pool that is closed."""
    return SandboxGoneError("The pool is closed.", hint="Make a new one.")


def late_error(timeout: float | None) -> StartTimeoutError:
    """What those get who waited in vain while nothing failed."""
    return StartTimeoutError(f"No sandbox of the pool was ready within {timeout} s.")
