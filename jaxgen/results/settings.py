"""settings.csv: all that was asked of each run, a row per run, to be merged by its name."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from jaxgen.results.records import Record, group_cells

_PARTS = {"config": "", "overrides": "", "task_options": "task.", "technique_values": "technique.",
          "evaluation": "evaluation."}  # fmt: skip
"""Parts of a spec, and what stands before the names of their fields; an arm's overrides replace
fields of the configuration that it shares."""


def settings_text(records: Iterable[Record]) -> str:
    """A table with a row per run, whatever its seeds; "" in fields that a run has not.

    ``num_seeds`` counts finished and diverged ones. Widths of layers are written as ``--set`` takes
    them (128x128), other lists as JSON.
    """
    rows = [_row(cell.records) for cell in group_cells(records)]
    # Columns in the order in which they first occur; those of one run alone come last.
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(records: tuple[Record, ...]) -> dict[str, Any]:
    first = records[0]
    run = first.result["run"]
    row = {"run": first.name, "setting": first.setting, "num_seeds": len(records)}
    row |= {key: run[key] for key in ("algorithm", "environment", "technique")}
    row |= {"alias_of": first.alias_of or "", "quick": first.quick}
    row |= {"study_seed": first.spec.get("study_seed", "")}
    for part, prefix in _PARTS.items():
        values: Mapping[str, Any] = first.spec.get(part) or {}
        row |= {prefix + name: _cell(value) for name, value in values.items()}
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(type(item) is int for item in value):
        return "x".join(map(str, value))
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict | tuple) else value
