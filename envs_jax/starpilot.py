"""Starpilot and the other games of procgen, shifted from seen easy levels to unseen hard ones.

Level axis: of the environments of a variation, the share min(1, 2v) plays levels that are not
those of training, the share max(0, 2v - 1) plays in hard mode. So v = 0 is easy on the training
levels, .25 half of each, .5 easy on unseen levels, .75 half hard, 1 hard. Training, training's
unseen and evaluation's unseen levels are disjoint ranges of level seeds, and no arm ever trains on
hard mode.

An episode ends by itself, at the latest at the game's time limit, which procgen does not tell
apart from a death: every end is a termination. What it shows then is the next episode already.
"""

from typing import NamedTuple

import numpy as np

from envs_jax import procgen_games
from envs_jax.host import CallbackBridge
from envs_jax.procgen_games import Block, Levels, Slots
from jaxgen.types import Discrete, EnvSpec, EpisodeKinds, HostStep, Image

UNSEEN_START = 200
"""Unseen training levels begin here, or after the seen ones if these are more."""
EVALUATION_START = 1_000_000
EVALUATION_COUNT = 1_000_000
"""Unseen evaluation levels: a range that training never touches."""


KINDS = ("easy seen", "easy unseen", "hard unseen")
"""Kinds of episodes; seen are the levels that every arm trains on."""


class Mixture(NamedTuple):
    """How many of N slots are of which kind."""

    name: str
    """One of `KINDS`."""
    levels: Levels
    count: int


class ProcgenTask:
    """A game of procgen at any variation level."""

    def __init__(self, game: str = "starpilot", num_levels: int = 200):
        procgen_games.check_game(game)
        whole = isinstance(num_levels, int | np.integer) and not isinstance(num_levels, bool)
        if not whole or not 1 <= num_levels <= EVALUATION_START // 2:
            raise ValueError(
                f"num_levels = {num_levels!r} is not allowed; use a whole number from 1 to "
                f"{EVALUATION_START // 2}, so that unseen levels are left"
            )
        self.game, self.num_levels = game, int(num_levels)
        limit = procgen_games.TIME_LIMIT.get(game, 1000)
        self.spec = EnvSpec(
            game, Image(*procgen_games.OBS_SHAPE), Discrete(procgen_games.NUM_ACTIONS), limit,
            truncates=False,
        )
        self.bridge = CallbackBridge(self.spec)

    def mixture(self, level: float, num_slots: int, evaluation: bool) -> list[Mixture]:
        """The kinds of slots at a variation level, in order: seen before unseen, easy before hard.

        Raises ValueError for a level outside of [0, 1].
        """
        level = float(level)
        if not 0 <= level <= 1:
            raise ValueError(f"variation level {level} is not allowed; use one in [0, 1]")
        num_unseen = round(min(1.0, 2 * level) * num_slots)
        num_hard = round(max(0.0, 2 * level - 1) * num_slots)
        if num_hard and self.game in procgen_games.ONE_MODE:
            raise ValueError(
                f"{self.game} cannot be played at level {level}: its hard mode cannot share a "
                "vector with its easy one; use levels up to 0.5, or another game"
            )
        start = max(UNSEEN_START, self.num_levels)
        unseen = (start, EVALUATION_START - start)
        if evaluation:
            unseen = (EVALUATION_START, EVALUATION_COUNT)
        kinds = (
            Mixture("easy seen", Levels("easy", 0, self.num_levels), num_slots - num_unseen),
            Mixture("easy unseen", Levels("easy", *unseen), num_unseen - num_hard),
            Mixture("hard unseen", Levels("hard", *unseen), num_hard),
        )
        return [kind for kind in kinds if kind.count]

    def blocks(
        self, words: np.ndarray, level: float, num_slots: int, evaluation: bool, *numbers: int
    ) -> list[Block]:
        """The slots of a variation; ``words`` and ``numbers`` decide what they play."""
        kinds = self.mixture(level, num_slots, evaluation)
        return [
            Block(kind.levels, _rand_seed(words, *numbers, part), kind.count)
            for part, kind in enumerate(kinds)
        ]

    def training(
        self, words: np.ndarray, levels: np.ndarray, num_envs: int, num_starts: int
    ) -> "ProcgenVecEnv":
        """Open the games of all lanes: words ``[L, W]``, levels ``[L, V]``."""
        return ProcgenVecEnv(self, np.asarray(words), np.asarray(levels), num_envs, num_starts)

    def evaluation(
        self, words: np.ndarray, levels: tuple[float, ...], num_episodes: int, num_slots: int
    ) -> "ProcgenEpisodes":
        """Lay out fixed episodes: words ``[K, W]``, a row per level."""
        return ProcgenEpisodes(self, np.asarray(words), levels, num_episodes, num_slots)

    def kinds(self, levels: tuple[float, ...], num_episodes: int) -> EpisodeKinds:
        """Easy on seen levels, easy and hard on unseen ones, with (R_min, R_max) of their mode."""
        index = [
            [
                KINDS.index(kind.name)
                for kind in self.mixture(level, num_episodes, evaluation=True)
                for _ in range(kind.count)
            ]
            for level in levels
        ]
        ranges = [procgen_games.REWARD_RANGE[name.split()[0]][self.game] for name in KINDS]
        low, high = np.array(ranges, np.float64).T
        return EpisodeKinds(KINDS, np.array(index), low, high)


def describe_level(task: ProcgenTask, level: float, num_episodes: int) -> str:
    """How many episodes of each kind are played at a level."""
    names, index, *_ = task.kinds((level,), num_episodes)
    counts = [(name, int((index == kind).sum())) for kind, name in enumerate(names)]
    return ", ".join(f"{name} x {number}" for name, number in counts if number)


class ProcgenVecEnv:
    """The training games of all lanes, ``[L, V, N]``, in one vector; a `HostVecEnv`.

    Every episode that ended is in the log: slot, level seed and length, and its return.
    """

    def __init__(
        self, task: ProcgenTask, words: np.ndarray, levels: np.ndarray, num_envs: int,
        num_starts: int,
    ):
        if num_starts < 1 or num_envs % num_starts:
            raise ValueError(
                f"num_starts = {num_starts} is not allowed; use a divisor of num_envs = {num_envs}"
            )
        self.shape = (*levels.shape, num_envs)
        self._task, self._words, self._levels = task, words, levels
        self._num_starts = num_starts
        self._slots = Slots(task.game, int(np.prod(self.shape)))
        self._log: list[tuple[np.ndarray, np.ndarray]] = []
        self._begin()
        self.reset(0)

    def _begin(self) -> None:
        self._ended: list[tuple[np.ndarray, np.ndarray]] = []
        """Slots and level seeds of the last step's ends, not yet in the log."""
        self._lengths = np.zeros(self._slots.num_slots, np.int32)
        self._totals = np.zeros(self._slots.num_slots, np.float32)

    def reset(self, number: int) -> np.ndarray:
        """Start all episodes anew; those of a number are the same -> images ``[L, V, N, ...]``."""
        self._note_ends()
        num_lanes, num_variations, num_envs = self.shape
        repeats = num_envs // self._num_starts
        states = []
        for lane in range(num_lanes):
            for variation in range(num_variations):
                level = self._levels[lane, variation]
                blocks = self._task.blocks(
                    self._words[lane], level, self._num_starts, False, variation, number
                )
                states += procgen_games.make_states(self._task.game, blocks)[0] * repeats
        self._slots.set(range(len(states)), states)
        self._begin()
        return self._shaped(self._slots.images())

    def step(self, action: np.ndarray) -> HostStep:
        """Step all games: action int32 ``[L, V, N]``."""
        self._slots.start(np.ascontiguousarray(action).reshape(-1))
        # While the games move.
        self._note_ends()
        images, reward, first = self._slots.finish()
        self._lengths += 1
        self._totals += reward
        ended = np.flatnonzero(first)
        if ended.size:
            self._ended.append((ended, self._slots.last_level_seeds()[ended]))
        obs, ends = self._shaped(images), self._shaped(first)
        return HostStep(obs, self._shaped(reward), ends, np.zeros_like(ends), obs)

    def _note_ends(self) -> None:
        """Write the episodes that the last step ended into the log."""
        for ended, seeds in self._ended:
            numbers = np.stack([ended, seeds, self._lengths[ended]], axis=1).astype(np.int32)
            self._log.append((numbers, self._totals[ended].copy()))
            self._lengths[ended], self._totals[ended] = 0, 0
        self._ended.clear()

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(*self.shape, *values.shape[1:])

    def episodes(self, lane: int) -> dict[str, np.ndarray]:
        """Variation, level seed, length and return of a lane's finished episodes, ``[M]`` each."""
        numbers, returns = self._logged()
        of_lane, within = np.divmod(numbers[:, 0], int(np.prod(self.shape[1:])))
        lane_mask = of_lane == lane
        return {
            "variation": (within // self.shape[2])[lane_mask].astype(np.int32),
            "level_seed": numbers[lane_mask, 1],
            "length": numbers[lane_mask, 2],
            "return": returns[lane_mask],
        }

    def _logged(self) -> tuple[np.ndarray, np.ndarray]:
        """The log: (slot, level seed, length) int32 ``[M, 3]`` and returns float32 ``[M]``."""
        empty = (np.zeros((0, 3), np.int32), np.zeros(0, np.float32))
        self._note_ends()
        numbers, returns = zip(empty, *self._log, strict=True)
        return np.concatenate(numbers), np.concatenate(returns)

    def get_state(self, lane: int | None = None) -> dict[str, np.ndarray]:
        """Games, running sums and the log, of all lanes or of one, whose slots count from 0."""
        slots = self._slots_of(lane)
        numbers, returns = self._logged()
        ours = _within(numbers, slots)
        return procgen_games.pack(
            self._task.game, self._slots.get()[slots],
            log_numbers=numbers[ours] - np.array([slots.start, 0, 0], np.int32),
            log_returns=returns[ours],
            running_lengths=self._lengths[slots].copy(), running_totals=self._totals[slots].copy(),
        )  # fmt: skip

    def set_state(self, state: dict[str, np.ndarray], lane: int | None = None) -> None:
        """Go on from there; ValueError: it is damaged, or not of as many games."""
        slots = self._slots_of(lane)
        states = procgen_games.unpack(self._task.game, state, slots.stop - slots.start)
        numbers, returns = self._logged()
        others = ~_within(numbers, slots)
        new = np.array(state["log_numbers"]) + np.array([slots.start, 0, 0], np.int32)
        self._log = [(numbers[others], returns[others]), (new, np.array(state["log_returns"]))]
        self._slots.set(range(slots.start, slots.stop), states)
        self._lengths[slots] = state["running_lengths"]
        self._totals[slots] = state["running_totals"]

    def _slots_of(self, lane: int | None) -> slice:
        """The slots of a lane, or of all."""
        per_lane = int(np.prod(self.shape[1:]))
        first, count = (0, self.shape[0]) if lane is None else (lane, 1)
        return slice(first * per_lane, (first + count) * per_lane)


class ProcgenEpisodes:
    """Fixed evaluation episodes ``[K, E]`` as states, played on a few slots; a `HostEpisodes`."""

    def __init__(
        self, task: ProcgenTask, words: np.ndarray, levels: tuple[float, ...], num_episodes: int,
        num_slots: int,
    ):
        self.shape = (len(levels), num_episodes)
        self._slots = Slots(task.game, num_slots)
        blocks = [
            block
            for level_words, level in zip(words, levels, strict=True)
            for block in task.blocks(level_words, level, num_episodes, True)
        ]
        self._states, seeds = procgen_games.make_states(task.game, blocks)
        self.level_seeds = seeds.reshape(self.shape)

    def start(self, slots: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        """Begin episodes in these slots -> images of all slots."""
        self._slots.set(slots, [self._states[episode] for episode in episodes])
        return self._slots.images()

    def step(self, action: np.ndarray) -> HostStep:
        """Step all slots."""
        images, reward, first = self._slots.step(action)
        return HostStep(images, reward, first, np.zeros_like(first), images)


def _within(numbers: np.ndarray, slots: slice) -> np.ndarray:
    """Entries of the log ``[M, 3]`` are of these slots."""
    return (numbers[:, 0] >= slots.start) & (numbers[:, 0] < slots.stop)


def _rand_seed(words: np.ndarray, *numbers: int) -> int:
    """A seed of procgen's, 31 bits, that follows from all the numbers."""
    sequence = np.random.SeedSequence([*map(int, words), *numbers])
    return int(sequence.generate_state(1)[0]) % procgen_games.MAX_LEVEL
