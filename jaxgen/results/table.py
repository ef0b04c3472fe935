"""results.csv and the table of learning curves: records to rows of text, and back.

`COLUMNS` is the one list that the rows, the text and the way back follow. Learning curves have a
table of their own, as their points are not those of the levels.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgen.evaluation.scores import absolute_robustness
from jaxgen.results.records import HEADLINE_MODE, SCHEMA, Record, check_records, modes_of
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
_CURVE_KINDS: dict[str, type] = {"run": str, "seed": int, "env_steps": int, "return": float}
_KINDS = {column.name: column.kind for column in COLUMNS}
_OF_A_ROW = tuple(column for column in COLUMNS if {MODE, LEVEL} & set(column.place))
_OF_A_MODE = tuple(column for column in _OF_A_ROW if LEVEL not in column.place)
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
    return table_text([CSV_COLUMNS, *([_cell(row[name]) for name in CSV_COLUMNS] for row in table)])


def table_text(lines: Iterable[Iterable[Any]]) -> str:
    """Lines of cells as CSV, the header first."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(float(value)) if isinstance(value, float) else value


def read_csv(text: str, curves: str = "") -> list[Record]:
    """The records of a results.csv, so that `rows` of them are the rows of the text again.

    They have what the columns have: no provenance, of their history the learning curve, where
    ``curves`` (as of `curves_text`) has it, and of their spec the names, the alias, the setting
    and what `ADDED` names. Rows and columns may be in any order, and columns of somebody else's
    may be among them; each run must be there as a whole, as no level stands for another one.

    Raises:
        ValueError: another file, a line that is damaged, or a run of which rows are missing, are
            there twice, or disagree.
    """
    histories = read_curves(curves)
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    complaint = "this is no results.csv of this version"
    for values in _table(text, "results.csv", _KINDS, ("run", "seed"), ADDED, complaint):
        groups.setdefault((values["run"], values["seed"]), []).append(values)
    for (name, seed), group in groups.items():
        try:
            _check_run(group)
        except ValueError as error:
            raise BadInput(
                f"{name} seed {seed} in results.csv: {error}; leave out whole runs, never some "
                "rows of one, or write it again with matrix.py --analyze"
            ) from None
    return check_records([
        _read_record(group, histories.get(run, {})) for run, group in groups.items()
    ])


def _table(
    text: str, label: str, kinds: Mapping[str, type], required: tuple[str, ...],
    optional: tuple[str, ...], complaint: str,
) -> Iterator[dict[str, Any]]:
    """Rows by the columns' names; other columns and empty rows are left out.

    Args:
        text: the table.
        label: a name for it, in errors of its lines.
        kinds: types of the values, by column.
        required: columns in which no row is empty.
        optional: columns that may be missing.
        complaint: begins the error of a table with other columns.
    """
    # Spreadsheets begin a file with a byte-order mark, and some end lines in other ways.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    reader = csv.DictReader(io.StringIO(text))
    header = list(reader.fieldnames or ())
    missing = [name for name in kinds if name not in {*header, *optional}]
    twice = [name for name in kinds if header.count(name) > 1]
    if missing or twice:
        what = f"{_some(twice)} twice" if twice else f"no {_some(missing)}"
        raise BadInput(
            f"{complaint}: it has {what}, its columns are {_some(header)}; save it with commas "
            "and all its columns, or write it again with matrix.py --analyze"
        )
    for row in reader:
        if None in row:
            raise BadInput(f"line {reader.line_num} has more cells than there are columns")
        if any(row.values()):
            try:
                values = {n: _parsed(kind, row[n]) for n, kind in kinds.items() if n in row}
                for name in required:
                    _required(values, name)
            except ValueError as error:
                raise BadInput(
                    f"line {reader.line_num} of {label} is damaged: {error}"
                ) from None
            yield values


def _some(names: Sequence[str]) -> str:
    """The first few names, as a list may be long."""
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    return ", ".join(names[: 3 if more else 4])[:200] + more or "nothing"


def _parsed(kind: type, cell: str | None) -> Any:
    if cell is None:
        raise ValueError("it is cut short")
    if cell == "":
        return None
    if kind is bool:
        if cell.lower() not in ("true", "false"):
            raise ValueError(f"{cell!r} is not true or false")
        return cell.lower() == "true"
    if kind is str:
        return cell
    number = int(cell) if kind is int and cell.isdecimal() else float(cell)
    # Libraries of tables write 7.0 in a column of whole numbers that has gaps.
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise ValueError(f"{cell!r} is no {'whole' if kind is int else 'finite'} number")
    return kind(number)


def _required(values: Mapping[str, Any], name: str) -> Any:
    if values[name] is None:
        raise ValueError(f"it has no {name}")
    return values[name]


def _check_run(group: list[dict[str, Any]]) -> None:
    """Check that rows are those of one whole run, and put them in the order of the levels.

    Raises:
        ValueError: levels of a mode are missing or there twice, or the rows disagree.
    """
    _check_agreement(group, _OF_A_RUN)
    if group[0]["status"] == "diverged":
        if len(group) > 1:
            raise ValueError("it is there twice")
        return
    group.sort(key=lambda row: -1.0 if row["level"] is None else row["level"])
    modes: dict[str | None, list[dict[str, Any]]] = {}
    for row in group:
        modes.setdefault(row["mode"], []).append(row)
    if HEADLINE_MODE not in modes:
        raise ValueError(f"its rows of the mode {HEADLINE_MODE} are missing")
    headline = [row["level"] for row in modes[HEADLINE_MODE]]
    for mode, of_mode in modes.items():
        levels = [row["level"] for row in of_mode]
        if len(set(levels)) < len(levels):
            raise ValueError(f"a level of the mode {mode} is there twice")
        _check_agreement(of_mode, _OF_A_MODE)
        curve, given = [_required(row, "s") for row in of_mode], _required(of_mode[0], "A")
        # Of scores by specialists, of which 1 is no bound, the second.
        bounded, unbounded = (absolute_robustness(levels, curve, most) for most in (1.0, np.inf))
        if levels != headline or not any(
            math.isclose(robustness, given, abs_tol=1e-9) for robustness in (bounded, unbounded)
        ):
            raise ValueError(
                f"rows of the mode {mode} are missing or were changed: the levels "
                f"{', '.join(f'{level:g}' for level in levels)} do not give its A"
            )


def _check_agreement(group: list[dict[str, Any]], columns: Iterable[Column]) -> None:
    for column in columns:
        values = {row.get(column.name) for row in group}
        if len(values) > 1:
            some = " and ".join(sorted(map(repr, values))[:2])
            raise ValueError(f"its rows disagree in {column.name}: {some}")


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
    lines: list[Sequence[Any]] = [CURVE_COLUMNS]
    for record in check_records(records):
        history = record.load_history()
        for steps, value in zip(*(history.get(name, ()) for name in _CURVE), strict=True):
            lines.append((record.name, record.seed, int(steps), repr(float(value))))
    return table_text(lines)


def read_curves(text: str) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """(run, seed) -> the part of a history that `curves_text` wrote, in the order of env steps.

    Raises:
        ValueError: another file, or a line that is damaged.
    """
    points: dict[tuple[str, int], list[tuple[int, float]]] = {}
    if not text:
        return {}
    complaint = "this is no table of learning curves"
    for values in _table(text, "the curves", _CURVE_KINDS, CURVE_COLUMNS, (), complaint):
        name, seed, *point = (values[column] for column in CURVE_COLUMNS)
        points.setdefault((name, seed), []).append(tuple(point))
    return {
        key: dict(zip(_CURVE, map(np.array, zip(*sorted(curve), strict=True)), strict=True))
        for key, curve in points.items()
    }
