"""Training on a host-side environment: two compiled halves around a Python loop.

The same algorithms, keys and metrics as `jaxgen.training`; only the collector differs.
An environment of shape ``[L, V, N]`` is stepped for all lanes in one call, on one device.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.algorithms.base import Algorithm
from jaxgen.rollout import Episodes, HostVecEnv, action_randomness, collect_host
from jaxgen.training import Carry, Lanes, MakeAlgorithm, iteration_keys, learn, stream_key
from jaxgen.types import Array, EnvSpec, Metrics, PyTree, Transition


class HostProgram(NamedTuple):
    """The compiled functions of one (environment, algorithm); lanes in front of everything."""

    init: Callable[[Lanes, np.ndarray], Carry]
    """(lanes, first observations ``[L, V, N, ...]``) -> carry before the first iteration."""
    prepare: Callable[[Lanes, Carry, int], tuple[PyTree, Array]]
    """(lanes, carry, iteration) -> actor, uniform ``[L, T, V, N]``."""
    act: Callable[[Lanes, PyTree, np.ndarray, np.ndarray], tuple[Array, PyTree]]
    """(lanes, actor, obs ``[L, V, N, ...]``, uniform ``[L, V, N]``) -> actions, extras."""
    update: Callable[[Lanes, Carry, PyTree, Episodes, PyTree, int], tuple[Carry, Metrics]]
    """(lanes, carry, actor, episodes, rollout, iteration) -> carry, metrics ``[L]``."""
    record: Callable[[Transition], PyTree]
    fresh: bool
    """Restart every episode before each iteration."""


def make_host_program(
    spec: EnvSpec, make_algorithm: MakeAlgorithm, example: Algorithm, *, study_seed: int = 0
) -> HostProgram:
    """Build the halves of an iteration; nothing compiles before the first call.

    Args:
      spec: the environment's.
      make_algorithm: (config, technique, spec) -> Algorithm, called while tracing.
      example: the algorithm of any lane, for what is the same in all of them.
      study_seed: root of all keys.
    """

    def algorithm_of(lane: Lanes) -> Algorithm:
        return make_algorithm(lane.config, lane.technique, spec)

    def init(lane: Lanes, obs: Array) -> Carry:
        state = algorithm_of(lane).init(stream_key(study_seed, lane.seed, "init"))
        return Carry(state, Episodes(obs, (), jnp.zeros(obs.shape[:2], jnp.float32)), jnp.int32(0))

    def keys_of(lane: Lanes, iteration: Array):
        return iteration_keys(stream_key(study_seed, lane.seed, "train"), iteration)

    def prepare(lane: Lanes, carry: Carry, iteration: Array) -> tuple[PyTree, Array]:
        algorithm, keys = algorithm_of(lane), keys_of(lane, iteration)
        actor = algorithm.prepare(carry.state, iteration, keys.prepare)
        return actor, action_randomness(algorithm, carry.episodes, keys.collect)[0]

    def act(lane: Lanes, actor: PyTree, obs: Array, uniform: Array) -> tuple[Array, PyTree]:
        return algorithm_of(lane).act(actor, obs, uniform)

    def update(
        lane: Lanes, carry: Carry, actor: PyTree, episodes: Episodes, rollout: PyTree,
        iteration: Array,
    ) -> tuple[Carry, Metrics]:
        return learn(
            algorithm_of(lane), lane.config.total_steps, carry, actor, episodes, rollout,
            iteration, keys_of(lane, iteration).update,
        )

    return HostProgram(
        init=jax.jit(jax.vmap(init)),
        prepare=jax.jit(jax.vmap(prepare, (0, 0, None))),
        act=jax.jit(jax.vmap(act)),
        update=jax.jit(jax.vmap(update, (0, 0, 0, 0, 0, None))),
        record=example.record,
        fresh=example.fresh,
    )


def train_host_iteration(
    program: HostProgram, lanes: Lanes, carry: Carry, env: HostVecEnv, iteration: int
) -> tuple[Carry, dict[str, np.ndarray]]:
    """Collect a rollout on the host, then update all lanes.

    Args:
      program: from `make_host_program`.
      lanes: as in `jaxgen.training`.
      carry: from ``program.init(lanes, env.reset())``, then from the last iteration.
      env: of shape ``[L, V, N]``; it goes on where the last iteration left it.
      iteration: its number, from 0.

    Returns:
      The carry and the metrics ``[L]`` by name, those of `jaxgen.training`.
    """
    actor, uniform = program.prepare(lanes, carry, iteration)
    episodes = carry.episodes
    if program.fresh:
        total = np.zeros(episodes.total.shape, np.float32)
        episodes = Episodes(env.reset(), (), total)  # pyright: ignore
    episodes, rollout, reward = collect_host(
        env,
        lambda obs, uniform: program.act(lanes, actor, obs, uniform),
        program.record,
        episodes,
        np.asarray(uniform),
    )
    carry, metrics = program.update(lanes, carry, actor, episodes, rollout, iteration)
    return carry, reward | {name: np.asarray(value) for name, value in metrics.items()}
