"""The settings of the sample runtime."""

from __future__ import annotations

import attrs

from openrt_core.settings import setting


@attrs.frozen
class Settings:
    size: int = setting("SANDBOX_SAMPLE_SIZE", "int", 5, help="A size.", example="7")
