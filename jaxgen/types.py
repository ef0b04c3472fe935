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
A     dimensions of a continuous action
====  ==========================================================

A *cell* is (environment, algorithm, arm), a *run* is a cell with a seed, an *arm*
is a technique with hyper-parameters of its own.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxgen.system.errors import BadInput
from jaxgen.system.values import at_least, ends, items

if TYPE_CHECKING:
    from typing_extensions import TypeIs

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
    """Facts about the choice of the action that the algorithm keeps; leaves ``[T, V, N, ...]``."""


class Discrete(NamedTuple):
    """Numbered choices: actions int32 ``[*S]`` in [0, num)."""

    num: int
    dtype = "int32"
    shape = ()
    """Shape of one action."""

    def scale(self, action: Any) -> Any:
        """Return the action that an environment takes: the same one."""
        return action


class Box(NamedTuple):
    """Actions that are A numbers, float32 ``[*S, A]``, each within bounds of its own.

    Algorithms choose in [-1, 1]; environments take low to high.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one action."""
        return (len(self.low),)

    def scale(self, action: Any) -> Any:
        """Map [-1, 1] to low..high, float32 ``[..., A]`` of numpy or JAX, in either to either.

        What lies beyond acts at the edge. It is called where an action that was chosen meets an
        environment, and nowhere else.
        """
        low, high = (
            np.asarray(edge, np.float32).reshape((1,) * (action.ndim - 1) + self.shape)
            for edge in self
        )
        return ((low + high) / 2 + (high - low) / 2 * action).clip(low, high)


class Image(NamedTuple):
    """Observations that are images, uint8 ``[*S, height, width, channels]``."""

    height: int
    width: int
    channels: int
    dtype = "uint8"
    low, high = (0.0,), (255.0,)
    """Ends of every number's range."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return tuple(self)


class Codes(NamedTuple):
    """Observations that are codes without an order, uint8 ``[*S, *shape]`` in [first, num)."""

    shape: tuple[int, ...]
    num: int
    first: int = 0
    """The lowest code that occurs: a one-hot encoding spends no inputs on those below it."""
    dtype = "uint8"
    low = (0.0,)
    """Lower end of every code's range, that of the first one's included."""

    @property
    def high(self) -> tuple[float, ...]:
        """Upper end of every code's range."""
        return (self.num - 1.0,)


class Numbers(NamedTuple):
    """Observations that are numbers, float32 ``[*S, F]``.

    ``(obs - low) / (high - low)`` brings them into [0, 1]. Where a number has no bounds its range
    is nominal; a number whose ends are infinite or equal cannot be scaled and stays as it is.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return (len(self.low),)


def _checked(name: str, space: Any) -> Any:
    """A space in Python's numbers; BadInput, which begins with ``name``: it is not allowed."""
    where = f"{name}: {type(space).__name__}"
    match space:
        case Discrete():
            return Discrete(at_least(1, f"{where}.num", space.num))
        case Image():
            return Image(*(at_least(1, where, side) for side in space))
        case Box():
            return Box(*ends(where, *space, float(np.finfo(np.float32).max)))
        case Numbers():
            return Numbers(*ends(where, *space))
    shape = tuple(at_least(1, where, side) for side in items(where, space.shape))
    num, first = (at_least(0, where, end) for end in (space.num, space.first))
    if not first < num <= 256:
        raise BadInput(f"{name}: {space} is not allowed; use first < num <= 256, for uint8")
    return Codes(shape, num, first)


@dataclass(frozen=True)
class EnvSpec:
    """Static facts that an algorithm may know about an environment; BadInput: one is no such."""

    name: str
    observation: Image | Codes | Numbers
    actions: Discrete | Box
    max_episode_steps: int
    truncates: bool = True
    """False: episodes only ever terminate, and the successor of a last step is not asked for."""

    def __post_init__(self) -> None:
        """Check the fields."""
        spaces = {"observation": (Image, Codes, Numbers), "actions": (Discrete, Box)}
        for field, kinds in spaces.items():
            space = getattr(self, field)
            if not isinstance(space, kinds):
                names = " or ".join(kind.__name__ for kind in kinds)
                raise BadInput(f"{self.name}: {field} = {space!r} is not allowed; use {names}")
            vars(self)[field] = _checked(self.name, space)
        steps = at_least(1, f"{self.name}: max_episode_steps", self.max_episode_steps)
        vars(self).update(max_episode_steps=steps, truncates=bool(self.truncates))

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.observation.shape

    @property
    def obs_dtype(self) -> str:
        """Type of an observation's numbers."""
        return self.observation.dtype

    @property
    def is_image(self) -> bool:
        """Whether observations are images."""
        return isinstance(self.observation, Image)

    def stacked(self, num_frames: int) -> "EnvSpec":
        """The specification for an algorithm that is shown the last ``num_frames`` images at once.

        Raises BadInput if observations are no images.
        """
        if num_frames == 1:
            return self
        image = self.observation
        if not isinstance(image, Image):
            raise BadInput(
                f"num_frames = {num_frames!r} is not allowed: observations of {self.name} are "
                "no images; use 1"
            )
        stack = image._replace(channels=image.channels * num_frames)
        return dataclasses.replace(self, observation=stack)


class Policy(NamedTuple):
    """A way to act with a vector: all that episodes, films and agents need of an algorithm.

    Actions for a `Box` are in [-1, 1]; see `Box.scale`.
    """

    best: Callable[[PyTree, Array], Array]
    """(params, obs ``[..., *obs_shape]``) -> the preferred actions ``[..., *action shape]``."""
    draw: Callable[[PyTree, Array, Array], Array]
    """(params, obs, words uint32 ``[..., W]``) -> actions drawn at random."""
    num_words: int = 1
    """W: how many uint32 words the choice of one action consumes, in training too."""
    scores: Callable[[PyTree, Array], Array] | None = None
    """(params, obs) -> a logit or a value for each `Discrete` action ``[..., num]``; None: the
    actions are not discrete."""


class Environment(Protocol):
    """A pure JAX environment, as the collector needs it; `envs_jax.base` implements it."""

    spec: EnvSpec
    reset_words: int
    """How many uint32 words one reset consumes."""

    def reset_from(self, words: Array, params: PyTree) -> tuple[Array, PyTree]:
        """Start episodes: uint32 words ``[*S, reset_words]`` -> obs and state ``[*S, ...]``."""
        ...

    def advance(
        self, state: PyTree, action: Array, params: PyTree
    ) -> tuple[Array, PyTree, Array, Array, Array]:
        """Step without auto-reset: actions int32 ``[*S]``, or float32 ``[*S, A]`` within a `Box`.

        Returns obs, state, reward (float32), terminated, truncated (bool).
        """
        ...


class Task(Protocol):
    """An environment with its variation table: what a study trains and evaluates on."""

    @property
    def spec(self) -> EnvSpec:
        """Facts that algorithms may know."""
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


class HostStep(NamedTuple):
    """Results of a step of a host environment of shape S; leaves ``[*S, ...]``, numpy."""

    obs: np.ndarray
    """Observation after the step; after the end of an episode, the first one of the next."""
    reward: np.ndarray
    """float32."""
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: np.ndarray
    """The true successor, before the reset; if the spec says that nothing truncates, ``obs``."""


class HostVecEnv(Protocol):
    """A batched numpy environment of shape S: ``[V, N]``, or ``[L, V, N]`` for L lanes at once.

    Its randomness is its own. It may reuse its arrays: the collector copies what it keeps.
    """

    def reset(self, number: int) -> np.ndarray:
        """Start all episodes anew -> obs ``[*S, *obs_shape]``; those of a number are the same."""
        ...

    def step(self, action: np.ndarray) -> HostStep:
        """Step with auto-reset: actions int32 ``[*S]``, or float32 ``[*S, A]`` within a `Box`."""
        ...

    def episodes(self, lane: int) -> dict[str, np.ndarray]:
        """The episodes that a lane has finished: arrays ``[M]`` by name, one number for each."""
        ...

    def get_state(self, lane: int | None = None) -> dict[str, np.ndarray]:
        """Everything that the next steps depend on, and the finished episodes.

        A lane's own state names no lane, so that it can be set into another one; None: all lanes.
        """
        ...

    def set_state(self, state: dict[str, np.ndarray], lane: int | None = None) -> None:
        """Go back to what `get_state` gave, which must be trusted, for one lane or for all.

        Raises ValueError if it does not fit.
        """
        ...


class HostEpisodes(Protocol):
    """Fixed evaluation episodes of K levels, ``[K, E]``, played in any order on some slots."""

    shape: tuple[int, int]
    """(K, E)."""
    level_seeds: np.ndarray
    """Number of the instance that each episode plays, int32 ``[K, E]``."""

    def start(self, slots: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        """Begin episodes (flat numbers below K x E) in these slots -> obs ``[slots, ...]``."""
        ...

    def step(self, action: np.ndarray) -> HostStep:
        """Step all slots: actions int32 ``[slots]``, or float32 ``[slots, A]`` within a `Box`.

        What a slot shows whose episode ended is undefined.
        """
        ...


class HostTask(Protocol):
    """A host environment with its variation table; see `Task` for one in JAX."""

    @property
    def spec(self) -> EnvSpec:
        """Facts that algorithms may know."""
        ...

    @property
    def bridge(self) -> "Bridge":
        """The way from a compiled program to the environment that is connected."""
        ...

    def training(
        self, words: np.ndarray, levels: np.ndarray, num_envs: int, num_starts: int
    ) -> HostVecEnv:
        """Open the environments of all lanes.

        Args:
          words: uint32 ``[L, W]``, from which a lane's episodes follow, whatever lanes are beside.
          levels: variation levels float32 ``[L, V]``.
          num_envs: N of each variation.
          num_starts: distinct starts among them, repeated in order.
        """
        ...

    def evaluation(
        self, words: np.ndarray, levels: tuple[float, ...], num_episodes: int, num_slots: int
    ) -> HostEpisodes:
        """Lay out fixed episodes: words uint32 ``[K, W]``, by level; alike with ``same_starts``."""
        ...

    def kinds(self, levels: tuple[float, ...], num_episodes: int) -> "EpisodeKinds":
        """Kinds of episodes that `evaluation` lays out."""
        ...


class EpisodeKinds(NamedTuple):
    """Kinds of evaluation episodes, which a level may mix; each has a scale of its own."""

    names: tuple[str, ...]
    index: np.ndarray
    """The kind of each episode, int ``[K, E]``."""
    low: np.ndarray
    """The return of each kind that a published normalisation takes for 0, float64; NaN: none is."""
    high: np.ndarray
    """The best return of each kind, float64."""


class Bridge(Protocol):
    """Steps a host environment from inside of a compiled program."""

    @property
    def max_envs(self) -> int:
        """How many environments one step takes, of all lanes and variations."""
        ...

    def connect(self, env: HostVecEnv) -> None:
        """Step this environment from now on, in what this thread runs."""
        ...

    def step(self, action: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Traceable, and vmappable over leading axes: one call of the host for all.

        Actions as an algorithm chooses them, int32 ``[*S]`` or float32 ``[*S, A]`` in [-1, 1] ->
        the fields of a `HostStep`. The environment gets them scaled, by `Box.scale` in numpy, so
        that they have the bits of those of a loop in Python.
        """
        ...

    def run(self, program: Any, *args: Any) -> Any:
        """Call a compiled program that steps; raises what the environment raised.

        Several threads may do so at a time, each with the environment that it has connected.
        """
        ...


def is_host(task: Task | HostTask) -> "TypeIs[HostTask]":
    """Whether a task's environment lives on the host."""
    return hasattr(task, "bridge")
