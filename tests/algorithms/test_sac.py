"""Soft actor-critic: targets, losses and temperature by hand, and probes with known values."""

import dataclasses
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxgen.algorithms import sac
from jaxgen.algorithms.base import Algorithm
from jaxgen.algorithms.off_policy import Judged
from jaxgen.nn.random import normal_of
from jaxgen.study.config import replace
from jaxgen.study.presets import preset
from jaxgen.techniques import make_technique
from jaxgen.types import Transition
from probe_envs import (
    MATCH,
    ONE_UPDATE,
    PROBES,
    ProbeTask,
    compiled,
    look,
    states_after,
    tiny_config,
)
from probe_envs import (
    same_transitions as rollout,
)

SPEC = ProbeTask(MATCH, box=True).spec


@cache
def parts() -> sac.Parts:
    return sac._make_parts(tiny_config("sac"), make_technique("baseline"), SPEC)


@cache
def make(**overrides: Any) -> Algorithm:
    return compiled(sac.make_sac(tiny_config("sac", **overrides), make_technique("gar"), SPEC))


@cache
def first() -> sac.State:
    """A state before anything is learned."""
    return make(**ONE_UPDATE).init(jax.random.key(0))


batches = jax.jit(lambda state, batch, noise: sac._batches(parts(), state, batch, noise))
"""As one program."""


@pytest.mark.parametrize("terminated, truncated", [(False, False), (False, True), (True, False)])
def test_target_is_the_lower_value_with_entropy(terminated, truncated):
    """r + .99 (min of both critics - temperature x log-density); the reward alone where it
    terminates; a truncation bootstraps."""
    state, ours = first(), parts()
    temperature = state.temperature._replace(params=jnp.log(jnp.full(1, 0.5)))
    state = state._replace(temperature=temperature)
    batch = rollout(terminated, truncated)
    noise = np.random.default_rng(1).normal(size=(2, *batch.action.shape)).astype(np.float32)
    judged, _ = batches(state, batch, noise)
    assert isinstance(judged, Judged)
    policy, critics = ours.actor.network, ours.critic.network
    outputs = policy.apply(policy.unravel(state.actor.params), batch.next_obs)
    mean, deviation = outputs[..., :1], np.exp(outputs[..., 1:])
    number = np.asarray(mean + deviation * noise[0], np.float64)
    density = np.exp(-0.5 * np.asarray(noise[0], np.float64) ** 2) / np.sqrt(2 * np.pi) / deviation
    log_prob = np.log(density / (1 - np.tanh(number) ** 2))[..., 0]
    pair = (batch.next_obs, np.tanh(number).astype(np.float32))
    values = np.asarray(critics.apply(critics.unravel(state.target), pair))
    expected = 0.25 + (not terminated) * 0.99 * (values.min(0) - 0.5 * log_prob)
    assert values.shape == (2, 4, 3, 2) and (values[0] != values[1]).all()
    np.testing.assert_allclose(judged.target, expected, rtol=1e-4)


def test_one_update_moves_every_part_as_it_should():
    """Critics towards the target, the temperature towards the entropy, the target critics by tau of
    the way; the noise of an update follows from its key."""
    algorithm = make(**ONE_UPDATE)
    state = first()
    actor = algorithm.prepare(state, jnp.int32(0), jax.random.key(1))
    after, metrics = algorithm.update(state, actor, rollout(), jnp.int32(0), jax.random.key(2))
    assert metrics["updates"] == 1 and metrics["temperature"] == 1
    moved = after.target - state.target
    expected = 0.05 * (after.critic.params - state.target)
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-7)
    # The first policy is nearly uniform, its log-density above -dim A = -1: less entropy than
    # wanted leads to a higher temperature.
    higher = float(metrics["actor/log_prob"]) > 1
    assert (float(after.temperature.params[0]) > 0) == higher
    again, _ = algorithm.update(state, actor, rollout(), jnp.int32(0), jax.random.key(2))
    other, _ = algorithm.update(state, actor, rollout(), jnp.int32(0), jax.random.key(3))
    assert (again.actor.params == after.actor.params).all()
    # Adam's first step is one of signs: the gradient itself is in its moments.
    drawn, otherwise = (ravel_pytree(each.actor.moments)[0] for each in (after, other))
    assert (drawn != otherwise).any()


def test_actions_are_uniform_until_learning_starts():
    """48 steps are two iterations of 24; then they are those of the policy."""
    algorithm = make()
    state, key = first(), jax.random.key(1)
    obs = jnp.ones((3, 2, 3))
    words = jax.random.bits(key, (3, 2, 1), "uint32")
    acted = [
        algorithm.act(algorithm.prepare(state, jnp.int32(i), key), obs, words)[0] for i in (0, 1, 2)
    ]
    uniform = 2 * np.asarray(words >> 8) / 2.0**24 - 1
    np.testing.assert_allclose(acted[0], uniform, atol=1e-6)
    np.testing.assert_allclose(acted[1], uniform, atol=1e-6)
    policy = parts().actor.network
    outputs = policy.apply(policy.unravel(state.actor.params), obs)
    expected = np.tanh(outputs[..., :1] + np.exp(outputs[..., 1:]) * normal_of(words))
    np.testing.assert_allclose(acted[2], expected, atol=1e-5)


def test_updates_for_each_step_do_not_depend_on_the_number_of_environments():
    for changes in ({}, {"num_envs": 4}, {"num_envs": 2, "num_steps": 8}, {"num_variations": 1}):
        config: Any = replace(preset("sac", "pendulum"), changes)
        assert config.updates_per_step == 1
    half: Any = replace(preset("sac", "pendulum"), {"num_envs": 2, "replay_ratio": 128})
    assert half.updates_per_step == 0.5


def test_groups_agree_each_for_itself():
    """The critics' agreement is the run's; the policy's is reported under its name."""
    algorithm = make(**ONE_UPDATE)
    state, key = first(), jax.random.key(1)
    actor = algorithm.prepare(state, jnp.int32(0), key)
    varied = rollout()._replace(reward=np.random.default_rng(0).normal(size=(4, 3, 2)).astype("f4"))  # pyright: ignore
    _, metrics = algorithm.update(state, actor, varied, jnp.int32(0), key)
    assert metrics["agree_pair"] != metrics["actor/agree_pair"]
    halves = jax.eval_shape(algorithm.half_gradients, state, actor, varied)
    assert {name: leaf.shape for name, leaf in halves.items()} == {
        "": (2, 3, state.critic.params.size), "actor": (2, 3, state.actor.params.size)
    }


def group_step(group: str, technique: str, scales: Any) -> tuple[np.ndarray, dict]:
    """Parameters of a group after a step on its own loss, and its metrics by their usual names.

    Variations have the same batch, and losses that are so many times the usual one.
    """
    agreement = jnp.float32(make_technique(technique).agreement)
    after, metrics = stepped(group, agreement, jnp.asarray(scales, jnp.float32))
    prefix = f"{group}/" if group else ""
    return np.asarray(after.params), {name.removeprefix(prefix): m for name, m in metrics.items()}


@partial(jax.jit, static_argnums=0)
def stepped(group: str, agreement: Any, scales: Any) -> Any:
    """The step of dr, whose agreement is 0, or of gar, whose agreement is 1: one program."""
    technique = dataclasses.replace(make_technique("gar"), agreement=agreement)
    parts, state = sac._make_parts(tiny_config("sac", **ONE_UPDATE), technique, SPEC), first()
    flat = jax.tree.map(lambda leaf: leaf[:, :, 0].swapaxes(0, 1), rollout())
    batch = Transition(*flat)  # pyright: ignore
    noise = normal_of(jax.random.bits(jax.random.key(1), (2, *batch.action.shape), "uint32"))
    same = jnp.broadcast_to(noise[:, :1], noise.shape)
    judged, acted = sac._batches(parts, state, batch, same)
    critics = parts.critic.network.unravel(state.critic.params)
    if group == "":
        learner, optimizer, data = parts.critic, state.critic, judged
        loss: Any = partial(sac._critic_loss, parts)
    else:
        learner, optimizer, data = parts.actor, state.actor, acted
        loss = partial(sac._policy_loss, parts, critics, jnp.float32(1))

    def scaled(variables: Any, pair: Any) -> Any:
        value, metrics = loss(variables, pair[0])
        return pair[1] * value, metrics

    return learner.step(optimizer, scaled, (data, scales), None)


@pytest.mark.parametrize("group", ["", "actor"])
def test_the_algebra_of_agreement_holds_in_each_group(group):
    """Equal gradients agree fully and step as their mean; an opposed one gets no weight; what
    cancels is no step; the order of variations does not matter."""
    mean, _ = group_step(group, "dr", [1, 1, 1])
    agreed, metrics = group_step(group, "gar", [1, 1, 1])
    np.testing.assert_allclose(metrics["agree_pair"], 1, rtol=1e-5)
    np.testing.assert_allclose(agreed, mean, atol=1e-6)
    longer, metrics = group_step(group, "gar", [1, 5, 1])
    np.testing.assert_allclose(metrics["agree_pair"], 1, rtol=1e-5)
    opposed, metrics = group_step(group, "gar", [1, -0.5, 1])
    np.testing.assert_allclose(metrics["agree_pair"], -1 / 3, atol=1e-5)
    # Two of three by their full agreement: the direction of Adam's first step is the mean's.
    np.testing.assert_allclose(opposed, mean, atol=1e-6)
    np.testing.assert_array_equal(group_step(group, "gar", [-0.5, 1, 1])[0], opposed)
    params = first().actor.params if group else first().critic.params
    cancelled, metrics = group_step(group, "gar", [1, -1, 0])
    assert metrics["skipped_updates"] == 1
    np.testing.assert_array_equal(cancelled, params)
    assert (mean != np.asarray(params)).any() and (longer != np.asarray(params)).any()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"buffer_size": 200}, "buffer_size = 200 .* a batch per variation, 86"),
        ({"learning_starts": 30_000}, "learning_starts = 30000 .* 0 to 19998, the env steps of"),
        ({"initialisation": "he"}, "initialisation = 'he' .* orthogonal or lecun or uniform"),
        ({"tau": 1.5}, "tau = 1.5 .* a share in"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(preset("sac", "pendulum"), changes).validate()


def test_numbered_actions_are_refused():
    config = tiny_config("sac")
    with pytest.raises(ValueError, match="sac is not allowed on probe.*needs a Box"):
        sac.make_sac(config, make_technique("baseline"), ProbeTask(MATCH).spec)


# Probes: positive actions are action 1, others action 0.

NUM_ITERATIONS = 300
NAMES = list(PROBES)


@cache
def probed() -> Any:
    """The states of a lane per probe after training."""
    return states_after(tiny_config("sac"), NUM_ITERATIONS)


def values(name: str, state: int) -> tuple[float, float]:
    """The lower value of either action."""
    network = parts().critic.network
    vector = jnp.asarray(probed().critic.params[NAMES.index(name)])
    obs = jnp.tile(look(PROBES[name], state), (2, 1))
    judged = network.apply(network.unravel(vector), (obs, jnp.array([[-0.7], [0.7]])))
    low, high = judged.min(0)
    return float(low), float(high)


def probability_of_one(name: str, state: int) -> float:
    """The policy's probability of positive actions."""
    network = parts().actor.network
    vector = jnp.asarray(probed().actor.params[NAMES.index(name)])
    mean, log_std = network.apply(network.unravel(vector), look(PROBES[name], state))
    return float(jax.scipy.stats.norm.cdf(mean / jnp.exp(log_std)))


def test_probe_constant_reward():
    assert max(abs(value - 1) for value in values("constant", 0)) < 0.05


def test_probe_reward_by_observation():
    assert max(abs(value - 1) for value in values("observed", 0)) < 0.1
    assert max(abs(value + 1) for value in values("observed", 1)) < 0.1


def test_probe_reward_by_action():
    """What is seldom tried is known less well."""
    low, high = values("action", 0)
    assert low < 0.4 and abs(high - 1) < 0.1
    assert probability_of_one("action", 0) > 0.9


def test_probe_reward_by_observation_and_action():
    assert probability_of_one("match", 0) < 0.1 and probability_of_one("match", 1) > 0.9


def test_probe_discounting():
    """The second step is worth 1, whatever is done. The first is worth .99 of that and of the
    entropy of the second action, at most log 2 = .69 nats, times the temperature."""
    temperature = float(np.exp(probed().temperature.params[NAMES.index("discounted"), 0]))
    assert max(abs(value - 1) for value in values("discounted", 1)) < 0.05
    for value in values("discounted", 0):
        assert 0.99 - 0.05 - 2 * temperature < value < 0.99 * (1 + 0.69 * temperature) + 0.05


def test_truncations_bootstrap_and_terminations_do_not():
    """The same steps of .2: for ever, against four of them; entropy is worth little beside."""
    temperature = {
        name: float(np.exp(probed().temperature.params[NAMES.index(name), 0]))
        for name in ("truncated", "terminated")
    }
    assert min(values("truncated", 0)) > 2 * max(values("terminated", 0))
    assert max(temperature.values()) < 1
