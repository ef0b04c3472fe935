"""Learning curves from anywhere beside each other: one table and one figure.

A source is a file ``evaluations.npz`` as stable-baselines3 writes it (``timesteps`` ``[P]``,
``results`` ``[P, E]``), a folder with some of them, a seed each, or a results folder.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from scipy import stats

from jaxgen.evaluation.statistics import half_width
from jaxgen.report.practice.pictures import draw_curves
from jaxgen.report.style import Curve, evaluations, to_png
from jaxgen.results.read import read_records
from jaxgen.results.store import MARKER, open_store
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, load_json, write_bytes

EVALUATIONS = "evaluations.npz"
SEED = re.compile(r"seed_?(\d+)$")
LEVEL = 0.95


class Curves(NamedTuple):
    """Learning curves of one thing: mean greedy returns of its seeds."""

    name: str
    by_seed: dict[int | str, Curve]
    """A seed's number, where the names of files say it; a name otherwise."""
    environment: str = ""
    """"": not known."""

    def at(self, steps: float) -> dict[int | str, float]:
        """Each seed's mean return after so many env steps, between two points linearly."""
        return {seed: float(np.interp(steps, *curve)) for seed, curve in self.by_seed.items()}


class Difference(NamedTuple):
    """A mean difference with half of its 95 % interval."""

    mean: float
    half: float
    num_pairs: int
    """Seeds that both have; 0: they share none, and the interval is Welch's."""


def is_source(path: Path) -> bool:
    """Whether a path holds curves but no results folder of its own."""
    if path.name.endswith(".npz"):
        return True
    return path.is_dir() and not (path / MARKER).exists() and any(path.rglob(EVALUATIONS))


def read_curves(path: Path, name: str) -> list[Curves]:
    """The curves of a source; of a results folder those of each of its arms.

    Raises:
      BadInput: there is none, or a file is no such one.
    """
    if path.is_dir() and (path / MARKER).exists():
        return _of_store(path, name)
    files = sorted(path.rglob(EVALUATIONS)) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path} holds no {EVALUATIONS}; give such a file, or a results folder")
    by_seed: dict[int | str, Curve] = {}
    for file in files:
        seed = _seed_of(file)
        if seed in by_seed or len(files) > 1 and isinstance(seed, str):
            raise BadInput(
                f"{path} holds several trainings, or {file} says no seed; give their folders one "
                "by one, each with a name"
            )
        by_seed[seed] = _curve(file)
    return [Curves(name, by_seed)]


def _seed_of(file: Path) -> int | str:
    """The seed that a file's folder is named by, or that lies beside it; its path otherwise."""
    match = SEED.search(file.parent.name)
    if match:
        return int(match.group(1))
    with suppress(DamagedFile):
        training = load_json(file.with_name("seeds.json")).get("training")
        if isinstance(training, list) and len(training) == 1:
            return int(training[0])
    return str(file)


def _curve(file: Path) -> Curve:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            steps = np.asarray(arrays["timesteps"], np.float64)
            results = np.asarray(arrays["results"], np.float64)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise BadInput(
            f"{file} is no file of evaluations ({error}); it must hold timesteps [P] and results "
            "[P, E]"
        ) from error
    if steps.ndim != 1 or results.ndim != 2 or len(steps) != len(results) or not len(steps):
        raise BadInput(
            f"{file} holds timesteps {list(steps.shape)} and results {list(results.shape)}; they "
            "must be [P] and [P, E], with P at least 1"
        )
    if not results.shape[1] or not np.isfinite(results).all() or (np.diff(steps) <= 0).any():
        raise BadInput(
            f"{file}: timesteps must increase, and results must be finite, of one episode or more"
        )
    return steps, results.mean(1)


def _of_store(path: Path, name: str) -> list[Curves]:
    records, _ = read_records(open_store(path, create=False))
    arms: dict[str, Curves] = {}
    for record in records:
        curve = None if record.diverged else evaluations(record.load_history())
        if curve is not None:
            label = f"{name}: {record.algorithm} {record.environment} {record.arm}"
            own = arms.setdefault(record.name, Curves(label, {}, record.environment))
            own.by_seed[record.seed] = curve
    if not arms:
        raise BadInput(f"{path} holds no learning curve of a run that did not diverge")
    if len(arms) == 1:
        return [next(iter(arms.values()))._replace(name=name)]
    counts = Counter(each.name for each in arms.values())
    # Runs of one arm with other budgets or starts are told apart by their hashes.
    return [
        each if counts[each.name] == 1 else each._replace(name=f"{each.name} {run[-8:]}")
        for run, each in arms.items()
    ]


def difference(first: Mapping[int | str, float], second: Mapping[int | str, float]) -> Difference:
    """Second less first, paired by the seeds that both have, or Welch's where they share fewer
    than two."""
    shared = [seed for seed in first if seed in second]
    if len(shared) >= 2:
        each = np.array([second[seed] - first[seed] for seed in shared])
        return Difference(float(each.mean()), half_width(each), len(shared))
    a, b = (np.array(list(values.values())) for values in (first, second))
    mean = float(b.mean() - a.mean())
    if min(len(a), len(b)) < 2:
        return Difference(mean, float("nan"), 0)
    parts = [x.var(ddof=1) / len(x) for x in (a, b)]
    if sum(parts) == 0:
        return Difference(mean, 0.0, 0)
    degrees = sum(parts) ** 2 / sum(
        part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True)
    )
    quantile = float(stats.t.ppf(0.5 + LEVEL / 2, degrees))
    return Difference(mean, quantile * float(np.sqrt(sum(parts))), 0)


def table_of(curves: Sequence[Curves]) -> list[list[str]]:
    """Rows of a table with its head: returns at the last step that all have, and differences."""
    steps = last_common_step(curves)
    _check_comparable(curves, steps)
    first = curves[0].at(steps)
    rows = [["name", "n", f"return after {steps:,.0f} env steps", f"less {curves[0].name}",
             "pairs"]]  # fmt: skip
    for each in curves:
        values = each.at(steps)
        numbers = list(values.values())
        half = f" +- {half_width(numbers):.5g}" if len(numbers) > 1 else ""
        row = [each.name, str(len(numbers)), f"{np.mean(numbers):.5g}{half}"]
        if each is not curves[0]:
            mean, half_of, pairs = difference(first, values)
            interval = "" if np.isnan(half_of) else f" +- {half_of:.5g}"
            row += [f"{mean:+.5g}{interval}", str(pairs) if pairs else "unpaired"]
        rows.append(row + [""] * (len(rows[0]) - len(row)))
    return rows


def _check_comparable(curves: Sequence[Curves], steps: float) -> None:
    """Raise BadInput where sources are of several environments, or share no stretch of training."""
    places = sorted({each.environment for each in curves if each.environment})
    if len(places) > 1:
        raise BadInput(f"sources are of {', '.join(places)}; compare one environment at a time")
    for each in curves:
        for curve in each.by_seed.values():
            if curve[0][0] > steps:
                raise BadInput(
                    f"{each.name} begins after {curve[0][0]:,.0f} env steps, another ends after "
                    f"{steps:,.0f}; compare curves that overlap"
                )


def last_common_step(curves: Sequence[Curves]) -> float:
    """The last env step that every seed of every source has reached."""
    return min(float(curve[0][-1]) for each in curves for curve in each.by_seed.values())


def write_comparison(curves: Sequence[Curves], folder: Path) -> list[Path]:
    """Write comparison.md, comparison.csv and comparison.png.

    Returns:
      Their paths.
    """
    rows = table_of(curves)
    names = [each.name for each in curves]
    if len(set(names)) < len(names):
        raise BadInput(f"names {', '.join(names)} are not different; tell them apart by --names")
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    note = (
        "Means over n seeds with 95 % t intervals; differences are of the seeds that both have, or "
        "of all (Welch) where they share fewer than two. Sources may have been evaluated on other "
        "episodes."
    )
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    drawn = {each.name: list(each.by_seed.values()) for each in curves}
    figure = draw_curves(drawn, "Learning curves", False)
    files = {
        "comparison.md": "\n".join([*lines, "", note, ""]).encode(),
        "comparison.csv": stream.getvalue().encode(), "comparison.png": to_png(figure),
    }  # fmt: skip
    for name, data in files.items():
        write_bytes(folder / name, data)
    return [folder / name for name in files]
