"""Training on a host environment whose observations are numbers: a loop in Python around compiled
functions.

A lane's update is a program of its own, which a device runs while another one runs that of the next
lane; its state lies in buffers of its own and is written in place. So a single lane costs what it
costs, and nothing calls back into Python, so that all programs come from the cache of compilations.
In rollouts of several steps a device acts for all of its lanes in one call, which takes as long as
for a single one. A lane's bits depend neither on its company nor on the devices. The environment is
stepped for all lanes at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.algorithms.base import RolloutShape
from jaxgen.training.host_rollout import Recording, begin_iteration, collect_host, lane_of
from jaxgen.training.program import Carry, Lanes, lane_at, stacked
from jaxgen.training.rollout import Ended, Episodes, episode_metrics
from jaxgen.types import Array, EnvSpec, HostStep, HostVecEnv, Metrics, PyTree


class LaneSteps(NamedTuple):
    """The functions of a lane, not compiled."""

    prepare: Callable[..., Any]
    """(lane, state, running sums of rewards ``[V, N]``, iteration) -> actor, words
    ``[T, V, N, W]``."""
    act: Callable[..., Any]
    """(lane, actor, obs ``[V, N, ...]``, words ``[V, N, W]``) -> actions, extras."""
    update: Callable[..., Any]
    """(lane, state, env steps, actor, recording, iteration) -> state, env steps, metrics."""


@dataclass
class _Lane:
    """A lane on its device, while it trains."""

    lane: Lanes
    state: PyTree
    env_steps: Array
    actor: PyTree = None
    """That of the running iteration, if it has several steps."""
    rows: list[Any] = field(default_factory=list)
    """Env steps and packed metrics after each iteration."""


class StepTrainer:
    """Iterations of lanes, which are dealt out to the devices in turn.

    Args:
      spec: of the environment.
      shape: of an iteration.
      steps: the functions of a lane.
      devices: JAX devices.
    """

    def __init__(
        self, spec: EnvSpec, shape: RolloutShape, steps: LaneSteps, devices: Sequence[Any]
    ):
        self._spec, self._shape, self._devices = spec, shape, list(devices)
        self._steps = steps
        self._prepare, self._begin = jax.jit(steps.prepare), jax.jit(self._first)
        self._stack, self._act = jax.jit(stacked), jax.jit(jax.vmap(steps.act))
        self._learn = jax.jit(self._packed, donate_argnums=1)
        self._names: list[str] = []
        """Metrics of an update in the order in which they are packed."""

    def train(
        self, lanes: Lanes, carry: Carry, env: HostVecEnv, start: int, stop: int
    ) -> tuple[Carry, Metrics]:
        """Train from iteration ``start`` to before ``stop``; see `LaneLearner.train`."""
        each, episodes, ends = list(self._placed(lanes, carry)), carry.episodes, []
        for number in range(int(start), int(stop)):
            episodes = begin_iteration(self._shape, lanes, episodes, env, number)
            number = np.int32(number)
            # The lanes' actors of several steps are kept for their updates.
            act, words = self._acting(each, episodes, number)
            episodes, recording, ended = self._collected(env, act, episodes, words)
            ends.append(ended)
            # Nobody waits for a lane to learn before the next one begins to.
            for index, lane in enumerate(each):
                self._update(lane, lane_of(recording, index), number)
        parts = [_metrics(self._names, lane.rows) for lane in each]
        metrics = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        metrics |= _of_episodes(ends)
        env_steps = np.stack([np.asarray(lane.env_steps) for lane in each])
        after = Carry(tuple(lane.state for lane in each), episodes, env_steps)  # pyright: ignore
        return after, metrics  # pyright: ignore

    def warm(self, lanes: Lanes, carry: Carry) -> None:
        """Compile all functions, on each device that has lanes, by using them on copies."""
        each, episodes, first = list(self._placed(lanes, carry)), carry.episodes, np.int32(0)
        act, words = self._acting(each, episodes, first)
        # Chosen once: the other steps of a rollout, thousands perhaps, compile nothing more.
        chosen = act(np.asarray(episodes.obs), words[:, 0])
        env: Any = _Still(episodes)
        _, recording, _ = self._collected(env, lambda obs, words: chosen, episodes, words)
        for index, lane in enumerate(each[: len(self._devices)]):
            lane.state = jax.tree.map(jnp.copy, lane.state)
            self._update(lane, lane_of(recording, index), first)
            jax.block_until_ready(lane.state)

    def _placed(self, lanes: Lanes, carry: Carry) -> Iterator[_Lane]:
        """The lanes of a carry, each on its device."""
        devices = cycle(self._devices)
        for index, (state, device) in enumerate(zip(carry.state, devices)):
            parts = lane_at(lanes, index), state, carry.env_steps[index]
            yield _Lane(*jax.device_put(parts, device))

    def _acting(
        self, each: list[_Lane], episodes: Episodes, number: np.int32
    ) -> tuple[Callable[..., Any], np.ndarray]:
        """Prepare a rollout -> what acts in it and its words, as `collect_host` takes them."""
        obs, total = np.asarray(episodes.obs), np.asarray(episodes.total)
        if self._shape.num_steps == 1:
            return self._act_once(each, obs, total, number)
        return self._act_together(each, total, number)

    def _collected(
        self, env: HostVecEnv, act: Callable[..., Any], episodes: Episodes, words: np.ndarray
    ) -> tuple[Episodes, Recording, Ended]:
        return collect_host(env, self._spec, act, self._shape.keeps_obs, episodes, words)

    def _act_once(
        self, each: list[_Lane], obs: np.ndarray, total: np.ndarray, number: np.int32
    ) -> tuple[Callable[..., Any], np.ndarray]:
        """Choose the one step of a rollout, in a call of each lane; words only count the steps."""
        chosen = []
        for index, lane in enumerate(each):
            chosen.append(self._begin(lane.lane, lane.state, total[index], obs[index], number))
        actions = jax.tree.map(lambda *parts: np.stack([np.asarray(p) for p in parts]), *chosen)
        return lambda obs, words: actions, np.empty((len(each), 1))

    def _act_together(
        self, each: list[_Lane], total: np.ndarray, number: np.int32
    ) -> tuple[Callable[..., Any], np.ndarray]:
        """Prepare a rollout of several steps, in each of which a device acts for all its lanes."""
        drawn = []
        for index, lane in enumerate(each):
            lane.actor, words = self._prepare(lane.lane, lane.state, total[index], number)
            drawn.append(words)
        num = min(len(self._devices), len(each))
        groups = [
            self._stack([(lane.lane, lane.actor) for lane in each[first::num]])
            for first in range(num)
        ]

        def act(obs: np.ndarray, words: np.ndarray) -> Any:
            parts = [
                self._act(*group, obs[first::num], words[first::num])
                for first, group in enumerate(groups)
            ]
            return jax.tree.map(_dealt, *parts)

        return act, np.stack([np.asarray(words) for words in drawn])

    def _update(self, lane: _Lane, recording: Recording, number: np.int32) -> None:
        args = lane.lane, lane.state, lane.env_steps, lane.actor, recording, number
        lane.state, lane.env_steps, row = self._learn(*args)
        lane.rows.append((lane.env_steps, row))

    def _first(
        self, lane: Lanes, state: PyTree, total: Array, obs: Array, number: Array
    ) -> Any:
        """Actions and extras of the first step."""
        actor, words = self._steps.prepare(lane, state, total, number)
        return self._steps.act(lane, actor, obs, words[0])

    def _packed(
        self, lane: Lanes, state: PyTree, env_steps: Array, actor: PyTree, recording: Recording,
        number: Array,
    ) -> tuple[PyTree, Array, Array]:
        """Update, with the metrics as one array: fetched one by one they would take as long as the
        environment's step."""
        if actor is None:
            # Made again: handed over after each single step it would take longer.
            actor, _ = self._steps.prepare(lane, state, recording.reward[0], number)
        state, env_steps, metrics = self._steps.update(
            lane, state, env_steps, actor, recording, number
        )
        self._names = sorted(metrics.keys() - {"env_steps"})
        return state, env_steps, jnp.stack([metrics[name] for name in self._names])


def _metrics(names: list[str], rows: list[Any]) -> dict[str, np.ndarray]:
    """Metrics ``[I]`` of a lane by name."""
    packed = np.stack([np.asarray(row) for _, row in rows])
    env_steps = np.stack([np.asarray(steps) for steps, _ in rows])
    return {name: packed[:, i] for i, name in enumerate(names)} | {"env_steps": env_steps}


def _of_episodes(ends: list[Ended]) -> Metrics:
    """Mean returns and numbers of the episodes that ended, ``[L, I]``."""
    returns, counts = (
        np.stack([part.sum((-2, -1)) for part in parts], -1) for parts in zip(*ends, strict=True)
    )
    return episode_metrics(returns, counts, np)


def _dealt(*parts: Array) -> np.ndarray:
    """An array of all lanes from those of each device, which has every so manieth lane."""
    if len(parts) == 1:
        return np.asarray(parts[0])
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for first, part in enumerate(parts):
        whole[first :: len(parts)] = part
    return whole


class _Still:
    """Environments in which nothing happens.

    Args:
      episodes: their observations stay, float32 rewards are 0.
    """

    def __init__(self, episodes: Episodes):
        obs = np.asarray(episodes.obs)
        reward = np.zeros(np.shape(episodes.total), np.float32)
        never = np.zeros(reward.shape, bool)
        self._fields = HostStep(obs, reward, never, never, obs)

    def step(self, action: np.ndarray) -> HostStep:
        """Ignore the actions ``[L, V, N, ...]``."""
        return self._fields
