"""Settings: from arguments, the environment and files, typed, with their origin.

``load()`` gives what holds here; ``setting()`` declares a variable of a runtime; ``TABLE`` knows
every variable of openrt's own.
"""

from __future__ import annotations

from openrt_core.settings.core import CoreSettings
from openrt_core.settings.loading import Settings, load
from openrt_core.settings.table import DEFAULT_IMAGE, TABLE
from openrt_core.settings.variables import Variable, declared, setting

__all__ = [
    "DEFAULT_IMAGE",
    "TABLE",
    "CoreSettings",
    "Settings",
    "Variable",
    "declared",
    "load",
    "setting",
]
