"""A module of a runtime that cannot be imported."""

from __future__ import annotations

raise ImportError("No module named 'vendor_sdk'")
