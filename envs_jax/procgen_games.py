"""Procgen (Cobbe et al. 2020) behind vectors whose slots are set one by one; numpy, no jax.

The C++ behind procgen ends the process on bad options and trusts any state it is given, so that
everything is checked here, in Python, before it gets there. Never fork a process that has made a
vector: the child waits forever (start helpers by spawn).

A slot's future depends on nothing but its state, and its state on (rand_seed, its number in the
vector that made it). Short-lived vectors, one per kind of slot, make states, which are then set
into one vector: in it games of both difficulties, and of several ranges of levels, run together.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

GAMES = (
    "bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot",
    "heist", "jumper", "leaper", "maze", "miner", "ninja", "plunder", "starpilot",
)  # fmt: skip
MODES = ("easy", "hard")
NUM_ACTIONS = 15
OBS_SHAPE = (64, 64, 3)
MAX_LEVEL = 2**31 - 1
"""Level seeds stay below: procgen keeps them in 32 bits and lets them overflow."""
MAX_SLOTS = 100_000
"""Most games of one vector: about 3 GB of games, without their images."""

REWARD_RANGE: dict[str, dict[str, tuple[float, float]]] = {
    "easy": {
        "bigfish": (1, 40), "bossfight": (0.5, 13), "caveflyer": (3.5, 12), "chaser": (0.5, 13),
        "climber": (2, 12.6), "coinrun": (5, 10), "dodgeball": (1.5, 19), "fruitbot": (-1.5, 32.4),
        "heist": (3.5, 10), "jumper": (3, 10), "leaper": (3, 10), "maze": (5, 10),
        "miner": (1.5, 13), "ninja": (3.5, 10), "plunder": (4.5, 30), "starpilot": (2.5, 64),
    },
    "hard": {
        "bigfish": (0, 40), "bossfight": (0.5, 13), "caveflyer": (2, 13.4), "chaser": (0.5, 14.2),
        "climber": (1, 12.6), "coinrun": (5, 10), "dodgeball": (1.5, 19), "fruitbot": (-0.5, 27.2),
        "heist": (2, 10), "jumper": (1, 10), "leaper": (1.5, 10), "maze": (4, 10),
        "miner": (1.5, 20), "ninja": (2, 10), "plunder": (3, 30), "starpilot": (1.5, 35),
    },
}  # fmt: skip
"""(R_min, R_max) of each game by mode (Cobbe et al. 2020, appendix C)."""

TIME_LIMIT = {"bigfish": 6000, "bossfight": 4000, "plunder": 4000}
"""Steps after which a game ends by itself at the latest; 1000 where it is not here."""

ONE_MODE = ("chaser",)
"""Games whose states do not say how large their maze is: set into a vector of the other mode, they
end the process."""

INSTALL = (
    "pip install --no-deps procgen-mirror==0.10.7 gym==0.26.2 gym-notices==0.1.0 gym3==0.3.3 cffi "
    "cloudpickle filelock glcontext 'glfw<2' imageio 'imageio-ffmpeg<0.4' moderngl pillow pycparser"
)
"""procgen with all that it needs but numpy, which it declares too old; jax stays as it is."""


SYSTEM_LIBRARIES = {"libGL.so.1": "libgl1", "libgthread-2.0.so.0": "libglib2.0-0"}
"""Libraries that procgen's wheel takes from the system, with the packages of Debian and Ubuntu."""


class ProcgenMissing(ValueError):
    """procgen cannot be imported here; says what to do."""


def installed() -> bool:
    """Whether there is a procgen to import."""
    return importlib.util.find_spec("procgen") is not None


def missing_remedy() -> str:
    """The remedy where it is not installed."""
    if sys.version_info >= (3, 13):
        return "procgen has no wheels for Python 3.13 and later: use Python 3.11 or 3.12"
    return f"install it (Linux on x86-64): {INSTALL}"


def missing() -> str | None:
    """Say what is missing before games can be played, and a remedy; None: nothing is."""
    if not installed():
        return f"procgen is not installed; {missing_remedy()}"
    if libraries := missing_libraries():
        packages = " ".join(dict.fromkeys(SYSTEM_LIBRARIES[name] for name in libraries))
        return (
            f"procgen needs {' and '.join(libraries)}, which this system lacks; install it, on "
            f"Debian or Ubuntu: apt-get install {packages}"
        )
    return None


@cache
def missing_libraries() -> tuple[str, ...]:
    """The `SYSTEM_LIBRARIES` that cannot be loaded."""
    return tuple(name for name in SYSTEM_LIBRARIES if not _loads(name))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


class Levels(NamedTuple):
    """A range of levels in one mode."""

    mode: str
    start: int
    count: int

    def validate(self) -> None:
        """Raise ValueError for an unknown mode or a range that procgen cannot keep apart."""
        if self.mode not in MODES:
            raise ValueError(f"mode {self.mode!r} is not known; use one of {', '.join(MODES)}")
        for name, value, low in (("start", self.start, 0), ("count", self.count, 1)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise ValueError(
                    f"levels: {name} = {value!r} is not allowed; use a whole number from {low} on "
                    "(procgen takes a count of 0 for all levels, whatever the start)"
                )
        if self.start + self.count > MAX_LEVEL:
            raise ValueError(
                f"levels {self.start} to {self.start + self.count} are not allowed; stay below "
                f"{MAX_LEVEL}, where level seeds overflow"
            )


class Block(NamedTuple):
    """Slots that one short-lived vector makes."""

    levels: Levels
    rand_seed: int
    count: int


def check_game(game: str) -> None:
    """Raise ValueError for a name that is none of the sixteen, which would end the process."""
    if game not in GAMES:
        raise ValueError(f"procgen has no game {game!r}; use one of {', '.join(GAMES)}")


def make_states(game: str, blocks: Sequence[Block]) -> tuple[list[bytes], np.ndarray]:
    """States of fresh games, those of the first block first, and their level seeds, int32."""
    states, seeds = [], []
    for levels, rand_seed, count in blocks:
        vector = _vector(game, count, levels, rand_seed, num_threads=0)
        vector.observe()
        states += vector.callmethod("get_state")
        seeds.append(vector._info["level_seed"].copy())
        vector.close()
    return states, np.concatenate(seeds)


class Slots:
    """Games in one vector, each set to a state of its own before the first step."""

    def __init__(self, game: str, num_slots: int, num_threads: int | None = None):
        threads = min(os.cpu_count() or 1, 8) if num_threads is None else num_threads
        # What it begins with is never seen.
        self._vector = _vector(game, num_slots, Levels("easy", 0, 1), 0, threads)
        self.num_slots = num_slots

    def set(self, slots: Sequence[int] | np.ndarray, states: Sequence[bytes]) -> None:
        """Set these slots to states that `make_states` or `get` gave (trusted: see `unpack`)."""
        for slot, state in zip(slots, states, strict=True):
            if not 0 <= slot < self.num_slots:
                raise ValueError(f"there is no slot {slot}; use 0 to {self.num_slots - 1}")
            self._vector.call_c_func("set_state", int(slot), state, len(state))

    def get(self) -> list[bytes]:
        """The states of all slots."""
        return self._vector.callmethod("get_state")

    def images(self) -> np.ndarray:
        """Images of the games now: uint8 ``[S, 64, 64, 3]``."""
        return self._vector.observe()[1]["rgb"]

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step with auto-reset: action int32 ``[S]`` -> images, reward, whether an episode began.

        Raises:
          ValueError: an action that is none; procgen takes -1 for a reset and any other number.
        """
        self.start(action)
        return self.finish()

    def start(self, action: np.ndarray) -> None:
        """Begin a step, in threads of procgen's own; errors of `step`."""
        if action.size and (action.min() < 0 or action.max() >= NUM_ACTIONS):
            raise ValueError(
                f"actions from {action.min()} to {action.max()} are not allowed; "
                f"use 0 to {NUM_ACTIONS - 1}"
            )
        self._vector.act(action)

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Wait for the step that was begun."""
        reward, obs, first = self._vector.observe()
        return obs["rgb"], reward, first

    def last_level_seeds(self) -> np.ndarray:
        """The level of the episode that ended last in each slot, int32 ``[S]``."""
        return self._vector._info["prev_level_seed"].copy()


def pack(game: str, states: Sequence[bytes], **others: np.ndarray) -> dict[str, np.ndarray]:
    """States of a game, and other arrays, with a SHA-256 of all that `unpack` checks."""
    packed = {
        "bytes": np.frombuffer(b"".join(states), np.uint8),
        "lengths": np.array([len(state) for state in states], np.int32),
        **others,
    }
    return packed | {"sha256": _digest(game, packed)}


def unpack(game: str, packed: Mapping[str, np.ndarray], num_slots: int) -> list[bytes]:
    """The states that were packed.

    Raises:
      ValueError: these are not what was packed, or not of this game and so many slots; set, they
        could end the process.
    """
    parts = {name: np.asarray(values) for name, values in packed.items() if name != "sha256"}
    missing = {"bytes", "lengths", "sha256"} - packed.keys()
    if missing:
        raise ValueError(f"a state of {game} lacks {', '.join(sorted(missing))}")
    if not np.array_equal(_digest(game, parts), packed["sha256"]):
        raise ValueError(
            f"a state of {game} is not what was saved, or of another game: its sha256 does not "
            "match; start from another checkpoint"
        )
    joined, ends = parts["bytes"].tobytes(), np.cumsum(parts["lengths"])
    if len(ends) != num_slots:
        raise ValueError(f"a state of {len(ends)} games does not fit {num_slots} slots")
    return [joined[end - size : end] for end, size in zip(ends, parts["lengths"], strict=True)]


def _digest(game: str, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    digest = hashlib.sha256(game.encode())
    for name, values in sorted(parts.items()):
        digest.update(f"{name} {values.dtype} {values.shape} ".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _vector(game: str, count: int, levels: Levels, rand_seed: int, num_threads: int) -> Any:
    check_game(game)
    levels.validate()
    if not 1 <= count <= MAX_SLOTS:
        raise ValueError(f"{count} games in one vector are not allowed; use 1 to {MAX_SLOTS}")
    if not 0 <= rand_seed < MAX_LEVEL:
        raise ValueError(f"rand_seed {rand_seed} is not allowed; use 0 to {MAX_LEVEL - 1}")
    return _procgen().ProcgenGym3Env(
        num=count, env_name=game, distribution_mode=levels.mode, start_level=int(levels.start),
        num_levels=int(levels.count), rand_seed=int(rand_seed), num_threads=num_threads,
    )


def _procgen() -> Any:
    if what := missing():
        raise ProcgenMissing(f"procgen's games cannot be played: {what}")
    # gym, which procgen imports, prints that it is no longer kept; procgen leaves a file open.
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import procgen
    return procgen
