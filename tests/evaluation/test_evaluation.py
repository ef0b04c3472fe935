"""From returns to result.json: references, scores, and what is null when."""

import json
import math
from typing import Any

import jax
import numpy as np
import pytest

from envs_jax import make_task
from jaxgen.evaluation.episodes import make_episodes, random_returns
from jaxgen.evaluation.references import References, make_references
from jaxgen.evaluation.scores import score_curve
from jaxgen.results.result import Trained, make_result, total_decay, trim_history
from jaxgen.study.config import SHIFT_LEVELS
from jaxgen.study.product import make_study
from jaxgen.study.spec import MODES, Evaluation, RunSpec
from jaxgen.techniques import COMPONENTS, Technique
from jaxgen.training.keys import evaluation_key
from probe_envs import MAX_STEPS, ProbeTask, both, every, table

NUM_EPISODES = 50
EVALUATION = Evaluation(episodes=NUM_EPISODES)
CEILING = np.array([500.0, 490.0, 480.0, 470.0, 460.0])


def spec_of(technique: str = "gar", **axes: Any) -> RunSpec:
    study = make_study(["cartpole"], ["ppo"], [technique], [0], evaluation=EVALUATION, **axes)
    return study.groups[0].specs[0]


def returns_of(seed: int = 0) -> np.ndarray:
    """[modes, K, E]: greedy falls from 400, sampled from 300."""
    draws = np.random.default_rng(seed).normal(0, 10, (2, 5, NUM_EPISODES))
    means = np.array([[400, 380, 350, 300, 250], [300, 280, 250, 200, 150]])
    return (means[..., None] + draws).astype(np.float32)


REFERENCES = References(
    suite=None,  # pyright: ignore[reportArgumentType]
    floor=np.array([22.0, 27.0, 32.0, 36.0, 39.0]),
    floor_standard_error=np.full(5, 0.3),
    ceiling=CEILING,
    prints=None,
)


def history_of(**changes: Any) -> dict[str, np.ndarray]:
    history = {
        "env_steps": np.array([384, 768, 1152]),
        "updates": np.array([80.0, 80.0, 80.0]),
        "skipped_updates": np.array([0.0, 1.0, 0.0]),
        "episodes": np.array([10.0, 8.0, 4.0]),
        "agree_ref": np.array([0.5, 0.6, 0.7]),
        "agree_pair": np.array([0.1, 0.2, 0.6]),
        "loss": np.array([1.0, 0.5, 0.2]),
        "value_loss": np.array([0.6, 0.3, 0.1]),
        "grad_norm": np.array([0.9, 0.4, 0.2]),
        "reward": np.array([math.nan, 20.0, 30.0]),
        "approx_kl": np.array([math.nan, 0.01, 0.03]),
    }
    return history | changes


def result_of(technique: str = "gar", diverged: bool = False, **changes: Any) -> dict[str, Any]:
    returns = changes.pop("returns", returns_of())
    seen = changes.pop("seen", None)
    params = np.full(3, np.nan if diverged else 1.0)
    trained = Trained(spec_of(technique), 7, params, returns, history_of(**changes), seen)
    return make_result(trained, REFERENCES)


def test_a_result_names_its_run():
    result = result_of()
    assert result["run"] == {
        "algorithm": "ppo", "environment": "cartpole", "technique": "gar", "seed": 7,
        "experiment": "ppo_cartpole_gar", "name": spec_of().name,
    }
    assert (result["status"], result["quick"]) == ("done", False)


def test_pitfall_9_steps_requested_and_actual_are_both_kept():
    assert result_of()["env_steps"] == {"requested": 50_000, "actual": 1152}


def test_pitfall_16_modes_are_apart():
    """Means, standard errors and scores of each mode come from its own returns."""
    result, returns = result_of(), returns_of().astype(np.float64)
    modes, scores = result["evaluation"]["modes"], result["scores"]
    assert list(modes) == list(scores) == list(MODES) == ["greedy", "sampled"]
    for i, mode in enumerate(MODES):
        mean, error = returns[i].mean(1), returns[i].std(1, ddof=1) / math.sqrt(NUM_EPISODES)
        np.testing.assert_allclose(modes[mode]["mean"], mean, rtol=1e-9)
        np.testing.assert_allclose(modes[mode]["standard_error"], error, rtol=1e-6)
        expected = score_curve(
            SHIFT_LEVELS, mean, REFERENCES.floor, CEILING, error[0], 0.3
        ).to_dict()
        assert scores[mode].keys() == expected.keys()
        np.testing.assert_allclose(scores[mode]["s"], expected["s"], rtol=1e-9)
        assert scores[mode]["A"] == pytest.approx(expected["A"])
        assert scores[mode]["grs"] == pytest.approx(expected["grs"])
    assert modes["greedy"]["mean"][0] > modes["sampled"]["mean"][0] + 90


def test_pitfall_16_each_mode_is_valid_by_its_own_errors():
    """Both modes are 60 above the floor at level 0; sampled with a standard error of 500 / 7."""
    returns = returns_of()
    draws = np.random.default_rng(1).normal(0, 1, NUM_EPISODES)
    unit = (draws - draws.mean()) / draws.std(ddof=1)
    returns[:, 0] = 82 + np.array([[10], [500]]) * unit
    scores = result_of(returns=returns)["scores"]
    assert scores["greedy"]["s"][0] == pytest.approx(scores["sampled"]["s"][0], rel=1e-4)
    assert scores["greedy"]["valid"] and not scores["sampled"]["valid"]
    assert scores["sampled"]["grs_n"] is None and not scores["sampled"]["grs_valid"]


def test_levels_and_references_stand_beside_the_returns():
    result = result_of()
    assert result["evaluation"]["levels"] == list(SHIFT_LEVELS)
    assert result["evaluation"]["episodes"] == NUM_EPISODES
    assert result["references"] == {
        "floor": [22.0, 27.0, 32.0, 36.0, 39.0],
        "floor_standard_error": [0.3] * 5,
        "ceiling": CEILING.tolist(),
    }


def test_a_result_is_strict_json():
    result = result_of(seen=np.zeros((5, NUM_EPISODES), bool))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_pitfall_15_a_diverged_run_has_no_evaluation():
    """NaN is a status; what the NaN policy returned is not kept."""
    result = result_of(diverged=True, loss=np.array([1.0, math.nan, math.nan]))
    assert result["status"] == "diverged"
    assert result["evaluation"] is None and result["scores"] is None
    assert result["env_steps"]["actual"] == 1152
    json.dumps(result, allow_nan=False)


def test_pitfall_15_a_nan_return_is_an_error():
    """A policy with finite parameters has finite returns: else something is broken."""
    returns = returns_of()
    returns[0, 2, 3] = math.nan
    with pytest.raises(ValueError, match="returns must be finite at every level"):
        result_of(returns=returns)


def test_pitfall_2_a_policy_at_the_floor_has_null_scores():
    floor = np.broadcast_to(REFERENCES.floor[None, :, None], (2, 5, NUM_EPISODES))
    scores = result_of(returns=floor.astype(np.float32))["scores"]["greedy"]
    assert (scores["valid"], scores["grs_valid"], scores["grs_n"]) == (False, False, None)
    assert scores["reason"] == "did_not_learn"
    assert scores["grs"] > 1, "the literal score misleads, so it is kept and flagged"


def test_totals_are_sums_and_means_leave_out_what_was_not_measured():
    training = result_of()["training"]
    assert (training["updates"], training["skipped_updates"], training["episodes"]) == (240, 1, 22)
    assert training["iterations"] == 3
    assert training["agree_ref"] == pytest.approx(0.6)
    assert training["agree_pair"] == pytest.approx(0.3)
    assert training["approx_kl"] == pytest.approx(0.02)
    assert "clip_fraction" not in training
    never = result_of(agree_pair=np.full(3, math.nan))["training"]
    assert never["agree_pair"] is None


def test_predictors_are_means_of_the_first_and_last_quarter():
    """Nine iterations have quarters of two; an iteration without an episode's end is left out."""
    training = result_of(
        env_steps=np.arange(1, 10),
        reward=np.array([math.nan, 4, 9, 9, 9, 9, 9, 5, 7]),
        value_loss=np.array([2.0, 4, 9, 9, 9, 9, 9, 1, 2]),
        grad_norm=np.array([1.0, 3, 9, 9, 9, 9, 9, 4, 8]),
    )["training"]
    assert (training["train_return_first"], training["train_return_last"]) == (4, 6)
    assert (training["value_loss_first"], training["value_loss_last"]) == (3, 1.5)
    assert (training["grad_norm_first"], training["grad_norm_last"]) == (2, 6)
    ended = result_of(reward=np.full(3, math.nan))["training"]
    assert ended["train_return_first"] is None and ended["train_return_last"] is None


def test_agreement_of_one_level_is_none():
    """An arm that trains on one level has three batches, but no variations to agree."""
    training = result_of("reg")["training"]
    assert training["agree_ref"] is None and training["agree_pair"] is None
    assert training["approx_kl"] == pytest.approx(0.02)


def test_pitfall_7_the_share_of_layouts_that_training_saw():
    seen = np.zeros((5, NUM_EPISODES), bool)
    seen[0, :10] = True
    assert result_of(seen=seen)["layout_overlap"] == [0.2, 0, 0, 0, 0]
    assert result_of()["layout_overlap"] is None


def test_a_history_ends_where_its_lane_rested():
    """A population that used its budget repeats its last state until the others are done."""
    history = history_of(active=np.array([1.0, 1.0, 0.0]))
    trimmed = trim_history(history)
    assert "active" not in trimmed
    np.testing.assert_array_equal(trimmed["env_steps"], [384, 768])
    assert trim_history(history_of())["env_steps"].tolist() == [384, 768, 1152]


def test_pitfall_13_total_decay():
    """1 - (1 - lr wd)^updates: PPO on CartPole, 130 iterations of 80 updates, 3e-8 each."""
    config = spec_of().config
    assert total_decay(config, 0.0, 10_400) == 0
    ours = total_decay(config, 1e-4, 10_400)
    assert ours == pytest.approx(3e-4 * 1e-4 * 10_400, rel=1e-3) == pytest.approx(3.1e-4, rel=0.01)
    assert total_decay(config, 1000.0, 2) == pytest.approx(1 - 0.7**2)


def test_pitfall_23_finished_episodes_earn_nothing_while_others_run():
    """From state 0 one step pays 1 and ends in state 2, which would pay NaN; from state 1 eight
    steps pay 1 each. Both kinds run side by side."""
    uneven = table(
        every([0, 1], 1.0) | every([2], math.nan), moves=every([0], 2), ends=both(0), starts=(0, 1)
    )
    task = ProbeTask(uneven)
    suite = make_episodes(task, evaluation_key(0), (0.0,), 64)
    returns = np.asarray(random_returns(task, suite))
    np.testing.assert_array_equal(returns, np.where(suite.words[..., 0] % 2 == 0, 1, MAX_STEPS))
    assert set(returns.ravel()) == {1, MAX_STEPS}


@pytest.fixture(scope="module")
def references() -> References:
    return make_references(make_task("cartpole"), EVALUATION, evaluation_key(0))


def test_references_are_means_over_the_fixed_episodes(references):
    returns = references.suite.random().astype(np.float64)
    assert returns.shape == (5, NUM_EPISODES)
    np.testing.assert_allclose(references.floor, returns.mean(1))
    error = returns.std(1, ddof=1) / math.sqrt(NUM_EPISODES)
    np.testing.assert_allclose(references.floor_standard_error, error)
    assert references.prints is None
    assert references.floor.dtype == references.ceiling.dtype == np.float64


def test_references_are_fixed_by_their_key(references):
    task = make_task("cartpole")
    again = make_references(task, EVALUATION, evaluation_key(0))
    np.testing.assert_array_equal(again.floor, references.floor)
    np.testing.assert_array_equal(again.suite.episodes.words, references.suite.episodes.words)
    other = make_references(task, EVALUATION, evaluation_key(1))
    assert not np.isin(other.suite.episodes.words, references.suite.episodes.words).any()
    assert (other.floor != references.floor).all()


def test_policies_draw_the_same_in_a_longer_evaluation(references):
    """Episode e has a key of its own, whatever the number of episodes."""
    task, number = make_task("cartpole"), NUM_EPISODES + 10
    longer = make_episodes(task, evaluation_key(0), SHIFT_LEVELS, number)
    ours, theirs = (jax.random.key_data(e.keys) for e in (references.suite.episodes, longer))
    np.testing.assert_array_equal(ours, np.asarray(theirs)[:, :NUM_EPISODES])


@pytest.mark.parametrize("levels", [(0.0, 0.5, 1.0), (0.0, 0.25, 0.75), (0.0, 0.5, 0.6)])
def test_an_arm_that_trains_beyond_the_others_has_no_score_for_unseen_levels(monkeypatch, levels):
    usual = result_of("dr")["scores"]
    monkeypatch.setitem(COMPONENTS, "dr-wide", Technique(levels=levels))
    for mode, scores in result_of("dr-wide")["scores"].items():
        assert scores["A_ood"] is None and usual[mode]["A_ood"] is not None
        assert scores | {"A_ood": 0} == usual[mode] | {"A_ood": 0}


@pytest.mark.parametrize("level", [1.5, -0.25, math.nan, math.inf])
def test_an_arm_that_trains_outside_of_the_levels_is_refused(monkeypatch, level):
    monkeypatch.setitem(COMPONENTS, "dr-beyond", Technique(levels=(0.0, 0.5, level)))
    with pytest.raises(ValueError, match="'dr-beyond' trains on level .*lies in .0, 1."):
        make_study(["cartpole"], ["ppo"], ["dr-beyond"], [0])
    with pytest.raises(ValueError, match="'dr-beyond.reg' trains on level"):
        make_study(["cartpole"], ["ppo"], ["dr-beyond+reg"], [0])
