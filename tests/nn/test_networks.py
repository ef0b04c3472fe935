"""Networks over flat vectors, their encodings and their initialisation."""

import dataclasses
import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxgen.nn import layers, networks
from jaxgen.types import Codes, Discrete, EnvSpec, Image, Numbers

CODES = EnvSpec("codes", Codes((4,), 5), Discrete(3), 10)
NUMBERS = EnvSpec("numbers", Numbers((-2.0, 0.0), (2.0, 10.0)), Discrete(2), 10)

# Eagerly every operation is a program to compile: what many of them make is compiled as one.


def encoded(spec: EnvSpec, encoding: str, obs: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(layers.encode(spec, encoding))(obs))


@cache
def of_numbers() -> tuple[networks.Network, jax.Array]:
    """A policy and a value of numbers, and its first vector."""
    network = networks.actor_critic(NUMBERS, 2, (8,), encoding="raw")
    return network, jax.jit(network.init)(jax.random.key(0))


def normal(*shape: int) -> np.ndarray:
    """Standard normal numbers, which depend on the shape alone."""
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def test_one_hot_gives_every_code_an_input():
    """Code-major: input 4 c + i says whether cell i shows code c; exactly one per cell."""
    obs = np.array([[0, 4, 2, 2], [1, 1, 3, 0]], np.uint8)
    inputs = encoded(CODES, "one_hot", obs).reshape(2, 5, 4)
    np.testing.assert_array_equal(inputs.sum(1), 1)
    np.testing.assert_array_equal(inputs.argmax(1), obs)
    assert inputs.dtype == np.float32


def test_codes_below_the_first_have_no_inputs():
    """Codes 1 to 4: input 4 (c - 1) + i says whether cell i shows code c."""
    spec = dataclasses.replace(CODES, observation=Codes((4,), 5, first=1))
    obs = np.array([1, 4, 2, 3], np.uint8)
    inputs = encoded(spec, "one_hot", obs).reshape(4, 4)
    np.testing.assert_array_equal(inputs.argmax(0) + 1, obs)
    np.testing.assert_array_equal(inputs.sum(0), 1)


@partial(jax.jit, static_argnums=0)
def value_and_gradients(product, inputs, kernel, outer):
    """Of a product, in a program of its own."""
    value, back = jax.vjp(product, inputs, kernel)
    return value, back(outer)


@pytest.mark.parametrize("shape", [(), (5,), (40, 2)])
@pytest.mark.parametrize("num_outputs", [1, 3])
@pytest.mark.parametrize("product", [layers._narrow_product, layers._turned_product])
def test_gradients_are_those_of_a_matrix_product(product, shape, num_outputs):
    numbers = normal(*shape, 7), normal(7, num_outputs), normal(*shape, num_outputs)
    ours, gradients = value_and_gradients(product, *numbers)
    expected, expected_gradients = value_and_gradients(jnp.matmul, *numbers)
    np.testing.assert_array_equal(ours, expected)
    for own, reference in zip(gradients, expected_gradients):
        assert own.shape == reference.shape
        np.testing.assert_allclose(own, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (5,), (40, 2)])
@pytest.mark.parametrize("num_codes", [2, 4])
@pytest.mark.parametrize("width", [3, 700])
def test_the_product_of_one_hot_inputs_is_a_matrix_product(num_codes, width, shape):
    """In value and gradient, though the first code's inputs take no part; small and large."""
    codes = np.random.default_rng(0).integers(0, num_codes, (*shape, 6))
    spec = dataclasses.replace(CODES, observation=Codes((6,), num_codes))
    encode = layers.encode(spec, "one_hot")
    kernel, outer = normal(6 * num_codes, width), normal(*shape, width)

    @jax.jit
    def both(codes, kernel, outer):
        inputs = encode(codes)
        ours, back = jax.vjp(partial(layers._one_hot_product, num_codes, inputs), kernel)
        expected, expected_back = jax.vjp(lambda kernel: inputs @ kernel, kernel)
        return (ours, *back(outer)), (expected, *expected_back(outer))

    (ours, gradient), (expected, expected_gradient) = both(codes, kernel, outer)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=2e-5)


def test_unit_brings_each_number_into_0_1():
    """(-2, 0) and (2, 10) are the corners; codes 0 to 4 become quarters."""
    obs = np.array([[-2.0, 0.0], [2.0, 10.0], [0.0, 2.5]], np.float32)
    ours = encoded(NUMBERS, "unit", obs)
    np.testing.assert_allclose(ours, [[0, 0], [1, 1], [0.5, 0.25]], atol=1e-6)
    codes = encoded(CODES, "unit", np.array([0, 1, 2, 4], np.uint8))
    np.testing.assert_allclose(codes, [0, 0.25, 0.5, 1], atol=1e-6)


INF, FLOAT32 = math.inf, float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    "low, high",
    [(-INF, INF), (0.0, INF), (-INF, 0.0), (0.3, 0.3), (-FLOAT32, FLOAT32), (-1e39, 1e39),
     (0.0, 1e-40)],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_a_number_that_cannot_be_scaled_stays_raw(low, high):
    """Infinite ends, equal ones, and a range that float32 does not have; the others are scaled."""
    spec = dataclasses.replace(NUMBERS, observation=Numbers((low, 0.0), (high, 10.0)))
    obs = np.array([[0.3, 5.0], [-7.0, 10.0], [0.0, 0.0]], np.float32)
    expected = np.array([[0.3, 0.5], [-7.0, 1.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(encoded(spec, "unit", obs), expected, rtol=1e-6)


@pytest.mark.parametrize("encoding", layers.ENCODINGS)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_a_single_code_is_an_observation(encoding, lead):
    """Of shape (): all axes are leading ones."""
    spec = dataclasses.replace(CODES, observation=Codes((), 5))
    obs = np.random.default_rng(0).integers(0, 5, lead).astype(np.uint8)
    inputs = encoded(spec, encoding, obs)
    if encoding == "one_hot":
        np.testing.assert_array_equal(inputs, np.eye(5)[obs])
    else:
        np.testing.assert_allclose(inputs, obs[..., None] / (4 if encoding == "unit" else 1))


def test_raw_passes_numbers_and_one_hot_needs_codes():
    obs = np.array([[-7.0, 3.0]], np.float32)
    for encoding in ("raw", "one_hot"):
        np.testing.assert_array_equal(encoded(NUMBERS, encoding, obs), obs)


def test_an_unknown_encoding_is_refused():
    with pytest.raises(ValueError, match="unknown encoding 'rgb'; allowed: raw, unit, one_hot"):
        layers.encode(NUMBERS, "rgb")


@pytest.mark.parametrize("shape", [(), (5,), (3, 2)])
def test_networks_take_any_leading_shape(shape):
    network = networks.actor_critic(CODES, 3, (8, 6), encoding="one_hot")
    params = normal(*jax.eval_shape(network.init, jax.random.key(0)).shape)
    obs = np.random.default_rng(1).integers(0, 5, (*shape, 4), np.uint8)
    logits, values = jax.jit(lambda p, obs: network.apply(network.unravel(p), obs))(params, obs)
    assert logits.shape == (*shape, 3)
    assert values.shape == shape
    # (20 x 8 + 8) + (8 x 6 + 6) = 222 for each trunk, 6 x 3 + 3 and 6 + 1 for the heads.
    assert params.shape == (2 * 222 + 21 + 7,)


def test_unravel_is_the_inverse_of_the_initial_flattening():
    network, params = of_layers(), first_of_layers(1.0)
    flat = jax.jit(lambda vector: ravel_pytree(network.unravel(vector))[0])(params)
    np.testing.assert_array_equal(flat, params)


def of_layers(head_scale: Any = 1.0) -> networks.Network:
    return networks.mlp(NUMBERS, 3, (8, 8), encoding="raw", head_scale=head_scale)


@jax.jit
def first_of_layers(head_scale):
    """The first vector of `of_layers`."""
    return of_layers(head_scale).init(jax.random.key(0))


def singular_values(dense: dict) -> np.ndarray:
    """Of the kernel of a layer; its bias starts at 0."""
    assert not np.asarray(dense["bias"]).any()
    return np.linalg.svd(np.asarray(dense["kernel"]), compute_uv=False)


@pytest.mark.parametrize("head_scale", [0.01, 1.0])
def test_layers_start_orthogonal(head_scale):
    """All singular values of a hidden layer are sqrt 2, of the head its gain."""
    params: Any = np.asarray(first_of_layers(head_scale))
    tree = of_layers().unravel(params).trained
    for layer, gain in ((0, 2**0.5), (1, 2**0.5), (2, head_scale)):
        np.testing.assert_allclose(singular_values(tree[f"Dense_{layer}"]), gain, rtol=1e-4)


def test_layers_start_as_lecun_says():
    """Variances are one by the number of inputs; the head's is that times its gain squared."""
    network = networks.mlp(
        NUMBERS, 50, (400, 400), encoding="raw", head_scale=0.1, initialisation="lecun"
    )
    tree = network.unravel(jax.jit(network.init)(jax.random.key(0))).trained
    for layer, variance in ((1, 1 / 400), (2, 0.01 / 400)):
        weights = np.asarray(tree[f"Dense_{layer}"]["kernel"])
        np.testing.assert_allclose(weights.var(), variance, rtol=0.05)
        assert abs(weights.mean()) < 4 * (variance / weights.size) ** 0.5


def test_actor_and_critic_share_nothing():
    """The value does not depend on the policy's half of the parameters, nor the other way."""
    (network, params), obs = of_numbers(), jnp.array([0.3, -0.4])

    @jax.jit
    def gradients(params):
        of_value = jax.grad(lambda p: network.apply(network.unravel(p), obs)[1])(params)
        of_policy = jax.grad(lambda p: network.apply(network.unravel(p), obs)[0][0])(params)
        return of_value, of_policy

    of_value, of_policy = gradients(params)
    assert not np.any((np.asarray(of_value) != 0) & (np.asarray(of_policy) != 0))
    assert (np.asarray(of_value) != 0).sum() > 10 and (np.asarray(of_policy) != 0).sum() > 10


def test_actor_and_critic_start_with_their_gains():
    network, params = of_numbers()
    tree = network.unravel(np.asarray(params))  # pyright: ignore
    heads = {name: tree.trained[name]["Dense_1"]["kernel"] for name in ("actor", "critic")}
    for name, gain in (("actor", 0.01), ("critic", 1.0)):
        values = np.linalg.svd(np.asarray(heads[name]), compute_uv=False)
        np.testing.assert_allclose(values, gain, rtol=1e-4)


@pytest.mark.parametrize("network", ["nature", "impala"])
def test_encoders_of_images_refuse_other_observations(network):
    spec = EnvSpec("cartpole", Numbers((0.0,) * 4, (1.0,) * 4), Discrete(2), 500)
    message = "cannot read cartpole, whose observations are float32 .4.: use network = 'mlp'"
    with pytest.raises(ValueError, match=message):
        networks.actor_critic(spec, 2, (8,), encoding="raw", network=network)
    with pytest.raises(ValueError, match=message):
        networks.single(spec, 2, (8,), network=network, encoding="raw", head_scale=1.0)


def test_images_may_have_any_leading_shape():
    """Logits and values of each image alone are those of all together."""
    spec = EnvSpec("picture", Image(64, 64, 3), Discrete(5), 100)
    network = networks.actor_critic(spec, 5, (8,), encoding="raw", network="nature")
    bits = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3))
    shapes = jax.eval_shape(lambda key: network.unravel(network.init(key)), jax.random.key(0))
    # Numbers as large as the first ones, but for the heads', so that logits are as values.
    scaled = lambda shape: normal(*shape) / math.prod(shape[:-1]) ** 0.5  # noqa: E731
    tree = jax.tree.map(lambda leaf: scaled(leaf.shape), shapes)
    images, read = bits.astype(np.uint8), jax.jit(network.apply)
    logits, values = jax.tree.map(np.asarray, read(tree, images))
    assert logits.shape == (2, 3, 5) and values.shape == (2, 3)
    alone = read(tree, images[1, 2])
    np.testing.assert_allclose(alone[0], logits[1, 2], atol=1e-5)
    np.testing.assert_allclose(alone[1], values[1, 2], atol=1e-5)
    # Images differ by far more than that.
    assert logits.std(axis=(0, 1)).min() > 0.01 and values.std() > 0.01
