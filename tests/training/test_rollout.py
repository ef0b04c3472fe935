"""The collector: true successors, cheap auto-reset, and the same rollout from a host's loop."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax.host import CallbackBridge
from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.base import Algorithm
from jaxgen.nn.random import random_words
from jaxgen.techniques import make_technique
from jaxgen.training.host import (
    HostFunctions,
    HostTrainer,
    init_host_carry,
    make_host_functions,
)
from jaxgen.training.host_rollout import assemble, collect_host, host_metrics
from jaxgen.training.keys import iteration_keys, stream_key
from jaxgen.training.rollout import Episodes, collect, start_episodes
from probe_envs import (
    MATCH,
    NUM_ITERATIONS,
    NUM_STARTS,
    ProbeTask,
    Table,
    assert_same_bits,
    every,
    reference,
    table,
    tiny_config,
)

# Three steps that pay 1, 2 and 3; the third terminates.
WALK = table(
    every([0], 1.0) | every([1], 2.0) | every([2], 3.0),
    moves=every([0], 1) | every([1], 2) | every([2], 4),
    ends=((2, 0), (2, 1)),
)
# The same, but the time limit ends it, in state 4 that shows something else.
CUT = WALK._replace(terminated=np.zeros_like(WALK.terminated), limit=np.int32(3))


def algorithm_of(name: str, **overrides: Any) -> Algorithm:
    config = tiny_config(name, **overrides)
    return ALGORITHMS[name](config, make_technique("baseline"), ProbeTask(WALK).spec)


def collected(first: float | None, table: Table = CUT, num_steps: int = 4, name: str = "dqn"):
    """A rollout on one table, V = 1; ``first`` is the look of a new episode's observation."""
    algorithm, task = algorithm_of(name, num_steps=num_steps), ProbeTask(table)
    params = task.training_params(jax.random.key(0), jnp.zeros(1))
    episodes = start_episodes(task.environment, params, algorithm, jax.random.key(1))
    if first is not None:
        params = params._replace(first=jnp.full_like(params.first, first))
    actor = algorithm.prepare(algorithm.init(jax.random.key(2)), jnp.int32(0), jax.random.key(3))
    return collect(task.environment, params, algorithm, actor, episodes, jax.random.key(4))


def test_the_successor_is_the_true_one_before_the_reset():
    """WALK shows states 0, 1, 2 and then 4, although a new episode begins in 0."""
    _, rollout, _ = collected(None, WALK)
    look = WALK.observed
    np.testing.assert_array_equal(rollout.obs[:, 0, 0], look[[0, 1, 2, 0]])
    np.testing.assert_array_equal(rollout.next_obs[:, 0, 0], look[[1, 2, 4, 1]])
    np.testing.assert_array_equal(rollout.reward[:, 0, 0], [1, 2, 3, 1])
    np.testing.assert_array_equal(rollout.terminated[:, 0, 0], [False, False, True, False])
    assert not rollout.truncated.any()


def test_termination_and_truncation_are_told_apart():
    _, rollout, _ = collected(None, CUT)
    np.testing.assert_array_equal(rollout.truncated[:, 0, 0], [False, False, True, False])
    assert not rollout.terminated.any()


def test_the_metric_is_the_mean_return_of_ended_episodes():
    """Two environments end one episode of 1 + 2 + 3 = 6 each; after two steps nothing has ended."""
    episodes, _, metrics = collected(None)
    assert (metrics["reward"], metrics["episodes"]) == (6, 2)
    np.testing.assert_array_equal(episodes.total, [[1, 1]])
    _, _, metrics = collected(None, num_steps=2)
    assert np.isnan(metrics["reward"]) and metrics["episodes"] == 0


def test_pitfall_3_the_next_episodes_first_observation_does_not_leak():
    """Rollouts of exactly one episode, that differ only in how a new episode looks: no entry of
    the rollout changes, so no target can, although the running observations do."""
    one, other = (collected(first, num_steps=3) for first in (5.0, -7.0))
    assert_same_bits(one[1], other[1])
    assert (one[0].obs != other[0].obs).all()


def test_starts_are_shared_by_members_in_order():
    """es: members 0 .. P-1 have two episodes each, in environments 2p and 2p + 1: all members
    start from the same two words."""
    algorithm, task = algorithm_of("es"), ProbeTask(MATCH)
    params = task.training_params(jax.random.key(0), jnp.zeros(3))
    for seed in range(4):
        key = jax.random.key(seed)
        state: Any = start_episodes(task.environment, params, algorithm, key).state
        starts = np.asarray(state.index).reshape(3, 6, 2)
        np.testing.assert_array_equal(starts, np.broadcast_to(starts[:, :1], starts.shape))


# A numpy environment through the Python loop.


class ToyVecEnv:
    """The probes in numpy for L lanes, with the words that the scanned collector draws.

    It reuses its observation buffers, as a C++ environment does.
    """

    def __init__(self, tables: Table, first_words: list, step_words: np.ndarray):
        self.tables = jax.tree.map(np.asarray, tables)
        self.first_words, self.step_words = list(first_words), step_words
        self.num_steps = 0

    def at(self, leaf: np.ndarray, index: np.ndarray) -> np.ndarray:
        lane, variation = np.ogrid[: index.shape[0], : index.shape[1]]
        return leaf[lane[..., None], variation[..., None], index]

    def restart(self, words: np.ndarray) -> np.ndarray:
        return self.at(self.tables.starts, words % NUM_STARTS)

    def reset(self, number: int) -> np.ndarray:
        self.index = self.restart(self.first_words.pop(0))
        self.time = np.zeros_like(self.index)
        self.obs = self.at(self.tables.first, self.index)
        self.final = np.zeros_like(self.obs)
        return self.obs

    def step(self, action: np.ndarray):
        assert action.dtype == np.int32
        chosen = [self.at(leaf, self.index) for leaf in self.tables[:3]]
        index, reward, terminated = (
            np.take_along_axis(leaf, action[..., None], -1)[..., 0] for leaf in chosen
        )
        self.time = self.time + 1
        truncated = self.time >= self.tables.limit[..., None]
        done = terminated | truncated
        self.final[:] = self.at(self.tables.observed, index)
        fresh = self.restart(self.step_words[self.num_steps])
        self.index, self.time = np.where(done, fresh, index), np.where(done, 0, self.time)
        self.obs[:] = np.where(done[..., None], self.at(self.tables.first, fresh), self.final)
        self.num_steps += 1
        return self.obs, reward, terminated, truncated, self.final


def words_of(name: str) -> tuple[list, np.ndarray]:
    """The words of all resets of the reference run: at starts ``[L, V, N]``, at every step."""
    algorithm, lanes = algorithm_of(name), reference(name).lanes
    num_envs, num_starts = algorithm.shape.num_envs, algorithm.shape.num_starts

    def starts(key):
        return jnp.tile(random_words(key, (3, num_starts)), (1, num_envs // num_starts))

    def of_seed(seed):
        keys = jax.vmap(lambda i: iteration_keys(0, seed, i))(jnp.arange(NUM_ITERATIONS))
        shape = (algorithm.shape.num_steps, 3, num_envs)
        resets = jax.vmap(lambda key: random_words(jax.random.split(key)[1], shape))
        return starts(stream_key(0, seed, "episodes")), jax.vmap(starts)(keys.start), resets(
            keys.collect
        )

    first, each, steps = jax.tree.map(np.asarray, jax.jit(jax.vmap(of_seed))(lanes.seed))
    starting = [first, *np.moveaxis(each, 1, 0)] if algorithm.shape.fresh else [first]
    return starting, np.moveaxis(steps.reshape(len(first), -1, 3, num_envs), 1, 0)


class HostRun(NamedTuple):
    carry: Any
    metrics: dict[str, np.ndarray]
    functions: HostFunctions


class ToyTask:
    """Only what a host's training asks of its task."""

    def __init__(self):
        self.spec = ProbeTask(MATCH).spec
        self.bridge = CallbackBridge(self.spec)


@cache
def host_run(name: str, bridge: Any = "loop") -> HostRun:
    ours = reference(name)
    task: Any = ToyTask()
    functions = make_host_functions(task, ALGORITHMS[name], ours.lanes)
    env: Any = ToyVecEnv(ours.content, *words_of(name))
    trainer = HostTrainer(task, functions, bridge)
    carry, rows = init_host_carry(functions, ours.lanes, env.reset(0)), []
    for iteration in range(NUM_ITERATIONS):
        carry, metrics = trainer.iteration(ours.lanes, carry, env, iteration)
        rows.append(metrics)
    stacked = {key: np.stack([row[key] for row in rows], 1) for key in rows[0]}
    carry = carry._replace(state=jax.tree.map(lambda *leaves: np.stack(leaves), *carry.state))
    return HostRun(jax.tree.map(np.asarray, carry), stacked, functions)


@pytest.mark.parametrize("bridge", [pytest.param("loop", marks=pytest.mark.slow), "callback"])
@pytest.mark.parametrize("name", ["ppo", "dqn", "es"])
def test_a_host_environment_trains_as_the_scanned_one(name, bridge):
    """All arms over 24 iterations with auto-resets: what is collected is equal in every bit, what
    is learned to 1e-4, as two programs are fused otherwise than one."""
    ours, host = reference(name), host_run(name, bridge)
    assert set(host.metrics) == set(ours.metrics)
    for key in ("reward", "episodes", "env_steps", "updates", "skipped_updates"):
        np.testing.assert_array_equal(host.metrics[key], ours.metrics[key], err_msg=key)
    assert len(np.unique(host.metrics["reward"])) > 2
    np.testing.assert_array_equal(host.carry.episodes.obs, ours.carry.episodes.obs)
    np.testing.assert_array_equal(host.carry.episodes.total, ours.carry.episodes.total)
    if name == "dqn":
        assert_same_bits(host.carry.state.ring, ours.carry.state.ring)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        (host.carry.state, host.metrics), (ours.carry.state, ours.metrics),
    )


def test_a_host_rollout_has_its_axes_in_place():
    """S = [V, N]: leaves [T, V, N, ...], as `collect` gives; the buffers that the environment
    reuses were copied, so that successors do not all show the last step."""
    task = ProbeTask(CUT)
    algorithm = algorithm_of("dqn")
    params = task.training_params(jax.random.key(0), jnp.zeros(1))
    tables = jax.tree.map(lambda leaf: np.asarray(leaf)[None], params)
    resets = np.zeros((9, 1, 1, 2), np.int32)
    toy = ToyVecEnv(tables, [resets[0]], resets)

    class OneLane:
        def reset(self, number):
            return toy.reset(number)[0]

        def step(self, action):
            return tuple(leaf[0] for leaf in toy.step(action[None]))

    env: Any = OneLane()
    episodes: Any = Episodes(env.reset(0), (), np.zeros((1, 2), np.float32))  # pyright: ignore
    words = np.zeros((algorithm.shape.num_steps, 1, 2, 1), np.uint32)
    act = jax.jit(lambda obs, words: (jnp.zeros(words.shape[:-1], jnp.int32), ()))
    spec = ToyTask().spec
    episodes, recording, ended = collect_host(env, spec, act, True, episodes, words)
    rollout = jax.tree.map(np.asarray, assemble(spec, algorithm, recording))
    in_lane = jax.tree.map(lambda leaf: leaf[:, None], ended)
    metrics = jax.tree.map(lambda leaf: leaf[0], host_metrics(in_lane))
    _, expected, expected_metrics = collected(None)
    ours: Any = rollout._replace(action=None)
    theirs: Any = jax.tree.map(np.asarray, expected._replace(action=None))
    assert_same_bits(ours, theirs)
    assert_same_bits(metrics, expected_metrics)
    np.testing.assert_array_equal(episodes.total, [[1, 1]])
