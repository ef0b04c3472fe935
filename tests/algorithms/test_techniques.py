"""The algebra of gradient agreement, and techniques by name."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.algorithms.gradients import Combined, variation_gradient
from jaxgen.algorithms.gradients import combine as eager_combine
from jaxgen.algorithms.learner import Adam
from jaxgen.study.cards import ALGORITHM_CARDS
from jaxgen.study.presets import is_defined, trained_name
from jaxgen.techniques import (
    COMPONENTS,
    SUITES,
    Technique,
    canonical_name,
    make_technique,
)

BASELINE, GAR, DR = make_technique("baseline"), make_technique("gar"), make_technique("dr")
SCALED, OTHERS = make_technique("dr-scaled"), make_technique("gar-n")
PCGRAD, AND_MASK = make_technique("pcgrad"), make_technique("and-mask")
LEARNING_RATE, DECAY = 0.1, 0.01

# Compiled as one program for each rule and shape: eagerly, every operation would be one.
compiled_combine = jax.jit(eager_combine)


def combine(technique: Technique, gradients: Any) -> Combined:
    """`jaxgen.algorithms.gradients.combine`, in numpy."""
    return jax.tree.map(np.asarray, compiled_combine(technique, gradients))


@partial(jax.jit, static_argnums=1)
def compiled_gradient(technique: Technique, loss: Any, params: Any, batch: Any) -> Any:
    """`variation_gradient`, without augmentation."""
    return variation_gradient(technique, loss, params, batch, None)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_gradients(seed: int, num: int = 3, size: int = 50) -> np.ndarray:
    return normal(seed, num, size)


def cosine(a, b) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def weights_by_hand(gradients) -> np.ndarray:
    """w_k = max(0, cos(g_k, g)), in float64."""
    gradients = np.asarray(gradients, np.float64)
    return np.array([max(0.0, cosine(g, gradients.mean(0))) for g in gradients])


def equal_cosines(rho: float) -> np.ndarray:
    """Three unit vectors with pairwise cosine rho: rows of a root of the Gram matrix."""
    gram = np.full((3, 3), rho) + (1 - rho) * np.eye(3)
    return np.linalg.cholesky(gram).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_gar_is_the_sum_weighed_by_agreement_with_the_mean(seed):
    gradients = random_gradients(seed, size=4)
    combined = combine(GAR, gradients)
    weights = weights_by_hand(gradients)
    np.testing.assert_allclose(
        combined.gradient, weights @ np.asarray(gradients), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(combined.metrics["agree_ref"], weights.mean(), rtol=1e-4)
    pairs = [cosine(gradients[i], gradients[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(combined.metrics["agree_pair"], np.mean(pairs), rtol=1e-3, atol=1e-5)
    norm = np.linalg.norm(np.asarray(combined.gradient))
    np.testing.assert_allclose(combined.metrics["grad_norm"], norm, rtol=1e-5)


@jax.jit
def norm_of_mean(gradients):
    return eager_combine(BASELINE, gradients).metrics["grad_norm"]


@pytest.mark.parametrize("size", [1, 7, 8, 255, 256, 263, 5003, 83_972])
def test_every_number_of_a_gradient_counts_once(size):
    """Whether or not the folds of the sums divide the size."""
    gradients = np.random.default_rng(size).integers(-8, 9, (3, size)).astype(np.float32)
    expected = np.linalg.norm(np.asarray(gradients, np.float64).mean(0))
    np.testing.assert_allclose(norm_of_mean(gradients), expected, rtol=1e-4)
    ones = norm_of_mean(np.ones((3, size), np.float32))
    np.testing.assert_allclose(ones, size**0.5, rtol=1e-6)


LARGER = (20_000, 83_972, 200_000)


@pytest.mark.parametrize(
    "size", [4_610, *(pytest.param(own, marks=pytest.mark.slow) for own in LARGER)]
)
def test_the_number_of_lanes_changes_no_bit(size):
    """A plain sum is added up in another order where there are enough lanes or numbers."""
    gradients = normal(0, 18, 3, size)
    compiled = jax.jit(jax.vmap(lambda own: eager_combine(GAR, own)))
    few = compiled(gradients[:2])
    for num_lanes in (3, 6, 9, 18):
        many = jax.tree.map(lambda leaf: np.asarray(leaf)[:2], compiled(gradients[:num_lanes]))
        jax.tree.map(np.testing.assert_array_equal, few, many)


@pytest.mark.parametrize("seed", range(5))
def test_fact_1_weights_vanish_only_with_the_mean(seed):
    """sum_k g_k . g = K |g|^2 > 0, so that one cosine at least is positive."""
    gradients = random_gradients(seed, size=4)
    gradients[1] -= 2 * gradients[0]
    mean = gradients.mean(0)
    np.testing.assert_allclose((gradients @ mean).sum(), 3 * mean @ mean, rtol=1e-4)
    assert combine(GAR, gradients).live
    assert not combine(GAR, np.zeros((3, 4), np.float32)).live


@pytest.mark.parametrize("seed", range(5))
def test_fact_2_the_step_never_opposes_the_mean(seed):
    """G . g = |g| sum_k w_k^2 |g_k| >= 0."""
    gradients = random_gradients(seed, size=3)
    mean, weights = gradients.mean(0), weights_by_hand(gradients)
    norms = np.linalg.norm(np.asarray(gradients), axis=1)
    expected = np.linalg.norm(np.asarray(mean)) * (weights**2 * norms).sum()
    np.testing.assert_allclose(combine(GAR, gradients).gradient @ mean, expected, rtol=1e-4)


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.3, 0.9])
def test_fact_3_equal_cosines_give_the_mean_direction(rho):
    """Equal norms and pairwise cosine rho: cos(g_k, g) = sqrt((1 + 2 rho) / 3), G parallel to g."""
    gradients = equal_cosines(rho)
    combined = combine(GAR, gradients)
    np.testing.assert_allclose(combined.metrics["agree_ref"], ((1 + 2 * rho) / 3) ** 0.5, rtol=1e-4)
    np.testing.assert_allclose(combined.metrics["agree_pair"], rho, atol=1e-5)
    assert cosine(combined.gradient, gradients.mean(0)) > 1 - 1e-6


def test_fact_4_independent_noise_agrees_by_577():
    """In many dimensions independent gradients are orthogonal: rho = 0 gives 1 / sqrt(3)."""
    combined = combine(GAR, random_gradients(0, size=200_000))
    np.testing.assert_allclose(combined.metrics["agree_ref"], 3**-0.5, atol=0.01)
    np.testing.assert_allclose(combined.metrics["agree_pair"], 0, atol=0.01)


def test_fact_5_orthogonal_gradients_keep_almost_the_mean_direction():
    """Norms n = (1, 2, 3): w_k = n_k / sqrt(14), G ~ (1, 4, 9), g ~ (1, 2, 3):
    cos(G, g) = (1 + 8 + 27) / (sqrt(98) sqrt(14)) = .972."""
    gradients = np.diag(np.array([1.0, 2.0, 3.0], np.float32))
    combined = combine(GAR, gradients)
    np.testing.assert_allclose(combined.gradient, np.array([1, 4, 9]) / 14**0.5, rtol=1e-5)
    assert round(cosine(combined.gradient, gradients.mean(0)), 3) == 0.972


@pytest.mark.parametrize("seed", range(5))
def test_fact_6_without_conflict_the_mean_weight_is_at_least_a_third(seed):
    """With all g_i . g_j >= 0: w_k >= |g_k| / sum_j |g_j|, whose sum over k is 1."""
    gradients = np.abs(random_gradients(seed, size=3)) ** 4
    assert combine(GAR, gradients).metrics["agree_ref"] >= 1 / 3 - 1e-6


def test_fact_7_one_variation_is_left_alone():
    gradients = random_gradients(3, num=1)
    np.testing.assert_allclose(combine(GAR, gradients).gradient, gradients[0], rtol=1e-5)


def test_fact_7_the_order_does_not_matter():
    gradients = random_gradients(4)
    for order in ((2, 0, 1), (1, 0, 2)):
        shuffled = combine(GAR, gradients[list(order)])
        np.testing.assert_allclose(shuffled.gradient, combine(GAR, gradients).gradient, atol=1e-5)


def test_fact_7_an_opposed_gradient_gets_no_weight():
    """g = (1, 1, -1)/3 times a: the third cosine is -1, the others 1, so that G = 2 a."""
    a = np.array([3.0, 4.0], np.float32)
    np.testing.assert_allclose(combine(GAR, np.stack([a, a, -a])).gradient, 2 * a, rtol=1e-6)


def test_dr_equals_gar_with_weights_one_third():
    """Pitfall 11; and under full agreement the literal sum is K times dr's mean."""
    gradients = random_gradients(5)
    mean = np.asarray(gradients).mean(0)
    np.testing.assert_allclose(combine(DR, gradients).gradient, mean, atol=1e-6)
    np.testing.assert_array_equal(
        combine(DR, gradients).gradient, combine(replace(GAR, agreement=0.0), gradients).gradient
    )
    same = np.tile(gradients[:1], (3, 1))
    np.testing.assert_allclose(
        combine(GAR, same).gradient, 3 * combine(DR, same).gradient, rtol=1e-4
    )


def test_dr_scaled_has_the_mean_weight_and_no_selection():
    """(sum_k w_k / K) for every k: parallel to the mean, with the size of gar's weights."""
    gradients = random_gradients(6, size=4)
    weights = weights_by_hand(gradients)
    expected = weights.mean() * np.asarray(gradients).sum(0)
    np.testing.assert_allclose(combine(SCALED, gradients).gradient, expected, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-25, 1e-20, 1e-17, 1e-12, 1.0, 1e12])
def test_weights_are_cosines_at_every_scale(scale):
    """A norm that underflows must not blow a gradient up: weights stay in [0, 1]."""
    gradients = np.float32(scale) * np.diag(np.array([1.0, 2.0, 3.0], np.float32))
    combined = combine(GAR, gradients)
    size = np.abs(np.asarray(combined.gradient)).max()
    assert size <= 3.01 * scale
    assert 0 <= combined.metrics["agree_ref"] <= 1


@pytest.mark.parametrize("rest", [1e-2, 1e-4, 1e-6, 3e-8])
def test_gradients_that_nearly_cancel_stay_bounded(rest):
    """a, -(1 - rest) a and 0: the mean is rest a / 3, so the weights are 1, 0, 0. Where rounding
    hides the mean, they may be off, but they stay cosines: the step is at most |a| + |a|."""
    a = normal(0, 1000)
    for order in ((0, 1, 2), (2, 1, 0)):
        gradients = np.stack([a, -np.float32(1 - rest) * a, 0 * a])[list(order)]
        combined = combine(GAR, gradients)
        size, longest = (np.linalg.norm(np.asarray(v)) for v in (combined.gradient, a))
        assert 0 <= combined.metrics["agree_ref"] <= 1
        assert size <= 1.001 * longest
        if rest >= 1e-2:
            np.testing.assert_allclose(combined.gradient, a, rtol=1e-2)


@pytest.mark.parametrize("technique", [make_technique(name) for name in sorted(COMPONENTS)])
def test_nan_stays_alive(technique):
    """A diverged run must show: a NaN gradient is no disagreement and is stepped along."""
    gradients = random_gradients(0)
    gradients[1, 3] = np.nan
    combined = combine(technique, gradients)
    assert combined.live
    assert np.isnan(combined.gradient).any()


def regression_loss(params, batch):
    x, y = batch
    error = jnp.square(jnp.tanh(x @ params["w"]) + params["b"] - y).mean()
    return error, {"loss": error}


value_and_gradient = jax.jit(jax.value_and_grad(regression_loss, has_aux=True))


@pytest.mark.parametrize("technique", [DR, GAR, SCALED])
def test_the_mean_of_variation_gradients_is_the_pooled_gradient(technique):
    """Equal batches: dr's step is the gradient of the loss on all samples at once."""
    inputs, targets = normal(7, 3, 8, 4), normal(8, 3, 8)
    params = {"w": normal(9, 4), "b": np.float32(0)}
    combined, metrics = compiled_gradient(technique, regression_loss, params, (inputs, targets))
    pooled_batch = (inputs.reshape(24, 4), targets.reshape(24))
    (value, _), pooled = value_and_gradient(params, pooled_batch)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    separate = [value_and_gradient(params, (x, y))[1] for x, y in zip(inputs, targets)]
    rows = np.stack([np.r_[np.asarray(g["b"])[None], g["w"]] for g in separate])
    if technique is DR:
        expected = np.r_[np.asarray(pooled["b"])[None], pooled["w"]]
    else:
        weights = weights_by_hand(rows)
        chosen = np.full(3, weights.mean()) if technique is SCALED else weights
        expected = chosen @ rows
    np.testing.assert_allclose(combined.gradient, expected, rtol=1e-4, atol=1e-6)


# The optimiser's step.


def adam_of(technique: Technique, max_grad_norm: float | None = None) -> Adam:
    return Adam(LEARNING_RATE, technique.weight_decay, 1e-8, max_grad_norm)


@partial(jax.jit, static_argnums=3)
def one_step(technique: Technique, optimizer: Any, gradients: Any, clip: float | None) -> Any:
    return adam_of(technique, clip).step(optimizer, eager_combine(technique, gradients))


@jax.jit
def fresh(params: Any) -> Any:
    """An optimiser that has not made a step."""
    return adam_of(BASELINE).init(params)


def stepped(technique: Technique, gradients: np.ndarray, steps: int = 1) -> tuple[Any, Any, Any]:
    """A used optimiser before and after some steps, and the last metrics."""
    decay = replace(BASELINE, weight_decay=technique.weight_decay)
    before, _ = one_step(decay, fresh(normal(0, 50)), random_gradients(1), 0.5)
    after, metrics = before, {}
    for _ in range(steps):
        after, metrics = one_step(technique, after, gradients, 0.5)
    return before, after, metrics


def test_all_weights_zero_skips_the_step():
    """Gradients that cancel exactly: parameters and Adam's state keep every bit, and it counts."""
    a = np.linspace(1.0, 2.0, 50, dtype=np.float32)
    gradients = np.stack([a, -a, 0 * a])
    for technique in (GAR, make_technique("gar+reg"), SCALED):
        before, after, metrics = stepped(technique, gradients, steps=3)
        jax.tree.map(np.testing.assert_array_equal, before, after)
        assert metrics["skipped_updates"] == 1


def test_a_zero_gradient_is_a_step_where_agreement_is_off():
    """dr's Adam moves on along its momentum; nothing is counted as skipped."""
    before, after, metrics = stepped(DR, np.zeros((3, 50), np.float32))
    assert np.abs(np.asarray(after.params) - np.asarray(before.params)).max() > 0.01
    assert metrics["skipped_updates"] == 0


def zero_step(technique: Technique) -> tuple[np.ndarray, np.ndarray]:
    """Parameters before and after a step of a fresh optimiser along a zero gradient."""
    params = np.linspace(-2.0, 2.0, 50, dtype=np.float32)
    optimizer, _ = one_step(technique, fresh(params), np.zeros((3, 50), np.float32), None)
    return params, np.asarray(optimizer.params)


def test_pitfall_13_decay_shrinks_by_learning_rate_times_decay():
    """lr x wd = .1 x .01 = 1e-3: far above float32's resolution, so each weight times .999."""
    before, after = zero_step(replace(make_technique("reg"), weight_decay=DECAY))
    np.testing.assert_allclose(after, before * (1 - LEARNING_RATE * DECAY), rtol=1e-6)


def test_pitfall_13_without_decay_nothing_moves():
    for technique in (BASELINE, DR, GAR):
        before, after = zero_step(technique)
        np.testing.assert_array_equal(before, after)


def test_the_clip_is_of_the_global_norm():
    """Clipped to norm .5, a gradient of norm 5 has Adam's first moment .1 x .5 long."""
    adam = Adam(LEARNING_RATE, 0.0, 1e-8, 0.5)
    gradient, metrics = np.array([3.0, 4.0], np.float32), {"grad_norm": np.float32(5)}
    combined: Any = Combined(gradient, np.bool_(True), metrics)  # pyright: ignore
    optimizer, _ = jax.jit(adam.step)(fresh(np.zeros(2, np.float32)), combined)
    moments: Any = optimizer.moments
    np.testing.assert_allclose(optax.tree_utils.tree_get(moments, "mu"), [0.03, 0.04], rtol=1e-5)


# Offered arms.


@pytest.mark.parametrize("seed", range(3))
def test_gar_n_weighs_by_the_others_and_keeps_the_mean_gradients_length(seed):
    # A part in common, so that some agree; one is turned against it.
    shared, factors = random_gradients(seed + 10, num=1), np.array([[3], [3], [-1]])
    gradients = random_gradients(seed) + shared * factors.astype(np.float32)
    rows = np.asarray(gradients, np.float64)
    weights = np.array([max(0.0, cosine(rows[k], rows.sum(0) - rows[k])) for k in range(3)])
    direction = weights @ rows
    expected = direction * np.linalg.norm(rows.mean(0)) / np.linalg.norm(direction)
    combined = combine(OTHERS, gradients)
    np.testing.assert_allclose(combined.gradient, expected, rtol=1e-3, atol=1e-5)
    length = np.linalg.norm(rows.mean(0))
    np.testing.assert_allclose(combined.metrics["grad_norm"], length, rtol=1e-4)


def test_gar_n_of_one_gradient_against_two_leaves_it_out():
    """(2, 0), (2, 0), (-1, 1): the third opposes the sum of the others, and none vouches for
    itself; orthogonal gradients vouch for nothing, so that the step is skipped."""
    gradients = np.array([[2.0, 0.0], [2.0, 0.0], [-1.0, 1.0]], np.float32)
    combined = combine(OTHERS, gradients)
    assert combined.gradient[1] == 0 and combined.gradient[0] > 0
    assert not combine(OTHERS, np.eye(3, dtype=np.float32)).live


@pytest.mark.parametrize("seed", range(5))
def test_pcgrad_is_the_projection_by_hand(seed):
    """Yu et al. 2020, algorithm 1, as loops over both orders of the other gradients."""
    rows = np.asarray(random_gradients(seed, size=4), np.float64)
    projected = []
    for k in range(3):
        i, j = (other for other in range(3) if other != k)
        for order in ((i, j), (j, i)):
            own = rows[k].copy()
            for other in order:
                own -= min(own @ rows[other], 0) / (rows[other] @ rows[other]) * rows[other]
            projected.append(own)
    combined = combine(PCGRAD, rows.astype(np.float32))
    np.testing.assert_allclose(combined.gradient, np.mean(projected, 0), rtol=1e-3, atol=1e-5)
    norm = np.linalg.norm(np.asarray(combined.gradient))
    np.testing.assert_allclose(combined.metrics["grad_norm"], norm, rtol=1e-3)


def test_without_conflict_pcgrad_is_the_mean():
    gradients = np.abs(random_gradients(0))
    combined = combine(PCGRAD, gradients)
    np.testing.assert_allclose(combined.gradient, gradients.mean(0), rtol=1e-5)


def test_and_mask_keeps_what_all_signs_agree_on():
    """A zero agrees with no sign; the norm is of what is kept, and nothing kept skips the step."""
    gradients = [[1.0, -3.0, 1.0, 0.0], [2.0, -3.0, -1.0, 1.0], [3.0, -6.0, 1.0, 1.0]]
    combined = combine(AND_MASK, np.array(gradients, np.float32))
    np.testing.assert_allclose(combined.gradient, [2, -4, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(combined.metrics["grad_norm"], 20**0.5, rtol=1e-6)
    assert combined.live and not combine(AND_MASK, np.eye(3, dtype=np.float32)).live


def test_shuffled_groups_hold_each_sample_once_and_all_variations_alike():
    """Every group gets 4 of each variation's 12 samples, all leaves in the same places."""
    labels = np.broadcast_to(np.arange(3)[:, None], (3, 12))
    numbers = np.arange(36, dtype=np.float32).reshape(3, 12)

    def loss(params, batch):
        label, number = batch
        return params @ jnp.stack([number.sum(), (label == 0).sum(), (label == 1).sum()]), {}

    def gradients(name):
        technique, params = make_technique(name), np.zeros(3, np.float32)
        return np.asarray(compiled_gradient(technique, loss, params, (labels, numbers))[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxgen.algorithms.gradients.combine", lambda _, gradients: gradients)
        shuffled, plain = gradients("gar-shuffle"), gradients("gar")
    np.testing.assert_array_equal(shuffled[:, 1:], 4)
    np.testing.assert_array_equal(plain[:, 1:], [[12, 0], [0, 12], [0, 0]])
    assert shuffled[:, 0].sum() == plain[:, 0].sum() == 35 * 18


def test_shuffling_leaves_the_mean_gradient_alone():
    """A loss that is a mean over samples has the same pooled gradient however they are dealt."""
    samples, params = normal(0, 3, 12, 4), normal(1, 4)

    def loss(params, batch):
        return jnp.square(batch @ params).mean(), {}

    shuffle = replace(make_technique("gar-shuffle"), agreement=0.0)
    ours = compiled_gradient(shuffle, loss, params, samples)[0].gradient
    expected = compiled_gradient(DR, loss, params, samples)[0].gradient
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_identical_gradients_keep_their_direction(name):
    """Full agreement: every rule steps along the gradient that all variations share."""
    own = random_gradients(0, num=1)
    combined = combine(make_technique(name), np.tile(own, (3, 1)))
    assert combined.live and cosine(combined.gradient, own[0]) > 1 - 1e-6


# Names.


@pytest.mark.parametrize(
    "name, expected",
    [
        ("reg+gar", "gar+reg"),
        ("gar+reg", "gar+reg"),
        ("reg+dr", "dr+reg"),
        ("baseline", "baseline"),
    ],
)
def test_components_compose_in_any_order(name, expected):
    assert canonical_name(name) == expected
    assert make_technique(name) == make_technique(expected)


def test_composed_techniques_take_both_changes():
    assert make_technique("reg+gar") == Technique((0.0, 0.25, 0.5), 1.0, 0.0, 1e-4)
    assert make_technique("dr+reg") == Technique((0.0, 0.25, 0.5), 0.0, 0.0, 1e-4)
    assert make_technique("baseline") == Technique((0.0, 0.0, 0.0), 0.0, 0.0, 0.0)


def test_the_specified_techniques():
    """Weight decay 1e-4; gar and dr on 0, .25, .5; es has no gar of its own."""
    assert make_technique("reg").weight_decay == 1e-4
    assert GAR.levels == DR.levels == (0.0, 0.25, 0.5)
    assert SUITES["specified"] == ("baseline", "reg", "gar", "gar+reg")
    assert SUITES["controls"] == ("baseline", "reg", "dr", "dr+reg", "gar", "gar+reg")
    assert SUITES["rigorous"][:6] == SUITES["controls"]
    offered = {"dr-scaled", "gar-shuffle", "gar-n", "es-gar", "pcgrad", "and-mask"}
    assert set(SUITES["rigorous"][6:]) == offered
    trained = {name: trained_name(name, "es") for name in SUITES["controls"]}
    others = {name: other for name, other in trained.items() if name != other}
    assert others == {"gar": "baseline", "gar+reg": "reg"}
    assert all(canonical_name(name) == name for name in COMPONENTS)


@pytest.mark.parametrize(
    "name, message",
    [
        ("garr", "unknown technique 'garr' in 'garr'; allowed: baseline, reg, dr, gar"),
        ("gar+", "unknown technique '' in 'gar\\+'"),
        ("../gar", "unknown technique '../gar'"),
        ("gar+gar", "'gar\\+gar' names a component twice"),
        ("baseline+reg", "'baseline\\+reg' composes baseline"),
        ("gar+dr", "'gar\\+dr' holds both gar and dr"),
        ("pcgrad+gar-n", "'pcgrad\\+gar-n' holds both pcgrad and gar-n"),
    ],
)
def test_bad_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        make_technique(name)


@pytest.mark.parametrize(
    "technique, other, field",
    [
        (Technique(weight_decay=1e-2), "reg", "weight_decay"),
        (Technique(levels=(0.5, 0.5, 0.5)), "dr", "levels"),
        (Technique(levels=np.array([0, 0.5, 0.5])), "gar", "levels"),  # pyright: ignore
        (Technique(weight_decay=1e-4), "reg", "weight_decay"),
        (Technique(agreement=0.5, weight_decay=1.0), "gar+reg", "weight_decay|agreement"),
    ],
)
def test_components_that_change_the_same_field_are_refused(technique, other, field, monkeypatch):
    """Whichever came last in the alphabet would win; in both orders, with both names."""
    monkeypatch.setitem(COMPONENTS, "mine", technique)
    make_technique("mine")
    for name in (f"mine+{other}", f"{other}+mine"):
        with pytest.raises(ValueError, match=f"which exclude each other, as both change ({field})"):
            make_technique(name)


@pytest.mark.parametrize(
    "field, value, allowed",
    [
        ("agreement", 1.5, "a share in"), ("uniform", -0.1, "a share in"),
        ("augment_share", 2, "a share in"), ("agreement", float("nan"), "a share in"),
        ("weight_decay", -1e-4, "a finite number"), ("weight_decay", "1e-4", "a finite number"),
        ("weight_decay", float("inf"), "a finite number"), ("uniform", True, "a share in"),
    ],
)
def test_numbers_of_a_component_have_ends(field, value, allowed, monkeypatch):
    monkeypatch.setitem(COMPONENTS, "mine", Technique(**{field: value}))
    for name in ("mine", "dr+mine"):
        with pytest.raises(ValueError, match=f"technique 'mine': {field} = .*; use {allowed}"):
            make_technique(name)


@pytest.mark.parametrize(
    "name, algorithms",
    [
        ("gar", ("ppo", "dqn", "es", "sac", "td3", "grpo")),
        ("dr+reg", ("ppo", "dqn", "es", "sac", "td3", "grpo")),
        ("es-gar+reg", ("es",)), ("pcgrad", ("ppo", "dqn", "sac", "td3", "grpo")),
        ("dr-scaled+reg", ("ppo", "dqn", "sac", "td3", "grpo")),
    ],
)
def test_which_algorithm_has_which_technique(name, algorithms):
    assert tuple(each for each in ALGORITHM_CARDS if is_defined(name, each)) == algorithms
