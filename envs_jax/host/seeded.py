"""Vector environments on the host whose episodes each follow from a seed.

A training episode's seed follows from the words of its lane, its variation, its environment's start
and its number; an evaluation episode's from the words of its level and its number. So an episode is
the same whatever runs beside it, in whatever slot.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxgen.types import EnvSpec, HostStep


class Outcome(NamedTuple):
    """A step of all simulations, before any episode begins anew."""

    obs: np.ndarray
    """``[S, ...]``, as exact as the simulation is."""
    reward: np.ndarray
    """float64 ``[S]``."""
    terminated: np.ndarray
    truncated: np.ndarray


class Worlds(Protocol):
    """S simulations of one episode each."""

    @property
    def levels(self) -> np.ndarray:
        """Variation levels of the episodes that run, float32 ``[S]``."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """Steps that they have taken, int32 ``[S]``."""
        ...

    def begin(self, sims: np.ndarray, seeds: np.ndarray, levels: np.ndarray) -> None:
        """Start episodes in these simulations ``[n]``, from seeds ``[n]`` at levels ``[n]``."""
        ...

    def observe(self) -> np.ndarray:
        """Observations ``[S, ...]``."""
        ...

    def step(self, action: np.ndarray) -> Outcome:
        """Step all: actions int32 ``[S]``, or float32 ``[S, A]`` within a `jaxgen.types.Box`.

        What a simulation shows that ended, and was not started anew, is undefined.
        """
        ...

    def render(self, sim: int) -> np.ndarray:
        """Draw a simulation, RGB uint8 ``[H, W, 3]``; ValueError: it cannot be drawn."""
        ...

    def get(self, sims: slice) -> dict[str, np.ndarray]:
        """All that the next steps of simulations depend on, ``[n, ...]``."""
        ...

    def set(self, sims: slice, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `get` gave for as many simulations."""
        ...


def seed_of(words: Any, *numbers: int) -> int:
    """A seed of an episode, 31 bits, that follows from all the numbers."""
    sequence = np.random.SeedSequence([*map(int, words), *map(int, numbers)])
    return int(sequence.generate_state(1)[0]) >> 1


def checked_levels(levels: Any) -> np.ndarray:
    """Levels float32; ValueError: one is outside of [0, 1]."""
    levels = np.asarray(levels, np.float32)
    bad = levels[~((levels >= 0) & (levels <= 1))]
    if bad.size:
        raise ValueError(f"variation level {bad[0]:g} is not allowed; use one in [0, 1]")
    return levels


# Training


class Slots(NamedTuple):
    """Numbers that the environments of `SeededVecEnv` keep beside simulations, ``[M]`` each."""

    streams: np.ndarray
    """Numbers that the seeds of an environment's episodes follow from, uint32 ``[M, W + 3]``: the
    words of its lane, variation, number of the start, and the number that was given to reset."""
    episodes: np.ndarray
    """Episodes since then, int32."""
    seeds: np.ndarray
    """Seed of the episode that runs, int32."""
    totals: np.ndarray
    """Its rewards until now, float64."""


class SeededVecEnv:
    """The training simulations of all lanes, ``[L, V, N]``, in one batch; a `HostVecEnv`.

    Every episode that ended is in the log: slot, seed and length, and its return.
    """

    def __init__(
        self, spec: EnvSpec, worlds: Callable[[int], Worlds], words: np.ndarray,
        levels: np.ndarray, num_envs: int, num_starts: int,
    ):
        words, levels = np.asarray(words), checked_levels(levels)
        if num_starts < 1 or num_envs % num_starts:
            raise ValueError(
                f"num_starts = {num_starts} is not allowed; use a divisor of num_envs = {num_envs}"
            )
        self.shape = (*levels.shape, num_envs)
        self._spec, self._words, self._num_starts = spec, words, num_starts
        self._levels = np.repeat(levels.reshape(-1), num_envs)
        num = len(self._levels)
        self._sims = worlds(num)
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
        return self._shaped(_seen(self._spec, self._sims))

    def step(self, action: np.ndarray) -> HostStep:
        """Step all simulations: action ``[L, V, N, *action shape]``."""
        flat = np.reshape(action, (len(self._levels), *self._spec.actions.shape))
        obs, reward, terminated, truncated = self._sims.step(flat)
        self._slots.totals[:] += reward
        next_obs = obs = obs.astype(self._spec.obs_dtype)
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            self._note(ended)
            self._slots.episodes[ended] += 1
            self._begin(ended, self._sims.levels[ended])
            obs = _seen(self._spec, self._sims)
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
                    f"{self._spec.name}: a state with {name} of shape {found} does not fit "
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


class SeededEpisodes:
    """Fixed evaluation episodes ``[K, E]`` as seeds, played on a few slots; a `HostEpisodes`."""

    def __init__(
        self, spec: EnvSpec, worlds: Worlds, words: np.ndarray, levels: Any, num_episodes: int
    ):
        levels = checked_levels(levels)
        self.shape = (len(levels), num_episodes)
        seeds = [[seed_of(row, number) for number in range(num_episodes)] for row in words]
        self.level_seeds = np.array(seeds, np.int32)
        self._levels = np.repeat(levels, num_episodes)
        self._spec, self._sims = spec, worlds

    def start(self, slots: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        """Begin episodes in these slots -> observations of all slots."""
        self._sims.begin(slots, self.level_seeds.reshape(-1)[episodes], self._levels[episodes])
        return _seen(self._spec, self._sims)

    def render(self, slot: int) -> np.ndarray:
        """Draw what a slot shows, RGB uint8 ``[H, W, 3]``."""
        return self._sims.render(slot)

    def step(self, action: np.ndarray) -> HostStep:
        """Step all slots."""
        obs, reward, terminated, truncated = self._sims.step(np.asarray(action))
        seen = obs.astype(self._spec.obs_dtype)
        return HostStep(seen, reward.astype(np.float32), terminated, truncated, seen)


def _seen(spec: EnvSpec, worlds: Worlds) -> np.ndarray:
    """Observations ``[S, *obs_shape]`` of their type, in an array of their own."""
    return worlds.observe().astype(spec.obs_dtype)
