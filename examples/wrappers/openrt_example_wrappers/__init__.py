"""Two wrappers for openrt: an audit log and a policy."""

from __future__ import annotations
