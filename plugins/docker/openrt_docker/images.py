"""Images: look them up, pull them with progress, read what of them matters to us."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from openrt_core.errors import ImageNotFoundError, OpenrtError, ProvisionError, SettingError
from openrt_core.events import Event
from openrt_docker import go_variables, platforms, users
from openrt_docker.engine import Engine, is_missing, translated

# As in the OCI distribution's reference grammar.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_NAME = re.compile(rf"((?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::(\w[\w.-]{{0,127}}))?", re.A)
_NAME_LIMIT = 255
SILENCE_LIMIT = 600
"""Seconds for which a pull may tell nothing."""


@attrs.frozen(kw_only=True)
class Image:
    """What of an image matters to a sandbox.

    Attributes:
        id: its content id, so that a tag that moves in between changes nothing.
        arch: ``amd64`` or ``arm64``.
        user: the image's USER as ``openrt_docker.users`` carries it, "" when it has none.
        config_user: the same, as the image has it.
        go_variables: those of its ENV that would steer the agent.
        platform: ``os/architecture``, perhaps with a variant.
    """

    id: str
    arch: str
    user: str
    config_user: str
    platform: str
    go_variables: Mapping[str, str] = attrs.field(factory=dict)


def find(
    engine: Engine, name: str, emit: Callable[[Event], None], platform: str | None = None
) -> Image:
    """The image of this name, pulled when the engine does not have it (for this platform).

    Raises:
        ImageNotFoundError: neither the engine nor the registry has it (for this platform).
        AuthenticationError: the registry wants a login.
    """
    there = None
    try:
        there = _inspect(engine, name)
    except OpenrtError as error:
        if not is_missing(error):
            raise
    if there is not None and _fits(there, platform):
        return there
    try:
        _pull(engine, name, emit, platform)
    except ProvisionError as error:
        if there is not None:
            raise _of_another_platform(name, there, platform) from error
        if type(error) is not ProvisionError:
            raise
        # Whatever the registry said, or that it could not be asked: there is no such image.
        raise ImageNotFoundError(error.message, retryable=error.retryable) from error
    image = _inspect(engine, name)
    if not _fits(image, platform):
        raise _of_another_platform(name, image, platform)
    return image


def split(name: str) -> tuple[str, str]:
    """Repository and tag, ``latest`` without one, of what an image is to be called.

    Asked before the engine is, for that makes the image first and refuses the name then.

    Raises:
        SettingError: no image can have this name.
    """
    found = _NAME.fullmatch(name)
    if found is None or len(found[1]) > _NAME_LIMIT:
        raise SettingError(
            f"No image can be called {name[:80]!r}.",
            hint="A name is [host[:port]/]name[:tag], the name in lower case.",
        )
    return found[1], found[2] or "latest"


def _fits(image: Image, platform: str | None) -> bool:
    return platform is None or platforms.fits(image.platform, platform)


def _of_another_platform(name: str, image: Image, platform: str | None) -> ImageNotFoundError:
    return ImageNotFoundError(
        f"The engine's image {name} is for {image.platform}, not for {platform}, and could not be "
        "pulled for that.",
        hint=f"`docker pull --platform {platform} {name}`, or another SANDBOX_PLATFORM.",
    )


def _inspect(engine: Engine, name: str) -> Image:
    with translated(f"look up the image {name}"):
        value = engine.client().api.inspect_image(name)
    config = value.get("Config") or {}
    user = str(config.get("User") or "")
    return Image(
        id=value["Id"],
        arch=value["Architecture"],
        user=users.of_image(user),
        config_user=user,
        platform=platforms.of_image(value),
        go_variables=go_variables.of_image(config.get("Env") or ()),
    )


def _pull(engine: Engine, name: str, emit: Callable[[Event], None], platform: str | None) -> None:
    emit(Event(kind="progress", message=f"pulling {name}", source="docker"))
    layers: dict[str, tuple[int, int]] = {}
    # Without a tag the engine would pull every one that there is.
    tagged = name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
    with (
        contextlib.closing(engine.streaming_client(SILENCE_LIMIT)) as client,
        translated(f"pull the image {name}"),
    ):
        for line in client.api.pull(tagged, stream=True, decode=True, platform=platform):
            if "error" in line:
                raise ImageNotFoundError(f"Could not pull the image {name}: {line['error']}")
            _progress(name, line, layers, emit)
    emit(Event(kind="progress", message=f"pulled {name}", source="docker", done=1, total=1))


def _progress(
    name: str,
    line: Mapping[str, Any],
    layers: dict[str, tuple[int, int]],
    emit: Callable[[Event], None],
) -> None:
    detail = line.get("progressDetail") or {}
    if line.get("status") == "Downloading" and "total" in detail:
        layers[line["id"]] = (detail.get("current", 0), detail["total"])
        done = sum(current for current, _ in layers.values())
        total = sum(size for _, size in layers.values())
        emit(
            Event(
                kind="progress",
                message=f"pulling {name}",
                source="docker",
                done=done,
                total=total,
                unit="bytes",
            )
        )
