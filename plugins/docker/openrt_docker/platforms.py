"""Names of platforms, as images and users say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from openrt_core.errors import SettingError

_SAME: Final = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}


def parts(platform: str) -> tuple[str, str, str]:
    """Operating system, architecture and variant (or "") of ``os/architecture[/variant]``.

    Raises:
        SettingError: it is no platform.
    """
    found = platform.lower().split("/")
    if len(found) not in (2, 3) or not all(found):
        raise SettingError(
            f"The platform {platform!r} is none; it takes os/architecture, for example linux/arm64."
        )
    return found[0], _SAME.get(found[1], found[1]), found[2] if len(found) == 3 else ""


def of_image(value: Mapping[str, Any]) -> str:
    """The platform of an image that the engine inspected."""
    variant = str(value.get("Variant") or "")
    return "/".join(filter(None, (value.get("Os") or "linux", value["Architecture"], variant)))


def fits(image: str, asked: str) -> bool:
    """Whether an image of one platform is what was asked for; a variant counts when both name
    one."""
    mine, wanted = parts(image), parts(asked)
    return mine[:2] == wanted[:2] and (mine[2] == wanted[2] or "" in (mine[2], wanted[2]))
