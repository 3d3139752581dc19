"""Every variable that openrt knows, also those of runtimes that are not installed.

The names are those of OpenHands 0.11 to 1.6. docs/settings.md is made from this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from openrt_core.settings.variables import APPLICATION, CORE, Variable

DOCKER, REMOTE, MODAL = "openrt-docker", "openrt-remote", "openrt-modal"
DEFAULT_IMAGE = "nikolaik/python-nodejs:python3.12-nodejs22"
RUNTIME_ALIASES = {"eventstream": "docker"}
"""Old names of runtimes."""


def _runtime(text: str) -> str:
    name = text.strip().lower()
    if not re.fullmatch(r"([a-z0-9][a-z0-9._-]*:)?[a-z0-9][a-z0-9._-]*", name):
        raise ValueError
    return RUNTIME_ALIASES.get(name, name)


def _above_zero(value: float) -> float:
    if value <= 0:
        raise ValueError
    return value


def _at_least_1(value: int) -> int:
    if value < 1:
        raise ValueError
    return value


def _uid(value: int) -> int:
    # 2**32 - 1 is (uid_t) -1, which chown(2) and setreuid(2) read as "leave it"
    if not 0 <= value < 2**32 - 1:
        raise ValueError
    return value


def _at_least_one(items: tuple[str, ...]) -> tuple[str, ...]:
    if not items:
        raise ValueError
    return items


def _environment(value: Mapping[str, Any]) -> dict[str, str]:
    """Numbers become text; true, null and nested values do not, for nobody could say as which
    text.
    """
    for name, item in value.items():
        texts = isinstance(item, str | int | float) and not isinstance(item, bool)
        if not texts or not name or {"=", "\0"} & set(name) or "\0" in str(item):
            raise ValueError
    return {name: str(item) for name, item in value.items()}


_SECONDS: dict[str, Any] = {"convert": _above_zero, "takes": "seconds, a number above 0"}

_VARIABLES = (
    # What the core itself honours, with every runtime ---
    Variable(
        name="RUNTIME", default="docker", example="local", owner=CORE, convert=_runtime,
        takes="the name of an installed runtime, or distribution:name",
        help="The runtime that makes sandboxes; case does not matter.",
    ),
    Variable(
        name="SANDBOX_RUNTIME_CONTAINER_IMAGE", example="python:3.12-slim", owner=CORE,
        help="The image, used as it is. Any Linux image works; nothing has to be installed in it.",
    ),
    Variable(
        name="SANDBOX_BASE_CONTAINER_IMAGE", default=DEFAULT_IMAGE, example="debian:12", owner=CORE,
        help="The image when SANDBOX_RUNTIME_CONTAINER_IMAGE is not set.",
    ),
    Variable(
        name="SANDBOX_PLATFORM", example="linux/arm64", owner=CORE,
        takes="os/architecture", help="Platform of the image, for building and for running.",
    ),
    Variable(
        name="SANDBOX_USER_ID", kind="int", example="1000", owner=CORE, convert=_uid,
        takes="a uid, 0 or more",
        help="Uid that commands run as. Not set: the caller's; for root the owner of /workspace.",
    ),
    Variable(
        name="SANDBOX_TIMEOUT", kind="float", default=120.0, example="300", owner=CORE, **_SECONDS,
        help="Time limit of one command in seconds; at the limit its whole process tree is killed.",
    ),
    Variable(
        name="SANDBOX_VOLUMES", example="/home/me/project:/workspace:rw", owner=CORE,
        takes="host_path:container_path[:mode], several separated by commas",
        help="What is mounted; mode is rw (default), ro or overlay.",
    ),
    Variable(
        name="WORKSPACE_BASE", example="/home/me/project", owner=CORE,
        help="Deprecated, use SANDBOX_VOLUMES. The folder to mount.",
    ),
    Variable(
        name="WORKSPACE_MOUNT_PATH", example="/home/me/project", owner=CORE,
        help="Deprecated, use SANDBOX_VOLUMES. The same, as the engine's machine names it.",
    ),
    Variable(
        name="WORKSPACE_MOUNT_REWRITE", example="/home:/mnt/home", owner=CORE,
        takes="from:to",
        help="Deprecated, use SANDBOX_VOLUMES. Turns WORKSPACE_BASE into the engine's name of it.",
    ),
    Variable(
        name="WORKSPACE_MOUNT_PATH_IN_SANDBOX", default="/workspace", example="/workspace",
        owner=CORE, takes="an absolute path",
        help="Deprecated, use SANDBOX_VOLUMES. Where the folder appears in the sandbox.",
    ),
    Variable(
        name="SANDBOX_USE_HOST_NETWORK", kind="bool", default=False, example="true", owner=CORE,
        help="Whether sandboxes share the network of the engine's machine.",
    ),
    Variable(
        name="SANDBOX_RUNTIME_STARTUP_ENV_VARS", kind="dict", default={}, example='{"CI": "1"}',
        owner=CORE, private=True, convert=_environment,
        takes="a JSON object or Python dict of names and texts",
        help="Environment of the sandbox.",
    ),
    Variable(
        name="SANDBOX_ENV_", kind="dict", default={}, example="value", owner=CORE, private=True,
        prefix=True, expand=False, convert=_environment, takes="a text",
        help="SANDBOX_ENV_X=value sets X in the sandbox, byte for byte, also when it is empty.",
    ),
    Variable(
        name="SANDBOX_ENABLE_GPU", kind="bool", default=False, example="true", owner=CORE,
        help="Whether the sandbox gets GPUs: all, or those of SANDBOX_CUDA_VISIBLE_DEVICES.",
    ),
    Variable(
        name="SANDBOX_CUDA_VISIBLE_DEVICES", kind="list", example="0,1", owner=CORE,
        convert=_at_least_one, takes="ids of GPUs: a JSON list, a Python list or a,b",
        help="The GPUs that SANDBOX_ENABLE_GPU gives.",
    ),
    Variable(
        name="SANDBOX_KEEP_RUNTIME_ALIVE", kind="bool", default=False, example="true", owner=CORE,
        aliases=("SANDBOX_KEEP_REMOTE_RUNTIME_ALIVE",),
        help="Whether the sandbox lives on when the client closes it.",
    ),
    Variable(
        name="SANDBOX_CLOSE_DELAY", kind="float", default=3600.0, example="600", owner=CORE,
        **_SECONDS,
        help="Seconds that a kept sandbox lingers without a client.",
    ),
    Variable(
        name="OPENRT_WRAPPERS", kind="list", default=(), example="audit,policy", owner=CORE,
        user_only=True, help="Installed wrappers around every hook; the first is the outermost.",
    ),
    Variable(
        name="OPENRT_MAX_PROVISIONING", kind="int", default=8, example="2", owner=CORE,
        convert=_at_least_1, takes="a whole number, 1 or more",
        help="How many sandboxes one process makes at once; the others wait for their turn.",
    ),
    # What a runtime honours when it declares it ---
    Variable(
        name="SANDBOX_RUNTIME_EXTRA_DEPS", example="pip install numpy", owner=CORE, by_runtime=True,
        expand=False, help="Shell text that is run when a derived image is built.",
    ),
    Variable(
        name="SANDBOX_FORCE_REBUILD_RUNTIME", kind="bool", default=False, example="true",
        owner=CORE, by_runtime=True,
        help="Whether a derived image is built again although there is one.",
    ),
    Variable(
        name="SANDBOX_VOLUME_OVERLAYS", kind="path", example="/var/tmp/overlays", owner=CORE,
        by_runtime=True,
        help="Folder for what is written to overlay mounts. Not set: in the user's data folder.",
    ),
    Variable(
        name="SANDBOX_PAUSE_CLOSED_RUNTIMES", kind="bool", default=True, example="false",
        owner=CORE, by_runtime=True, only_with="keep",
        help="Whether a kept sandbox is paused when its client closes, where it can be.",
    ),
    Variable(
        name="SANDBOX_RM_ALL_CONTAINERS", owner=APPLICATION,
        help="Not copied: in OpenHands it stops also other people's containers; ignored here.",
    ),
    Variable(
        name="SANDBOX_RUNTIME_BINDING_ADDRESS", default="127.0.0.1", example="127.0.0.1",
        owner=DOCKER, by_runtime=True, only_with="ports",
        help="Host address of published ports; nothing is published unless a port is asked for.",
    ),
    Variable(
        name="SANDBOX_LOCAL_RUNTIME_URL", kind="url", example="http://localhost", owner=DOCKER,
        by_runtime=True, only_with="ports", help="Scheme and host of the URLs of published ports.",
    ),
    Variable(
        name="DOCKER_HOST_ADDR", example="192.0.2.10", owner=DOCKER, by_runtime=True,
        only_with="ports",
        help="Host of the URLs of published ports.",
    ),
    Variable(
        name="SANDBOX_ADDITIONAL_NETWORKS", kind="list", default=(), example="db,cache",
        owner=DOCKER, by_runtime=True,
        help="Networks of the engine that are joined too, before the first command.",
    ),
    Variable(
        name="SANDBOX_DOCKER_RUNTIME_KWARGS", kind="dict", default={}, example='{"shm_size": "1g"}',
        owner=DOCKER, by_runtime=True, private=True, user_only=True,
        takes="a JSON object or Python dict",
        help="More arguments of the container, over openrt's own: blkio_weight, cpu_shares, "
        "cpuset_cpus, cpuset_mems, dns, dns_opt, dns_search, domainname, extra_hosts, hostname, "
        "mem_limit, mem_reservation, mem_swappiness, memswap_limit, nano_cpus, oom_score_adj, "
        "pids_limit, runtime, shm_size, storage_opt, sysctls, tmpfs, ulimits. Others are refused.",
    ),
    Variable(
        name="SANDBOX_REMOTE_RUNTIME_API_URL", kind="url",
        example="https://runtime.app.all-hands.dev", owner=REMOTE, by_runtime=True, user_only=True,
        help="The runtime API. Not set: the example, when SANDBOX_API_KEY is set.",
    ),
    Variable(
        name="SANDBOX_API_KEY", example="your-all-hands-api-key", owner=REMOTE, by_runtime=True,
        secret=True, help="Key of the runtime API; sent to its control plane only.",
    ),
    Variable(
        name="SANDBOX_REMOTE_RUNTIME_INIT_TIMEOUT", kind="float", default=180.0, example="300",
        owner=REMOTE, by_runtime=True, **_SECONDS,
        help="Seconds until a remote sandbox must be ready.",
    ),
    Variable(
        name="SANDBOX_REMOTE_RUNTIME_API_TIMEOUT", kind="float", default=180.0, example="60",
        owner=REMOTE, by_runtime=True, **_SECONDS, help="Seconds for one call of the runtime API.",
    ),
    Variable(
        name="SANDBOX_REMOTE_RUNTIME_ENABLE_RETRIES", kind="bool", default=True, example="false",
        owner=REMOTE, by_runtime=True, help="Whether network errors are retried.",
    ),
    Variable(
        name="SANDBOX_REMOTE_RUNTIME_CLASS", choices=("none", "gvisor", "sysbox"), example="sysbox",
        owner=REMOTE, by_runtime=True, help="Isolation of a remote sandbox.",
    ),
    Variable(
        name="SANDBOX_REMOTE_RUNTIME_RESOURCE_FACTOR", kind="int", default=1, choices=(1, 2, 4, 8),
        example="2", owner=REMOTE, by_runtime=True, help="Size of a remote sandbox.",
    ),
    *(
        Variable(
            name=name, example="your-token", owner=MODAL, by_runtime=True, secret=True, help=text
        )
        for name, text in (
            ("MODAL_API_TOKEN_ID", "Id of the Modal token; with MODAL_API_TOKEN_SECRET."),
            ("MODAL_API_TOKEN_SECRET", "Secret of the Modal token."),
            ("MODAL_TOKEN_ID", "The modal client's own name of MODAL_API_TOKEN_ID."),
            ("MODAL_TOKEN_SECRET", "The modal client's own name of MODAL_API_TOKEN_SECRET."),
        )
    ),
    *(
        Variable(
            name=name, owner=APPLICATION, help="Belongs to the OpenHands application; ignored here."
        )
        for name in (
            "SANDBOX_VSCODE_PORT",
            "SANDBOX_INITIALIZE_PLUGINS",
            "SANDBOX_ENABLE_AUTO_LINT",
            "SANDBOX_BROWSERGYM_EVAL_ENV",
            "SANDBOX_SELECTED_REPO",
            "SANDBOX_TRUSTED_DIRS",
        )
    ),
)  # fmt: skip

TABLE: Mapping[str, Variable] = {variable.name: variable for variable in _VARIABLES}
"""Every known variable by its name."""
