"""CrossQ: statistics of batches, targets of the critics themselves, delay, probes."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms import sac
from jaxgen.algorithms.base import Algorithm
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

SPEC = ProbeTask(MATCH, box=True).spec
CROSSQ = {"critic_norm": "batch", "policy_delay": 3}
EPSILON = 1e-5


@cache
def parts() -> sac.Parts:
    return sac._make_parts(tiny_config("sac", **CROSSQ), make_technique("baseline"), SPEC)


@cache
def make() -> Algorithm:
    config = tiny_config("sac", **CROSSQ, **ONE_UPDATE)
    return compiled(sac.make_sac(config, make_technique("gar"), SPEC))


@cache
def first() -> sac.State:
    """A state before anything is learned."""
    return make().init(jax.random.key(0))


def rollout(seed: int = 0) -> Transition:
    """Transitions [4, 3, 2] of random numbers."""
    random, shape = np.random.default_rng(seed), (4, 3, 2)
    obs, after = random.normal(1, 2, (2, *shape, 3)).astype(np.float32)
    action = random.uniform(-1, 1, (*shape, 1)).astype(np.float32)
    reward = random.normal(size=shape).astype(np.float32)
    leaves: Any = (obs, action, reward, random.random(shape) < 0.3, np.zeros(shape, bool), after)
    return Transition(*leaves)


@cache
def updated(number: int) -> tuple[Any, Any, Any]:
    """The state before and after the only update of an iteration, and its metrics."""
    algorithm, state, key = make(), first(), jax.random.key(1)
    actor = algorithm.prepare(state, jnp.int32(number), key)
    return state, *algorithm.update(state, actor, rollout(), jnp.int32(number), key)


def by_hand(
    trained: Any, inputs: np.ndarray, moments: list[Any] | None
) -> tuple[np.ndarray, list[Any]]:
    """Values of one critic, and mean and variance of what goes into each layer."""
    found, x = [], inputs.astype(np.float64)
    names = sorted(name for name in trained if name.startswith("Dense"))
    for layer, name in enumerate(names):
        mean, variance = (x.mean(0), x.var(0)) if moments is None else moments[layer]
        found.append((mean, variance))
        norm = trained[f"BatchNorm_{layer}"]
        x = (x - mean) / np.sqrt(variance + EPSILON) * norm["scale"] + norm["bias"]
        x = x @ np.asarray(trained[name]["kernel"], np.float64) + trained[name]["bias"]
        x = np.maximum(x, 0) if name != names[-1] else x
    return x[:, 0], found


def one_critic(variables: Any, number: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf[number]), variables)


def moments_of(statistics: Any) -> list[Any]:
    layers = statistics["batch_stats"]
    return [(layers[name]["mean"], layers[name]["var"]) for name in sorted(layers)]


def test_loss_is_of_a_batch_that_holds_both_steps():
    """Values and targets come out of one pass, normalised by what both steps have in common."""
    ours, state = parts(), first()
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:, 0, 0]), rollout())
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(2, *batch.action.shape)), jnp.float32)
    variables = ours.critic.network.unravel(state.critic.params)

    @jax.jit
    def judge(state: Any) -> Any:
        followed, _ = sac._batches(ours, state, batch, noise)
        assert isinstance(followed, sac.Followed)
        return followed, sac._critic_loss(ours, variables, followed)

    followed, (loss, metrics) = judge(state)
    inputs = np.concatenate([
        np.concatenate([followed.obs, followed.action], -1),
        np.concatenate([followed.next_obs, followed.next_action], -1),
    ])  # fmt: skip
    judged = [by_hand(one_critic(variables.trained, k), inputs, None)[0] for k in range(2)]
    now, following = np.split(np.stack(judged), 2, axis=1)
    policy = ours.actor.network
    outputs = policy.apply(policy.unravel(state.actor.params), batch.next_obs)
    _, log_prob = ours.head.of(outputs).transform(noise[0])
    value = following.min(0) - float(jnp.exp(state.temperature.params[0])) * np.asarray(log_prob)
    target = np.asarray(batch.reward + 0.99 * (1 - batch.terminated) * value)
    np.testing.assert_allclose(loss, 0.5 * ((now - target) ** 2).mean(1).sum(), rtol=1e-4)
    _, moments = by_hand(one_critic(variables.trained, 1), inputs, None)
    kept = moments_of(one_critic(metrics[sac.STATISTICS], 1))
    for (mean, variance), (batch_mean, batch_variance) in zip(kept, moments, strict=True):
        np.testing.assert_allclose(mean, 0.01 * batch_mean, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(variance, 0.99 + 0.01 * batch_variance, rtol=1e-4)


def test_the_policy_is_judged_by_running_statistics():
    """Those of a single pair do not exist: its values are what running moments make of it."""
    ours, (_, state, _) = parts(), updated(0)
    variables = ours.critic.network.unravel(state.critic.params)
    obs, action = jnp.array([[0.5, -1.0, 2.0]]), jnp.array([[0.3]])
    values = ours.critic.network.apply(variables, (obs, action))
    for k in range(2):
        own = one_critic(variables, k)
        inputs, moments = np.array([[0.5, -1, 2, 0.3]]), moments_of(own.statistics)
        expected, _ = by_hand(own.trained, inputs, moments)
        np.testing.assert_allclose(values[k], expected, rtol=1e-4)


def test_there_is_no_target_and_statistics_move_with_every_update():
    state, after, metrics = updated(0)
    assert state.target == after.target == ()
    num_trained = parts().critic.network.num_trained
    assert state.critic.params.size > num_trained == jax.tree.leaves(after.critic.moments)[1].size
    assert (after.critic.params[:num_trained] != state.critic.params[:num_trained]).all()
    assert (after.critic.params[num_trained:] != state.critic.params[num_trained:]).any()
    assert sac.STATISTICS not in metrics


def test_the_policy_and_the_temperature_move_with_every_third_update():
    for number, moves in ((0, False), (1, False), (2, True)):
        state, after, metrics = updated(number)
        assert (after.critic.params != state.critic.params).any()
        assert (after.actor.params != state.actor.params).any() == moves
        assert (after.temperature.params != state.temperature.params).any() == moves
        assert np.isfinite(metrics["actor/loss"]) == moves == np.isfinite(metrics["temperature"])


def test_the_normalised_critics_agree_as_others_do():
    """Of each variation a gradient by the statistics of its own batch."""
    _, after, metrics = updated(2)
    assert -1 <= metrics["agree_pair"] < 1 and metrics["agree_pair"] != metrics["actor/agree_pair"]
    assert np.isfinite(after.critic.params).all()


def test_another_norm_is_refused():
    with pytest.raises(ValueError, match="sac: critic_norm = 'layer' .* none or batch"):
        replace(preset("sac", "pendulum"), {"critic_norm": "layer"}).validate()


# Probes: positive actions are action 1, others action 0.

NUM_ITERATIONS = 300
NAMES = list(PROBES)


@cache
def probed() -> Any:
    """The states of a lane per probe after training."""
    return states_after(tiny_config("sac", **CROSSQ), NUM_ITERATIONS)


def outputs(name: str, state: int) -> Any:
    """Mean and log-deviation of the policy, before they are squashed."""
    policy, vector = parts().actor.network, jnp.asarray(probed().actor.params[NAMES.index(name)])
    return policy.apply(policy.unravel(vector), look(PROBES[name], state))


def probability_of_one(name: str, state: int) -> float:
    """The policy's probability of positive actions."""
    mean, log_std = outputs(name, state)
    return float(jax.scipy.stats.norm.cdf(mean / jnp.exp(log_std)))


def value(name: str, state: int) -> float:
    """The lower value of that: statistics know little of what the policy does no more."""
    network = parts().critic.network
    vector = jnp.asarray(probed().critic.params[NAMES.index(name)])
    pair = (look(PROBES[name], state)[None], jnp.tanh(outputs(name, state)[None, :1]))
    return float(network.apply(network.unravel(vector), pair).min())


@pytest.mark.slow
def test_probes_of_values():
    assert abs(value("constant", 0) - 1) < 0.1
    assert abs(value("observed", 0) - 1) < 0.15 and abs(value("observed", 1) + 1) < 0.15
    assert abs(value("discounted", 1) - 1) < 0.1 and abs(value("discounted", 0) - 0.99) < 0.1


@pytest.mark.slow
def test_probes_of_actions():
    assert probability_of_one("action", 0) > 0.9
    assert probability_of_one("match", 0) < 0.1 and probability_of_one("match", 1) > 0.9


@pytest.mark.slow
def test_truncations_bootstrap_and_terminations_do_not():
    """The same steps of .2: for ever, against four of them."""
    assert value("truncated", 0) > 2 * value("terminated", 0)
