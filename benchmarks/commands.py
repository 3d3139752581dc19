"""One command, against the host's own subprocess.run, the Docker SDK's and Modal's exec.

    python -m benchmarks.commands [local] [docker] [modal]

docker wants OPENRT_TEST_IMAGE_BUSYBOX, modal OPENRT_TEST_ROOTFS_BUSYBOX and tests/ on PYTHONPATH.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.ratio import measure
from openrt_core import Sandbox

PAIRS = 200


def host() -> None:
    """The host's own way."""
    subprocess.run(["true"], capture_output=True, check=True)


def local() -> None:
    """Against the host."""
    with Sandbox.create("local") as sandbox:
        print(
            measure(lambda: sandbox.exec(["true"]), host, PAIRS).line(
                "local / subprocess.run", "2.0"
            )
        )


def docker() -> None:
    """Against the host, and against the SDK's exec_run in the same container."""
    import docker as sdk

    with Sandbox.create("docker", image=os.environ["OPENRT_TEST_IMAGE_BUSYBOX"]) as sandbox:
        print(
            measure(lambda: sandbox.exec(["true"]), host, PAIRS).line(
                "docker / subprocess.run", "2.0"
            )
        )
        container = sdk.from_env().containers.get(f"openrt-{sandbox.id}")
        ratio = measure(lambda: sandbox.exec(["true"]), lambda: container.exec_run(["true"]))
        print(ratio.line("docker / SDK exec_run", "1/30"))


def modal() -> None:
    """Against the modal library's own exec, on the same emulator."""
    import modal as sdk

    with emulated(), Sandbox.create("modal", image="benchmark") as sandbox:
        client = sdk.Client.from_credentials("ak-test", "as-test")
        found = sdk.Sandbox.from_name("openrt", sandbox.id, client=client)
        ratio = measure(
            lambda: sandbox.exec(["true"]),
            lambda: found.exec("true", text=False).wait(),
            100,
        )
        print(ratio.line("modal / library's exec (emulator)", "1.0"))


@contextlib.contextmanager
def emulated() -> Iterator[None]:
    """The emulator of the tests, and the variables that lead there."""
    from emulators.modal.emulator import Emulator

    with tempfile.TemporaryDirectory() as state:
        rootfs = os.environ["OPENRT_TEST_ROOTFS_BUSYBOX"]
        with Emulator(rootfs=rootfs, state=state) as emulator:
            os.environ.update(emulator.environment)
            os.environ.update(MODAL_API_TOKEN_ID="ak-test", MODAL_API_TOKEN_SECRET="as-test")
            yield


if __name__ == "__main__":
    for name in sys.argv[1:] or ("local", "docker", "modal"):
        {"local": local, "docker": docker, "modal": modal}[name]()
