"""The collector of host environments: by an ordered callback, or by a Python loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.algorithms.base import Algorithm, RolloutShape
from jaxgen.nn import frames
from jaxgen.system.errors import BadInput
from jaxgen.training.rollout import Ended, Episodes, episode_metrics, tally
from jaxgen.types import (
    Array,
    EnvSpec,
    HostTask,
    HostVecEnv,
    Metrics,
    PyTree,
    Transition,
)


class Recording(NamedTuple):
    """Data of a host environment over T steps, as they came; leaves ``[T, V, N, ...]``.

    Each observation is written once, while the games run; what the algorithm keeps of transitions
    is made of them in its update, by `assemble`. Over lanes, ``start`` and ``obs`` have them in
    front, the others behind the time.
    """

    start: Array
    """The stack of images that the first action was chosen for, ``[V, N, ...]``."""
    obs: Array | tuple[()]
    """Single images, ``[T + 1, V, N, ...]``: the newest of ``start`` first; none where the
    algorithm keeps none."""
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    successor: Array | None
    """True successors, where something truncates."""
    extras: PyTree


def collect_bridged(
    task: HostTask, algorithm: Algorithm, actor: PyTree, episodes: Episodes, words: Array,
    images: Any,
) -> tuple[Episodes, Recording, Ended]:
    """Collect as `collect` does, from the host environment that is connected to the bridge.

    Args:
      task: gives the specification, of which the algorithm may see a stack of images, and the
        bridge, of which vmap over lanes makes one call of the host for all.
      algorithm: as in `collect`.
      actor: as in `collect`.
      episodes: where the last rollout ended.
      words: randomness of the actions, uint32 ``[T, V, N, W]``.
      images: a buffer for the recording's ``obs``, whatever is in it.

    Returns:
      The running episodes, the recording, and the ends of episodes ``[T, V, N]`` for
      `host_metrics`.
    """
    spec = task.spec
    first = frames.newest(spec, episodes.obs)
    # A stack of one image is read from the recording, and need not be carried beside it.
    alone = algorithm.shape.keeps_obs and first.shape == episodes.obs.shape
    if algorithm.shape.keeps_obs:
        images = lax.dynamic_update_index_in_dim(images, first, 0, 0)

    def step(carry: tuple[PyTree, PyTree, Array], inputs: tuple[Array, Array]):
        images, stack, total = carry
        time, words_t = inputs
        seen = lax.dynamic_index_in_dim(images, time, keepdims=False) if alone else stack
        action, extras = algorithm.act(actor, seen, words_t)
        obs, reward, terminated, truncated, next_obs = task.bridge.step(action)
        done = terminated | truncated
        if algorithm.shape.keeps_obs:
            # Not images.at: out of bounds it must do nothing, so that it reads what is there.
            images = lax.dynamic_update_index_in_dim(images, obs, time + 1, 0)
        if not alone:
            stack = frames.push(spec, stack, obs, done)
        successor = next_obs if spec.truncates else None
        transition = action, reward, terminated, truncated, successor, extras
        # Not summed here: a program with other neighbours would add in another order.
        total, ended = tally(total, reward, done)
        return (images, stack, total), (transition, ended)

    stack = () if alone else episodes.obs
    (images, stack, total), (transitions, ended) = lax.scan(
        step, (images, stack, episodes.total), (jnp.arange(len(words)), words)
    )
    after = Episodes(images[-1] if alone else stack, (), total)  # pyright: ignore
    return after, Recording(episodes.obs, images, *transitions), ended


def assemble(spec: EnvSpec, algorithm: Algorithm, recording: Recording) -> PyTree:
    """Apply ``record`` to the transitions of a recording ``[T, V, N]``, as `collect` does.

    Where nothing truncates, ``next_obs`` is ``[1, V, N, ...]``, the last step's, as the others' are
    the next step's ``obs``.
    """
    start, images, action, reward, terminated, truncated, successor, extras = recording
    obs, last = None, None
    if algorithm.shape.keeps_obs:
        obs, last, successor = _stacks(spec, start, images, terminated | truncated, successor)
    transition: Any = (obs, action, reward, terminated, truncated, successor, extras)
    rollout = jax.vmap(algorithm.record)(Transition(*transition))
    if spec.truncates or not isinstance(rollout, Transition):
        return rollout
    return rollout._replace(next_obs=last[None])  # pyright: ignore


def _stacks(
    spec: EnvSpec, start: Array, images: Any, done: Array, successor: Array | None
) -> tuple[Array, Array, Array | None]:
    """The stack before each step, that after the last, and those of the successors."""
    if start.shape == images.shape[1:]:
        return images[:-1], images[-1], successor

    def step(stack: Array, inputs: tuple[Array, Array, Array | None]):
        image, done, successor = inputs
        following = None
        if successor is not None:
            following = frames.push(spec, stack, successor, jnp.zeros_like(done))
        return frames.push(spec, stack, image, done), (stack, following)

    last, (stacks, following) = lax.scan(step, start, (images[1:], done, successor))
    return stacks, last, following


def collect_host(
    env: HostVecEnv,
    spec: EnvSpec,
    act: Callable[[np.ndarray, np.ndarray], tuple[Array, PyTree]],
    keeps_obs: bool,
    episodes: Episodes,
    words: np.ndarray,
) -> tuple[Episodes, Recording, Ended]:
    """Collect as `collect_bridged` does, by a Python loop, for all lanes at once.

    Args:
      env: the environment, of shape S.
      spec: its specification.
      act: (obs ``[*S, ...]``, words uint32 ``[*S, W]``) -> actions and extras, compiled, closed
        over the actor.
      keeps_obs: the algorithm's.
      episodes: where the last rollout ended; its ``state`` stays inside ``env``.
      words: randomness of the actions, uint32 ``[T, V, N, W]`` or ``[L, T, V, N, W]``.

    Returns:
      As `collect_bridged`, in numpy, for lanes with the axes of `Recording`.
    """
    start, total = np.array(episodes.obs), np.array(episodes.total)
    time_axis, stack = total.ndim - 2, start
    front, length = (slice(None),) * time_axis, words.shape[time_axis]
    first = frames.newest(spec, start)
    num_images = length + 1 if keeps_obs else 1
    images = np.empty((*start.shape[:time_axis], num_images, *first.shape[time_axis:]), first.dtype)
    images[(*front, 0)] = first
    columns, structure = [], None
    for time, words_t in enumerate(np.moveaxis(words, time_axis, 0)):
        action, extras = act(stack, words_t)
        action = np.asarray(action)
        obs, reward, terminated, truncated, next_obs = env.step(spec.actions.scale(action))
        # The environment may write into its arrays again; columns copy what is not copied here.
        obs, reward = np.array(obs), np.asarray(reward, np.float32)
        done = terminated | truncated
        total, ended = tally(total, reward, done, np)
        if keeps_obs:
            images[(*front, time + 1)] = obs
        successor = next_obs if spec.truncates else None
        transition = action, reward, terminated, truncated, successor, extras
        leaves, structure = jax.tree.flatten((transition, ended))
        columns = columns or [np.empty((length, *leaf.shape), leaf.dtype) for leaf in leaves]
        for column, leaf in zip(columns, leaves, strict=True):
            column[time] = leaf
        stack = frames.push(spec, stack, obs, done)
    assert structure is not None
    transitions, ended = jax.tree.unflatten(structure, columns)
    after = Episodes(stack, (), total)  # pyright: ignore
    recorded_images: Any = images if keeps_obs else ()
    return after, Recording(start, recorded_images, *transitions), ended  # pyright: ignore


@jax.jit
def host_metrics(ended: Ended) -> Metrics:
    """The metrics of `collect` from the ends of episodes ``[T, L, V, N]`` -> ``[L]``."""
    return episode_metrics(ended.returns.sum((-2, -1)), ended.happened.sum((-2, -1)))


LANE_AXES: Any = Recording(0, 0, 1, 1, 1, 1, 1, 1)  # pyright: ignore
"""Axes of the lanes in a recording."""


def lane_of(recording: Recording, index: int) -> Recording:
    """The part of one lane; axes as in `LANE_AXES`."""
    start, obs, *others = recording
    others = jax.tree.map(lambda leaf: leaf[:, index], others)
    return Recording(start[index], obs if isinstance(obs, tuple) else obs[index], *others)


def check_starts(spec: EnvSpec, shape: RolloutShape, obs: np.ndarray) -> None:
    """Raise BadInput where environments that shall begin in one state do not look alike.

    Args:
      spec: of the environment.
      shape: of the rollout: environment e begins as the one with number e modulo ``num_starts``.
      obs: first observations ``[L, V, N, ...]``.
    """
    copies = obs.reshape(*obs.shape[:2], -1, shape.num_starts, *obs.shape[3:])
    if not np.array_equal(copies, np.broadcast_to(copies[:, :, :1], copies.shape), True):
        raise BadInput(
            f"{spec.name} begins the same episode in different states, so that its seed does not "
            "decide them: mend its reset, or use an algorithm without common starts (grpo with "
            "same_start=false, ppo)"
        )


def begin_iteration(
    shape: RolloutShape, lanes: Any, episodes: Episodes, env: HostVecEnv, number: int
) -> Episodes:
    """The episodes that an iteration begins with: new ones, where the algorithm wants them."""
    if not shape.fresh:
        return episodes
    obs = frames.begin(env.reset(number), lanes.config.num_frames)
    return Episodes(obs, (), np.zeros(episodes.total.shape, np.float32))  # pyright: ignore
