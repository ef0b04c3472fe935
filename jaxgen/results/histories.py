"""Histories of an experiment as JSON, thinned."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxgen.results.records import Record, check_records

MAX_POINTS = 500
"""Longest series in a history file."""


def history_json(records: Iterable[Record]) -> dict[str, Any]:
    """The histories of one experiment, ready for ``json.dumps(allow_nan=False)``.

    Each series is thinned evenly to at most ``MAX_POINTS`` points, first and last included;
    ``length`` is its original length and null stands for NaN.

    Raises:
        ValueError: no record, or records of several experiments.
    """
    ordered = check_records(records)
    experiments = sorted({record.experiment for record in ordered})
    if len(experiments) != 1:
        raise ValueError(f"a history needs records of one experiment; got {experiments}")
    return {
        "schema": 1,
        "experiment": experiments[0],
        "max_points": MAX_POINTS,
        "runs": [_run_history(record) for record in ordered],
    }


def _run_history(record: Record) -> dict[str, Any]:
    return {
        "run": record.name,
        "seed": record.seed,
        "alias_of": record.alias_of,
        "quick": record.quick,
        "status": record.result["status"],
        "series": {
            name: {"length": len(values), "values": _thin(values)}
            for name, values in sorted(record.load_history().items())
        },
    }


def _thin(values: np.ndarray) -> list[Any]:
    if len(values) > MAX_POINTS:
        values = values[np.linspace(0, len(values) - 1, MAX_POINTS).round().astype(int)]
    return _without_nan(values.tolist())


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
