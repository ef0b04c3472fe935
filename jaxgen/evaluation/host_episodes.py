"""Outcomes of a frozen policy over fixed evaluation episodes of a host environment.

Episodes queue for a fixed number of slots: one that ends makes room for the next, so that none
waits for the longest, and the network always sees the same number of observations. An episode's
outcome depends neither on its slot nor on what runs beside it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.evaluation.episodes import Played, level_ids
from jaxgen.evaluation.policy import Acting, random_play
from jaxgen.nn import frames
from jaxgen.nn.random import evaluation_words
from jaxgen.types import Array, EnvSpec, HostEpisodes, HostStep, HostTask

NUM_SLOTS = 64
"""Episodes that run at the same time, if there are as many."""
NUM_WORDS = 4
"""Words of randomness, uint32, that a host environment gets for a lane or a level."""
ALL_LEVELS = 2**31
"""Folded into a key in place of a level where all levels start alike: no level has this number."""


class QueuedEpisodes(NamedTuple):
    """The fixed episodes of K levels: what to run, and the randomness of sampled policies."""

    episodes: HostEpisodes
    num_slots: int
    words: Callable[[int], np.ndarray]
    """W -> uint32 ``[K x E, T, W]``, for each step of each episode."""


def host_words(key: Array) -> np.ndarray:
    """Randomness for a host environment, uint32 ``[NUM_WORDS]``."""
    return np.asarray(jax.random.bits(key, (NUM_WORDS,), "uint32"))


def make_host_episodes(
    task: HostTask, key: Array, levels: tuple[float, ...], num_episodes: int
) -> QueuedEpisodes:
    """Build the evaluation episodes of each level from ``key``.

    A task with ``same_starts`` gets the same words for all levels.
    """
    num_slots = min(NUM_SLOTS, len(levels) * num_episodes)
    level_keys = [jax.random.split(jax.random.fold_in(key, level)) for level in level_ids(levels)]
    content_keys = [content_key for content_key, _ in level_keys]
    if getattr(task, "same_starts", False):
        content_keys = [jax.random.fold_in(key, ALL_LEVELS)] * len(levels)
    contents = np.stack([host_words(content_key) for content_key in content_keys])
    episodes = task.evaluation(contents, levels, num_episodes, num_slots)

    def words(num_words: int) -> np.ndarray:
        draw = partial(_words, num_episodes, task.spec.max_episode_steps, num_words)
        return np.concatenate([np.asarray(draw(policy_key)) for _, policy_key in level_keys])

    return QueuedEpisodes(episodes, num_slots, words)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _words(num_episodes: int, num_steps: int, num_words: int, key: Array) -> Array:
    def one(number: Array) -> Array:
        return evaluation_words(jax.random.fold_in(key, number), (num_steps, num_words))

    return jax.vmap(one)(jnp.arange(num_episodes))


def play(
    spec: EnvSpec, queued: QueuedEpisodes, acting: Acting, num_frames: int = 1,
    to_environment: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Played:
    """Run every episode once, to its end or to the time limit.

    Args:
      spec: the environment's.
      queued: the episodes.
      acting: the policy.
      num_frames: images that the policy sees at once.
      to_environment: chosen actions -> those that the environment takes; None: choices are of an
        algorithm's.
    """
    to_environment = to_environment or spec.actions.scale
    episodes, num_slots = queued.episodes, queued.num_slots
    words = queued.words(acting.num_words)
    total, length = np.zeros(len(words), np.float32), np.zeros(len(words), np.int32)
    running, time = np.arange(num_slots), np.zeros(num_slots, int)
    waiting = num_slots
    live = np.ones(num_slots, bool)
    obs = frames.begin(episodes.start(running, running), num_frames)
    while live.any():
        chosen = acting.choose(obs, words[running, time])
        action = to_environment(np.asarray(chosen, spec.actions.dtype))
        new_obs, reward, terminated, truncated, _ = episodes.step(action)
        total[running[live]] += reward[live]
        length[running[live]] += 1
        time += 1
        ended = live & (terminated | truncated | (time >= spec.max_episode_steps))
        first = terminated | truncated
        if ended.any():
            slots = np.flatnonzero(ended)
            following = np.arange(waiting, min(waiting + len(slots), len(total)))
            waiting += len(following)
            live[slots[len(following) :]] = False
            slots = slots[: len(following)]
            running[slots] = following
            new_obs = episodes.start(slots, following)
            first[slots] = True
        # A slot with nothing left to play goes on, unseen.
        time[ended | ~live] = 0
        obs = frames.push(spec, obs, new_obs, first)
    return Played(total.reshape(episodes.shape), length.reshape(episodes.shape))


def random_host_returns(spec: EnvSpec, queued: QueuedEpisodes) -> np.ndarray:
    """Returns ``[K, E]`` of the uniform random policy: the floor of the scores."""
    return np.asarray(play(spec, queued, random_play(spec.actions)).returns)


def first_images(
    queued: QueuedEpisodes, shown: Callable[[int, np.ndarray], np.ndarray]
) -> list[list[np.ndarray]]:
    """The picture that each episode begins with, uint8 ``[H, W, 3]``: a list for each level.

    Args:
      queued: the episodes.
      shown: (slot, what it shows) -> its picture.
    """
    (num_levels, num_episodes), images = queued.episodes.shape, []
    total = num_levels * num_episodes
    for start in range(0, total, queued.num_slots):
        numbers = np.arange(start, min(start + queued.num_slots, total))
        begun = queued.episodes.start(np.arange(len(numbers)), numbers)
        images += [shown(slot, begun[slot]).copy() for slot in range(len(numbers))]
    return [images[row * num_episodes : (row + 1) * num_episodes] for row in range(num_levels)]


class Filmed:
    """Episodes that keep pictures of some of them; a `HostEpisodes`.

    Args:
      episodes: those that are played.
      keep: (slot, what it shows) -> what is kept of its picture.
      takes: whether an episode of this number is filmed.
      every: steps from one picture to the next.
      shows_end: whether a slot still shows an episode that ended, not the next one.
    """

    def __init__(
        self,
        episodes: HostEpisodes,
        keep: Callable[[int, np.ndarray], Any],
        takes: Callable[[int], bool] = lambda number: True,
        every: int = 1,
        shows_end: bool = False,
    ):
        self.shape, self.level_seeds = episodes.shape, episodes.level_seeds
        self.frames: dict[int, list[Any]] = {}
        """What was kept of the pictures, by number of the episode."""
        self.lengths: dict[int, int] = {}
        """Steps."""
        self._episodes, self._keep, self._takes = episodes, keep, takes
        self._every, self._shows_end = every, shows_end
        self._running: dict[int, int] = {}
        """Numbers of episodes by slot."""

    def start(self, slots: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        """See `HostEpisodes`."""
        shown = self._episodes.start(slots, episodes)
        for slot, episode in zip(map(int, slots), map(int, episodes), strict=True):
            if self._takes(episode):
                self._running[slot] = episode
                self.frames[episode], self.lengths[episode] = [self._keep(slot, shown[slot])], 0
        return shown

    def step(self, action: np.ndarray) -> HostStep:
        """See `HostEpisodes`."""
        step = self._episodes.step(action)
        ended = step.terminated | step.truncated
        for slot, episode in list(self._running.items()):
            self.lengths[episode] += 1
            due = ended[slot] or self.lengths[episode] % self._every == 0
            if due and (self._shows_end or not ended[slot]):
                self.frames[episode].append(self._keep(slot, step.obs[slot]))
            if ended[slot]:
                del self._running[slot]
        return step
