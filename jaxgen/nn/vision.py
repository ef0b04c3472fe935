"""Encoders: of images, uint8 ``[..., H, W, C]`` -> features, and registered ones; linen modules.

XLA brings convolutions into the form that a CPU is fast at only where they stand in the outermost
computation: the gradients of one inside a loop run forty times slower (`benchmarks/NOTES.md`). Here
both gradients are written in that form (images NHWC, kernels HWIO), so that a loop may hold them.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from jaxgen.study.cards.base import resolve
from jaxgen.study.networks import NETWORKS
from jaxgen.system.errors import BadInput
from jaxgen.types import Array

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(images: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Convolve ``[B, H, W, I]`` with ``[K, K, I, O]`` -> ``[B, H', W', O]``; zeros lie beyond."""
    return _convolve(images, kernel, stride, [(padding, padding)] * 2)


def _convolve(
    images: Array, kernel: Array, stride: int, padding: list[tuple[int, int]], spread: int = 1,
    dilation: int = 1,
) -> Array:
    """``spread`` puts images' numbers so far apart, ``dilation`` the kernel's."""
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, (spread, spread), (dilation, dilation), _LAYOUT
    )


def _forward(images: Array, kernel: Array, stride: int, padding: int):
    return convolve(images, kernel, stride, padding), (images, kernel)


def _backward(stride: int, padding: int, residuals: tuple[Array, Array], outer: Array):
    images, kernel = residuals
    size = kernel.shape[0]
    # Rows and columns at the end that no window reaches.
    left = [(side + 2 * padding - size) % stride for side in images.shape[1:3]]
    around = size - 1 - padding
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    to_images = _convolve(
        outer, turned, 1, [(around, around + more) for more in left], spread=stride
    )
    channels_first, as_kernel = images.transpose(3, 1, 2, 0), outer.transpose(1, 2, 0, 3)
    to_kernel = _convolve(
        channels_first, as_kernel, 1, [(padding, padding - less) for less in left], dilation=stride
    )
    return to_images, to_kernel.transpose(1, 2, 0, 3)


convolve.defvjp(_forward, _backward)


def max_pool(images: Array) -> Array:
    """Maxima over windows of 3 x 3 at every second pixel: ``[B, H, W, C]`` -> ``[B, H/2, W/2, C]``.

    H and W are even; windows reach one pixel beyond the end. Maxima of slices, because the gradient
    of a windowed reduction is a scalar loop on a CPU.
    """
    padded = jnp.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-jnp.inf)
    height, width = images.shape[1:3]
    rows = [padded[:, i : height + i : 2] for i in range(3)]
    highest = jnp.maximum(jnp.maximum(rows[0], rows[1]), rows[2])
    columns = [highest[:, :, i : width + i : 2] for i in range(3)]
    return jnp.maximum(jnp.maximum(columns[0], columns[1]), columns[2])


class Convolution(linen.Module):
    """A convolution with bias over square windows."""

    features: int
    size: int
    stride: int = 1
    padding: int = 0
    kernel_init: linen.initializers.Initializer = linen.initializers.orthogonal(2**0.5)

    @linen.compact
    def __call__(self, x: Array) -> Array:
        """``[B, H, W, C]`` -> ``[B, H', W', features]``."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", linen.initializers.zeros, (self.features,), jnp.float32)
        convolved: Any = convolve(x, kernel, self.stride, self.padding)
        return convolved + bias[None, None, None]


class NatureEncoder(linen.Module):
    """Three convolutions (Mnih et al. 2015), then hidden layers, all with ReLU."""

    hidden: tuple[int, ...]

    @linen.compact
    def __call__(self, images: Array) -> Array:
        """uint8 ``[B, H, W, C]`` -> float32 ``[B, hidden[-1]]``."""
        x = _unit(images)
        for features, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            x = jax.nn.relu(Convolution(features, size, stride)(x))
        return _dense(x.reshape(x.shape[0], -1), self.hidden)


class ImpalaEncoder(linen.Module):
    """Residual network (Espeholt et al. 2018, figure 3, without the LSTM), then hidden layers."""

    hidden: tuple[int, ...]
    depths: tuple[int, ...] = (16, 32, 32)

    @linen.compact
    def __call__(self, images: Array) -> Array:
        """uint8 ``[B, H, W, C]`` -> float32 ``[B, hidden[-1]]``."""
        convolution = partial(
            Convolution, size=3, padding=1, kernel_init=linen.initializers.glorot_uniform()
        )
        x = _unit(images)
        for depth in self.depths:
            x = max_pool(convolution(depth)(x))
            for _ in range(2):
                inner = convolution(depth)(jax.nn.relu(x))
                x = x + convolution(depth)(jax.nn.relu(inner))
        return _dense(jax.nn.relu(x).reshape(x.shape[0], -1), self.hidden)


def encoder(network: str, hidden: tuple[int, ...]) -> linen.Module:
    """The encoder that a name stands for; BadInput: what was registered makes none."""
    make = NETWORKS[network]
    assert make is not None, "an mlp has no encoder"
    module = resolve(make)(hidden)
    if not isinstance(module, linen.Module):
        raise BadInput(
            f"network {network!r}: {make} gives a {type(module).__name__}; it must be a function "
            "(hidden) -> flax.linen.Module"
        )
    return module


SIDES = {"nature": "sides of 36 or more", "impala": "sides that are multiples of 8"}
"""Images that an encoder can read."""


def readable(network: str, height: int, width: int) -> bool:
    """Whether an encoder can read images of this size, as `SIDES` says."""
    if network == "nature":
        return min(height, width) >= 36
    return height % 8 == width % 8 == 0


def _unit(images: Array) -> Array:
    return images.astype(jnp.float32) / 255


def _dense(x: Array, widths: tuple[int, ...]) -> Array:
    for width in widths:
        kernel_init = linen.initializers.orthogonal(2**0.5)
        x = jax.nn.relu(linen.Dense(width, kernel_init=kernel_init)(x))
    return x
