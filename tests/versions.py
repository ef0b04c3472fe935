"""Run the test suite under several versions of Python and of the packages, on this machine.

Python 3.11, 3.12 and 3.13 (which procgen has no wheels for), each with the locked versions
(requirements.lock) and with the newest that pyproject.toml allows; on a CPU without the series of
jax that are known to be wrong there. Each environment is made anew in the folder of --envs, with
its log beside it. Interpreters are found, never downloaded; uv installs (pip install uv).

The exit code is 1 if anything failed or an interpreter is missing, 2 for bad input.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jaxgen.system.platform import KNOWN_BAD

ROOT = Path(__file__).resolve().parents[1]
NAMES = [f"3.{minor}-{versions}" for minor in (11, 12, 13) for versions in ("locked", "newest")]
PACKAGES = ("jax", "flax", "numpy", "orbax-checkpoint")
"""Whose versions the table shows."""

OK, NOT_FOUND = "ok", "no interpreter"
FAILED, BAD_INPUT = 1, 2


class Outcome(NamedTuple):
    """What became of an environment."""

    name: str
    verdict: str = NOT_FOUND
    versions: dict[str, str] = {}
    counts: Sequence[object] = ("-", "-", "-")
    """Passed, failed, skipped."""
    seconds: float = 0.0
    log: Path | str = "-"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("versions.py", description=__doc__, formatter_class=raw)
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", default=NAMES,
                        help=f"some of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--pytest", default="-q -n 2 --dist loadfile", metavar="ARGS",
                        help="pytest's arguments (default: '%(default)s'); one alone: --pytest=-q")
    parser.add_argument("--envs", type=Path, metavar="DIR",
                        help="folder of the environments and logs (default: a new temporary one)")
    parser.add_argument("--gpu", nargs="?", const="cuda12", metavar="EXTRA",
                        help="test on a GPU, with this extra of jax (default: %(const)s) and "
                             "whatever jax pyproject.toml allows")
    parser.add_argument("--skip-missing", action="store_true",
                        help="a missing interpreter is no failure")
    parser.add_argument("--list", action="store_true", help="print the plan and stop")
    return parser.parse_args(argv)


def find_uv() -> list[str] | None:
    """The command that is uv, if it is installed."""
    module = [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else None
    return [found] if (found := shutil.which("uv")) else module


def find_python(version: str, uv: Sequence[str] | None) -> str | None:
    """An interpreter of a version such as 3.12: by name, of pyenv, or one that uv knows."""
    name, code = f"python{version}", "import sys; print('%d.%d' % sys.version_info[:2])"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [shutil.which(name), *map(str, pyenv.glob(f"versions/{version}.*/bin/{name}"))]
    if uv:
        candidates.append(_output([*uv, "python", "find", "--no-python-downloads", version]))
    # What is found by name may be a shim that starts nothing.
    return next((one for one in candidates if one and _output([one, "-c", code]) == version), None)


def _output(command: Sequence[str]) -> str | None:
    """What a command prints, or None where it fails."""
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def bounds(gpu: str | None) -> dict[str, list[str]]:
    """What goes beside the ranges of pyproject.toml: options of uv, and lines of their files."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    bad = [f"{name}!={series}.*" for name in ("jax", "jaxlib") for series in KNOWN_BAD]
    return {"--overrides": settings["override-dependencies"], "--constraints": [] if gpu else bad}


def requirements(name: str, folder: Path, gpu: str | None) -> list[str]:
    """What ``uv pip install`` is to install; the folder has the files of `bounds`."""
    locked = name.endswith("locked")
    found = ["-r", "requirements.lock", "-e", "."] if locked else ["-e", ".[test,starpilot,watch]"]
    if locked and not gpu:
        return ["--no-deps", *found]
    files = [word for option in bounds(gpu) for word in (option, f"{folder / option[2:]}.txt")]
    return [*found, *([f"jax[{gpu}]"] if gpu else []), *files]


def run_suite(name: str, python: str, uv: Sequence[str], args: argparse.Namespace) -> Outcome:
    """Make an environment anew and run the suite in it; what is printed goes into its log."""
    home, log, report = (args.envs / f"{name}{ending}" for ending in ("", ".log", ".xml"))
    own = str(home / "bin" / "python")
    for option, lines in bounds(args.gpu).items():
        (args.envs / f"{option[2:]}.txt").write_text("\n".join(lines))
    if (home / "pyvenv.cfg").exists():
        shutil.rmtree(home)
    report.unlink(missing_ok=True)
    # --no-config: pyproject.toml's own constraints are those of the locked versions. --seed: pip,
    # which the notebooks use.
    steps = {
        "not made": [*uv, "venv", "--no-config", "--seed", "--python", python, str(home)],
        "not installed": [*uv, "pip", "install", "--no-config", "--python", own,
                          *requirements(name, args.envs, args.gpu)],
        "failed": [own, "-m", "pytest", f"--junitxml={report}", *shlex.split(args.pytest)],
    }  # fmt: skip
    began = time.perf_counter()
    with log.open("w") as stream:
        verdict = next((step for step in steps if not _succeeds(steps[step], stream, args.gpu)), OK)
    seconds = time.perf_counter() - began
    return Outcome(name, verdict, installed(home), counts(report), seconds, log)


def _succeeds(command: Sequence[str], log: TextIO, gpu: str | None) -> bool:
    outer = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if name not in outer}
    variables |= {"JAXGEN_TEST_DEVICE": "gpu"} if gpu else {}
    print("+", shlex.join(command), file=log, flush=True)
    done = subprocess.run(command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT)
    return done.returncode == 0


def installed(home: Path) -> dict[str, str]:
    """The versions of all packages of an environment."""
    packages = [str(folder) for folder in home.glob("lib/python*/site-packages")]
    return {one.name: one.version for one in importlib.metadata.distributions(path=packages)}


def counts(report: Path) -> Sequence[object]:
    """How many tests passed, failed and were skipped, as pytest's report says, if there is one."""
    if not report.exists():
        return "-", "-", "-"
    (suite,) = ElementTree.parse(report).iter("testsuite")
    fields = ("tests", "failures", "errors", "skipped")
    total, failures, errors, skipped = (int(suite.get(field, 0)) for field in fields)
    return total - failures - errors - skipped, failures + errors, skipped


def table(outcomes: Sequence[Outcome]) -> str:
    """A line for each environment."""
    rows = [["environment", *PACKAGES, "passed", "failed", "skipped", "seconds", "verdict", "log"]]
    for one in outcomes:
        held = [one.versions.get(package, "-") for package in PACKAGES]
        how = [*map(str, one.counts), f"{one.seconds:.0f}", one.verdict, str(one.log)]
        rows.append([one.name, *held, *how])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code says how it went."""
    args, uv = parse(argv), find_uv()
    if uv is None and not args.list:
        print("versions.py: uv is missing; install it: pip install uv", file=sys.stderr)
        return BAD_INPUT
    pythons = {name: find_python(name.split("-")[0], uv) for name in NAMES if name in args.only}
    if args.list:
        for name, python in pythons.items():
            words = shlex.join(requirements(name, Path(), args.gpu))
            print(f"{name}: {python or NOT_FOUND}; {words}")
        for option, lines in bounds(args.gpu).items():
            print(f"{option[2:]}.txt: {' '.join(lines)}")
        return 0
    args.envs = (args.envs or Path(tempfile.mkdtemp(prefix="jaxgen-versions-"))).absolute()
    args.envs.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for name, python in pythons.items():
        print(f"{name}: {python or NOT_FOUND} ...", flush=True)
        outcomes.append(run_suite(name, python, uv, args) if python and uv else Outcome(name))
    print(table(outcomes))
    fine = (OK, NOT_FOUND) if args.skip_missing else (OK,)
    return 0 if all(one.verdict in fine for one in outcomes) else FAILED


if __name__ == "__main__":
    sys.exit(main())
