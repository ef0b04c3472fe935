"""Replays of forks: halves that share nothing, and updates that wait where nothing is left."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms import off_policy, replay
from jaxgen.study.fork import Fork
from jaxgen.study.presets import preset
from jaxgen.system.errors import BadInput
from jaxgen.techniques import make_technique
from jaxgen.training.fork import forked_state
from jaxgen.training.keys import ForkedLane
from jaxgen.types import EnvSpec, Image
from probe_envs import MATCH, ProbeTask, tiny_config

SPEC = ProbeTask(MATCH).spec
FORK = ForkedLane(jnp.uint32(1), jnp.uint32(0), jnp.bool_(True), jnp.bool_(True), jnp.float32(0))
CONFIG: Any = dataclasses.replace(
    tiny_config("dqn"), num_envs=2, num_steps=2, buffer_size=3 * 11, batch_size=12, replay_ratio=1
)
"""4 new transitions of each of 3 variations in an iteration; rings of 11."""


class State(NamedTuple):
    ring: Any


def filled(num_rollouts: int) -> State:
    """A ring whose entries say when they came and of which variation: 100 v + number."""
    ring = replay.init({"entry": np.int32(0)}, 3, CONFIG.ring_size)
    for number in range(num_rollouts):
        t, v, n = np.ogrid[:2, :3, :2]
        rollout = {"entry": jnp.asarray(100 * v + 4 * number + 2 * t + n, jnp.int32)}
        ring = replay.insert(ring, rollout, jnp.int32(4 * number))
    return State(ring)


def split(num_rollouts: int, number: int, seed: int = 0) -> np.ndarray:
    state = off_policy.forked(
        CONFIG, filled(num_rollouts), "split", jnp.int32(num_rollouts), jax.random.key(seed),
        jnp.uint32(number),
    )  # fmt: skip
    return np.asarray(state.ring["entry"])


def begun(num_rollouts: int, kind: Any) -> Any:
    """The configuration of a fork after so many of 20 iterations."""
    total = 20 * CONFIG.steps_per_iteration
    whole = dataclasses.replace(CONFIG, total_steps=total, learning_starts=24)
    return Fork("parent", num_rollouts / 20, 1, kind).begun(whole)


def sampled(config: Any, ring: np.ndarray, iteration: int) -> set[int]:
    """Entries of the first variation that updates of an iteration may sample, before it writes."""
    store = off_policy.make_replay(config, SPEC)
    inserted = jnp.int32(iteration * 4)
    index = store.draw(jax.random.key(0), (400, 3, 4), inserted)
    return {int(ring[0, place]) for place in np.unique(np.asarray(index)[:, 0])}


@pytest.mark.parametrize("num_rollouts", [1, 2, 5, 9])
def test_halves_share_nothing_and_are_all_there_is(num_rollouts):
    """Of an odd number of entries one is left out; what is sampled is the half, in both forks."""
    held = set(np.asarray(filled(num_rollouts).ring["entry"])[0])
    if num_rollouts < 3:
        held = set(range(4 * num_rollouts))
    half = len(held) // 2
    config = begun(num_rollouts, "split")
    first, second = (
        sampled(config, split(num_rollouts, number), num_rollouts) for number in (1, 2)
    )
    assert len(first) == len(second) == half and not first & second
    assert first | second <= held and len(held - first - second) == len(held) % 2


def test_halves_follow_from_the_key_and_the_parity_of_the_number():
    one, other, third = (split(5, number) for number in (1, 2, 3))
    assert (one != other).any() and (one == third).all()
    assert (split(5, 1, seed=1) != one).any()


@pytest.mark.parametrize("kind", ["split", "fresh", "fresh-batch"])
@pytest.mark.parametrize("num_rollouts", [1, 2, 5])
def test_what_a_fork_writes_follows_what_it_has(kind, num_rollouts):
    """Entries of the next iterations are added to the half, until the ring is full; then the
    oldest make room."""
    config = begun(num_rollouts, kind)
    state = off_policy.forked(
        CONFIG, filled(num_rollouts), kind, jnp.int32(num_rollouts), jax.random.key(0),
        jnp.uint32(1),
    )  # fmt: skip
    kept = set()
    if kind == "split":
        kept = sampled(config, np.asarray(state.ring["entry"]), num_rollouts)
    ring, expected = state.ring, set(kept)
    for number in range(num_rollouts, num_rollouts + 4):
        rollout = {"entry": jnp.full((2, 3, 2), 1000 + number, jnp.int32)}
        ring = replay.insert(ring, rollout, jnp.int32(4 * number))
        expected.add(1000 + number)
        found = sampled(config, np.asarray(ring["entry"]), number + 1)
        if len(kept) + 4 * (number + 1 - num_rollouts) <= CONFIG.ring_size:
            assert found == expected
        else:
            assert found <= expected and 1000 + number in found


def test_updates_wait_as_long_as_they_are_told():
    """After 5 iterations, 60 env steps: 24 more, a batch of 12 more, or none."""
    assert begun(5, "fresh").first_update == 60 + 24
    assert begun(5, "fresh-batch").first_update == 60 + 12
    # 11 entries are held, of which 5 are kept: since env step 60 - 3 x 5.
    assert (begun(5, "split").replay_begins, begun(5, "split").first_update) == (45, 45)
    assert (begun(5, "copy").replay_begins, begun(5, "copy").first_update) == (0, 24)
    config: Any = preset("ppo", "cartpole")
    assert Fork("parent", 0.5, 1, "fresh").begun(config) == config


def test_what_cannot_be_divided_is_refused():
    image = dataclasses.replace(SPEC, observation=Image(64, 64, 4), truncates=False)
    config = dataclasses.replace(begun(5, "split"), num_frames=4, network="nature")
    with pytest.raises(BadInput, match="keeps single images.*fork with a copy of it"):
        off_policy.make_replay(config, EnvSpec(**vars(image)))
    from jaxgen.algorithms.ppo import make_ppo

    algorithm = make_ppo(tiny_config("ppo"), make_technique("baseline"), SPEC)
    with pytest.raises(ValueError, match="cannot divide a replay; use copy"):
        forked_state(algorithm, "split", (), jnp.int32(1), jax.random.key(0), FORK)
