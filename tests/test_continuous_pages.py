"""The scripts of the pages on continuous control: tables and figures follow from rows."""

import csv
from typing import Any

import numpy as np
import pytest

from experiments import curve, posture
from experiments.curve import REPORTED
from experiments.tables import markdown, read_rows, with_table
from jaxgen.system.errors import BadInput
from small_runs import run, small_study

ROWS = [
    {"algorithm": "ppo", "env_steps": "1000000", "reset_noise_scale": noise, "seed": seed,
     "return": value, "upside_down": share}
    for noise, seed, value, share in (
        ("0.1", "0", "1800.4", "0.95"), ("0.1", "1", "5000.0", "0.0"), ("0.2", "0", "3000.0", "0.1")
    )
]  # fmt: skip


def test_a_table_stands_between_its_marks():
    page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    assert markdown(("h", "i"), [("1", "2")]) == "| h | i |\n| --- | --- |\n| 1 | 2 |"
    assert with_table(page, "x", "new") == page.replace("old", "new")
    assert with_table(with_table(page, "x", "new"), "x", "old") == page


def test_a_line_for_each_noise():
    lines = posture.table(ROWS).splitlines()
    assert lines[2:] == [
        "| `ppo` | 1,000,000 | 0.1 | 2 | 1800, 5000 | 0.95, 0.00 |",
        "| `ppo` | 1,000,000 | 0.2 | 1 | 3000 | 0.10 |",
    ]


def test_the_page_of_robots_has_the_table_of_its_rows():
    text = posture.PAGE.read_text()
    assert with_table(text, "posture", posture.table(read_rows(posture.ROWS))) == text
    assert read_rows(posture.ROWS)


def test_a_curve_beside_what_is_reported():
    """500 000 steps: the mean less half a deviation of a new seed."""
    _, mean, deviation = REPORTED[500_000]
    value = mean - 0.5 * deviation * np.sqrt(1.1)
    lines = curve.table({100_000: 3.0, 500_000: value}).splitlines()
    assert lines[2] == f"| 500,000 | {value:,.0f} | 9,999 | 9,838 +- 922 | -0.5 |"
    assert lines[3] == "| 1,000,000 | not reached | 10,740 | 11,321 +- 1,051 |  |"
    (axes,) = curve.draw({100_000: 3.0, 500_000: value}).axes
    drawn: Any = axes.lines[0]
    np.testing.assert_allclose(drawn.get_xydata(), [[0.1, 3], [0.5, value]])


def test_the_page_has_the_table_of_the_curve_that_is_kept():
    text, kept = curve.PAGE.read_text(), curve.read_curve()
    assert with_table(text, "specified run", curve.table(kept)) == text
    assert f"At 100,000 steps this seed returns {kept[100_000]:,.0f}" in text


@pytest.mark.slow
def test_the_curve_of_a_folder_is_kept(tmp_path, monkeypatch):
    """Of one run its points; a folder of two is refused."""
    monkeypatch.setattr(curve, "CURVE", tmp_path / "curve.csv")
    run(small_study(techniques=("baseline",), seeds=(0,)), tmp_path / "one")
    curve.keep(str(tmp_path / "one"))
    with curve.CURVE.open() as file:
        rows = list(csv.DictReader(file))
    kept = curve.read_curve()
    assert len(rows) == len(kept) > 1 and list(kept) == sorted(kept)
    run(small_study(techniques=("baseline",), seeds=(0, 1)), tmp_path / "two")
    with pytest.raises(BadInput, match="two holds 2 runs that are done; give a folder of one"):
        curve.keep(str(tmp_path / "two"))


@pytest.mark.slow
def test_agents_of_other_environments_are_no_cheetahs(tmp_path, monkeypatch):
    monkeypatch.setattr(posture, "ROWS", tmp_path / "rows.csv")
    run(small_study(techniques=("baseline",), seeds=(0,)), tmp_path / "one")
    with pytest.raises(BadInput, match="one holds agents of cartpole, no cheetahs"):
        posture.keep([str(tmp_path / "one")])
    assert not posture.ROWS.exists()
