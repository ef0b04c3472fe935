"""Apply a technique: augmented observations, gradients per variation, their combination.

This is the only module that takes gradients of an algorithm's loss.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from itertools import permutations
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxgen.algorithms.augmentations import augmented
from jaxgen.techniques import STATIC_FIELDS, Rule, Technique
from jaxgen.types import Array, Metrics, PyTree

jax.tree_util.register_dataclass(
    Technique,
    data_fields=[each.name for each in fields(Technique) if each.name not in STATIC_FIELDS],
    meta_fields=list(STATIC_FIELDS),
)

Loss = Callable[[PyTree, PyTree], tuple[Array, Metrics]]
"""(parameters, batch of one variation ``[B, ...]``) -> scalar loss, metrics by name: scalars, or
other arrays whose mean over variations is asked for."""

TINY = 1e-15
"""Floor of a norm: a zero gradient has agreement 0 with everything. Shorter vectors than it, whose
squares underflow to a norm of 0, are not blown up to more than length 1."""

CACHED_SAMPLES = 32
"""Images whose activations stay in a CPU's cache: gradients of 500 at once take twice as long."""

MIN_MATCH = 1e-5
"""Cosines below are rounding: `Rule.OTHERS` takes them for 0."""


class Combined(NamedTuple):
    """A gradient for the optimiser and what the variations' gradients agreed on."""

    gradient: Array
    """float32 ``[D]``."""
    live: Array
    """bool: False where the rule leaves nothing (every weight is 0), so the step is skipped; a
    NaN stays live, so that a diverged run shows."""
    metrics: Metrics


def combine(technique: Technique, gradients: Array) -> Combined:
    """Make one gradient of those of K variations.

    Args:
      technique: its rule and the numbers that go with it; see `Technique` and `Rule`.
      gradients: float32 ``[K, D]``.

    Returns:
      The gradient, whether it is other than zero by construction, and the metrics
      ``agree_ref`` (mean of max(0, cos(g_k, g)), gar's mean weight), ``agree_pair`` (mean
      cosine over pairs), ``grad_norm`` (of the combined gradient).
    """
    chex.assert_rank(gradients, 2)
    num = gradients.shape[0]
    gram = dot_products(gradients)
    norm = jnp.sqrt(jnp.diagonal(gram))
    match = _match(gram.mean(1), norm, _length(gram.sum()) / num)
    weights = _weights(technique, gram, norm, match)
    # Scaled rows added up, not a product: that fuses with the optimiser's elementwise step.
    gradient = sum((weights[k] * gradients[k] for k in range(1, num)), weights[0] * gradients[0])
    live, grad_norm = jnp.any(weights != 0), _length(weights @ gram @ weights)
    if technique.rule is Rule.AND_MASK:
        signs = jnp.sign(gradients)
        agreed = jnp.all(signs == signs[:1], axis=0) | jnp.isnan(gradient)
        gradient = jnp.where(agreed, gradient, 0.0)
        grad_norm = _length(_folded_sum(jnp.square(gradient)))
        live = grad_norm != 0
    metrics = {
        "agree_ref": match.mean(),
        "agree_pair": _mean_pair_cosine(gram, norm),
        "grad_norm": grad_norm,
    }
    return Combined(gradient, live, metrics)


def _weights(technique: Technique, gram: Array, norm: Array, match: Array) -> Array:
    """Weight of each variation's gradient, ``[K]``, all from the gradients' dot products."""
    num = gram.shape[0]
    if technique.rule is Rule.OTHERS:
        return _weights_by_others(gram, norm)
    if technique.rule is Rule.PCGRAD:
        return _projected_weights(gram)
    if technique.rule is Rule.AND_MASK:
        return jnp.full(num, 1 / num)
    chosen = (1 - technique.uniform) * match + technique.uniform * match.mean()
    return (1 - technique.agreement) / num + technique.agreement * chosen


def _weights_by_others(gram: Array, norm: Array) -> Array:
    """Agreement with the sum of the other gradients, scaled so that the step is as long as g."""
    # Summed without the gradient's own terms: taken off afterwards, long ones would leave noise.
    others = 1.0 - jnp.eye(gram.shape[0])
    squares = ((others @ gram) * others).sum(1)
    match = _match((gram * others).sum(1), norm, _length(squares))
    # What rounding leaves of orthogonal gradients must not be blown up to a step.
    match = jnp.where(match < MIN_MATCH, 0.0, match)
    length = jnp.maximum(_length(match @ gram @ match), TINY)
    return match * (_length(gram.sum()) / gram.shape[0] / length)


def _projected_weights(gram: Array) -> Array:
    """PCGrad: every projected gradient is a sum of the given ones, so coefficients will do."""
    num = gram.shape[0]
    projected = []
    for k in range(num):
        others = [j for j in range(num) if j != k]
        for order in permutations(others):
            coefficients = jnp.zeros(num).at[k].set(1.0)
            for j in order:
                conflict = jnp.minimum(coefficients @ gram[j], 0.0)
                share = conflict / jnp.maximum(gram[j, j], TINY**2)
                coefficients = coefficients.at[j].add(-share)
            projected.append(coefficients)
    return jnp.stack(projected).mean(0)


def _match(dots: Array, norm: Array, reference_norm: Array) -> Array:
    """Cosines with a reference from the dot products with it, in [0, 1]."""
    # At most 1: where gradients cancel, the reference is lost in the rounding of the sums.
    cosine = dots / jnp.maximum(norm, TINY) / jnp.maximum(reference_norm, TINY)
    return jnp.clip(cosine, 0.0, 1.0)


def _length(square: Array) -> Array:
    return jnp.sqrt(jnp.maximum(square, 0.0))


def variation_gradient(
    technique: Technique,
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    key: Array | None,
    *,
    in_turn: bool = False,
    in_parts: bool = True,
) -> tuple[Combined, Metrics]:
    """Take the gradient of ``loss`` on the batch of each variation and combine them.

    Args:
      technique: how to combine, and an augmentation of ``batch.obs``, if it has one.
      loss: see `Loss`.
      params: tree of trained parameters.
      batch: leaves ``[V, B, ...]``.
      key: randomness of the augmentation; None without one.
      in_turn: one variation after the other, as convolutions want it.
      in_parts: of those in turn, few samples at a time; the loss and its metrics are then means
        over the samples.

    Returns:
      The combined gradient (raveled as the parameters are) and the metrics of the
      loss averaged over variations.
    """
    if technique.rule is Rule.SHUFFLE:
        batch = _dealt_out(batch)
    batch = augmented(technique, key, batch)
    one = partial(jax.grad(loss, has_aux=True), params)
    if in_turn:
        tree, metrics = jax.lax.map(partial(_in_parts, one) if in_parts else one, batch)
    else:
        tree, metrics = jax.vmap(one)(batch)
    gradients = jax.vmap(lambda leaves: ravel_pytree(leaves)[0])(tree)
    return combine(technique, gradients), jax.tree.map(lambda value: value.mean(0), metrics)


def _in_parts(
    gradient: Callable[[PyTree], tuple[PyTree, Metrics]], batch: PyTree
) -> tuple[PyTree, Metrics]:
    """The gradient and the metrics of a batch ``[B, ...]`` as means over those of its parts."""
    size = jax.tree.leaves(batch)[0].shape[0]
    most = CACHED_SAMPLES if jax.default_backend() == "cpu" else size
    part = max(each for each in range(1, min(most, size) + 1) if size % each == 0)
    parts = jax.tree.map(lambda leaf: leaf.reshape(-1, part, *leaf.shape[1:]), batch)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(
        gradient, jax.tree.map(lambda leaf: leaf[0], parts)
    ))  # fmt: skip

    def add(total: PyTree, part_batch: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, gradient(part_batch)), None

    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda leaf: leaf * (part / size), total)


def half_gradients(loss: Loss, params: PyTree, rollout: PyTree) -> Array:
    """Take the gradient of ``loss`` on two halves of each variation's samples.

    Args:
      loss: see `Loss`.
      params: tree of trained parameters.
      rollout: what the loss reads, leaves ``[T, V, N, ...]``. The halves hold different
        environments and so share no sample; an odd one is split in time.

    Returns:
      Raveled gradients float32 ``[2, V, D]``.
    """
    gradient = jax.grad(loss, has_aux=True)

    def of_half(batch: PyTree) -> Array:
        return ravel_pytree(gradient(params, batch)[0])[0]

    return jax.vmap(jax.vmap(of_half))(jax.tree.map(_halves, rollout))


def _halves(leaf: Array) -> Array:
    """``[T, V, N, ...]`` -> ``[2, V, B, ...]``."""
    by_environment = jnp.moveaxis(leaf, 0, 2)
    samples = by_environment.reshape(leaf.shape[1], -1, *leaf.shape[3:])
    half = samples.shape[1] // 2
    return jnp.stack([samples[:, :half], samples[:, half : 2 * half]])


def _dealt_out(batch: PyTree) -> PyTree:
    """Move sample b of variation v, leaves ``[V, B, ...]``, to group (v + b) modulo V.

    Minibatches are in random order, so that every group is a random sample of all variations.
    """
    num, size = jax.tree.leaves(batch)[0].shape[:2]
    source = (np.arange(num)[:, None] - np.arange(size)) % num
    return jax.tree.map(lambda leaf: leaf[source, np.arange(size)], batch)


def dot_products(vectors: Array) -> Array:
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
