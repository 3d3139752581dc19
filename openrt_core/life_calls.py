"""The optional hooks about sandboxes as wholes, as typed calls; ``Manager`` inherits them."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from openrt_core.errors import PluginError, SettingError
from openrt_core.file_calls import FileCalls
from openrt_core.models import SandboxHandle, SandboxSpec

Handles = list[SandboxHandle]  # inside the class `list` is the method


class LifeCalls(FileCalls):
    """Calls of optional hooks; see ``openrt_core.life_specs`` for parameters and errors.

    Each raises UnsupportedError, before any wrapper runs, when the runtime lacks the hook.
    """

    def list(self, labels: Mapping[str, str] | None = None) -> Handles:
        """The sandboxes of this runtime that are there, ordered by their ids."""
        asked = dict(labels or {})
        if not all(isinstance(item, str) for pair in asked.items() for item in pair):
            raise SettingError("labels= takes a mapping of texts to texts.", hint="")
        handles = self.hooks.call(list, "openrt_list", labels=asked)
        for handle in handles:
            if not isinstance(handle, SandboxHandle) or handle.runtime != self.name:
                raise PluginError(
                    f"openrt_list of the runtime {self.name!r} returned other things than its own "
                    "SandboxHandle."
                )
        return sorted(handles, key=lambda handle: handle.id)

    def pause(self, handle: SandboxHandle) -> bool:
        """Stops all that runs in it; True if it ran."""
        return self.hooks.call(bool, "openrt_pause", handle=handle)

    def resume(self, handle: SandboxHandle) -> bool:
        """Lets it run on; True if it was paused."""
        return self.hooks.call(bool, "openrt_resume", handle=handle)

    def snapshot(self, handle: SandboxHandle, name: str) -> str:
        """Keeps its files as an image; the image's reference."""
        return self.hooks.call(str, "openrt_snapshot", handle=handle, name=name)

    def expose(self, handle: SandboxHandle, port: int) -> str:
        """Makes a TCP port of it reachable; the URL.

        Raises:
            SettingError: it is no port.
        """
        if isinstance(port, bool) or port not in range(1, 65536):
            raise SettingError(f"{port!r} is no port; it takes 1 to 65535.", hint="")
        return self.hooks.call(str, "openrt_expose", handle=handle, port=port)

    def with_built_image(self, spec: SandboxSpec) -> SandboxSpec:
        """``spec``, its ``image_commands`` turned into the image that they make."""
        if not spec.image_commands:
            return spec
        image = self.hooks.call(
            str,
            "openrt_build_image",
            base=spec.image,
            commands=spec.image_commands,
            platform=spec.platform,
            rebuild=spec.image_rebuild,
        )
        return attrs.evolve(spec, image=image, image_commands=(), image_rebuild=False)
