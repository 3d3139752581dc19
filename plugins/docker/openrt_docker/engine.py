"""The Docker engine: one client, and its errors in our words.

``docker`` is imported when the first call is made, never when the plugin is found or loaded: it
takes half a second.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from openrt_core.errors import (
    ID_TAKEN,
    AuthenticationError,
    EngineUnreachableError,
    ImageNotFoundError,
    OpenrtError,
    ProvisionError,
    SettingError,
)

if TYPE_CHECKING:
    import docker

CALL_TIMEOUT = 60
"""Seconds for one call of the engine, so that an engine that hangs does not hang us."""
LONG_CALL_TIMEOUT = 3600
"""Seconds for one that moves the content of a sandbox."""
CREATE = "create the container"
"""What makes the container of a sandbox, whose name holds the sandbox's id."""
_WANTS_LOGIN = ("access denied", "authentication required", "unauthorized: ")


class Engine:
    """The engine that DOCKER_HOST (or the default socket) names. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: docker.DockerClient | None = None

    def patient_client(self) -> docker.DockerClient:
        """A client of one call that may take long; the caller closes it.

        Raises:
            EngineUnreachableError: nobody answers.
        """
        import docker

        with translated("reach the Docker engine"):
            return docker.from_env(timeout=LONG_CALL_TIMEOUT)

    def streaming_client(self, silence: float) -> docker.DockerClient:
        """A client of one call that may take any time while something comes; the caller closes it.

        Args:
            silence: seconds without a byte after which the call is given up, whatever limit the
                SDK itself asks for.

        Raises:
            EngineUnreachableError: nobody answers.
        """
        import docker

        with translated("reach the Docker engine"):
            client = docker.from_env(timeout=CALL_TIMEOUT)
        send = client.api.send

        def limited(request: Any, **options: Any) -> Any:
            return send(request, **{**options, "timeout": (CALL_TIMEOUT, silence)})

        # The SDK pulls without any limit and has no parameter for one.
        client.api.send = limited  # type: ignore[method-assign]
        return client

    def client(self) -> docker.DockerClient:
        """The SDK's client, made at the first call.

        Raises:
            EngineUnreachableError: nobody answers.
        """
        with self._lock:
            if self._client is None:
                import docker

                with translated("reach the Docker engine"):
                    self._client = docker.from_env(timeout=CALL_TIMEOUT, max_pool_size=64)
            return self._client


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns the SDK's errors into ours.

    Args:
        what: what was being done, for the message: ``could not WHAT``.
    """
    import docker.errors
    import requests.exceptions
    import urllib3.exceptions

    try:
        yield
    except docker.errors.APIError as error:
        raise _from_api(what, error) from error
    except (
        requests.exceptions.RequestException,
        # The SDK reads streams past requests, so that these come as they are.
        urllib3.exceptions.HTTPError,
        docker.errors.StreamParseError,
        docker.errors.DockerException,
    ) as error:
        raise EngineUnreachableError(
            f"Could not {what}: the Docker engine does not answer.",
            hint="Is the engine running, and may you use it? `docker version` tells; DOCKER_HOST "
            "names it. Without an engine, RUNTIME=local needs none.",
        ) from error


def _from_api(what: str, error: docker.errors.APIError) -> OpenrtError:
    explanation = str(error.explanation or error)
    message = f"Could not {what}: {explanation}"
    status = error.status_code or 0
    if status == 409 and what == CREATE and "already in use" in explanation:
        return ProvisionError(message, code=ID_TAKEN)
    if "invalid reference format" in explanation:
        return SettingError(message, hint="An image is called [host/]name[:tag], in lower case.")
    if "bind source path does not exist" in explanation or "invalid mount config" in explanation:
        return SettingError(
            message,
            hint="The path belongs to the machine where the engine runs; make it there first.",
        )
    if status == 404 and "image" in explanation.lower():
        return ImageNotFoundError(message)
    # Not every 403: the engine says that also of networks. Not every "denied": so says the kernel
    # of a program that it does not start.
    if status == 401 or any(words in explanation for words in _WANTS_LOGIN):
        return AuthenticationError(message, hint="Log in to the registry with `docker login`.")
    if "manifest" in explanation and "unknown" in explanation:
        return ImageNotFoundError(message)
    return ProvisionError(message, retryable=status in (500, 502, 503, 504))


def is_missing(error: OpenrtError) -> bool:
    """Whether the engine said that there is no such thing."""
    import docker.errors

    cause = error.__cause__
    return isinstance(cause, docker.errors.APIError) and cause.status_code == 404
