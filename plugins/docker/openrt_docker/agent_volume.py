"""The agent's program in a named volume of the engine, filled once for each engine and version.

A volume, because copying the program into each container costs 70 ms, and because a bind would
need a path of the engine's machine, which may not be ours.
"""

from __future__ import annotations

import io
import tarfile
import threading
from typing import TYPE_CHECKING

from openrt_agent.binary import agent_digest, agent_path
from openrt_core.errors import OpenrtError, ProvisionError
from openrt_docker import labels
from openrt_docker.engine import Engine, is_missing, translated

if TYPE_CHECKING:
    from docker.models.containers import Container

FOLDER = "/.openrt"
"""Where the volume lies in the sandbox."""
PROGRAM = f"{FOLDER}/openrt-agent"
_COMPLETE = f"{FOLDER}/complete"


class AgentVolumes:
    """The volumes of one engine that are known to be filled. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._filled: set[str] = set()

    def ready(self, image: str, arch: str) -> str:
        """The name of the filled volume for an architecture.

        Args:
            image: any image that the engine has; nothing of it runs.
            arch: as the engine calls it, ``amd64`` or ``arm64``.

        Raises:
            ProvisionError: the engine would not.
        """
        name = f"openrt-agent-{agent_digest(arch)[:20]}"
        with self._lock:
            if name not in self._filled:
                self._fill(name, image, arch)
                self._filled.add(name)
        return name

    def forget(self) -> None:
        """Looks again at the next sandbox: somebody may have pruned the volumes."""
        with self._lock:
            self._filled.clear()

    def _fill(self, name: str, image: str, arch: str) -> None:
        """Fills the volume through a container that is never started, unless it is full.

        Two processes that do it at once write the same bytes; the engine replaces files, it does
        not write into them.
        """
        client = self._engine.client()
        with translated("make the volume of the agent"):
            client.volumes.create(name=name, labels={labels.AGENT: arch})
            container = client.containers.create(
                image,
                entrypoint=["/none"],
                command=[],
                labels={labels.AGENT: arch, labels.OWNER: labels.owner()},
                network_mode="none",
                volumes={name: {"bind": FOLDER, "mode": "rw"}},
            )
        try:
            if not self._is_complete(container):
                with translated("copy the agent into its volume"):
                    program = agent_path(arch).read_bytes()
                    if not container.put_archive(FOLDER, _archive("openrt-agent", program)):
                        raise ProvisionError("The engine did not take the agent.")
                    # Last, so that who sees it sees a whole program.
                    container.put_archive(FOLDER, _archive("complete", b""))
        finally:
            with translated("remove the container that filled the agent's volume"):
                # With the volumes that the image declares.
                container.remove(force=True, v=True)

    def _is_complete(self, container: Container) -> bool:
        try:
            with translated("look into the agent's volume"):
                stream, _ = container.get_archive(_COMPLETE)
                for _ in stream:
                    pass
        except OpenrtError as error:
            if is_missing(error):
                return False
            raise
        return True


def _archive(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        entry.mode = 0o755
        tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
