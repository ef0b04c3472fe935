"""Convolutions and encoders against XLA's own and flax's."""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jaxgen.nn.vision import convolve, encoder, max_pool, readable

SHAPES = [
    # stride, padding, kernel, width; the last one leaves rows that no window reaches.
    (1, 1, 3, 8), (4, 0, 8, 64), (2, 0, 4, 15), (1, 0, 3, 6), (4, 0, 8, 66),
]  # fmt: skip


def xla(images, kernel, stride, padding):
    """The convolution with the gradients that XLA derives."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=layout
    )


def example(width: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(0)
    images = numbers.normal(size=(3, width, width, 5))
    return images.astype(np.float32), numbers.normal(size=(size, size, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("stride, padding, size, width", SHAPES)
def test_both_gradients_are_those_of_xla(stride, padding, size, width):
    images, kernel = example(width, size)

    def gradients(convolution):
        loss = lambda *args: jnp.sin(convolution(*args, stride, padding)).sum()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss, (0, 1)))(images, kernel)

    (ours, our_gradients), (expected, theirs) = gradients(convolve), gradients(xla)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
    for one, other in zip(our_gradients, theirs, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, atol=1e-4 * scale)


@pytest.mark.parametrize("shape", [(9, 14), (14, 9), (11, 8)])
def test_gradients_of_images_that_are_not_square_are_those_of_xla(shape):
    """Other numbers of rows than of columns are left that no window reaches."""
    numbers = np.random.default_rng(0)
    images = numbers.normal(size=(2, *shape, 2)).astype(np.float32)
    kernel = numbers.normal(size=(4, 4, 2, 3)).astype(np.float32)

    def gradients(convolution):
        loss = lambda *args: jnp.sin(convolution(*args, 3, 0)).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, (0, 1)))(images, kernel)

    for one, other in zip(gradients(convolve), gradients(xla), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("network, side", [("nature", 36), ("impala", 8), ("impala", 16)])
def test_the_smallest_images_that_an_encoder_reads(network, side):
    """Traced: with one row less nothing is left of an image, or its halves do not fit."""

    def numbers_left(height: int, width: int) -> int:
        images = jnp.zeros((2, height, width, 3), jnp.uint8)
        init = encoder(network, (4,)).init
        params = jax.eval_shape(init, jax.random.key(0), images)["params"]
        return params["Dense_0"]["kernel"].shape[0]

    assert readable(network, side, side) and numbers_left(side, side) > 0
    for sides in ((side - 1, side), (side, side - 1)):
        assert not readable(network, *sides)
        with contextlib.suppress(TypeError, ValueError):
            assert numbers_left(*sides) == 0


def test_gradients_in_a_loop_are_those_outside_of_it():
    """Canonical convolutions are what XLA makes fast; here only that they are the same ones."""
    images, kernel = example(8, 3)
    batches = np.stack([images, 2 * images])
    gradient = jax.grad(lambda kernel, images: jnp.sin(convolve(images, kernel, 1, 1)).sum())
    looped = jax.jit(lambda: jax.lax.map(lambda own: gradient(kernel, own), batches))()
    alone = np.stack([jax.jit(gradient)(kernel, own) for own in batches])
    np.testing.assert_allclose(looped, alone, rtol=1e-5, atol=1e-4)


def test_the_backward_convolutions_are_canonical():
    """What makes a loop fast on a CPU: every convolution of the gradient is NHWC by HWIO."""
    images, kernel = example(8, 3)
    gradient = jax.grad(lambda args: jnp.sin(convolve(*args, 1, 1)).sum())
    found = list(convolutions(jax.make_jaxpr(gradient)((images, kernel)).jaxpr))
    layout = jax.lax.conv_dimension_numbers((1,) * 4, (1,) * 4, ("NHWC", "HWIO", "NHWC"))
    assert found == [layout] * 3


def convolutions(jaxpr):
    """The layouts of all convolutions in a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            yield equation.params["dimension_numbers"]
        for inner in equation.params.values():
            if hasattr(inner, "jaxpr"):
                yield from convolutions(inner.jaxpr)


def test_max_pool_is_flaxs_with_its_gradient():
    images = np.random.default_rng(1).normal(size=(2, 8, 6, 3)).astype(np.float32)
    weights = np.random.default_rng(2).normal(size=(2, 4, 3, 3)).astype(np.float32)

    def theirs(images):
        return linen.max_pool(images, (3, 3), (2, 2), "SAME")

    def with_gradient(pool):
        gradient = jax.grad(lambda x: (pool(x) * weights).sum())
        return jax.jit(lambda x: (pool(x), gradient(x)))(images)

    (ours, our_gradient), (expected, gradient) = with_gradient(max_pool), with_gradient(theirs)
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_allclose(our_gradient, gradient, rtol=1e-6)


# By hand, for 64 x 64 x 3: kernels and biases of each layer.
NATURE = (8 * 8 * 3 * 32 + 32) + (4 * 4 * 32 * 64 + 64) + (3 * 3 * 64 * 64 + 64)
NATURE += (4 * 4 * 64 * 256 + 256) + (256 * 256 + 256)
BLOCKS = [(3, 16), (16, 32), (32, 32)]
IMPALA = sum(9 * i * o + o + 4 * (9 * o * o + o) for i, o in BLOCKS) + (8 * 8 * 32 * 256 + 256)


def scaled_kernel(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Random numbers that keep the scale of activations; biases of 0."""
    if len(leaf.shape) == 1:
        return np.zeros(leaf.shape, np.float32)
    numbers = np.random.default_rng(4).normal(size=leaf.shape)
    return (numbers * (2 / math.prod(leaf.shape[:-1])) ** 0.5).astype(np.float32)


@pytest.mark.parametrize("name, hidden, count", [
    ("nature", (256, 256), NATURE), ("impala", (256,), IMPALA),
])  # fmt: skip
def test_encoders_have_the_published_size_and_see_images_in_unit_range(name, hidden, count):
    module = encoder(name, hidden)
    images = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)

    def first(key, last):
        """Of the first parameters, those with this last name; the others are not compiled."""
        leaves = jax.tree.leaves_with_path(module.init(key, images))
        return [leaf for path, leaf in leaves if path[-1].key == last]

    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
    biases = jax.jit(first, static_argnums=1)(jax.random.key(0), "bias")
    assert 2 * len(biases) == len(jax.tree.leaves(shapes))
    assert not any(np.asarray(bias).any() for bias in biases)
    apply, params = jax.jit(module.apply), jax.tree.map(scaled_kernel, shapes)
    features = apply(params, images)
    assert features.shape == (2, 256) and features.dtype == jnp.float32
    # Bytes of 0 and biases of 0 give features of 0: nothing but the division is done to images.
    np.testing.assert_array_equal(apply(params, np.zeros_like(images)), 0)
    assert (np.asarray(features) > 0).any()
