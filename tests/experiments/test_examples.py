"""The example of a plug-in: its environment and its technique train in a study as any other."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxgen import load_plugin
from jaxgen.results.read import read_records
from jaxgen.results.store import open_store
from jaxgen.study import plugins
from jaxgen.study.cards import ENVIRONMENT_CARDS
from jaxgen.techniques import COMPONENTS
from small_runs import run, small_study

BOAT = Path(__file__).parents[2] / "experiments" / "examples" / "boat.py"


@pytest.fixture
def boat(monkeypatch):
    """The example, loaded as ``--plugin`` loads it; forgotten afterwards."""
    registries: list[Any] = [ENVIRONMENT_CARDS, COMPONENTS]
    before = [dict(registry) for registry in registries]
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_loaded", {})
    yield load_plugin(BOAT)
    del sys.modules["boat"]
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)


def test_the_boat_trains_and_is_scored(boat, tmp_path):
    arms = ["baseline", "dr-edge"]
    run(small_study("ppo", "boat", arms, [0], total_steps=3_840), tmp_path)
    records, damage = read_records(open_store(tmp_path))
    assert damage == [] and {record.arm for record in records} == set(arms)
    for record in records:
        assert record.result["references"]["ceiling"] == [boat.STEPS] * 5


def test_a_boat_that_is_not_steered_is_swept_away_and_one_that_is_steered_holds(boat):
    """At level 1: by .8 t^2 / 2 from the middle to the bank in 1.6 s, 16 steps of .1 s; the rudder
    is stronger than the current."""
    channel, current = boat.Channel(), np.float32(0.8)
    words = np.array([2**31], np.uint32)

    def steps_lived(steer):
        (side, speed), state = channel.reset_from(words, current)
        for step in range(1, boat.STEPS + 1):
            obs, state, _, ended, _ = channel.advance(state, steer(side, speed), current)
            side, speed = map(float, obs)
            if ended:
                return step
        return boat.STEPS

    assert steps_lived(lambda side, speed: 1) == 16
    assert steps_lived(lambda side, speed: 0 if side + speed > 0 else 2) == boat.STEPS
