"""The contract of an algorithm, and what all algorithms share."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgen.algorithms.gradients import Combined
from jaxgen.study.config import Config, DQNConfig, ESConfig, PPOConfig
from jaxgen.study.spec import Replay
from jaxgen.techniques import Technique
from jaxgen.types import Array, Discrete, EnvSpec, Metrics, Policy, PyTree, Transition


class Algorithm(NamedTuple):
    """An algorithm as pure functions; it never sees an environment.

    Built inside the traced function from (config, technique, spec), so that
    traced hyper-parameters never leave it. ``state`` is a pytree of arrays
    without callables or counters of iterations: ``iteration`` is an argument,
    shared by all lanes, so that a ``cond`` on it stays a branch under vmap.
    """

    init: Callable[[Array], PyTree]
    """key -> state."""
    prepare: Callable[[PyTree, Array, Array], PyTree]
    """(state, iteration, key) -> actor, once per iteration, outside the time scan."""
    act: Callable[[PyTree, Array, Array], tuple[Array, PyTree]]
    """(actor, obs ``[V, N, ...]``, words uint32 ``[V, N, W]``) -> actions
    ``[V, N, *action shape]`` and the transition's ``extras``, leaves ``[V, N, ...]``. Actions for
    a `Box` are in [-1, 1], and stay so in the rollout."""
    policy: Policy
    """How a vector of ``params`` acts when it is evaluated; says how many words W ``act`` takes."""
    params: Callable[[PyTree], PyTree]
    """state -> the flat parameter vector that is evaluated and saved."""
    record: Callable[[Transition], PyTree]
    """What a rollout keeps of a transition."""
    update: Callable[[PyTree, PyTree, PyTree, Array, Array], tuple[PyTree, Metrics]]
    """(state, actor, rollout ``[T, V, N]``, iteration, key) -> state, metrics.

    Metrics hold at least ``loss``, ``agree_ref``, ``agree_pair``, ``grad_norm``,
    ``updates`` and ``skipped_updates``.
    """
    half_gradients: Callable[[PyTree, PyTree, PyTree], Array]
    """(state, actor, rollout ``[T, V, N]``) -> gradients of the loss on two halves of each
    variation's samples, float32 ``[2, V, D]``: what the probe of agreement measures."""
    num_envs: int
    num_steps: int
    keeps_obs: bool = True
    """Whether ``record`` looks at observations."""
    fresh: bool = False
    """Restart every episode before each iteration."""
    num_starts: int | None = None
    """Distinct starts among the N environments of a variation, repeated in order; None: N."""
    in_turn: bool = False
    """Lanes are run one after the other inside of a program: convolutions with different kernels
    at once are slow, and their bits depend on how many there are."""
    count_steps: Callable[[PyTree], Array] | None = None
    """rollout -> live environment steps; None where each of the V x N x T steps counts."""
    fork: Callable[[PyTree, Replay, Array, Array, Array], PyTree] | None = None
    """(state, replay, iteration, key, number) -> the state of a fork whose replay is fresh or
    split; the key is common to the forks of a seed. None: a state is copied whole only."""


class Optimizer(NamedTuple):
    """Adam with decoupled weight decay on a flat parameter vector."""

    params: Array
    moments: optax.OptState


class Adam(NamedTuple):
    """Adam's floats: learning rate, decay, epsilon and, optional, the gradient-norm clip."""

    learning_rate: Array | float
    weight_decay: Array | float
    eps: Array | float
    max_grad_norm: Array | float | None = None

    def init(self, params: Array) -> Optimizer:
        """Start with zero moments."""
        return Optimizer(params, self._transform().init(params))

    def step(self, optimizer: Optimizer, combined: Combined) -> tuple[Optimizer, Metrics]:
        """Descend; where no variation agrees, leave parameters and moments bitwise as they are."""
        gradient = combined.gradient * self._clip_scale(combined.metrics["grad_norm"])
        updates, moments = self._transform().update(
            gradient, optimizer.moments, optimizer.params
        )
        assert isinstance(updates, jax.Array)
        stepped = Optimizer(optimizer.params + updates, moments)
        kept = jax.tree.map(lambda new, old: jnp.where(combined.live, new, old), stepped, optimizer)
        return kept, combined.metrics | {"skipped_updates": 1.0 - combined.live}

    def _clip_scale(self, norm: Array) -> Array | float:
        """Shrinks a gradient to ``max_grad_norm``; its norm is known from the agreement."""
        if self.max_grad_norm is None:
            return 1.0
        return jnp.where(norm < self.max_grad_norm, 1.0, self.max_grad_norm / norm)

    def _transform(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale_by_adam(eps=self.eps),  # pyright: ignore[reportArgumentType]
            optax.add_decayed_weights(self.weight_decay),  # pyright: ignore[reportArgumentType]
            optax.scale(-1.0 * self.learning_rate),  # pyright: ignore[reportArgumentType]
        )


def register_config(cls: type[Config]) -> type[Config]:
    """Make a configuration a pytree: floats are leaves, everything else is static."""
    fields = dataclasses.fields(cls)
    floats = [field.name for field in fields if field.type in (float, "float")]
    static = [field.name for field in fields if field.name not in floats]
    return jax.tree_util.register_dataclass(cls, data_fields=floats, meta_fields=static)


for _config in (PPOConfig, DQNConfig, ESConfig):
    register_config(_config)


def discrete_actions(algorithm: str, spec: EnvSpec) -> Discrete:
    """Return the actions of an environment for an algorithm that chooses among numbered ones.

    Raises ValueError if they are others.
    """
    if not isinstance(spec.actions, Discrete):
        raise ValueError(
            f"{algorithm} is not allowed on {spec.name}, whose actions are {spec.actions}: it "
            "needs Discrete ones; use an algorithm that takes a Box"
        )
    return spec.actions


def decay_of(technique: Technique) -> Array:
    """The technique's weight decay as an array."""
    return jnp.asarray(technique.weight_decay, jnp.float32)


def mean_metrics(metrics: Metrics) -> Metrics:
    """Average the metrics of an iteration's updates; ``skipped_updates`` becomes a count."""
    total = metrics["skipped_updates"].sum()
    count = metrics["skipped_updates"].size
    averaged = {name: value.mean() for name, value in metrics.items()}
    return averaged | {"skipped_updates": total, "updates": jnp.float32(count)}
