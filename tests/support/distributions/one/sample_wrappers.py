"""Wrappers that an installed distribution offers."""

from __future__ import annotations

from support.fake_wrappers import Recorder

from openrt_core.plugin import WrapperContext


def audit(context: WrapperContext) -> Recorder:
    return Recorder("audit")


def policy(context: WrapperContext) -> Recorder:
    return Recorder("policy")
