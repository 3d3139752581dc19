"""A policy: mounts from one folder only, and no network."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Generator

import attrs

from openrt_core import Attachment, Mount, SandboxSpec, SettingError, VolumeError, hookimpl
from openrt_core.plugin import WrapperContext

VARIABLE = "OPENRT_POLICY_FOLDER"


class Policy:
    """Refuses what lies outside of ``folder``. Look at ``openrt_prepare`` first: it is where a
    wrapper changes what will be made."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    @hookimpl(wrapper=True)
    def openrt_prepare(self) -> Generator[None, SandboxSpec, SandboxSpec]:
        """What comes from inside is what the user, and wrappers further inside, ask for."""
        spec = yield
        if spec.options:
            # They go to the engine as they are, and could say anything about mounts and networks.
            names = ", ".join(sorted(spec.options))
            raise SettingError(f"The policy allows no options of the runtime: {names}.", hint="")
        mounts = tuple(self._checked(mount) for mount in spec.mounts)
        return attrs.evolve(spec, mounts=mounts, network="none")

    @hookimpl(wrapper=True)
    def openrt_mount(self, mount: Mount) -> Generator[None, Attachment, Attachment]:
        """Once more, right before the mount: a link may have been changed meanwhile."""
        if self._checked(mount) != mount:
            raise VolumeError(f"{mount.source} leads elsewhere now.", hint="")
        return (yield)

    def _checked(self, mount: Mount) -> Mount:
        """The mount of what the source really is."""
        if mount.named:
            raise VolumeError(f"The policy allows no named volume: {mount.source}.", hint="")
        folder, source = (pathlib.Path(os.path.realpath(p)) for p in (self._folder, mount.source))
        if not source.is_relative_to(folder):
            raise VolumeError(
                f"The policy allows mounts inside {folder} only, not {mount.source}.",
                hint=f"Mount a folder inside of it, or have {VARIABLE} changed.",
            )
        return attrs.evolve(mount, source=str(source))


def create(context: WrapperContext) -> Policy:
    """The factory that the entry point names.

    Raises:
        SettingError: OPENRT_POLICY_FOLDER is no absolute path.
    """
    folder = pathlib.Path(os.environ.get(VARIABLE, ""))
    if not folder.is_absolute():
        raise SettingError(f"{VARIABLE} must be the absolute path of a folder.", hint="")
    return Policy(folder)
