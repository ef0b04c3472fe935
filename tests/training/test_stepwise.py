"""Training step by step on the host: a lane's bits depend on nothing but the lane."""

from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from box_envs import BoxHostTask, BoxTask
from jaxgen.algorithms import ALGORITHMS
from jaxgen.techniques import make_technique
from jaxgen.training.device import make_device_program
from jaxgen.training.host_program import make_host_program
from jaxgen.training.program import Lanes, Program, lane_at, stack_lanes
from probe_envs import assert_same_bits, tiny_config

SEEDS, NUM_ITERATIONS = [3, 5, 8], 8
NAMES = ("ppo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sac", "es")))
SMALL: dict[str, dict[str, Any]] = {"sac": {"num_envs": 1, "num_steps": 1, "learning_starts": 6}}


def lanes_of(name: str, seeds: list[int]) -> Lanes:
    """Each seed with the technique that its place has among all."""
    techniques = dict(zip(SEEDS, ("baseline", "reg", "gar")))
    config = tiny_config(name, **SMALL.get(name, {}))
    arms = ["baseline"] * 3 if name == "es" else [techniques[seed] for seed in seeds]
    return stack_lanes([(config, make_technique(arm)) for arm, _ in zip(arms, seeds)], seeds)


@cache
def program_of(name: str, num_devices: int) -> Program:
    devices = jax.local_devices()[:num_devices]
    return make_host_program(
        BoxHostTask(), ALGORITHMS[name], lanes_of(name, SEEDS), bridge="steps", devices=devices
    )


def opened(program: Program, lanes: Lanes) -> Any:
    """The environments, which start where the seeds say."""
    env: Any = program.world.content(lanes, 0)
    env.first[:] = np.asarray(lanes.seed).reshape(-1, 1, 1) / 20
    return env


def train(name: str, seeds: list[int], cuts: list[int], num_devices: int = 2) -> Any:
    """Carry and metrics ``[L, I]`` after iterations from one cut to the next."""
    program, lanes = program_of(name, num_devices), lanes_of(name, seeds)
    env = opened(program, lanes)
    carry, pieces = program.learner.init(lanes, env), []
    for start, stop in zip(cuts, cuts[1:]):
        carry, metrics = program.learner.train(lanes, carry, env, start, stop)
        pieces.append(metrics)
    metrics = {key: np.concatenate([piece[key] for piece in pieces], 1) for key in pieces[0]}
    return jax.tree.map(np.asarray, carry), metrics, env


@cache
def whole(name: str) -> Any:
    return train(name, SEEDS, [0, NUM_ITERATIONS])[:2]


@pytest.mark.parametrize("name", NAMES)
def test_lanes_learn_and_differ(name):
    """What follows means nothing if they did not."""
    carry, metrics = whole(name)
    params = program_of(name, 2).learner.params(lanes_of(name, SEEDS), carry)
    first = train(name, SEEDS, [0, 1])[0]
    before = program_of(name, 2).learner.params(lanes_of(name, SEEDS), first)
    assert (np.asarray(params) != np.asarray(before)).any(1).all()
    assert len(np.unique(np.asarray(params), axis=0)) == len(SEEDS)
    assert metrics["loss"].shape == (len(SEEDS), NUM_ITERATIONS)
    assert np.isfinite(metrics["loss"][:, -1]).all() and (metrics["updates"][:, -1] > 0).all()
    assert (np.diff(metrics["env_steps"]) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_company_devices_and_chunks_change_no_bit(name):
    carry, metrics = whole(name)
    one_device = train(name, SEEDS, [0, NUM_ITERATIONS], num_devices=1)
    assert_same_bits(one_device[:2], (carry, metrics))
    chunks = train(name, SEEDS, [0, 1, 4, NUM_ITERATIONS])
    assert_same_bits(chunks[:2], (carry, metrics))
    for index, seed in enumerate(SEEDS):
        alone, of_lane, _ = train(name, [seed], [0, NUM_ITERATIONS])
        assert_same_bits(alone.state[0], carry.state[index])
        assert_same_bits(lane_at(of_lane, 0), lane_at(metrics, index))


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_saved_carry_goes_on_with_the_same_bits(name):
    program, lanes = program_of(name, 2), lanes_of(name, SEEDS)
    carry, _, env = train(name, SEEDS, [0, 5])
    saved, state = program.world.save(carry, env, None)
    fresh = opened(program, lanes)
    resumed = program.world.resume(saved, fresh, [(None, state)])
    after, _ = program.learner.train(lanes, resumed, fresh, 5, NUM_ITERATIONS)
    assert_same_bits(jax.tree.map(np.asarray, after), whole(name)[0])


@pytest.mark.parametrize("name", NAMES[:2])
def test_what_is_compiled_ahead_is_what_runs(name):
    """And nothing of the state is consumed by it."""
    program, lanes = program_of(name, 2), lanes_of(name, SEEDS)
    env = opened(program, lanes)
    carry = program.learner.init(lanes, env)
    trained = program.learner.compile(lanes, carry, env)
    after, metrics = trained(lanes, carry, env, 0, NUM_ITERATIONS)
    # Of lanes on two devices.
    params = np.asarray(program.learner.params(lanes, after))
    for index, state in enumerate(whole(name)[0].state):
        optimizer = state.actor if name == "sac" else state.optimizer
        np.testing.assert_array_equal(params[index], optimizer.params)
    assert_same_bits((jax.tree.map(np.asarray, after), metrics), whole(name))


@pytest.mark.parametrize("name, num", [pytest.param("sac", 3, marks=pytest.mark.slow), ("ppo", 1)])
def test_the_same_transitions_as_from_inside_of_a_program(name, num):
    """The host's environment and the one in JAX start and move alike, until episodes end after four
    steps: equal losses up to rounding."""
    lanes = lanes_of(name, SEEDS[:1])
    program = make_device_program(
        BoxTask(), ALGORITHMS[name], chunk=NUM_ITERATIONS, devices=jax.local_devices()[:1]
    )
    content = program.world.content(lanes, 0)
    carry = program.learner.init(lanes, content)
    host = program_of(name, 1)
    env: Any = host.world.content(lanes, 0)
    first = host.learner.init(lanes, env)
    env.first[:] = np.asarray(carry.episodes.state.side)
    env.reset(0)
    first = first._replace(episodes=first.episodes._replace(obs=np.asarray(carry.episodes.obs)))
    _, ours = host.learner.train(lanes, first, env, 0, num)
    _, theirs = program.learner.train(lanes, carry, content, 0, num)
    for key in ("loss", "env_steps", "updates", "grad_norm"):
        np.testing.assert_allclose(
            np.asarray(ours[key]), np.asarray(theirs[key])[:, :num], rtol=1e-3, atol=1e-5
        )
