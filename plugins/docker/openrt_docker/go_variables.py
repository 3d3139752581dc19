"""Variables that steer the Go runtime, and so the agent's program too.

An image that sets them means its own programs, and a malformed GOMEMLIMIT ends any program at
once: the container gets what does nothing, and each command the image's own value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

NEUTRAL: Final[Mapping[str, str]] = {
    "GOMEMLIMIT": "off",
    "GOGC": "100",
    "GODEBUG": "",
    "GOTRACEBACK": "single",
}
"""Go's own defaults."""


def of_image(environment: Sequence[str]) -> dict[str, str]:
    """Those that an image sets.

    Args:
        environment: the image's ENV, as ``NAME=value``.
    """
    pairs = (entry.partition("=") for entry in environment)
    return {name: value for name, _, value in pairs if name in NEUTRAL}


def neutral(own: Mapping[str, str]) -> dict[str, str]:
    """What the container gets in place of an image's own."""
    return {name: NEUTRAL[name] for name in own}


def to_label(own: Mapping[str, str]) -> str:
    """An image's own, for clients that join."""
    return json.dumps(dict(own))


def from_label(text: str) -> dict[str, str]:
    """The same, read; what is none of ours is left out."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    return {k: v for k, v in value.items() if k in NEUTRAL and isinstance(v, str)}
