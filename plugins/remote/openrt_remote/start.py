"""What is asked of the control plane for a new sandbox, and waiting until it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs

from openrt_core.errors import ImageNotFoundError, ProvisionError, StartTimeoutError
from openrt_core.models import SandboxSpec
from openrt_remote.answers import FATAL, Session, shown, why_ended
from openrt_remote.control import ControlPlane
from openrt_remote.settings import Settings

if TYPE_CHECKING:
    pass

DEFAULT_IMAGE: Final = "openhands/agent-server:latest-python"
"""Has the agent server that commands and files go through; any other image needs it too."""
COMMAND: Final = "/usr/local/bin/openhands-agent-server --port 60000"
USER: Final = 10001
ENVIRONMENT: Final = {
    # By default the server keeps its own files in /workspace, where the user's are.
    "OH_BASH_EVENTS_DIR": "/tmp/.openrt-server/bash_events",
    "OH_CONVERSATIONS_PATH": "/tmp/.openrt-server/conversations",
}
"""Environment of the server. The user's goes to each command: it must not change the server."""
FIRST_POLL: Final = 0.5
LAST_POLL: Final = 5.0
PROBE_TIMEOUT: Final = 10.0


def start_body(spec: SandboxSpec, settings: Settings) -> dict[str, Any]:
    """The body of POST /start, as V1 clients send it."""
    body: dict[str, Any] = {
        "image": spec.image or DEFAULT_IMAGE,
        "command": COMMAND,
        "working_dir": "/",
        "environment": dict(ENVIRONMENT),
        "session_id": spec.id,
        "run_as_user": USER,
        "fs_group": USER,
        "image_pull_policy": "IfNotPresent",
    }
    # As in OpenHands, the other classes are the platform's own choice.
    if settings.runtime_class in (None, "sysbox"):
        body["runtime_class"] = "sysbox-runc"
    if settings.resource_factor != 1:
        body["resource_factor"] = settings.resource_factor
    return body


def start_limit(spec: SandboxSpec, settings: Settings) -> float:
    """Seconds until a sandbox must be ready: an explicit ``start_timeout``, else the setting."""
    default = attrs.fields_dict(SandboxSpec)["start_timeout"].default
    return settings.init_timeout if spec.start_timeout == default else spec.start_timeout


def wait_until_ready(
    control: ControlPlane, id: str, limit: float, tell: Callable[[str], None], image: str = ""
) -> Session:
    """Polls until the sandbox is ready and its server answers.

    Args:
        control: the control plane.
        id: of the sandbox.
        limit: seconds.
        tell: reports progress, a line at each new state.
        image: for the error, when it may be the reason.

    Raises:
        ProvisionError: or one of its kinds.
    """
    end = time.monotonic() + limit
    delay, last = FIRST_POLL, ""
    while True:
        session = control.session(id)
        state = "not known yet" if session is None else session.pod_status or session.status
        if session is not None and session.ended:
            raise _failed(control, id, session, image)
        if session is not None and session.status == "paused":
            control.resume(session.runtime_id)
        elif session is not None and state == "ready" and _answers(session):
            return session
        if state != last:
            tell(f"the remote sandbox is {shown(state, 40)}")
            last = state
        left = end - time.monotonic()
        if left <= 0:
            raise StartTimeoutError(
                f"The remote sandbox {id} is {shown(state, 40)}, not ready, after {limit:g} s.",
                hint="Give it more: start_timeout= or SANDBOX_REMOTE_RUNTIME_INIT_TIMEOUT.",
            )
        time.sleep(min(delay, left))
        delay = min(delay * 1.5, LAST_POLL)


def _answers(session: Session) -> bool:
    """Whether the server says that it is healthy. It is asked without any key."""
    import httpx

    if not session.url or not session.key:
        return False
    try:
        with (
            httpx.Client(timeout=PROBE_TIMEOUT) as client,
            client.stream("GET", f"{session.url}/health", follow_redirects=False) as answer,
        ):
            return answer.status_code == 200
    except httpx.HTTPError:
        return False


def _failed(control: ControlPlane, id: str, session: Session, image: str) -> ProvisionError:
    text = f"The remote sandbox {id} did not start: {why_ended(session)}."
    reasons = " ".join(session.reasons).lower()
    pull = any(word in reasons for word in ("imagepull", "errimage", "invalidimage"))
    if image and session.pod_status in FATAL and (pull or not control.image_exists(image)):
        return ImageNotFoundError(f"{text} The image {image!r} is not to be had there.")
    return ProvisionError(text)
