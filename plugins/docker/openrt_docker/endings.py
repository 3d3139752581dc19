"""What the engine knows of the end of a container."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any

from openrt_core.errors import OpenrtError, ProvisionError
from openrt_core.models import PostMortem
from openrt_docker import labels
from openrt_docker.engine import Engine, translated

_TIME = re.compile(r"(.{19})(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_AT_ONCE = 2_000_000_000
"""Nanoseconds between the kernel's kill and the end of the container that it caused."""


def of_state(state: Mapping[str, Any], log: bytes = b"") -> PostMortem:
    """The end of a container that is still there.

    Args:
        state: as the engine inspects it.
        log: the last that its agent said.
    """
    return _post_mortem(state.get("ExitCode"), state.get("OOMKilled"), log)


def of_removed(engine: Engine, id: str, log: bytes = b"") -> PostMortem | None:
    """The end of a sandbox whose container is gone, while the engine still has it among the last
    events that it remembers (256 of them); None when it has not.

    Args:
        engine: that had it.
        id: of the sandbox.
        log: the last that its agent said.
    """
    # Whoever wants to know how a sandbox ended has an error at hand already.
    with contextlib.suppress(OpenrtError), translated("look up how the container ended"):
        api = engine.client().api
        filters = {"label": f"{labels.ID}={id}", "event": ["die", "oom"]}
        # Up to now by the engine's own clock: the engine waits for what is still to come.
        until = _seconds(str(api.info().get("SystemTime")))
        # The SDK hands a text on as it is; a number would be of whole seconds.
        events = list(
            api.events(since=0, until=until, filters=filters, decode=True)  # type: ignore[call-overload]
        )
        died = [e for e in events if e.get("Action") == "die"]
        if died:
            code = died[-1]["Actor"]["Attributes"].get("exitCode", "")
            oom = _oom(events, died[-1])
            return _post_mortem(int(code) if code.isdecimal() else None, oom, log)
    return None


def _oom(events: Sequence[Mapping[str, Any]], died: Mapping[str, Any]) -> bool | None:
    """Whether want of memory was the end. Some process was killed for it when the engine says so;
    it was the first one when the end came with it."""
    moments = [e["timeNano"] for e in events if e.get("Action") == "oom"]
    if not moments:
        return False
    return True if died["timeNano"] - max(moments) < _AT_ONCE else None


def _post_mortem(code: int | None, oom: bool | None, log: bytes) -> PostMortem:
    return PostMortem(
        reason="the kernel ended it for want of memory" if oom else "its first process ended",
        exit_code=code,
        oom_killed=oom,
        output=log,
    )


def _seconds(text: str) -> str:
    """A time of the engine's (RFC 3339, nanoseconds) as it takes one."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ProvisionError(f"The engine's time {text[:40]!r} cannot be read.")
    moment = datetime.datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00"))
    return f"{int(moment.timestamp())}.{found[2] or '':0<9}"
