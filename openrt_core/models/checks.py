"""Validators of the models: each names the field, the value and what the field takes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import attrs

from openrt_core.errors import SettingError

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]

ENV_NAME = re.compile(r"[^=\0]+")
"""Names of environment variables: what execve(2) takes, not only what shells can set."""


def refuse(
    instance: object, attribute: attrs.Attribute[Any], value: object, takes: str
) -> SettingError:
    """The error for one field of a model. The value is shown cut, for it may be long."""
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return SettingError(
        f"{type(instance).__name__}.{attribute.name} is {shown}; it takes {takes}.", hint=""
    )


def text_without_nul(takes: str, *, empty: bool = False) -> Validator:
    """A str without NUL; an empty one only with ``empty``."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, str) or "\0" in value or (not value and not empty):
            raise refuse(instance, attribute, value, takes)

    return check


def absolute(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """A str that is an absolute path without NUL."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise refuse(instance, attribute, value, "an absolute path")


def one_of(*choices: object) -> Validator:
    """One of these values."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in choices:
            takes = "one of " + ", ".join(repr(c) for c in choices)
            raise refuse(instance, attribute, value, takes)

    return check


def number(
    takes: str,
    *,
    least: float,
    most: float = sys.float_info.max,
    above: bool = False,
    whole: bool = False,
) -> Validator:
    """A number (not a bool) of at least ``least``, or beyond it with ``above``, and at most
    ``most``; an int with ``whole``.
    """

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        kinds = (int,) if whole else (int, float)
        fits = isinstance(value, kinds) and not isinstance(value, bool)
        # written so that NaN, which compares false with everything, is refused
        if not fits or not (value > least if above else value >= least) or value > most:
            raise refuse(instance, attribute, value, takes)

    return check


def environment(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """A mapping of names without ``=`` to texts, both without NUL. Values are never shown."""
    for name, text in value.items():
        if not isinstance(name, str) or not ENV_NAME.fullmatch(name):
            raise refuse(instance, attribute, name, "names of variables, without = and NUL")
        if not isinstance(text, str) or "\0" in text:
            raise SettingError(
                f"{type(instance).__name__}.{attribute.name}[{name!r}] is no text without NUL.",
                hint="",
            )


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed; it can be pickled and put in JSON."""

    def _refuse(self, *args: object, **named: object) -> NoReturn:
        raise TypeError("this mapping cannot be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)


def frozen_mapping(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A read-only copy, so that a frozen model cannot change behind its back."""
    return FrozenDict(value)


def as_tuple(value: Iterable[Any]) -> tuple[Any, ...]:
    """A tuple of any iterable, for the same reason."""
    return tuple(value)
