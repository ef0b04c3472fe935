"""TD3 and DDPG: targets, noise and delay by hand, and probes with known values."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms import td3
from jaxgen.algorithms.base import Algorithm
from jaxgen.nn.random import normal_of, random_words
from jaxgen.study.config import replace
from jaxgen.study.presets import preset
from jaxgen.techniques import make_technique
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
DDPG = {"num_critics": 1, "policy_delay": 1, "target_noise": 0.0}


@cache
def parts(**overrides: Any) -> td3.Parts:
    config = tiny_config("td3", **overrides)
    return td3._make_parts(config, make_technique("baseline"), SPEC)


@cache
def make(**overrides: Any) -> Algorithm:
    return compiled(td3.make_td3(tiny_config("td3", **overrides), make_technique("gar"), SPEC))


@cache
def first(num_critics: int = 2) -> td3.State:
    """A state before anything is learned; nothing else of a configuration matters to it."""
    return make(**ONE_UPDATE, num_critics=num_critics).init(jax.random.key(0))


@cache
def judged_by(**overrides: Any) -> Any:
    """The targets of a configuration, as one program."""
    return jax.jit(lambda state, batch, key: td3._judged(parts(**overrides), state, batch, key))


def updated(algorithm: Algorithm, number: int, varied: Any = None) -> tuple[Any, Any, Any]:
    """The state before and after the only update of an iteration, and its metrics."""
    state, key = first(), jax.random.key(1)
    actor = algorithm.prepare(state, jnp.int32(number), key)
    batch = rollout() if varied is None else varied
    return state, *algorithm.update(state, actor, batch, jnp.int32(number), key)


@pytest.mark.parametrize("terminated, truncated", [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("overrides", [{}, {"target_noise": 5.0}, DDPG])
def test_target_is_the_lower_value_of_a_noisy_action(terminated, truncated, overrides):
    """r + .99 min over critics at the target policy's action, whose noise is clipped to .5, and
    which is clipped to the box; the reward alone where it terminates; a truncation bootstraps."""
    ours = parts(**overrides)
    state = first(ours.config.num_critics)
    # Targets of their own: what is learned must not be what judges.
    state = state._replace(actor_target=state.actor_target * 3, critic_target=-state.critic_target)
    batch, key = rollout(terminated, truncated), jax.random.key(1)
    judged = judged_by(**overrides)(state, batch, key)
    network = ours.actor.network
    action = np.tanh(network.apply(network.unravel(state.actor_target), batch.next_obs))
    noise = ours.config.target_noise * np.asarray(normal_of(random_words(key, action.shape)))
    assert overrides != {"target_noise": 5.0} or (np.abs(noise) > 0.5).any()
    action = np.clip(action + np.clip(noise, -0.5, 0.5), -1, 1)
    critics = ours.critic.network
    values = critics.apply(critics.unravel(state.critic_target), (batch.next_obs, action))
    assert values.shape == (ours.config.num_critics, 4, 3, 2)
    expected = 0.25 + (not terminated) * 0.99 * np.asarray(values).min(0)
    np.testing.assert_allclose(judged.target, expected, rtol=1e-5)


def test_policy_and_targets_move_with_every_second_update():
    """Update 0 moves the critics alone and measures nothing of the policy; update 1 moves all, the
    targets by tau of the way."""
    algorithm = make(**ONE_UPDATE)
    before, after, metrics = updated(algorithm, 0)
    assert (after.critic.params != before.critic.params).any()
    for kept, old in ((after.actor.params, before.actor.params),
                      (after.actor_target, before.actor_target),
                      (after.critic_target, before.critic_target)):
        np.testing.assert_array_equal(kept, old)
    assert metrics["updates"] == 1 and np.isnan(metrics["actor/loss"])
    assert metrics["actor/skipped_updates"] == 0
    before, after, metrics = updated(algorithm, 1)
    assert (after.actor.params != before.actor.params).any() and np.isfinite(metrics["actor/loss"])
    for target, old, online in (
        (after.actor_target, before.actor_target, after.actor.params),
        (after.critic_target, before.critic_target, after.critic.params),
    ):
        np.testing.assert_allclose(target - old, 0.05 * (online - old), rtol=1e-3, atol=1e-7)


def test_ddpg_moves_everything_with_every_update():
    before, key = first(num_critics=1), jax.random.key(1)
    batch = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(3, 8, *leaf.shape[3:]), rollout())
    learn = jax.jit(lambda state, number: td3._learn(parts(**DDPG), state, batch, key, number))
    after, metrics = learn(before, jnp.int32(0))
    assert (after.actor.params != before.actor.params).any()
    assert (after.actor_target != before.actor_target).any()
    assert np.isfinite(metrics["actor/loss"])


def test_updates_are_numbered_through_iterations():
    """Three updates an iteration: of iteration 0 the second is due, of iteration 1 the first and
    the third, so that their Adams have made 1 and 2 steps."""
    algorithm = make(batch_size=24, replay_ratio=3, learning_starts=0)
    for number, steps in ((0, 1), (1, 2)):
        _, after, metrics = updated(algorithm, number)
        assert int(jax.tree.leaves(after.actor.moments)[0]) == steps
        assert metrics["updates"] == 3 and np.isfinite(metrics["actor/loss"])


def test_the_policy_rises_along_the_first_critic():
    """The gradient of minus the first critic's value, whatever the second one thinks."""
    ours, state = parts(), first()
    critics, policy = ours.critic.network, ours.actor.network
    vector = state.critic.params
    judges = critics.unravel(vector)
    obs = jnp.asarray(rollout().obs[0, 0])
    loss, _ = td3._policy_loss(ours, judges, policy.unravel(state.actor.params), obs)
    acted = ours.act(policy.unravel(state.actor.params), obs)
    np.testing.assert_allclose(loss, -critics.apply(judges, (obs, acted))[0].mean(), rtol=1e-6)


def test_actions_are_uniform_until_learning_starts_then_noisy():
    """48 steps are two iterations of 24; then they are the policy's, with noise, in the box."""
    algorithm = make()
    state, key = first(), jax.random.key(1)
    obs = jnp.ones((3, 200, 3))
    words = jax.random.bits(key, (3, 200, 1), "uint32")
    acted = [
        algorithm.act(algorithm.prepare(state, jnp.int32(i), key), obs, words)[0] for i in (1, 2)
    ]
    uniform = 2 * np.asarray(words >> 8) / 2.0**24 - 1
    np.testing.assert_allclose(acted[0], uniform, atol=1e-6)
    best = algorithm.policy.best(state.actor.params, obs)
    expected = np.clip(best + 0.5 * normal_of(words), -1, 1)
    np.testing.assert_allclose(acted[1], expected, atol=1e-6)
    assert np.abs(expected).max() == 1
    drawn = algorithm.policy.draw(state.actor.params, obs, words)
    np.testing.assert_allclose(drawn, expected, atol=1e-6)


def test_groups_agree_each_for_itself():
    """The critics' agreement is the run's; the policy's is reported under its name."""
    varied = rollout()._replace(reward=np.random.default_rng(0).normal(size=(4, 3, 2)).astype("f4"))  # pyright: ignore
    algorithm = make(**ONE_UPDATE)
    state, after, metrics = updated(algorithm, 1, varied)
    assert metrics["agree_pair"] != metrics["actor/agree_pair"]
    actor = algorithm.prepare(state, jnp.int32(0), jax.random.key(1))
    halves = jax.eval_shape(algorithm.half_gradients, state, actor, varied)
    assert {name: leaf.shape for name, leaf in halves.items()} == {
        "": (2, 3, state.critic.params.size), "actor": (2, 3, state.actor.params.size)
    }


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_critics": 3}, "num_critics = 3 .* 1 or 2"),
        ({"policy_delay": 0}, "policy_delay = 0"),
        ({"target_noise": -0.1}, "target_noise = -0.1 .* 0 or larger"),
        ({"buffer_size": 200}, "buffer_size = 200 .* a batch per variation, 86"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(preset("td3", "pendulum"), changes).validate()


def test_numbered_actions_are_refused():
    config = tiny_config("td3")
    with pytest.raises(ValueError, match="td3 is not allowed on probe.*needs a Box"):
        td3.make_td3(config, make_technique("baseline"), ProbeTask(MATCH).spec)


# Probes: positive actions are action 1, others action 0.

NUM_ITERATIONS = 300
NAMES = list(PROBES)


@cache
def probed(kind: str) -> Any:
    """The states of a lane per probe after training."""
    changes = {} if kind == "td3" else DDPG
    return states_after(tiny_config("td3", **changes), NUM_ITERATIONS)


def values(kind: str, name: str, state: int) -> tuple[float, float]:
    """The lower value of either action."""
    network = parts(**({} if kind == "td3" else DDPG)).critic.network
    vector = jnp.asarray(probed(kind).critic.params[NAMES.index(name)])
    obs = jnp.tile(look(PROBES[name], state), (2, 1))
    judged = network.apply(network.unravel(vector), (obs, jnp.array([[-0.7], [0.7]])))
    low, high = judged.min(0)
    return float(low), float(high)


def action(kind: str, name: str, state: int) -> float:
    """What the policy does."""
    vector = jnp.asarray(probed(kind).actor.params[NAMES.index(name)])
    ours = parts(**({} if kind == "td3" else DDPG))
    return float(ours.act(ours.actor.network.unravel(vector), look(PROBES[name], state))[0])


KINDS = pytest.mark.parametrize("kind", ["td3", "ddpg"])


@pytest.mark.slow
@KINDS
def test_probes_of_values(kind):
    assert max(abs(value - 1) for value in values(kind, "constant", 0)) < 0.05
    assert max(abs(value - 1) for value in values(kind, "observed", 0)) < 0.1
    assert max(abs(value + 1) for value in values(kind, "observed", 1)) < 0.1
    assert max(abs(value - 1) for value in values(kind, "discounted", 1)) < 0.05
    assert max(abs(value - 0.99) for value in values(kind, "discounted", 0)) < 0.05


@pytest.mark.slow
@KINDS
def test_probes_of_actions(kind):
    assert action(kind, "action", 0) > 0.2
    assert action(kind, "match", 0) < -0.2 and action(kind, "match", 1) > 0.2


@pytest.mark.slow
@KINDS
def test_truncations_bootstrap_and_terminations_do_not(kind):
    """The same steps of .2: for ever, against four of them."""
    assert min(values(kind, "truncated", 0)) > 2 * max(values(kind, "terminated", 0))
