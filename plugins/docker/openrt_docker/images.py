"""Images: look them up, pull them with progress, read what of them matters to us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from openrt_core.errors import ImageNotFoundError, OpenrtError, ProvisionError
from openrt_core.events import Event
from openrt_docker.engine import Engine, is_missing, translated


@attrs.frozen(kw_only=True)
class Image:
    """What of an image matters to a sandbox.

    Attributes:
        id: its content id, so that a tag that moves in between changes nothing.
        arch: ``amd64`` or ``arm64``.
        user: the image's USER, a name or a uid, "" when it has none. A group in it is left out.
    """

    id: str
    arch: str
    user: str


def find(engine: Engine, name: str, emit: Callable[[Event], None]) -> Image:
    """The image of this name, pulled when the engine does not have it.

    Raises:
        ImageNotFoundError: neither the engine nor the registry has it.
        AuthenticationError: the registry wants a login.
    """
    try:
        return _inspect(engine, name)
    except OpenrtError as error:
        if not is_missing(error):
            raise
    try:
        _pull(engine, name, emit)
    except ProvisionError as error:
        if type(error) is not ProvisionError:
            raise
        # Whatever the registry said, or that it could not be asked: there is no such image.
        raise ImageNotFoundError(error.message, retryable=error.retryable) from error
    return _inspect(engine, name)


def _inspect(engine: Engine, name: str) -> Image:
    with translated(f"look up the image {name}"):
        value = engine.client().api.inspect_image(name)
    config = value.get("Config") or {}
    return Image(
        id=value["Id"],
        arch=value["Architecture"],
        user=str(config.get("User") or "").partition(":")[0],
    )


def _pull(engine: Engine, name: str, emit: Callable[[Event], None]) -> None:
    emit(Event(kind="progress", message=f"pulling {name}", source="docker"))
    layers: dict[str, tuple[int, int]] = {}
    # Without a tag the engine would pull every one that there is.
    tagged = name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
    with translated(f"pull the image {name}"):
        for line in engine.client().api.pull(tagged, stream=True, decode=True):
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
