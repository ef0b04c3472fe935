"""Tables for other programs: numbers that read back, and LaTeX that fits a page."""

import csv
import io
import re

import numpy as np
import pytest
from test_report import BASE, DR, arm, cells_of

from jaxgen.evaluation.statistics import bootstrap
from jaxgen.report.generalisation.paper import WIDEST, arms_csv, arms_latex
from jaxgen.results.records import Cell
from synthetic_records import make_record, with_overrides


def read(cells: list[Cell]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(arms_csv(cells))))


def test_scores_are_numbers_with_their_interval():
    (row,) = read(cells_of(arm("dr", DR)))
    expected = bootstrap([list(DR)])
    found = [float(row[f"A_ood_{end}"]) for end in ("mean", "low", "high")]
    assert found == pytest.approx([expected.estimate, expected.low, expected.high])
    assert (row["n"], row["learned"], row["bounds"]) == ("20", "20", "95 % interval")
    assert [float(row[f"s_at_{level}"]) for level in ("0", "0.5")] == pytest.approx([0.9, 0.7])
    words = {"environment", "algorithm", "technique", "bounds"}
    assert all(np.isfinite(float(value)) for name, value in row.items() if name not in words)


def test_bounds_of_few_seeds_are_their_range():
    (row,) = read(cells_of(arm("dr", [0.4, 0.5, 0.6])))
    assert row["bounds"] == "range of seeds"
    assert [float(row[f"A_ood_{end}"]) for end in ("mean", "low", "high")] == pytest.approx(
        [0.5, 0.4, 0.6]
    )


def test_what_there_is_no_number_of_is_empty():
    (failed,) = read(cells_of(arm("dr", [0.1, 0.2], failed=True)))
    assert failed["grs_n_mean"] == "" and failed["grs_n_n"] == "0" and failed["A_ood_mean"]
    (lost,) = read(cells_of(arm("dr", [0.5], diverged=[0])))
    assert lost["return_at_0"] == "" and lost["diverged"] == "1"


def test_latex_is_one_table_with_caption_and_label():
    text = arms_latex(cells_of(arm("baseline", BASE), arm("dr", DR)))
    for part in (r"\begin{table}", r"\end{table}", r"\caption{", r"\label{tab:arms}"):
        assert text.count(part) == 1
    assert [line for line in text.splitlines() if line.endswith("rule")] == [
        r"\toprule", r"\midrule", r"\bottomrule"
    ]  # fmt: skip
    assert text.count("{") == text.count("}")


def test_best_arm_of_each_algorithm_is_bold():
    cells = cells_of(
        arm("baseline", BASE), arm("dr", DR), arm("baseline", DR, "dqn"), arm("dr", BASE, "dqn")
    )
    lines = {line.split(" & ")[0]: line.split(" & ")[1:] for line in
             arms_latex(cells).splitlines() if " & " in line}  # fmt: skip
    bold = {name: [r"\textbf" in entry for entry in entries] for name, entries in lines.items()}
    assert bold == {"CartPole": [False] * 2, "baseline": [False, True], "dr": [True, False]}
    assert re.search(r"\\textbf\{0\.500\} \{\\scriptsize \[0\.\d{3}, 0\.\d{3}\]\}", lines["dr"][0])


def test_latex_says_what_parentheses_are_only_where_there_are_some():
    assert "parentheses" not in arms_latex(cells_of(arm("dr", DR)))
    text = arms_latex(cells_of(arm("dr", [0.4, 0.5, 0.6])))
    assert "parentheses" in text and "0.500 {\\scriptsize (0.400, 0.600)}" in text


def test_no_row_of_latex_has_more_columns_than_the_table():
    """Settings with several arms are columns in further parts, those with one arm are lines."""
    groups = [arm("dr", DR[:3], name) for name in ("ppo", "dqn", "es", "ppo-published")]
    groups += [
        [with_overrides(record, hidden=[size]) for record in arm(name, DR[:3])]
        for size in (8, 16)
        for name in ("baseline", "dr")
    ]
    text = arms_latex(cells_of(*groups))
    assert rf"\begin{{tabular}}{{l{'c' * WIDEST}}}" in text
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert max(line.count(" & ") for line in lines) == WIDEST
    assert any(line.startswith("ppo-published, dr & 0.") for line in lines)
    assert r"PPO@hidden=8" in text and not any("publ" in line for line in lines[:1])


def test_latex_escapes_names():
    (record,) = [with_overrides(make_record(), learning_rate=0.1)]
    assert r"PPO@learning\_rate=0.1" in arms_latex(cells_of([record]))


def test_several_environments_follow_each_other():
    text = arms_latex(cells_of(arm("dr", DR), arm("dr", DR, environment="minigrid")))
    assert text.index("CartPole & PPO") < text.index("Grid & PPO")
    assert text.count(r"\midrule") == 3
