"""The end of a study on the screen: a table per environment, and what its arms differ by."""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from jaxgen.report.differences import decompose
from jaxgen.results.read import missing_runs
from jaxgen.results.records import Cell, Record, environment_order, group_cells
from jaxgen.study.cards import figure_title

HEADER = ("algorithm", "arm", "n", "learned", "J(0)", "J(1)", "A", "A_ood")
MEANINGS = {"dr - baseline": "more data", "gar - dr": "agreement"}
"""Differences that are shown, and what each is the effect of."""
MAX_MISSING = 3
"""Names of missing runs that are printed."""


def brief(
    records: Iterable[Record], plan: Collection[tuple[str, int]] | None = None
) -> list[str]:
    """Lines for a screen: what a study found, and what is missing.

    Args:
      records: those of a folder; what is not planned is counted and left out.
      plan: (run name, seed) of every run that is expected; None: all that are here.
    """
    records = list(records)
    planned = {name for name, _ in plan} if plan is not None else {r.name for r in records}
    shown = [record for record in records if record.name in planned]
    cells = [cell for cell in group_cells(shown) if not cell.alias_of]
    lines = []
    for name in sorted({cell.environment for cell in cells}, key=environment_order):
        lines += ["", *_environment([cell for cell in cells if cell.environment == name])]
    return [*lines, *_missing(records, plan), *_others(len(records) - len(shown))]


def _environment(cells: list[Cell]) -> list[str]:
    rows = [_row(cell) for cell in cells]
    quick = ", QUICK RUNS: NOT A RESULT" if any(cell.quick for cell in cells) else ""
    title = f"{figure_title(cells[0].environment)} (greedy, mean over n seeds{quick})"
    return [title, *_aligned([HEADER, *rows]), *_differences(cells)]


def _row(cell: Cell) -> tuple[str, ...]:
    n = len(cell.records)
    if not cell.finished:
        return (cell.algorithm, cell.arm, str(n), "0", *["diverged"] * 4)
    curves = cell.curves()
    scores = (_mean(list(cell.scores(name).values()), 2) for name in ("A", "A_ood"))
    ends = (_mean(curves[:, index], 4 if abs(curves).max() < 10 else 1) for index in (0, -1))
    return (cell.algorithm, cell.arm, str(n), str(cell.num_valid()), *ends, *scores)


def _differences(cells: list[Cell]) -> list[str]:
    """A line for each algorithm and setting of which something learned and arms can be compared."""
    groups: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.algorithm, cell.setting), {})[cell.arm] = cell
    lines = []
    for (algorithm, _), arms in groups.items():
        parts = [
            f"{found.label} {_signed(found.values['A_ood'])} ({MEANINGS[found.label]})"
            for found in decompose(arms, names=("A_ood",))
            if found.label in MEANINGS and len(found.values.get("A_ood", ()))
        ]
        if parts and any(cell.num_valid() for cell in arms.values()):
            lines.append(f"  {algorithm}: A_ood, {', '.join(parts)}")
    return lines


def _missing(records: list[Record], plan: Collection[tuple[str, int]] | None) -> list[str]:
    missing = missing_runs(records, plan or ())
    if not missing:
        return []
    total = sum(map(len, missing.values()))
    names = list(missing)[:MAX_MISSING]
    more = f" and {len(missing) - len(names)} more" if len(missing) > len(names) else ""
    return ["", f"MISSING: {total} of {len(plan or ())} runs, of {', '.join(names)}{more}"]


def _others(number: int) -> list[str]:
    return [f"{number} runs of other studies are in this folder, too."] if number else []


def _mean(values: Sequence[float] | np.ndarray, digits: int) -> str:
    return f"{np.mean(values):.{digits}f}" if len(values) else "-"


def _signed(values: np.ndarray) -> str:
    """A mean with its spread; of one pair there is none."""
    spread = f" +- {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():+.2f}{spread}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as columns: two of names on the left, numbers on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]  # fmt: skip
