"""Critics along a line: TD errors and correlations that follow by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import make_task
from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.base import Critic
from jaxgen.evaluation.connectivity.critics import NUM_TRANSITIONS, critic_line, visited
from jaxgen.techniques import make_technique
from jaxgen.types import Policy, Transition
from probe_envs import tiny_config

POLICY = Policy(best=lambda params, obs: params[0] * obs, draw=lambda params, obs, words: obs)
CRITIC = Critic(
    lambda state: state, lambda vector, obs, action: vector[0] * obs + vector[1] * action
)


def test_errors_and_correlation_by_hand():
    """Values w0 s + w1 a; the following action is the policy's. In numpy, in units of the
    deviation of both ends' values."""
    random = np.random.default_rng(0)
    obs, action, reward, following = random.normal(size=(4, 200)).astype(np.float32)
    ended = random.random(200) < 0.1
    batch = Transition(*map(jnp.asarray, (obs, action, reward, ended, ended, following, obs)))
    critics = np.array([[1, 2], [1, 1], [1, -1]], np.float32)
    policies = np.array([[0.5], [1.0], [2.0]], np.float32)
    alphas = np.array([0.0, 0.5, 1.0])
    line = critic_line(CRITIC, POLICY, batch, critics, policies, alphas, 0.9, reward_scale=3.0)

    def values(w: Any, s: Any, a: Any) -> Any:
        return w[0] * s + w[1] * a

    unit = np.concatenate([values(w, obs, action) for w in critics[[0, -1]]]).std()
    for measured, actors in ((line.td_error, policies[[0, 0, 0]]), (line.td_error_both, policies)):
        for index, (w, actor) in enumerate(zip(critics, actors, strict=True)):
            target = 3 * reward + 0.9 * ~ended * values(w, following, actor[0] * following)
            error = np.sqrt(np.mean((target - values(w, obs, action)) ** 2)) / unit
            assert measured[index] == pytest.approx(error, rel=1e-5)
    # The values are linear in the weights: halfway (1, .5) would be the line's, and (1, 1) is not.
    ours = values(critics[1], obs, action)
    expected = np.corrcoef(ours, values((1, 0.5), obs, action))[0, 1]
    np.testing.assert_allclose(line.correlation, [1, expected, 1], atol=1e-5)


def test_transitions_are_those_of_both_policies_before_an_episode_ends():
    """Of policies that push the cart to the left and to the right: half of the actions each, and
    what follows is what the environment makes of it."""
    task = make_task("cartpole")
    algorithm = ALGORITHMS["dqn"](tiny_config("dqn"), make_technique("baseline"), task.spec)
    zero = np.zeros_like(np.asarray(algorithm.params(algorithm.init(jax.random.key(0)))))
    ends = np.stack([zero, zero])
    ends[0, algorithm.unravel(np.arange(len(zero))).trained["Dense_1"]["bias"][0]] = 1  # pyright: ignore
    ends[1, algorithm.unravel(np.arange(len(zero))).trained["Dense_1"]["bias"][1]] = 1  # pyright: ignore
    batch = visited(task, algorithm.policy, ends, jax.random.key(3))
    half = NUM_TRANSITIONS // 2
    assert batch.obs.shape == (NUM_TRANSITIONS, 4)
    np.testing.assert_array_equal(batch.action, [0] * half + [1] * half)
    # Pushed one way the pole falls in about 9 steps: nothing of what comes after is kept.
    assert 0.05 < float(batch.terminated.mean()) < 0.2 and float(abs(batch.obs[:, 2]).max()) < 0.21
    velocity = np.asarray(batch.next_obs[:, 1] - batch.obs[:, 1])
    assert (velocity[:half] < 0).all() and (velocity[half:] > 0).all()
    again = visited(task, algorithm.policy, ends, jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, batch, again)
    q = algorithm.critic.values(jnp.asarray(ends[0]), batch.obs, batch.action)  # pyright: ignore
    np.testing.assert_array_equal(q, [1.0] * half + [0.0] * half)
