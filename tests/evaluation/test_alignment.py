"""Hidden units in another order: a shuffled copy is found again, bit by bit."""

from itertools import permutations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.evaluation.connectivity.alignment import aligned
from jaxgen.nn.layers import MLP

OBS = jax.random.normal(jax.random.key(9), (50, 4))
ACTIVATIONS: dict[str, Any] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def network(activation: str, hidden: tuple[int, ...] = (64, 64)) -> MLP:
    return MLP(hidden, 2, 1.0, ACTIVATIONS[activation], initialisation="uniform")


def params_of(module: MLP, seed: int) -> Any:
    return jax.tree.map(np.asarray, module.init(jax.random.key(seed), OBS)["params"])


def outputs(module: MLP, params: Any) -> Any:
    return module.apply({"params": params}, OBS)


def shuffled(params: Any, odd: bool, seed: int = 0) -> Any:
    """The same network with its hidden units in another order, of some of which signs turn."""
    random = np.random.default_rng(seed)
    layers = [dict(params[name]) for name in sorted(params)]
    for number in range(len(layers) - 1):
        width = len(layers[number]["bias"])
        order = random.permutation(width)
        sign = random.choice([-1, 1], width) if odd else np.ones(width)
        sign = sign.astype(np.float32)
        layers[number]["kernel"] = layers[number]["kernel"][:, order] * sign
        layers[number]["bias"] = layers[number]["bias"][order] * sign
        following = layers[number + 1]
        following["kernel"] = following["kernel"][order] * sign[:, None]
    return {f"Dense_{number}": layer for number, layer in enumerate(layers)}


def distance(one: Any, other: Any) -> float:
    leaves: list[Any] = [jax.tree.leaves(one), jax.tree.leaves(other)]
    pairs = zip(*leaves, strict=True)
    return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in pairs)))


@pytest.mark.parametrize("hidden", [(16,), (64, 64), (32, 64, 16)])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_shuffled_copy_is_found_again(activation, hidden):
    module, odd = network(activation, hidden), activation == "tanh"
    params = params_of(module, 0)
    other = shuffled(params, odd)
    assert distance(params, other) > 1
    np.testing.assert_allclose(outputs(module, other), outputs(module, params), atol=1e-5)
    found = aligned(params, other, odd)
    jax.tree.map(np.testing.assert_array_equal, found, params)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_another_network_computes_what_it_did_and_is_nearer(activation):
    module, odd = network(activation), activation == "tanh"
    first, second = params_of(module, 0), params_of(module, 1)
    found = aligned(first, second, odd)
    np.testing.assert_allclose(outputs(module, found), outputs(module, second), atol=1e-5)
    assert distance(first, found) < 0.95 * distance(first, second)


def test_of_one_small_layer_the_best_order_is_found():
    """Beside all 120 orders of 5 units."""
    module = network("relu", (5,))
    first, second = params_of(module, 0), params_of(module, 1)
    found = distance(first, aligned(first, second, odd=False))
    every = []
    for order in map(list, permutations(range(5))):
        hidden, head = second["Dense_0"], second["Dense_1"]
        every.append(distance(first, {
            "Dense_0": {"kernel": hidden["kernel"][:, order], "bias": hidden["bias"][order]},
            "Dense_1": head | {"kernel": head["kernel"][order]},
        }))  # fmt: skip
    assert len(every) == 120 and found == pytest.approx(min(every), rel=1e-6)


def test_networks_in_a_tree_and_on_a_leading_axis_are_aligned_each():
    """Free numbers beside them stay."""
    module = network("relu", (16, 16))
    pair = [params_of(module, seed) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *pair)
    others = [shuffled(each, False, 5 + number) for number, each in enumerate(pair)]
    other = jax.tree.map(lambda *leaves: np.stack(leaves), *others)
    first = {"critics": stacked, "free": np.zeros(2, np.float32)}
    second = {"critics": other, "free": np.ones(2, np.float32)}
    found = aligned(first, second, odd=False)
    jax.tree.map(np.testing.assert_array_equal, found["critics"], stacked)
    np.testing.assert_array_equal(found["free"], [1, 1])


def test_other_layers_are_refused():
    module = MLP((8,), 2, 1.0, jax.nn.relu, normalized=True)
    params = jax.tree.map(np.asarray, module.init(jax.random.key(0), OBS)["params"])
    with pytest.raises(ValueError, match="layers BatchNorm_0, BatchNorm_1 cannot be aligned"):
        aligned(params, params, odd=False)
