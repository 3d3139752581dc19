"""``python -m emulators.modal --rootfs DIR --state DIR`` serves until it is told to end.

Emulated: credentials, apps, images (each is the rootfs), secrets, mounts of local files,
sandboxes of the newer kind with lifetime, name and tags, and commands in them. Refused as
UNIMPLEMENTED: PTYs, volumes, tunnels, snapshots, GPUs, the file system API (it needs a tool of
Modal's in the image). Ignored: resources, regions, idle_timeout. A network allowlist closes the
network altogether.

Could not be compared with the real service: what becomes of a command's streams and exit status
when its sandbox ends (see router.py), and which descendants a command's time limit kills: here
its process group. Needs bubblewrap and nsenter of util-linux 2.38; run as root, sandboxes have
root's capabilities.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from emulators.modal.server import serve

TOKENS_VARIABLE = "MODAL_EMULATOR_TOKENS"
"""Names the variable with the accepted credentials: ``id:secret,id:secret``."""
DEFAULT_TOKEN = "ak-test:as-test"


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="emulators.modal", description="Emulates Modal's sandboxes."
    )
    parser.add_argument(
        "--rootfs", type=Path, required=True, help="root file system of every image"
    )
    parser.add_argument(
        "--state", type=Path, required=True, help="folder for sandboxes and uploads"
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)"
    )
    parser.add_argument("--lifetime", type=float, help="seconds until the emulator ends by itself")
    parser.add_argument(
        "--obey", action="store_true", help="take a test's orders from stdin, and end when it ends"
    )
    options = parser.parse_args()
    if not options.rootfs.is_dir():
        parser.error(f"no such folder: {options.rootfs}")
    tokens = os.environ.get(TOKENS_VARIABLE) or DEFAULT_TOKEN
    pairs = (token.partition(":") for token in tokens.split(","))
    asyncio.run(
        serve(
            options.rootfs.resolve(),
            options.state.resolve(),
            port=options.port,
            credentials={token_id: secret for token_id, _, secret in pairs},
            lifetime=options.lifetime,
            obey=options.obey,
        )
    )


if __name__ == "__main__":
    main()
