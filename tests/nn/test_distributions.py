"""Distributions over actions, their heads, and the words that they draw from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.nn import distributions, random
from jaxgen.nn.distributions import Categorical, Point
from jaxgen.types import Box, Discrete

# Probabilities 1/8, 5/8, 1/4.
LOGITS = jnp.log(jnp.array([1.0, 5.0, 2.0]))


def test_a_categorical_is_that_of_its_probabilities():
    """Entropy: (3 ln 2) / 8 + 5 (ln 8/5) / 8 + (2 ln 2) / 4."""
    made = Categorical.of(jnp.stack([LOGITS, LOGITS + 7]))
    np.testing.assert_array_equal(made.best(), [1, 1])
    log_prob = made.log_prob(jnp.array([0, 2]))
    np.testing.assert_allclose(log_prob, np.log([1 / 8, 1 / 4]), rtol=1e-5)
    entropy = stats.entropy([1 / 8, 5 / 8, 1 / 4])
    np.testing.assert_allclose(made.negative_entropy(), [-entropy, -entropy], rtol=1e-5)


def test_a_categorical_draws_by_its_words():
    """Words evenly spread over 2^32 take each action in its share."""
    words = jnp.asarray(np.arange(4000, dtype=np.uint64) * 2**32 // 4000, jnp.uint32)[:, None]
    drawn = Categorical.of(jnp.tile(LOGITS, (4000, 1))).sample(words)
    assert drawn.dtype == jnp.int32
    np.testing.assert_allclose(np.bincount(drawn), [500, 2500, 1000], atol=1)


def test_a_categorical_takes_one_word_for_each_action():
    with pytest.raises(ValueError):
        Categorical.of(LOGITS).sample(jnp.zeros(2, jnp.uint32))


def test_a_point_is_one_action_within_its_bounds():
    made = Point.of(jnp.array([[-100.0, 0.0], [0.5, 100.0]]))
    np.testing.assert_allclose(made.best(), [[-1, 0], [np.tanh(0.5), 1]], rtol=1e-6)
    np.testing.assert_array_equal(made.sample(jnp.ones((2, 1), jnp.uint32)), made.best())


def test_heads_follow_from_the_space():
    numbered = distributions.preferred(Discrete(5))
    assert (numbered.num_outputs, numbered.num_words, numbered.of) == (5, 1, Categorical.of)
    box = distributions.preferred(Box((0.0,) * 3, (1.0,) * 3))
    assert (box.num_outputs, box.of) == (3, Point.of)
    for head, scored in ((numbered, True), (box, False)):
        policy = distributions.policy_of(head, lambda params, obs: params * obs)
        assert (policy.scores is not None) == scored


@pytest.mark.parametrize("shape", [(), (7,), (3, 5)])
def test_words_of_evaluation_give_the_numbers_of_jax_random_uniform(shape):
    """Bit by bit, drawn one axis deeper and in numpy too: earlier results were drawn by it."""
    for seed in range(20):
        key = jax.random.key(seed)
        expected = np.asarray(jax.random.uniform(key, shape))
        words = random.evaluation_words(key, (*shape, 1))
        for each in (words, np.asarray(words)):
            np.testing.assert_array_equal(np.asarray(random.uniform_of(each))[..., 0], expected)


def test_uniform_numbers_are_the_upper_24_bits():
    words = np.array([0, 255, 256, 2**31, 2**32 - 1], np.uint32)
    for each in (words, jnp.asarray(words)):
        expected = np.array([0, 0, 2**-24, 0.5, 1 - 2**-24], np.float32)
        np.testing.assert_array_equal(random.uniform_of(each), expected)
        assert random.uniform_of(each).dtype == np.float32
    with pytest.raises(AssertionError):
        random.uniform_of(np.zeros(3, np.float32))
