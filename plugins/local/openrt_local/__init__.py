"""openrt's local runtime."""

from __future__ import annotations
