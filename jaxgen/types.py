"""The types that cross module borders, and the letters of the axes.

Axes, from outer to inner, in comments, names and documentation everywhere:

====  ==========================================================
L     lanes: a flat list of (arm, seed) pairs of one program
I     iterations of training
T     time steps of a rollout
V     variations of the environment
P     members of an ES population
N     parallel environments per variation
B     minibatch per variation
E     evaluation episodes
====  ==========================================================

A *cell* is (environment, algorithm, technique), a *run* is a cell with a seed,
an *arm* is a technique (or a set of hyper-parameters).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
PyTree = Any
Metrics = dict[str, Array]
"""Scalars of one iteration by name, float32."""


class Transition(NamedTuple):
    """One step of every parallel environment; leaves ``[T, V, N, ...]`` in a rollout.

    ``next_obs`` is the true successor, before any auto-reset, so that
    bootstrapping through a truncation needs no special case.
    """

    obs: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: Array
    extras: PyTree = ()
    """What the algorithm keeps of the choice of the action; leaves ``[T, V, N, ...]``."""


@dataclass(frozen=True)
class EnvSpec:
    """What an algorithm may know about an environment; all static."""

    name: str
    obs_shape: tuple[int, ...]
    obs_dtype: str
    num_actions: int
    max_episode_steps: int
    num_codes: int | None = None
    """Observations are integer codes in [0, num_codes), for a one-hot encoding; None: numbers."""
    first_code: int = 0
    """The lowest code that occurs: a one-hot encoding spends no inputs on those below it."""
    obs_low: tuple[float, ...] = (0.0,)
    """Lower end of each number's range, or one for all; nominal where it has no bounds."""
    obs_high: tuple[float, ...] = (1.0,)
    """Upper end; (obs - low) / (high - low) brings an observation into [0, 1]."""


class Environment(Protocol):
    """What the collector asks of a pure JAX environment; `envs_jax.base` implements it."""

    spec: EnvSpec
    reset_words: int
    """How many uint32 words one reset consumes."""

    def reset_from(self, words: Array, params: PyTree) -> tuple[Array, PyTree]:
        """Start episodes: uint32 words ``[*S, reset_words]`` -> obs and state ``[*S, ...]``."""
        ...

    def advance(
        self, state: PyTree, action: Array, params: PyTree
    ) -> tuple[Array, PyTree, Array, Array, Array]:
        """Step without auto-reset -> obs, state, reward (float32), terminated, truncated (bool)."""
        ...


class Task(Protocol):
    """An environment with its variation table: what a study trains and evaluates on."""

    @property
    def spec(self) -> EnvSpec:
        """What algorithms may know."""
        ...

    @property
    def environment(self) -> Environment:
        """The environment that all variations share."""
        ...

    @property
    def refresh_steps(self) -> int | None:
        """Env steps (of one lane) between fresh training parameters; None: never."""
        ...

    def training_params(self, key: Array, levels: Array) -> PyTree:
        """Parameters of the training variations: levels float32 ``[V]`` -> params ``[V]``.

        A task with generated content (layouts) draws it here from ``key``;
        traceable, vmappable over lanes.
        """
        ...

    def evaluation(self, key: Array, levels: Array, num_episodes: int) -> tuple[PyTree, Array]:
        """Parameters ``[K]`` and reset words ``[K, E, reset_words]`` of fixed evaluation episodes.

        Episode e of level k is the same for every policy that is evaluated with ``key``.
        """
        ...

    def ceiling(self, params: PyTree, words: Array) -> Array:
        """The best return that each evaluation episode allows, float32 ``[K, E]``."""
        ...

    def fingerprints(self, params: PyTree) -> Array | None:
        """A uint32 per generated training or evaluation instance, ``[K, M]``; None: no overlap."""
        ...
