"""A folder with all that a transfer can get wrong."""

from __future__ import annotations

import os
import pathlib

NAMES = [
    b"plain",
    b" leading and trailing ",
    b"-n",
    b"--help",
    b"--checkpoint-action=exec=false",
    b"*",
    b"a'b\"c$d`e\\f",
    b"back\\slash\\n",
    b"new\nline",
    b"line\n",
    b"tab\there",
    b".hidden",
    b"..two",
    b"...",
    b"~",
    b"with:colon",
    b"\xff\xfe",
    "ünï".encode(),
    b"\x01\x1b[31m",
    b"x" * 100,
    b"x" * 101,
    b"x" * 255,
]
SIZES = [0, 1, 511, 512, 513, 10_240, 100_001]
MODES = [0o400, 0o444, 0o600, 0o640, 0o644, 0o666, 0o700, 0o755, 0o777]
FOLDER_MODES = [0o500, 0o555, 0o700, 0o711, 0o750, 0o777]
TARGETS = [
    b"plain",
    b"nowhere",
    b"/etc/passwd",
    b"../..",
    b"loop",
    b"a\n\xff",
    b"t" * 99,
    b"t" * 300,
]


def make(root: pathlib.Path) -> pathlib.Path:
    """Makes it: about 70 entries, each with a time of its own."""
    base = os.fsencode(root)
    os.mkdir(base)
    for number, name in enumerate(NAMES):
        _file(os.path.join(base, name), bytes([number, 0, 255, 10, 13]))
    for size in SIZES:
        _file(os.path.join(base, b"size%d" % size), os.urandom(size))
    for mode in MODES:
        _file(os.path.join(base, b"mode%o" % mode), b"#!/bin/sh\n")
        os.chmod(os.path.join(base, b"mode%o" % mode), mode)
    for number, target in enumerate(TARGETS):
        os.symlink(target, os.path.join(base, b"link%d" % number))
    os.symlink(b"loop", os.path.join(base, b"loop"))
    os.link(os.path.join(base, b"plain"), os.path.join(base, b"zz hard link"))
    deep = os.path.join(base, *[b"%d" % n for n in range(12)], b"n" * 120, b"m" * 120)
    os.makedirs(deep)
    _file(os.path.join(deep, b"f"), b"deep")
    for mode in FOLDER_MODES:
        folder = os.path.join(base, b"folder%o" % mode)
        os.mkdir(folder)
        _file(os.path.join(folder, b"in it"), b"x")
    os.mkdir(os.path.join(base, b"empty"))
    for mode in FOLDER_MODES:
        os.chmod(os.path.join(base, b"folder%o" % mode), mode)
    _age(base)
    return root


def _file(path: bytes, data: bytes) -> None:
    with open(path, "wb") as opened:
        opened.write(data)


def _age(base: bytes) -> None:
    number = 0
    for where, folders, files in os.walk(base, topdown=False):
        for name in folders + files:
            path = os.path.join(where, name)
            number += 1
            if not os.path.islink(path):
                os.utime(path, ns=(0, (1_000_000_000 + number * 86_399) * 10**9 + 999_999_999))
    os.utime(base, (1_234_567_890, 1_234_567_890))
