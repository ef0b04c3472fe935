"""Two learners on one replay: what both write, and what each learns from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms import dqn
from jaxgen.algorithms.paired import Pair, paired
from jaxgen.algorithms.ppo import make_ppo
from jaxgen.system.errors import BadInput
from jaxgen.techniques import make_technique
from jaxgen.training.fork import forked_state
from jaxgen.training.keys import ForkedLane
from jaxgen.types import Transition
from probe_envs import MATCH, ProbeTask, tiny_config

SPEC, TECHNIQUE = ProbeTask(MATCH).spec, make_technique("baseline")
FORK = ForkedLane(jnp.uint32(1), jnp.uint32(0), jnp.bool_(True), jnp.bool_(True), jnp.float32(0))
BEGINS, NUM_NEW, SIZE = 3, 8, 40
"""A pair from iteration 3 on; 8 transitions of each variation in an iteration of each."""


def parts(tandem: bool = False) -> tuple[Any, Any]:
    config = tiny_config("dqn", learning_starts=0)
    assert config.ring_size == SIZE
    pair = paired(dqn.make_dqn, BEGINS, tandem, config, TECHNIQUE, SPEC)
    return dqn.make_dqn(config, TECHNIQUE, SPEC), pair


def rollout_of(number: int, num_envs: int) -> Transition:
    """Transitions ``[4, 3, N]`` whose reward says when they came and from which environment."""
    shape = (4, 3, num_envs)
    time, _, env = np.ogrid[:4, :3, :num_envs]
    reward = np.broadcast_to(100.0 * number + 10 * time + env, shape).astype(np.float32)
    flags = np.zeros(shape, bool)
    obs = np.ones((*shape, 3), np.float32)
    leaves: Any = (obs, np.zeros(shape, np.int32), reward, flags, flags, obs, ())
    return Transition(*leaves)


def filled(tandem: bool = False) -> tuple[Any, Any, Any]:
    """A single learner after 3 iterations, and the pair that goes on from it."""
    single, pair = parts(tandem)
    state = single.init(jax.random.key(0))
    for number in range(BEGINS):
        actor = single.prepare(state, jnp.int32(number), jax.random.key(1))
        state, _ = single.update(
            state, actor, rollout_of(number, 2), jnp.int32(number), jax.random.key(number)
        )
    forked = forked_state(pair, "shared", state, jnp.int32(BEGINS), jax.random.key(0), FORK)
    return pair, state, forked


def test_a_pair_begins_as_two_copies_with_one_replay():
    pair, state, forked = filled()
    assert isinstance(forked, Pair)
    for one, two in zip(
        jax.tree.leaves(state._replace(ring=())), jax.tree.leaves(forked.members), strict=True
    ):
        np.testing.assert_array_equal(two, np.stack([one, one]))
    for one, same in zip(jax.tree.leaves(state.ring), jax.tree.leaves(forked.ring), strict=True):
        np.testing.assert_array_equal(one, same)
    vectors = np.asarray(pair.params(forked))
    assert vectors.shape[0] == 2 and (vectors[0] == vectors[1]).all()


def test_both_write_behind_what_was_there_and_learn_in_their_own_way():
    """3 x 8 transitions, then 16 more from 4 environments, then the ring of 40 begins anew."""
    pair, _, state = filled()
    for number in (BEGINS, BEGINS + 1):
        key = jax.random.key(10 + number)
        actor = pair.prepare(state, jnp.int32(number), key)
        state, metrics = pair.update(state, actor, rollout_of(number, 4), jnp.int32(number), key)
        assert metrics["loss"].shape == (2,) and metrics["loss"][0] != metrics["loss"][1]
    held = np.asarray(state.ring.reward)[0]
    expected = np.concatenate([rollout_of(n, 2).reward[:, 0].reshape(-1) for n in range(BEGINS)])
    expected = np.concatenate([expected, rollout_of(BEGINS, 4).reward[:, 0].reshape(-1)])
    assert len(expected) == SIZE
    expected[:16] = rollout_of(BEGINS + 1, 4).reward[:, 0].reshape(-1)
    np.testing.assert_array_equal(held, expected)
    vectors = np.asarray(pair.params(state))
    assert (vectors[0] != vectors[1]).mean() > 0.5


def test_in_tandem_the_first_writes_alone_and_both_learn():
    """8 transitions an iteration, of the first two environments."""
    pair, _, state = filled(tandem=True)
    key = jax.random.key(13)
    actor = pair.prepare(state, jnp.int32(BEGINS), key)
    state, metrics = pair.update(state, actor, rollout_of(BEGINS, 4), jnp.int32(BEGINS), key)
    held = np.asarray(state.ring.reward)[0]
    expected = [rollout_of(number, 2).reward[:, 0].reshape(-1) for number in range(BEGINS + 1)]
    np.testing.assert_array_equal(held[:32], np.concatenate(expected))
    assert not held[32:].any() and metrics["loss"][0] != metrics["loss"][1]


def test_each_acts_in_its_own_half_of_the_environments():
    """As the single learner with its parameters would, by the same words."""
    single, pair = parts()
    _, _, state = filled()
    members = jax.tree.map(
        lambda leaf: leaf * jnp.asarray([1, -1], leaf.dtype).reshape(2, *[1] * (leaf.ndim - 1)),
        state.members,
    )
    state = state._replace(members=members)
    random = np.random.default_rng(0)
    obs = random.normal(size=(3, 4, 3)).astype(np.float32)
    words = random.integers(0, 2**32, (3, 4, 1), np.uint32)
    actor = pair.prepare(state, jnp.int32(10**6), jax.random.key(0))
    chosen, _ = pair.act(actor, jnp.asarray(obs), jnp.asarray(words))
    assert chosen.shape == (3, 4)
    for number in range(2):
        own = jax.tree.map(lambda leaf, number=number: leaf[number], members)
        alone = single.prepare(own, jnp.int32(10**6), jax.random.key(0))
        half = slice(2 * number, 2 * number + 2)
        action, _ = single.act(alone, jnp.asarray(obs[:, half]), jnp.asarray(words[:, half]))
        np.testing.assert_array_equal(chosen[:, half], action)


def test_what_has_no_replay_cannot_share_one():
    with pytest.raises(BadInput, match="ppo on probe cannot share a replay"):
        paired(make_ppo, 1, False, tiny_config("ppo"), TECHNIQUE, SPEC)
