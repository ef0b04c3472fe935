"""Scores of curves whose values are known by hand."""

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy import integrate as scipy_integrate

from jaxgen.evaluation.scores import (
    DID_NOT_LEARN,
    REFERENCE_NOT_POSITIVE,
    check_levels,
    integrate,
    normalise,
    score_curve,
)

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
ZERO, ONE = np.zeros(5), np.ones(5)
RANDOM_CARTPOLE = (22.4, 27.3, 31.8, 35.9, 39.2)
FAILED_DQN = (-0.09, -0.1, -0.1, -0.1, -0.1)


def unit_scores(returns, **kwargs) -> Any:
    """Scores with floor 0 and ceiling 1, so that s = J."""
    return score_curve(LEVELS, returns, ZERO, ONE, 0.0, **kwargs)


# Columns: J(v) with floor 0 and ceiling 1; literal grs, grs_n, uplift, A, gap, A_id, A_ood.
# Linear: s = 1 - v, trapezoid .5, gap 1 - (.75+.5+.25+0)/4 = .625, A_id .75, A_ood .125.
# Step: only the first panel of width .25 counts, half of it: .125.
# Improver: ratios 1, 1.2 .. 1.8; literal 1.4, clipped 1, excess 0 .. .8 integrates to .4.
TABLE = {
    "constant": ((0.8,) * 5, 1.0, 1.0, 0.0, 0.8, 0.0, 0.8, 0.8),
    "linear": ((1, 0.75, 0.5, 0.25, 0), 0.5, 0.5, 0.0, 0.5, 0.625, 0.75, 0.125),
    "step": ((1, 0, 0, 0, 0), 0.125, 0.125, 0.0, 0.125, 1.0, 1 / 3, 0.0),
    "improver": ((0.5, 0.6, 0.7, 0.8, 0.9), 1.4, 1.0, 0.4, 0.7, -0.25, 0.6, 0.85),
}


@pytest.mark.parametrize("name", TABLE)
def test_table_of_curves(name):
    returns, grs, grs_n, uplift, area, gap, area_id, area_ood = TABLE[name]
    scores = unit_scores(returns)
    assert scores.valid and scores.grs_valid and scores.reason is None
    measured = (scores.grs, scores.grs_n, scores.uplift, scores.A, scores.gap)
    np.testing.assert_allclose(measured, (grs, grs_n, uplift, area, gap), atol=1e-12)
    np.testing.assert_allclose((scores.A_id, scores.A_ood), (area_id, area_ood), atol=1e-12)
    np.testing.assert_allclose(scores.s, returns, atol=1e-12)


def test_random_play_on_cartpole_has_a_flagged_literal_score_and_no_retention():
    scores = score_curve(LEVELS, RANDOM_CARTPOLE, RANDOM_CARTPOLE, [500] * 5, 0.4, 0.4)
    assert round(scores.grs or 0, 2) == 1.40
    assert not scores.grs_valid and not scores.valid
    assert scores.reason == DID_NOT_LEARN
    assert (scores.grs_n, scores.uplift, scores.gap) == (None, None, None)
    assert (scores.A, scores.A_id, scores.A_ood) == (0, 0, 0)


def test_failed_dqn_has_a_null_literal_score():
    # The unguarded ratio would read 1.10: ((1 + 1/.9) / 2) * .25 + .75 / .9 = 1.097.
    unguarded = integrate(LEVELS, np.divide(FAILED_DQN, FAILED_DQN[0]))
    assert round(unguarded, 2) == 1.10
    scores = score_curve(LEVELS, FAILED_DQN, [0.4, 0.3, 0.1, 0, -0.02], [0.95] * 5, 0.01)
    assert scores.grs is None and not scores.grs_valid
    assert scores.reason == DID_NOT_LEARN and scores.A == 0


def test_negative_reference_of_a_policy_that_learned_voids_only_the_literal_ratio():
    # s = 1 at every level, yet J(0) < 0.
    scores = score_curve(LEVELS, [-1.0] * 5, [-10.0] * 5, [-1.0] * 5, 0.0)
    assert scores.valid and scores.grs_n == 1
    assert scores.grs is None and not scores.grs_valid
    assert scores.reason == REFERENCE_NOT_POSITIVE


@pytest.mark.parametrize(
    ("s0", "error", "floor_error", "valid"),
    [
        (0.10, 0.0, 0.0, True),  # the bound itself is inside
        (0.0999, 0.0, 0.0, False),
        (0.20, 0.05, 0.0, True),  # .20 > 3 * .05
        (0.15, 0.05, 0.0, False),  # .15 is not more than .15
        (0.20, 0.05, 0.05, False),  # .20 < 3 * hypot(.05, .05) = .212
    ],
)
def test_validity_needs_s0_and_three_standard_errors(s0, error, floor_error, valid):
    scores = score_curve(LEVELS, [s0] * 5, ZERO, ONE, error, floor_error)
    assert scores.valid is valid and scores.grs_valid is valid
    assert (scores.grs_n is None) is not valid


def test_threshold_of_validity_is_an_argument():
    assert not unit_scores([0.03] * 5).valid
    assert unit_scores([0.03] * 5, min_s0=0.02).valid


def test_normalised_returns_are_stored_raw_and_clipped_only_in_integrals():
    scores = unit_scores([1.2, -0.4, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(scores.s, [1.2, -0.4, 0.5, 0.5, 0.5], atol=1e-12)
    # Clipped curve (1, 0, .5, .5, .5): .125 + .0625 + .125 + .125.
    np.testing.assert_allclose(scores.A, 0.4375)
    # The mean at 0, .25, .5 is of the raw curve.
    assert scores.A_id == pytest.approx((1.2 - 0.4 + 0.5) / 3)


def test_integral_agrees_with_scipy_on_uneven_levels():
    generator = np.random.default_rng(0)
    for _ in range(20):
        inner = np.sort(generator.uniform(0.01, 0.99, 7))
        levels, values = np.r_[0, inner, 1], generator.normal(size=9)
        assert integrate(levels, values) == pytest.approx(
            scipy_integrate.trapezoid(values, levels), abs=1e-12
        )


def test_uneven_levels_weigh_by_width_and_have_no_id_and_ood_means():
    scores = score_curve([0, 0.9, 1], [1, 1, 0], [0] * 3, [1] * 3, 0.0)
    assert scores.grs == pytest.approx(0.95)  # .9 + .1 / 2
    assert scores.A_id is None and scores.A_ood is None


def test_dictionary_is_strict_json_and_null_is_none():
    dead = unit_scores([0.0] * 5).to_dict()
    assert dead["grs"] is None and dead["grs_n"] is None and dead["reason"] == DID_NOT_LEARN
    assert json.loads(json.dumps(dead, allow_nan=False)) == dead
    alive = unit_scores([1.0] * 5).to_dict()
    assert json.loads(json.dumps(alive, allow_nan=False)) == alive
    assert type(alive["valid"]) is bool and type(alive["A"]) is float


@pytest.mark.parametrize("name", ["returns", "floor", "ceiling"])
@pytest.mark.parametrize("bad", [[1, math.nan, 1, 1, 1], [1, math.inf, 1, 1, 1], [1, 1, 1, 1]])
def test_missing_or_non_finite_number_is_an_error_that_names_its_curve(name, bad):
    curves = {"returns": ONE, "floor": ZERO, "ceiling": ONE} | {name: bad}
    with pytest.raises(ValueError, match=name):
        score_curve(LEVELS, curves["returns"], curves["floor"], curves["ceiling"], 0.0)


@pytest.mark.parametrize(
    "levels",
    [
        (0, 0.5, 0.25, 0.75, 1),
        (0, 0.25, 0.25, 0.75, 1),
        (0.1, 0.25, 0.5, 0.75, 1),
        (-0.1, 0.25, 0.5, 0.75, 1),
        (0, 0.25, 0.5, 0.75, 1.1),
        (0, 0.25, 0.5, 0.75, 0.9),
        (0, 0.25, math.nan, 0.75, 1),
        (0,),
        (),
    ],
)
def test_bad_levels_are_an_error(levels):
    with pytest.raises(ValueError, match="increase strictly from 0 to 1"):
        check_levels(levels)
    with pytest.raises(ValueError, match="increase strictly from 0 to 1"):
        score_curve(levels, ONE, ZERO, ONE, 0.0)


@pytest.mark.parametrize("error", [math.nan, -1.0, math.inf])
def test_bad_standard_error_is_an_error(error):
    with pytest.raises(ValueError, match="standard_error_at_zero"):
        score_curve(LEVELS, ONE, ZERO, ONE, error)
    with pytest.raises(ValueError, match="floor_standard_error_at_zero"):
        score_curve(LEVELS, ONE, ZERO, ONE, 0.0, error)


@pytest.mark.parametrize("floor", [0.995, 1.0, 2.0])
def test_level_whose_ceiling_is_not_above_its_floor_is_an_error(floor):
    with pytest.raises(ValueError, match=r"level 0\.5 is uninformative"):
        normalise(LEVELS, ONE, [0, 0, floor, 0, 0], ONE)
    # The same is told whatever the unit of the return.
    with pytest.raises(ValueError, match=r"level 0\.5 is uninformative"):
        normalise(LEVELS, ONE, np.array([0, 0, floor, 0, 0]) * 1e-4, ONE * 1e-4)
