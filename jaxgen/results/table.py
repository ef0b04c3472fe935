"""results.csv and the table of learning curves: records to rows of text, and back."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxgen.results.records import SCHEMA, Record, check_records, mode_of, modes_of

CSV_COLUMNS = (
    "run", "algorithm", "environment", "technique", "seed", "alias_of", "setting", "quick",
    "status", "env_steps_requested", "env_steps", "episodes", "mode", "level", "return",
    "standard_error", "floor", "ceiling", "s", "A", "A_id", "A_ood", "grs", "grs_valid", "grs_n",
    "uplift", "gap", "valid", "reason", "agree_ref", "agree_pair", "train_return_first",
    "train_return_last", "value_loss_first", "value_loss_last", "grad_norm_first",
    "grad_norm_last", "gas_train_raw", "gas_train_first", "gas_train_last", "gas_probe_raw",
    "gas_probe_first", "gas_probe_last", "gas_probe_corrected", "gas_probe_reliability",
)  # fmt: skip
"""Columns of results.csv."""
CURVE_COLUMNS = ("run", "seed", "env_steps", "return")
"""Columns of the learning curves."""
_CURVE = ("eval_env_steps", "eval_return")
_SCORE_COLUMNS = CSV_COLUMNS[CSV_COLUMNS.index("A") : CSV_COLUMNS.index("agree_ref")]
_TRAINING_COLUMNS = CSV_COLUMNS[CSV_COLUMNS.index("agree_ref") : CSV_COLUMNS.index("gas_train_raw")]
_GAS_COLUMNS = CSV_COLUMNS[CSV_COLUMNS.index("gas_train_raw") :]


# results.csv


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row per run, mode and level, keys ``CSV_COLUMNS``, None for null, canonical order.

    A diverged run has one row, with neither mode nor level.
    """
    ordered = check_records(records)
    return [row for record in ordered for row in _record_rows(record)]


def csv_text(table: Iterable[Mapping[str, Any]]) -> str:
    """`rows` as CSV: floats in full precision, booleans as true and false, null as nothing."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows([_csv_value(row[name]) for name in CSV_COLUMNS] for row in table)
    return stream.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(float(value)) if isinstance(value, float) else value


def _record_rows(record: Record) -> list[dict[str, Any]]:
    result = record.result
    training = result["training"] or {}
    common = dict.fromkeys(CSV_COLUMNS) | {
        "run": record.name,
        "algorithm": record.algorithm,
        "environment": record.environment,
        "technique": record.technique,
        "seed": record.seed,
        "alias_of": record.alias_of,
        "setting": record.setting,
        "quick": record.quick,
        "status": result["status"],
        "env_steps_requested": result["env_steps"]["requested"],
        "env_steps": result["env_steps"]["actual"],
    }
    common |= {name: training.get(name) for name in _TRAINING_COLUMNS}
    for name in _GAS_COLUMNS:
        _, source, form = name.split("_")
        common[name] = record.gas(source, form)
    if record.diverged:
        return [common]
    return [common | row for mode in modes_of([record]) for row in _mode_rows(record, mode)]


def _mode_rows(record: Record, mode: str) -> list[dict[str, Any]]:
    evaluation, references = record.result["evaluation"], record.result["references"]
    measured, scores = mode_of(record, mode), record.result["scores"][mode]
    shared = {name: scores[name] for name in _SCORE_COLUMNS} | {
        "mode": mode,
        "episodes": evaluation["episodes"],
    }
    return [
        shared
        | {
            "level": level,
            "return": measured["mean"][i],
            "standard_error": measured["standard_error"][i],
            "floor": references["floor"][i],
            "ceiling": references["ceiling"][i],
            "s": scores["s"][i],
        }
        for i, level in enumerate(evaluation["levels"])
    ]


def curves_text(records: Iterable[Record]) -> str:
    """The learning curves as CSV: greedy return at level 0 of each run at a few env steps."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CURVE_COLUMNS)
    for record in check_records(records):
        history = record.load_history()
        for steps, value in zip(*(history.get(name, ()) for name in _CURVE), strict=True):
            writer.writerow((record.name, record.seed, int(steps), repr(float(value))))
    return stream.getvalue()


def read_csv(text: str, curves: str = "") -> list[Record]:
    """The records of a results.csv, so that `rows` of them are the rows of the text again.

    They have what the columns have: no provenance, of their history the learning curve, where
    ``curves`` (as of `curves_text`) has it, and of their spec the names, the alias and the setting.

    Raises:
        ValueError: another file, or a line that is damaged.
    """
    histories = read_curves(curves)
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != CSV_COLUMNS:
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise ValueError(
            f"this is no results.csv of this version: its columns are {found}; "
            "write it again with matrix.py --analyze"
        )
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number, row in enumerate(reader, 2):
        try:
            values = {name: _csv_parsed(name, text) for name, text in row.items()}
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"line {number} of results.csv is damaged: {error}") from None
        groups.setdefault((row["run"], row["seed"]), []).append(values)
    return check_records([
        _read_record(group, histories.get(key, {})) for key, group in groups.items()
    ])


def read_curves(text: str) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """(run, seed as text) -> the part of a history that `curves_text` wrote.

    Raises:
        ValueError: another file, or a line that is damaged.
    """
    points: dict[tuple[str, str], list[tuple[int, float]]] = {}
    reader = csv.reader(io.StringIO(text))
    if text and tuple(next(reader)) != CURVE_COLUMNS:
        raise ValueError(f"these are no learning curves: their columns are not {CURVE_COLUMNS}")
    for number, row in enumerate(reader, 2):
        try:
            name, seed, steps, value = row
            points.setdefault((name, seed), []).append((int(steps), float(value)))
        except ValueError as error:
            raise ValueError(f"line {number} of the curves is damaged: {error}") from None
    return {
        key: dict(zip(_CURVE, map(np.array, zip(*own, strict=True)), strict=True))
        for key, own in points.items()
    }


_TEXT_COLUMNS = ("run", "algorithm", "environment", "technique", "alias_of", "setting", "status",
                 "mode", "reason")  # fmt: skip
_WHOLE_COLUMNS = ("seed", "env_steps_requested", "env_steps", "episodes")
_TRUTH_COLUMNS = ("quick", "grs_valid", "valid")


def _csv_parsed(name: str, text: str) -> Any:
    if text == "":
        return None
    if name in _TEXT_COLUMNS:
        return text
    if name in _TRUTH_COLUMNS:
        return {"true": True, "false": False}[text]
    return int(text) if name in _WHOLE_COLUMNS else float(text)


def _read_record(group: list[dict[str, Any]], history: dict[str, np.ndarray]) -> Record:
    first = group[0]
    names = {name: first[name] for name in ("algorithm", "environment", "technique")}
    experiment = first["run"].rsplit("-", 1)[0]
    gas: dict[str, Any] = {"train": {}, "probe": {}}
    for name in _GAS_COLUMNS:
        _, source, form = name.split("_")
        gas[source][form] = first[name]
    by_mode: dict[str, list[dict[str, Any]]] = {}
    for row in group:
        if row["mode"] is not None:
            by_mode.setdefault(row["mode"], []).append(row)
    any_mode = next(iter(by_mode.values()), [])
    result = {
        "schema": SCHEMA,
        "run": {**names, "seed": first["seed"], "experiment": experiment, "name": first["run"]},
        "quick": first["quick"],
        "status": first["status"],
        "env_steps": {"requested": first["env_steps_requested"], "actual": first["env_steps"]},
        "evaluation": _read_evaluation(by_mode) if by_mode else None,
        "references": {name: [row[name] for row in any_mode] for name in ("floor", "ceiling")},
        "scores": {mode: _read_scores(own) for mode, own in by_mode.items()} or None,
        "training": {name: first[name] for name in _TRAINING_COLUMNS},
        "gas": gas,
    }
    spec = {**names, "alias_of": first["alias_of"], "setting": first["setting"]}
    return Record(spec, first["seed"], result, history, {})


def _read_evaluation(by_mode: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    own = next(iter(by_mode.values()))
    modes = {
        mode: {
            "mean": [row["return"] for row in group],
            "standard_error": [row["standard_error"] for row in group],
        }
        for mode, group in by_mode.items()
    }
    return {
        "levels": [row["level"] for row in own],
        "episodes": own[0]["episodes"],
        "modes": modes,
    }


def _read_scores(group: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: group[0][name] for name in _SCORE_COLUMNS} | {"s": [row["s"] for row in group]}
