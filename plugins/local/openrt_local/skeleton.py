"""The /etc of a local sandbox: the host's own files, but only those that programs need.

Made once and bound as one folder, for 25 binds of single files cost more than bubblewrap itself.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil

NEEDED = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "group",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "magic",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "profile",
    "protocols",
    "resolv.conf",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "xattr.conf",
)
"""Names below /etc that a sandbox sees, where the host has them. No secrets, nothing of the
host's services."""

ETC = pathlib.Path("/etc")


def prepared(folder: pathlib.Path) -> pathlib.Path:
    """The skeleton of the host's /etc as it is now, made in ``folder`` if it is not there yet.

    Two processes that make it at once both succeed: it is made aside and renamed.
    """
    # Those called etc-… may have been made with a umask that shuts users out of them.
    wanted = folder / f"etc2-{_fingerprint()}"
    if wanted.is_dir():
        return wanted
    aside = folder / f".{wanted.name}-{os.getpid()}-{os.urandom(4).hex()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    try:
        _folder(aside)
        for name in NEEDED:
            _copy(ETC / name, aside / name)
        try:
            aside.rename(wanted)
        except OSError:
            # Somebody else was faster; theirs is the same.
            if not wanted.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return wanted


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for name in NEEDED:
        try:
            state = (ETC / name).stat()
        except OSError:
            continue
        digest.update(f"{name} {state.st_mtime_ns} {state.st_size} {state.st_ino}\n".encode())
    return digest.hexdigest()[:16]


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    if source.is_dir():
        _folder(target.parent)
        shutil.copytree(source, target, symlinks=True, ignore=_unreadable)
    elif os.access(source, os.R_OK):
        _folder(target.parent)
        # Followed, for resolv.conf and localtime point to places that a sandbox does not have.
        shutil.copyfile(source, target)
        target.chmod(0o644)


def _folder(path: pathlib.Path) -> None:
    """Makes a folder and those above it for everybody to read, whatever the caller's umask: each
    user of the sandbox reads its /etc."""
    if not path.is_dir():
        _folder(path.parent)
        path.mkdir()
        path.chmod(0o755)


def _unreadable(folder: str, names: list[str]) -> set[str]:
    """What copytree leaves out: private keys (which only root can read, or groups), sockets,
    devices."""
    out = set()
    for name in names:
        path = pathlib.Path(folder, name)
        if path.is_symlink() or path.is_dir():
            continue
        if not path.is_file() or path.stat().st_mode & 0o044 != 0o044:
            out.add(name)
    return out
