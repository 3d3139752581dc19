"""SANDBOX_DOCKER_RUNTIME_KWARGS: more arguments of the container, in the words of the Docker SDK.

Only what is listed here is taken, so that nothing undoes the hardened profile by a name that
nobody thought of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from openrt_core.errors import SettingError
from openrt_docker.engine import Engine

VARIABLE: Final = "SANDBOX_DOCKER_RUNTIME_KWARGS"

HOST: Final = frozenset(
    {
        "blkio_weight",
        "cpu_shares",
        "cpuset_cpus",
        "cpuset_mems",
        "dns",
        "dns_opt",
        "dns_search",
        "extra_hosts",
        "mem_limit",
        "mem_reservation",
        "mem_swappiness",
        "memswap_limit",
        "nano_cpus",
        "oom_score_adj",
        "pids_limit",
        "runtime",
        "shm_size",
        "storage_opt",
        "sysctls",
        "tmpfs",
        "ulimits",
    }
)
"""Arguments of the SDK's ``create_host_config``."""
CONTAINER: Final = frozenset({"domainname", "hostname"})
"""Arguments of the SDK's ``create_container``."""
ELSEWHERE: Final[Mapping[str, str]] = {
    "device_requests": "SANDBOX_ENABLE_GPU",
    "environment": "SANDBOX_RUNTIME_STARTUP_ENV_VARS or SANDBOX_ENV_X",
    "image": "SANDBOX_RUNTIME_CONTAINER_IMAGE",
    "labels": "labels=",
    "mounts": "SANDBOX_VOLUMES",
    "network": "SANDBOX_ADDITIONAL_NETWORKS, or network= for the only one",
    "network_mode": "network=",
    "platform": "SANDBOX_PLATFORM",
    "read_only": "read_only=",
    "user": "SANDBOX_USER_ID",
    "volumes": "SANDBOX_VOLUMES",
    "working_dir": "workdir=",
}
"""Arguments that openrt sets itself, and how it is asked for them."""
NEEDED: Final = frozenset(
    {
        "auto_remove",
        "command",
        "detach",
        "entrypoint",
        "init",
        "log_config",
        "name",
        "remove",
        "restart_policy",
        "stderr",
        "stdin_open",
        "stdout",
        "stream",
        "tty",
    }
)
"""Arguments that openrt needs as they are."""
HARDENING: Final = frozenset(
    {
        "cap_add",
        "cap_drop",
        "cgroup_parent",
        "cgroupns",
        "device_cgroup_rules",
        "devices",
        "group_add",
        "ipc_mode",
        "pid_mode",
        "privileged",
        "security_opt",
        "userns_mode",
        "uts_mode",
        "volumes_from",
    }
)
"""Arguments that can undo the hardened profile."""


@attrs.frozen
class Extra:
    """The arguments of one setting, sorted and checked.

    Attributes:
        host: of ``create_host_config``.
        container: of ``create_container``.
    """

    host: Mapping[str, Any]
    container: Mapping[str, Any]


def extra(engine: Engine, given: Mapping[str, Any]) -> Extra:
    """The arguments that are taken.

    Raises:
        SettingError: one is not, or has a value that the SDK does not take; names it.
    """
    for name, value in given.items():
        if name not in HOST | CONTAINER:
            raise _refused(name)
        if name in CONTAINER and not (isinstance(value, str) and value):
            raise _wrong(name)
    host = {name: _host(engine, name, v) for name, v in given.items() if name in HOST}
    return Extra(host, {name: v for name, v in given.items() if name in CONTAINER})


def _host(engine: Engine, name: str, value: Any) -> Any:
    """The value as the SDK takes it; the SDK itself says whether it does."""
    import docker.errors
    import docker.types

    try:
        if name == "ulimits":
            value = [docker.types.Ulimit(**each) for each in value]
        elif name == "tmpfs" and isinstance(value, str):
            value = [value]
        engine.client().api.create_host_config(**{name: value})
    except (TypeError, ValueError, AttributeError, docker.errors.DockerException) as error:
        raise _wrong(name) from error
    return value


def _wrong(name: str) -> SettingError:
    return SettingError(
        f"{VARIABLE} has a value for {name!r} that the Docker SDK does not take.",
        hint="It takes what docker.containers.run takes.",
    )


def _refused(name: str) -> SettingError:
    if name in HARDENING:
        return SettingError(
            f"{VARIABLE} has {name!r}, which can undo what keeps a sandbox apart from its host.",
            hint=f"Leave {name} out.",
        )
    if name in ELSEWHERE:
        return SettingError(
            f"{VARIABLE} has {name!r}, which openrt sets itself.", hint=f"Use {ELSEWHERE[name]}."
        )
    if name in NEEDED:
        return SettingError(
            f"{VARIABLE} has {name!r}, which openrt needs as it is.", hint=f"Leave {name} out."
        )
    return SettingError(
        f"{VARIABLE} has {name[:80]!r}, which openrt does not know.",
        hint=f"It takes {', '.join(sorted(HOST | CONTAINER))}.",
    )
