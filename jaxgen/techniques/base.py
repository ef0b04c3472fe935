"""Apply a technique: gradients per variation, their agreement, their combination.

This is the only module that takes gradients of an algorithm's loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxgen.techniques import Technique
from jaxgen.types import Array, Metrics, PyTree

TINY = 1e-15
"""Floor of a norm: a zero gradient has agreement 0 with everything. Shorter vectors than it, whose
squares underflow to a norm of 0, are not blown up to more than length 1."""


class Combined(NamedTuple):
    """A gradient for the optimiser and what the variations' gradients agreed on."""

    gradient: Array
    """float32 ``[D]``."""
    live: Array
    """bool: False where agreement is on and every weight is 0, so the step is skipped; a NaN
    stays live, so that a diverged run shows."""
    metrics: Metrics


def combine(technique: Technique, gradients: Array) -> Combined:
    """Weigh the gradients of K variations by their agreement with the mean gradient.

    Args:
      technique: ``agreement`` and ``uniform`` choose the weights; see `Technique`.
      gradients: float32 ``[K, D]``.

    Returns:
      ``sum_k weights_k g_k``, whether any weight is positive, and the metrics
      ``agree_ref`` (mean of the weights m_k), ``agree_pair`` (mean cosine over pairs),
      ``grad_norm`` (of the combined gradient).
    """
    num = gradients.shape[0]
    gram = _gram(gradients)
    norm = jnp.sqrt(jnp.diagonal(gram))
    mean_norm = jnp.sqrt(jnp.maximum(gram.sum(), 0.0)) / num
    to_mean = gram.mean(1) / jnp.maximum(norm, TINY) / jnp.maximum(mean_norm, TINY)
    # At most 1: where gradients cancel, the mean is lost in the rounding of the sums.
    match = jnp.clip(to_mean, 0.0, 1.0)
    chosen = (1 - technique.uniform) * match + technique.uniform * match.mean()
    weights = (1 - technique.agreement) / num + technique.agreement * chosen
    # Scaled rows added up, not a product: that fuses with the optimiser's elementwise step.
    gradient = sum((weights[k] * gradients[k] for k in range(1, num)), weights[0] * gradients[0])
    metrics = {
        "agree_ref": match.mean(),
        "agree_pair": _mean_pair_cosine(gram, norm),
        "grad_norm": jnp.sqrt(jnp.maximum(weights @ gram @ weights, 0.0)),
    }
    return Combined(gradient, jnp.any(weights != 0), metrics)


def variation_gradient(
    technique: Technique,
    loss: Callable[[PyTree, PyTree], tuple[Array, Metrics]],
    params: PyTree,
    batch: PyTree,
) -> tuple[Combined, Metrics]:
    """Take the gradient of ``loss`` on each variation's own batch and combine them.

    Args:
      technique: how to combine.
      loss: (params, batch of one variation) -> scalar loss, scalar metrics.
      params: tree of parameters.
      batch: leaves ``[V, B, ...]``.

    Returns:
      The combined gradient (raveled as the parameters are) and the metrics of the
      loss averaged over variations.
    """
    per_variation = jax.vmap(jax.grad(loss, has_aux=True), in_axes=(None, 0))
    tree, metrics = per_variation(params, batch)
    gradients = jax.vmap(lambda leaves: ravel_pytree(leaves)[0])(tree)
    return combine(technique, gradients), {name: value.mean() for name, value in metrics.items()}


def _gram(vectors: Array) -> Array:
    """Dot products of all pairs: ``[K, D]`` -> ``[K, K]``.

    Products and sums of the rows: a matrix product of 3 x D by D x 3 is seven times slower
    on a CPU, and every cosine and norm follows from these K (K + 1) / 2 sums.
    """
    num = vectors.shape[0]
    dots = {(i, j): _folded_sum(vectors[i] * vectors[j]) for i in range(num) for j in range(i + 1)}
    rows = [jnp.stack([dots[max(i, j), min(i, j)] for j in range(num)]) for i in range(num)]
    return jnp.stack(rows)


def _folded_sum(terms: Array) -> Array:
    """The sum of a long vector ``[D]``: folded into an eighth, that into a 32nd, then added up.

    On a CPU XLA adds a long row up at 10 ns a number, and gives rows over some size, times the
    lanes of the device, to a library that adds in another order, so that bits would depend on the
    number of devices. A fold is elementwise: fast, and in the order that is written here.
    """
    rest = []
    for folds in (8, 32):
        width = terms.shape[0] // folds
        rest.append(terms[folds * width :])
        parts = [terms[i * width : (i + 1) * width] for i in range(folds)]
        # Without the barrier both folds become one loop that reads from 256 places at once.
        terms = jax.lax.optimization_barrier(sum(parts[1:], parts[0]))
    return terms.sum() + rest[0].sum() + rest[1].sum()


def _mean_pair_cosine(gram: Array, norm: Array) -> Array:
    num = gram.shape[0]
    floor = jnp.maximum(norm, TINY)
    pairs = [gram[i, j] / floor[i] / floor[j] for i in range(num) for j in range(i)]
    return jnp.stack(pairs).mean() if pairs else jnp.ones(())
