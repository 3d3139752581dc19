"""From text, or a value of a TOML file, to the type of a setting."""

from __future__ import annotations

import ast
import json
import math
import os
import pathlib
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

from openrt_core.settings.variables import Kind, Variable

TRUE = ("true", "1", "yes", "on")
FALSE = ("false", "0", "no", "off")
TAKES: dict[Kind, str] = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true, 1, yes, on or false, 0, no, off",
    "list": "a JSON list, a Python list or a,b",
    "dict": "a JSON object or a Python dict",
    "path": "a path; ~ is not expanded in the environment",
    "url": "an http:// or https:// URL",
}
MASK = "********"


def read(variable: Variable, raw: object, folder: pathlib.Path) -> Any:
    """The typed value.

    Args:
        variable: what is read.
        raw: its text, or the value of a TOML file.
        folder: what a relative path is relative to.

    Raises:
        ValueError: it does not take this value.
    """
    value = _READERS[variable.kind](raw)
    if variable.kind == "path":
        value = folder / value
    if variable.convert is not None:
        value = variable.convert(value)
    if variable.choices:
        value = value.lower() if isinstance(value, str) else value
        if value not in variable.choices:
            raise ValueError
    return value


def takes(variable: Variable) -> str:
    """What a variable takes, in words."""
    if variable.choices:
        *first, last = map(str, variable.choices)
        return f"{', '.join(first)} or {last}"
    return variable.takes or TAKES[variable.kind]


def show(variable: Variable, value: object) -> str:
    """A raw or typed value for a message: masked where it must be, on one line, cut when long."""
    if variable.masked:
        return MASK
    shown = without_password(value) if isinstance(value, str) else str(value)
    shown = (
        shown
        if isinstance(value, pathlib.Path)
        else repr(shown if isinstance(value, str) else value)
    )
    return shown if len(shown) <= 80 else shown[:77] + "..."


def without_password(text: str) -> str:
    """A text in which passwords of URLs are masked."""
    return re.sub(r"(?<=://)[^/@\s]*(?=@)", MASK, text)


def _str(raw: object) -> str:
    if not isinstance(raw, str) or "\0" in raw:
        raise ValueError
    return raw.strip()


def _int(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    # int() alone would also take 1_000 and digits of other scripts
    if isinstance(raw, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", raw.strip()):
        return int(raw)
    raise ValueError


def _float(raw: object) -> float:
    if isinstance(raw, str) and re.fullmatch(r"[-+.0-9eE]{1,40}", raw.strip()):
        raw = float(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        raise ValueError
    return float(raw)


def _bool(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    text = raw.strip().lower() if isinstance(raw, str) else ""
    if text not in TRUE + FALSE:
        raise ValueError
    return text in TRUE


def _list(raw: object) -> tuple[str, ...]:
    if isinstance(raw, str):
        text = raw.strip()
        raw = _literal(text) if text[:1] in tuple("[({\"'") else text.split(",")
    if not isinstance(raw, list | tuple):
        raise ValueError
    items = [str(i) if isinstance(i, int) and not isinstance(i, bool) else i for i in raw]
    if not all(isinstance(i, str) and i.strip() and "\0" not in i for i in items):
        raise ValueError
    return tuple(i.strip() for i in items)


def _dict(raw: object) -> dict[str, Any]:
    value = _literal(raw.strip()) if isinstance(raw, str) else raw
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError
    return dict(value)


def _literal(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass  # then it has to be a Python literal
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError from error


def _path(raw: object) -> pathlib.Path:
    text = _str(raw)
    if text.startswith("~"):
        raise ValueError
    return pathlib.Path(os.path.normpath(text))


def _url(raw: object) -> str:
    text = _str(raw)
    parts = urllib.parse.urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or re.search(r"[\s\x00-\x1f\x7f]", text)
    ):
        raise ValueError
    return text


_READERS: dict[Kind, Callable[[object], Any]] = {
    "str": _str,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "list": _list,
    "dict": _dict,
    "path": _path,
    "url": _url,
}
