"""Training as compiled programs over lanes.

A lane is one (arm, seed) pair. A program trains a flat list of lanes at once:
``train = jit(shard_map(vmap over lanes (loop over iterations (collect, update))))``.
The host calls it in chunks of iterations; where a chunk begins and ends changes
no result, because the iteration's number is what its keys are folded from.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxgen.algorithms.base import Algorithm
from jaxgen.config import Config
from jaxgen.evaluation.episodes import MODES, Suite, episode_returns, greedy
from jaxgen.lanes import MAX_LANES_ON_CPU, MIN_LANES
from jaxgen.memory import SHARED_BYTES, Memory, num_bytes
from jaxgen.rollout import Episodes, collect, start_episodes
from jaxgen.techniques import MULTI_LEVELS, Technique
from jaxgen.techniques.base import dot_products
from jaxgen.types import Array, Metrics, PyTree, Task

STREAMS = ("init", "episodes", "train", "content", "probe")
"""Disjoint folds of a seed's key; evaluation has a key of its own, see `evaluation_key`."""

PROBE_LEVELS = MULTI_LEVELS
"""The variations on which the probe takes gradients: those of gar, and none beyond, so that the
levels out of distribution stay unseen."""


class Lanes(NamedTuple):
    """What differs between the lanes of a program; leaves ``[L, ...]``."""

    seed: Array
    """uint32."""
    config: Config
    """Its floats are arrays ``[L]``; everything else is shared."""
    technique: Technique
    """``levels`` float32 ``[L, V]``, the rest float32 ``[L]``."""


class Carry(NamedTuple):
    """The state of training between iterations; leaves ``[L, ...]``."""

    state: PyTree
    episodes: Episodes
    env_steps: Array
    """Environment steps so far, int32; those of all members for a population."""


class Program(NamedTuple):
    """The compiled functions of one (environment, algorithm, static configuration)."""

    content: Callable[[Lanes, int], PyTree]
    """(lanes, epoch) -> environment parameters ``[L, V]``, or a `jaxgen.types.HostVecEnv`."""
    init: Callable[[Lanes, PyTree], Carry]
    """(lanes, environment parameters) -> carry before the first iteration."""
    train: Callable[[Lanes, Carry, PyTree, int, int], tuple[Carry, Metrics]]
    """(lanes, carry, environment parameters, start, stop) -> carry, metrics ``[L, chunk]``.

    Consumes the carry. Metrics beyond ``stop - start`` are zeros, or, of a host environment, not
    there.
    """
    compile: Callable[[Lanes, Carry, PyTree], Callable[..., tuple[Carry, Metrics]]]
    """(lanes, carry, environment parameters) -> ``train``, compiled for them."""
    memory: Callable[[Lanes], Memory]
    """lanes -> what training lanes like the first of them takes, before anything is allocated."""
    shapes: Callable[[Lanes], Carry]
    """lanes -> shapes and dtypes of their carry."""
    freeze: Callable[[Carry, PyTree], tuple[Carry, dict[str, np.ndarray]]]
    """(carry, environment parameters) -> carry with leaves ``[L, ...]``, and what a checkpoint
    needs besides: of a host environment its state."""
    place: Callable[[Carry], Carry]
    """Frozen carry -> where ``init`` puts it, so that the program is the one compiled for that."""
    thaw: Callable[[PyTree, dict[str, np.ndarray]], None]
    """(environment parameters, state) -> None: a host environment goes on from its state."""
    episodes: Callable[[PyTree, int], dict[str, np.ndarray]]
    """(environment parameters, lane) -> what its finished episodes played, where that is known."""
    probe: Callable[[Lanes, Carry, int], Array]
    """(lanes, carry, iteration) -> dot products of the gradients on two halves of the samples of
    each of the variations ``PROBE_LEVELS``, ``[L, 2, V, 2, V]``; changes nothing."""
    evaluate: Callable[[Lanes, Array, Any], Array]
    """(lanes, parameters ``[L, D]``, suite) -> returns ``[L, modes, K, E]``. The suite is a `Suite`
    or, of a host environment, a `jaxgen.evaluation.host_episodes.HostSuite`."""
    params: Callable[[Lanes, Carry], Array]
    """(lanes, carry) -> flat parameters ``[L, D]``."""
    overlap: Callable[[Lanes, PyTree, Array], Array]
    """(lanes, environment parameters, fingerprints uint32 ``[K, E]``) -> bool ``[L, K, E]``:
    evaluation instances that the training parameters hold too."""
    num_devices: int
    """Over which lanes are split."""
    min_lanes: int
    """On each device; fewer are padded."""
    max_lanes: int | None
    """On all devices together, whatever their memory; None: any number."""
    chunk: int
    """The most iterations of one call of ``train``."""


MakeAlgorithm = Callable[[Any, Technique, Any], Algorithm]


def stack_lanes(arms: list[tuple[Config, Technique]], seeds: list[int]) -> Lanes:
    """Line up (configuration, technique) and seed of every lane.

    Raises:
      ValueError: static fields differ, so the lanes are not one program, or a technique has not
        a level for each variation.
    """
    for config, technique in arms:
        if len(technique.levels) != config.num_variations:
            raise ValueError(
                f"the technique trains on levels {technique.levels}, so num_variations = "
                f"{config.num_variations} is not allowed; use {len(technique.levels)}"
            )
    rules = {technique.rule for _, technique in arms}
    if len(rules) != 1:
        names = ", ".join(sorted(rule.value for rule in rules))
        raise ValueError(f"lanes of one program share the rule of their technique, not {names}")
    structures = {jax.tree.structure(config) for config, _ in arms}
    if len(structures) != 1:
        raise ValueError("lanes of one program share all fields of the configuration but floats")
    as_floats = [
        (config, technique._replace(levels=np.asarray(technique.levels, np.float32)))
        for config, technique in arms
    ]
    config, technique = jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf, np.float32) for leaf in leaves]), *as_floats
    )
    return Lanes(np.asarray(seeds, np.uint32), config, technique)  # pyright: ignore


def stream_key(study_seed: int, seed: Array, stream: str) -> Array:
    """The key of one purpose of one training seed; adding seeds changes no other key."""
    key = jax.random.fold_in(_study_key(study_seed), seed)
    return jax.random.fold_in(key, STREAMS.index(stream))


def evaluation_key(study_seed: int, purpose: int = 0) -> Array:
    """The key of the evaluation episodes, common to all runs; disjoint from training keys.

    Training folds seeds below 2**31 into the study's key, this folds from the top down.
    """
    return jax.random.fold_in(_study_key(study_seed), np.uint32(2**32 - 1 - purpose))


def _study_key(study_seed: int) -> Array:
    # Named, so that no setting of jax changes a study's numbers.
    return jax.random.key(study_seed, impl="threefry2x32")


def make_program(
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
    return Program(
        content=content,
        init=init,
        train=train,
        compile=lambda *args: train.lower(*args, zero, zero).compile(),
        memory=lane_functions.memory,
        shapes=lambda lanes: jax.eval_shape(init, lanes, jax.eval_shape(content, lanes, zero)),
        freeze=lambda carry, content: (carry, {}),
        place=lambda carry: jax.device_put(carry, NamedSharding(mesh, PartitionSpec("lanes"))),
        thaw=lambda content, state: None,
        episodes=lambda content, lane: {},
        # One by one: gradients of so many samples sum in an order that depends on the lanes.
        probe=over_lanes(lane_functions.probe, 2, map_lanes=_one_by_one),
        evaluate=over_lanes(lane_functions.evaluate, 2, map_lanes=_one_by_one),
        params=over_lanes(lane_functions.params, 2),
        overlap=over_lanes(lane_functions.overlap, 2),
        num_devices=len(devices),
        min_lanes=MIN_LANES,
        max_lanes=MAX_LANES_ON_CPU * len(devices) if devices[0].platform == "cpu" else None,
        chunk=chunk,
    )


class IterationKeys(NamedTuple):
    """What each part of an iteration draws from."""

    prepare: Array
    start: Array
    collect: Array
    update: Array


def iteration_keys(train_key: Array, iteration: Array | int) -> IterationKeys:
    """The keys of one iteration, whatever chunk it is run in."""
    return IterationKeys(*jax.random.split(jax.random.fold_in(train_key, iteration), 4))


def learn(
    algorithm: Algorithm, total_steps: int, num_steps: int, carry: Carry, actor: PyTree,
    episodes: Episodes, rollout: PyTree, iteration: Array, key: Array,
) -> tuple[Carry, Metrics]:
    """The second half of an iteration of one lane, wherever its rollout was collected.

    Args:
      algorithm: gives ``update`` and ``count_steps``.
      total_steps: the budget at which a population stops.
      num_steps: env steps of the rollout, where the algorithm does not count its own.
      carry: before the iteration.
      actor: what collected.
      episodes: where the rollout ended.
      rollout: leaves ``[T, V, N, ...]``.
      iteration: its number.
      key: randomness of the update.

    Returns:
      The carry after the iteration and the metrics of the update.
    """
    state, metrics = algorithm.update(carry.state, actor, rollout, iteration, key)
    steps = jnp.int32(num_steps)
    if algorithm.count_steps is not None:
        steps = algorithm.count_steps(rollout)
    after = Carry(state, episodes, carry.env_steps + steps)
    if algorithm.count_steps is not None:
        # A population may reach its budget in a lane before the others: it rests from then on.
        active = carry.env_steps < total_steps
        after = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, carry)
        metrics = metrics | {"active": active.astype(jnp.float32)}
    return after, metrics | {"env_steps": after.env_steps}


class Segment(NamedTuple):
    """Iterations that run in one call of ``train``."""

    start: int
    stop: int
    epoch: int
    """Which training content they use."""
    fresh_content: bool
    """The content is another one than that of the iteration before."""
    curve_point: bool
    """A point of the learning curve follows."""


def segments(
    config: Config, refresh_steps: int | None, chunk: int, start: int = 0
) -> Iterator[Segment]:
    """Cut the iterations from ``start`` on at chunks, curve points and refreshes of content."""
    curve, refresh = config.curve_iterations, config.refresh_iterations(refresh_steps)
    end = config.num_iterations
    periods = [curve] if refresh is None else [curve, refresh]
    while start < end:
        stop = min(start + chunk, end, *((start // period + 1) * period for period in periods))
        epoch = start // refresh if refresh else 0
        fresh = refresh is not None and start % refresh == 0
        yield Segment(start, stop, epoch, fresh, stop % curve == 0 or stop == end)
        start = stop


def budget_spent(config: Config, metrics: Metrics, segment: Segment) -> bool:
    """Whether all lanes rest: a population may use its budget before the last iteration."""
    if "active" not in metrics:
        return segment.stop == config.num_iterations
    last = np.asarray(metrics["env_steps"])[:, segment.stop - segment.start - 1]
    return bool((last >= config.total_steps).all())


class _LaneFunctions(NamedTuple):
    """What a program does for a single lane."""

    task: Task
    make_algorithm: MakeAlgorithm
    study_seed: int
    chunk: int

    def algorithm(self, lane: Lanes) -> Algorithm:
        if lane.config.num_frames != 1:
            raise ValueError(
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

    def params(self, lane: Lanes, carry: Carry) -> Array:
        return self.algorithm(lane).params(carry.state)

    def overlap(self, lane: Lanes, env_params: PyTree, prints: Array) -> Array:
        own = self.task.fingerprints(env_params)
        assert own is not None, f"{self.task.spec.name} generates nothing that could overlap"
        return jnp.isin(prints, own, method="binary_search")

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
        keys = iteration_keys(self.key(lane, "train"), iteration)
        actor, episodes, rollout, reward = self.collect(lane, carry, env_params, iteration)
        after, metrics = learn(
            algorithm, lane.config.total_steps, algorithm.num_steps * episodes.total.size, carry,
            actor, episodes, rollout, iteration, keys.update,
        )
        return after, reward | metrics

    def collect(
        self, lane: Lanes, carry: Carry, env_params: PyTree, iteration: Array
    ) -> tuple[PyTree, Episodes, PyTree, Metrics]:
        algorithm, environment = self.algorithm(lane), self.task.environment
        keys = iteration_keys(self.key(lane, "train"), iteration)
        actor = algorithm.prepare(carry.state, iteration, keys.prepare)
        episodes = carry.episodes
        if algorithm.fresh:
            episodes = start_episodes(environment, env_params, algorithm, keys.start)
        collected = collect(environment, env_params, algorithm, actor, episodes, keys.collect)
        return actor, *collected

    def memory(self, lanes: Lanes) -> Memory:
        lane, zero = jax.tree.map(lambda leaf: leaf[0], lanes), np.int32(0)
        env_params = jax.eval_shape(self.content, lane, zero)
        carry = jax.eval_shape(self.init, lane, env_params)
        collected = jax.eval_shape(self.collect, lane, carry, env_params, zero)
        # The carry once more, while a checkpoint is written. What is collected is sorted into
        # minibatches and unpacked: XLA's buffers for PPO take up to 5.5 times its bytes.
        per_lane = num_bytes(env_params) + 2 * num_bytes(carry) + 6 * num_bytes(collected)
        return Memory(SHARED_BYTES, per_lane)

    def probe(self, lane: Lanes, carry: Carry, iteration: Array) -> Array:
        algorithm, environment = self.algorithm(lane), self.task.environment
        # Whole episodes, so that more than their beginnings is seen.
        algorithm = algorithm._replace(num_steps=self.task.spec.max_episode_steps)
        # Not from the iteration, which for a population that rests depends on its company.
        key = jax.random.fold_in(self.key(lane, "probe"), carry.env_steps)
        content_key, start_key, act_key, collect_key = jax.random.split(key, 4)
        levels = np.asarray(PROBE_LEVELS, np.float32)
        env_params = self.task.training_params(content_key, levels)  # pyright: ignore
        actor = algorithm.prepare(carry.state, iteration, act_key)
        episodes = start_episodes(environment, env_params, algorithm, start_key)
        _, rollout, _ = collect(environment, env_params, algorithm, actor, episodes, collect_key)
        gradients = algorithm.half_gradients(carry.state, actor, rollout)
        halves, num_variations, size = gradients.shape
        dots = dot_products(gradients.reshape(-1, size))
        return dots.reshape(halves, num_variations, halves, num_variations)

    def evaluate(self, lane: Lanes, params: Array, suite: Suite) -> Array:
        algorithm = self.algorithm(lane)

        def mode_returns(sampled: Array) -> Array:
            def act(obs: Array, uniform: Array) -> Array:
                preferences = algorithm.preferences(params, obs)
                drawn = algorithm.sample(preferences, uniform)
                return jnp.where(sampled, drawn, greedy(preferences))

            limit = self.task.spec.max_episode_steps
            return episode_returns(self.task.environment, suite, act, limit)

        return jax.lax.map(mode_returns, jnp.asarray([mode == "sampled" for mode in MODES]))


def _one_by_one(function: Callable, in_axes: tuple[int | None, ...]) -> Callable:
    """Like vmap over lanes, but in turn: each lane's loop ends with its own last episode."""

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
