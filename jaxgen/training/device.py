"""Training as compiled programs over lanes.

A lane is one (arm, seed) pair. A program trains a flat list of lanes at once:
``train = jit(shard_map(vmap over lanes (loop over iterations (collect, update))))``.
The host calls it in chunks of iterations; where a chunk begins and ends changes
no result, because the iteration's number is what its keys are folded from.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgen.algorithms.base import Algorithm, RolloutShape, in_group
from jaxgen.algorithms.gradients import dot_products
from jaxgen.evaluation.episodes import FixedEpisodes, Played, play
from jaxgen.evaluation.policy import acting
from jaxgen.study.fork import Replay
from jaxgen.study.spec import MODES
from jaxgen.system.errors import BadInput
from jaxgen.training.fit import MAX_LANES_ON_CPU, MIN_LANES
from jaxgen.training.fork import forked_state
from jaxgen.training.keys import iteration_keys, stream_key
from jaxgen.training.memory import SHARED_BYTES, Memory, num_bytes, once_per_program
from jaxgen.training.program import (
    PROBE_LEVELS,
    Capacity,
    Carry,
    Collected,
    LaneLearner,
    Lanes,
    MakeAlgorithm,
    Program,
    World,
    critic_vector,
    learn,
    of_member,
    scheduled,
)
from jaxgen.training.rollout import collect, start_episodes
from jaxgen.types import Array, Metrics, PyTree, Task


def make_device_program(
    task: Task,
    make_algorithm: MakeAlgorithm,
    *,
    study_seed: int = 0,
    chunk: int = 64,
    devices: Sequence[Any] | None = None,
) -> Program:
    """Build the programs of a task and an algorithm; nothing compiles before the first call.

    Args:
      task: environment and variation table.
      make_algorithm: (config, technique, spec) -> Algorithm, called while tracing.
      study_seed: root of all keys.
      chunk: the most iterations of one call of ``train``.
      devices: JAX devices; lanes are split over them; their number must divide the number of lanes.
    """
    devices = jax.local_devices() if devices is None else list(devices)
    mesh = Mesh(np.asarray(devices), ("lanes",), axis_types=(AxisType.Auto,))
    lane_functions = _LaneFunctions(task, make_algorithm, study_seed, chunk)

    def over_lanes(function: Callable, num_lane_args: int, donate: tuple[int, ...] = (),
                   map_lanes: Callable = jax.vmap) -> Any:
        return _compile(function, mesh, num_lane_args, donate, map_lanes)

    content, init = over_lanes(lane_functions.content, 1), over_lanes(lane_functions.init, 2)
    train, zero = over_lanes(lane_functions.train, 3, donate=(1,)), np.int32(0)
    sharding = NamedSharding(mesh, PartitionSpec("lanes"))
    world = World(
        task.refresh_steps,
        content,
        overlap=over_lanes(lane_functions.overlap, 2),
        episodes=lambda content, lane: {},
        save=lambda carry, content, lane: (_saved(carry, lane), {}),
        resume=lambda carry, content, states: jax.device_put(carry, sharding),
    )
    learner = LaneLearner(
        init,
        train,
        compile=lambda *args: train.lower(*args, zero, zero).compile(),
        shapes=lambda lanes: jax.eval_shape(init, lanes, jax.eval_shape(content, lanes, zero)),
        params=over_lanes(lane_functions.params, 2),
        critic=over_lanes(lane_functions.critic, 2),
        fork=lambda lanes, carry, iteration, replay: jax.tree.map(
            np.asarray,
            over_lanes(partial(lane_functions.fork, replay), 2)(lanes, carry, np.int32(iteration)),
        ),
    )
    most = MAX_LANES_ON_CPU * len(devices) if devices[0].platform == "cpu" else None
    return Program(
        world,
        learner,
        # One by one: gradients of so many samples sum in an order that depends on the lanes.
        evaluate=over_lanes(lane_functions.evaluate, 2, map_lanes=_one_by_one),
        probe=over_lanes(lane_functions.probe, 2, map_lanes=_one_by_one),
        capacity=Capacity(
            once_per_program(lane_functions.memory), len(devices), MIN_LANES, most, chunk
        ),
    )


class _LaneFunctions(NamedTuple):
    """The parts of a program for a single lane."""

    task: Task
    make_algorithm: MakeAlgorithm
    study_seed: int
    chunk: int

    def algorithm(self, lane: Lanes) -> Algorithm:
        if lane.config.num_frames != 1:
            raise BadInput(
                f"num_frames = {lane.config.num_frames} is not allowed on {self.task.spec.name}; "
                "use 1: images are stacked for environments on the host only"
            )
        return self.make_algorithm(lane.config, lane.technique, self.task.spec)

    def key(self, lane: Lanes, stream: str) -> Array:
        return stream_key(self.study_seed, lane.seed, stream)

    def content(self, lane: Lanes, epoch: Array) -> PyTree:
        key = jax.random.fold_in(self.key(lane, "content"), epoch)
        return self.task.training_params(key, lane.technique.levels)  # pyright: ignore

    def init(self, lane: Lanes, env_params: PyTree) -> Carry:
        algorithm = self.algorithm(lane)
        state = algorithm.init(self.key(lane, "init"))
        key = self.key(lane, "episodes")
        episodes = start_episodes(self.task.environment, env_params, algorithm, key)
        return Carry(state, episodes, jnp.int32(0))

    def fork(self, replay: Replay, lane: Lanes, carry: Carry, iteration: Array) -> Carry:
        key = self.key(lane, "train")
        assert lane.fork is not None
        state = forked_state(
            self.algorithm(lane), replay, carry.state, iteration, key, lane.fork
        )
        episodes, num_members = carry.episodes, self.algorithm(lane).num_members
        if num_members > 1:
            # Each goes on in environments of its own, from where its parent was.
            copies = lambda leaf: jnp.concatenate([leaf] * num_members, 1)  # noqa: E731
            episodes = jax.tree.map(copies, episodes)
        return carry._replace(state=state, episodes=episodes)

    def params(self, lane: Lanes, carry: Carry) -> Array:
        algorithm = self.algorithm(lane)
        return of_member(algorithm, lane, algorithm.params(carry.state))

    def critic(self, lane: Lanes, carry: Carry) -> Array:
        return critic_vector(self.algorithm(lane), lane, carry.state)

    def overlap(self, lane: Lanes, env_params: PyTree, prints: Array) -> Array:
        fingerprints = self.task.fingerprints(env_params)
        name = self.task.spec.name
        assert fingerprints is not None, f"{name} generates nothing that could overlap"
        return jnp.isin(prints, fingerprints, method="binary_search")

    def train(
        self, lane: Lanes, carry: Carry, env_params: PyTree, start: Array, stop: Array
    ) -> tuple[Carry, Metrics]:
        # Compiled as a function of its own only so that it is traced once, not twice.
        iterate = jax.jit(self.iteration, inline=True)
        shapes = jax.eval_shape(iterate, lane, carry, env_params, start)[1]
        buffers = jax.tree.map(lambda leaf: jnp.zeros((self.chunk,), leaf.dtype), shapes)

        def body(iteration: Array, loop: tuple[Carry, Metrics]) -> tuple[Carry, Metrics]:
            carry, buffers = loop
            carry, metrics = iterate(lane, carry, env_params, iteration)
            write = lambda buffer, value: buffer.at[iteration - start].set(value)  # noqa: E731
            return carry, jax.tree.map(write, buffers, metrics)

        return jax.lax.fori_loop(start, stop, body, (carry, buffers))

    def iteration(
        self, lane: Lanes, carry: Carry, env_params: PyTree, iteration: Array
    ) -> tuple[Carry, Metrics]:
        algorithm = self.algorithm(lane)
        keys = iteration_keys(self.study_seed, lane.seed, iteration, lane.fork)
        collected, reward = self.collect(lane, carry, env_params, iteration)
        learner = self.algorithm(scheduled(lane, carry.env_steps))
        after, metrics = learn(learner, lane.config, carry, collected, iteration, keys.update)
        return after, reward | of_member(algorithm, lane, metrics)

    def collect(
        self, lane: Lanes, carry: Carry, env_params: PyTree, iteration: Array
    ) -> tuple[Collected, Metrics]:
        algorithm, environment = self.algorithm(lane), self.task.environment
        keys = iteration_keys(self.study_seed, lane.seed, iteration, lane.fork)
        actor = algorithm.prepare(carry.state, iteration, keys.prepare)
        episodes = carry.episodes
        if algorithm.shape.fresh:
            episodes = start_episodes(environment, env_params, algorithm, keys.start)
        episodes, rollout, metrics = collect(
            environment, env_params, algorithm, actor, episodes, keys.collect
        )
        return Collected(actor, episodes, rollout), metrics

    def memory(self, lanes: Lanes) -> Memory:
        lane, zero = jax.tree.map(lambda leaf: leaf[0], lanes), np.int32(0)
        env_params = jax.eval_shape(self.content, lane, zero)
        carry = jax.eval_shape(self.init, lane, env_params)
        collected = jax.eval_shape(self.collect, lane, carry, env_params, zero)
        # The carry once more, while a checkpoint is written. What is collected is sorted into
        # minibatches and unpacked: XLA's buffers for PPO take up to 5.5 times its bytes.
        per_lane = num_bytes(env_params) + 2 * num_bytes(carry) + 6 * num_bytes(collected)
        return Memory(SHARED_BYTES, per_lane)

    def probe(self, lane: Lanes, carry: Carry, iteration: Array) -> Metrics:
        algorithm, environment = self.algorithm(lane), self.task.environment
        algorithm = algorithm._replace(
            shape=_probed(algorithm.shape, self.task.spec.max_episode_steps)
        )
        # Not from the iteration, which for a population that rests depends on its company.
        key = jax.random.fold_in(self.key(lane, "probe"), carry.env_steps)
        content_key, start_key, act_key, collect_key = jax.random.split(key, 4)
        levels = np.asarray(PROBE_LEVELS, np.float32)
        env_params = self.task.training_params(content_key, levels)  # pyright: ignore
        actor = algorithm.prepare(carry.state, iteration, act_key)
        episodes = start_episodes(environment, env_params, algorithm, start_key)
        _, rollout, _ = collect(environment, env_params, algorithm, actor, episodes, collect_key)
        groups = algorithm.half_gradients(carry.state, actor, rollout)
        return {in_group(group, "probe_gram"): _gram(halves) for group, halves in groups.items()}

    def evaluate(self, lane: Lanes, params: Array, episodes: FixedEpisodes) -> Played:
        algorithm = self.algorithm(lane)

        def played(sampled: Array) -> Played:
            chosen = acting(algorithm.policy, params, sampled)
            limit = self.task.spec.max_episode_steps
            return play(self.task.environment, episodes, chosen, limit)

        return jax.lax.map(played, jnp.asarray([mode == "sampled" for mode in MODES]))


def _probed(shape: RolloutShape, num_steps: int) -> RolloutShape:
    """Whole episodes, so that more than their beginnings is seen; in an even number of
    environments, so that none is in both halves."""
    odd = shape.num_envs % 2
    return shape._replace(
        num_steps=num_steps, num_envs=shape.num_envs + odd, num_starts=shape.num_starts + odd
    )


def _saved(carry: Carry, lane: int | None) -> Carry:
    if lane is None:
        return carry
    return jax.tree.map(lambda leaf: np.asarray(leaf)[lane : lane + 1], carry)


def _gram(halves: Array) -> Array:
    """Dot products of all pairs of the gradients ``[2, V, D]`` -> ``[2, V, 2, V]``."""
    lead, size = halves.shape[:2], halves.shape[2]
    return dot_products(halves.reshape(-1, size)).reshape(*lead, *lead)


def _one_by_one(function: Callable, in_axes: tuple[int | None, ...]) -> Callable:
    """Map over lanes as vmap does, but in turn: each lane's loop ends with its own last episode."""

    def mapped(*args: PyTree) -> PyTree:
        lanes = [arg for arg, axis in zip(args, in_axes, strict=True) if axis == 0]
        shared = args[len(lanes) :]
        return jax.lax.map(lambda lane_args: function(*lane_args, *shared), tuple(lanes))

    return mapped


def _compile(
    function: Callable,
    mesh: Mesh,
    num_lane_args: int,
    donate: tuple[int, ...],
    map_lanes: Callable,
) -> Callable:
    """``jit(shard_map(map over lanes))``; arguments after the lane arguments are shared."""
    lanes, shared = PartitionSpec("lanes"), PartitionSpec()

    def program(*args: PyTree) -> PyTree:
        num_shared = len(args) - num_lane_args
        mapped = map_lanes(function, in_axes=(0,) * num_lane_args + (None,) * num_shared)
        specs = (lanes,) * num_lane_args + (shared,) * num_shared
        return jax.shard_map(
            mapped, mesh=mesh, in_specs=specs, out_specs=lanes, check_vma=False
        )(*args)

    return jax.jit(program, donate_argnums=donate)
