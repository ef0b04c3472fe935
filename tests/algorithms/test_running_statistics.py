"""A network with running statistics, trained by every algorithm: only `refresh` changes them.

The network subtracts the mean of the observations so far, which starts far from it, so that any
other use of the statistics shows: as parameters, perturbed, decayed, or refreshed too early.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.base import PRIMARY
from jaxgen.nn import networks
from jaxgen.nn.networks import Network, Variables
from jaxgen.techniques import make_technique
from jaxgen.training.rollout import collect, start_episodes
from probe_envs import (
    NUM_ACTIONS,
    NUM_FEATURES,
    PROBES,
    ProbeTask,
    takes_box_alone,
    tiny_config,
)

TASK = ProbeTask(*PROBES.values())
MEAN = 3.0
REG = replace(make_technique("gar+reg"), weight_decay=0.5)
OVERRIDES: dict[str, dict[str, Any]] = {
    "ppo": {"num_epochs": 1, "num_minibatches": 1},
    # One update, in the first iteration; no copy into the target network.
    "dqn": {"batch_size": 24, "replay_ratio": 1, "learning_starts": 0, "target_interval": 10**6},
    "es": {},
    "grpo": {"num_epochs": 1, "minibatch_size": 64},
}


def centred(heads: tuple[int, ...]) -> Network:
    """Linear outputs of observations less their running mean."""

    def init(key):
        keys = jax.random.split(key, len(heads))
        kernels = [jax.random.normal(k, (NUM_FEATURES, size)) for k, size in zip(keys, heads)]
        # By name the statistics come first: their place must not depend on it.
        return Variables({"kernels": kernels}, {"a_mean": jnp.full(NUM_FEATURES, MEAN)})

    def apply(variables, obs):
        shape = (1,) * (obs.ndim - 1) + (NUM_FEATURES,)
        inputs = obs - variables.statistics["a_mean"].reshape(shape)
        outputs = [inputs @ kernel for kernel in variables.trained["kernels"]]
        return outputs[0] if len(heads) == 1 else (outputs[0], outputs[1][..., 0])

    def refresh(variables, obs):
        new = obs.reshape(-1, NUM_FEATURES).mean(0)
        return {"a_mean": 0.5 * variables.statistics["a_mean"] + 0.5 * new}

    return networks.flat(init, apply, refresh=refresh)


class Iteration(NamedTuple):
    before: Any
    actor: Any
    after: Any
    metrics: Any
    halves: Any
    obs: Any
    """All observations of the rollout, ``[T, V, N, F]``."""
    ended: Any
    """Whether an episode ended at the step, ``[T, V, N]``."""


@pytest.fixture(params=[
    pytest.param(name, marks=pytest.mark.slow) if name in ("dqn", "grpo") else name
    for name in sorted(ALGORITHMS) if not takes_box_alone(name)
])  # fmt: skip
def trained(request, monkeypatch) -> tuple[str, Any, Iteration]:
    """An algorithm's first iteration with the network."""
    name = request.param
    monkeypatch.setattr(networks, "actor_critic", lambda *_, **__: centred((NUM_ACTIONS, 1)))
    for one in ("single", "policy"):
        monkeypatch.setattr(networks, one, lambda *_, **__: centred((NUM_ACTIONS,)))
    algorithm = ALGORITHMS[name](tiny_config(name, **OVERRIDES[name]), REG, TASK.spec)
    params = TASK.training_params(jax.random.key(0), jnp.asarray(REG.levels))

    @jax.jit
    def run(key):
        state = algorithm.init(key)
        actor = algorithm.prepare(state, jnp.int32(0), key)
        episodes = start_episodes(TASK.environment, params, algorithm, key)
        seen = algorithm._replace(
            record=lambda each: (algorithm.record(each), each.obs, each.terminated | each.truncated)
        )
        _, (rollout, obs, ended), _ = collect(TASK.environment, params, seen, actor, episodes, key)
        after, metrics = algorithm.update(state, actor, rollout, jnp.int32(0), key)
        halves = algorithm.half_gradients(state, actor, rollout)
        return Iteration(state, actor, after, metrics, halves, obs, ended)

    return name, algorithm, run(jax.random.key(3))


def test_statistics_change_only_by_refresh_and_once(trained):
    """Half of what they were and half of the rollout's mean; weights decay and move, they do not.
    Adam's moments and the probe's gradients are of trained parameters only."""
    name, algorithm, done = trained
    network = centred((NUM_ACTIONS, 1) if name == "ppo" else (NUM_ACTIONS,))
    before, after = (np.asarray(algorithm.params(each)) for each in (done.before, done.after))
    np.testing.assert_array_equal(before[network.num_trained :], MEAN)
    seen = np.asarray(done.obs).reshape(-1, NUM_FEATURES)
    if name == "grpo":
        # As many observations, all of first episodes, in turn.
        ended = np.asarray(done.ended)
        seen = np.resize(seen[(np.cumsum(ended, 0) - ended == 0).reshape(-1)], seen.shape)
    mean = seen.mean(0)
    np.testing.assert_allclose(after[network.num_trained :], 0.5 * MEAN + 0.5 * mean, rtol=1e-6)
    assert (before[: network.num_trained] != after[: network.num_trained]).all()
    moments = {leaf.size for leaf in jax.tree.leaves(done.after) if leaf.ndim == 1}
    assert moments == {before.size, network.num_trained}
    assert done.halves[PRIMARY].shape[2] == network.num_trained
    if name in ("ppo", "grpo"):
        # Acting, values and loss normalise alike: the ratio of the only minibatch is 1.
        np.testing.assert_allclose(done.metrics["approx_kl"], 0, atol=1e-6)
        assert done.metrics["clip_fraction"] == 0
    if name == "dqn":
        np.testing.assert_array_equal(done.after.target, before)
    if name == "es":
        population = done.actor
        np.testing.assert_array_equal(population.members.statistics["a_mean"], MEAN)
        assert population.noise.shape[1] == network.num_trained
