"""The contract of an algorithm."""

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, Protocol

import jax

from jaxgen.study.cards import ALGORITHM_CARDS
from jaxgen.study.config import Config, float_fields
from jaxgen.study.fork import Replay
from jaxgen.system.errors import BadInput
from jaxgen.types import Array, Box, Discrete, EnvSpec, Metrics, Policy, PyTree, Transition

PRIMARY = ""
"""The parameter group whose agreement is a run's; others are reported under their names."""


def in_group(group: str, name: str) -> str:
    """The name of a metric of a parameter group: ``agree_pair``, ``actor/agree_pair``."""
    return name if group == PRIMARY else f"{group}/{name}"


class RolloutShape(NamedTuple):
    """Facts that a collector needs of an algorithm before anything is traced."""

    num_envs: int
    """N, environments of each variation."""
    num_steps: int
    """T."""
    num_starts: int
    """Distinct starts among the N environments of a variation, repeated in order."""
    fresh: bool = False
    """Restart every episode before each iteration."""
    keeps_obs: bool = True
    """Whether ``record`` looks at observations."""


class Update(Protocol):
    """The second half of an iteration: learn from a rollout."""

    def __call__(
        self, state: Any, actor: Any, rollout: Any, iteration: Array, key: Array
    ) -> tuple[Any, Metrics]:
        """Return the next state and the iteration's metrics.

        Metrics hold at least ``loss``, ``agree_ref``, ``agree_pair``, ``grad_norm``,
        ``updates`` and ``skipped_updates``.

        Args:
          state: before the iteration.
          actor: what ``prepare`` made and the rollout was collected with.
          rollout: what ``record`` keeps, leaves ``[T, V, N, ...]``.
          iteration: its number, from 0.
          key: randomness of the update.
        """
        ...


class Replayed(NamedTuple):
    """An update from a replay in two parts, so that several learners can share one."""

    insert: Callable[[PyTree, Any, Array], PyTree]
    """(ring, rollout, entries that each variation inserted before) -> ring."""
    learn: Callable[[Any, Any, Array, Array, Array], tuple[Any, Metrics]]
    """(state with the ring, actor, entries that each variation inserted, iteration, key) -> the
    next state with the same ring, and metrics."""

    def update(
        self, num_new: int, state: Any, actor: Any, rollout: Any, iteration: Array, key: Array
    ) -> tuple[Any, Metrics]:
        """An `Update` of states with a ring, of rollouts with so many entries of a variation."""
        ring = self.insert(state.ring, rollout, iteration * num_new)
        inserted = iteration * num_new + num_new
        return self.learn(state._replace(ring=ring), actor, inserted, iteration, key)


class Critic(NamedTuple):
    """The judge of an algorithm's actions, as functions over one vector."""

    params: Callable[[PyTree], Array]
    """state -> the vector of all that judges, ``[D]``."""
    values: Callable[[Array, Array, Array], Array]
    """(vector, obs ``[B, ...]``, actions ``[B, ...]``) -> what it expects of each, float32 ``[B]``,
    in the units in which it learns. Of several critics the lowest; of states alone whatever the
    action."""


class HalfGradients(Protocol):
    """Gradients of the loss on two halves of each variation's samples; the probe measures them."""

    def __call__(self, state: Any, actor: Any, rollout: Any) -> dict[str, Array]:
        """Return float32 ``[2, V, D]`` of each parameter group, `PRIMARY` among them.

        Args:
          state: before an update.
          actor: what the rollout was collected with.
          rollout: leaves ``[T, V, N, ...]``.
        """
        ...


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
    """transition -> what a rollout keeps of it."""
    update: Update
    half_gradients: HalfGradients
    shape: RolloutShape
    in_turn: bool = False
    """Lanes are run one after the other inside of a program: convolutions with different kernels
    at once are slow, and their bits depend on how many there are."""
    num_members: int = 1
    """Learners that train in lockstep, whose metrics and vectors of ``params`` have them in front,
    if there are several."""
    replayed: Replayed | None = None
    """The parts of ``update`` where it learns from a replay."""
    unravel: Callable[[Array], PyTree] | None = None
    """A vector of ``params`` -> its networks as trees; None: they are not told apart."""
    critic: Critic | None = None
    """None: actions are not judged by a network."""
    count_steps: Callable[[PyTree], Array] | None = None
    """rollout -> live environment steps; None where each of the V x N x T steps counts."""
    fork: Callable[[PyTree, Replay, Array, Array, Array], PyTree] | None = None
    """(state, replay, iteration, key, number) -> the state of a fork whose replay is no copy; the
    key is common to the forks of a seed. None: a state is copied whole only."""


@cache
def register_config(cls: type[Config]) -> type[Config]:
    """Make a configuration a pytree: floats are leaves, everything else is static."""
    floats = list(float_fields(cls))
    static = [field.name for field in dataclasses.fields(cls) if field.name not in floats]
    return jax.tree_util.register_dataclass(cls, data_fields=floats, meta_fields=static)


for _card in ALGORITHM_CARDS.values():
    register_config(_card.config)


def discrete_actions(algorithm: str, spec: EnvSpec) -> Discrete:
    """Return the actions of an environment for an algorithm that chooses among numbered ones.

    Raises BadInput if they are others.
    """
    if not isinstance(spec.actions, Discrete):
        raise _refusal(algorithm, spec, "Discrete ones; use an algorithm that takes a Box")
    return spec.actions


def box_actions(algorithm: str, spec: EnvSpec) -> Box:
    """Return the actions of an environment for an algorithm that chooses numbers.

    Raises BadInput if they are others.
    """
    if not isinstance(spec.actions, Box):
        raise _refusal(algorithm, spec, "a Box; use an algorithm that takes Discrete ones")
    return spec.actions


def _refusal(algorithm: str, spec: EnvSpec, needed: str) -> BadInput:
    return BadInput(
        f"{algorithm} is not allowed on {spec.name}, whose actions are {spec.actions}: it needs "
        f"{needed}"
    )
