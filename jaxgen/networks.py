"""Neural networks over flat parameter vectors; the only importer of flax.linen.

Parameters travel as one float32 vector ``[D]``: an optimiser step, a gradient
per variation, an evolution strategy's perturbation are then plain array
expressions with one kernel each, instead of one per layer.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax.flatten_util import ravel_pytree

from jaxgen.types import Array, EnvSpec, PyTree


class Network(NamedTuple):
    """A network as pure functions."""

    init: Callable[[Array], Array]
    """key -> parameters float32 ``[D]``."""
    unravel: Callable[[Array], PyTree]
    """parameters ``[D]`` -> the tree that ``apply`` takes."""
    apply: Callable[[PyTree, Array], Array]
    """(tree, observations ``[..., *obs_shape]``) -> outputs ``[..., A]``."""


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh}

ENCODINGS = ("raw", "unit", "one_hot")


def encode(spec: EnvSpec, encoding: str) -> Callable[[Array], Array]:
    """Return the map from observations ``[..., *obs_shape]`` to network inputs ``[..., F]``.

    ``raw`` passes numbers as they are, ``unit`` brings each into [0, 1] by the spec's
    range, ``one_hot`` gives every integer code an input of its own (numbers stay raw).
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"unknown encoding {encoding!r}; allowed: {', '.join(ENCODINGS)}")
    batch_end = -len(spec.obs_shape)
    low, high = np.asarray(spec.obs_low, np.float32), np.asarray(spec.obs_high, np.float32)
    num_codes = spec.num_codes

    def one_hot(obs: Array) -> Array:
        # Code-major: one comparison per element and no reshuffling of the codes.
        codes = np.arange(num_codes or 0, dtype=spec.obs_dtype)[:, None]
        hot = obs[..., None, :] == _expand(codes, obs[..., None, :])
        return hot.astype(jnp.float32).reshape(*obs.shape[:batch_end], -1)

    def numbers(obs: Array) -> Array:
        inputs = obs.astype(jnp.float32)
        if encoding == "unit":
            inputs = (inputs - _expand(low, inputs)) * _expand(1 / (high - low), inputs)
        return inputs.reshape(*obs.shape[:batch_end], -1)

    return one_hot if encoding == "one_hot" and num_codes is not None else numbers


class _MLP(linen.Module):
    hidden: tuple[int, ...]
    num_outputs: int
    head_scale: float
    activation: Callable[[Array], Array]

    @linen.compact
    def __call__(self, x: Array) -> Array:
        for width in self.hidden:
            x = linen.Dense(width, kernel_init=linen.initializers.orthogonal(2**0.5))(x)
            x = self.activation(x)
        head = linen.initializers.orthogonal(self.head_scale)
        return linen.Dense(self.num_outputs, kernel_init=head)(x)


def mlp(
    spec: EnvSpec,
    num_outputs: int,
    hidden: tuple[int, ...],
    *,
    encoding: str,
    head_scale: float,
    activation: Callable[[Array], Array] = jnp.tanh,
) -> Network:
    """A multilayer perceptron with orthogonal initialisation (gain sqrt 2 in hidden layers)."""
    module = _MLP(hidden, num_outputs, head_scale, activation)
    inputs = encode(spec, encoding)

    def init_tree(key: Array) -> PyTree:
        return module.init(key, inputs(jnp.zeros(spec.obs_shape, spec.obs_dtype)))

    def apply(tree: PyTree, obs: Array) -> Array:
        output = module.apply(tree, inputs(obs))
        assert isinstance(output, jax.Array)
        return output

    return _flat(init_tree, apply)


def actor_critic(
    spec: EnvSpec, hidden: tuple[int, ...], *, encoding: str
) -> tuple[Network, Callable[[PyTree, Array], Array]]:
    """Separate policy and value networks over one parameter vector.

    Returns:
      The network, whose ``apply`` gives action logits ``[..., A]``, and the
      function (tree, obs) -> state values ``[...]``.
    """
    actor = mlp(spec, spec.num_actions, hidden, encoding=encoding, head_scale=0.01)
    critic = mlp(spec, 1, hidden, encoding=encoding, head_scale=1.0)

    def init_tree(key: Array) -> PyTree:
        actor_key, critic_key = jax.random.split(key)
        return {
            "actor": actor.unravel(actor.init(actor_key)),
            "critic": critic.unravel(critic.init(critic_key)),
        }

    network = _flat(init_tree, lambda tree, obs: actor.apply(tree["actor"], obs))
    return network, lambda tree, obs: critic.apply(tree["critic"], obs)[..., 0]


def _flat(init_tree: Callable[[Array], PyTree], apply: Callable[[PyTree, Array], Array]) -> Network:
    shapes = jax.eval_shape(init_tree, jax.random.key(0))
    leaves, treedef = jax.tree.flatten(shapes)

    def unravel(flat: Array) -> PyTree:
        parts, start = [], 0
        for leaf in leaves:
            parts.append(flat[start : start + leaf.size].reshape(leaf.shape))
            start += leaf.size
        return jax.tree.unflatten(treedef, parts)

    return Network(lambda key: ravel_pytree(init_tree(key))[0], unravel, apply)


def _expand(numbers: np.ndarray, like: Array) -> np.ndarray:
    return numbers.reshape((1,) * (like.ndim - numbers.ndim) + numbers.shape)
