"""Arms with hyper-parameters of their own, trained: programs, results, words."""

import csv
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import small_runs
from jaxgen.results.read import read_records
from jaxgen.results.store import open_store
from jaxgen.study.presets import preset
from small_runs import run, small_study

ARMS = {"floats": ("gar", "gar@learning_rate=0.001"), "widths": ("gar", "gar@hidden=16x16")}


@pytest.mark.parametrize(("arms", "programs"), [("floats", 1), ("widths", 2)])
def test_a_float_is_a_lane_and_a_width_is_a_program(
    arms: str, programs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Compilations of training are counted, not groups."""
    compiled: list[Any] = []
    compile_lowered = jax.stages.Lowered.compile

    def counted(lowered: Any, *args: Any, **kwargs: Any) -> Any:
        compiled.append(compile_lowered(lowered, *args, **kwargs))
        return compiled[-1]

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    monkeypatch.setattr(small_runs, "_programs", {})
    study = small_study("ppo", techniques=ARMS[arms], seeds=[0], total_steps=1_536)
    recorder = run(study, tmp_path)
    assert len(compiled) == programs
    # A line of the console for each arm, whether they share a program or not.
    lanes = {spec.arm for lanes, _ in recorder.curves for spec, _ in lanes}
    assert lanes == set(ARMS[arms])


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
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert {(row["technique"], row["arm"]) for row in rows} == {("gar", arm) for arm in arms}
    summary = (tmp_path / "experiment_summary.txt").read_text()
    assert all(arm in summary for arm in arms)
