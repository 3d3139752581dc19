"""The modal library: one client, one event loop for all calls, and its errors in our words.

``modal`` is imported when the first call is made, never when the plugin is found or loaded: it
takes more than a second.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from openrt_core.errors import (
    ID_TAKEN,
    AuthenticationError,
    EngineUnreachableError,
    ImageNotFoundError,
    OpenrtError,
    ProvisionError,
    QuotaError,
    SandboxGoneError,
)
from openrt_modal.settings import Settings

if TYPE_CHECKING:
    import concurrent.futures

    import modal

T = TypeVar("T")

APP = "openrt"
"""The Modal app in which all sandboxes of openrt are; their names are unique in it."""
CALL_LIMIT = 60.0
"""Seconds for one call, so that a back end that hangs does not hang us: the library itself
retries some without end."""
_CANCEL_LIMIT = 5.0
"""Seconds that a call has to end when it was cancelled."""
_TOKEN_HINT = (
    "Set MODAL_API_TOKEN_ID and MODAL_API_TOKEN_SECRET (modal.com, settings, API tokens), or run "
    "`modal token new`."
)
_ENVIRONMENT_HINT = (
    "Does the account have the environment that MODAL_ENVIRONMENT, or the profile in "
    "~/.modal.toml, names?"
)
_NO_IMAGE = ("manifest unknown", "not found", "pull access denied", "repository does not exist")
_of_parents: Final[list[object]] = []
"""In a forked child: what its parent uses. Were it dropped, it might close itself."""


class Sdk:
    """The account that the settings name. Thread-safe.

    Calls are coroutines that run on one event loop in a thread of this object, started at the
    first call, whatever the number of sandboxes.
    """

    def __init__(self, settings: Settings, before_exit: Callable[[], None]) -> None:
        """
        Args:
            settings: the credentials.
            before_exit: called when the interpreter exits, while the library can still be used.
        """
        self._settings = settings
        self._before_exit = before_exit
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Held while the client or the app is made, so that calls at the same time make one.
        self._making = asyncio.Lock()
        self._client: modal.Client | None = None
        self._app: modal.App | None = None
        self._registered = False
        self.images: dict[str, modal.Image] = {}

    def forked(self) -> None:
        """This is a child after a fork: it has none of the threads, another thread may have held
        the locks, and the library wants a client anew."""
        _of_parents.append((self._loop, self._client, self._app, self.images))
        self._begin_anew()

    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, running."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="openrt-modal", daemon=True
                ).start()
            return self._loop

    def begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Starts ``work`` on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop())

    def call(
        self,
        what: str,
        work: Coroutine[Any, Any, T],
        limit: float = CALL_LIMIT,
        *,
        exists: bool = True,
    ) -> T:
        """Runs ``work`` on the loop and waits for it.

        Args:
            what: what is being done, for the message: ``could not WHAT``.
            work: cancelled when the limit strikes or the caller is interrupted.
            limit: seconds.
            exists: as for ``error_of``.

        Raises:
            EngineUnreachableError: no answer within the limit; or what ``translated`` makes of it.
        """

        async def limited() -> T:
            # On the loop, so that the library sees its own cancellation.
            async with asyncio.timeout(limit):
                return await work

        future = self.begin(limited())
        try:
            with translated(what, exists=exists):
                return future.result(limit + _CANCEL_LIMIT)
        finally:
            future.cancel()

    async def client(self) -> modal.Client:
        """The library's client, made at the first call; that asks nothing of the back end."""
        if self._client is not None:
            return self._client
        async with self._making:
            if self._client is None:
                self._client = await self._new_client()
            return self._client

    async def _new_client(self) -> modal.Client:
        credentials = self._settings.credentials()
        library = await asyncio.to_thread(_import)
        if not self._registered:
            # Now, for what is registered last is called first: the library's own clean-up, which
            # importing it registered, closes what the core's clean-up needs.
            atexit.register(self._exit, os.getpid())
            self._registered = True
        client: modal.Client
        if credentials is None:
            client = await library.Client.from_env.aio()
        else:
            client = await library.Client.from_credentials.aio(*credentials)
        return client

    def _exit(self, pid: int) -> None:
        if os.getpid() == pid:  # what a parent has open is not its forked child's to close
            self._before_exit()

    async def app(self) -> modal.App:
        """Our app, made when the account has none."""
        client = await self.client()
        if self._app is not None:
            return self._app
        import modal

        async with self._making:
            if self._app is None:
                self._app = await modal.App.lookup.aio(APP, create_if_missing=True, client=client)
            return self._app

    async def find(self, id: str, *, ended: bool = False) -> modal.Sandbox | None:
        """The sandbox of this id, which its name and its tag must say.

        Args:
            id: as the core minted it.
            ended: whether one that has ended counts, too.
        """
        client = await self.client()
        import modal

        try:
            found = await modal.Sandbox.from_name.aio(
                APP, id, include_terminated=ended, client=client
            )
            tags = await found.get_tags.aio()
        except modal.exception.NotFoundError:
            return None
        return found if tags.get("openrt.id") == id else None


def _import() -> Any:
    import modal

    return modal


@contextlib.contextmanager
def translated(what: str, *, exists: bool = True) -> Iterator[None]:
    """Turns the library's errors into ours.

    Args:
        what: what was being done, for the message: ``could not WHAT``.
        exists: as for ``error_of``.
    """
    try:
        yield
    except OpenrtError:
        raise
    except (builtins.ConnectionError, TimeoutError) as error:
        raise _unreachable(what, error) from error
    except Exception as error:
        ours = error_of(what, error, exists=exists)
        if ours is None:
            raise
        raise ours from error


def error_of(what: str, error: Exception, *, exists: bool = True) -> OpenrtError | None:
    """Our error for one of the library's; None for one that is not the library's.

    Args:
        what: what was being done, for the message: ``could not WHAT``.
        error: what it raised.
        exists: whether it was done with a sandbox that has been made: then that is what is not
            found, else it is something that sandboxes are made of.
    """
    import modal.exception as theirs

    message = f"Could not {what}: {error}"
    if isinstance(error, theirs.AuthError | theirs.PermissionDeniedError):
        return AuthenticationError(message, hint=_TOKEN_HINT)
    if isinstance(error, theirs.AlreadyExistsError):
        return ProvisionError(message, code=ID_TAKEN)
    if isinstance(error, theirs.ResourceExhaustedError):
        return QuotaError(message)
    # A conflict is what a call on a sandbox that has ended gets.
    if isinstance(error, theirs.ConflictError | theirs.SandboxTerminatedError):
        return SandboxGoneError(message)
    if isinstance(error, theirs.NotFoundError) and not exists:
        return ProvisionError(message, hint=_ENVIRONMENT_HINT)
    if isinstance(error, theirs.NotFoundError | theirs.SandboxTimeoutError):
        return SandboxGoneError(message)
    if isinstance(error, theirs.ConnectionError | theirs.TimeoutError):
        return _unreachable(what, error)
    if isinstance(error, theirs.ImageBuildError | theirs.RemoteError):
        text = str(error).lower()
        kind = ImageNotFoundError if any(t in text for t in _NO_IMAGE) else ProvisionError
        return kind(message)
    if isinstance(error, theirs.ServiceError | theirs.InternalError):
        return ProvisionError(message, retryable=True)
    if isinstance(error, theirs.Error):
        return ProvisionError(message)
    return None


def _unreachable(what: str, error: Exception) -> EngineUnreachableError:
    return EngineUnreachableError(
        f"Could not {what}: Modal does not answer ({str(error) or type(error).__name__}).",
        hint="Is there a network, and is status.modal.com quiet? MODAL_SERVER_URL, when it is set, "
        "names another server.",
    )
