"""The parts of a compiled program over lanes: lanes, carry, and its functions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.algorithms.base import Algorithm, register_config
from jaxgen.evaluation.episodes import Played
from jaxgen.study.config import Config
from jaxgen.study.fork import Fork, Replay
from jaxgen.study.programs import differing_fields, program_key
from jaxgen.techniques import MULTI_LEVELS, Technique
from jaxgen.training.fit import padded
from jaxgen.training.keys import ForkedLane
from jaxgen.training.memory import Memory
from jaxgen.training.rollout import Episodes
from jaxgen.types import Array, Metrics, PyTree

PROBE_LEVELS = MULTI_LEVELS
"""The variations on which the probe takes gradients: those of gar, and none beyond, so that the
levels out of distribution stay unseen."""


HostState = dict[str, np.ndarray]
"""The state of an environment on the host; empty where it is in the carry."""


class Lanes(NamedTuple):
    """The differences between the lanes of a program; leaves ``[L, ...]``."""

    seed: Array
    """uint32."""
    config: Config
    """Its floats are arrays ``[L]``; everything else is shared."""
    technique: Technique
    """``levels`` float32 ``[L, V]``, the rest float32 ``[L]``."""
    fork: ForkedLane | None = None
    """None: no lane is a fork."""


class Carry(NamedTuple):
    """The state of training between iterations; leaves ``[L, ...]``."""

    state: PyTree
    """Where the environment is on the host a tuple, a state for each lane; stacked when saved."""
    episodes: Episodes
    env_steps: Array
    """Environment steps so far, int32; those of all members for a population."""


class World(NamedTuple):
    """The world that lanes are trained in.

    ``content`` is the training content of all lanes: environment parameters ``[L, V]``, or open
    environments, a `jaxgen.types.HostVecEnv`.
    """

    refresh_steps: int | None
    """Env steps of a lane between fresh contents; None: never."""
    content: Callable[[Lanes, int], PyTree]
    """(lanes, epoch) -> content."""
    overlap: Callable[[Lanes, PyTree, Array], Array]
    """(lanes, content, fingerprints uint32 ``[K, E]``) -> bool ``[L, K, E]``: evaluation instances
    that the content holds too."""
    episodes: Callable[[PyTree, int], dict[str, np.ndarray]]
    """(content, lane) -> what its finished episodes played, where that is known."""
    save: Callable[[Carry, PyTree, int | None], tuple[Carry, HostState]]
    """(carry, content, lane) -> all that a checkpoint needs of a lane, or (None) of all lanes: the
    carry ``[L, ...]`` or ``[1, ...]``, and the content's state. Nothing is consumed."""
    resume: Callable[[Carry, PyTree, Sequence[tuple[int | None, HostState]]], Carry]
    """(saved carry ``[L, ...]``, content, its states by lane) -> carry where ``init`` puts it, so
    that the program is the one compiled for that; the content goes on from its states."""


class LaneLearner(NamedTuple):
    """The functions by which lanes learn, compiled over all of them."""

    init: Callable[[Lanes, PyTree], Carry]
    """(lanes, content) -> carry before the first iteration."""
    train: Callable[[Lanes, Carry, PyTree, int, int], tuple[Carry, Metrics]]
    """(lanes, carry, content, start, stop) -> carry, metrics ``[L, chunk]``.

    Consumes the carry. Metrics beyond ``stop - start`` are undefined, or not there.
    """
    compile: Callable[[Lanes, Carry, PyTree], Callable[..., tuple[Carry, Metrics]]]
    """(lanes, carry, content) -> ``train``, compiled for them."""
    shapes: Callable[[Lanes], Carry]
    """lanes -> shapes and dtypes of their carry."""
    params: Callable[[Lanes, Carry], Array]
    """(lanes, carry) -> flat parameters ``[L, D]``."""
    critic: Callable[[Lanes, Carry], Array]
    """(lanes, carry) -> vectors of their critics ``[L, D]``; ``[L, 0]`` where there are none."""
    fork: Callable[[Lanes, Carry, int, Replay], Carry]
    """(lanes of forks, saved carry, iteration, replay) -> the carry that they go on from, in
    numpy; see `jaxgen.study.spec.Fork`."""


class Capacity(NamedTuple):
    """How many lanes train together, and for how long at a time."""

    memory: Callable[[Lanes], Memory]
    """lanes -> what training lanes like the first of them takes, before anything is allocated."""
    num_devices: int
    """Devices over which lanes are split."""
    min_lanes: int
    """Fewest lanes on each device; fewer are padded."""
    max_lanes: int | None
    """Most lanes on all devices together, whatever their memory; None: any number."""
    chunk: int
    """The most iterations of one call of ``train``."""


class Program(NamedTuple):
    """The compiled functions of one (environment, algorithm, static configuration)."""

    world: World
    learner: LaneLearner
    evaluate: Callable[[Lanes, Array, Any], Played]
    """(lanes, parameters ``[L, D]``, ``episodes`` of a `jaxgen.evaluation.suite.Suite`) -> outcomes
    ``[L, modes, K, E]``."""
    probe: Callable[[Lanes, Carry, int], Metrics]
    """(lanes, carry, iteration) -> ``probe_gram`` of each parameter group, by its name: the dot
    products of the gradients on two halves of the samples of each of the variations
    ``PROBE_LEVELS``, ``[L, 2, V, 2, V]``; changes nothing."""
    capacity: Capacity


MakeAlgorithm = Callable[[Any, Technique, Any], Algorithm]


def stack_lanes(
    arms: list[tuple[Config, Technique]], seeds: list[int], forks: Sequence[Fork] = ()
) -> Lanes:
    """Line up (configuration, technique), seed and, of forks, start of every lane.

    Raises:
      ValueError: static fields differ, so the lanes are not one program, or a technique has not
        a level for each variation.
    """
    for config, _ in arms:
        # One whose algorithm came with a plug-in may be new to JAX.
        register_config(type(config))
    arms = [(config, technique.over(config.num_variations)) for config, technique in arms]
    keys = {program_key(config, technique) for config, technique in arms}
    if len(keys) != 1:
        raise ValueError(
            "lanes of one program share all but the floats of configuration and technique; these "
            f"differ in {', '.join(differing_fields(keys))}"
        )
    as_floats = [
        (config, replace(technique, levels=np.asarray(technique.levels, np.float32)))
        for config, technique in arms
    ]
    config, technique = jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf, np.float32) for leaf in leaves]), *as_floats
    )
    begun = _forked_lanes(forks) if forks else None
    return Lanes(np.asarray(seeds, np.uint32), config, technique, begun)  # pyright: ignore


def _forked_lanes(forks: Sequence[Fork]) -> ForkedLane:
    own_data, own_order = (
        np.array([fork.noise in ("all", kind) for fork in forks]) for kind in ("data", "order")
    )
    made: Any = (
        np.array([fork.stream for fork in forks], np.uint32),
        np.array([fork.member for fork in forks], np.uint32), own_data, own_order,
        np.array([fork.perturbation for fork in forks], np.float32),
    )  # fmt: skip
    return ForkedLane(*made)


def has_budget(total_steps: int, env_steps: Any) -> Any:
    """Whether a lane trains on after so many env steps, int32 ``[...]`` -> bool ``[...]``."""
    return env_steps < total_steps


def lane_at(tree: PyTree, index: int) -> Any:
    """The part of one lane: leaves ``[L, ...]`` -> ``[...]``."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stacked(lanes: Sequence[PyTree]) -> Any:
    """Trees of single lanes, one behind the other: leaves ``[...]`` -> ``[L, ...]``."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)


def with_lanes(shapes: PyTree, num_lanes: int) -> Any:
    """Shapes and dtypes of so many lanes from those of one: ``[...]`` -> ``[L, ...]``."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num_lanes, *leaf.shape), leaf.dtype), shapes
    )


class Collected(NamedTuple):
    """The yield of a lane's iteration, wherever its environment lives."""

    actor: PyTree
    """What collected it."""
    episodes: Episodes
    """The running episodes after it."""
    rollout: PyTree
    """What the algorithm keeps of its transitions, leaves ``[T, V, N, ...]``."""


def scheduled(lane: Lanes, env_steps: Array) -> Lanes:
    """The lane with the learning rate that it has after so many env steps."""
    config = lane.config
    if config.learning_rate_schedule == "constant":
        return lane
    budget = config.total_steps
    if config.counts_alike:
        budget = config.num_iterations * config.steps_per_iteration
    factor = {
        "linear": optax.linear_schedule(1.0, 0.0, budget),
        "cosine": optax.cosine_decay_schedule(1.0, budget),
    }[config.learning_rate_schedule]
    rate = config.learning_rate * factor(env_steps)
    return lane._replace(config=replace(config, learning_rate=rate))


def learn(
    algorithm: Algorithm, config: Config, carry: Carry, collected: Collected, iteration: Array,
    key: Array,
) -> tuple[Carry, Metrics]:
    """The second half of an iteration of one lane.

    Args:
      algorithm: gives ``update`` and ``count_steps``.
      config: the lane's: its budget, and the env steps of a rollout where the algorithm does not
        count its own.
      carry: before the iteration.
      collected: in its first half.
      iteration: its number.
      key: randomness of the update.

    Returns:
      The carry after the iteration and the metrics of the update.
    """
    actor, episodes, rollout = collected
    state, metrics = algorithm.update(carry.state, actor, rollout, iteration, key)
    steps = jnp.int32(config.steps_per_iteration)
    if algorithm.count_steps is not None:
        steps = algorithm.count_steps(rollout)
    after = Carry(state, episodes, carry.env_steps + steps)
    if algorithm.count_steps is not None:
        # A population may reach its budget in a lane before the others: it rests from then on.
        active = has_budget(config.trained_steps, carry.env_steps)
        after = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, carry)
        metrics = metrics | {"active": active.astype(jnp.float32)}
    return after, metrics | {"env_steps": after.env_steps}


def critic_vector(algorithm: Algorithm, lane: Lanes, state: PyTree) -> Array:
    """The vector of a lane's critic ``[D]``, ``[0]`` where it has none."""
    if algorithm.critic is None:
        return jnp.zeros(0, jnp.float32)
    return of_member(algorithm, lane, algorithm.critic.params(state))


def of_member(algorithm: Algorithm, lane: Lanes, values: PyTree) -> Any:
    """The part of values ``[num_members, ...]`` that a lane tells of; of one learner all."""
    if algorithm.num_members == 1:
        return values
    assert lane.fork is not None
    member = lane.fork.member.astype(jnp.int32)
    pick = lambda leaf: leaf[member] if leaf.ndim else leaf  # noqa: E731
    return jax.tree.map(pick, values)


def evaluate_vectors(
    program: Program, lanes: Lanes, params: np.ndarray, episodes: Any
) -> np.ndarray:
    """Evaluate any number of parameter vectors, such as those of a line.

    Args:
      program: of their networks.
      lanes: the first one says of which algorithm and configuration the vectors are.
      params: float32 ``[M, D]``.
      episodes: as ``program.evaluate`` takes them.

    Returns:
      Returns float32 ``[M, modes, K, E]``.
    """
    vectors = padded(list(params), program.capacity)
    copies = jax.tree.map(lambda leaf: np.repeat(leaf[:1], len(vectors), 0), lanes)
    played = program.evaluate(copies, np.stack(vectors), episodes)  # pyright: ignore
    return np.asarray(played.returns)[: len(params)]
