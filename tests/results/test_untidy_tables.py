"""A results.csv that a person, a spreadsheet or a library has saved: the same records, or one line.

Whatever order, encoding or spelling, a table gives the records that were written, or is refused
with the run, the line or the column that is wrong. It never gives others.
"""

import csv
import io
import json
import random
from collections.abc import Callable

import numpy as np
import pytest

from jaxgen.results.records import Record
from jaxgen.results.table import CSV_COLUMNS, csv_text, curves_text, read_csv, rows
from synthetic_records import make_record

RECORDS = [
    *(make_record(technique=name, seed=seed) for name in ("baseline", "dr") for seed in (0, 1)),
    make_record(seed=2, diverged=True),
    make_record("es", "minigrid", "gar", seed=0),
]
TEXT, CURVES = csv_text(rows(RECORDS)), curves_text(RECORDS)
Row = dict[str, str]


def table_of(text: str) -> list[Row]:
    return list(csv.DictReader(io.StringIO(text)))


def text_of(table: list[Row], names: tuple[str, ...] = CSV_COLUMNS) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue()


def shuffled(values: list) -> list:
    return random.Random(0).sample(values, len(values))


def with_cells(change: Callable[[str], str]) -> str:
    return text_of([{k: change(v) for k, v in row.items()} for row in table_of(TEXT)])


def whole_numbers_with_a_point() -> str:
    names = ("seed", "episodes", "env_steps", "env_steps_requested")
    return text_of([
        row | {name: f"{row[name]}.0" for name in names if row[name]} for row in table_of(TEXT)
    ])


def with_a_column_in_front() -> str:
    """As pandas writes its index."""
    table = [{"": str(i)} | row for i, row in enumerate(table_of(TEXT))]
    return text_of(table, ("", *CSV_COLUMNS))


SAME = {
    "sorted": lambda: text_of(sorted(table_of(TEXT), key=lambda r: r["level"], reverse=True)),
    "shuffled": lambda: text_of(shuffled(table_of(TEXT))),
    "columns moved": lambda: text_of(table_of(TEXT), tuple(shuffled(list(CSV_COLUMNS)))),
    "a column more": with_a_column_in_front,
    "byte-order mark": lambda: "\ufeff" + TEXT,
    "True and False": lambda: with_cells(lambda v: v.title() if v in ("true", "false") else v),
    "TRUE and FALSE": lambda: with_cells(lambda v: v.upper() if v in ("true", "false") else v),
    "lines of Windows": lambda: TEXT.replace("\n", "\r\n"),
    "lines of old Macs": lambda: TEXT.replace("\n", "\r"),
    "quoted": lambda: "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in TEXT.splitlines()
    ),
    "whole numbers with a point": whole_numbers_with_a_point,
    "empty rows": lambda: TEXT + "," * (len(CSV_COLUMNS) - 1) + "\n\n",
    "no end of the last line": TEXT.rstrip,
}


@pytest.mark.parametrize("name", SAME)
def test_a_table_that_was_saved_again_gives_the_same_records(name):
    text = SAME[name]()
    assert text != TEXT
    back = read_csv(text, CURVES)
    assert csv_text(rows(back)) == TEXT and curves_text(back) == CURVES


def test_learning_curves_may_be_saved_again_too():
    header, *lines = CURVES.splitlines()
    moved = [",".join(reversed(line.split(","))) for line in (header, *shuffled(lines))]
    back = read_csv(TEXT, "\ufeff" + "\r\n".join(moved))
    assert curves_text(back) == CURVES
    steps = back[0].load_history()["eval_env_steps"]
    assert (np.diff(steps) > 0).all()


def keep(condition: Callable[[Row], bool]) -> str:
    return text_of([row for row in table_of(TEXT) if condition(row)])


def changed(index: int, **cells: str) -> str:
    table = table_of(TEXT)
    table[index] |= cells
    return text_of(table)


REFUSED = {
    "no level 0": (lambda: keep(lambda r: r["level"] != "0.0"), "levels must increase .* from 0"),
    "no last level": (lambda: keep(lambda r: r["level"] != "1.0"), "levels must increase"),
    "unseen levels alone": (
        lambda: keep(lambda r: r["level"] in ("0.75", "1.0")), "baseline-.* seed 0 .*levels must"
    ),
    "a level in between": (
        lambda: keep(lambda r: r["level"] != "0.5"), "do not give its A.*leave out whole runs"
    ),
    "a row of one run": (lambda: text_of(table_of(TEXT)[:2] + table_of(TEXT)[3:]), "missing"),
    "no greedy rows": (lambda: keep(lambda r: r["mode"] != "greedy"), "of the mode greedy are"),
    "rows twice": (lambda: text_of(table_of(TEXT) * 2), "is there twice"),
    "two files in one": (lambda: TEXT + TEXT, "damaged: 'seed' is no whole number|could not"),
    "another number": (lambda: changed(1, s="0.1"), "do not give its A"),
    "another score": (lambda: changed(1, A="0.1"), "rows disagree in A"),
    "another status": (lambda: changed(1, status="diverged"), "rows disagree in status"),
    "not a number": (lambda: changed(1, **{"return": "nan"}), "'nan' is no finite number"),
    "infinity": (lambda: changed(1, floor="inf"), "line 3 .*'inf' is no finite number"),
    "a part of a seed": (lambda: changed(1, seed="0.5"), "'0.5' is no whole number"),
    "no seed": (lambda: changed(1, seed=""), "line 3 .*it has no seed"),
    "another truth": (lambda: changed(1, quick="no"), "'no' is not true or false"),
    "decimal commas": (
        lambda: "\n".join(line.replace("0.25", "0,25") for line in TEXT.splitlines()),
        "line 3 has more cells",
    ),
    "semicolons": (lambda: TEXT.replace(",", ";"), "it has no run, algorithm.*save it with commas"),
    "a column less": (
        lambda: text_of(table_of(TEXT), tuple(n for n in CSV_COLUMNS if n != "floor")),
        "it has no floor",
    ),
    "a column twice": (lambda: TEXT.replace("uplift", "gap", 1), "it has gap twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_lost_something_is_refused_in_one_line(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        read_csv(make())
    assert "\n" not in str(caught.value)


def test_whole_runs_may_be_left_out():
    back = read_csv(keep(lambda row: row["technique"] == "dr" and row["seed"] == "1"))
    assert [(record.technique, record.seed) for record in back] == [("dr", 1)]


def test_no_library_takes_a_setting_for_a_number():
    """One in six would be digits alone, or digits with an e, without the letter."""
    settings = {make_record(total_steps=steps).setting for steps in range(200)}
    digits = [setting[1:] for setting in settings]
    assert any(digit.isdecimal() for digit in digits)
    for setting in settings:
        with pytest.raises(ValueError):
            float(setting)


def test_a_setting_of_earlier_rows_stays():
    (record,) = read_csv(text_of([row | {"setting": "0427"} for row in table_of(TEXT)[:10]]))
    assert isinstance(record, Record) and record.setting == "0427"
    assert json.dumps(record.setting) == '"0427"'
