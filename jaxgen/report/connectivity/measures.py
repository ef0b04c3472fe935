"""Lines as rows of numbers, and rows as verdicts."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.evaluation.connectivity.line import barrier, measure_falls
from jaxgen.evaluation.connectivity.verdict import Verdict, judge, learned
from jaxgen.results.lines import Line
from jaxgen.results.table import table_text
from jaxgen.system.errors import BadInput

TABLE = "connectivity.csv"
"""The file of rows in a results folder."""
COLUMNS = (
    "environment", "algorithm", "arm", "strategy", "path", "point", "seed", "number", "level",
    "first", "second", "learned", "distance", "barrier", "standard_error", "valley", "area",
    "middle", "largest_fall", "instability", "stable_as_specified", "td_rise", "td_rise_both",
    "correlation", "a_ood", "parent", "quick",
)  # fmt: skip
"""``first`` and ``second`` are the returns of the ends. Falls are in shares of the scale, from
random play to the ceiling, but for ``instability``: the specified mean of the ends less the lowest
return on the line, in returns, which is stable below 5 % of that mean. Rises are the most by which
the TD error of the critics, and of critics and policies, is above the straight line between the
ends'; the correlation is the least one. They are at level 0 and stand in the first row of a line,
as does the mean A_ood of both ends.
"""
SPECIFIED_SHARE = 0.05

Row = dict[str, Any]


class Key(NamedTuple):
    """A cell: everything that its parents share."""

    environment: str
    algorithm: str
    arm: str
    strategy: str
    path: str
    point: float | None
    level: float


def rows_of(line: Line, a_ood: float | None = None) -> list[Row]:
    """A row for each level of a line; falls of ends that did not learn are null.

    Args:
      line: what was walked.
      a_ood: mean of both ends, where they are ends of runs.
    """
    meta, returns = line.meta, line.returns[None]
    falls = measure_falls(returns, meta["alphas"])
    ends = line.returns[[0, -1]].astype(np.float64)
    means = line.returns.mean(2, dtype=np.float64)
    largest = barrier(returns, meta["alphas"])[0]
    rows, once = [], _of_critics(line) | {"a_ood": a_ood}
    for k, level in enumerate(meta["levels"]):
        scale = float(line.ceiling[k] - line.floor[k])
        known = bool(learned(ends[None, :, k], float(line.floor[k]))[0])
        measured = {
            "barrier": falls.barrier[0, k], "standard_error": falls.standard_error[0, k],
            "valley": falls.valley[0, k], "area": falls.area[0, k],
            "middle": falls.middle[0, k], "largest_fall": largest[k],
        }  # fmt: skip
        of_ends = means[[0, -1], k]
        instability = float(of_ends.mean() - means[:, k].min())
        rows.append({
            **{name: meta[name] for name in COLUMNS[:8]}, "level": level,
            "first": float(of_ends[0]), "second": float(of_ends[1]), "learned": known,
            "distance": line.distance,
            **{n: float(value) / scale if known else None for n, value in measured.items()},
            "instability": instability,
            "stable_as_specified": instability < SPECIFIED_SHARE * float(of_ends.mean()),
            **{name: value if k == 0 else None for name, value in once.items()},
            "parent": meta["parent"], "quick": meta["quick"],
        })  # fmt: skip
    return rows


def _of_critics(line: Line) -> dict[str, float | None]:
    """Rises of TD errors, and the least correlation; null where they were not measured."""
    names = ("td_rise", "td_rise_both", "correlation")
    if line.critics is None:
        return dict.fromkeys(names)
    share = np.asarray(line.meta["alphas"])
    *errors, correlation = line.critics
    rises = [
        float((error - (1 - share) * error[0] - share * error[-1]).max()) for error in errors
    ]
    values = [*rises, float(correlation.min())]
    return {
        name: value if np.isfinite(value) else None
        for name, value in zip(names, values, strict=True)
    }


def key_of(row: Row) -> Key:
    """The cell of a row."""
    return Key(*(row[name] for name in Key._fields))


def of_parents(rows: Iterable[Row], measure: str = "barrier") -> dict[int, float]:
    """The mean of a measure over the rows of each parent that learned, by seed."""
    values: dict[int, list[float]] = {}
    for row in rows:
        if row["learned"] and row[measure] is not None:
            values.setdefault(row["seed"], []).append(row[measure])
    return {seed: float(np.mean(each)) for seed, each in sorted(values.items())}


def by_parent(rows: Iterable[Row], measure: str = "barrier") -> dict[Key, dict[int, float]]:
    """Means of `of_parents` in each cell; a cell in which nothing learned stays, empty."""
    cells: dict[Key, list[Row]] = {}
    for row in rows:
        cells.setdefault(key_of(row), []).append(row)
    return {key: of_parents(cell, measure) for key, cell in cells.items()}


def verdicts(rows: Sequence[Row]) -> dict[Key, Verdict]:
    """Judge the parents of each cell."""
    return {key: judge(list(cell.values())) for key, cell in by_parent(rows).items()}


_WHOLE = ("seed", "number")
_TEXT = ("environment", "algorithm", "arm", "strategy", "path", "parent")
_TRUTH = ("learned", "stable_as_specified", "quick")


def table_of(rows: Iterable[Row]) -> str:
    """Rows as comma-separated values; null is an empty cell."""
    return table_text([COLUMNS, *([_text(row[name]) for name in COLUMNS] for row in rows)])


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def read_rows(text: str) -> list[Row]:
    """The inverse of `table_of`.

    Raises:
      BadInput: it is no such table.
    """
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise BadInput(f"this is no table of lines; its columns must be {', '.join(COLUMNS)}")
    try:
        return [{name: _value(name, cell) for name, cell in row.items()} for row in reader]
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"a table of lines is damaged: {error}") from error


def _value(name: str, cell: str) -> Any:
    if name in _TEXT:
        return cell
    if name in _TRUTH:
        return {"True": True, "False": False}[cell]
    if not cell:
        return None
    return int(cell) if name in _WHOLE else float(cell)
