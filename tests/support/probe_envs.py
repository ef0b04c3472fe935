"""Tiny tabular environments with known values, as data: all of them are lanes of one program.

A table is a deterministic Markov decision process with two actions. Its numbers are the
environment's parameters, so a task with many tables compiles once, and the level picks the
table: table k is trained at level k / 4 (`level_of`), so that the levels 0, .25 and .5 of a
multi-variation arm are tables 0, 1 and 2.
"""

import dataclasses
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from jaxgen.algorithms import ALGORITHMS, learner
from jaxgen.algorithms.base import Algorithm
from jaxgen.study.config import Config, replace
from jaxgen.study.presets import base_algorithm, preset, setups_of
from jaxgen.techniques import SUITES, Technique, make_technique
from jaxgen.training.device import make_device_program
from jaxgen.training.program import Carry, Lanes, Program, stack_lanes
from jaxgen.types import Box, Discrete, EnvSpec, Numbers, Transition

NUM_STATES, NUM_ACTIONS, NUM_FEATURES, NUM_STARTS = 6, 2, 3, 2
MAX_STEPS = 8
"""The longest episode that any table may have."""


class Table(NamedTuple):
    """One decision process, or a batch of them with leading axes."""

    next_state: Any
    """int32 ``[S, A]``."""
    reward: Any
    """float32 ``[S, A]``."""
    terminated: Any
    """bool ``[S, A]``."""
    observed: Any
    """float32 ``[S, F]``: what each state looks like."""
    first: Any
    """float32 ``[S, F]``: what it looks like at the start of an episode."""
    starts: Any
    """int32 ``[M]``; a reset's word picks one."""
    limit: Any
    """int32: truncated after that many steps."""


class ProbeState(NamedTuple):
    index: jax.Array
    time: jax.Array


class ProbeEnv:
    """See `jaxgen.types.Environment`; in a box, positive actions are action 1, others action 0."""

    reset_words = 1

    def __init__(self, box: bool = False) -> None:
        features = Numbers((0.0,) * NUM_FEATURES, (1.0,) * NUM_FEATURES)
        actions = Box((-2.0,), (2.0,)) if box else Discrete(NUM_ACTIONS)
        self.spec = EnvSpec("probe", features, actions, MAX_STEPS)

    def reset_from(self, words, params: Table):
        index = params.starts[words[..., 0] % NUM_STARTS]
        return params.first[index], ProbeState(index, jnp.zeros_like(index))

    def advance(self, state: ProbeState, action, params: Table):
        if action.ndim > state.index.ndim:
            action = (action[..., 0] > 0).astype(jnp.int32)
        reward = params.reward[state.index, action]
        terminated = params.terminated[state.index, action]
        index, time = params.next_state[state.index, action], state.time + 1
        return params.observed[index], ProbeState(index, time), reward, terminated, (
            time >= params.limit
        )


class ProbeTask:
    """See `jaxgen.types.Task`."""

    refresh_steps = None

    def __init__(self, *tables: Table, box: bool = False) -> None:
        self.environment = ProbeEnv(box)
        self.spec = self.environment.spec
        self.tables = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tables)
        self.num_traces = 0

    def training_params(self, key, levels):
        del key
        self.num_traces += 1
        number = jnp.round(4 * jnp.asarray(levels)).astype(jnp.int32)
        return jax.tree.map(lambda leaf: leaf[number], self.tables)

    def evaluation(self, key, levels, num_episodes):
        words = jax.random.bits(key, (num_episodes, 1), "uint32")
        params = self.training_params(key, levels)
        return params, jnp.broadcast_to(words, (levels.shape[0], *words.shape))

    def ceiling(self, params, words):
        raise NotImplementedError

    def fingerprints(self, params):
        del params


def table(
    rewards: dict[tuple[int, int], float],
    *,
    moves: dict[tuple[int, int], int] | None = None,
    ends: tuple[tuple[int, int], ...] = (),
    features: dict[int, float] | None = None,
    starts: tuple[int, int] = (0, 0),
    limit: int = MAX_STEPS,
    first: float | None = None,
) -> Table:
    """Write a table; keys are (state, action), what is not named is 0 and leads nowhere.

    A state looks like a one-hot code in its first features, scaled by ``features[state]``;
    ``first`` replaces the look of an episode's first observation.
    """
    next_state = np.tile(np.arange(NUM_STATES, dtype=np.int32)[:, None], (1, NUM_ACTIONS))
    reward = np.zeros((NUM_STATES, NUM_ACTIONS), np.float32)
    terminated = np.zeros((NUM_STATES, NUM_ACTIONS), bool)
    observed = np.zeros((NUM_STATES, NUM_FEATURES), np.float32)
    for state in range(NUM_STATES):
        observed[state, state % NUM_FEATURES] = (features or {}).get(state, 1.0)
    for where, value in rewards.items():
        reward[where] = value
    for where, value in (moves or {}).items():
        next_state[where] = value
    for where in ends:
        terminated[where] = True
    look = observed if first is None else np.full_like(observed, first)
    return Table(
        next_state, reward, terminated, observed, look, np.asarray(starts, np.int32),
        np.int32(limit),
    )


def both(state: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Both actions of a state."""
    return (state, 0), (state, 1)


def every(states, value) -> dict:
    """The same value for both actions of each state."""
    return {where: value for state in states for where in both(state)}


# Reward 1, one step: the value is 1.
CONSTANT = table(every([0], 1.0), ends=both(0))
# The reward is the start that is seen: values 1 and -1.
OBSERVED = table(every([0], 1.0) | every([1], -1.0), ends=both(0) + both(1), starts=(0, 1))
# Two steps, the reward comes with the second: values gamma and 1.
DISCOUNTED = table(every([1], 1.0), moves=every([0], 1), ends=both(1))
# One step, action 1 pays: values 0 and 1 of the actions.
ACTION = table({(0, 1): 1.0}, ends=both(0))
# One step, action s pays in state s, the other costs.
MATCH = table(
    {(0, 0): 1.0, (0, 1): -1.0, (1, 0): -1.0, (1, 1): 1.0}, ends=both(0) + both(1), starts=(0, 1)
)
# All steps look alike and pay .2; the time limit truncates after 4.
TRUNCATED = table(every([0], 0.2), limit=4)
# The same rewards and the same look, but the fourth step terminates.
TERMINATED = table(
    every(range(4), 0.2), moves=every([0], 1) | every([1], 2) | every([2], 3), ends=both(3)
)
TERMINATED.observed[:] = TERMINATED.first[:] = TRUNCATED.observed[0]

PROBES = {
    "match": MATCH, "action": ACTION, "discounted": DISCOUNTED, "constant": CONSTANT,
    "observed": OBSERVED, "truncated": TRUNCATED, "terminated": TERMINATED,
}


def takes_box_alone(algorithm: str) -> bool:
    """Whether an algorithm refuses actions that are numbered."""
    setups = setups_of(base_algorithm(algorithm))
    return "pendulum" in setups and "cartpole" not in setups


def probe_task(algorithm: str, *tables: Table) -> ProbeTask:
    """A task of these tables, or of all probes, with actions that an algorithm takes."""
    return ProbeTask(*(tables or PROBES.values()), box=takes_box_alone(algorithm))


def look(probe: Table, state: int) -> jax.Array:
    """The observation of a state."""
    return jnp.asarray(probe.observed[state])


def scores(algorithm: Algorithm, params: Any, obs: Any) -> jax.Array:
    """Logits or values of the discrete actions ``[..., NUM_ACTIONS]``."""
    assert algorithm.policy.scores is not None
    return algorithm.policy.scores(params, obs)


def level_of(number: int) -> float:
    """The level at which table ``number`` of a task is trained."""
    return number / 4


DR_SCALED = dataclasses.replace(make_technique("gar"), uniform=1.0)


def single(number: int, technique: str = "baseline") -> Technique:
    """A technique that trains all variations on one table."""
    return dataclasses.replace(make_technique(technique), levels=(level_of(number),) * 3)


TINY: dict[str, dict[str, Any]] = {
    "ppo": {
        "hidden": [16], "num_envs": 2, "num_steps": 4, "num_epochs": 2, "num_minibatches": 2,
        "gamma": 0.99, "learning_rate": 5e-3, "total_steps": 24 * 400,
    },
    "dqn": {
        "hidden": [16], "num_envs": 2, "num_steps": 4, "batch_size": 12, "replay_ratio": 2,
        "buffer_size": 120, "learning_starts": 48, "target_interval": 60, "gamma": 0.99,
        "learning_rate": 5e-3, "reward_scale": 1.0, "total_steps": 24 * 400,
    },
    "sac": {
        "hidden": [16], "num_envs": 2, "num_steps": 4, "batch_size": 24, "replay_ratio": 24,
        "buffer_size": 240, "learning_starts": 48, "gamma": 0.99, "learning_rate": 5e-3,
        "total_steps": 24 * 400, "tau": 0.05,
    },
    "td3": {
        "hidden": [16], "num_envs": 2, "num_steps": 4, "batch_size": 24, "replay_ratio": 24,
        "buffer_size": 240, "learning_starts": 48, "gamma": 0.99, "learning_rate": 5e-3,
        "total_steps": 24 * 400, "tau": 0.05, "exploration_noise": 0.5,
    },
    "grpo": {
        "scale_by_deviation": True, "same_start": True,
        "hidden": [16], "num_envs": 8, "num_steps": MAX_STEPS, "group_size": 4, "num_epochs": 2,
        "minibatch_size": 32, "gamma": 0.99, "learning_rate": 5e-3, "total_steps": 24 * 400,
        "reference_interval": 100,
    },
    "es": {
        "hidden": [16], "num_envs": 12, "num_steps": MAX_STEPS, "population": 6,
        "episodes_per_member": 2, "sigma": 0.3, "learning_rate": 0.1, "total_steps": 2000,
    },
}
"""Changes to the CartPole presets that make an iteration cost microseconds; a preset that is not
here is as small itself."""


def tiny_config(algorithm: str, **overrides: Any) -> Any:
    """A checked configuration for probes."""
    environment = "pendulum" if takes_box_alone(algorithm) else "cartpole"
    changes = TINY.get(base_algorithm(algorithm), {}) | overrides
    config: Config = replace(preset(algorithm, environment), changes)
    config.validate()
    return config


NUM_LANES = 8
"""Every test trains as many lanes, so that the program of an algorithm compiles once for all."""

CHUNK = 64

ARMS = [*(make_technique(name) for name in SUITES["controls"]), DR_SCALED, make_technique("gar")]
"""A technique for each lane; the last one differs in its seed."""

SEEDS = [3] * 7 + [4]


def compiled(algorithm: Algorithm) -> Algorithm:
    """The same algorithm for tests of its functions: each compiled as one program.

    Eagerly, every operation of them would be a program to compile.
    """
    policy = algorithm.policy
    policy = policy._replace(
        best=jax.jit(policy.best), draw=jax.jit(policy.draw),
        scores=policy.scores and jax.jit(policy.scores),
    )  # fmt: skip
    update: Any = jax.jit(algorithm.update)
    half_gradients: Any = jax.jit(algorithm.half_gradients)
    return algorithm._replace(
        init=jax.jit(algorithm.init), prepare=jax.jit(algorithm.prepare),
        act=jax.jit(algorithm.act), policy=policy, update=update, half_gradients=half_gradients,
    )  # fmt: skip


class Traced(NamedTuple):
    """A task with its programs, and how often an algorithm was made while tracing them."""

    task: ProbeTask
    program: Program
    counts: list[int]


@cache
def traced(algorithm: str, num_devices: int = 2, chunk: int = CHUNK) -> Traced:
    """The programs of an algorithm on all probes, compiled once for the whole test session."""
    task, counts = probe_task(algorithm), [0]

    def make_algorithm(config, technique, spec):
        counts[0] += 1
        return ALGORITHMS[config.algorithm](config, technique, spec)

    devices = jax.local_devices()[:num_devices]
    program = make_device_program(task, make_algorithm, chunk=chunk, devices=devices)
    return Traced(task, program, counts)


def standard_lanes(algorithm: str) -> Lanes:
    """All arms of an algorithm on the first three probes."""
    return stack_lanes([(tiny_config(algorithm), arm) for arm in ARMS], SEEDS)


def start(program: Program, lanes: Lanes) -> tuple[Any, Carry]:
    """The environment parameters of all lanes and the carry before the first iteration."""
    content = program.world.content(lanes, 0)
    return content, program.learner.init(lanes, content)


def train(
    program: Program, lanes: Lanes, carry: Any, content: Any, cuts: Sequence[int]
) -> tuple[Any, dict[str, np.ndarray]]:
    """Train from iteration ``cuts[0]`` to ``cuts[-1]``, a call between each two of them.

    The carry that is passed stays usable. Returns the carry and the metrics
    ``[L, iterations]``, in numpy.
    """
    # On the devices from the first call on, as in a real run: numpy would compile once more.
    carry, content = program.world.resume(jax.tree.map(np.array, (carry, content)), None, ())  # pyright: ignore
    pieces = []
    for begin, end in pairwise(cuts):
        carry, metrics = program.learner.train(lanes, carry, content, begin, end)
        pieces.append(pick(metrics, np.s_[:, : end - begin]))
    joined = {name: np.concatenate([piece[name] for piece in pieces], 1) for name in pieces[0]}
    return jax.tree.map(np.asarray, carry), joined


def with_spy(update: Any, seen: list[Any], look: Any = lambda loss, params, batch: batch) -> Any:
    """An update, compiled, that leaves what it takes gradients of in a list: its minibatches, or
    what is made of loss, parameters and minibatch. A function to be traced is a new one."""
    original = learner.variation_gradient

    def spy(technique, loss, params, batch, key, **options):
        io_callback(
            lambda found: seen.append(jax.tree.map(np.array, found)), None,
            look(loss, params, batch), ordered=True,
        )  # fmt: skip
        return original(technique, loss, params, batch, key, **options)

    def spied(*args):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(learner, "variation_gradient", spy)
            return update(*args)

    return jax.jit(spied)


ONE_UPDATE = {"batch_size": 24, "replay_ratio": 1, "learning_starts": 0}
"""24 env steps in an iteration and 24 sampled transitions: one update."""


def same_transitions(terminated: bool = False, truncated: bool = False) -> Transition:
    """Transitions [4, 3, 2], all of them the same, so that what is sampled is known."""
    shape = (4, 3, 2)
    obs = np.broadcast_to(np.array([0.5, -1.0, 2.0], np.float32), (*shape, 3))
    flags = np.full(shape, terminated), np.full(shape, truncated)
    action = np.full((*shape, 1), 0.3, np.float32)
    leaves: Any = (obs, action, np.full(shape, 0.25, np.float32), *flags, 1 - obs)
    return Transition(*leaves)


def states_after(config: Any, num_iterations: int) -> Any:
    """The states of a lane per probe after training, 50 iterations a call."""
    arms = [(config, single(number)) for number in range(len(PROBES))]
    arms += [arms[0]] * (NUM_LANES - len(arms))
    program, lanes = traced(config.algorithm).program, stack_lanes(arms, list(range(NUM_LANES)))
    content, first = start(program, lanes)
    carry, _ = train(program, lanes, first, content, range(0, num_iterations + 1, 50))
    return carry.state


class Reference(NamedTuple):
    """A run of the standard lanes over `NUM_ITERATIONS`."""

    lanes: Lanes
    content: Any
    first: Any
    """The carry before the first iteration."""
    carry: Any
    metrics: dict[str, np.ndarray]


NUM_ITERATIONS = 24


@cache
def reference(algorithm: str) -> Reference:
    """Train the standard lanes once for the whole test session; do not change what it returns."""
    program, lanes = traced(algorithm).program, standard_lanes(algorithm)
    content, first = start(program, lanes)
    content, first = jax.tree.map(np.asarray, (content, first))
    carry, metrics = train(program, lanes, first, content, (0, NUM_ITERATIONS))
    return Reference(lanes, content, first, carry, metrics)


def pick(tree: Any, index: Any) -> Any:
    """Some lanes of a tree, in numpy."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def assert_same_bits(one: Any, other: Any) -> None:
    """Compare all leaves bitwise; NaN equals NaN."""
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    assert len(leaves) == len(others) > 0
    for a, b in zip(leaves, others):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)
