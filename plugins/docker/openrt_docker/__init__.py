"""openrt's docker runtime."""

from __future__ import annotations
