"""Many commands of one client: 2,000 submitted at once, and 1,000 that wait.

python -m benchmarks.many [local] [docker]
"""

from __future__ import annotations

import concurrent.futures
import gc
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

from openrt_core import OutputMode, Sandbox

AT_ONCE = 2000
WAITING = 1000


def memory() -> int:
    """Resident bytes of this process."""
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def host_rate() -> float:
    """Commands a second of the host's own fork+exec, as many at once as there are cores."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        begin = time.perf_counter()
        list(pool.map(lambda _: subprocess.Popen(["true"]).wait(), range(AT_ONCE)))
        return AT_ONCE / (time.perf_counter() - begin)


def our_rate(sandbox: Sandbox) -> float:
    """Commands a second when all are submitted at once."""
    begin = time.perf_counter()
    running = [sandbox.start(["true"], output=OutputMode.CAPTURE) for _ in range(AT_ONCE)]
    if not all(process.wait().ok for process in running):
        raise SystemExit("a command failed")
    return AT_ONCE / (time.perf_counter() - begin)


def report(name: str) -> None:
    """The figures of one runtime."""
    image = os.environ["OPENRT_TEST_IMAGE_BUSYBOX"] if name == "docker" else None
    with Sandbox.create(name, image=image) as sandbox:
        # First, for memory that the other part frees would be used again unseen.
        sandbox.exec("true")
        before, threads = memory(), threading.active_count()
        waiting = [sandbox.start(["sleep", "1000"]) for _ in range(WAITING)]
        each = (memory() - before) / WAITING
        print(
            f"{name}: {WAITING} waiting: {each / 1000:.1f} KB each, "
            f"{threading.active_count() - threads} threads more  bar 100 KB, none"
        )
        for process in waiting:
            process.kill()
        for process in waiting:
            process.wait(60)
        our_rate(sandbox)
        ratios = sorted(our_rate(sandbox) / host_rate() for _ in range(7))
        print(
            f"{name}: {AT_ONCE} at once / host's fork+exec: {statistics.median(ratios):.2f} "
            f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]  bar 0.6"
        )


if __name__ == "__main__":
    for runtime in sys.argv[1:] or ("local", "docker"):
        report(runtime)
