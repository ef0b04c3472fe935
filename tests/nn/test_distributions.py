"""Distributions over actions, their heads, and the words that they draw from."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.algorithms import grpo
from jaxgen.nn import distributions, random
from jaxgen.nn.distributions import Categorical, Point
from jaxgen.system.errors import BadInput
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


WORDS = jax.random.bits(jax.random.key(0), (20_000, 2), "uint32")


def test_a_squashed_normal_has_the_density_of_its_change_of_variables():
    """Of a = tanh(x), x normal with mean .7 and deviation .6: what lies between two actions, by
    quadrature of the density, is what the normal distribution has between the two numbers."""
    numbers = np.linspace(-4, 5, 200_001)
    noise = jnp.asarray((numbers - 0.7) / 0.6, jnp.float32)[:, None]
    made = distributions.TanhNormal.of(jnp.tile(jnp.array([0.7, np.log(0.6)]), (len(noise), 1)))
    action, log_prob = made.transform(noise)
    density = np.exp(np.asarray(log_prob, np.float64))
    share = np.trapezoid(density[::10], np.tanh(numbers)[::10])
    assert share == pytest.approx(1, abs=1e-4)
    for low, high in ((-1.0, 0.0), (0.0, 0.7), (0.7, 1.5)):
        inside = (numbers >= low) & (numbers <= high)
        expected = stats.norm.cdf(high, 0.7, 0.6) - stats.norm.cdf(low, 0.7, 0.6)
        share = np.trapezoid(density[inside], np.tanh(numbers)[inside])
        assert share == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(action[:, 0], np.tanh(numbers), atol=1e-6)


def test_a_squashed_normal_is_exact_where_tanh_is_one():
    """At x = 20 the logarithm of 1 - tanh^2 is 2 log 2 - 40; and bounds hold the deviation."""
    made = distributions.TanhNormal.of(jnp.array([20.0, 0.0]))
    _, log_prob = made.transform(jnp.zeros(1))
    assert float(log_prob) == pytest.approx(-0.5 * np.log(2 * np.pi) - 2 * np.log(2) + 40, abs=1e-4)
    wide = distributions.TanhNormal.of(jnp.array([0.0, 0.0, 50.0, -50.0]))
    np.testing.assert_array_equal(wide.log_std, [2, -20])
    slope = jax.grad(lambda out: distributions.TanhNormal.of(out).transform(jnp.zeros(1))[1])(
        jnp.array([20.0, 0.0])
    )
    np.testing.assert_allclose(slope, [2, -1], atol=1e-4)


def test_a_normal_is_that_of_scipy():
    outputs = jnp.array([0.3, -2.0, np.log(0.5), np.log(3.0)])
    made = distributions.Normal.of(outputs)
    theirs: Any = stats.norm([0.3, -2.0], [0.5, 3.0])
    action = jnp.array([1.5, -4.0])
    assert float(made.log_prob(action)) == pytest.approx(theirs.logpdf(action).sum(), rel=1e-5)
    assert float(made.negative_entropy()) == pytest.approx(-theirs.entropy().sum(), rel=1e-5)
    np.testing.assert_array_equal(made.best(), outputs[:2])
    drawn = distributions.Normal.of(jnp.tile(outputs, (len(WORDS), 1))).sample(WORDS)
    for number, one in ((0, stats.norm(0.3, 0.5)), (1, stats.norm(-2, 3))):
        assert stats.kstest(drawn[:, number], one.cdf).pvalue > 0.01


@jax.jit
def of_a_beta(outputs: Any, action: Any, words: Any) -> Any:
    """The distribution, what it says of an action, its mean, and what it draws."""
    made = distributions.Beta.of(outputs)
    return made, made.log_prob(action), made.negative_entropy(), made.best(), made.sample(words)


def test_a_beta_is_that_of_scipy_on_minus_one_to_one():
    """Parameters 1 + softplus of the outputs: here (3, 1.5) and (2, 6)."""
    alpha, beta = np.array([3.0, 1.5]), np.array([2.0, 6.0])
    outputs = jnp.asarray(np.log(np.expm1(np.concatenate([alpha, beta]) - 1)), jnp.float32)
    theirs: Any = stats.beta(alpha, beta, loc=-1, scale=2)
    action = np.array([0.2, -0.9], np.float32)
    many = jnp.tile(outputs, (len(WORDS), 1)), jnp.tile(action, (len(WORDS), 1))
    _, log_prob, negative_entropy, best, drawn = jax.tree.map(np.asarray, of_a_beta(*many, WORDS))
    np.testing.assert_allclose(log_prob, theirs.logpdf(action).sum(), rtol=1e-4)
    np.testing.assert_allclose(negative_entropy, -theirs.entropy().sum(), rtol=1e-4)
    np.testing.assert_allclose(best, np.tile(theirs.mean(), (len(WORDS), 1)), rtol=1e-5)
    assert np.abs(drawn).max() < 1
    for number in (0, 1):
        one = stats.beta(alpha[number], beta[number], loc=-1, scale=2)
        assert stats.kstest(drawn[:, number], one.cdf).pvalue > 0.01


def test_a_beta_stays_finite_at_its_bounds():
    """Also at the last action within the box, and its gradient."""

    def density(outputs, action):
        made = distributions.Beta.of(outputs)
        return made.log_prob(action) + made.negative_entropy()

    @jax.jit
    def at(outputs, action):
        made = distributions.Beta.of(outputs)
        return made, made.sample(WORDS[0]), *jax.value_and_grad(density)(outputs, action)

    for outputs in ([1e6, -1e6], [1e6, 1e6], [-1e6, -1e6]):
        for action in (-1.0, 1.0):
            made, drawn, value, slope = at(jnp.array(outputs), jnp.array([action]))
            assert float(made.alpha.max()) <= 1000 and float(made.alpha.min()) >= 1
            assert -1 < float(drawn[0]) < 1
            assert np.isfinite(value) and np.isfinite(slope).all()


def of_kind(kind: str, number: int) -> Any:
    """One of two distributions of a kind, a row for each of `WORDS`."""
    outputs = [[0.3, -1.0, 0.2, -0.4], [0.1, -0.8, 0.3, -0.3]][number]
    made = {"categorical": Categorical, "normal": distributions.Normal, "beta": distributions.Beta}
    return made[kind].of(jnp.tile(jnp.array(outputs), (len(WORDS), 1)))


@pytest.mark.parametrize("kind", ["categorical", "normal", "beta"])
def test_the_divergence_is_the_mean_of_log_ratios_and_of_k3(kind):
    """In closed form beside means over 20 000 samples, within four standard errors; k3 is positive
    for each sample, and has less of an error between distributions so near to each other."""

    @jax.jit
    def compared() -> Any:
        one, other = of_kind(kind, 0), of_kind(kind, 1)
        action = one.sample(WORDS[:, :1] if kind == "categorical" else WORDS)
        log_ratio = other.log_prob(action) - one.log_prob(action)
        return one.divergence(other)[0], one.divergence(one), log_ratio, grpo.k3(log_ratio)

    closed, of_itself, *samples = compared()
    closed = float(closed)
    log_ratio, sampled = (np.asarray(each, np.float64) for each in samples)
    assert (sampled >= 0).all() and sampled.std() < log_ratio.std()
    for estimate in (-log_ratio, sampled):
        assert abs(estimate.mean() - closed) < 4 * estimate.std() / np.sqrt(len(WORDS))
    assert sampled.std() / np.sqrt(len(WORDS)) < 0.05 * closed
    np.testing.assert_allclose(of_itself, 0, atol=1e-6)


@pytest.mark.parametrize("kind", ["normal", "beta"])
def test_the_divergence_is_the_integral_of_scipy(kind):
    numbers = np.linspace(-12, 12, 400_001) if kind == "normal" else np.linspace(-1, 1, 400_001)

    def density(number: int, axis: int) -> np.ndarray:
        first, second = (np.asarray(part[0, axis], np.float64) for part in of_kind(kind, number))
        if kind == "normal":
            return stats.norm.pdf(numbers, first, np.exp(second))
        return stats.beta.pdf(numbers, first, second, loc=-1, scale=2)

    expected = 0.0
    for axis in range(2):
        p, q = density(0, axis), density(1, axis)
        inside = (p > 0) & (q > 0)
        terms = np.where(inside, p * np.log(np.where(inside, p / np.where(q > 0, q, 1), 1)), 0)
        expected += np.trapezoid(terms, numbers)
    # lgamma in 32 bits leaves errors of 1e-6 in each of a beta's terms.
    divergence = float(of_kind(kind, 0).divergence(of_kind(kind, 1))[0])
    assert divergence == pytest.approx(expected, rel=1e-4, abs=5e-6)


def test_normal_numbers_are_normal():
    """Words evenly spread over 2^32 are the quantiles; the ends are finite."""
    words = jnp.asarray(np.arange(4096, dtype=np.uint64) << 20, jnp.uint32)
    expected = stats.norm.ppf((np.arange(4096) + 2.0**-13) / 4096)
    np.testing.assert_allclose(random.normal_of(words), expected, rtol=2e-3, atol=1e-5)
    ends = random.normal_of(jnp.array([0, 2**32 - 1], jnp.uint32))
    assert float(ends[0]) == -float(ends[1]) and 5 < float(ends[1]) < 5.5


def test_heads_follow_from_the_space():
    numbered = distributions.preferred(Discrete(5))
    assert (numbered.num_outputs, numbered.num_words, numbered.of) == (5, 1, Categorical.of)
    box = distributions.preferred(Box((0.0,) * 3, (1.0,) * 3))
    assert (box.num_outputs, box.of) == (3, Point.of)
    with pytest.raises(BadInput, match="policy = 'beta' is not allowed where actions are numbered"):
        distributions.policy_head(Discrete(5), "beta")
    learned = distributions.policy_head(Discrete(5), "gaussian")
    assert (learned.num_outputs, learned.of) == (5, Categorical.of)
    learned = distributions.policy_head(box_space := Box((0.0,) * 3, (1.0,) * 3), "beta")
    assert (learned.num_outputs, learned.num_words, learned.num_free) == (6, 2, 0)
    learned = distributions.policy_head(box_space, "gaussian")
    assert (learned.num_outputs, learned.num_words, learned.num_free) == (6, 3, 3)
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
