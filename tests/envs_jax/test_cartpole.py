"""CartPole: step by step as Gymnasium's and gymnax's, known policies, one trace."""

import math
from typing import Any

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control.cartpole import EnvState

from envs_jax.cartpole import CartPole, CartPoleState, CartPoleTask, cartpole_params

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
ENVIRONMENT = CartPole()


def test_dynamics_of_the_levels_are_frozen():
    params = cartpole_params(jnp.array(LEVELS))
    np.testing.assert_allclose(params.gravity, [9.8, 11.025, 12.25, 13.475, 14.7], rtol=1e-6)
    np.testing.assert_allclose(params.length, [0.5, 0.625, 0.75, 0.875, 1.0], rtol=1e-6)
    np.testing.assert_allclose(params.masscart, [1.0, 1.25, 1.5, 1.75, 2.0], rtol=1e-6)


def state_of(*variables, time=0):
    x, x_dot, theta, theta_dot = (jnp.float32(value) for value in variables)
    return CartPoleState(x, x_dot, theta, theta_dot, jnp.int32(time))


def balance(obs):
    """A linear policy that holds the pole at every level."""
    return (obs @ jnp.array([0.1, 0.3, 3.0, 1.0]) > 0).astype(jnp.int32)


@pytest.fixture(scope="module")
def episodes():
    """Consecutive episodes at every level, leaves [T, level, env]: four random, one balanced."""

    def level(params, words, actions):
        first = ENVIRONMENT.reset_from(words[0], params)

        def step(carry, inputs):
            obs, state = carry
            words, action = inputs
            action = action.at[-1].set(balance(obs)[-1])
            next_obs, next_state, *outcome = ENVIRONMENT.advance(state, action, params)
            done = outcome[1] | outcome[2]
            fresh = ENVIRONMENT.reset_from(words, params)
            obs, after = jax.tree.map(
                lambda a, b: jnp.where(done.reshape(-1, *[1] * (a.ndim - 1)), a, b),
                fresh,
                (next_obs, next_state),
            )
            return (obs, after), (state, action, next_obs, *outcome)

        return jax.lax.scan(step, first, (words, actions))[1]

    generator = np.random.default_rng(0)
    words = generator.integers(2**32, size=(5, 600, 5, 4), dtype=np.uint32)
    actions = generator.integers(2, size=(5, 600, 5))
    run = jax.jit(jax.vmap(level, out_axes=1))
    return jax.tree.map(np.asarray, run(cartpole_params(jnp.array(LEVELS)), words, actions))


@pytest.mark.parametrize("level", range(5))
def test_lockstep_with_gymnasium(episodes, level):
    """One float32 step from the same state stays within 3e-6 of Gymnasium's float64 step."""
    state, action, obs, reward, terminated, truncated = episodes
    reference = gymnasium.make("CartPole-v1", disable_env_checker=True)
    physics: Any = reference.unwrapped
    physics.gravity = 9.8 + 4.9 * LEVELS[level]
    physics.length = 0.5 + 0.5 * LEVELS[level]
    physics.masscart = 1.0 + LEVELS[level]
    physics.total_mass = physics.masspole + physics.masscart
    physics.polemass_length = physics.masspole * physics.length
    for env in range(5):
        for t in range(600):
            before = [float(leaf[t, level, env]) for leaf in state]
            if before[4] == 0:
                reference.reset()
            physics.state = np.array(before[:4])
            after, *expected, _ = reference.step(int(action[t, level, env]))
            np.testing.assert_allclose(obs[t, level, env], after, rtol=0, atol=3e-6)
            outcome = [leaf[t, level, env] for leaf in (reward, terminated, truncated)]
            assert outcome == expected
    assert terminated[:, level, :4].sum() > 30, "random episodes end by falling"
    assert truncated[499, level, 4] and not truncated[:499, level, 4].any(), "balance: at step 500"


def test_level_zero_agrees_with_gymnax(episodes):
    state, action, obs, _, terminated, _ = jax.tree.map(lambda leaf: leaf[:, 0], episodes)
    reference, params = gymnax.make("CartPole-v1")
    step = jax.jit(jax.vmap(jax.vmap(reference.step_env, (None, 0, 0, None)), (None, 0, 0, None)))
    expected = step(jax.random.key(0), EnvState(**state._asdict()), action, params)
    np.testing.assert_allclose(obs, expected[0], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(terminated, expected[3])


def test_both_flags_can_be_true():
    state = state_of(2.39, 3.0, 0.0, 0.0, time=499)
    outcome = ENVIRONMENT.advance(state, jnp.int32(1), ENVIRONMENT.default_params)
    assert outcome[2:] == (1.0, True, True)


@pytest.mark.parametrize(
    ("x", "theta", "terminated"),
    [
        (2.399, 0.0, False),
        (-2.399, 0.0, False),
        (2.401, 0.0, True),
        (-2.401, 0.0, True),
        (0.0, math.radians(11.99), False),
        (0.0, math.radians(12.01), True),
        (0.0, -math.radians(12.01), True),
    ],
)
def test_limits(x, theta, terminated):
    """Without velocity the new position and angle are the old ones."""
    state = state_of(x, 0.0, theta, 0.0)
    outcome = ENVIRONMENT.advance(state, jnp.int32(0), ENVIRONMENT.default_params)
    assert outcome[3] == terminated


def test_starts_are_uniform():
    words = jax.random.bits(jax.random.key(0), (20_000,)).reshape(10_000, 2)
    obs, state = ENVIRONMENT.reset_from(words, ENVIRONMENT.default_params)
    assert (jnp.abs(obs) <= 0.05).all()
    # Mean 0, standard deviation .1 / sqrt(12) = .02887; 5 sigma of 10 000 draws.
    np.testing.assert_allclose(obs.mean(0), 0, atol=5 * 0.02887 / 100)
    np.testing.assert_allclose(obs.std(0), 0.02887, rtol=0.03)
    np.testing.assert_array_equal(jnp.stack(state[:4], -1), obs)
    np.testing.assert_allclose(np.corrcoef(obs, rowvar=False), np.eye(4), atol=0.05)
    # A variable for each half of a word, from the middle of the lowest interval to the highest's.
    edges = jnp.array([[0x0000_FFFF, 0xFFFF_0000]], jnp.uint32)
    obs, _ = ENVIRONMENT.reset_from(edges, ENVIRONMENT.default_params)
    edge = 0.05 - 0.05 / 2**16
    np.testing.assert_allclose(obs[0], [-edge, edge, edge, -edge], rtol=1e-6)


def test_returns_of_known_policies():
    """Returns of a reference simulation, through one trace for all levels; a level that is frozen
    at compile time fails here."""
    num_envs, traces = 1024, []
    policies = (
        lambda obs, draw: (draw >> 31).astype(jnp.int32),
        lambda obs, draw: (obs[:, 2] > 0).astype(jnp.int32),
        lambda obs, draw: (obs[:, 3] > 0).astype(jnp.int32),
        lambda obs, draw: balance(obs),
    )

    @jax.jit
    def returns(params, key, policy):
        traces.append(1)
        word_key, draw_key = jax.random.split(key)
        words = jax.random.bits(word_key, (num_envs * 2,)).reshape(num_envs, 2)
        draws = jax.random.bits(draw_key, (500 * num_envs,)).reshape(500, num_envs)

        def step(carry, draw):
            obs, state, alive, total = carry
            actions = jnp.stack([policy(obs, draw) for policy in policies])
            obs, state, reward, *done = ENVIRONMENT.advance(state, actions[policy], params)
            return (obs, state, alive & ~(done[0] | done[1]), total + reward * alive), None

        alive, total = jnp.ones(num_envs, bool), jnp.zeros(num_envs)
        start = (*ENVIRONMENT.reset_from(words, params), alive, total)
        return jax.lax.scan(step, start, draws)[0][3].mean()

    measured = [
        [returns(cartpole_params(jnp.float32(v)), jax.random.key(i), i) for v in LEVELS]
        for i in range(4)
    ]
    assert len(traces) == 1
    np.testing.assert_allclose(measured[0], [22.4, 27.3, 31.8, 35.9, 39.2], rtol=0.05)
    np.testing.assert_allclose(measured[1], [42.5, 64.9, 92.2, 122.7, 161.1], rtol=0.05)
    np.testing.assert_allclose(measured[2], [198, 193, 187, 183, 179], rtol=0.05)
    np.testing.assert_array_equal(measured[3], [500] * 5)


def test_evaluation_starts_alike_at_every_level():
    task = CartPoleTask()
    _, words = task.evaluation(jax.random.key(0), jnp.array(LEVELS), 20)
    assert (words == words[:1]).all()
    assert len(np.unique(words)) == 40


def test_picture_shows_cart_and_pole():
    """The cart moves with x and the tip with the angle; a longer pole is drawn longer."""

    def picture(x, theta, level):
        state = state_of(x, 0.0, theta, 0.0)
        return ENVIRONMENT.render(state, cartpole_params(jnp.float32(level))).astype(int)

    def centre(mask):
        return np.argwhere(mask).mean(0)

    left, right = picture(-1.0, 0.0, 0.0), picture(1.0, 0.3, 1.0)
    cart = [(image == (40, 40, 40)).all(-1) for image in (left, right)]
    pole = [(image == (202, 152, 101)).all(-1) for image in (left, right)]
    assert centre(cart[1])[1] - centre(cart[0])[1] == pytest.approx(120, abs=3)
    assert centre(pole[0])[1] == pytest.approx(90, abs=1)
    assert centre(pole[1])[1] > 210 + 10
    assert np.argwhere(pole[1])[:, 0].min() < np.argwhere(pole[0])[:, 0].min() - 40
