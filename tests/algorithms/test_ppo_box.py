"""PPO in a box: Gaussian and beta policies, normalisation, schedules; probes with known values."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from box_envs import CENTRE_WORTH, PictureTask
from jaxgen import api
from jaxgen.algorithms import ppo
from jaxgen.algorithms.base import Algorithm
from jaxgen.nn import networks
from jaxgen.nn.networks import Variables
from jaxgen.study.config import PPOConfig
from jaxgen.techniques import make_technique
from jaxgen.training.device import make_device_program
from jaxgen.training.program import stack_lanes
from jaxgen.training.rollout import collect, start_episodes
from jaxgen.types import Box, EnvSpec, Image
from probe_envs import NUM_LANES, PROBES, ProbeTask, look, single, start, tiny_config, train

POLICIES = ("gaussian", "beta")
NAMES = list(PROBES)
TASK = ProbeTask(*PROBES.values(), box=True)
NUM_ITERATIONS = 400


def make(**overrides: Any) -> Algorithm:
    config = tiny_config("ppo", **overrides)
    return ppo.make_ppo(config, make_technique("gar"), TASK.spec)


def network_of(config: PPOConfig) -> networks.Network:
    num_free = 1 if config.policy == "gaussian" else 0
    return networks.actor_critic(
        TASK.spec, 2, config.hidden, encoding="one_hot", num_free=num_free,
        normalized=config.normalize_observations,
    )


# Probes: positive actions are action 1, others action 0.


@cache
def trained(policy: str) -> np.ndarray:
    """Parameters ``[L, D]`` of a lane per probe."""
    config = tiny_config("ppo", policy=policy)
    arms = [(config, single(number)) for number in range(len(NAMES))]
    arms += [arms[0]] * (NUM_LANES - len(arms))
    program = make_device_program(TASK, ppo.make_ppo, devices=jax.local_devices()[:2])
    lanes = stack_lanes(arms, list(range(NUM_LANES)))
    content, first = start(program, lanes)
    carry, _ = train(program, lanes, first, content, range(0, NUM_ITERATIONS + 1, 50))
    return np.asarray(carry.state.optimizer.params)


def outputs(policy: str, name: str, state: int) -> tuple[Any, float]:
    """The preferred action and the value in a state."""
    params = jnp.asarray(trained(policy)[NAMES.index(name)])
    network = network_of(tiny_config("ppo", policy=policy))
    obs = look(PROBES[name], state)
    _, value = network.apply(network.unravel(params), obs)
    return float(make(policy=policy).policy.best(params, obs)[0]), float(value)


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_probe_reward_by_observation_and_action(policy):
    assert outputs(policy, "match", 0)[0] < -0.2 and outputs(policy, "match", 1)[0] > 0.2
    assert outputs(policy, "action", 0)[0] > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_probes_of_values(policy):
    """1; 1 and -1; gamma = .99 and 1."""
    assert outputs(policy, "constant", 0)[1] == pytest.approx(1, abs=0.03)
    assert outputs(policy, "observed", 0)[1] == pytest.approx(1, abs=0.1)
    assert outputs(policy, "observed", 1)[1] == pytest.approx(-1, abs=0.1)
    assert outputs(policy, "discounted", 0)[1] == pytest.approx(0.99, abs=0.01)


# One iteration.

ONE = {"num_epochs": 1, "num_minibatches": 1, "learning_rate": 1e-3, "total_steps": 2400}
"""One update, in a budget whose middle is an iteration."""


@cache
def iteration(**overrides: Any) -> tuple[PPOConfig, Any, Any, Any, Any]:
    """Configuration, state and actor before, rollout, and (state, metrics) after an iteration."""
    config = tiny_config("ppo", **overrides)
    algorithm = make(**overrides)
    params = TASK.training_params(jax.random.key(0), jnp.array([0.0, 0.25, 0.5]))

    @jax.jit
    def run(key, number):
        state = algorithm.init(key)
        actor = algorithm.prepare(state, number, key)
        episodes = start_episodes(TASK.environment, params, algorithm, key)
        _, rollout, _ = collect(TASK.environment, params, algorithm, actor, episodes, key)
        return state, actor, rollout, algorithm.update(state, actor, rollout, number, key)

    return config, *run(jax.random.key(1), jnp.int32(overrides.get("total_steps", 0) // 48))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_first_ratio_is_one(policy):
    """Actions are kept as they were drawn: with one update nothing differs from the rollout."""
    *_, (_, metrics) = iteration(policy=policy, **ONE)
    assert float(metrics["clip_fraction"]) == 0
    assert abs(float(metrics["approx_kl"])) < 1e-6


def test_gaussian_actions_are_kept_without_their_bounds():
    """With deviation 1 a third of them lies beyond [-1, 1]; the environment gets the edge."""
    _, _, _, rollout, _ = iteration(policy="gaussian", **ONE)
    beyond = np.abs(np.asarray(rollout.action)) > 1
    assert 0.1 < beyond.mean() < 0.6
    _, _, _, rollout, _ = iteration(policy="beta", **ONE)
    assert np.abs(np.asarray(rollout.action)).max() < 1


def test_the_deviation_starts_at_one_and_learns():
    config, state, _, _, (after, _) = iteration(policy="gaussian", **ONE)
    network = network_of(config)
    of_both = (network.unravel(each.optimizer.params).trained for each in (state, after))
    before, later = (trained["free"] for trained in of_both)
    assert before == 0 and later != 0


def test_observations_are_normalised_by_what_was_seen_before():
    """Mean 0 and variance 1 at first; then those of the rollout, which the next one sees."""
    config, state, actor, rollout, (after, _) = iteration(normalize_observations=True)
    network = network_of(config)
    moments = network.unravel(after.optimizer.params).statistics
    samples = np.asarray(rollout.obs).reshape(-1, 3)
    np.testing.assert_allclose(moments.mean, samples.mean(0), atol=1e-4)
    np.testing.assert_allclose(moments.variance, samples.var(0), atol=1e-4)
    np.testing.assert_array_equal(actor.statistics.mean, 0)
    obs = jnp.asarray(samples[:1])
    scaled = (samples[:1] - samples.mean(0)) / np.sqrt(samples.var(0) + 1e-8)
    plain = network_of(tiny_config("ppo"))
    trained = Variables(network.unravel(after.optimizer.params).trained)
    theirs = plain.apply(trained, jnp.asarray(np.clip(scaled, -10, 10)))
    ours = network.apply(network.unravel(after.optimizer.params), obs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), ours, theirs)


def test_the_learning_rate_falls_to_zero_over_the_budget():
    """Half of it in the middle; in the first step of Adam parameters move by the rate."""
    moved = []
    for anneal in ({}, {"anneal_learning_rate": True}):
        _, state, _, _, (after, _) = iteration(policy="gaussian", **ONE, **anneal)
        moved.append(np.abs(np.asarray(after.optimizer.params - state.optimizer.params)).max())
    assert moved[1] == pytest.approx(moved[0] / 2, rel=1e-3)


@pytest.mark.parametrize("advantages", ["batch", "variation", "none"])
def test_advantages_are_normalised_over_what_was_asked_for(advantages):
    config = tiny_config("ppo", advantages=advantages)
    _, state, actor, rollout, _ = iteration(policy="gaussian", **ONE)
    update: Any = make(advantages=advantages).update
    jax.eval_shape(update, state, actor, rollout, jnp.int32(0), jax.random.key(2))
    batch, _ = ppo._make_batch(config, network_of(config), TASK.spec, actor, rollout)
    advantage = np.asarray(batch.advantage)
    plain, _ = ppo._make_batch(
        tiny_config("ppo"), network_of(config), TASK.spec, actor, rollout
    )
    raw = np.asarray(plain.advantage)
    axes = {"none": None, "batch": (0, 1, 2), "variation": (0, 2)}[advantages]
    if axes:
        raw = (raw - raw.mean(axes, keepdims=True)) / (raw.std(axes, keepdims=True) + 1e-8)
    np.testing.assert_allclose(advantage, raw, rtol=1e-4, atol=1e-5)


def test_changes_of_the_value_are_clipped_by_the_worse_of_both_errors():
    """Value 0 before, .2 to clip: from target 1 the clipped .2 is worse than .5; from -1 the .5."""
    config = tiny_config("ppo", clip_values=True)
    numbers = {"obs": 0, "action": 0, "log_prob": 0, "advantage": 0}
    batch = ppo.Batch(**numbers, target=jnp.array([1.0, -1.0]), value=jnp.zeros(2))  # pyright: ignore
    errors = ppo._value_errors(config, jnp.array([0.5, 0.5]), batch)
    np.testing.assert_allclose(errors, [0.8**2, 1.5**2], rtol=1e-6)
    plain = ppo._value_errors(tiny_config("ppo"), jnp.array([0.5, 0.5]), batch)
    np.testing.assert_allclose(plain, [0.5**2, 1.5**2], rtol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_images_with_a_box_of_actions(policy):
    """By shapes: one encoder gives mean and value, the deviation is beside it."""
    spec = EnvSpec("picture", Image(64, 64, 3), Box((-1.0,) * 2, (1.0,) * 2), 100)
    config = tiny_config("ppo", policy=policy, network="nature", hidden=[16])
    algorithm = ppo.make_ppo(config, make_technique("gar"), spec)

    def run(key):
        state = algorithm.init(key)
        actor = algorithm.prepare(state, jnp.int32(0), key)
        obs = jnp.zeros((3, 2, 64, 64, 3), jnp.uint8)
        words = jnp.zeros((3, 2, algorithm.policy.num_words), jnp.uint32)
        return algorithm.act(actor, obs, words)[0], algorithm.params(state)

    action, _ = jax.eval_shape(run, jax.random.key(0))
    assert action.shape == (3, 2, 2)


# An action that ignores the image returns at best this: that of the mean target of all steps,
# 9.25 (E[sum of s^2] - 4 E[s]^2) for s uniform in [0, 1/2] and halved three times.
BLIND = -9.25 * ((1 + 1 / 4 + 1 / 16 + 1 / 64) / 12 - 4 * (15 / 32 / 4) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("policy, learning_rate", [("gaussian", 3e-3), ("beta", 1e-2)])
def test_images_are_learned_from_with_a_box_of_actions(policy, learning_rate):
    """IMPALA's encoder, on images as bright as the action should be far from the centre. A beta
    policy needs large outputs to become sure."""
    task: Any = PictureTask()
    config = tiny_config(
        "ppo", policy=policy, network="impala", hidden=[16], num_envs=64, num_epochs=4,
        num_minibatches=4, learning_rate=learning_rate, gamma=0.01, entropy=0.0,
        total_steps=40 * 768,
    )  # fmt: skip
    agent, *_ = api.train(task, "ppo", config=config)
    returns = api.evaluate(agent, task, [0.0], episodes=200)
    assert returns.mean() > BLIND / 2
    centre = CENTRE_WORTH / 12
    assert centre < BLIND < 0


@pytest.mark.parametrize("changes, message", [
    ({"policy": "cauchy"}, "policy = 'cauchy' .* gaussian or beta"),
    ({"advantages": "epoch"}, "advantages = 'epoch' .* minibatch, batch, variation, none"),
    ({"network": "nature", "normalize_observations": True}, "normalize_observations = True"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config("ppo", **changes)
