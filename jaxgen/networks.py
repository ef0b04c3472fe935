"""Neural networks over flat parameter vectors; the only importer of flax.linen.

Parameters travel as one float32 vector ``[D]``: an optimiser step, a gradient
per variation, an evolution strategy's perturbation are then plain array
expressions with one kernel each, instead of one per layer.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
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


def encode(spec: EnvSpec, one_hot: bool) -> Callable[[Array], Array]:
    """Return the map from observations ``[..., *obs_shape]`` to network inputs ``[..., F]``.

    Integer codes become one-hot where asked for, everything else is divided by
    the spec's scale, which brings bounded observations into [0, 1].
    """
    batch_end = -len(spec.obs_shape)
    num_codes = spec.num_codes

    def one_hot_codes(obs: Array) -> Array:
        assert num_codes is not None
        # Code-major: one comparison per element and no reshuffling of the codes.
        hot = obs[..., None, :] == jnp.arange(num_codes, dtype=obs.dtype)[:, None]
        return hot.astype(jnp.float32).reshape(*obs.shape[:batch_end], -1)

    def scaled(obs: Array) -> Array:
        numbers = obs.astype(jnp.float32) / spec.obs_scale
        return numbers.reshape(*obs.shape[:batch_end], -1)

    return one_hot_codes if one_hot and num_codes is not None else scaled


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
    one_hot: bool,
    head_scale: float,
    activation: Callable[[Array], Array] = jnp.tanh,
) -> Network:
    """A multilayer perceptron with orthogonal initialisation (gain sqrt 2 in hidden layers)."""
    module = _MLP(hidden, num_outputs, head_scale, activation)
    inputs = encode(spec, one_hot)

    def init_tree(key: Array) -> PyTree:
        return module.init(key, inputs(jnp.zeros(spec.obs_shape, spec.obs_dtype)))

    def apply(tree: PyTree, obs: Array) -> Array:
        output = module.apply(tree, inputs(obs))
        assert isinstance(output, jax.Array)
        return output

    return _flat(init_tree, apply)


def actor_critic(
    spec: EnvSpec, hidden: tuple[int, ...], *, one_hot: bool
) -> tuple[Network, Callable[[PyTree, Array], Array]]:
    """Separate policy and value networks over one parameter vector.

    Returns:
      The network, whose ``apply`` gives action logits ``[..., A]``, and the
      function (tree, obs) -> state values ``[...]``.
    """
    actor = mlp(spec, spec.num_actions, hidden, one_hot=one_hot, head_scale=0.01)
    critic = mlp(spec, 1, hidden, one_hot=one_hot, head_scale=1.0)

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
