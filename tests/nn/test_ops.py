"""Array mathematics against plain recursions and independent implementations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special, stats

from jaxgen.nn import ops, random

NUM_DRAWS = 20_000

# Eagerly every operation is a program to compile: each function is compiled as one.
generalized_advantages = jax.jit(ops.generalized_advantages)
centred_ranks = jax.jit(ops.centred_ranks)
categorical = jax.jit(ops.categorical)
epsilon_greedy = jax.jit(ops.epsilon_greedy)
explained_variance = jax.jit(ops.explained_variance)
scale_rewards = jax.jit(ops.scale_rewards)
random_words = jax.jit(random.random_words, static_argnums=1)


def uniform(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(NUM_DRAWS, np.float32)


def reference_advantages(delta, done, gamma, gae_lambda):
    """The recursion A_t = delta_t + gamma lambda (1 - done_t) A_(t+1), in float64."""
    advantages, following = np.zeros(delta.shape), np.zeros(delta.shape[1:])
    for t in reversed(range(len(delta))):
        following = delta[t] + gamma * gae_lambda * (1 - done[t]) * following
        advantages[t] = following
    return advantages


def test_advantages_follow_the_plain_recursion():
    numbers = np.random.default_rng(0)
    delta = numbers.normal(size=(40, 3, 2)).astype(np.float32)
    done = numbers.random((40, 3, 2)) < 0.2
    ours = generalized_advantages(delta, done, 0.99, 0.95)
    np.testing.assert_allclose(ours, reference_advantages(delta, done, 0.99, 0.95), rtol=1e-4)


def test_nothing_flows_across_an_episodes_end():
    """With done at t=1: A_1 = delta_1 alone, A_0 = delta_0 + .5 delta_1, whatever follows."""
    delta, done = np.array([1.0, 2.0, 4.0], np.float32), np.array([False, True, False])
    ours = generalized_advantages(delta, done, 1.0, 0.5)
    np.testing.assert_allclose(ours, [2.0, 2.0, 4.0])


def test_truncation_bootstraps_and_termination_does_not():
    """Reward 1, values 10: a truncated step's target is 1 + .9 * 10 = 10, a terminated one's 1.

    The advantage is the target less the value 10: 0 and -9.
    """
    terminated = np.array([[False, True]])
    delta = (1.0 + 0.9 * (1 - terminated) * 10.0 - 10.0).astype(np.float32)
    done = np.ones_like(terminated)
    ours = generalized_advantages(delta, done, 0.9, 0.95)
    np.testing.assert_allclose(ours, [[0.0, -9.0]], atol=1e-6)


@pytest.mark.parametrize("size", [2, 5, 6, 40, 51])
def test_centred_ranks_agree_with_scipy(size):
    """scipy ranks 1 .. P with ties averaged: (rank - 1) / (P - 1) - 1/2 lies in [-1/2, 1/2]."""
    # Rounding makes ties.
    fitness = np.round(np.random.default_rng(size).normal(size=size), 1).astype(np.float32)
    ours = np.asarray(centred_ranks(fitness))
    expected = (stats.rankdata(fitness, method="average") - 1) / (size - 1) - 0.5
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert abs(ours.mean()) < 1e-6


def test_equal_fitness_ranks_exactly_zero():
    fitness = np.full(40, -0.1, np.float32)
    np.testing.assert_array_equal(ops.centred_ranks(jnp.asarray(fitness)), np.zeros(40))


def test_ties_share_their_average_rank():
    """Ranks of (5, 1, 5, 9) are 1.5, 0, 1.5, 3; divided by 3 and centred: 0, -.5, 0, .5."""
    fitness = jnp.array([5.0, 1.0, 5.0, 9.0])
    np.testing.assert_allclose(ops.centred_ranks(fitness), [0, -0.5, 0, 0.5])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 16, 32, 100, 128, 512, 2048])
def test_a_permutation_holds_every_index_once(size):
    keys = [jax.random.key(seed) for seed in range(5)]
    permutation = jax.jit(partial(random.random_permutation, size=size))
    for key in keys:
        np.testing.assert_array_equal(np.sort(permutation(key)), np.arange(size))


@pytest.mark.parametrize("size", [16, 128])
def test_every_index_gets_everywhere_and_no_two_stay_together(size):
    """Positions are uniform to noise, and so is the share of pairs in the same quarter.

    Over n = 4000 keys the position's mean is (size - 1)/2 with standard error
    size / sqrt(12 n) = .0046 size. Two given samples share a minibatch of a quarter with
    probability (size/4 - 1)/(size - 1), standard error at most .007.
    """
    keys = jax.random.split(jax.random.key(1), 4000)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: random.random_permutation(key, size)))(keys))
    assert len(np.unique(orders[:, :6], axis=0)) > 3500
    position = np.argsort(orders, axis=1)
    np.testing.assert_allclose(position.mean(0), (size - 1) / 2, atol=5 * 0.0046 * size)
    spread = np.sqrt((size**2 - 1) / 12)
    np.testing.assert_allclose(position.std(0), spread, rtol=0.06)
    quarter = position // (size // 4)
    for i, j in ((0, 1), (0, 2), (0, size // 2), (3, size - 1), (5, 9)):
        together = (quarter[:, i] == quarter[:, j]).mean()
        assert abs(together - (size / 4 - 1) / (size - 1)) < 0.05, (i, j, together)


def test_random_words_have_fair_and_independent_bits():
    """Each bit is set half of the time, whatever its neighbour and the next word's are."""
    words = np.asarray(random_words(jax.random.key(0), (2, 50_000)))
    assert words.dtype == np.uint32 and words.shape == (2, 50_000)
    bits = (words.reshape(-1, 1) >> np.arange(32, dtype=np.uint32)) & 1
    # The two words of one evaluation of the generator lie half of the draw apart.
    pairs = bits[:50_000] ^ bits[50_000:]
    for each in (bits, bits ^ np.roll(bits, 1, 1), bits ^ np.roll(bits, 1, 0), pairs):
        assert np.abs(each.mean(0) - 0.5).max() < 5 * 0.5 / len(each) ** 0.5


def test_random_words_depend_on_the_key_alone():
    keys = jax.random.split(jax.random.key(1), 4)
    words = np.asarray(jax.jit(jax.vmap(lambda key: random.random_words(key, (3, 5))))(keys))
    for key, own in zip(keys, words, strict=True):
        np.testing.assert_array_equal(own, random_words(key, (3, 5)))
    assert len(np.unique(words)) == words.size


def test_uniform_numbers_are_uniform():
    draw = jax.jit(lambda key: random.uniform_of(random.random_words(key, (20_000,))))
    numbers = np.asarray(draw(jax.random.key(0)))
    assert numbers.min() >= 0 and numbers.max() < 1 and numbers.dtype == np.float32
    assert stats.kstest(numbers, "uniform").pvalue > 0.01


def test_categorical_frequencies_are_the_softmax():
    """Frequencies of 20 000 draws are within 4 sqrt(.25 / 20 000) = .014 of the probabilities."""
    logits = np.array([0.5, -1.0, 2.0], np.float32)
    actions = categorical(np.tile(logits, (NUM_DRAWS, 1)), uniform(0))
    assert actions.dtype == jnp.int32
    frequencies = np.bincount(np.asarray(actions), minlength=3) / NUM_DRAWS
    np.testing.assert_allclose(frequencies, special.softmax(logits), atol=0.014)


def test_categorical_inverts_the_cumulative_distribution():
    """Probabilities 1/4, 1/2, 1/4 cut the unit interval at .25 and .75."""
    logits = np.tile(np.log(np.array([1.0, 2.0, 1.0], np.float32)), (5, 1))
    cuts = np.array([0.0, 0.24, 0.26, 0.74, 0.9999999], np.float32)
    np.testing.assert_array_equal(categorical(logits, cuts), [0, 0, 1, 1, 2])


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_greedy_frequencies(epsilon):
    """The best action has 1 - epsilon + epsilon / A, each other one epsilon / A (A = 3)."""
    values = np.tile(np.array([0.0, 5.0, 1.0], np.float32), (NUM_DRAWS, 1))
    actions = np.asarray(epsilon_greedy(values, uniform(1), epsilon))
    expected = np.full(3, epsilon / 3) + np.array([0, 1 - epsilon, 0])
    np.testing.assert_allclose(np.bincount(actions, minlength=3) / NUM_DRAWS, expected, atol=0.014)


def test_huber_agrees_with_optax():
    error = np.linspace(-3, 3, 61, dtype=np.float32)
    ours, expected = jax.jit(ops.huber)(error), jax.jit(optax.losses.huber_loss)(error)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    slopes = jax.jit(jax.vmap(jax.grad(ops.huber)))(error)
    np.testing.assert_allclose(slopes, np.clip(error, -1, 1), atol=1e-6)


def test_explained_variance():
    """1 for a perfect prediction, 0 for the mean, 1 - 4 = -3 for the opposite, 0 if constant."""
    target = np.array([1.0, -1.0, 1.0, -1.0], np.float32)
    for prediction, expected in ((target, 1), (0 * target, 0), (-target, -3)):
        np.testing.assert_allclose(explained_variance(prediction, target), expected, atol=1e-6)
    assert explained_variance(target, np.ones(4, np.float32)) == 0


def test_rewards_are_scaled_by_the_spread_of_all_discounted_sums():
    """Against sums and moments over everything seen so far, in plain loops."""
    numbers = np.random.default_rng(0)
    shape, gamma = (6, 2, 3), 0.9
    scale, sums, seen = ops.init_reward_scale(shape[1:]), np.zeros(shape[1:]), []
    for _ in range(3):
        reward = 5 * numbers.normal(size=shape).astype(np.float32)
        done = numbers.random(shape) < 0.3
        ours, scale = scale_rewards(scale, reward, done, gamma)
        for reward_t, done_t in zip(reward, done, strict=True):
            sums = gamma * sums + reward_t
            seen.append(sums.copy())
            sums = np.where(done_t, 0, sums)
        # The prior of 1e-4 observations with variance 1 weighs nothing in 36 and more.
        expected = np.clip(reward / np.std(seen), -10, 10)
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


def test_scaled_rewards_are_clipped():
    """Sums of 0 but for one, in 6 x 2 x 3: a deviation of 100 / 6, so that 100 becomes 6; of 1000
    environments' sums it would be 31 deviations, and becomes 10."""
    for num_envs, expected in ((36, 6.0), (1000, 10.0)):
        reward = np.zeros((1, 1, num_envs), np.float32)
        reward[0, 0, 0] = 100
        scale = ops.init_reward_scale((1, num_envs))
        ours, _ = scale_rewards(scale, reward, np.zeros(reward.shape, bool), 0.9)
        # A share p of 100s has variance 100^2 p (1 - p).
        np.testing.assert_allclose(np.asarray(ours)[0, 0, 0], expected, rtol=0.02)


@pytest.mark.parametrize("call", [
    # A trailing axis would broadcast to a square without a word.
    lambda: ops.generalized_advantages(jnp.ones((4, 3)), jnp.zeros((4, 1), bool), 0.9, 0.9),
    lambda: ops.generalized_advantages(jnp.ones((4, 3)), jnp.zeros((4, 3)), 0.9, 0.9),
    lambda: ops.categorical(jnp.ones((4, 3)), jnp.ones((4, 1))),
    lambda: ops.epsilon_greedy(jnp.ones((4, 3)), jnp.ones(3), 0.1),
    lambda: ops.chosen(jnp.ones((4, 3)), jnp.zeros((4, 1), int)),
    lambda: ops.chosen(jnp.ones((4, 3)), jnp.zeros(4)),
    lambda: ops.centred_ranks(jnp.ones((4, 3))),
    lambda: ops.explained_variance(jnp.ones((4, 1)), jnp.ones(4)),
    lambda: ops.huber(jnp.zeros(3, int)),
])
def test_arrays_of_other_shapes_and_types_are_refused(call):
    with pytest.raises(AssertionError):
        call()


def test_lanes_need_no_axis_in_the_functions():
    """Under vmap each lane is checked by itself, as it is written."""
    fitness = np.arange(12, dtype=np.float32).reshape(3, 4)
    ranks = jax.jit(jax.vmap(ops.centred_ranks))(fitness)
    np.testing.assert_array_equal(ranks, np.stack([centred_ranks(row) for row in fitness]))
