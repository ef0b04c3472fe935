"""GAS, the gradient agreement score: do the variations' gradients agree during training?

Notation: at each of P points of a training, ``g_i`` is the gradient of the algorithm's loss on
variation i, estimated on two halves ``a`` and ``b`` of its samples. All that the score needs are
the dot products of these 2 K vectors, so that a point is a matrix, kept in the run's history.

Noise hides agreement: the cosine of two estimates is that of the true gradients times
``sqrt(r_i r_j)``, where the reliability ``r = |mu|^2 / (|mu|^2 + noise)``. The corrected form
divides by what two halves of one variation agree on with each other.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WINDOW = 5
"""Points over which dot products are averaged before their ratio is taken."""
MIN_STANDARD_ERRORS = 2.0
"""A window counts where each variation's signal is so many standard errors above zero."""


class Agreement(NamedTuple):
    """GAS of one run in all its forms; ``None`` is null."""

    raw: float | None
    """Mean over training of max(0, mean cosine over pairs of variations)."""
    first: float | None
    """The same over the first quarter of the points: what could predict the rest."""
    last: float | None
    """The same over the last quarter."""
    corrected: float | None
    """The same as ``raw``, with the cosines of the true gradients; null where all is noise,
    and where halves share it."""
    reliability: float | None
    """Mean share of the signal in the squared length of an estimated gradient."""

    def to_dict(self) -> dict[str, Any]:
        """Plain floats and None."""
        return self._asdict()


def score_agreement(agree_pair: Array) -> Agreement:
    """Score the mean pairwise cosines of a training's updates, ``[P]``; NaN where there is none.

    Nothing is known of their noise, so that there is no corrected form.
    """
    return Agreement(*_over_training(np.asarray(agree_pair, np.float64)), None, None)


def score_probe(gram: Array, independent: bool = True) -> Agreement:
    """Score the points of a probe.

    Args:
      gram: dot products of the gradients on both halves of K variations, ``[P, 2, K, 2, K]``.
      independent: the halves of a variation have no draw in common. Members of ES share the
        starts of their episodes: what that adds to both halves would pass for signal, so that
        only the plain forms are given.
    """
    gram = np.asarray(gram, np.float64)
    # The gradient on all samples is the mean of both halves'.
    whole = gram.mean((1, 3))
    raw = _over_training(_mean_cosine(whole, _diagonal(whole)))
    # Across halves no sample and no draw is shared, so that noise averages out.
    across = (gram[:, 0, :, 1] + gram[:, 1, :, 0]) / 2
    if not independent:
        return Agreement(*raw, None, None)
    return Agreement(*raw, _corrected(across), _reliability(across, whole))


def _corrected(across: Array) -> float | None:
    if len(across) < 2:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(across, min(WINDOW, len(across)), axis=0)
    mean, width = windows.mean(-1), windows.shape[-1]
    error = _diagonal(np.moveaxis(windows, -1, 1)).std(1, ddof=1) / width**0.5
    signal = _diagonal(mean)
    clear = (signal > MIN_STANDARD_ERRORS * error).all(1)
    cosine = _mean_cosine(mean[clear], signal[clear])
    return float(np.clip(cosine, 0, 1).mean()) if clear.any() else None


def _reliability(across: Array, whole: Array) -> float | None:
    signal, lengths = _diagonal(across).mean(0), _diagonal(whole).mean(0)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        return None
    return float(np.clip(signal / lengths, 0, 1).mean())


def _diagonal(matrices: Array) -> Array:
    return np.diagonal(matrices, axis1=-2, axis2=-1)


def _mean_cosine(dots: Array, squares: Array) -> Array:
    """Mean cosine over pairs: ``[..., K, K]``, squared lengths ``[..., K]`` -> ``[...]``."""
    lengths = np.sqrt(np.maximum(squares, 0))
    scale = lengths[..., :, None] * lengths[..., None, :]
    # A gradient of zero agrees with nothing; NaN, of a run that diverged, stays.
    cosine = np.divide(dots, scale, out=np.where(np.isnan(dots), dots, 0.0), where=scale > 0)
    one, other = np.triu_indices(dots.shape[-1], 1)
    return cosine[..., one, other].mean(-1)


def _over_training(agreement: Array) -> tuple[float | None, float | None, float | None]:
    """Means of max(0, agreement) over all points ``[P]``, the first and the last quarter."""
    quarter = max(1, len(agreement) // 4)
    parts = agreement, agreement[:quarter], agreement[-quarter:]
    raw, first, last = (_mean(np.maximum(part, 0)) for part in parts)
    return raw, first, last


def _mean(values: Array) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
