"""An algorithm, two environments and a technique registered at run time: everything finds them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import plugged
from envs_jax import make_task
from experiments.command_line import parse, study_of
from jaxgen.__main__ import describe_level
from jaxgen.algorithms import ALGORITHMS
from jaxgen.report.summary import summary
from jaxgen.results.read import read_records, read_results
from jaxgen.results.records import algorithm_order, environment_order
from jaxgen.results.store import open_store
from jaxgen.study.cards import ALGORITHM_CARDS, ENVIRONMENT_CARDS, figure_title, sentence_title
from jaxgen.study.estimate import describe_plan
from jaxgen.study.presets import algorithm_names, preset
from jaxgen.study.spec import Evaluation
from jaxgen.techniques import COMPONENTS
from jaxgen.training.program import stack_lanes
from small_runs import run, small_study

ROOT = Path(__file__).parents[1]


@pytest.fixture
def plugins(monkeypatch):
    """Registers all of them, and forgets them afterwards."""
    registries: list[Any] = [ALGORITHM_CARDS, ENVIRONMENT_CARDS, COMPONENTS]
    before = [dict(registry) for registry in registries]
    plugged.register()
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


def test_names_find_their_cards(plugins):
    assert {"twin", "twin-bold"} < set(algorithm_names()) and "twin" in ALGORITHMS
    assert preset("twin-bold", "slope").learning_rate == plugged.TINY.learning_rate
    assert make_task("slope").spec.name == "slope"
    assert (figure_title("slope"), sentence_title("slope")) == ("Slope", "the slope")
    assert algorithm_order("twin-bold")[0] == algorithm_order("twin")[0] == 6
    assert environment_order("box")[0] == len(ENVIRONMENT_CARDS) - 1
    assert describe_level(make_task("slope"), 0.5, 4) == "v = 0.5: slope 0.5 x 4"


def test_the_command_line_lists_them(plugins):
    """The environment is one of those that a study takes by default."""
    words = ["--algo", "twin", "--technique", "dr-edge", "--env", "slope", "--list"]
    text = describe_plan(study_of(parse(words)))
    assert "twin on slope: 3 lanes" in text and "twin_slope_dr-edge-" in text
    names = study_of(parse(["--algo", "twin", "--env", "cartpole", "--technique", "baseline"]))
    assert {spec.environment for spec, _ in names.lanes} == {"cartpole"}


def test_its_numbers_are_lanes_of_one_program(plugins):
    """A configuration that is new to JAX is a pytree as soon as lanes are stacked."""
    bold = preset("twin-bold", "slope")
    technique = COMPONENTS["dr-edge"]
    lanes = stack_lanes([(preset("twin", "slope"), technique), (bold, technique)], [0, 1])
    np.testing.assert_array_equal(lanes.config.boldness, [1.0, 2.0])  # pyright: ignore
    assert len(jax.tree.leaves(lanes.config)) == 9


def test_a_study_of_them_trains_and_is_reported(plugins, tmp_path):
    study = small_study(
        "twin", "slope", ["baseline", "dr-edge"], [0], total_steps=24 * 8,
        evaluation=Evaluation(episodes=10),
    )  # fmt: skip
    run(study, tmp_path)
    records = read_results(open_store(tmp_path), "twin_slope_")
    assert {record.technique for record in records} == {"baseline", "dr-edge"}
    assert all(record.result["training"]["value_loss_last"] is not None for record in records)
    assert "slope" in summary(records)


@pytest.mark.slow
def test_a_study_with_box_actions_trains_and_is_reported(plugins, tmp_path):
    """Population and evaluation act in [-1, 1], the environment in its box: ES gets nearer to the
    target of every start, so that its return at level 0, 0 at best, rises."""
    total_steps = 150 * 4 * 20
    run(small_study("es", "box", ["baseline", "dr"], [0], total_steps=total_steps), tmp_path)
    records, damage = read_records(open_store(tmp_path))
    assert damage == [] and {record.arm for record in records} == {"baseline", "dr"}
    for record in records:
        curve = record.load_history()["eval_return"]
        assert curve[-1] > curve[0]
    assert "box" in summary(records)


@pytest.mark.slow
def test_they_inherit_the_contract_tests():
    """Tests that are collected after a plug-in has registered its cards hold for them too."""
    command = [
        sys.executable, "-m", "pytest", "-v", "-p", "plugged", "-p", "no:cacheprovider",
        "tests/algorithms/test_contracts.py", "tests/envs_jax/test_environments.py",
        "-k", "(types and (dr-edge or twin-gar or slope)) or made_of_arrays or preset or box",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("keeps_its_types[twin-gar]", "keeps_its_types[twin-dr-edge]",
                 "keeps_its_types[es-dr-edge]", "test_shapes_and_types[slope]",
                 "test_shapes_and_types[box]", "test_runs_in_gymnax_wrappers[box]"):  # fmt: skip
        assert f"{name} PASSED" in done.stdout
