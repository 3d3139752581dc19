"""Models of a sandbox: what is asked for, what is attached, and what names it afterwards."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any, Literal

import attrs
from attrs.validators import optional

from openrt_core.models import checks

MountMode = Literal["rw", "ro", "overlay"]
ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""Ids are names of containers, sessions and tags on every back end, so they are kept to what all
take."""


def new_id() -> str:
    """A fresh id of a sandbox: 32 characters of 0-9a-f, random."""
    return uuid.uuid4().hex


def _id(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not ID_PATTERN.fullmatch(value):
        raise checks.refuse(instance, attribute, value, "1 to 63 characters of a-z, 0-9 and -")


def _without_last_slash(path: Any) -> Any:
    return path.rstrip("/") or "/" if isinstance(path, str) and path else path


@attrs.frozen
class Mount:
    """One mount that the user asked for.

    Attributes:
        source: an absolute path of the machine where the engine runs, or the name of a named
            volume.
        target: the absolute path in the sandbox, without a slash at the end.
        mode: ``rw``, ``ro`` or ``overlay`` (a writable view; the host's folder is never touched).
    """

    source: str = attrs.field(validator=checks.text_without_nul("a path or the name of a volume"))
    target: str = attrs.field(validator=checks.absolute, converter=_without_last_slash)
    mode: MountMode = attrs.field(default="rw", validator=checks.one_of("rw", "ro", "overlay"))

    @property
    def named(self) -> bool:
        """Whether the source is a named volume rather than a path."""
        return not self.source.startswith("/") and not re.match(r"[A-Za-z]:[\\/]", self.source)


@attrs.frozen
class Attachment:
    """What a runtime will attach for one mount: a plan, which provision carries out and teardown
    releases.

    Attributes:
        kind: the runtime's word for the way: ``bind``, ``overlay``, ``volume``, ``copy``, …
        mount: what the user asked for.
        native: plain serialisable details of the runtime.
    """

    kind: str = attrs.field(validator=checks.text_without_nul("a word"))
    mount: Mount
    native: Mapping[str, Any] = attrs.field(factory=dict, converter=checks.frozen_mapping)


@attrs.frozen(kw_only=True)
class SandboxSpec:
    """A sandbox that is asked for. A field that the runtime's ``features`` do not name must keep
    its default.

    Attributes:
        id: minted by the core before anything is spent; the runtime writes it on what it creates.
        image: name of the image, or None for the runtime's own default.
        image_commands: texts for ``/bin/sh -c``; the sandbox gets the image that ``image`` is after
            them, built once (``openrt_build_image``) and found again.
        image_rebuild: whether that image is built again although there is one.
        mounts: the user's mounts.
        env: environment of every command.
        secrets: as ``env``, but never shown.
        workdir: folder in which commands run; made when the image lacks it.
        user: uid that commands run as; None leaves it to the runtime.
        network: ``default``, ``none``, ``host`` or the name of a network of the engine.
        ports: TCP ports of the sandbox that ``expose`` will be asked for.
        cpu: number of CPUs, a fraction is allowed; None for no limit.
        memory: bytes; None for no limit.
        pids: most processes and threads at once; None for the runtime's default.
        disk: bytes; None for no limit.
        gpu: ``all``, or ids separated by commas; None for none.
        platform: for example ``linux/arm64``; None for the engine's own.
        labels: written on the sandbox where the back end can.
        lifetime: seconds after which the sandbox ends in any case; None for no limit.
        idle_limit: seconds that a kept sandbox lingers without a client; None for the runtime's
            default.
        keep: whether it lives on when the client closes it.
        start_timeout: seconds for provision, the image's pull not counted.
        read_only: whether the root file system is read-only.
        options: the runtime's own options.
    """

    id: str = attrs.field(factory=new_id, validator=_id)
    image: str | None = attrs.field(
        default=None, validator=optional(checks.text_without_nul("the name of an image"))
    )
    image_commands: tuple[str, ...] = attrs.field(default=(), converter=checks.as_tuple)
    image_rebuild: bool = attrs.field(default=False, validator=checks.one_of(True, False))
    mounts: tuple[Mount, ...] = attrs.field(default=(), converter=checks.as_tuple)
    env: Mapping[str, str] = attrs.field(
        factory=dict, converter=checks.frozen_mapping, validator=checks.environment
    )
    secrets: Mapping[str, str] = attrs.field(
        factory=dict, converter=checks.frozen_mapping, validator=checks.environment, repr=False
    )
    workdir: str = attrs.field(default="/workspace", validator=checks.absolute)
    user: int | None = attrs.field(
        default=None, validator=optional(checks.number("a uid", least=0, whole=True))
    )
    network: str = attrs.field(
        default="default", validator=checks.text_without_nul("none, host, default or a name")
    )
    ports: tuple[int, ...] = attrs.field(default=(), converter=checks.as_tuple)
    cpu: float | None = attrs.field(
        default=None, validator=optional(checks.number("a number above 0", least=0, above=True))
    )
    memory: int | None = attrs.field(
        default=None, validator=optional(checks.number("bytes, 1 or more", least=1, whole=True))
    )
    pids: int | None = attrs.field(
        default=None, validator=optional(checks.number("a count, 1 or more", least=1, whole=True))
    )
    disk: int | None = attrs.field(
        default=None, validator=optional(checks.number("bytes, 1 or more", least=1, whole=True))
    )
    gpu: str | None = attrs.field(
        default=None, validator=optional(checks.text_without_nul("all, or ids separated by commas"))
    )
    platform: str | None = attrs.field(
        default=None, validator=optional(checks.text_without_nul("os/architecture"))
    )
    labels: Mapping[str, str] = attrs.field(
        factory=dict, converter=checks.frozen_mapping, validator=checks.environment
    )
    lifetime: float | None = attrs.field(
        default=None, validator=optional(checks.number("seconds above 0", least=0, above=True))
    )
    idle_limit: float | None = attrs.field(
        default=None, validator=optional(checks.number("seconds above 0", least=0, above=True))
    )
    keep: bool = attrs.field(default=False, validator=checks.one_of(True, False))
    start_timeout: float = attrs.field(
        default=300.0, validator=checks.number("seconds above 0", least=0, above=True)
    )
    read_only: bool = attrs.field(default=False, validator=checks.one_of(True, False))
    options: Mapping[str, Any] = attrs.field(
        factory=dict, converter=checks.frozen_mapping, repr=False
    )

    @mounts.validator
    def _mounts(self, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
        targets = [m.target for m in value if isinstance(m, Mount)]
        if len(targets) < len(value) or len(set(targets)) < len(targets):
            raise checks.refuse(
                self, attribute, value, "mounts with a container path each of its own"
            )

    @image_commands.validator
    def _image_commands(self, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
        if not all(isinstance(c, str) and c.strip() and "\0" not in c for c in value):
            raise checks.refuse(self, attribute, value, "texts for a shell")

    @ports.validator
    def _ports(self, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
        if not all(isinstance(p, int) and 0 < p < 65536 for p in value):
            raise checks.refuse(self, attribute, value, "port numbers, 1 to 65535")


@attrs.frozen(kw_only=True)
class SandboxHandle:
    """What names a sandbox afterwards: plain, serialisable, without secrets.

    Teardown and connect work with nothing but ``runtime`` and ``id``.

    Attributes:
        runtime: the name of the runtime, as in RUNTIME.
        id: the id that the core minted.
        workdir: folder in which commands run.
        user: uid that commands run as, None for what the image or the runtime says.
        labels: as asked for.
        native: details of the runtime; may be empty.
    """

    runtime: str = attrs.field(validator=checks.text_without_nul("the name of a runtime"))
    id: str = attrs.field(validator=_id)
    workdir: str = attrs.field(default="/workspace", validator=checks.absolute)
    user: int | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=checks.frozen_mapping)
    native: Mapping[str, Any] = attrs.field(
        factory=dict, converter=checks.frozen_mapping, repr=False
    )


@attrs.frozen(kw_only=True)
class PostMortem:
    """What is known of the end of a sandbox.

    Attributes:
        reason: one sentence.
        exit_code: of its first process, None when unknown.
        oom_killed: whether the kernel killed it for want of memory, None when unknown.
        output: the last that it said outside of commands; hostile, shown only escaped.
    """

    reason: str
    exit_code: int | None = None
    oom_killed: bool | None = None
    output: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen(kw_only=True)
class SandboxStatus:
    """The state of a sandbox.

    Attributes:
        state: ``starting``, ``running``, ``paused`` or ``gone``.
        post_mortem: for ``gone``, what is known of its end.
    """

    state: Literal["starting", "running", "paused", "gone"]
    post_mortem: PostMortem | None = None
