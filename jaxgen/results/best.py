"""The choice of the run that becomes the best model of an algorithm on an environment."""

from collections.abc import Iterable
from typing import Any

from jaxgen.results.records import HEADLINE_MODE, Record, check_records, mode_of


def best_scores(records: Iterable[Record]) -> dict[tuple[str, str], dict[str, Any]]:
    """(algorithm, environment) -> the run that is kept as the best model.

    Chosen by the mean greedy return of the final policy at level 0 and by nothing else: a choice
    that looked at shifted levels would leak them into the model. Full runs go before quick ones;
    ties go to the first technique, then to the first seed. Diverged runs and aliases are no
    candidates. A convenience, never a row of results.
    """
    candidates: dict[tuple[str, str], list[Record]] = {}
    for record in check_records(records):
        if not (record.diverged or record.alias_of):
            candidates.setdefault((record.algorithm, record.environment), []).append(record)
    # max keeps the first of equals, and the records are in canonical order.
    return {
        key: _best_entry(max(group, key=lambda r: (not r.quick, _return_at_zero(r))), len(group))
        for key, group in candidates.items()
    }


def _return_at_zero(record: Record) -> float:
    index = record.result["evaluation"]["levels"].index(0.0)
    return mode_of(record, HEADLINE_MODE)["mean"][index]


def _best_entry(record: Record, num_candidates: int) -> dict[str, Any]:
    return {
        "run": record.name,
        "experiment": record.experiment,
        "technique": record.technique,
        **({"arm": record.arm} if record.arm != record.technique else {}),
        "seed": record.seed,
        "quick": record.quick,
        "chosen_by": "mean greedy return of the final policy at level 0",
        "num_candidates": num_candidates,
        "return_at_zero": _return_at_zero(record),
        "levels": list(record.result["evaluation"]["levels"]),
        "returns": list(mode_of(record, HEADLINE_MODE)["mean"]),
        "scores": dict(record.result["scores"][HEADLINE_MODE]),
    }
