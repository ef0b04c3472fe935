"""Two learners in lockstep on one replay: one or both write it, both learn from all of it.

They begin as copies of one learner, with a copy of its replay, and draw apart by their random
numbers alone. Each plays in environments of its own, as many as it would alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.algorithms.base import Algorithm
from jaxgen.study.config import OffPolicyConfig
from jaxgen.system.errors import BadInput
from jaxgen.techniques import Technique
from jaxgen.types import Array, EnvSpec, Metrics, PyTree

NUM_MEMBERS = 2

MakeAlgorithm = Callable[[Any, Technique, EnvSpec], Algorithm]


class Pair(NamedTuple):
    """State of both learners."""

    members: PyTree
    """Their states without the replay, leaves ``[2, ...]``."""
    ring: PyTree


def paired(
    make: MakeAlgorithm, begins: int, tandem: bool, config: OffPolicyConfig, technique: Technique,
    spec: EnvSpec,
) -> Algorithm:
    """Build two learners of an algorithm that learns from a replay.

    Args:
      make: constructor of the algorithm.
      begins: the iteration from which on there are two; before it one has filled the replay.
      tandem: only the first of them writes from then on, so that they differ by what they draw from
        common data alone (Ostrovski et al. 2021).
      config: of each of them.
      technique: of both.
      spec: of the environment.

    Raises:
      BadInput: the algorithm has no replay, or it runs one environment after the other.
    """
    single = make(config, technique, spec)
    if single.replayed is None or single.in_turn:
        raise BadInput(
            f"{config.algorithm} on {spec.name} cannot share a replay: use copy, which needs none, "
            "or an algorithm that learns from a replay of numbers"
        )
    shape = single.shape._replace(num_envs=NUM_MEMBERS * single.shape.num_envs)

    def init(key: Array) -> Pair:
        return _doubled(single.init(key))

    def prepare(state: Pair, iteration: Array, key: Array) -> PyTree:
        keys = jax.random.split(key, NUM_MEMBERS)
        return jax.vmap(single.prepare, in_axes=(0, None, 0))(state.members, iteration, keys)

    def act(actor: PyTree, obs: Array, words: Array) -> tuple[Array, PyTree]:
        apart = lambda leaf: leaf.reshape(leaf.shape[0], NUM_MEMBERS, -1, *leaf.shape[2:])  # noqa: E731
        chosen = jax.vmap(single.act, in_axes=(0, 1, 1), out_axes=1)(
            actor, apart(obs), apart(words)
        )
        return jax.tree.map(lambda leaf: leaf.reshape(*obs.shape[:2], *leaf.shape[3:]), chosen)

    return single._replace(
        init=init,
        prepare=prepare,
        act=act,
        params=lambda state: jax.vmap(single.params)(state.members),
        update=partial(_update, single, config, begins, 1 if tandem else NUM_MEMBERS),
        half_gradients=_no_halves,
        shape=shape,
        num_members=NUM_MEMBERS,
        replayed=None,
        critic=single.critic and single.critic._replace(
            params=lambda state: jax.vmap(single.critic.params)(state.members)  # pyright: ignore
        ),
        fork=lambda state, replay, iteration, key, number: _doubled(state),
    )


def _update(
    single: Algorithm, config: OffPolicyConfig, begins: int, num_writing: int, state: Pair,
    actor: PyTree, rollout: Any, iteration: Array, key: Array,
) -> tuple[Pair, Metrics]:
    """Write what those who write have seen, then let each learn; metrics ``[2]``."""
    assert single.replayed is not None
    num_new = config.num_envs * config.num_steps
    before = begins * num_new + (iteration - begins) * num_writing * num_new
    written = jax.tree.map(lambda leaf: leaf[:, :, : num_writing * config.num_envs], rollout)
    ring = single.replayed.insert(state.ring, written, before)
    inserted, keys = before + num_writing * num_new, jax.random.split(key, NUM_MEMBERS)
    after = []
    for number in range(NUM_MEMBERS):
        member, own = jax.tree.map(lambda leaf: leaf[number], (state.members, actor))  # noqa: B023
        whole = member._replace(ring=ring)
        after.append(single.replayed.learn(whole, own, inserted, iteration, keys[number]))
    members = [learned._replace(ring=()) for learned, _ in after]
    stacked, metrics = (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        for each in (members, [metrics for _, metrics in after])
    )
    return Pair(stacked, ring), metrics


def _doubled(state: Any) -> Pair:
    """Two copies of a learner that share its replay."""
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf] * NUM_MEMBERS), state._replace(ring=()))
    return Pair(twice, state.ring)


def _no_halves(*_: Any) -> Any:
    raise BadInput("gradients of a pair are not probed; leave out the probe")
