"""Neural networks over flat parameter vectors.

Parameters travel as one float32 vector ``[D]``: an optimiser step, a gradient
per variation, an evolution strategy's perturbation are then plain array
expressions with one kernel each, instead of one per layer.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen
from jax.flatten_util import ravel_pytree

from jaxgen.nn import ops
from jaxgen.nn.layers import MLP, encode, one_hot_codes
from jaxgen.nn.vision import SIDES, encoder, readable
from jaxgen.study.networks import IMAGE_ENCODERS
from jaxgen.system.errors import BadInput
from jaxgen.types import Array, EnvSpec, PyTree


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
    apply: Callable[[Variables, Any], Any]
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
    apply_batch: Callable[[Variables, Any], Any] | None = None
    """The same as ``apply``, but with statistics of these observations, for networks that learn so;
    a loss then uses it."""

    @property
    def apply_in_loss(self) -> Callable[[Variables, Any], Any]:
        """The function that a loss differentiates: ``apply_batch``, if there is one."""
        return self.apply_batch or self.apply


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
    num_codes = len(one_hot_codes(spec, encoding))
    module = MLP(hidden, num_outputs, head_scale, activation, num_codes, initialisation)
    inputs = encode(spec, encoding)
    return flat(
        lambda key: variables_of(module.init(key, _example(spec, inputs))),
        lambda variables, obs: outputs_of(module, variables, inputs(obs)),
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
        lambda key: variables_of(module.init(key, _nothing(spec, network))),
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
    outputs: Any = module.apply(collections_of(variables), obs.reshape(-1, *spec.obs_shape))
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
    num_free: int = 0,
    normalized: bool = False,
) -> Network:
    """A policy and a value network: MLPs apart that read the same encoded observations, or two
    outputs of one encoder.

    Args:
      spec: of the environment.
      num_outputs: O, of the policy.
      hidden: widths of the hidden layers.
      encoding: of observations, see `jaxgen.nn.layers.encode`.
      network: ``mlp``, or the name of an encoder.
      activation: between the layers of an ``mlp``.
      num_free: outputs, the last ones, that are parameters which start at 0, alike for all
        observations.
      normalized: an ``mlp`` sees observations less their running mean, over their deviation.
    """
    parts = {"actor": (num_outputs - num_free, 0.01), "critic": (1, 1.0)}
    return _acting(spec, parts, hidden, encoding, network, activation, num_free, normalized)


def policy(
    spec: EnvSpec,
    num_outputs: int,
    hidden: tuple[int, ...],
    *,
    encoding: str,
    network: str = "mlp",
    activation: Callable[[Array], Array] = jnp.tanh,
    num_free: int = 0,
    normalized: bool = False,
) -> Network:
    """A policy network as that of `actor_critic`, whose arguments it has, without a critic."""
    parts = {"actor": (num_outputs - num_free, 0.01)}
    return _acting(spec, parts, hidden, encoding, network, activation, num_free, normalized)


Init = Callable[[Array], Variables]
Apply = Callable[[Variables, Array], tuple[Array, ...]]
Parts = Mapping[str, tuple[int, float]]
"""The number of outputs and the scale of the first weights of each output, by its name."""


def _acting(
    spec: EnvSpec, parts: Parts, hidden: tuple[int, ...], encoding: str, network: str,
    activation: Callable[[Array], Array], num_free: int, normalized: bool,
) -> Network:
    """A policy, and a value ``[...]`` beside it where there is a second part."""
    if network != "mlp":
        init, apply_parts = _with_encoder(spec, parts, hidden, network)
    else:
        init, apply_parts = _separate(spec, parts, hidden, encoding, activation, normalized)
    if num_free:
        init, apply_parts = _with_free_outputs(init, apply_parts, num_free)

    def apply(variables: Variables, obs: Array) -> Any:
        outputs, *value = apply_parts(variables, obs)
        return (outputs, value[0][..., 0]) if value else outputs

    refresh = partial(_refreshed_moments, spec, encoding) if normalized else None
    return flat(init, apply, refresh=refresh, in_turn=network != "mlp")


def _separate(
    spec: EnvSpec, parts: Parts, hidden: tuple[int, ...], encoding: str,
    activation: Callable[[Array], Array], normalized: bool,
) -> tuple[Init, Apply]:
    """An MLP for each part."""
    num_codes = len(one_hot_codes(spec, encoding))
    modules = {
        name: MLP(hidden, num, scale, activation, num_codes) for name, (num, scale) in parts.items()
    }
    inputs = encode(spec, encoding)

    def init(key: Array) -> Variables:
        example, keys = _example(spec, inputs), jax.random.split(key, len(parts))
        trained = {
            name: module.init(key, example)["params"]
            for (name, module), key in zip(modules.items(), keys, strict=True)
        }
        zeros = jnp.zeros(example.shape, jnp.float32)
        # A little weight, so that the first rollout decides.
        start = ops.Moments(jnp.full(1, 1e-4, jnp.float32), zeros, zeros + 1)
        return Variables(trained, start if normalized else ())

    def apply(variables: Variables, obs: Array) -> tuple[Array, ...]:
        encoded = inputs(obs)
        if normalized:
            encoded = _normalized(variables.statistics, encoded)
        return tuple(
            outputs_of(module, Variables(variables.trained[name]), encoded)
            for name, module in modules.items()
        )

    return init, apply


MAX_NORMALIZED = 10.0


def _normalized(moments: ops.Moments, inputs: Array) -> Array:
    """Inputs ``[..., F]`` with running mean 0 and deviation 1, within 10 of 0."""
    mean, scale = (
        part.reshape((1,) * (inputs.ndim - 1) + part.shape)
        for part in (moments.mean, jax.lax.rsqrt(moments.variance + 1e-8))
    )
    return jnp.clip((inputs - mean) * scale, -MAX_NORMALIZED, MAX_NORMALIZED)


def _refreshed_moments(
    spec: EnvSpec, encoding: str, variables: Variables, obs: Array
) -> ops.Moments:
    """The running moments with those of observations ``[..., *obs_shape]``."""
    inputs = encode(spec, encoding)(obs)
    samples = inputs.reshape(-1, inputs.shape[-1])
    count = jnp.full(1, len(samples), jnp.float32)
    return variables.statistics.merge(count, samples.mean(0), samples.var(0))


def _with_free_outputs(init: Init, apply: Apply, num_free: int) -> tuple[Init, Apply]:
    """Append outputs of the policy that are parameters of their own."""

    def init_all(key: Array) -> Variables:
        variables = init(key)
        trained = {"network": variables.trained, "free": jnp.zeros(num_free, jnp.float32)}
        return variables._replace(trained=trained)

    def apply_all(variables: Variables, obs: Array) -> tuple[Array, ...]:
        network, free = (variables.trained[name] for name in ("network", "free"))
        outputs, *others = apply(variables._replace(trained=network), obs)
        shape = (1,) * (outputs.ndim - 1) + (num_free,)
        free = jnp.broadcast_to(free.reshape(shape), (*outputs.shape[:-1], num_free))
        return jnp.concatenate([outputs, free], axis=-1), *others

    return init_all, apply_all


def _with_encoder(
    spec: EnvSpec, parts: Parts, hidden: tuple[int, ...], network: str
) -> tuple[Init, Apply]:
    """A linear output for each part, on one encoder."""
    module = _Encoded(encoder(network, hidden), tuple(parts.values()))
    return (
        lambda key: variables_of(module.init(key, _nothing(spec, network))),
        partial(_of_encoded, spec, module),
    )


def _example(spec: EnvSpec, inputs: Callable[[Array], Array]) -> Array:
    return inputs(jnp.zeros(spec.obs_shape, spec.obs_dtype))


def outputs_of(module: linen.Module, variables: Variables, encoded: Array) -> Array:
    """Outputs ``[..., O]`` of a module with a single output."""
    output = module.apply(collections_of(variables), encoded)
    assert isinstance(output, jax.Array)
    return output


def variables_of(collections: PyTree) -> Variables:
    """Part what linen initialises: all collections but the parameters are statistics."""
    statistics = {name: tree for name, tree in collections.items() if name != "params"}
    return Variables(collections["params"], statistics)


def collections_of(variables: Variables) -> PyTree:
    """The inverse of `variables_of`."""
    return {"params": variables.trained, **dict(variables.statistics)}


def flat(
    init: Callable[[Array], Variables],
    apply: Callable[[Variables, Any], Any],
    *,
    refresh: Callable[[Variables, Array], PyTree] | None = None,
    in_turn: bool = False,
    apply_batch: Callable[[Variables, Any], Any] | None = None,
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
