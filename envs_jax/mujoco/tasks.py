"""MuJoCo's robots as Gymnasium's version 5 has them, shifted in mass, friction and strength.

Level axis: at level v masses and inertias are 1 + .5 v times those of level 0, sliding friction is
1 - .75 v times, gear of the motors 1 - .45 v times; what follows from them is computed anew. With
``vary`` one of these alone is shifted.

At level 0, and at any other with the model's fields set likewise, observations, rewards and ends
are those of Gymnasium with the same engine, bit by bit: each episode starts as
``reset(seed=seed)``, with a seed of its own that follows from the words of its lane.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from envs_jax.cards.mujoco import OPTIONS, RETURNS, VARY
from envs_jax.host import CallbackBridge
from envs_jax.mujoco.engine import FACTORS, Batched, Bodies, Pooled, missing, scale_of
from envs_jax.mujoco.robots import ROBOTS, Robot, checked
from jaxgen.types import Box, EnvSpec, EpisodeKinds, HostStep, Numbers


class Outcome(NamedTuple):
    """A step of all simulations, before any episode begins anew."""

    obs: np.ndarray
    """float64 ``[S, F]``."""
    reward: np.ndarray
    """float64 ``[S]``."""
    terminated: np.ndarray
    truncated: np.ndarray


class Simulations:
    """Episodes of a robot in S simulations.

    Args:
      task: whose they are.
      num: S.
      noise: scale of the noise of their starts.
    """

    def __init__(self, task: "MujocoTask", num: int, noise: float):
        if what := missing():
            raise ValueError(f"{task.spec.name} cannot be played: {what}")
        self._robot, self._options, self._noise = task.robot, task.options, noise
        kind = Pooled if task.robot.feels_contacts else Batched
        self.bodies: Bodies = kind(
            task.spec.name, make_model(task.robot), num, task.factors, task.robot.outputs
        )
        self.lengths = np.zeros(num, np.int32)
        """Steps of the episodes that run."""

    def begin(self, sims: np.ndarray, seeds: np.ndarray, levels: np.ndarray) -> None:
        """Start episodes, each as Gymnasium does from its seed."""
        if not len(sims):
            return
        starts = [
            self._robot.draw(_generator(int(seed)), self.bodies.model, self._noise)
            for seed in seeds
        ]
        qpos, qvel = (np.stack(part) for part in zip(*starts, strict=True))
        self.bodies.set_levels(sims, levels)
        self.bodies.begin(sims, qpos, qvel)
        self.lengths[sims] = 0

    def observe(self) -> np.ndarray:
        """Observations float64 ``[S, F]``."""
        return self._robot.observe(self.bodies, self._options)

    def step(self, action: np.ndarray) -> Outcome:
        """Step all simulations: actions float32 ``[S, A]``.

        An action that is not finite moves nothing and pays NaN, so that a policy which diverged
        leaves the other simulations alone.
        """
        acts = np.asarray(np.isfinite(action).all(1))
        if not acts.all():
            action = np.where(acts[:, None], action, np.float32(0))
        paid = self._robot.step(self.bodies, action, self._options)
        reward = paid.reward if acts.all() else np.where(acts, paid.reward, np.nan)
        self.lengths += 1
        truncated = self.lengths >= self._robot.max_episode_steps
        return Outcome(self.observe(), reward, paid.terminated, truncated)

    def get(self, sims: slice) -> dict[str, np.ndarray]:
        """All that the next steps of simulations depend on."""
        return self.bodies.get(sims) | {"lengths": self.lengths[sims].copy()}

    def set(self, sims: slice, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `get` gave for as many simulations."""
        self.bodies.set(sims, state)
        self.lengths[sims] = state["lengths"]


def make_model(robot: Robot) -> Any:
    """The model of a robot at level 0; it needs mujoco."""
    module, function = robot.model.split(":")
    return getattr(import_module(f"envs_jax.mujoco.models.{module}"), function)()


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))


def seed_of(words: Any, *numbers: int) -> int:
    """A seed of an episode, 31 bits, that follows from all the numbers."""
    sequence = np.random.SeedSequence([*map(int, words), *map(int, numbers)])
    return int(sequence.generate_state(1)[0]) >> 1


# The task


class MujocoTask:
    """A robot at any variation level.

    Args:
      name: registry name, one of `ROBOTS`.
      **options: those of its card.

    Raises:
      ValueError: an option that there is not, or a value that is not allowed.
    """

    same_starts = True
    """Evaluation episode e starts alike at every level."""

    def __init__(self, name: str = "halfcheetah", **options: Any):
        self.robot = ROBOTS[name]
        self.options = checked(name, OPTIONS[name], options)
        vary = self.options["vary"]
        self.factors = tuple(FACTORS) if vary == VARY[0] else (vary,)
        num_seen, num_motors = self.robot.sizes(self.options)
        self.spec = EnvSpec(
            name, Numbers((-np.inf,) * num_seen, (np.inf,) * num_seen),
            Box((-self.robot.reach,) * num_motors, (self.robot.reach,) * num_motors),
            self.robot.max_episode_steps,
        )  # fmt: skip
        self.bridge = CallbackBridge(self.spec)

    def training(
        self, words: np.ndarray, levels: np.ndarray, num_envs: int, num_starts: int
    ) -> "MujocoVecEnv":
        """Open the simulations of all lanes: words ``[L, W]``, levels ``[L, V]``."""
        return MujocoVecEnv(self, np.asarray(words), _levels(levels), num_envs, num_starts)

    def evaluation(
        self, words: np.ndarray, levels: tuple[float, ...], num_episodes: int, num_slots: int
    ) -> "MujocoEpisodes":
        """Lay out fixed episodes: words ``[K, W]``, a row per level."""
        return MujocoEpisodes(self, np.asarray(words), _levels(levels), num_episodes, num_slots)

    def kinds(self, levels: tuple[float, ...], num_episodes: int) -> EpisodeKinds:
        """A single kind, whose upper reference is that of level 0 at every level."""
        low, high = RETURNS[self.spec.name]
        index = np.zeros((len(levels), num_episodes), int)
        return EpisodeKinds(("episode",), index, np.array([low]), np.array([high]))


def _levels(levels: Any) -> np.ndarray:
    """Levels float32; ValueError: one is outside of [0, 1]."""
    levels = np.asarray(levels, np.float32)
    bad = levels[~((levels >= 0) & (levels <= 1))]
    if bad.size:
        raise ValueError(f"variation level {bad[0]:g} is not allowed; use one in [0, 1]")
    return levels


def describe_level(task: MujocoTask, level: float, num_episodes: int) -> str:
    """Scales of the factors that vary, in words."""
    del num_episodes
    return ", ".join(f"{FACTORS[f].word} x {scale_of(f, level):.4g}" for f in task.factors)


# Training


class Slots(NamedTuple):
    """Numbers that the environments of `MujocoVecEnv` keep beside simulations, ``[M]`` each."""

    streams: np.ndarray
    """Numbers that the seeds of an environment's episodes follow from, uint32 ``[M, W + 3]``: the
    words of its lane, variation, number of the start, and the number that was given to reset."""
    episodes: np.ndarray
    """Episodes since then, int32."""
    seeds: np.ndarray
    """Seed of the episode that runs, int32."""
    totals: np.ndarray
    """Its rewards until now, float64."""


class MujocoVecEnv:
    """The training simulations of all lanes, ``[L, V, N]``, in one batch; a `HostVecEnv`.

    Every episode that ended is in the log: slot, seed and length, and its return.
    """

    def __init__(
        self, task: MujocoTask, words: np.ndarray, levels: np.ndarray, num_envs: int,
        num_starts: int,
    ):
        if num_starts < 1 or num_envs % num_starts:
            raise ValueError(
                f"num_starts = {num_starts} is not allowed; use a divisor of num_envs = {num_envs}"
            )
        self.shape = (*levels.shape, num_envs)
        self._name, self._words, self._num_starts = task.spec.name, words, num_starts
        self._levels = np.repeat(levels.reshape(-1), num_envs)
        num = len(self._levels)
        self._sims = Simulations(task, num, task.options.get("reset_noise_scale", 0.0))
        self._log = (np.zeros((0, 3), np.int32), np.zeros(0, np.float32))
        self._slots = Slots(
            np.zeros((num, words.shape[1] + 3), np.uint32), np.zeros(num, np.int32),
            np.zeros(num, np.int32), np.zeros(num),
        )  # fmt: skip
        self.reset(0)

    def reset(self, number: int) -> np.ndarray:
        """Start all episodes anew; those of a number are the same -> obs ``[L, V, N, F]``."""
        lanes, variations, envs = np.unravel_index(np.arange(len(self._levels)), self.shape)
        starts = envs % self._num_starts
        numbers = np.full(len(lanes), number)
        self._slots.streams[:] = np.column_stack([self._words[lanes], variations, starts, numbers])
        self._slots.episodes[:] = 0
        self._begin(np.arange(len(lanes)), self._levels)
        return self._shaped(self._sims.observe().astype(np.float32))

    def step(self, action: np.ndarray) -> HostStep:
        """Step all simulations: action float32 ``[L, V, N, A]``."""
        flat = np.asarray(action, np.float32).reshape(len(self._levels), -1)
        obs, reward, terminated, truncated = self._sims.step(flat)
        self._slots.totals[:] += reward
        next_obs = obs = obs.astype(np.float32)
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            self._note(ended)
            self._slots.episodes[ended] += 1
            self._begin(ended, self._sims.bodies.levels[ended])
            obs = self._sims.observe().astype(np.float32)
        fields = (obs, reward.astype(np.float32), terminated, truncated, next_obs)
        return HostStep(*map(self._shaped, fields))

    def _begin(self, slots: np.ndarray, levels: np.ndarray) -> None:
        """Start the episodes of these slots."""
        streams, episodes = self._slots.streams[slots], self._slots.episodes[slots]
        seeds = [seed_of(stream, count) for stream, count in zip(streams, episodes, strict=True)]
        self._slots.seeds[slots], self._slots.totals[slots] = seeds, 0
        self._sims.begin(slots, np.array(seeds), levels)

    def _note(self, ended: np.ndarray) -> None:
        """Write episodes that ended into the log."""
        numbers = np.stack([ended, self._slots.seeds[ended], self._sims.lengths[ended]], axis=1)
        returns = self._slots.totals[ended].astype(np.float32)
        self._log = (
            np.concatenate([self._log[0], numbers.astype(np.int32)]),
            np.concatenate([self._log[1], returns]),
        )

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(*self.shape, *values.shape[1:])

    def episodes(self, lane: int) -> dict[str, np.ndarray]:
        """Variation, seed, length and return of a lane's finished episodes, ``[M]`` each."""
        numbers, returns = self._log_of(self._slots_of(lane))
        return {
            "variation": numbers[:, 0] // self.shape[2],
            "level_seed": numbers[:, 1],
            "length": numbers[:, 2],
            "return": returns,
        }

    def get_state(self, lane: int | None = None) -> dict[str, np.ndarray]:
        """Simulations, running episodes and the log, of all lanes or of one, whose slots count
        from 0."""
        slots = self._slots_of(lane)
        numbers, returns = self._log_of(slots)
        kept = {name: values[slots].copy() for name, values in self._slots._asdict().items()}
        log = {"log_numbers": numbers, "log_returns": returns}
        return self._sims.get(slots) | kept | log

    def set_state(self, state: dict[str, np.ndarray], lane: int | None = None) -> None:
        """Go on from there; ValueError: it is of other simulations, or not of as many."""
        slots = self._slots_of(lane)
        self._check(state, slots)
        self._sims.set(slots, state)
        for name, values in self._slots._asdict().items():
            values[slots] = state[name]
        others = ~_within(self._log[0], slots)
        new = np.array(state["log_numbers"]) + np.array([slots.start, 0, 0], np.int32)
        self._log = (
            np.concatenate([self._log[0][others], new]),
            np.concatenate([self._log[1][others], state["log_returns"]]),
        )

    def _check(self, state: Mapping[str, np.ndarray], slots: slice) -> None:
        usual = self._sims.get(slots) | {k: v[slots] for k, v in self._slots._asdict().items()}
        for name, values in usual.items():
            found = np.shape(state[name]) if name in state else None
            if found != values.shape:
                raise ValueError(
                    f"{self._name}: a state with {name} of shape {found} does not fit "
                    f"{values.shape}; start from a checkpoint of these simulations"
                )

    def _log_of(self, slots: slice) -> tuple[np.ndarray, np.ndarray]:
        """The part of the log of these slots, counted from 0."""
        numbers, returns = self._log
        ours = _within(numbers, slots)
        return numbers[ours] - np.array([slots.start, 0, 0], np.int32), returns[ours]

    def _slots_of(self, lane: int | None) -> slice:
        """The slots of a lane, or of all."""
        per_lane = self.shape[1] * self.shape[2]
        first, count = (0, self.shape[0]) if lane is None else (lane, 1)
        return slice(first * per_lane, (first + count) * per_lane)


def _within(numbers: np.ndarray, slots: slice) -> np.ndarray:
    """Entries of the log ``[M, 3]`` are of these slots."""
    return (numbers[:, 0] >= slots.start) & (numbers[:, 0] < slots.stop)


# Evaluation


class MujocoEpisodes:
    """Fixed evaluation episodes ``[K, E]`` as seeds, played on a few slots; a `HostEpisodes`."""

    def __init__(
        self, task: MujocoTask, words: np.ndarray, levels: np.ndarray, num_episodes: int,
        num_slots: int,
    ):
        self.shape = (len(levels), num_episodes)
        seeds = [[seed_of(row, number) for number in range(num_episodes)] for row in words]
        self.level_seeds = np.array(seeds, np.int32)
        self._levels = np.repeat(levels, num_episodes)
        self._sims = Simulations(task, num_slots, task.options.get("eval_reset_noise_scale", 0.0))

    def start(self, slots: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        """Begin episodes in these slots -> observations of all slots."""
        self._sims.begin(slots, self.level_seeds.reshape(-1)[episodes], self._levels[episodes])
        return self._sims.observe().astype(np.float32)

    def step(self, action: np.ndarray) -> HostStep:
        """Step all slots."""
        obs, reward, terminated, truncated = self._sims.step(np.asarray(action, np.float32))
        seen = obs.astype(np.float32)
        return HostStep(seen, reward.astype(np.float32), terminated, truncated, seen)
