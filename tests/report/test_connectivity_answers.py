"""Tables of lines: intervals, differences and trends that follow by hand from rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments import report as command
from jaxgen.report.connectivity.answers import answers
from jaxgen.report.connectivity.measures import COLUMNS, Row, read_rows, table_of
from jaxgen.report.connectivity.report import read_source, write_report
from jaxgen.report.documents.document import Table
from jaxgen.system.errors import BadInput

POINTS = (0.1, 0.5, 0.9)


def row(seed: int, strategy: str, point: float | None, barrier: float, **changes: Any) -> Row:
    values: Row = dict.fromkeys(COLUMNS)
    values |= {
        "environment": "cartpole", "algorithm": "ppo", "arm": "baseline", "strategy": strategy,
        "path": "straight", "point": point, "seed": seed, "number": 1, "level": 0.0,
        "first": 90.0, "second": 80.0, "learned": True, "distance": 1.0, "barrier": barrier,
        "instability": 3.0, "stable_as_specified": True, "parent": "ppo_cartpole_baseline-1",
        "quick": False,
    }  # fmt: skip
    return values | changes


def study() -> list[Row]:
    """Seven parents: copies fall from .3 to 0, fresh ones are .1 above them."""
    rows = []
    for seed in range(7):
        noise = 0.001 * (seed - 3)
        for point, barrier in zip(POINTS, (0.3, 0.1, 0.0), strict=True):
            rows.append(row(seed, "copy", point, barrier + noise, a_ood=0.9 - barrier - noise))
            rows.append(row(seed, "fresh", point, barrier + 0.1 + 2 * noise))
            rows.append(row(seed, "copy", point, barrier + 0.2 + noise, level=1.0))
        rows.append(row(seed, "independent", None, 0.8, stable_as_specified=False))
        rows.append(row(seed, "independent", None, 0.4, path="aligned"))
    rows.append(row(7, "copy", 0.1, 0.0, learned=False) | {"barrier": None})
    return rows


def table(rows: list[Row], title: str) -> Table:
    (section,) = [section for section in answers(rows) if section.title == title]
    found = section.blocks[0]
    assert isinstance(found, Table)
    return found


def test_cells_have_t_intervals_over_parents_and_a_verdict():
    values = 0.3 + 0.001 * (np.arange(7) - 3)
    half = stats.t.ppf(0.975, 6) * values.std(ddof=1) / np.sqrt(7)
    found = table(study(), "Barriers by fork point")
    assert found.header == ("strategy", "0.1", "0.5", "0.9", "no point")
    rows = {line[0]: line[1:] for line in found.rows}
    assert rows["copy"][0] == f"0.300 +- {half:.3f} != (7)"
    assert rows["copy"][2] == f"0.000 +- {half:.3f} = (7)" and rows["copy"][3] == ""
    assert rows["independent"] == ("", "", "", "0.800 +- 0.000 != (7)")


def test_strategies_are_compared_at_the_same_points_within_a_parent():
    differences = 0.1 + 0.001 * (np.arange(7) - 3)
    half = stats.t.ppf(0.975, 6) * differences.std(ddof=1) / np.sqrt(7)
    (line,) = table(study(), "Beside a copy").rows
    # All seven are above 0: 2 of 2^7 patterns of signs are as extreme.
    assert line[1:] == ("fresh", f"**+0.100 +- {half:.3f}** (7)", f"{2 / 128:.3f}")


def test_barriers_that_fall_have_a_rank_correlation_of_minus_one():
    lines = {line[1]: line[2:] for line in table(study(), "Over training").rows}
    assert lines["copy"][0] == "**-1.000 +- 0.000** (7)" and lines["copy"][1] == "0.016"


def test_levels_are_differences_of_the_same_lines():
    (line,) = table(study(), "By level").rows
    assert line[1:] == ("copy", "1", "**+0.200 +- 0.000** (7)")


def test_other_paths_stand_beside_the_straight_one():
    lines = [line[1:] for line in table(study(), "Other paths").rows]
    assert lines == [
        ("independent", "straight", "0.800 +- 0.000 != (7)"),
        ("independent", "aligned", "0.400 +- 0.000 != (7)"),
    ]


def test_what_is_specified_is_counted_beside_the_barrier():
    lines = {line[1]: line[2:] for line in table(study(), "As specified").rows}
    assert lines["copy"] == ("22 of 22", "7 of 21") and lines["independent"][0] == "0 of 7"


def test_a_barrier_that_costs_generalisation_is_seen():
    """A_ood falls as the barrier rises, within each of three points."""
    (line,) = table(study(), "Barrier and generalisation").rows
    assert line[1:4] == ("copy", "3", "21") and line[4].startswith("-1.00 [")


def test_critics_stand_beside_policies():
    rows = [row(seed, "copy", 0.5, 0.1, td_rise=0.2, td_rise_both=0.4, correlation=0.9)
            for seed in range(3)]  # fmt: skip
    (line,) = table(rows, "Policy and critic").rows
    assert [cell.strip("*").split()[0] for cell in line[2:]] == ["+0.100", "+0.200", "+0.400",
                                                                 "+0.900"]  # fmt: skip
    assert "Policy and critic" not in [section.title for section in answers(study())]


def test_a_report_is_made_again_from_its_own_rows(tmp_path, capsys):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "connectivity.csv").write_text(table_of(study()))
    assert command.main([str(folder)]) == 0
    assert "report.md" in capsys.readouterr().out
    made = folder / "report"
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    assert set(before) == {"report.md", "report.html", "connectivity.csv.gz"}
    assert before["report.md"].startswith(b"# Connectivity\n\n8 parents, 78 rows of lines.")
    assert command.main([str(made)]) == 0
    assert before == {path.name: path.read_bytes() for path in made.iterdir()}
    assert read_rows(read_source([made])) == read_rows(table_of(study()))


def test_what_is_no_table_of_lines_is_refused(tmp_path, capsys):
    file = tmp_path / "connectivity.csv"
    file.write_text("a,b\n1,2\n")
    assert command.main([str(file)]) == 2
    assert "no table of lines; its columns must be environment" in capsys.readouterr().err
    text = table_of(study())
    file.write_text(text.replace("True", "yes"))
    with pytest.raises(BadInput, match="a table of lines is damaged"):
        read_source([file])
    file.write_text(text)
    with pytest.raises(BadInput, match="two of the folders have rows of the same lines"):
        read_source([file, file])
    assert command.main([str(file), "--names", "one"]) == 2
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(BadInput, match="is in the way"):
        write_report(text, tmp_path)
    assert Path(tmp_path / "report.md").read_text() == "mine"
