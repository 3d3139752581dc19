"""Settings of the local runtime."""

from __future__ import annotations

import pathlib

import attrs

from openrt_core.settings import setting


@attrs.frozen(kw_only=True)
class Settings:
    """What the local runtime takes from the environment, beside what the core takes.

    Attributes:
        overlays: folder for what is written to overlay mounts; None for one of openrt's own in the
            user's data folder.
    """

    overlays: pathlib.Path | None = setting(  # noqa: RUF009  # it makes an attrs field
        "SANDBOX_VOLUME_OVERLAYS"
    )
