"""Scores relative to what was trained, where nobody knows what the best return is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.evaluation.scores import score_curve
from jaxgen.results.records import HEADLINE_MODE, Cell, Record, group_cells
from jaxgen.study.product import least_s0
from jaxgen.system.errors import BadInput
from jaxgen.techniques import COMPONENTS, Technique

BEST_ARM, SPECIALISTS = "best-arm", "specialists"
WORDS = {
    BEST_ARM: (
        "What counts as 1 at a level is the mean return of the best arm there. These results "
        "choose it themselves: the best arm looks better than it is, and scores can be compared "
        "within this report alone."
    ),
    SPECIALISTS: (
        "What counts as 1 at a level is the mean return of the specialist: the same algorithm "
        "with the same budget, trained at that level alone (baseline at level 0, at25 at .25 and "
        "so on, whose n stand in the tables). An arm may do better than a specialist, so that its "
        "scores are not cut off at 1."
    ),
}
"""What the references other than the ceiling are."""


def relative_to(reference: str, records: Sequence[Record]) -> list[Record]:
    """The records with other ceilings, and scores that follow from them.

    Copies under other names and runs that diverged are no reference. A level that mixes kinds of
    episodes gets one scale for all of them.

    Args:
      records: of any environments and algorithms.
      reference: `BEST_ARM`: the highest mean headline return of an arm at each level, which arms
        of an environment that were evaluated on the same levels share. `SPECIALISTS`: at each
        level that of the arm which was trained there alone, of the same algorithm and setting.

    Raises:
      BadInput: no arm is above random play at a level; a specialist is missing.
    """
    specialists = reference == SPECIALISTS
    place, ceiling_of = (_setting, _specialists) if specialists else (_suite, _best)
    groups: dict[Any, list[Cell]] = {}
    cells = group_cells(records)
    for cell in cells:
        if cell.finished and not cell.alias_of:
            groups.setdefault(place(cell), []).append(cell)
    ceilings = {key: ceiling_of(each) for key, each in groups.items()}
    by_name = {cell.name: ceilings[place(cell)] for cell in cells if cell.finished}
    most = np.inf if specialists else 1.0
    return [
        record if record.diverged else _rescored(record, by_name[record.name], most)
        for record in records
    ]


def _suite(cell: Cell) -> tuple[Any, ...]:
    return (cell.environment, *_levels(cell))


def _setting(cell: Cell) -> tuple[Any, ...]:
    return (*_suite(cell), cell.algorithm, cell.setting)


def _levels(cell: Cell) -> list[float]:
    return cell.finished[0].result["evaluation"]["levels"]


def _means(cell: Cell) -> np.ndarray:
    """Means over seeds at each level, float64 ``[K]``."""
    curves = [_evaluated(record, HEADLINE_MODE)["mean"] for record in cell.finished]
    return np.mean(curves, axis=0)


def _best(cells: Sequence[Cell]) -> np.ndarray:
    """The highest mean over seeds at each level, float64 ``[K]``."""
    return np.max([_means(cell) for cell in cells], axis=0)


def _specialists(cells: Sequence[Cell]) -> np.ndarray:
    """The mean over seeds, at each level, of the arm that was trained there, float64 ``[K]``."""
    by_level = {level_of_specialist(cell.arm): _means(cell) for cell in cells}
    levels = _levels(cells[0])
    for level in levels:
        if level not in by_level:
            names = [name for name in COMPONENTS if level_of_specialist(name) == level]
            raise BadInput(
                f"no specialist of {cells[0].algorithm} on {cells[0].environment} was trained at "
                f"level {level:g} alone"
                + (f"; train it: --technique {names[0]}" if names else "; register a technique")
            )
    return np.array([by_level[level][index] for index, level in enumerate(levels)])


def level_of_specialist(arm: str) -> float | None:
    """The one level that an arm trains on, with nothing else that tells it from the baseline."""
    technique = COMPONENTS.get(arm)
    if technique is None or technique != Technique(levels=technique.levels[:1] * 3):
        return None
    return technique.levels[0]


def _evaluated(record: Record, mode: str) -> dict[str, Any]:
    return record.result["evaluation"]["modes"][mode]


def _rescored(record: Record, ceiling: np.ndarray, most: float) -> Record:
    references = {**record.result["references"], "ceiling": ceiling.tolist()}
    scores = {mode: _scores(record, mode, references, most) for mode in record.result["scores"]}
    result = {**record.result, "references": references, "scores": scores}
    return record._replace(result=result)


def _scores(record: Record, mode: str, references: dict[str, Any], most: float) -> dict[str, Any]:
    evaluated, before = _evaluated(record, mode), record.result["scores"][mode]
    try:
        scores = score_curve(
            record.result["evaluation"]["levels"], evaluated["mean"],
            references["floor"], references["ceiling"], evaluated["standard_error"][0],
            references["floor_standard_error"][0], min_s0=least_s0(record.environment), most=most,
        ).to_dict()  # fmt: skip
    except ValueError as error:
        raise BadInput(f"no arm can be the reference on {record.environment}: {error}") from error
    # None where an arm trains on levels that are unseen for the others.
    return scores | ({"A_ood": None} if before["A_ood"] is None else {})
