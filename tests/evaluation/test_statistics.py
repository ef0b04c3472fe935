"""Statistics against scipy, worked examples and simulations with a known truth."""

from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from jaxgen.evaluation import statistics as st

stats: Any = scipy_stats


def draw(*size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 20, 50])
def test_interquartile_mean_is_a_trimmed_mean(size):
    scores = draw(6, size)
    np.testing.assert_allclose(st.interquartile_mean(scores), stats.trim_mean(scores, 0.25, axis=1))


def test_interquartile_mean_ignores_outliers():
    assert st.interquartile_mean(np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1e6, -1e6])) == 1


def test_optimality_gap_by_hand():
    """0.4 and 1.0 are short by .6 and 0; what lies above the target counts as the target."""
    assert st.optimality_gap(np.array([0.4, 1.5])) == pytest.approx(0.3)


def test_performance_profile_by_hand():
    thresholds = np.array([-1.0, 0.0, 0.5, 0.9, 1.0])
    profile = st.performance_profile(np.array([0.0, 0.5, 1.0, 1.0]), thresholds)
    np.testing.assert_array_equal(profile, [1, 0.75, 0.5, 0.5, 0])


def test_bootstrap_agrees_with_scipy():
    scores = draw(25)
    ours = st.bootstrap([scores], num_resamples=20_000)
    result = stats.bootstrap(
        (scores,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    )
    expected = result.confidence_interval
    np.testing.assert_allclose((ours.low, ours.high), (expected.low, expected.high), atol=0.02)
    assert ours.estimate == scores.mean()


def test_bootstrap_is_deterministic_and_depends_on_its_seed():
    scores = draw(10)
    assert st.bootstrap([scores]) == st.bootstrap([scores])
    assert st.bootstrap([scores]) != st.bootstrap([scores], seed=1)


def test_bootstrap_resamples_within_strata():
    """Tasks that differ only between each other leave nothing to resample."""
    interval = st.bootstrap([np.zeros(5), np.ones(10)])
    assert (interval.low, interval.high) == (interval.estimate, interval.estimate)
    assert interval.estimate == pytest.approx(2 / 3)


def test_bootstrap_of_a_profile_has_an_interval_per_threshold():
    thresholds = np.linspace(0, 1, 5)
    scores = abs(draw(12))
    interval = st.bootstrap([scores], lambda x: st.performance_profile(x, thresholds))
    assert interval.low.shape == interval.high.shape == (5,)
    assert (interval.low <= interval.estimate).all() and (interval.estimate <= interval.high).all()


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [1.0, np.inf]])
def test_scores_must_exist_and_be_finite(scores):
    for statistic in (st.sign_flip_test, st.equivalence_test, lambda x: st.bootstrap([x])):
        with pytest.raises(ValueError, match="not finite|not empty"):
            statistic(scores)


@pytest.mark.parametrize(
    "statistic, expected",
    [
        # As simulated apart, for 3, 5, 10, 20 normal scores; the page of results quotes both.
        (st.mean, {3: 0.74, 5: 0.82, 10: 0.90, 20: 0.92}),
        (st.interquartile_mean, {3: 0.74, 5: 0.895, 10: 0.93, 20: 0.94}),
    ],
)
def test_coverage_of_a_nominal_95_percent_interval(statistic, expected):
    random = np.random.default_rng(3)
    for size, coverage in expected.items():
        scores = random.normal(size=(3000, size))
        index = random.integers(size, size=(3000, 500, size))
        resampled = statistic(np.take_along_axis(scores[:, None], index, axis=-1))
        _, low, high = st._interval(np.zeros(3000), resampled.T, 0.95)
        held = ((low <= 0) & (high >= 0)).mean()
        assert abs(held - coverage) < 0.03, (size, held)


def test_probability_of_improvement_is_mann_whitneys():
    first, second = 0.5 + draw(9), draw(7, seed=1)
    ours = st.probability_of_improvement([first], [second])
    u = stats.mannwhitneyu(first, second).statistic
    assert ours.estimate == pytest.approx(u / 63)
    assert ours.low < ours.estimate < ours.high


def test_probability_of_improvement_counts_ties_half_and_averages_tasks():
    ours = st.probability_of_improvement([[1.0, 1.0], [2.0]], [[1.0], [0.0, 1.0]])
    assert ours.estimate == pytest.approx((0.5 + 1.0) / 2)
    reversed_ = st.probability_of_improvement([[1.0], [0.0, 1.0]], [[1.0, 1.0], [2.0]])
    assert reversed_.estimate == pytest.approx(1 - ours.estimate)
    with pytest.raises(ValueError, match="2 and 1 tasks"):
        st.probability_of_improvement([[1.0], [1.0]], [[1.0]])


def test_rank_correlation_agrees_with_scipy():
    first = np.round(2 * draw(15))
    second = first + draw(15, seed=1)
    ours = st.rank_correlation([first], [second])
    assert ours.estimate == pytest.approx(stats.spearmanr(first, second).statistic)
    assert ours.low < ours.estimate <= ours.high


def test_rank_correlation_is_taken_within_strata():
    """Two rising groups, the second far below: pooled, they fall."""
    first, second = [[1.0, 2.0, 3.0], [11.0, 12.0, 13.0]], [[21.0, 22.0, 23.0], [1.0, 2.0, 3.0]]
    assert stats.spearmanr(np.ravel(first), np.ravel(second)).statistic < 0
    ours = st.rank_correlation(first, second)
    assert ours.estimate == pytest.approx(1) and ours.low == pytest.approx(1)
    both = st.rank_correlation([*first, [1.0, 2.0, 3.0]], [*second, [3.0, 2.0, 1.0]])
    assert both.estimate == pytest.approx(1 / 3)


def test_rank_correlation_needs_pairs_that_vary():
    assert not st.can_be_ranked([1.0, 2.0], [1.0, 2.0])
    assert not st.can_be_ranked([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    assert st.can_be_ranked([1.0, 2.0, 3.0], [3.0, 1.0, 3.0])
    with pytest.raises(ValueError, match="no pairs"):
        st.can_be_ranked([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="leave it out"):
        st.rank_correlation([[1.0, 1.0, 1.0]], [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="1 and 2 strata"):
        st.rank_correlation([[1.0, 2.0, 3.0]], [[1.0], [1.0]])


@pytest.mark.parametrize("size", [6, 9, 13])
def test_sign_flip_test_is_exact_for_few_pairs(size):
    differences = 0.4 + draw(size)
    expected: Any = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert st.sign_flip_test(differences) == pytest.approx(expected.pvalue)


def test_sign_flip_test_of_one_sign_by_hand():
    """Of 2^6 patterns only two are as extreme."""
    assert st.sign_flip_test([1.0, 2.0, 3.0, 1.0, 2.0, 3.0]) == 2 / 64
    assert st.sign_flip_test(np.zeros(8)) == 1


def test_sign_flip_test_of_many_pairs_is_close_to_the_t_test():
    differences = 0.3 + draw(40)
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert st.sign_flip_test(differences) == pytest.approx(expected, abs=0.01)
    assert st.sign_flip_test(np.ones(40)) > 0


def test_sign_flip_test_holds_its_level():
    random = np.random.default_rng(4)
    p_values = [st.sign_flip_test(random.normal(size=8)) for _ in range(1000)]
    assert np.mean(np.asarray(p_values) <= 0.05) < 0.05 + 3 * 0.0069


def test_equivalence_test_by_two_one_sided_t_tests():
    differences = 0.01 + 0.03 * draw(12)
    below = stats.ttest_1samp(differences, -0.05, alternative="greater").pvalue
    above = stats.ttest_1samp(differences, 0.05, alternative="less").pvalue
    assert st.equivalence_test(differences, 0.05) == pytest.approx(max(below, above))


def test_equivalence_test_of_constant_differences():
    assert st.equivalence_test(np.full(8, 0.01)) == 0
    assert st.equivalence_test(np.full(8, 0.06)) == 1
    with pytest.raises(ValueError, match="margin"):
        st.equivalence_test([0.0, 1.0], margin=0.0)


def test_a_detectable_effect_is_found_with_its_power():
    effect = st.minimal_detectable_effect(2.0, 12, power=0.8)
    differences = np.random.default_rng(5).normal(effect, 2.0, (20_000, 12))
    found = stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_holm_by_hand():
    """Holm 1979: the smallest times 4, the next times 3, ...; never below the one before."""
    np.testing.assert_allclose(st.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(st.holm([0.5, 0.6]), [1, 1])


def test_options_out_of_range_are_refused():
    options: Any
    for options, message in (({"level": 95.0}, "level 95"), ({"num_resamples": 0}, "at least 1")):
        with pytest.raises(ValueError, match=message):
            st.bootstrap([[1.0, 2.0]], **options)
    for call in (lambda: st.bootstrap([]), lambda: st.probability_of_improvement([], [])):
        with pytest.raises(ValueError, match="give at least one"):
            call()
    for p_values in ([None, 0.01], [1.5], [np.nan]):
        with pytest.raises(ValueError, match="numbers from 0 to 1"):
            st.holm(p_values)


def test_a_planted_effect_is_found_and_none_is_called_none():
    """One standard deviation with 20 seeds; and equal arms with a small spread."""
    random = np.random.default_rng(6)
    noise = random.normal(size=(2, 20))
    found = st.paired_difference(noise[0] + 1.0, noise[1])
    assert found.p_value is not None and found.p_value < 0.05 and found.interval.low > 0
    assert found.p_equivalent is not None and found.p_equivalent > 0.5
    none = st.paired_difference(*(0.7 + 0.03 * noise))
    assert none.p_value is not None and none.p_value > 0.05
    assert none.p_equivalent is not None and none.p_equivalent < 0.05
    assert none.detectable is not None and none.detectable < 0.05


def test_a_paired_difference_reports_its_pairing():
    random = np.random.default_rng(7)
    shared = random.normal(size=20)
    first, second = shared + 0.1 * random.normal(size=(2, 20))
    ours = st.paired_difference(first, second)
    assert ours.correlation == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert ours.standard_deviation == pytest.approx((first - second).std(ddof=1))
    assert ours.num_pairs == 20 and ours.interval.estimate == pytest.approx((first - second).mean())
    with pytest.raises(ValueError, match="same seeds"):
        st.paired_difference(first, second[:5])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_few_pairs_have_no_p_value(size):
    ours = st.paired_difference(np.arange(size, dtype=float), np.zeros(size))
    assert ours.p_value is None and ours.p_equivalent is None and ours.detectable is None
    assert ours.num_pairs == size
