"""Training of one group of parameters: gradients by a technique, an optimiser, a network."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.algorithms.augmentations import NONE
from jaxgen.algorithms.base import PRIMARY, in_group
from jaxgen.algorithms.gradients import Combined, Loss, half_gradients, variation_gradient
from jaxgen.nn.networks import Network, Variables
from jaxgen.techniques import Technique
from jaxgen.types import Array, Metrics, PyTree

SKIPPED = "skipped_updates"

UPDATE_KEYS = 0x757064
"""Folded into the key of an iteration's updates, so that no other draw from that key changes."""


class Optimizer(NamedTuple):
    """A flat parameter vector and the moments of Adam on its trained part."""

    params: Array
    """float32 ``[D]``: trained numbers, then statistics of the network, if it has any."""
    moments: optax.OptState


class Adam(NamedTuple):
    """Adam with decoupled weight decay; its floats, with an optional clip of the gradient's norm.

    A gradient shorter than the parameter vector is one of its first numbers; those behind it
    neither move nor decay.
    """

    learning_rate: Array | float
    weight_decay: Array | np.float32 | float
    eps: Array | float
    max_grad_norm: Array | float | None = None

    def init(self, params: Array, num_trained: int | None = None) -> Optimizer:
        """Start with zero moments for the first ``num_trained`` numbers; None: for all."""
        return Optimizer(params, self._transform().init(params[:num_trained]))

    def step(self, optimizer: Optimizer, combined: Combined) -> tuple[Optimizer, Metrics]:
        """Descend; where no variation agrees, leave parameters and moments bitwise as they are."""
        gradient = combined.gradient * self._clip_scale(combined.metrics["grad_norm"])
        trained = optimizer.params[: gradient.size]
        updates, moments = self._transform().update(gradient, optimizer.moments, trained)
        assert isinstance(updates, jax.Array)
        stepped = Optimizer(_with_front(optimizer.params, trained + updates), moments)
        after = jax.tree.map(
            lambda new, old: jnp.where(combined.live, new, old), stepped, optimizer
        )  # fmt: skip
        return after, combined.metrics | {SKIPPED: 1.0 - combined.live}

    def _clip_scale(self, norm: Array) -> Array | float:
        """The factor that shrinks a gradient to ``max_grad_norm``, if it is longer."""
        if self.max_grad_norm is None:
            return 1.0
        return jnp.where(norm < self.max_grad_norm, 1.0, self.max_grad_norm / norm)

    def _transform(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(eps=self.eps),  # pyright: ignore[reportArgumentType]
            optax.add_decayed_weights(self.weight_decay),  # pyright: ignore[reportArgumentType]
            optax.scale(-1.0 * self.learning_rate),  # pyright: ignore[reportArgumentType]
        )


class Learner(NamedTuple):
    """How one group of parameters learns; an algorithm holds one for each group.

    The gradients of a group are combined by their own agreement.
    """

    technique: Technique
    adam: Adam
    network: Network
    group: str = PRIMARY
    """Put before the names of its metrics, as in ``actor/agree_pair``."""

    @property
    def draws(self) -> bool:
        """Whether a step needs a key, for its technique's augmentation."""
        return self.technique.augment != NONE

    def init(self, key: Array) -> Optimizer:
        """Start from the network's initial parameters."""
        return self.adam.init(self.network.init(key), self.network.num_trained)

    def step(
        self, optimizer: Optimizer, loss: Loss, batch: PyTree, key: Array | None
    ) -> tuple[Optimizer, Metrics]:
        """Descend along the combined gradient of the variations' losses.

        Args:
          optimizer: of this group.
          loss: (variables of the network, batch of one variation) -> scalar loss, metrics.
          batch: leaves ``[V, B, ...]``.
          key: randomness, if the learner `draws`.

        Returns:
          The optimiser, and the metrics of loss, agreement and step.
        """
        variables, network = self.network.unravel(optimizer.params), self.network
        combined, metrics = variation_gradient(
            self.technique, _of_trained(loss, variables), variables.trained, batch, key,
            in_turn=network.in_turn, in_parts=network.apply_batch is None,
        )  # fmt: skip
        optimizer, agreement = self.adam.step(optimizer, combined)
        return optimizer, self._named(metrics | agreement)

    def half_gradients(self, variables: Variables, loss: Loss, rollout: PyTree) -> dict[str, Array]:
        """Take the gradients ``[2, V, D]`` on two halves of a rollout ``[T, V, N, ...]``."""
        halves = half_gradients(_of_trained(loss, variables), variables.trained, rollout)
        return {self.group: halves}

    def refresh(self, optimizer: Optimizer, obs: Array) -> Optimizer:
        """Renew the network's statistics from observations ``[..., *obs_shape]``, if it has any."""
        if self.network.refresh is None:
            return optimizer
        return optimizer._replace(params=self.network.refresh(optimizer.params, obs))

    def _named(self, metrics: Metrics) -> Metrics:
        return {in_group(self.group, name): value for name, value in metrics.items()}


def update_keys(key: Array, num_updates: int, draws: bool) -> Array | None:
    """A key for each update of an iteration, ``[U]``; None where an update draws nothing."""
    if not draws:
        return None
    return jax.random.split(jax.random.fold_in(key, UPDATE_KEYS), num_updates)


def decay_of(technique: Technique) -> Array | np.float32:
    """The technique's weight decay, float32; of a plain number no constant of a trace."""
    decay = technique.weight_decay
    return np.float32(decay) if isinstance(decay, float) else jnp.asarray(decay, jnp.float32)


def mean_metrics(
    metrics: Metrics, mean: Callable[[Array], Array] = jnp.mean
) -> Metrics:
    """Average the metrics of an iteration's updates ``[U]``; skipped updates become a count."""
    counts = {name: value.sum() for name, value in metrics.items() if name.endswith(SKIPPED)}
    # Means of counts as well, replaced below: the compiled program keeps its text, and so its bits.
    means = {name: mean(value) for name, value in metrics.items()}
    return means | counts | {"updates": jnp.float32(metrics[SKIPPED].size)}


def _of_trained(loss: Loss, variables: Variables) -> Loss:
    """The loss as a function of the trained part alone, so that statistics have no gradient."""
    return lambda trained, batch: loss(variables._replace(trained=trained), batch)


def _with_front(vector: Array, front: Array) -> Array:
    """Put other numbers in the place of a vector's first ones."""
    return front if front.size == vector.size else jnp.concatenate([front, vector[front.size :]])
