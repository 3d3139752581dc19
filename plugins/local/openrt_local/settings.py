"""Settings of the local runtime. Beyond those of the core it has none."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Settings:
    """The local runtime takes nothing from the environment but what the core takes."""
