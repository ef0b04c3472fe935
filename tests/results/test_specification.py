"""The page on the specification: what it calls measured is what the committed study contains."""

import csv
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaxgen.report.source import MAKING, ROWS
from jaxgen.study.cards import ALGORITHM_CARDS, environment_names
from jaxgen.study.cards.base import Listing
from jaxgen.study.product import make_study
from jaxgen.techniques import SUITES

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PAGE = EXPERIMENTS / "SPECIFICATION.md"
NAMES = {"CartPole": "cartpole", "grid": "minigrid"}


def table(heading: str) -> list[list[str]]:
    """Rows of the table below a heading."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """Rows of the study's results.csv: greedy, at level 0."""
    text = gzip.decompress((EXPERIMENTS / "study" / ROWS).read_bytes()).decode()
    return [
        row for row in csv.DictReader(text.splitlines())
        if row["mode"] == "greedy" and float(row["level"]) == 0
    ]


def values(rows, column, environment, algorithm, technique):
    """A column of the 20 seeds of an arm."""
    chosen = (NAMES[environment], algorithm.lower(), technique)
    found = [
        float(row[column]) for row in rows
        if (row["environment"], row["algorithm"], row["technique"]) == chosen
    ]
    assert len(found) == 20
    return found


def test_returns_are_those_of_the_study(rows):
    measured = [row for row in table("Returns at level 0") if row[0] in NAMES]
    assert len(measured) == 6
    for environment, algorithm, _, text in measured:
        returns = values(rows, "return", environment, algorithm, "baseline")
        digits = 1 if environment == "CartPole" else 3
        assert text == f"{np.mean(returns):.{digits}f} +- {np.std(returns, ddof=1):.{digits}f}"


def test_agreement_is_that_of_the_study(rows):
    for environment, *texts in table("Agreement in training"):
        for algorithm, text in zip(("ppo", "dqn"), texts, strict=True):
            agreements = values(rows, "agree_pair", environment, algorithm, "gar")
            assert text == f"{np.mean(agreements):.3f}"


def test_seconds_are_those_of_the_programs():
    programs = json.loads((EXPERIMENTS / "study" / MAKING).read_text())["programs"]
    measured = [row for row in table("Time of an experiment") if row[0] in NAMES]
    assert len(measured) == 6
    for environment, algorithm, _, text in measured:
        program = programs[f"{algorithm.lower()} {NAMES[environment]}"]
        assert text == f"{sum(program['seconds'].values()) / program['runs']:.1f}"


def test_the_specified_suite_with_all_environments_has_108_runs():
    environments = environment_names(Listing.DEFAULT, Listing.ON_REQUEST)
    algorithms = [name for name, card in ALGORITHM_CARDS.items() if card.listing is Listing.DEFAULT]
    study = make_study(environments, algorithms, SUITES["specified"], [0, 1, 2])
    page = " ".join(PAGE.read_text().split())
    assert (study.num_trained, len(study.groups), study.num_runs) == (90, 9, 108)
    assert "3 x 4 x 3 x 3 = 108 runs" in page
    assert "90 of them are trained and 18 are aliases, in 9 programs" in page


def test_each_preset_that_is_quoted_is_the_one_of_the_results():
    """Mean greedy returns at level 0 over 5 seeds."""
    results = (EXPERIMENTS / "RESULTS.md").read_text()
    for name, value in (("dqn+", "0.939"), ("dqn-onehot", "0.572")):
        assert re.search(rf"^\| {re.escape(name)} \| 5 \|.*?\| {value} \(", results, re.MULTILINE)
        assert f"{value[1:]} (5 seeds)" in PAGE.read_text()
