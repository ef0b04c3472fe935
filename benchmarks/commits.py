"""The speed of two commits: the six programs of the default matrix at a tenth of their budgets.

Both commits run in turn, in pairs whose order alternates, each in a process of its own with an
empty compilation cache. A ratio is OTHER's seconds by BASE's in a pair, and what is reported is the
median over pairs; below 1 OTHER is faster. OTHER is the working tree unless a commit is named.
``list`` is the plan alone, which must not import JAX.
"""

import argparse
import compileall
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from checkouts import NotRun, checkout, find_commit, run_matrix, short
from harness import HERE, PACKAGES, hardware, write_records
from jaxgen import preset
from matrix import program_seconds
from worker import timed, versions

PROGRAMS = [f"{algorithm}-{environment}" for environment in ("cartpole", "minigrid")
            for algorithm in ("ppo", "dqn", "es")]  # fmt: skip
LIST = "list"
SHARE = 10
"""A program's budget is the preset's divided by it."""

PHASES = ("wall", "compile", "train", "evaluate")
"""``wall`` is the process from start to end; the others as the runs' provenance has them."""

Seconds = dict[str, float]
Turn = Callable[[Path, Path], Seconds]
"""Runs once, of a checkout and with an empty folder -> seconds of each phase."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("commits.py", description=__doc__, formatter_class=raw)
    parser.add_argument("base", metavar="BASE", help="commit or branch")
    parser.add_argument("other", metavar="OTHER", nargs="?",
                        help="another one (default: the working tree)")
    parser.add_argument("--pairs", type=int, default=5, metavar="N",
                        help="turns of each commit (default %(default)s)")
    names = [*PROGRAMS, LIST]
    parser.add_argument("--programs", nargs="+", choices=names, metavar="NAME", default=names,
                        help=f"some of {', '.join(names)} (default: all)")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "quick",
                        help="folder of commits.jsonl (default: benchmarks/results/quick)")
    args = parser.parse_args(argv)
    if args.pairs < 1:
        parser.error(f"--pairs {args.pairs} is not allowed; use 1 or more")
    return args


def flags(program: str) -> list[str]:
    """Arguments of ``matrix.py``: the default suite and seeds, little evaluation."""
    algorithm, environment = program.split("-")
    steps = preset(algorithm, environment).total_steps // SHARE
    return ["--algo", algorithm, "--env", environment, "--total-steps", str(steps),
            "--eval-episodes", "10", "--no-plots", "--quiet"]


def train(program: str, folder: Path, empty: Path) -> Seconds:
    """Train a program of a checkout, compilation included."""
    results = empty / "results"
    wall, _ = timed(
        lambda: run_matrix(folder, [*flags(program), "--out", str(results)], empty / "cache")
    )
    programs = program_seconds(results).values()
    return {"wall": wall} | {
        phase: sum(seconds[phase] for seconds in programs) for phase in PHASES[1:]
    }


def plan(folder: Path, empty: Path) -> Seconds:
    """Print the plan of the default matrix."""
    return {"wall": timed(lambda: run_matrix(folder, ["--list"], empty))[0]}


def plan_imports_jax(folder: Path, empty: Path) -> bool:
    """Whether printing the plan imports JAX."""
    said = run_matrix(folder, ["--list"], empty, python=("-X", "importtime")).stderr
    return re.search(r"^import time:.*\| +jax$", said, re.MULTILINE) is not None


def take_turns(turn: Turn, folders: Sequence[Path], pairs: int) -> list[list[Seconds]]:
    """Time pairs of turns, (BASE, OTHER), of which every other one is run the other way round."""
    taken = []
    for pair in range(pairs):
        seconds: dict[int, Seconds] = {}
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            with tempfile.TemporaryDirectory(prefix="jaxgen-turn-") as empty:
                seconds[side] = turn(folders[side], Path(empty))
        taken.append([seconds[0], seconds[1]])
    return taken


def summary(pairs: Sequence[Sequence[Seconds]]) -> dict[str, Any]:
    """Medians of both sides and of the paired ratios, by phase, with the ratios' range."""
    by_phase: dict[str, Any] = {}
    for phase in pairs[0][0]:
        base, other = ([pair[side][phase] for pair in pairs] for side in (0, 1))
        ratios = [after / before for before, after in zip(base, other) if before > 0]
        by_phase[phase] = {
            "base": statistics.median(base), "other": statistics.median(other),
            "ratio": statistics.median(ratios) if ratios else None,
            "lowest": min(ratios, default=None), "highest": max(ratios, default=None),
        }
    return by_phase


def table(records: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: a line per program and phase."""
    lines = ["| program | phase | BASE s | OTHER s | OTHER / BASE | range |",
             "|---|---|---|---|---|---|"]
    for record in records:
        for phase, medians in record["phases"].items():
            ratio, span = "-", "-"
            if medians["ratio"] is not None:
                ratio = f"{medians['ratio']:.3f}"
                span = f"{medians['lowest']:.3f} to {medians['highest']:.3f}"
            lines.append(f"| {record['case']} | {phase} | {medians['base']:.2f} "
                         f"| {medians['other']:.2f} | {ratio} | {span} |")
    return "\n".join(lines)


def measure(program: str, folders: Sequence[Path], commits: Sequence[str], pairs: int
            ) -> dict[str, Any]:  # fmt: skip
    """Measure a program (or ``list``) at both commits -> its record."""
    turn: Turn = plan if program == LIST else lambda folder, empty: train(program, folder, empty)
    taken = take_turns(turn, folders, pairs)
    record: dict[str, Any] = {
        "benchmark": "commits", "case": program, "base": commits[0], "other": commits[1],
        "phases": summary(taken), "pairs": taken, "hardware": hardware(),
        "flags": ["--list"] if program == LIST else flags(program),
        "versions": versions(PACKAGES), "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    if program == LIST:
        with tempfile.TemporaryDirectory() as empty:
            record["imports_jax"] = [plan_imports_jax(folder, Path(empty)) for folder in folders]
    return record


def run(args: argparse.Namespace) -> None:
    """Measure, print and write, program after program."""
    commits = [find_commit(name) for name in (args.base, args.other)]
    print(f"{short(commits[0])} (BASE), {short(commits[1])} (OTHER), {args.pairs} pairs")
    records = []
    with ExitStack() as stack:
        folders = [stack.enter_context(checkout(commit)) for commit in commits]
        for folder in folders:
            # Otherwise the first turn of a new checkout would do it.
            compileall.compile_dir(folder, quiet=2)
        for program in args.programs:
            began = time.perf_counter()
            records.append(measure(program, folders, commits, args.pairs))
            print(f"{program}: {time.perf_counter() - began:.0f} s", flush=True)
            write_records(args.out / "commits.jsonl", records)
    print("\n" + table(records))
    for record in records:
        for side, imported in zip(("BASE", "OTHER"), record.get("imports_jax", ())):
            print(f"{side}: --list {'imports' if imported else 'does not import'} JAX")
    print(f"\nwritten: {args.out / 'commits.jsonl'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 2 if a commit is unknown or does not run."""
    try:
        run(parse(argv))
    except NotRun as error:
        print(f"commits.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
