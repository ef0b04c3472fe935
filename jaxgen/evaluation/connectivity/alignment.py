"""Permutations of hidden units that bring one network near another one.

A multilayer perceptron computes the same with its hidden units in another order, and, where its
activation is odd as tanh is, with the signs of a unit's weights turned. So the line between two
networks depends on an order that means nothing. Weights are matched layer by layer, by linear
assignment, until nothing changes (Ainsworth et al. 2023, arXiv 2209.04836, algorithm 1). numpy and
scipy only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

MAX_PASSES = 100


class Dense(NamedTuple):
    """A layer: kernel ``[I, O]`` and bias ``[O]``."""

    kernel: np.ndarray
    bias: np.ndarray


def aligned(first: Any, second: Any, odd: bool) -> Any:
    """Turn the second network into one that computes the same, and whose weights are like the
    first's.

    Args:
      first: the trained parameters of an MLP as `jaxgen.nn.layers.MLP` has them, or a tree of such
        networks; kernels ``[..., I, O]``, where each index of the leading axes is a network.
      second: a tree of the same shapes.
      odd: the activation is, so that signs may be turned.

    Returns:
      The second tree with its hidden units in another order, of its dtypes.

    Raises:
      ValueError: a tree holds layers that are not dense.
    """
    if not isinstance(first, Mapping):
        return second
    names = _dense_names(first)
    if not names:
        return {name: aligned(first[name], second[name], odd) for name in first}
    ours, theirs = ([_layer(tree[name]) for name in names] for tree in (first, second))
    lead = ours[0].bias.shape[:-1]
    result = [Dense(layer.kernel.copy(), layer.bias.copy()) for layer in theirs]
    for index in np.ndindex(*lead):
        one, other = (
            [Dense(layer.kernel[index], layer.bias[index]) for layer in net]
            for net in (ours, theirs)
        )
        for layer, found in zip(result, _align(one, other, odd), strict=True):
            layer.kernel[index], layer.bias[index] = found
    return {name: layer._asdict() for name, layer in zip(names, result, strict=True)}


def shuffled(tree: Any, odd: bool, seed: int) -> Any:
    """Put the hidden units of networks into a random order, and turn the signs of half of them.

    Arguments and errors are those of `aligned`; all networks on leading axes get the same order.
    """
    if not isinstance(tree, Mapping):
        return tree
    names = _dense_names(tree)
    if not names:
        return {name: shuffled(tree[name], odd, seed) for name in tree}
    random, layers = np.random.default_rng(seed), [_layer(tree[name]) for name in names]
    for number in range(len(layers) - 1):
        layer, following = layers[number], layers[number + 1]
        width = layer.bias.shape[-1]
        order = random.permutation(width)
        sign = random.choice([-1, 1] if odd else [1], width).astype(layer.bias.dtype)
        layers[number] = Dense(layer.kernel[..., order] * sign, layer.bias[..., order] * sign)
        layers[number + 1] = following._replace(
            kernel=following.kernel[..., order, :] * sign[:, None]
        )
    return {name: layer._asdict() for name, layer in zip(names, layers, strict=True)}


def _dense_names(tree: Mapping[str, Any]) -> list[str]:
    """The layers of a network in their order; none where a tree holds networks.

    Raises ValueError where there are others among them.
    """
    names = [name for name in tree if name.startswith("Dense_")]
    if names and len(names) != len(tree):
        others = ", ".join(sorted(set(tree) - set(names)))
        raise ValueError(f"layers {others} cannot be aligned; use a network of dense layers alone")
    return sorted(names, key=lambda name: int(name.removeprefix("Dense_")))


def _layer(tree: Mapping[str, Any]) -> Dense:
    return Dense(np.asarray(tree["kernel"]), np.asarray(tree["bias"]))


def _align(first: Sequence[Dense], second: Sequence[Dense], odd: bool) -> Sequence[Dense]:
    """The better of two ways to begin: as it is, and by what comes into each layer alone."""
    found = []
    for begins_with_inputs in (False, True):
        layers = list(second)
        if begins_with_inputs:
            for number in range(len(layers) - 1):
                _match(first, layers, number, odd, outgoing=False)
        for _ in range(MAX_PASSES):
            changed = [_match(first, layers, number, odd) for number in range(len(layers) - 1)]
            if not any(changed):
                break
        found.append(layers)
    return max(found, key=lambda layers: _likeness(first, layers))


def _match(
    first: Sequence[Dense], layers: list[Dense], number: int, odd: bool, outgoing: bool = True
) -> bool:
    """Order the units of a hidden layer by their weights; say whether anything changed."""
    ours, theirs = first[number], layers[number]
    score = ours.kernel.T @ theirs.kernel + np.outer(ours.bias, theirs.bias)
    if outgoing:
        score = score + first[number + 1].kernel @ layers[number + 1].kernel.T
    _, order = linear_sum_assignment(np.abs(score) if odd else score, maximize=True)
    sign = np.ones(len(order), theirs.kernel.dtype)
    if odd:
        sign[score[np.arange(len(order)), order] < 0] = -1
    following = layers[number + 1]
    layers[number] = Dense(theirs.kernel[:, order] * sign, theirs.bias[order] * sign)
    layers[number + 1] = following._replace(kernel=following.kernel[order] * sign[:, None])
    return bool((order != np.arange(len(order))).any() or (sign < 0).any())


def _likeness(first: Sequence[Dense], layers: Sequence[Dense]) -> float:
    """The sum of products of all weights: the squared distance is smaller where it is larger."""
    return sum(
        float(np.vdot(one, other))
        for ours, theirs in zip(first, layers, strict=True)
        for one, other in zip(ours, theirs, strict=True)
    )
