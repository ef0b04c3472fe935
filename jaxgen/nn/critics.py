"""Networks that judge actions, several as one product of matrices with an axis more."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.layers import MLP, encode
from jaxgen.nn.networks import Network, Variables, collections_of, flat, outputs_of, variables_of
from jaxgen.types import Array, EnvSpec, PyTree


def make_critics(
    spec: EnvSpec,
    hidden: tuple[int, ...],
    *,
    num: int = 2,
    activation: Callable[[Array], Array] = jax.nn.relu,
    initialisation: str = "orthogonal",
) -> Network:
    """MLPs that judge an action, each with weights of its own.

    ``apply`` takes observations and actions, (``[..., *obs_shape]``, ``[..., A]`` in [-1, 1]), and
    gives values ``[num, ...]``. All are one product of matrices with an axis more.
    """
    module = MLP(hidden, 1, 1.0, activation, 0, initialisation)
    inputs = encode(spec, "raw")

    def judged(obs: Array, action: Array) -> Array:
        return jnp.concatenate([inputs(obs), action], axis=-1)

    def init(key: Array) -> Variables:
        example = judged(
            jnp.zeros(spec.obs_shape, spec.obs_dtype), jnp.zeros(spec.actions.shape, jnp.float32)
        )
        keys = jax.random.split(key, num)
        return Variables(jax.vmap(lambda key: module.init(key, example)["params"])(keys))

    def apply(variables: Variables, judged_pair: tuple[Array, Array]) -> Array:
        encoded = judged(*judged_pair)
        one = lambda trained: outputs_of(module, Variables(trained), encoded)[..., 0]  # noqa: E731
        return jax.vmap(one)(variables.trained)

    return flat(init, apply)


Measured = Callable[[Variables, tuple[Array, Array]], tuple[Array, PyTree]]
"""(variables, observations and actions of a batch ``[B, ...]``) -> values ``[num, B]`` by the
batch's own statistics, and the running statistics with these."""


def make_normalized_critics(
    spec: EnvSpec,
    hidden: tuple[int, ...],
    *,
    activation: Callable[[Array], Array] = jax.nn.relu,
    initialisation: str = "orthogonal",
) -> tuple[Network, Measured]:
    """The two `make_critics` with a normalised input of each layer (CrossQ, Bhatt et al. 2024).

    Returns:
      The network, which normalises by running statistics, and what normalises by a batch's own.
    """
    module = MLP(hidden, 1, 1.0, activation, 0, initialisation, normalized=True)
    inputs = encode(spec, "raw")

    def judged(obs: Array, action: Array) -> Array:
        return jnp.concatenate([inputs(obs), action], axis=-1)

    def init(key: Array) -> Variables:
        size = int(np.prod(spec.obs_shape) + np.prod(spec.actions.shape))
        return jax.vmap(lambda key: variables_of(module.init(key, jnp.zeros((1, size)))))(
            jax.random.split(key, 2)
        )

    def apply(variables: Variables, judged_pair: tuple[Array, Array]) -> Array:
        encoded = judged(*judged_pair)
        return jax.vmap(lambda own: outputs_of(module, own, encoded)[..., 0])(variables)

    def measured(variables: Variables, judged_pair: tuple[Array, Array]) -> tuple[Array, PyTree]:
        encoded = judged(*judged_pair)

        def one(own: Variables) -> tuple[Array, PyTree]:
            values, statistics = module.apply(
                collections_of(own), encoded, measures=True, mutable=["batch_stats"]
            )
            assert isinstance(values, jax.Array)
            return values[..., 0], statistics

        return jax.vmap(one)(variables)

    return flat(init, apply), measured
