"""Parameter groups: each is stepped by the agreement of its own gradients, and reported apart."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms.base import PRIMARY, Algorithm, RolloutShape
from jaxgen.algorithms.learner import Adam, Learner, Optimizer, decay_of, mean_metrics
from jaxgen.nn import networks
from jaxgen.nn.distributions import categorical, policy_of
from jaxgen.nn.networks import Network, Variables
from jaxgen.running.progress import _by_group, _series
from jaxgen.system import checkpoint
from jaxgen.techniques import make_technique
from jaxgen.training.device import make_device_program
from jaxgen.training.program import stack_lanes
from probe_envs import PROBES, ProbeTask, start, tiny_config, train

GAR = make_technique("gar")


def weights(size: int = 3, **options: Any) -> Network:
    """A network that is its weights: the output is their product with the observation."""
    return networks.flat(
        lambda key: Variables(jnp.ones(size)), lambda variables, obs: obs @ variables.trained,
        **options,
    )  # fmt: skip


def linear(variables: Variables, batch: jax.Array) -> tuple[jax.Array, dict]:
    """A loss whose gradient is the mean of the batch ``[B, 3]``."""
    loss = (batch @ variables.trained).mean()
    return loss, {"loss": loss}


def stepped(group: str, rows: Any) -> tuple[Optimizer, Optimizer, dict]:
    """A learner before and after a step along gradients that are these rows, and its metrics."""
    learner = Learner(GAR, Adam(0.1, 0.0, 1e-8), weights(), group)
    before = learner.init(jax.random.key(0))
    batch = jnp.asarray(rows, jnp.float32)[:, None]
    return before, *learner.step(before, linear, batch, None)


def test_each_group_is_combined_by_its_own_agreement():
    """Critics whose gradients are one step; actors whose gradients cancel rest."""
    before, after, metrics = stepped(PRIMARY, [[1, 2, 3]] * 3)
    assert (np.asarray(after.params) < np.asarray(before.params)).all()
    np.testing.assert_allclose(metrics["agree_pair"], 1, rtol=1e-6)
    assert metrics["skipped_updates"] == 0

    before, after, metrics = stepped("actor", [[1, 2, 3], [-1, -2, -3], [0, 0, 0]])
    np.testing.assert_array_equal(after.params, before.params)
    assert metrics["actor/skipped_updates"] == 1
    assert all(name.startswith("actor/") for name in metrics)


def test_skipped_updates_of_every_group_are_counted():
    """Two updates: what is counted adds up, the rest is averaged."""
    pair = jnp.array([1.0, 1.0])
    metrics = {"skipped_updates": 0 * pair, "actor/skipped_updates": pair, "loss": pair}
    assert mean_metrics(metrics) == {
        "skipped_updates": 0, "actor/skipped_updates": 2, "loss": 1, "updates": 2,
    }  # fmt: skip


@pytest.mark.parametrize("in_turn", [False, True])
def test_statistics_of_a_batch_are_those_of_a_whole_variation(in_turn):
    """80 samples, of which gradients in turn take at most 32 at a time on a CPU: where the loss
    divides by the batch's deviation, the mean over parts would be another gradient."""

    def apply_batch(variables, obs):
        return (obs / obs.std(0, keepdims=True)) @ variables.trained

    network = weights(in_turn=in_turn, apply_batch=apply_batch)
    rows = jax.random.normal(jax.random.key(1), (3, 80, 3)) ** 3
    learner = Learner(make_technique("dr"), Adam(0.1, 0.0, 1e-8), network)

    def loss(variables, batch):
        value = jnp.square(network.apply_in_loss(variables, batch)).mean()
        return value, {"loss": value}

    before = learner.init(jax.random.key(0))
    _, metrics = learner.step(before, loss, rows, None)
    normalised = np.asarray(rows) / np.asarray(rows).std(1, keepdims=True)
    by_hand = [2 * (each * each.sum(1, keepdims=True)).mean(0) for each in normalised]
    np.testing.assert_allclose(
        metrics["grad_norm"], np.linalg.norm(np.mean(by_hand, axis=0)), rtol=1e-4
    )


# An algorithm of two groups.


class State(NamedTuple):
    critic: Optimizer
    actor: Optimizer


def make_two_groups(config, technique, spec) -> Algorithm:
    """Vanilla policy gradients with a critic of its own: two networks, two learners."""
    head = categorical(spec.actions)
    options: dict[str, Any] = {"encoding": "raw", "head_scale": 0.1}
    policy = networks.mlp(spec, head.num_outputs, (8,), **options)
    values = networks.mlp(spec, 1, (4,), **options)
    critic = Learner(technique, Adam(config.learning_rate, decay_of(technique), 1e-8), values)
    actors = Learner(technique, Adam(config.learning_rate, 0.0, 1e-8), policy, "actor")

    def critic_loss(variables, batch):
        error = jnp.square(values.apply(variables, batch.obs)[..., 0] - batch.reward).mean()
        return error, {"loss": error}

    def actor_loss(variables, batch):
        log_prob = head.of(policy.apply(variables, batch.obs)).log_prob(batch.action)
        loss = -(log_prob * batch.reward).mean()
        return loss, {"loss": loss}

    def by_variation(leaf):
        return jnp.moveaxis(leaf, 1, 0).reshape(leaf.shape[1], -1, *leaf.shape[3:])

    def update(state, actor, rollout, iteration, key):
        del actor, iteration, key
        batch = jax.tree.map(by_variation, rollout)
        critic_after, of_critic = critic.step(state.critic, critic_loss, batch, None)
        actor_after, of_actor = actors.step(state.actor, actor_loss, batch, None)
        metrics = jax.tree.map(lambda value: value[None], of_critic | of_actor)
        return State(critic_after, actor_after), mean_metrics(metrics)

    def half_gradients(state, actor, rollout):
        of_critic = values.unravel(state.critic.params)
        return critic.half_gradients(of_critic, critic_loss, rollout) | (
            actors.half_gradients(actor, actor_loss, rollout)
        )

    return Algorithm(
        init=lambda key: State(critic.init(key), actors.init(key)),
        prepare=lambda state, iteration, key: policy.unravel(state.actor.params),
        act=lambda tree, obs, words: (head.of(policy.apply(tree, obs)).sample(words), ()),
        policy=policy_of(head, lambda params, obs: policy.apply(policy.unravel(params), obs)),
        params=lambda state: state.actor.params,
        record=lambda transition: transition,
        update=update,
        half_gradients=half_gradients,
        shape=RolloutShape(config.num_envs, config.num_steps, num_starts=config.num_envs),
    )


@pytest.mark.slow
def test_an_algorithm_of_two_groups_trains_and_is_probed(tmp_path):
    """One program, agreement and gram of each group; the primary one's under the usual names."""
    task = ProbeTask(PROBES["match"], PROBES["action"], PROBES["observed"])
    program = make_device_program(task, make_two_groups, chunk=4, devices=jax.local_devices()[:1])
    lanes = stack_lanes([(tiny_config("ppo"), GAR)] * 2, [0, 1])
    content, first = start(program, lanes)
    carry, metrics = train(program, lanes, first, content, (0, 4))
    grams = program.probe(lanes, carry, np.int32(3))  # pyright: ignore
    assert set(grams) == {"probe_gram", "actor/probe_gram"}
    for gram in grams.values():
        assert gram.shape == (2, 2, 3, 2, 3)
        diagonal = np.einsum("lhvhv->lhv", np.asarray(gram))
        assert (diagonal >= 0).all() and (diagonal > 0).any()
    names = {"loss", "agree_pair", "agree_ref", "grad_norm", "skipped_updates"}
    assert names | {f"actor/{name}" for name in names} <= set(metrics)
    assert (metrics["agree_pair"] != metrics["actor/agree_pair"]).any()
    for group in ("critic", "actor"):
        before, after = (getattr(each.state, group).params for each in (first, carry))
        assert (np.asarray(before) != np.asarray(after)).any()
    # A checkpoint keeps them under their names.
    checkpoint.save(tmp_path / "saved", {"history": _by_group(metrics)}, {})
    history = _series(checkpoint.load(tmp_path / "saved")[0]["history"])
    assert set(history) == set(metrics)
    np.testing.assert_array_equal(history["actor/agree_pair"], metrics["actor/agree_pair"])


def test_half_gradients_are_of_trained_parameters_only():
    """A network of 3 weights and 2 statistics: gradients have 3 numbers."""
    network = networks.flat(
        lambda key: Variables(jnp.ones(3), jnp.full(2, 7.0)),
        lambda variables, obs: obs @ variables.trained * variables.statistics[0],
    )
    learner = Learner(GAR, Adam(0.1, 0.0, 1e-8), network)
    params = network.init(jax.random.key(0))
    np.testing.assert_array_equal(params, [1, 1, 1, 7, 7])

    def loss(variables, batch):
        return network.apply(variables, batch).mean(), {}

    halves = learner.half_gradients(network.unravel(params), loss, jnp.ones((4, 3, 2, 3)))
    np.testing.assert_allclose(halves[PRIMARY], np.full((2, 3, 3), 7.0))
