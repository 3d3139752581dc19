"""``python -m openrt_core.cli``: the command line where no script is installed."""

from __future__ import annotations

import sys

from openrt_core.cli.main import main

sys.exit(main())
