"""Neural networks over flat parameter vectors; only this module and `jaxgen.nn.vision` use linen.

Parameters travel as one float32 vector ``[D]``: an optimiser step, a gradient
per variation, an evolution strategy's perturbation are then plain array
expressions with one kernel each, instead of one per layer.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax.flatten_util import ravel_pytree

from jaxgen.nn.vision import SIDES, encoder, readable
from jaxgen.study.networks import IMAGE_ENCODERS
from jaxgen.system.errors import BadInput
from jaxgen.types import Array, Codes, EnvSpec, PyTree


class Variables(NamedTuple):
    """Numbers that a network computes with, as trees."""

    trained: PyTree
    """Parameters, which gradients, weight decay and perturbations are of."""
    statistics: PyTree = ()
    """Running statistics of observations, which only `Network.refresh` changes."""


class Network(NamedTuple):
    """A network as pure functions over one vector ``[D]``: trained numbers, then statistics.

    Statistics rest within an iteration, so that acting, targets and losses normalise alike.
    """

    init: Callable[[Array], Array]
    """key -> vector float32 ``[D]``."""
    unravel: Callable[[Array], Variables]
    """vector ``[D]`` -> what ``apply`` takes."""
    apply: Callable[[Variables, Array], Any]
    """(variables, observations ``[..., *obs_shape]``) -> outputs ``[..., O]``; those of
    `actor_critic` are the policy's ``[..., O]`` and values ``[...]``."""
    num_trained: int
    """How many numbers at the front of the vector are trained."""
    refresh: Callable[[Array, Array], Array] | None = None
    """(vector ``[D]``, observations ``[..., *obs_shape]``) -> vector with other statistics; None:
    there are none."""
    in_turn: bool = False
    """Convolutions: gradients of variations, lanes and members of a population are computed one
    after the other, and several outputs come out of one encoder."""
    apply_batch: Callable[[Variables, Array], Any] | None = None
    """The same as ``apply``, but with statistics of these observations, for networks that learn so;
    a loss then uses it."""

    @property
    def apply_in_loss(self) -> Callable[[Variables, Array], Any]:
        """The function that a loss differentiates: ``apply_batch``, if there is one."""
        return self.apply_batch or self.apply


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
    codes = _one_hot_codes(spec, encoding)

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


def _one_hot_codes(spec: EnvSpec, encoding: str) -> range:
    """The codes that get an input for each element of an observation; none for numbers."""
    codes = spec.observation
    if encoding != "one_hot" or not isinstance(codes, Codes):
        return range(0)
    return range(codes.first, codes.num)


class _MLP(linen.Module):
    hidden: tuple[int, ...]
    num_outputs: int
    head_scale: float
    activation: Callable[[Array], Array]
    num_codes: int = 0
    """Codes of one-hot inputs; 0: the inputs are numbers."""
    initialisation: str = "orthogonal"

    @linen.compact
    def __call__(self, x: Array) -> Array:
        product = partial(_one_hot_product, self.num_codes) if self.num_codes else _hidden_product
        of_hidden, of_head, of_bias = INITIALISERS[self.initialisation]
        for width in self.hidden:
            bias = of_bias(x.shape[-1])
            x = linen.Dense(width, kernel_init=of_hidden, bias_init=bias, dot_general=product)(x)
            x, product = self.activation(x), _hidden_product
        head, bias = of_head(self.head_scale), of_bias(x.shape[-1])
        return linen.Dense(
            self.num_outputs, kernel_init=head, bias_init=bias, dot_general=_head_product
        )(x)


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

SMALL_KERNEL = 64 * 64
"""Numbers of a kernel up to which a CPU gains by `_small_backward`."""


def _product(
    backward: Callable[[Residuals, Array], Residuals],
    forward: Callable[[Array, Array], Array] = jnp.matmul,
) -> Callable[[Array, Array], Array]:
    """``inputs @ kernel``; backward: ((inputs, kernel), outer gradient) -> both gradients."""
    product = jax.custom_vjp(forward)
    product.defvjp(lambda inputs, kernel: (forward(inputs, kernel), (inputs, kernel)), backward)
    return product


def _small_backward(residuals: Residuals, outer: Array) -> Residuals:
    # A CPU's matrix product reads a transposed operand so slowly that, up to this size, it is
    # faster to transpose it first; without the barrier XLA would put the transposition back.
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


_small_product = _product(_small_backward)
_narrow_product = _product(_narrow_backward)


def _hidden_product(inputs: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """Multiply for `linen.Dense`, which always contracts the last axis with the first."""
    return _small_product(inputs, kernel) if kernel.size <= SMALL_KERNEL else inputs @ kernel


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
    return _narrow_product(inputs, kernel)


def mlp(
    spec: EnvSpec,
    num_outputs: int,
    hidden: tuple[int, ...],
    *,
    encoding: str,
    head_scale: float,
    activation: Callable[[Array], Array] = jnp.tanh,
    initialisation: str = "orthogonal",
) -> Network:
    """A multilayer perceptron; orthogonal weights have a gain of sqrt 2 in hidden layers."""
    num_codes = len(_one_hot_codes(spec, encoding))
    module = _MLP(hidden, num_outputs, head_scale, activation, num_codes, initialisation)
    inputs = encode(spec, encoding)
    return flat(
        lambda key: _variables(module.init(key, _example(spec, inputs))),
        lambda variables, obs: _outputs(module, variables, inputs(obs)),
    )


def single(
    spec: EnvSpec,
    num_outputs: int,
    hidden: tuple[int, ...],
    *,
    network: str,
    encoding: str,
    head_scale: float,
    activation: Callable[[Array], Array] = jnp.tanh,
    initialisation: str = "orthogonal",
) -> Network:
    """A network of the kind that a configuration names: `mlp`, or one with an encoder, which starts
    as its author has it."""
    if network == "mlp":
        return mlp(
            spec, num_outputs, hidden, encoding=encoding, head_scale=head_scale,
            activation=activation, initialisation=initialisation,
        )
    return encoded(spec, num_outputs, hidden, network=network, head_scale=head_scale)


def encoded(
    spec: EnvSpec, num_outputs: int, hidden: tuple[int, ...], *, network: str, head_scale: float
) -> Network:
    """An encoder of observations, with hidden layers if it wants them, and a linear output."""
    module = _Encoded(encoder(network, hidden), ((num_outputs, head_scale),))
    return flat(
        lambda key: _variables(module.init(key, _nothing(spec, network))),
        lambda variables, obs: _of_encoded(spec, module, variables, obs)[0],
        in_turn=True,
    )


class _Encoded(linen.Module):
    """Linear outputs, each of a number and a scale, on one encoder."""

    encoder: linen.Module
    heads: tuple[tuple[int, float], ...]

    @linen.compact
    def __call__(self, obs: Array) -> tuple[Array, ...]:
        features = self.encoder(obs)
        return tuple(
            linen.Dense(number, kernel_init=linen.initializers.orthogonal(scale))(features)
            for number, scale in self.heads
        )


def _of_encoded(
    spec: EnvSpec, module: linen.Module, variables: Variables, obs: Array
) -> tuple[Array, ...]:
    """Apply to observations of any leading shape."""
    lead = obs.shape[: obs.ndim - len(spec.obs_shape)]
    outputs: Any = module.apply(_collections(variables), obs.reshape(-1, *spec.obs_shape))
    return tuple(output.reshape(*lead, -1) for output in outputs)


def _nothing(spec: EnvSpec, network: str) -> Array:
    check_readable(spec, network)
    return jnp.zeros((1, *spec.obs_shape), spec.obs_dtype)


def check_readable(spec: EnvSpec, network: str) -> None:
    """Raise BadInput where an encoder of images cannot read the observations."""
    if network not in IMAGE_ENCODERS:
        return
    if not spec.is_image:
        raise BadInput(
            f"an encoder of images cannot read {spec.name}, whose observations are "
            f"{spec.obs_dtype} {list(spec.obs_shape)}: use network = 'mlp', or an environment of "
            "uint8 [H, W, C]"
        )
    height, width, _ = spec.obs_shape
    if not readable(network, height, width):
        raise BadInput(
            f"network = {network!r} cannot read {spec.name}, whose images are {height} x {width}: "
            f"it needs {SIDES[network]}; use network = 'mlp', pad the images, or declare "
            "jaxgen.types.Codes if that is what they hold"
        )


def actor_critic(
    spec: EnvSpec,
    num_outputs: int,
    hidden: tuple[int, ...],
    *,
    encoding: str,
    network: str = "mlp",
    activation: Callable[[Array], Array] = jnp.tanh,
) -> Network:
    """A policy and a value network: MLPs apart that read the same encoded observations, or two
    outputs of one encoder."""
    if network != "mlp":
        return _shared_actor_critic(spec, num_outputs, hidden, network)
    num_codes = len(_one_hot_codes(spec, encoding))
    actor = _MLP(hidden, num_outputs, 0.01, activation, num_codes)
    critic = _MLP(hidden, 1, 1.0, activation, num_codes)
    inputs = encode(spec, encoding)

    def init(key: Array) -> Variables:
        actor_key, critic_key = jax.random.split(key)
        example = _example(spec, inputs)
        of_actor, of_critic = actor.init(actor_key, example), critic.init(critic_key, example)
        return Variables({"actor": of_actor["params"], "critic": of_critic["params"]})

    def apply(variables: Variables, obs: Array) -> tuple[Array, Array]:
        encoded = inputs(obs)
        of_actor, of_critic = (Variables(variables.trained[name]) for name in ("actor", "critic"))
        return _outputs(actor, of_actor, encoded), _outputs(critic, of_critic, encoded)[..., 0]

    return flat(init, apply)


def _shared_actor_critic(
    spec: EnvSpec, num_outputs: int, hidden: tuple[int, ...], network: str
) -> Network:
    module = _Encoded(encoder(network, hidden), ((num_outputs, 0.01), (1, 1.0)))

    def apply(variables: Variables, obs: Array) -> tuple[Array, Array]:
        logits, values = _of_encoded(spec, module, variables, obs)
        return logits, values[..., 0]

    init = lambda key: _variables(module.init(key, _nothing(spec, network)))  # noqa: E731
    return flat(init, apply, in_turn=True)


def twin_critics(
    spec: EnvSpec,
    hidden: tuple[int, ...],
    *,
    activation: Callable[[Array], Array] = jax.nn.relu,
    initialisation: str = "orthogonal",
) -> Network:
    """Two MLPs that judge an action, each with weights of its own.

    ``apply`` takes observations and actions, (``[..., *obs_shape]``, ``[..., A]`` in [-1, 1]), and
    gives values ``[2, ...]``. Both are one product of matrices with an axis more.
    """
    module = _MLP(hidden, 1, 1.0, activation, 0, initialisation)
    inputs = encode(spec, "raw")

    def judged(obs: Array, action: Array) -> Array:
        return jnp.concatenate([inputs(obs), action], axis=-1)

    def init(key: Array) -> Variables:
        example = judged(
            jnp.zeros(spec.obs_shape, spec.obs_dtype), jnp.zeros(spec.actions.shape, jnp.float32)
        )
        keys = jax.random.split(key)
        return Variables(jax.vmap(lambda key: module.init(key, example)["params"])(keys))

    def apply(variables: Variables, judged_pair: tuple[Array, Array]) -> Array:
        encoded = judged(*judged_pair)
        one = lambda trained: _outputs(module, Variables(trained), encoded)[..., 0]  # noqa: E731
        return jax.vmap(one)(variables.trained)

    return flat(init, apply)


def _example(spec: EnvSpec, inputs: Callable[[Array], Array]) -> Array:
    return inputs(jnp.zeros(spec.obs_shape, spec.obs_dtype))


def _outputs(module: linen.Module, variables: Variables, encoded: Array) -> Array:
    output = module.apply(_collections(variables), encoded)
    assert isinstance(output, jax.Array)
    return output


def _variables(collections: PyTree) -> Variables:
    """Part what linen initialises: all collections but the parameters are statistics."""
    statistics = {name: tree for name, tree in collections.items() if name != "params"}
    return Variables(collections["params"], statistics)


def _collections(variables: Variables) -> PyTree:
    """The inverse of `_variables`."""
    return {"params": variables.trained, **dict(variables.statistics)}


def flat(
    init: Callable[[Array], Variables],
    apply: Callable[[Variables, Array], Any],
    *,
    refresh: Callable[[Variables, Array], PyTree] | None = None,
    in_turn: bool = False,
    apply_batch: Callable[[Variables, Array], Any] | None = None,
) -> Network:
    """Make a network over one vector of functions over trees.

    Args:
      init: key -> variables.
      apply: see `Network`.
      refresh: (variables, observations ``[..., *obs_shape]``) -> statistics; None: there are none.
      in_turn: see `Network`.
      apply_batch: see `Network`.
    """
    shapes = jax.eval_shape(init, jax.random.key(0))
    leaves, treedef = jax.tree.flatten(shapes)

    def unravel(vector: Array) -> Variables:
        parts, start = [], 0
        for leaf in leaves:
            parts.append(vector[start : start + leaf.size].reshape(leaf.shape))
            start += leaf.size
        return jax.tree.unflatten(treedef, parts)

    def refreshed(vector: Array, obs: Array) -> Array:
        assert refresh is not None
        variables = unravel(vector)
        return ravel_pytree(variables._replace(statistics=refresh(variables, obs)))[0]

    return Network(
        lambda key: ravel_pytree(init(key))[0], unravel, apply,
        num_trained=sum(leaf.size for leaf in jax.tree.leaves(shapes.trained)),
        refresh=refreshed if refresh else None, in_turn=in_turn, apply_batch=apply_batch,
    )  # fmt: skip


def _expand(numbers: Array | np.ndarray, like: Array) -> Any:
    return numbers.reshape((1,) * (like.ndim - numbers.ndim) + numbers.shape)
