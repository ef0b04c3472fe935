"""Run the same small studies at two commits on this machine and compare their results.

Every spec.json, result.json and history.npz is compared byte by byte: PPO, DQN and ES on CartPole,
the grid and Starpilot (a few iterations), each with the arms that exercise its rules. OTHER is the
working tree as it is, unless another commit is named. The first commit's checkout is a temporary
git worktree; both sides share a folder of compiled programs, so that only what has changed is
compiled twice.

The exit code is 1 if anything differs, 2 if a commit is unknown or a study fails.
"""

import argparse
import importlib.metadata
import importlib.util
import io
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from checkouts import WORKING_TREE, NotRun, checkout, find_commit, run_matrix, short
from jaxgen.system.platform import cpu_model

DIFFERENT, NOT_RUN = 1, 2
FILES = ("spec.json", "seed_*/result.json", "seed_*/history.npz")
FINISHED = "finished.json"
"""Written beside a study's results when they are complete: how they were made."""

MAX_LINES = 6
"""Differences of a file that are printed."""

GRADIENT_ARMS = ("baseline", "reg", "dr", "gar+reg", "gar-n", "gar-shuffle")
ES_ARMS = ("baseline", "reg", "dr", "gar+reg", "es-gar")
COMMON = ("--quiet", "--no-plots", "--device", "cpu", "--devices", "2")

_HASHED = re.compile(r"(.+)-[0-9a-f]{8}")


class Small(NamedTuple):
    """A study that trains in seconds: one invocation of ``matrix.py``, as --total-steps is."""

    algorithm: str
    environment: str
    total_steps: int
    arms: Sequence[str]
    flags: Sequence[str] = ("--seeds", "0", "1", "--probe", "--eval-episodes", "10")

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return f"{self.algorithm}-{self.environment}"

    @property
    def command(self) -> list[str]:
        """Flags of ``matrix.py``, all but the folder."""
        return [*COMMON, "--algo", self.algorithm, "--env", self.environment,
                "--total-steps", str(self.total_steps), "--technique", *self.arms, *self.flags]


# Procgen's games take no probe. --quick: DQN starts to learn after 198 steps instead of 20 000,
# and points of the curve are cheaper.
_GAMES = ("--seeds", "0", "--quick", "--eval-episodes", "2")
STUDIES = [
    # 20 iterations of PPO, a point of the curve each; DQN learns from the 16th of 40 on; ES: seven
    # generations, two points.
    Small("ppo", "cartpole", 7_680, GRADIENT_ARMS),
    Small("dqn", "cartpole", 2_640, GRADIENT_ARMS),
    Small("es", "cartpole", 30_000, ES_ARMS),
    # 10 iterations; 13, of which the last 8 learn; two generations.
    Small("ppo", "minigrid", 15_360, GRADIENT_ARMS),
    Small("dqn", "minigrid", 2_640, GRADIENT_ARMS),
    Small("es", "minigrid", 40_000, ES_ARMS),
    # One iteration; six, of which four learn; one generation.
    Small("ppo", "starpilot", 8_064, ("dr", "gar+reg"), _GAMES),
    Small("dqn", "starpilot", 594, ("dr", "gar+reg"), _GAMES),
    Small("es", "starpilot", 1_000, ("dr", "dr+reg"), _GAMES),
]
NAMES = [study.name for study in STUDIES]


class Side(NamedTuple):
    """A commit, and where its results lie."""

    commit: str
    results: Path


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("same_results.py", description=__doc__, formatter_class=raw)
    parser.add_argument("base", metavar="BASE", help="commit or branch")
    parser.add_argument("other", metavar="OTHER", nargs="?",
                        help="another one (default: the working tree)")
    parser.add_argument("--keep", type=Path, metavar="DIR",
                        help="folder of results and compiled programs: a commit that has been run "
                             "there by the same flags is not run again")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="STUDY", default=NAMES,
                        help=f"some of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--no-starpilot", action="store_true", help="leave procgen's games out")
    parser.add_argument("--except", dest="excepted", nargs="+", default=[], metavar="KEYPATH",
                        help="keys of the JSON files that may differ, with all below them, such as "
                             "config.gamma; seals and the folders' hashes may then differ too")
    return parser.parse_args(argv)


def chosen(args: argparse.Namespace) -> list[Small]:
    """The studies that are asked for and can be run; says what is left out for want of procgen."""
    studies = [study for study in STUDIES if study.name in args.only]
    games = [study for study in studies if study.environment == "starpilot"]
    missing = importlib.util.find_spec("procgen") is None
    if games and missing and not args.no_starpilot:
        print("starpilot: skipped, procgen is not installed")
    return [one for one in studies if not (one in games and (missing or args.no_starpilot))]


def how(study: Small) -> dict[str, Any]:
    """What results depend on beside the commit; those kept from another machine are made anew."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
    return {"command": study.command, "cpu": cpu_model(), "packages": packages}


def is_kept(study: Small, side: Side) -> bool:
    """Whether a commit's results of a study are there; never those of a working tree."""
    file = side.results / study.name / FINISHED
    return (side.commit != WORKING_TREE and file.exists()
            and json.loads(file.read_text()) == how(study))


def train(study: Small, side: Side, folder: Path, cache: Path) -> str:
    """Run a study anew from a checkout -> the seconds that it took."""
    results, began = side.results / study.name, time.perf_counter()
    shutil.rmtree(results, ignore_errors=True)
    run_matrix(folder, [*study.command, "--out", str(results)], cache)
    (results / FINISHED).write_text(json.dumps(how(study)))
    return f"{time.perf_counter() - began:.0f} s"


def compare(base: Path, other: Path, excepted: Sequence[str] = ()) -> tuple[int, list[str]]:
    """Compare the runs of two results folders -> how many files, a line for each difference."""
    ours, theirs = (_runs(folder) for folder in (base, other))
    compared, lines = 0, []
    for run in sorted(ours.keys() | theirs.keys()):
        if run not in ours or run not in theirs:
            lines.append(f"{run}: only in {'OTHER' if run in theirs else 'BASE'}")
            continue
        if ours[run].name != theirs[run].name and not excepted:
            lines.append(f"{run}: matched by name, as the hashes differ: "
                         f"{ours[run].name[-8:]}, {theirs[run].name[-8:]}")
        names = sorted({file.relative_to(folder).as_posix() for folder in (ours[run], theirs[run])
                        for pattern in FILES for file in folder.glob(pattern)})
        compared += len(names)
        for name in names:
            found = list(_differences(ours[run] / name, theirs[run] / name, excepted))
            more = [f"and {len(found) - MAX_LINES} more"] if len(found) > MAX_LINES else []
            lines += [f"{run}/{name}: {line}" for line in found[:MAX_LINES] + more]
    return compared, lines if compared else [*lines, "there is nothing to compare"]


def _names(results: Path) -> set[str]:
    return {folder.name for folder in results.glob("runs/*")}


def _runs(results: Path) -> dict[str, Path]:
    """The runs' folders by algorithm, environment and technique, without the hash."""
    found = {}
    for folder in sorted(results.glob("runs/*")):
        hashed = _HASHED.fullmatch(folder.name)
        found[hashed[1] if hashed else folder.name] = folder
    return found


def _differences(ours: Path, theirs: Path, excepted: Sequence[str]) -> Iterator[str]:
    for file, side in ((ours, "OTHER"), (theirs, "BASE")):
        if not file.exists():
            yield f"only in {side}"
            return
    data = ours.read_bytes(), theirs.read_bytes()
    if data[0] == data[1]:
        return
    if ours.suffix == ".npz":
        yield from _of_arrays(data[0], data[1]) or ["bytes differ, and no array"]
        return
    found = list(_of_json(json.loads(data[0]), json.loads(data[1]), excepted))
    # A seal differs as soon as anything does, so that it says nothing more.
    yield from [line for line in found if not line.startswith("sha256: ")] or (
        [] if excepted else found or ["bytes differ, and no value"]
    )


def _of_json(ours: Any, theirs: Any, excepted: Sequence[str]) -> Iterator[str]:
    """A line for each key whose value differs."""
    flat = [{path: value for path, value in _leaves(one) if not _is_below(path, excepted)}
            for one in (ours, theirs)]
    for path in sorted(flat[0].keys() | flat[1].keys()):
        before, after = (one.get(path, "absent") for one in flat)
        if before != after:
            yield f"{path}: {before} -> {after}"


def _is_below(path: str, tops: Sequence[str]) -> bool:
    return any(path == top or path.startswith(f"{top}.") for top in tops)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted paths of keys and indices with the JSON of what has no further ones below it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
        value, list) else ()
    for key, item in inner:
        yield from _leaves(item, f"{path}.{key}" if path else str(key))
    if not inner:
        yield path, json.dumps(value)


def _of_arrays(base: bytes, other: bytes) -> list[str]:
    """A line for each array that differs, with how many of its entries and by how much."""
    ours, theirs = ({**np.load(io.BytesIO(one), allow_pickle=False)} for one in (base, other))
    lines = []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            lines.append(f"{name}: only in {'OTHER' if name in theirs else 'BASE'}")
            continue
        before, after = ours[name], theirs[name]
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            lines.append(f"{name}: {before.dtype}{list(before.shape)} -> "
                         f"{after.dtype}{list(after.shape)}")
        elif before.tobytes() != after.tobytes():
            lines.append(f"{name}: {_by_how_much(before, after)}")
    return lines


def _by_how_much(before: np.ndarray, after: np.ndarray) -> str:
    with np.errstate(invalid="ignore"):
        gaps = np.abs(after.astype(np.float64) - before.astype(np.float64))
    # A number and its lack differ; a lack on both sides does not, nor do infinities of one sign.
    lacks = np.isnan(before) & np.isnan(after)
    differ = (before != after) & ~lacks
    known = gaps[differ & np.isfinite(gaps)]
    most = f" by at most {known.max():.3g}" if known.size else ""
    if not differ.any():
        return "bytes differ, and no number"
    return f"{differ.sum()} of {before.size} differ{most}"


def run(args: argparse.Namespace, home: Path) -> int:
    """Run and compare study after study; returns the exit code."""
    commits = [find_commit(name) for name in (args.base, args.other)]
    sides = [Side(commit, home / short(commit).replace(" ", "-")) for commit in commits]
    print(f"{short(commits[0])} (BASE), {short(commits[1])} (OTHER)", flush=True)
    code = 0
    with ExitStack() as stack:
        folders: dict[str, Path] = {}
        for study in chosen(args):
            took = []
            for side in sides:
                if is_kept(study, side):
                    took.append("kept")
                    continue
                if side.commit not in folders:
                    folders[side.commit] = stack.enter_context(checkout(side.commit))
                took.append(train(study, side, folders[side.commit], home / "cache"))
            ours, theirs = (side.results / study.name for side in sides)
            number, lines = compare(ours, theirs, args.excepted)
            verdict = "identical" if not lines else f"{len(lines)} differences"
            if not lines and _names(ours) != _names(theirs):
                verdict += " but for the folders' hashes (matched by name)"
            print(f"{study.name}: {number} files, {verdict} ({', '.join(took)})", flush=True)
            for line in lines:
                print(f"  {line}", flush=True)
            code = DIFFERENT if lines else code
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code says how it went."""
    args = parse(argv)
    try:
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
            return run(args, args.keep.absolute())
        with tempfile.TemporaryDirectory(prefix="jaxgen-same-") as home:
            return run(args, Path(home))
    except NotRun as error:
        print(f"same_results.py: {error}", file=sys.stderr)
        return NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
