"""Arms with hyper-parameters of their own, trained: programs, results, words."""

import csv
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import small_runs
from jaxgen.results.read import read_records
from jaxgen.results.store import open_store
from jaxgen.running.watching.console import log_lines
from jaxgen.study.presets import preset
from jaxgen.study.spec import Evaluation
from small_runs import run, small_study

ARMS = ("dr", "dr@sigma=0.05", "dr@hidden=16x16")


@pytest.mark.slow
def test_a_float_is_a_lane_and_a_width_is_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Compilations of training are counted, not groups: one for the first two arms, another one
    for the third. The console has a line for each."""
    compiled: list[Any] = []
    compile_lowered = jax.stages.Lowered.compile

    def counted(lowered: Any, *args: Any, **kwargs: Any) -> Any:
        compiled.append(compile_lowered(lowered, *args, **kwargs))
        return compiled[-1]

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    monkeypatch.setattr(small_runs, "_programs", {})
    evaluation = Evaluation(episodes=2, curve_episodes=1)
    study = small_study("es", techniques=ARMS, seeds=[0], evaluation=evaluation)
    recorder = run(study, tmp_path)
    assert len(compiled) == 2
    shown = [line.split(" (")[0] for curve in recorder.curves for line in log_lines(*curve)]
    assert set(shown) == {f"es cartpole {arm}" for arm in ARMS}


def test_an_arm_with_the_presets_own_value_trains_as_the_arm_without(tmp_path: Path):
    """The value takes its way through name, specification and lane, and changes no bit."""
    rate = preset("ppo", "cartpole").learning_rate
    arms = ("gar", f"gar@learning_rate={rate}", "gar@learning_rate=0.01")
    run(small_study("ppo", techniques=arms, seeds=[0]), tmp_path)
    records, damage = read_records(open_store(tmp_path))
    assert damage == []
    by_arm = {record.arm: record for record in records}
    assert set(by_arm) == set(arms)
    plain, same, other = (by_arm[arm] for arm in arms)
    assert {record.setting for record in records} == {plain.setting}
    for key in ("scores", "training", "gas", "evaluation"):
        assert plain.result[key] == same.result[key]
        assert plain.result[key] != other.result[key]
    for name, values in plain.load_history().items():
        np.testing.assert_array_equal(values, same.load_history()[name])
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert {(row["technique"], row["arm"]) for row in rows} == {("gar", arm) for arm in arms}
    summary = (tmp_path / "experiment_summary.txt").read_text()
    for own in (rate, 0.01):
        assert re.search(rf"^ppo@learning_rate={own} +gar ", summary, re.MULTILINE)
