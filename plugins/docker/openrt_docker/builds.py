"""Derived images: a base and commands, built once and found again by what they are made of."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from openrt_core.errors import OpenrtError, ProvisionError
from openrt_core.events import Event
from openrt_docker import images, labels
from openrt_docker.engine import Engine, is_missing, translated

REPOSITORY: Final = "openrt-derived"
SILENCE_LIMIT: Final = 3600
"""Seconds for which a build may print nothing."""
_RECIPE: Final = "1"
"""Changes when the same base and commands would make another image."""
_SHOWN: Final = 40
"""Lines of a failed build that its error shows."""
_LINE: Final = 500


class Builder:
    """Builds with one engine, one image at a time. Thread-safe."""

    def __init__(self, engine: Engine, emit: Callable[[Event], None]) -> None:
        self._engine = engine
        self._emit = emit
        self._lock = threading.Lock()

    def build(
        self, base: str, commands: Sequence[str], platform: str | None, *, rebuild: bool
    ) -> str:
        """The tag of the image that ``base`` is after ``commands``; see ``openrt_build_image``."""
        image = images.find(self._engine, base, self._emit, platform)
        digest = hashlib.sha256(json.dumps([_RECIPE, image.id, *commands]).encode()).hexdigest()
        tag = f"{REPOSITORY}:{digest[:32]}"
        # Many that want the same at once get one build.
        with self._lock:
            before = self._id(tag)
            if before is not None and not rebuild:
                return tag
            self._tell(f"building on {base}")
            self._run(base, tag, _dockerfile(image, commands), platform, rebuild)
            self._tell(f"built on {base}", done=True)
            if before is not None:
                self._forget(before, tag)
        return tag

    def _run(
        self, base: str, tag: str, dockerfile: bytes, platform: str | None, rebuild: bool
    ) -> None:
        with translated(f"build on the image {base}"):
            lines = self._engine.client().api.build(
                fileobj=io.BytesIO(dockerfile),
                tag=tag,
                rm=True,
                forcerm=True,
                nocache=rebuild,
                platform=platform,
                labels={labels.DERIVED: tag},
                timeout=SILENCE_LIMIT,
                decode=True,
            )
            self._follow(base, lines)

    def _follow(self, base: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Tells of each step; an error says the last that was printed."""
        printed = collections.deque[str](maxlen=_SHOWN)
        for line in lines:
            text = str(line.get("stream") or "").rstrip()
            if text.startswith("Step "):
                step = text.split(":")[0]
                self._tell(f"building on {base}: {step.lower()}")
            elif text:
                printed.extend(_shown(each) for each in text.splitlines()[-_SHOWN:])
            if "error" in line:
                output = "\n".join(printed)
                raise ProvisionError(
                    f"Could not build on the image {base}: {_shown(str(line['error']))}\n{output}",
                    hint="The commands are those of SANDBOX_RUNTIME_EXTRA_DEPS or image_commands=.",
                )

    def _id(self, tag: str) -> str | None:
        try:
            with translated(f"look up the image {tag}"):
                return str(self._engine.client().api.inspect_image(tag)["Id"])
        except OpenrtError as error:
            if is_missing(error):
                return None
            raise

    def _forget(self, before: str, tag: str) -> None:
        """Removes the image that a rebuilt one took the tag from, unless somebody uses it."""
        if self._id(tag) != before:
            with contextlib.suppress(ProvisionError), translated("remove the image before"):
                self._engine.client().api.remove_image(before)

    def _tell(self, message: str, *, done: bool = False) -> None:
        count = 1 if done else None
        self._emit(
            Event(kind="progress", message=message, source="docker", done=count, total=count)
        )


def _dockerfile(image: images.Image, commands: Sequence[str]) -> bytes:
    """Each command in the form that no builder reads as anything but one text for the shell."""
    lines = [f"FROM {image.id}"]
    root = image.config_user in ("", "0", "root")
    if not root:
        lines.append("USER 0")
    lines += ["RUN " + json.dumps(["/bin/sh", "-c", command]) for command in commands]
    if not root:
        lines.append(f"USER {image.config_user}")
    return "\n".join([*lines, ""]).encode()


def _shown(line: str) -> str:
    """What a build printed, without what would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in line[:_LINE])
