"""PPO: its loss and minibatches by hand, and probes with known values."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxgen.algorithms import ppo
from jaxgen.algorithms.base import Algorithm
from jaxgen.nn import networks
from jaxgen.study.config import replace
from jaxgen.techniques import make_technique
from jaxgen.training.program import stack_lanes
from jaxgen.types import Transition
from probe_envs import (
    NUM_ACTIONS,
    NUM_LANES,
    PROBES,
    ProbeTask,
    compiled,
    look,
    scores,
    single,
    start,
    tiny_config,
    traced,
    train,
    with_spy,
)

SPEC = ProbeTask(PROBES["match"]).spec
NUM_STEPS, NUM_ENVS = 4, 2
SAMPLES = NUM_STEPS * NUM_ENVS
NETWORK = networks.actor_critic(SPEC, NUM_ACTIONS, (16,), encoding="one_hot")

surrogate_and_slope = jax.jit(jax.value_and_grad(ppo.clipped_surrogate))


@jax.jit
def values_of(params, obs):
    """What the critic of a parameter vector says."""
    return NETWORK.apply(NETWORK.unravel(params), obs)[1]


@pytest.mark.parametrize(
    "ratio, advantage, loss, slope",
    [
        # Within the clip: -ratio x advantage, slope -advantage.
        (1.1, 2.0, -2.2, -2.0),
        (0.9, -2.0, 1.8, 2.0),
        # Beyond it in the direction that the advantage wants: held at 1.2 and .8, no slope.
        (1.5, 2.0, -2.4, 0.0),
        (0.5, -2.0, 1.6, 0.0),
        # Beyond it in the other direction: the pessimistic, unclipped value, with its slope.
        (0.5, 2.0, -1.0, -2.0),
        (1.5, -2.0, 3.0, 2.0),
    ],
)
def test_clipped_surrogate_by_hand(ratio, advantage, loss, slope):
    ours, grad = surrogate_and_slope(np.float32(ratio), np.float32(advantage), 0.2)
    np.testing.assert_allclose((ours, grad), (loss, slope), rtol=1e-6)


def random_rollout(seed: int = 0) -> Transition:
    """A rollout [T, V, N] whose samples can be told apart by their observation."""
    random = np.random.default_rng(seed)
    shape = (NUM_STEPS, 3, NUM_ENVS)
    obs = random.normal(size=(*shape, 3)).astype(np.float32)
    ends = random.random(shape)
    reward, next_obs = random.normal(size=shape), random.normal(size=obs.shape)
    action = random.integers(0, 2, shape).astype(np.int32)
    goes_on = (ends >= 0.2) & (ends <= 0.8)
    next_obs[:-1] = np.where(goes_on[:-1, ..., None], obs[1:], next_obs[:-1])
    log_prob: Any = np.full(shape, np.log(0.5), np.float32)
    leaves: Any = (
        obs, action, reward.astype(np.float32), ends < 0.2, ends > 0.8,
        next_obs.astype(np.float32), ppo.Choice(log_prob, ()),
    )
    return Transition(*leaves)


@jax.jit
def some_value(obs):
    return jnp.sin(obs[..., 0]) + 2 * obs[..., 1]


looked_up = jax.jit(lambda rollout: ppo._values(some_value, rollout))


@pytest.mark.parametrize("share_truncated", [0.0, 0.1, 1.0])
def test_values_are_those_of_observations_and_true_successors(share_truncated):
    """Looked up only where an episode was truncated and at the end, known anywhere else."""
    rollout, random = random_rollout(), np.random.default_rng(1)
    truncated = random.random(rollout.truncated.shape) < share_truncated
    done = np.asarray(rollout.terminated) | truncated
    goes_on = np.where(done[:-1, ..., None], rollout.obs[1:], rollout.next_obs[:-1])
    obs: Any = np.concatenate([rollout.obs[:1], goes_on])
    rollout = rollout._replace(obs=obs, truncated=truncated)  # pyright: ignore
    value, next_value = looked_up(rollout)
    np.testing.assert_array_equal(value, some_value(obs))
    counts, expected = ~np.asarray(rollout.terminated), np.asarray(some_value(rollout.next_obs))
    np.testing.assert_array_equal(np.asarray(next_value)[counts], expected[counts])


@cache
def plain() -> Algorithm:
    """One whose first state is that of every other here."""
    return compiled(ppo.make_ppo(tiny_config("ppo"), make_technique("baseline"), SPEC))


SEEN: list[ppo.Batch] = []


@cache
def spied(**overrides: Any) -> tuple[Any, Any]:
    """An algorithm and its compiled update, which leaves its minibatches in `SEEN`."""
    algorithm = ppo.make_ppo(tiny_config("ppo", **overrides), make_technique("gar"), SPEC)
    return compiled(algorithm), with_spy(algorithm.update, SEEN)


def minibatches(rollout: Transition, **overrides) -> tuple[list[ppo.Batch], jax.Array]:
    """The minibatches of one update, and the parameters before it."""
    algorithm, update = spied(**overrides)
    state = plain().init(jax.random.key(0))
    actor = algorithm.prepare(state, jnp.int32(0), jax.random.key(1))
    SEEN.clear()
    update(state, actor, rollout, jnp.int32(0), jax.random.key(2))
    jax.effects_barrier()
    return list(SEEN), state.params


def test_minibatches_are_stratified_and_use_each_sample_once_per_epoch():
    """2 epochs x 2 minibatches of 4 samples of every variation, of 8 that there are."""
    rollout = random_rollout()
    batches, _ = minibatches(rollout)
    assert [batch.obs.shape for batch in batches] == [(3, SAMPLES // 2, 3)] * 4
    for variation in range(3):
        mine = np.sort(np.asarray(rollout.obs)[:, variation, :, 0].ravel())
        firsts = np.stack([batch.obs[variation, :, 0] for batch in batches])
        epochs = firsts.reshape(2, SAMPLES)
        for epoch in epochs:
            np.testing.assert_array_equal(np.sort(epoch), mine)
        assert (epochs[0] != epochs[1]).any()


def test_advantages_are_normalised_over_the_whole_minibatch():
    """Mean 0 and deviation 1 over V x B together; a variation of its own keeps its difference."""
    rollout = random_rollout()
    richer: Any = np.array([0, 10, 0], np.float32)[:, None]
    rollout = rollout._replace(reward=rollout.reward + richer)
    batches, _ = minibatches(rollout)
    for batch in batches:
        advantage = batch.advantage
        np.testing.assert_allclose((advantage.mean(), advantage.std()), (0, 1), atol=1e-5)
        assert advantage[1].mean() > 0.5


def by_first_feature(obs, values) -> dict[float, float]:
    """The value of every sample by its first feature, which no two samples share."""
    return dict(zip(np.asarray(obs)[..., 0].ravel().tolist(), np.asarray(values).ravel().tolist()))


def test_targets_follow_the_recursion_with_truncation_bootstrapping():
    """delta = r + gamma (1 - terminated) v(true successor) - v; an end of either kind stops the
    trace; the target is A + v."""
    rollout = random_rollout()
    batches, params = minibatches(rollout, num_minibatches=1, num_epochs=1)
    observations = rollout.obs, rollout.next_obs
    values, successors = (np.asarray(values_of(params, obs)) for obs in observations)
    terminated = np.asarray(rollout.terminated)
    done = terminated | np.asarray(rollout.truncated)
    assert terminated.any() and (done & ~terminated).any()
    delta = np.asarray(rollout.reward) + 0.99 * (1 - terminated) * successors - values
    target, advantage = np.zeros_like(values), np.zeros_like(values[0])
    for t in reversed(range(NUM_STEPS)):
        advantage = delta[t] + 0.99 * 0.95 * (1 - done[t]) * advantage
        target[t] = advantage + values[t]
    expected = by_first_feature(rollout.obs, target)
    ours = by_first_feature(batches[0].obs, batches[0].target)
    assert ours.keys() == expected.keys() and len(ours) == 3 * SAMPLES
    for sample, value in expected.items():
        np.testing.assert_allclose(ours[sample], value, rtol=1e-4, atol=1e-5)


def test_pitfall_3_targets_do_not_see_the_next_episode():
    """Truncated at t = 2: whatever a new episode shows and pays at t = 3 changes only its own
    target."""
    rollout = random_rollout()
    never: Any = np.zeros_like(rollout.terminated)
    third: Any = never | (np.arange(NUM_STEPS) == 2)[:, None, None]
    rollout = rollout._replace(terminated=never, truncated=third)
    targets = []
    for change in (0.0, 3.0):
        obs, reward = np.array(rollout.obs), np.array(rollout.reward)
        obs[3, ..., 1:] += change
        reward[3] += change
        changed = rollout._replace(obs=obs, reward=reward)  # pyright: ignore
        batches, _ = minibatches(changed, num_minibatches=1, num_epochs=1)
        targets.append(by_first_feature(batches[0].obs, batches[0].target))
    last = set(np.asarray(rollout.obs[3, ..., 0]).ravel().tolist())
    assert len(last) == 3 * NUM_ENVS
    for sample, target in targets[0].items():
        assert (targets[1][sample] == target) == (sample not in last)


def test_the_first_minibatch_has_ratio_one():
    """Before the first step the policy is the one that acted: no divergence, nothing clipped."""
    algorithm, update = spied(num_minibatches=1, num_epochs=1)
    state = plain().init(jax.random.key(0))
    actor = algorithm.prepare(state, jnp.int32(0), jax.random.key(1))
    rollout = random_rollout()
    words: Any = np.zeros((*rollout.reward.shape, algorithm.policy.num_words), np.uint32)
    action, choice = algorithm.act(actor, rollout.obs, words)
    rollout = rollout._replace(action=action, extras=choice)
    _, metrics = update(state, actor, rollout, jnp.int32(0), jax.random.key(2))
    np.testing.assert_allclose(metrics["approx_kl"], 0, atol=1e-6)
    assert metrics["clip_fraction"] == 0
    # The head's gain of .01 makes a new policy nearly uniform: entropy log 2.
    np.testing.assert_allclose(metrics["entropy"], np.log(2), atol=1e-3)


# Probes: one lane each. With ratio and value exact, the tolerance is what Adam jitters.

NUM_ITERATIONS = 400
NAMES = list(PROBES)


@cache
def trained() -> np.ndarray:
    """Parameters ``[L, D]`` of a lane per probe."""
    config = tiny_config("ppo")
    # All steps look alike in these two, so that their value depends on lambda; 0 is one-step TD.
    alike = replace(config, {"gamma": 0.8, "gae_lambda": 0.0})
    arms = [
        (alike if name in ("truncated", "terminated") else config, single(number))
        for number, name in enumerate(NAMES)
    ]
    arms += [arms[0]] * (NUM_LANES - len(arms))
    program, lanes = traced("ppo").program, stack_lanes(arms, list(range(NUM_LANES)))
    content, first = start(program, lanes)
    carry, _ = train(program, lanes, first, content, range(0, NUM_ITERATIONS + 1, 50))
    return np.asarray(carry.state.params)


def value(name: str, state: int) -> float:
    params = trained()[NAMES.index(name)]
    return float(values_of(params, look(PROBES[name], state)))


def probability(name: str, state: int, action: int) -> float:
    params = trained()[NAMES.index(name)]
    logits = np.asarray(scores(plain(), params, look(PROBES[name], state)))
    return float(special.softmax(logits)[action])


def test_probe_constant_reward():
    assert abs(value("constant", 0) - 1) < 0.02


def test_probe_reward_by_observation():
    assert abs(value("observed", 0) - 1) < 0.02
    assert abs(value("observed", 1) + 1) < 0.02


def test_probe_discounting():
    """Values gamma = .99 and 1; a gamma of 1 would give 1 and 1."""
    assert abs(value("discounted", 0) - 0.99) < 0.004
    assert abs(value("discounted", 1) - 1) < 0.004


def test_probe_reward_by_action():
    assert probability("action", 0, 1) > 0.95
    assert abs(value("action", 0) - 1) < 0.05


def test_probe_reward_by_observation_and_action():
    assert probability("match", 0, 0) > 0.95 and probability("match", 1, 1) > 0.95
    assert abs(value("match", 0) - 1) < 0.05 and abs(value("match", 1) - 1) < 0.05


def test_pitfall_4_truncation_bootstraps():
    """Constant reward .2 that is only ever truncated: .2 / (1 - .8) = 1."""
    assert abs(value("truncated", 0) - 1) < 0.03


def test_pitfall_4_termination_does_not():
    """The same but one step in four terminates: v = .2 + .8 x 3/4 v, so v = .5."""
    assert abs(value("terminated", 0) - 0.5) < 0.05
