"""Training on a host environment whose observations are numbers: a loop in Python around compiled
functions of single lanes.

A lane's update is a program of its own, which a device runs while another one runs that of the next
lane; its state lies in buffers of its own and is written in place. So a lane's bits depend neither
on its company nor on the devices, a single lane costs what it costs, and nothing calls back into
Python, so that all programs come from the cache of compilations. The environment is stepped for all
lanes at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.training.host_rollout import Recording
from jaxgen.training.program import Carry, Lanes, lane_at
from jaxgen.training.rollout import Episodes, tally
from jaxgen.types import Array, EnvSpec, HostStep, HostVecEnv, Metrics, PyTree


class LaneSteps(NamedTuple):
    """The functions of a lane, not compiled."""

    begin: Callable[..., Any]
    """(lane, state, running sums of rewards ``[V, N]``, obs ``[V, N, ...]``, iteration) -> actor,
    words ``[T, V, N, W]``, and actions and extras of the first step."""
    act: Callable[..., Any]
    """(lane, actor, words, obs, time) -> actions, extras."""
    update: Callable[..., Any]
    """(lane, state, env steps, actor, recording, iteration) -> state, env steps, metrics."""


@dataclass
class _Lane:
    """A lane on its device, while it trains."""

    lane: Lanes
    state: PyTree
    env_steps: Array
    rows: list[Any] = field(default_factory=list)
    """Env steps and packed metrics after each iteration."""


class StepTrainer:
    """Iterations of lanes, which are dealt out to the devices in turn.

    Args:
      spec: of the environment.
      steps: the functions of a lane.
      devices: JAX devices.
    """

    def __init__(self, spec: EnvSpec, steps: LaneSteps, devices: Sequence[Any]):
        self._spec, self._steps, self._devices = spec, steps, list(devices)
        self._begin, self._act = jax.jit(steps.begin), jax.jit(steps.act)
        self._learn = jax.jit(self._packed, donate_argnums=1)
        self._names: list[str] = []
        """Metrics of an update in the order in which they are packed."""

    def train(
        self, lanes: Lanes, carry: Carry, env: HostVecEnv, start: int, stop: int
    ) -> tuple[Carry, Metrics]:
        """Train from iteration ``start`` to before ``stop``; see `LaneLearner.train`."""
        each, episodes = list(self._placed(lanes, carry)), carry.episodes
        ended = []
        for number in range(int(start), int(stop)):
            episodes, returns = self._iteration(each, env, episodes, np.int32(number))
            ended.append(returns)
        parts = [_metrics(self._names, lane.rows) for lane in each]
        metrics = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        metrics |= _of_episodes(np.stack(ended, 1))
        env_steps = np.stack([np.asarray(lane.env_steps) for lane in each])
        after = Carry(tuple(lane.state for lane in each), episodes, env_steps)  # pyright: ignore
        return after, metrics  # pyright: ignore

    def warm(self, lanes: Lanes, carry: Carry) -> None:
        """Compile all functions, on each device that has lanes, by using them on copies."""
        # The devices come first: no more lanes are placed than there are.
        for device, lane in zip(self._devices, self._placed(lanes, carry)):
            lane.state = jax.device_put(jax.tree.map(jnp.copy, lane.state), device)
            obs, total = (np.array(part[0]) for part in (carry.episodes.obs, carry.episodes.total))
            first = np.int32(0)
            actor, words, action, extras = self._begin(lane.lane, lane.state, total, obs, first)
            if len(words) > 1:
                self._act(lane.lane, actor, words, obs, np.int32(1))
            recording = _Recorder(self._spec, obs[None])
            for _ in words:
                zero, flag = np.zeros_like(total)[None], np.zeros(total.shape, bool)[None]
                recording.add(np.asarray(action)[None], [extras], HostStep(
                    obs[None], zero, flag, flag, obs[None]
                ))  # fmt: skip
            args = lane.lane, lane.state, lane.env_steps, actor, recording.of_lane(0), first
            jax.block_until_ready(self._learn(*args))

    def _placed(self, lanes: Lanes, carry: Carry) -> Iterator[_Lane]:
        """The lanes of a carry, each on its device."""
        devices = cycle(self._devices)
        for index, (state, device) in enumerate(zip(carry.state, devices)):
            parts = lane_at(lanes, index), state, carry.env_steps[index]
            yield _Lane(*jax.device_put(parts, device))

    def _iteration(
        self, each: list[_Lane], env: HostVecEnv, episodes: Episodes, number: np.int32
    ) -> tuple[Episodes, np.ndarray]:
        """Collect a rollout, then let every lane learn from it, without waiting for it.

        Returns the running episodes, and sums and counts of the returns of those that ended,
        float32 ``[L, 2]``.
        """
        obs, total = np.asarray(episodes.obs), np.asarray(episodes.total)
        begun = [
            self._begin(lane.lane, lane.state, total[i], obs[i], number)
            for i, lane in enumerate(each)
        ]
        chosen = [(action, extras) for _, _, action, extras in begun]
        recorder, ended = _Recorder(self._spec, obs), np.zeros((len(each), 2), np.float32)
        for time in range(begun[0][1].shape[0]):
            if time:
                chosen = [
                    self._act(lane.lane, actor, words, obs[i], np.int32(time))
                    for i, (lane, (actor, words, *_)) in enumerate(zip(each, begun, strict=True))
                ]
            actions = np.stack([np.asarray(action) for action, _ in chosen])
            fields = env.step(self._spec.actions.scale(actions))
            obs = recorder.add(actions, [extras for _, extras in chosen], fields)
            done = fields.terminated | fields.truncated
            total, ends = tally(total, fields.reward, done, np)
            ended += np.stack([ends.returns.sum((1, 2)), ends.happened.sum((1, 2))], 1)
        for i, (lane, (actor, *_)) in enumerate(zip(each, begun, strict=True)):
            lane.state, lane.env_steps, row = self._learn(
                lane.lane, lane.state, lane.env_steps, actor, recorder.of_lane(i), number
            )
            lane.rows.append((lane.env_steps, row))
        return Episodes(obs, (), total), ended  # pyright: ignore

    def _packed(self, *args: Any) -> tuple[PyTree, Array, Array]:
        """Update, with the metrics as one array: fetched one by one they would take as long as the
        environment's step."""
        state, env_steps, metrics = self._steps.update(*args)
        self._names = sorted(metrics.keys() - {"env_steps"})
        return state, env_steps, jnp.stack([metrics[name] for name in self._names])


class _Recorder:
    """A rollout of all lanes as it comes; what is handed out is never written again."""

    def __init__(self, spec: EnvSpec, obs: np.ndarray):
        self._truncates, self._obs = spec.truncates, [np.array(obs)]
        self._columns: list[Any] = []

    def add(self, actions: np.ndarray, extras: list[PyTree], fields: HostStep) -> np.ndarray:
        """Add a step of all lanes; returns the observations after it."""
        obs, reward, terminated, truncated, successor = map(np.array, fields)
        self._obs.append(obs)
        of_successor = successor if self._truncates else None
        self._columns.append(
            (actions, reward.astype(np.float32), terminated, truncated, of_successor, extras)
        )
        return obs

    def of_lane(self, index: int) -> Recording:
        """The part of one lane."""
        rows = [
            tuple(None if part is None else part[index] for part in row) for row in self._columns
        ]
        columns = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
        obs = np.stack([each[index] for each in self._obs])
        return Recording(obs[0], obs, *columns)  # pyright: ignore


def _metrics(names: list[str], rows: list[Any]) -> dict[str, np.ndarray]:
    """Metrics ``[I]`` of a lane by name."""
    packed = np.stack([np.asarray(row) for _, row in rows])
    env_steps = np.stack([np.asarray(steps) for steps, _ in rows])
    return {name: packed[:, i] for i, name in enumerate(names)} | {"env_steps": env_steps}


def _of_episodes(ended: np.ndarray) -> dict[str, np.ndarray]:
    """Mean returns and numbers of the episodes that ended, ``[L, I]``, from ``[L, I, 2]``."""
    returns, counts = ended[..., 0], ended[..., 1]
    with np.errstate(invalid="ignore"):
        return {"reward": returns / np.where(counts > 0, counts, np.nan), "episodes": counts}
