"""The layers of multilayer perceptrons: encoded inputs, products of matrices, initial weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from jaxgen.types import Array, Codes, EnvSpec

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu, "tanh": jnp.tanh, "elu": jax.nn.elu, "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}  # fmt: skip
"""Those of `jaxgen.study.networks.ACTIVATIONS`."""

ENCODINGS = ("raw", "unit", "one_hot")


def encode(spec: EnvSpec, encoding: str) -> Callable[[Array], Array]:
    """Return the map from observations ``[..., *obs_shape]`` to network inputs ``[..., F]``.

    ``raw`` passes numbers as they are, ``unit`` brings each into [0, 1] by the spec's
    range, but for those that have none, ``one_hot`` gives every integer code that occurs an input
    (numbers stay raw).
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"unknown encoding {encoding!r}; allowed: {', '.join(ENCODINGS)}")
    low, scale = _ranges(spec)
    codes = one_hot_codes(spec, encoding)

    def by_observation(obs: Array) -> Array:
        return obs.reshape(*obs.shape[: obs.ndim - len(spec.obs_shape)], -1)

    def one_hot(obs: Array) -> Array:
        flat = by_observation(obs)
        # Code-major, a block per code: a single comparison of all codes with all elements looks
        # every element up by a division, which takes several times as long.
        return jnp.concatenate([(flat == code).astype(jnp.float32) for code in codes], axis=-1)

    def numbers(obs: Array) -> Array:
        inputs = by_observation(obs).astype(jnp.float32)
        if encoding == "unit":
            inputs = (inputs - _expand(low, inputs)) * _expand(scale, inputs)
        return inputs

    return one_hot if codes else numbers


def _ranges(spec: EnvSpec) -> tuple[np.ndarray, np.ndarray]:
    """Lower ends and 1 / width of the ranges of numbers; 0 and 1 where float32 has no such."""
    with np.errstate(all="ignore"):
        low, high = (
            np.asarray(end, np.float32) for end in (spec.observation.low, spec.observation.high)
        )
        scale = 1 / (high - low)
    scaled = np.isfinite(scale) & (scale > 0)
    return np.where(scaled, low, np.float32(0)), np.where(scaled, scale, np.float32(1))


def one_hot_codes(spec: EnvSpec, encoding: str) -> range:
    """The codes that get an input for each element of an observation; none for numbers."""
    codes = spec.observation
    if encoding != "one_hot" or not isinstance(codes, Codes):
        return range(0)
    return range(codes.first, codes.num)


class MLP(linen.Module):
    """Dense layers, ``[..., F]`` -> ``[..., num_outputs]``."""

    hidden: tuple[int, ...]
    num_outputs: int
    head_scale: float
    activation: Callable[[Array], Array]
    num_codes: int = 0
    """Codes of one-hot inputs; 0: the inputs are numbers."""
    initialisation: str = "orthogonal"
    normalized: bool = False
    """What goes into a layer has mean 0 and deviation 1 over the batch; running statistics are in
    the collection ``batch_stats``."""

    @linen.compact
    def __call__(self, x: Array, measures: bool = False) -> Array:
        """``[..., F]`` -> ``[..., num_outputs]``.

        With ``measures`` a normalised network takes the statistics of this batch, and its running
        ones move by a hundredth to them; else it takes the running ones.
        """
        product = partial(_one_hot_product, self.num_codes) if self.num_codes else _hidden_product
        of_hidden, of_head, of_bias = INITIALISERS[self.initialisation]
        for width in self.hidden:
            x, bias = self._norm(x, measures), of_bias(x.shape[-1])
            x = linen.Dense(width, kernel_init=of_hidden, bias_init=bias, dot_general=product)(x)
            x, product = self.activation(x), _hidden_product
        head, bias = of_head(self.head_scale), of_bias(x.shape[-1])
        return linen.Dense(
            self.num_outputs, kernel_init=head, bias_init=bias, dot_general=_head_product
        )(self._norm(x, measures))

    def _norm(self, x: Array, measures: bool) -> Array:
        if not self.normalized:
            return x
        return linen.BatchNorm(not measures, momentum=0.99, use_fast_variance=False)(x)


_lecun = linen.initializers.lecun_normal()


def _scaled_lecun(gain: Any) -> Callable[..., Array]:
    return lambda *arguments: gain * _lecun(*arguments)


def _no_bias(fan_in: int) -> Callable[..., Array]:
    del fan_in
    return linen.initializers.zeros


def _within(fan_in: int) -> Callable[..., Array]:
    """Uniform within ``1 / sqrt(fan_in)`` of 0."""
    limit = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -limit, limit)


def _fan_in_uniform(gain: Any) -> Callable[..., Array]:
    return lambda key, shape, dtype: gain * _within(shape[0])(key, shape, dtype)


INITIALISERS = {
    "orthogonal": (linen.initializers.orthogonal(2**0.5), linen.initializers.orthogonal, _no_bias),
    "lecun": (_lecun, _scaled_lecun, _no_bias),
    "uniform": (_fan_in_uniform(1.0), _fan_in_uniform, _within),
}
"""The initialiser of the weights of hidden layers, that of the output layer by its gain, and that
of biases by the number of inputs. lecun is a truncated normal with variance ``1 / fan_in`` (LeCun
et al. 1998); uniform is within ``1 / sqrt(fan_in)`` of 0, biases too, as PyTorch starts."""


# Products ``[..., I]`` by ``[I, O]`` with gradients of their own.

Residuals = tuple[Array, Array]

SMALL_KERNEL, LARGE_KERNEL = 64 * 64, 256 * 256
"""Numbers of a kernel up to which, and from which on, a CPU gains by `_turned_backward`."""
MAX_NARROW = 8
"""Outputs up to which a CPU gains by `_narrow_backward`."""


def _product(
    backward: Callable[[Residuals, Array], Residuals],
    forward: Callable[[Array, Array], Array] = jnp.matmul,
) -> Callable[[Array, Array], Array]:
    """``inputs @ kernel``; backward: ((inputs, kernel), outer gradient) -> both gradients."""
    product = jax.custom_vjp(forward)
    product.defvjp(lambda inputs, kernel: (forward(inputs, kernel), (inputs, kernel)), backward)
    return product


def _turned_backward(residuals: Residuals, outer: Array) -> Residuals:
    # A CPU's matrix product reads a transposed operand so slowly that it is faster to transpose it
    # first; without the barrier XLA would put the transposition back.
    inputs, kernel = residuals
    rows, weights = (x.reshape(-1, x.shape[-1]) for x in (inputs, outer))
    columns = jax.lax.optimization_barrier(rows.T)
    return (weights @ kernel.T).reshape(inputs.shape), columns @ weights


def _narrow_backward(residuals: Residuals, outer: Array) -> Residuals:
    # Products over so few columns are a CPU's slowest: as sums they fuse with their neighbours.
    inputs, kernel = residuals
    width, num_outputs = kernel.shape
    rows, weights = inputs.reshape(-1, width), outer.reshape(-1, num_outputs)
    by_row = [weights[:, a, None] * kernel[None, :, a] for a in range(num_outputs)]
    by_output = [(weights[:, a, None] * rows).sum(0) for a in range(num_outputs)]
    return sum(by_row[1:], by_row[0]).reshape(inputs.shape), jnp.stack(by_output, axis=1)


_turned_product = _product(_turned_backward)
_narrow_product = _product(_narrow_backward)


def _hidden_product(inputs: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """Multiply for `linen.Dense`, which always contracts the last axis with the first."""
    turned = kernel.size <= SMALL_KERNEL or kernel.size >= LARGE_KERNEL
    return _turned_product(inputs, kernel) if turned else inputs @ kernel


def _one_hot_product(num_codes: int, inputs: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """Multiply as `_hidden_product` does, for one-hot inputs ``[..., num_codes * E]``, code-major.

    One code of each element is 1, so the first code's inputs are what the others leave, and
    their share of the products need not be computed, here nor in the kernel's gradient.
    """

    def forward(inputs: Array, kernel: Array) -> Array:
        blocks = kernel.reshape(num_codes, -1, kernel.shape[1])
        change = (blocks[1:] - blocks[:1]).reshape(-1, kernel.shape[1])
        product = inputs[..., blocks.shape[1] :] @ change
        return product + _expand(blocks[0].sum(0), product)

    def backward(residuals: Residuals, outer: Array) -> Residuals:
        inputs, kernel = residuals
        rows, weights = (x.reshape(-1, x.shape[-1]) for x in (inputs, outer))
        others = rows[:, kernel.shape[0] // num_codes :].T @ weights
        left = weights.sum(0)[None] - others.reshape(num_codes - 1, -1, kernel.shape[1]).sum(0)
        return outer @ kernel.T, jnp.concatenate([left, others])

    return _product(backward, forward)(inputs, kernel)


def _head_product(inputs: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """Multiply as `_hidden_product` does, for a handful of outputs."""
    if kernel.shape[1] > MAX_NARROW:
        return _hidden_product(inputs, kernel)
    return _narrow_product(inputs, kernel)


def _expand(numbers: Array | np.ndarray, like: Array) -> Any:
    return numbers.reshape((1,) * (like.ndim - numbers.ndim) + numbers.shape)
