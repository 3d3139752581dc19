"""What a call and the settings together ask for, as a SandboxSpec."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from openrt_core import volumes as _volumes
from openrt_core.errors import SettingError
from openrt_core.events import Event, report
from openrt_core.models import Mount, SandboxSpec
from openrt_core.settings import notes, registry
from openrt_core.settings.loading import Settings
from openrt_core.settings.table import TABLE
from openrt_core.settings.variables import CORE

Volumes = str | Iterable[str | Mount]


def make_spec(
    settings: Settings,
    *,
    image: str | None = None,
    volumes: Volumes | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    workdir: str | None = None,
    user: int | None = None,
    network: str | None = None,
    keep: bool | None = None,
    labels: Mapping[str, str] | None = None,
    features: Collection[str] | None = None,
    emit: Callable[[Event], None] = report,
    runtime: str | None = None,
    **more: Any,
) -> SandboxSpec:
    """The sandbox that is asked for: arguments go before settings, settings before defaults.

    Args:
        settings: what holds here.
        image: name of the image.
        volumes: mounts, as in SANDBOX_VOLUMES or as models; an empty text or list for none.
        env: added over SANDBOX_ENV_X and SANDBOX_RUNTIME_STARTUP_ENV_VARS.
        secrets: as ``env``, but never shown.
        workdir: folder in which commands run; /workspace.
        user: uid that commands run as.
        network: default, none, host or the name of a network.
        keep: whether the sandbox lives on when the client closes it.
        labels: written on the sandbox.
        features: what the runtime honours. A default that was not asked for (the uid of the
            caller, the idle limit) is left
            out when the runtime cannot honour it. None: it can.
        emit: is told what is deprecated, unknown or without effect, each once in a process.
        runtime: the name of the one that was chosen; None for the setting RUNTIME.
        more: further fields of SandboxSpec; None leaves the field's default.

    Raises:
        SettingError: a value cannot be, or a variable is set that neither the core nor this
        runtime honours.
        VolumeError: a mount cannot be read.
    """
    core = settings.core
    mounts = settings.mounts() if volumes is None else read_volumes(volumes)
    kept = core.keep if keep is None else keep
    refuse_unhonoured(settings, keep=kept, ports=bool(more.get("ports")), runtime=runtime)
    notes.tell(settings, emit)

    def can(feature: str) -> bool:
        return features is None or feature in features

    if user is None:
        user = core.user_id
    if user is None and can("user"):
        user = default_user(mounts)
    fields: dict[str, Any] = {
        "image": image or core.image or _asked_for(settings, "SANDBOX_BASE_CONTAINER_IMAGE"),
        **_image_commands(settings, as_is=bool(image or core.image), emit=emit),
        "mounts": mounts,
        "env": {**core.env, **core.startup_env, **(env or {})},
        "secrets": secrets,
        "workdir": workdir,
        "user": user,
        "network": network or ("host" if core.use_host_network else None),
        "gpu": _gpu(settings),
        "platform": core.platform,
        "labels": labels,
        "keep": kept,
        "idle_limit": core.close_delay
        if kept and (can("idle_limit") or settings.is_set("SANDBOX_CLOSE_DELAY"))
        else None,
    }
    fields.update({name: value for name, value in more.items() if value is not None})
    return SandboxSpec(**{name: value for name, value in fields.items() if value is not None})


def read_volumes(volumes: Volumes) -> tuple[Mount, ...]:
    """The mounts of an argument: texts as in SANDBOX_VOLUMES, models, or a list of both.

    Raises:
        VolumeError: one cannot be read, or two have the same container path.
    """
    if isinstance(volumes, str):
        return _volumes.parse(volumes)
    mounts: list[Mount] = []
    for item in volumes:
        mounts.extend((item,) if isinstance(item, Mount) else _volumes.parse(item))
    return _volumes.checked(mounts)


def default_user(mounts: Iterable[Mount], caller: int | None = None) -> int | None:
    """The uid that commands run as when nobody said: the caller's.

    For root it is the owner of the folder at /workspace, so that no file of root's appears there.
    When that is root too, when
    there is none, or when it lies on a machine that we do not see, it is None, the runtime's own
    default: 0 has to be asked for.

    Args:
        mounts: of the sandbox.
        caller: uid of the caller; None for that of this process.
    """
    caller = os.getuid() if caller is None else caller
    if caller != 0:
        return caller
    for mount in mounts:
        if mount.target == _volumes.WORKSPACE and not mount.named:
            try:
                return os.stat(mount.source).st_uid or None
            except OSError:
                return None
    return None


def refuse_unhonoured(
    settings: Settings, *, keep: bool = False, ports: bool = False, runtime: str | None = None
) -> None:
    """Refuses a variable that is set, concerns this runtime, and that nobody honours.

    Variables of other runtimes may be set: the same environment serves several. So may those that
    mean nothing here
    (about ports when none is asked for), and a false one, which asks for nothing.

    Args:
        settings: what holds here.
        keep: whether the sandbox is kept.
        ports: whether it has ports.
        runtime: as for ``make_spec``.

    Raises:
        SettingError: names the variable.
    """
    configured = settings.core.runtime
    if runtime is None or configured.rpartition(":")[2] == runtime:
        runtime = configured  # it may say the distribution, too
    means_something = {"": True, "keep": keep, "ports": ports}
    for variable in TABLE.values():
        found = settings.find(variable) if variable.by_runtime else None
        if found is None or not means_something[variable.only_with]:
            continue
        selected = registry.selected(runtime)
        if variable.owner not in (CORE, selected.distribution) or variable.name in selected.names:
            continue
        if settings.value(variable) is False:
            continue
        raise SettingError(
            f"{found.name} ({found.source.label}) is not honoured by this version of the "
            f"runtime {runtime!r}.",
            hint=f"Unset {found.name}.",
        )


def _asked_for(settings: Settings, name: str) -> Any:
    """The value of a variable when it is set; its default is the runtime's to apply."""
    return settings.get(name) if settings.is_set(name) else None


def _image_commands(
    settings: Settings, *, as_is: bool, emit: Callable[[Event], None]
) -> dict[str, Any]:
    """What SANDBOX_RUNTIME_EXTRA_DEPS adds to the base image. An image that was chosen as it is
    gets nothing added."""
    commands = settings.get("SANDBOX_RUNTIME_EXTRA_DEPS")
    if not commands:
        return {}
    if as_is:
        text = (
            "SANDBOX_RUNTIME_EXTRA_DEPS has no effect on an image that is used as it is; name the "
            "image with SANDBOX_BASE_CONTAINER_IMAGE instead."
        )
        notes.tell_once(Event(kind="note", message=text, source="settings"), emit)
        return {}
    return {
        "image_commands": (commands,),
        "image_rebuild": settings.get("SANDBOX_FORCE_REBUILD_RUNTIME"),
    }


def _gpu(settings: Settings) -> str | None:
    core = settings.core
    if not core.enable_gpu:
        return None
    return ",".join(core.cuda_visible_devices or ("all",))
