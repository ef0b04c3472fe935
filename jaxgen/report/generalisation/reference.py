"""Scores relative to the best arm, where nobody knows what the best return is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.evaluation.scores import score_curve
from jaxgen.results.records import HEADLINE_MODE, Cell, Record, group_cells
from jaxgen.study.product import least_s0
from jaxgen.system.errors import BadInput

BEST_ARM = "best-arm"
"""What counts as 1 at a level: the highest mean return of an arm there."""
WORDS = (
    "What counts as 1 at a level is the mean return of the best arm there. These results choose "
    "it themselves: the best arm looks better than it is, and scores can be compared within this "
    "report alone."
)


def relative_to_best_arm(records: Sequence[Record]) -> list[Record]:
    """The records with ceilings that are the best arm's mean headline return at each level.

    Arms of an environment that were evaluated on the same levels share them. Copies under other
    names and runs that diverged choose nothing. A level that mixes kinds of episodes gets one scale
    for all of them.

    Raises:
      BadInput: no arm is above random play at a level.
    """
    by_suite: dict[Any, list[Cell]] = {}
    for cell in group_cells(records):
        if cell.finished and not cell.alias_of:
            by_suite.setdefault(_suite(cell.finished[0]), []).append(cell)
    ceilings = {suite: _best(cells) for suite, cells in by_suite.items()}
    return [
        record if record.diverged else _rescored(record, ceilings[_suite(record)])
        for record in records
    ]


def _suite(record: Record) -> tuple[Any, ...]:
    return (record.environment, *record.result["evaluation"]["levels"])


def _best(cells: Sequence[Cell]) -> np.ndarray:
    """The highest mean over seeds at each level, float64 ``[K]``."""
    means = [
        np.mean([_evaluated(record, HEADLINE_MODE)["mean"] for record in cell.finished], axis=0)
        for cell in cells
    ]
    return np.max(means, axis=0)


def _evaluated(record: Record, mode: str) -> dict[str, Any]:
    return record.result["evaluation"]["modes"][mode]


def _rescored(record: Record, ceiling: np.ndarray) -> Record:
    references = {**record.result["references"], "ceiling": ceiling.tolist()}
    scores = {mode: _scores(record, mode, references) for mode in record.result["scores"]}
    result = {**record.result, "references": references, "scores": scores}
    return record._replace(result=result)


def _scores(record: Record, mode: str, references: dict[str, Any]) -> dict[str, Any]:
    evaluated, before = _evaluated(record, mode), record.result["scores"][mode]
    try:
        scores = score_curve(
            record.result["evaluation"]["levels"], evaluated["mean"],
            references["floor"], references["ceiling"], evaluated["standard_error"][0],
            references["floor_standard_error"][0], min_s0=least_s0(record.environment),
        ).to_dict()  # fmt: skip
    except ValueError as error:
        raise BadInput(f"no arm can be the reference on {record.environment}: {error}") from error
    # None where an arm trains on levels that are unseen for the others.
    return scores | ({"A_ood": None} if before["A_ood"] is None else {})
