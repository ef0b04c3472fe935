"""The training loop, on a program that computes nothing: its calls are what is tested."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.techniques import make_technique
from jaxgen.training.loop import Start, is_finished, iterate
from jaxgen.training.program import Capacity, Carry, LaneLearner, Lanes, Program, World, stack_lanes
from probe_envs import tiny_config

STEPS = 24
"""Env steps of an iteration of PPO: V x N x T = 3 x 2 x 4."""
STATE = {"state": np.arange(3)}


def lanes_of(algorithm: str, **overrides: Any) -> Lanes:
    config = tiny_config(algorithm, **overrides)
    return stack_lanes([(config, make_technique("baseline"))] * 2, [0, 1])


def toy(
    calls: list[Any], per_iteration: Any = STEPS, refresh_steps: int | None = None, chunk: int = 3
) -> Program:
    """A program that writes down what it is asked for; content is the number of its epoch, and
    each iteration counts so many env steps, an entry for each of two lanes or one for both."""

    def init(lanes: Lanes, content: Any) -> Carry:
        calls.append(("init", content))
        return Carry((), (), np.zeros(2, np.int32))  # pyright: ignore

    def train(lanes: Lanes, carry: Carry, content: Any, start: int, stop: int) -> Any:
        calls.append((int(start), int(stop), content))
        steps = carry.env_steps + (stop - start) * np.asarray(per_iteration)
        return carry._replace(env_steps=steps), {"env_steps": steps[:, None]}

    def resume(carry: Carry, content: Any, host_states: Any) -> Carry:
        calls.append(("resume", content, host_states))
        return carry

    unused: Any = None
    world = World(refresh_steps, lambda lanes, epoch: int(epoch), unused, unused, unused, resume)
    learner = LaneLearner(init, train, unused, unused, unused, unused, unused)
    return Program(world, learner, unused, unused, Capacity(unused, 1, 1, None, chunk))


def test_calls_cover_all_iterations_and_content_is_refreshed():
    """10 iterations, calls of at most 3, fresh content after every fourth; with a budget of 10
    iterations each is a point of the curve."""
    calls: list[Any] = []
    lanes = lanes_of("ppo", total_steps=STEPS * 10)
    steps = list(iterate(toy(calls, refresh_steps=4 * STEPS), lanes))
    assert calls == [("init", 0), *((i, i + 1, i // 4) for i in range(10))]
    assert [step.fresh for step in steps] == [i % 4 == 0 for i in range(10)]
    assert [step.finished for step in steps] == [False] * 9 + [True]
    assert [step.content for step in steps] == [i // 4 for i in range(10)]
    np.testing.assert_array_equal(steps[-1].carry.env_steps, [240, 240])


def test_calls_end_where_a_chunk_or_a_stretch_of_the_curve_does():
    """100 iterations have a point of the curve every 5: calls of 3 and 2."""
    calls: list[Any] = []
    list(iterate(toy(calls), lanes_of("ppo", total_steps=STEPS * 100)))
    assert calls[:5] == [("init", 0), (0, 3, 0), (3, 5, 0), (5, 8, 0), (8, 10, 0)]
    assert calls[-1] == (98, 100, 0)


def test_training_goes_on_from_a_state():
    """At iteration 6: the content of its epoch is resumed once, and nothing is initialised."""
    calls: list[Any] = []
    carry = Carry((), (), np.array([6 * STEPS] * 2, np.int32))  # pyright: ignore
    lanes, program = lanes_of("ppo", total_steps=STEPS * 10), toy(calls, refresh_steps=4 * STEPS)
    host_states = [(0, STATE), (1, STATE)]
    steps = list(iterate(program, lanes, Start(6, carry, host_states)))
    assert calls == [("resume", 1, host_states), (6, 7, 1), (7, 8, 1), (8, 9, 2), (9, 10, 2)]
    assert [step.fresh for step in steps] == [True, False, True, False]


@pytest.mark.parametrize("iteration", [10, 2])
def test_a_state_at_its_end_trains_no_further(iteration):
    """The last iteration, or before it with the budget of all lanes used."""
    calls: list[Any] = []
    carry = Carry((), (), jnp.array([240, 250], jnp.int32))  # pyright: ignore
    lanes = lanes_of("ppo", total_steps=STEPS * 10)
    assert list(iterate(toy(calls), lanes, Start(iteration, carry))) == calls == []


def test_a_population_ends_when_every_lane_rests():
    """2000 steps: at 700 an iteration three are enough, at 600 in the other lane four."""
    calls: list[Any] = []
    lanes = lanes_of("es")
    (*_, last) = iterate(toy(calls, per_iteration=[700, 600], chunk=1), lanes)
    assert (last.segment.stop, last.finished) == (4, True)
    assert len(calls) == 1 + 4 < lanes.config.num_iterations


def test_a_budget_is_spent_when_every_lane_rests():
    """2000 in both lanes, or the other goes on; at the last iteration, here the 400th, all rest."""
    config = tiny_config("es")
    for last, spent in ((2000, True), (1999, False)):
        assert is_finished(config, 2, np.array([2100, last], np.int32)) is spent
    config = tiny_config("ppo")
    for number, spent in ((399, False), (400, True)):
        assert bool(is_finished(config, number, jnp.array([24 * number]))) is spent


def test_another_function_may_be_called_in_place_of_the_program():
    calls: list[Any] = []
    program = toy(calls)

    def train(*args: Any) -> Any:
        calls.append("called")
        return program.learner.train(*args)

    list(iterate(program, lanes_of("ppo", total_steps=STEPS), train=train))
    assert calls == [("init", 0), "called", (0, 1, 0)]
