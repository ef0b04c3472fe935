"""results.csv and the table of learning curves: records to rows of text, and back.

`COLUMNS` is the one list that the rows, the text and the way back follow. Learning curves have a
table of their own, as their points are not those of the levels.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgen.results.records import SCHEMA, Record, check_records, modes_of
from jaxgen.system.errors import BadInput

MODE, LEVEL = "<mode>", "<level>"
"""Keys of a place for which each row has its mode, and the index of its level."""


class Column(NamedTuple):
    """A column of results.csv."""

    name: str
    kind: type
    """Type of its values: str, int, float or bool; any of them may be null."""
    place: tuple[str, ...]
    """The keys that lead to the value in ``{"spec": ..., "result": ...}`` of a record, see
    `jaxgen.results.records`."""


def _run(name: str, kind: type = str, key: str | None = None) -> Column:
    return Column(name, kind, ("result", "run", key or name))


def _score(name: str, kind: type = float) -> Column:
    return Column(name, kind, ("result", "scores", MODE, name))


def _by_level(name: str, *place: str) -> Column:
    return Column(name, float, ("result", *place, LEVEL))


def _training(name: str) -> Column:
    return Column(name, float, ("result", "training", name))


def _gas(source: str, form: str) -> Column:
    return Column(f"gas_{source}_{form}", float, ("result", "gas", source, form))


COLUMNS = (
    # What ran.
    _run("run", key="name"),
    _run("algorithm"),
    _run("environment"),
    _run("technique"),
    _run("seed", int),
    Column("alias_of", str, ("spec", "alias_of")),
    Column("setting", str, ("spec", "setting")),
    Column("quick", bool, ("result", "quick")),
    Column("status", str, ("result", "status")),
    Column("env_steps_requested", int, ("result", "env_steps", "requested")),
    Column("env_steps", int, ("result", "env_steps", "actual")),
    # The evaluation at one level.
    Column("episodes", int, ("result", "evaluation", "episodes")),
    Column("mode", str, (MODE,)),
    _by_level("level", "evaluation", "levels"),
    _by_level("return", "evaluation", "modes", MODE, "mean"),
    _by_level("standard_error", "evaluation", "modes", MODE, "standard_error"),
    _by_level("floor", "references", "floor"),
    _by_level("ceiling", "references", "ceiling"),
    _by_level("s", "scores", MODE, "s"),
    # Scores over all levels.
    _score("A"),
    _score("A_id"),
    _score("A_ood"),
    _score("grs"),
    _score("grs_valid", bool),
    _score("grs_n"),
    _score("uplift"),
    _score("gap"),
    _score("valid", bool),
    _score("reason", str),
    # The training.
    _training("agree_ref"),
    _training("agree_pair"),
    _training("train_return_first"),
    _training("train_return_last"),
    _training("value_loss_first"),
    _training("value_loss_last"),
    _training("grad_norm_first"),
    _training("grad_norm_last"),
    _gas("train", "raw"),
    _gas("train", "first"),
    _gas("train", "last"),
    _gas("probe", "raw"),
    _gas("probe", "first"),
    _gas("probe", "last"),
    _gas("probe", "corrected"),
    _gas("probe", "reliability"),
    # The configuration, as far as a report speaks of it.
    Column("base", str, ("spec", "base")),
    Column("encoding", str, ("spec", "encoding")),
    Column("arm", str, ("spec", "arm")),
)
"""Columns of results.csv, in their order."""
CSV_COLUMNS = tuple(column.name for column in COLUMNS)
ADDED = ("base", "encoding", "arm")
"""Columns that rows of earlier versions lack; they are null then."""
CURVE_COLUMNS = ("run", "seed", "env_steps", "return")
"""Columns of the learning curves."""
_CURVE = ("eval_env_steps", "eval_return")
_KINDS = {column.name: column.kind for column in COLUMNS}
_OF_A_ROW = tuple(column for column in COLUMNS if {MODE, LEVEL} & set(column.place))
_OF_A_RUN = tuple(column for column in COLUMNS if column not in _OF_A_ROW)


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """One row per run, mode and level, keys ``CSV_COLUMNS``, None for null, canonical order.

    A diverged run has one row, with neither mode nor level.
    """
    ordered = check_records(records)
    return [row for record in ordered for row in _record_rows(record)]


def _record_rows(record: Record) -> list[dict[str, Any]]:
    facts = {
        "setting": record.setting, "base": record.base, "encoding": record.encoding,
        "arm": record.arm,
    }  # fmt: skip
    content = {"spec": {**record.spec, **facts}, "result": record.result}
    points: list[tuple[str | None, int | None]] = [(None, None)]
    if not record.diverged:
        levels = range(len(record.result["evaluation"]["levels"]))
        points = [(mode, level) for mode in modes_of([record]) for level in levels]
    shared = {column.name: _value(content, column.place) for column in _OF_A_RUN}
    return [
        shared | {column.name: _value(content, column.place, mode, level) for column in _OF_A_ROW}
        for mode, level in points
    ]


def _value(
    content: Any, place: tuple[str, ...], mode: str | None = None, level: int | None = None
) -> Any:
    """The value at a place; None where a part of the way is null, or where a row has no mode."""
    if place == (MODE,):
        return mode
    for key in place:
        if content is None or (mode is None and key in (MODE, LEVEL)):
            return None
        content = content[level] if key == LEVEL else content.get(mode if key == MODE else key)
    return content


def csv_text(table: Iterable[Mapping[str, Any]]) -> str:
    """`rows` as CSV: floats in full precision, booleans as true and false, null as nothing."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows([_cell(row[name]) for name in CSV_COLUMNS] for row in table)
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(float(value)) if isinstance(value, float) else value


def read_csv(text: str, curves: str = "") -> list[Record]:
    """The records of a results.csv, so that `rows` of them are the rows of the text again.

    They have what the columns have: no provenance, of their history the learning curve, where
    ``curves`` (as of `curves_text`) has it, and of their spec the names, the alias, the setting
    and what `ADDED` names.

    Raises:
        ValueError: another file, or a line that is damaged.
    """
    histories = read_curves(curves)
    reader = csv.DictReader(io.StringIO(text))
    header = tuple(reader.fieldnames or ())
    if header not in (CSV_COLUMNS, tuple(name for name in CSV_COLUMNS if name not in ADDED)):
        raise BadInput(
            f"this is no results.csv of this version: its columns are "
            f"{', '.join(header) or 'nothing'}; write it again with matrix.py --analyze"
        )
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number, row in enumerate(reader, 2):
        try:
            values = {name: _parsed(_KINDS[name], cell) for name, cell in row.items()}
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(f"line {number} of results.csv is damaged: {error}") from None
        groups.setdefault((row["run"], row["seed"]), []).append(values)
    return check_records([
        _read_record(group, histories.get(key, {})) for key, group in groups.items()
    ])


def _parsed(kind: type, cell: str | None) -> Any:
    if cell is None:
        raise ValueError("it is cut short")
    if cell == "":
        return None
    return {"true": True, "false": False}[cell] if kind is bool else kind(cell)


def _read_record(group: list[dict[str, Any]], history: dict[str, np.ndarray]) -> Record:
    """A record of the rows of its run, each value back at its place."""
    content: dict[str, Any] = {"spec": {}, "result": {"references": {"floor": [], "ceiling": []}}}
    first, num_levels = group[0], Counter()
    for column in _OF_A_RUN:
        _put(content, column.place, first.get(column.name))
    for row in group:
        if mode := row["mode"]:
            for column in _OF_A_ROW:
                _put(content, column.place, row[column.name], mode, num_levels[mode])
            num_levels[mode] += 1
    spec, result = content["spec"], content["result"]
    if first["mode"] is None:
        result |= {"evaluation": None, "scores": None}
    run = result["run"]
    spec |= {name: run[name] for name in ("algorithm", "environment", "technique")}
    run["experiment"] = run["name"].rsplit("-", 1)[0]
    return Record(spec, first["seed"], {"schema": SCHEMA, **result}, history, {})


def _put(
    content: Any, place: tuple[str, ...], value: Any, mode: str | None = None, level: int = 0
) -> None:
    """Lay a value at a place, where `_value` finds it."""
    if place == (MODE,):
        return
    *way, last = (mode if key == MODE else key for key in place if key != LEVEL)
    for key in way:
        content = content.setdefault(key, {})
    if place[-1] == LEVEL:
        # What does not depend on the mode comes again with the next one.
        content.setdefault(last, [])[level : level + 1] = [value]
    else:
        content[last] = value


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


def read_curves(text: str) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """(run, seed as text) -> the part of a history that `curves_text` wrote.

    Raises:
        ValueError: another file, or a line that is damaged.
    """
    points: dict[tuple[str, str], list[tuple[int, float]]] = {}
    reader = csv.reader(io.StringIO(text))
    if text and tuple(next(reader)) != CURVE_COLUMNS:
        raise BadInput(f"these are no learning curves: their columns are not {CURVE_COLUMNS}")
    for number, row in enumerate(reader, 2):
        try:
            name, seed, steps, value = row
            points.setdefault((name, seed), []).append((int(steps), float(value)))
        except ValueError as error:
            raise BadInput(f"line {number} of the curves is damaged: {error}") from None
    return {
        key: dict(zip(_CURVE, map(np.array, zip(*curve, strict=True)), strict=True))
        for key, curve in points.items()
    }
