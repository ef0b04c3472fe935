"""Learning rates that fall over the budget, of every algorithm alike."""

import jax
import numpy as np
import pytest

from jaxgen.study.presets import preset
from jaxgen.system.errors import BadInput
from jaxgen.techniques import make_technique
from jaxgen.training.program import lane_at, scheduled, stack_lanes
from probe_envs import NUM_LANES, start, tiny_config, traced, train

ALGORITHMS = ("ppo", "es", "sac")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("linear", (1, 0.75, 0.5, 0)),
        ("cosine", (1, (1 + np.cos(np.pi / 4)) / 2, 0.5, 0)),
        ("constant", (1, 1, 1, 1)),
    ],
)
def test_rates_at_the_start_a_quarter_half_and_the_end(algorithm, schedule, factors):
    """Of the env steps in whole iterations, or of the budget where these count unlike."""
    config = tiny_config(algorithm, learning_rate_schedule=schedule)
    lane = lane_at(stack_lanes([(config, make_technique("gar"))], [0]), 0)
    budget = config.total_steps
    if config.counts_alike:
        budget = config.num_iterations * config.steps_per_iteration
    steps = np.array([0, budget / 4, budget / 2, budget])
    rates = [scheduled(lane, np.float32(each)).config.learning_rate for each in steps]  # pyright: ignore
    np.testing.assert_allclose(rates, config.learning_rate * np.array(factors), atol=1e-7)
    if schedule == "constant":
        assert scheduled(lane, np.int32(3)) is lane  # pyright: ignore


def params_after(num_iterations: int, **changes: object) -> np.ndarray:
    """Parameters of PPO, all lanes alike but for their seeds."""
    config = tiny_config("ppo", **changes)
    lanes = stack_lanes([(config, make_technique("gar"))] * NUM_LANES, list(range(NUM_LANES)))
    program = traced("ppo").program
    content, first = start(program, lanes)
    carry, _ = train(program, lanes, first, content, (0, num_iterations))
    return np.asarray(carry.state.params)


def test_the_first_iteration_is_as_without_and_linear_is_what_ppo_has_as_annealing():
    np.testing.assert_array_equal(
        params_after(1), params_after(1, learning_rate_schedule="linear")
    )
    falling, annealed, constant = (
        params_after(6, **changes) for changes in (
            {"learning_rate_schedule": "linear"}, {"anneal_learning_rate": True}, {},
        )
    )  # fmt: skip
    np.testing.assert_allclose(falling, annealed, atol=1e-4)
    assert np.abs(falling - constant).max() > 10 * np.abs(falling - annealed).max()


def test_a_schedule_is_part_of_a_run_only_where_there_is_one():
    from jaxgen.study.config import replace, to_dict

    config = preset("ppo", "cartpole")
    assert "learning_rate_schedule" not in to_dict(config)
    assert to_dict(replace(config, {"learning_rate_schedule": "cosine"}))[
        "learning_rate_schedule"
    ] == "cosine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate_schedule": "step"}, "'step' is not allowed; use one of constant, linear"),
        ({"learning_rate_schedule": "linear", "anneal_learning_rate": True},
         "'linear' is not allowed; use constant, or anneal_learning_rate = false"),
    ],
)
def test_other_schedules_are_refused(changes, message):
    with pytest.raises(BadInput, match=message):
        tiny_config("ppo", **changes)


def test_lanes_with_and_without_a_schedule_are_two_programs():
    arms = [(tiny_config("ppo", **changes), make_technique("gar"))
            for changes in ({}, {"learning_rate_schedule": "linear"})]  # fmt: skip
    with pytest.raises(ValueError, match="differ in learning_rate_schedule"):
        stack_lanes(arms, [0, 1])
    assert len(jax.tree.leaves(arms[0][0])) == len(jax.tree.leaves(arms[1][0]))
