"""Any environment of Gymnasium, whose attributes vary between the levels.

Each episode starts as ``reset(seed=seed)``, with a seed of its own. The state of an environment is
the seed of its episode, the level, and the actions since: a resumed run plays them again, and sees
what it saw. Where the same actions lead elsewhere, as randomness or a cache outlive a reset, the
episode is cut off and a warning says so.
"""

import ast
import inspect
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from envs_jax.cards.gymnasium import registry_name_of
from envs_jax.host.bridge import CallbackBridge
from envs_jax.host.seeded import Outcome, SeededEpisodes, SeededVecEnv
from envs_jax.spaces import actions_of, image_or_numbers
from envs_jax.varying import checked_ends, values_at
from jaxgen.study.cards import registry_name
from jaxgen.types import Discrete, EnvSpec, EpisodeKinds


class Facts(NamedTuple):
    """Facts of an environment that was made."""

    spec: EnvSpec
    reward_threshold: float | None
    """The return from which on Gymnasium calls it solved."""


class GymnasiumTask:
    """An environment in which some attributes grow, or fall, with the level.

    Args:
      id: name in Gymnasium, e.g. ``"LunarLander-v3"``; ``"module:name"`` imports a module first.
      vary: name of an attribute of the unwrapped environment -> its values at levels 0 and 1;
        linear between them, set before each reset.
      reference: the return that counts as 1; None: the one from which on it counts as solved.
      max_episode_steps: time limit; None: Gymnasium's.
      make: further arguments of `gymnasium.make`.

    Raises:
      ValueError: there is no such environment, attribute, limit or reference, or its spaces cannot
        be used.
    """

    same_starts = True
    """Evaluation episode e starts from the same seed at every level."""

    def __init__(
        self,
        id: str,
        vary: Mapping[str, Sequence[float]] = {},
        reference: float | None = None,
        max_episode_steps: int | None = None,
        make: Mapping[str, Any] = {},
    ):
        self._arguments = (id, max_episode_steps, make)
        env = self.make()
        self.spec, threshold = facts_of(id, env)
        self.vary = {name: _ends(id, env, name, ends) for name, ends in vary.items()}
        self.reference = threshold if reference is None else reference
        if self.reference is None:
            raise ValueError(
                f"the best return of {id} is not known; give --reference R, a return that good "
                "policies reach: scores are fractions of the way to it from random play"
            )
        self.bridge = CallbackBridge(self.spec)

    def make(self, **others: Any) -> gymnasium.Env:
        """Make an environment as it is at its usual parameters, with some other arguments."""
        id, max_episode_steps, make = self._arguments
        return open_env(id, max_episode_steps, {**make, **others})

    def training(
        self, words: np.ndarray, levels: np.ndarray, num_envs: int, num_starts: int
    ) -> SeededVecEnv:
        """Open the environments of all lanes: words ``[L, W]``, levels ``[L, V]``."""
        open_worlds = partial(GymnasiumWorlds, self)
        return SeededVecEnv(self.spec, open_worlds, words, levels, num_envs, num_starts)

    def evaluation(
        self, words: np.ndarray, levels: tuple[float, ...], num_episodes: int, num_slots: int
    ) -> SeededEpisodes:
        """Lay out fixed episodes: words ``[K, W]``, a row per level."""
        worlds = GymnasiumWorlds(self, num_slots)
        return SeededEpisodes(self.spec, worlds, words, levels, num_episodes)

    def kinds(self, levels: tuple[float, ...], num_episodes: int) -> EpisodeKinds:
        """A single kind, whose upper reference is the same at every level."""
        index = np.zeros((len(levels), num_episodes), int)
        # No published normalisation has a lower end.
        low, high = np.array([np.nan]), np.array([self.reference], float)
        return EpisodeKinds(("episode",), index, low, high)


def facts_of(id: str, env: gymnasium.Env) -> Facts:
    """Facts of an environment; ValueError: it cannot be used."""
    limit = env.spec.max_episode_steps if env.spec else None
    if limit is None:
        raise ValueError(
            f"{id} has no time limit that is known, and episodes must end: give one by "
            "--task max_episode_steps=N"
        )
    observation, actions = image_or_numbers(id, env.observation_space), env.action_space
    spec = EnvSpec(registry_name_of(id), observation, actions_of(id, actions), limit)
    threshold = env.spec.reward_threshold if env.spec else None
    return Facts(spec, None if threshold is None else float(threshold))


def spec_of(id: str, max_episode_steps: int | None, make: Mapping[str, Any]) -> EnvSpec:
    """Facts that algorithms may know of an environment; errors as of `GymnasiumTask`."""
    return facts_of(id, open_env(id, max_episode_steps, make)).spec


def open_env(
    id: str, max_episode_steps: int | None = None, make: Mapping[str, Any] = {}
) -> gymnasium.Env:
    """Make an environment; ValueError: Gymnasium cannot, and says why."""
    try:
        return gymnasium.make(
            id, max_episode_steps=max_episode_steps, disable_env_checker=True, **make
        )
    except (gymnasium.error.Error, ImportError, TypeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        own = registry_name(id)
        if own != id:
            reason += f"; {own} is the same environment, which needs no gymnasium: --env {own}"
        raise ValueError(f"gymnasium cannot make {id!r}: {reason}") from None


def _ends(
    id: str, env: gymnasium.Env, name: str, ends: Sequence[float]
) -> tuple[float, float]:
    """The values of an attribute at levels 0 and 1, checked."""
    # Those of the class count as well: what is set on the object hides them.
    kinds = [vars(kind) for kind in reversed(type(env.unwrapped).__mro__)]
    attributes = {key: each[key] for each in (*kinds, vars(env.unwrapped)) for key in each}
    allowed = sorted(key for key, value in attributes.items() if _is_number(value))
    if name not in allowed:
        given = f" is {attributes[name]!r}, no number" if name in attributes else " does not exist"
        raise ValueError(
            f"{id}: the attribute {name!r}{given}; use one of {', '.join(allowed) or '(none)'}"
        )
    if name in _read_at_construction(type(env.unwrapped)):
        raise ValueError(
            f"{id}: the attribute {name!r} is read when the environment is made, and what is "
            "computed of it there would stay as it was; vary another one"
        )
    return checked_ends(id, name, ends)


def _read_at_construction(kind: type) -> set[str]:
    """Attributes that constructors read, as far as their source is at hand."""
    found: set[str] = set()
    for each in kind.__mro__:
        if "__init__" not in vars(each):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(vars(each)["__init__"])))
        except (OSError, TypeError, SyntaxError):
            continue
        found |= {
            node.attr for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
            and isinstance(node.value, ast.Name) and node.value.id == "self"
        }  # fmt: skip
    return found


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool)


@dataclass
class _Drawn:
    """An environment that is drawn, and how far it has come in which episode."""

    env: gymnasium.Env
    episode: tuple[Any, Any] = (None, None)
    """Seed and level."""
    time: int = 0


class GymnasiumWorlds:
    """Environments of Gymnasium; `envs_jax.host.seeded.Worlds`.

    They are stepped one by one, not by Gymnasium's vector environments, which step all or none:
    what ended rests, and a single one plays its actions again.

    Args:
      task: whose they are.
      num: S.
    """

    def __init__(self, task: GymnasiumTask, num: int):
        self._task, self._envs = task, [task.make() for _ in range(num)]
        spec = task.spec
        self.levels, self.lengths = np.zeros(num, np.float32), np.zeros(num, np.int32)
        self._seeds, self._ended = np.zeros(num, np.int64), np.ones(num, bool)
        self._cut = np.zeros(num, bool)
        self._drawn: dict[int, _Drawn] = {}
        self._obs = np.zeros((num, *spec.obs_shape), spec.obs_dtype)
        steps = (num, spec.max_episode_steps, *spec.actions.shape)
        self._actions = np.zeros(steps, spec.actions.dtype)

    def begin(self, sims: np.ndarray, seeds: np.ndarray, levels: np.ndarray) -> None:
        """Start episodes, each from its seed."""
        for sim, seed, level in zip(sims, seeds, levels, strict=True):
            self._show(sim, self._start(self._envs[sim], int(seed), float(level)))
            self.levels[sim], self.lengths[sim], self._seeds[sim] = level, 0, seed
            self._ended[sim] = self._cut[sim] = False

    def _start(self, env: gymnasium.Env, seed: int, level: float) -> Any:
        for name, value in values_at(self._task.vary, level).items():
            setattr(env.unwrapped, name, value)
        return env.reset(seed=seed)[0]

    def observe(self) -> np.ndarray:
        """Observations ``[S, *obs_shape]``."""
        return self._obs

    def step(self, action: np.ndarray) -> Outcome:
        """Step all that have not ended.

        What could not be resumed is cut off: it shows what it showed, pays nothing, is truncated.
        An action that is not finite moves nothing and pays NaN.
        """
        num = len(self._envs)
        reward, terminated, truncated = np.zeros(num), np.zeros(num, bool), self._cut.copy()
        for sim in np.flatnonzero(~self._ended & ~self._cut):
            reward[sim], terminated[sim], truncated[sim] = self._advance(int(sim), action[sim])
        self._ended |= terminated | truncated
        return Outcome(self._obs, reward, terminated, truncated)

    def _advance(self, sim: int, action: np.ndarray) -> tuple[float, bool, bool]:
        """Step one and write its action down."""
        self._actions[sim, self.lengths[sim]] = action
        self.lengths[sim] += 1
        # Gymnasium's own limit does not count what moved nothing.
        late = bool(self.lengths[sim] >= self._task.spec.max_episode_steps)
        if not np.isfinite(action).all():
            return np.nan, False, late
        obs, reward, terminated, truncated, _ = self._envs[sim].step(self._given(action))
        self._show(sim, obs)
        return float(reward), bool(terminated), bool(truncated) or late

    def _given(self, action: np.ndarray) -> Any:
        """An action as the environment takes it."""
        space: Any = self._envs[0].action_space
        if isinstance(self._task.spec.actions, Discrete):
            return space.start + int(action)
        return action.reshape(space.shape).astype(space.dtype)

    def _show(self, sim: int, obs: Any) -> None:
        seen, shape = np.asarray(obs), self._obs.shape[1:]
        if seen.size != self._obs[sim].size:
            raise ValueError(
                f"{self._task.spec.name} showed an observation of shape {list(seen.shape)}, and "
                f"its space is of {list(shape)}; mend the environment"
            )
        self._obs[sim] = seen.reshape(shape)

    def render(self, sim: int) -> np.ndarray:
        """Draw an environment, RGB uint8 ``[H, W, 3]``.

        Gymnasium's draw only if they were made for it: a second one plays the same actions.
        """
        if sim not in self._drawn:
            self._drawn[sim] = _Drawn(self._task.make(render_mode="rgb_array"))
        drawn = self._drawn[sim]
        if (self._seeds[sim], self.levels[sim]) != drawn.episode or drawn.time > self.lengths[sim]:
            self._start(drawn.env, int(self._seeds[sim]), float(self.levels[sim]))
            drawn.episode, drawn.time = (self._seeds[sim], self.levels[sim]), 0
        for action in self._actions[sim, drawn.time : self.lengths[sim]]:
            if np.isfinite(action).all():
                drawn.env.step(self._given(action))
        drawn.time = int(self.lengths[sim])
        try:
            image: Any = drawn.env.render()
        except gymnasium.error.Error as error:
            # A library that draws is missing, and Gymnasium says which.
            raise ValueError(f"{self._task.spec.name} cannot be drawn: {error}") from None
        return np.asarray(image)

    def get(self, sims: slice) -> dict[str, np.ndarray]:
        """Seeds, levels, and actions since, of the episodes that run; and what they show."""
        return {
            "seeds": self._seeds[sims].copy(), "levels": self.levels[sims].copy(),
            "lengths": self.lengths[sims].copy(), "actions": self._actions[sims].copy(),
            "seen": self._obs[sims].copy(),
        }  # fmt: skip

    def set(self, sims: slice, state: Mapping[str, np.ndarray]) -> None:
        """Play the same episodes up to the same step."""
        numbers = np.arange(len(self._envs))[sims]
        self.begin(numbers, state["seeds"], state["levels"])
        for row, sim in enumerate(numbers):
            for action in state["actions"][row, : state["lengths"][row]]:
                self._advance(int(sim), action)
        same = np.array([
            np.array_equal(self._obs[sim], seen, equal_nan=self._obs.dtype != np.uint8)
            for sim, seen in zip(numbers, state["seen"], strict=True)
        ])  # fmt: skip
        self._obs[numbers], self._cut[numbers] = state["seen"], ~same
        if not same.all():
            warnings.warn(
                f"{self._task.spec.name}: {(~same).sum()} of {len(same)} running episodes lead "
                "elsewhere when their actions are played again; they begin anew, so that a resumed "
                "run differs from one in one piece", stacklevel=2,
            )  # fmt: skip
