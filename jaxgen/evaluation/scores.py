"""Scores of one return-against-level curve, for one training seed.

Notation: v in [0, 1] is the level, J(v) the mean undiscounted return of the frozen final
policy, L(v) the return of the uniform random policy (floor), U(v) the ceiling. Everything
here is a pure function of float64 arrays; aggregating over seeds happens elsewhere.

The literal score, the trapezoid of J(v)/J(0), rewards a policy that never learned anything:
uniform random play on CartPole scores 1.40, because longer poles fall slower. So scores
normalised by floor and ceiling are always computed beside it, and a curve that did not leave
the floor at v = 0 has no retention score at all.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

DID_NOT_LEARN = "did_not_learn"
"""Reason: at v = 0 the policy is not clearly better than random play."""
REFERENCE_NOT_POSITIVE = "reference_not_positive"
"""Reason: the policy learned, but J(0) <= 0, so that only the literal ratio is undefined."""

LEVELS_ID = (0.0, 0.25, 0.5)
"""Levels that at least one arm trains on."""
LEVELS_OOD = (0.75, 1.0)
"""Levels on which no arm trains that has a score for them."""
MIN_SPAN = 0.01
"""Least U - L, as a fraction of max(|U|, |L|), of an informative level."""
NUM_STANDARD_ERRORS = 3.0
"""J(0) - L(0) must exceed that many of its standard errors."""

Array = NDArray[np.float64]


class Scores(NamedTuple):
    """All scores of one curve; ``None`` is null, explained by ``reason``."""

    grs: float | None
    """Literal score: trapezoid of J(v)/J(0), unclipped; null iff J(0) <= 0."""
    grs_valid: bool
    """False where ``grs`` is null, or a number that must be shown with a flag."""
    s: tuple[float, ...]
    """s(v) = (J(v) - L(v)) / (U(v) - L(v)) at each level, unclipped."""
    A: float
    """Absolute robustness: integral of clip(s, 0, 1); always defined."""
    A_id: float | None
    """Mean s at 0, .25, .5; null iff one of these levels was not evaluated."""
    A_ood: float | None
    """Mean s at .75 and 1; null iff one of these levels was not evaluated, or in a result whose
    arm trains beyond .5."""
    grs_n: float | None
    """Retention: integral of clip(s(v)/s(0), 0, 1); null unless ``valid``."""
    uplift: float | None
    """Improvement under shift: integral of max(0, s(v)/s(0) - 1); null unless ``valid``."""
    gap: float | None
    """s(0) minus the mean of s over v > 0; null unless ``valid``."""
    valid: bool
    """The policy learned: s(0) and its distance from the floor are large enough."""
    reason: str | None
    """``did_not_learn``, ``reference_not_positive``, or None when nothing is null or flagged."""

    def to_dict(self) -> dict[str, Any]:
        """Plain floats, bools, lists and None: what ``json.dumps(allow_nan=False)`` accepts."""
        return {**self._asdict(), "s": list(self.s)}


def score_curve(
    levels: ArrayLike,
    returns: ArrayLike,
    floor: ArrayLike,
    ceiling: ArrayLike,
    standard_error_at_zero: float,
    floor_standard_error_at_zero: float = 0.0,
    min_s0: float = 0.10,
    normalised: ArrayLike | None = None,
    most: float = 1.0,
) -> Scores:
    """Score one curve of returns.

    A curve is valid iff s(0) >= ``min_s0`` and J(0) - L(0) is more than three standard errors,
    those of J(0) and L(0) added in quadrature. An invalid curve keeps ``A``, ``A_id``,
    ``A_ood``, and its literal ``grs`` flagged by ``grs_valid``; the rest is null.

    Args:
        levels: [levels] strictly increasing from 0 to 1, spaced in any way.
        returns: [levels] J(v), in units of return.
        floor: [levels] L(v).
        ceiling: [levels] U(v).
        standard_error_at_zero: standard error of J(0) over its evaluation episodes.
        floor_standard_error_at_zero: the same of L(0).
        min_s0: least s(0) of a policy that learned (.02 where published agents are only there).
        normalised: [levels] s(v), where a level mixes kinds of episodes, each with a floor and a
            ceiling of its own; None: from floor and ceiling.
        most: what s counts as at most in A; infinity where 1 is no bound.

    Raises:
        ValueError: a missing or non-finite number, levels that are not as above, or a level
            whose ceiling is not above its floor.
    """
    v = check_levels(levels)
    j, low, high = (
        _curve(name, values, v)
        for name, values in (("returns", returns), ("floor", floor), ("ceiling", ceiling))
    )
    error = np.hypot(
        _standard_error("standard_error_at_zero", standard_error_at_zero),
        _standard_error("floor_standard_error_at_zero", floor_standard_error_at_zero),
    )
    s = normalise(v, j, low, high)
    if normalised is not None:
        s = _curve("normalised", normalised, v)
    learned = bool(s[0] >= min_s0 and j[0] - low[0] > NUM_STANDARD_ERRORS * error)
    positive = bool(j[0] > 0)
    return Scores(
        grs=integrate(v, j / j[0]) if positive else None,
        grs_valid=learned and positive,
        s=tuple(s.tolist()),
        A=absolute_robustness(v, s, most),
        A_id=_mean_at(v, s, LEVELS_ID),
        A_ood=_mean_at(v, s, LEVELS_OOD),
        grs_n=integrate(v, np.clip(s / s[0], 0, 1)) if learned else None,
        uplift=integrate(v, np.maximum(0, s / s[0] - 1)) if learned else None,
        gap=float(s[0] - s[1:].mean()) if learned else None,
        valid=learned,
        reason=_reason(learned, positive),
    )


def _reason(learned: bool, positive: bool) -> str | None:
    if not learned:
        return DID_NOT_LEARN
    return None if positive else REFERENCE_NOT_POSITIVE


def absolute_robustness(levels: ArrayLike, normalised: ArrayLike, most: float = 1.0) -> float:
    """A of s(v) ``normalised`` [levels], which count as ``most`` at most; ValueError unless
    ``levels`` [levels] run from 0 to 1."""
    return integrate(check_levels(levels), np.clip(np.asarray(normalised, np.float64), 0, most))


def integrate(levels: ArrayLike, values: ArrayLike) -> float:
    """Trapezoid of ``values`` [levels] over unevenly spaced ``levels`` [levels]."""
    return float(np.trapezoid(np.asarray(values, np.float64), np.asarray(levels, np.float64)))


def normalise(
    levels: ArrayLike,
    returns: ArrayLike,
    floor: ArrayLike,
    ceiling: ArrayLike,
) -> Array:
    """s(v) = (J - L) / (U - L), unclipped, [levels] each.

    Raises:
        ValueError: U - L <= `MIN_SPAN` * max(|U|, |L|) at some level: nothing can be told apart
            there.
    """
    v, j, low, high = (np.asarray(x, np.float64) for x in (levels, returns, floor, ceiling))
    span = high - low
    flat = span <= MIN_SPAN * np.maximum(np.abs(high), np.abs(low))
    if flat.any():
        i = int(np.argmax(flat))
        raise ValueError(
            f"level {v[i]:g} is uninformative: its ceiling {high[i]:g} must exceed its floor "
            f"{low[i]:g} by more than {MIN_SPAN:g} of the larger magnitude; "
            + ("correct its references" if v[i] in (0, 1) else
               "leave the level out or correct its references")
        )
    return (j - low) / span


def check_levels(levels: ArrayLike) -> Array:
    """Levels as float64 [levels].

    Raises:
        ValueError: they do not increase strictly from 0 to 1.
    """
    v = np.asarray(levels, np.float64)
    ends = v.ndim == 1 and v.size >= 2 and v[0] == 0 and v[-1] == 1
    if not ends or not (np.diff(v) > 0).all():
        raise ValueError(
            f"levels must increase strictly from 0 to 1, as in (0, .25, .5, .75, 1); got {levels}"
        )
    return v


def _curve(name: str, values: ArrayLike, levels: Array) -> Array:
    curve = np.asarray(values, np.float64)
    if curve.shape != levels.shape:
        raise ValueError(
            f"{name} must have one number for each of the {levels.size} levels; "
            f"got shape {curve.shape}: evaluate the missing levels"
        )
    if not np.isfinite(curve).all():
        raise ValueError(
            f"{name} must be finite at every level; got {curve.tolist()}: "
            "a run that produced NaN has no scores, record it as diverged"
        )
    return curve


def _standard_error(name: str, value: float) -> float:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number >= 0; got {value}")
    return float(value)


def _mean_at(levels: Array, values: Array, wanted: tuple[float, ...]) -> float | None:
    chosen = np.isin(levels, wanted)
    return float(values[chosen].mean()) if chosen.sum() == len(wanted) else None
