"""The probe with continuous actions: where to act is seen, and every value is known.

The reward of a step is ``-sum((action - target)^2)``. In [-1, 1], where algorithms act, the target
is ``(s, -s)`` of the observation s, which halves with each of 4 steps. So the best policy is linear
and returns 0, and one that acts at the centre of the box, 3 and 1/2 units wide on each side,
returns ``-(3^2 + (1/2)^2) s^2 (1 + 1/4 + 1/16 + 1/64)`` from the start s.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.base import Environment, check_levels
from envs_jax.host import CallbackBridge
from jaxgen.algorithms.base import PRIMARY, Algorithm, RolloutShape
from jaxgen.nn.random import uniform_of
from jaxgen.study.config import Config
from jaxgen.techniques import Technique
from jaxgen.types import Box, EnvSpec, HostStep, Image, Numbers, Policy

NUM_STEPS = 4
BOX = Box(low=(-2.0, 0.0), high=(4.0, 1.0))
"""Centre (1, 1/2)."""
SPEC = EnvSpec("box", Numbers((-1.0,), (1.0,)), BOX, NUM_STEPS)
CENTRE_WORTH = -(9 + 0.25) * (1 + 1 / 4 + 1 / 16 + 1 / 64)
"""Return of the centre of the box, as a multiple of the start squared."""
SIGNS = np.array([1, -1], np.float32)


def reward_of(xp: Any, side: Any, action: Any) -> Any:
    """In the environment's units: action float32 ``[*S, 2]``."""
    target = xp.stack([1 + 3 * side, 0.5 - 0.5 * side], -1)
    return -((action - target) ** 2).sum(-1)


class BoxState(NamedTuple):
    side: jax.Array
    time: jax.Array


class BoxEnv(Environment):
    """See `envs_jax.base.Environment`; its parameters are the smallest distance of a start."""

    spec, reset_words = SPEC, 1

    @property
    def default_params(self):
        return jnp.float32(0)

    def reset_from(self, words, params):
        side = params + uniform_of(words[..., 0]) / 2
        return side[..., None], BoxState(side, jnp.zeros_like(side, jnp.int32))

    def advance(self, state, action, params):
        side, time = state.side / 2, state.time + 1
        ended = time >= NUM_STEPS
        reward = reward_of(jnp, state.side, action)
        return side[..., None], BoxState(side, time), reward, jnp.zeros_like(ended), ended

    def render(self, state, params):
        image = np.zeros((8, 8, 3), np.uint8)
        image[0], image[:, 0] = 255, 255 * abs(float(state.side))
        return image


class BoxTask:
    """See `jaxgen.types.Task`."""

    refresh_steps, spec = None, SPEC

    def __init__(self) -> None:
        self.environment = BoxEnv()

    def training_params(self, key, levels):
        return check_levels(levels) / 4

    def evaluation(self, key, levels, num_episodes):
        words = jax.random.bits(key, (num_episodes, 1), "uint32")
        params = self.training_params(key, levels)
        return params, jnp.broadcast_to(words, (levels.shape[0], *words.shape))

    def ceiling(self, params, words):
        return jnp.zeros(words.shape[:-1], jnp.float32)

    def fingerprints(self, params):
        del params


SIDE = 8
"""Of an image; the smallest that IMPALA's encoder reads."""


class PictureEnv(BoxEnv):
    """`BoxEnv` that shows images, as bright as s is large."""

    spec = EnvSpec("picture", Image(SIDE, SIDE, 3), BOX, NUM_STEPS)

    def reset_from(self, words, params):
        obs, state = super().reset_from(words, params)
        return shown(obs), state

    def advance(self, state, action, params):
        obs, *rest = super().advance(state, action, params)
        return shown(obs), *rest


def shown(side: jax.Array) -> jax.Array:
    """Images uint8 ``[*S, 8, 8, 3]`` of numbers ``[*S, 1]`` in [0, 1/2]."""
    bright = jnp.round(510 * side).astype(jnp.uint8)
    return jnp.broadcast_to(bright[..., None, None], (*side.shape[:-1], SIDE, SIDE, 3))


class PictureTask(BoxTask):
    """See `jaxgen.types.Task`."""

    spec = PictureEnv.spec

    def __init__(self) -> None:
        self.environment = PictureEnv()


class BoxVecEnv:
    """The same in numpy, of any shape; a `HostVecEnv`."""

    def __init__(self, first: np.ndarray):
        self.first, self.actions = first.astype(np.float32), []

    def reset(self, number: int) -> np.ndarray:
        self.side, self.time = self.first.copy(), np.zeros(self.first.shape, int)
        return self.side[..., None].copy()

    def step(self, action: np.ndarray) -> HostStep:
        assert isinstance(action, np.ndarray) and action.dtype == np.float32
        self.actions.append(action.copy())
        reward, side = reward_of(np, self.side, action), self.side / 2
        self.time = self.time + 1
        ended = self.time >= NUM_STEPS
        self.side, self.time = np.where(ended, self.first, side), np.where(ended, 0, self.time)
        false = np.zeros_like(ended)
        return HostStep(self.side[..., None], reward, false, ended, side[..., None])

    def episodes(self, lane: int) -> dict[str, np.ndarray]:
        return {}

    def get_state(self, lane: None = None) -> dict[str, np.ndarray]:
        del lane
        return {"side": self.side.copy(), "time": self.time.copy()}

    def set_state(self, state: dict[str, np.ndarray], lane: None = None) -> None:
        del lane
        self.side, self.time = state["side"], state["time"]


class BoxEpisodes:
    """Episodes of K levels, all alike, whose starts are evenly spread over [0, 1/2].

    A `HostEpisodes`.
    """

    def __init__(self, num_levels: int, num_episodes: int, num_slots: int):
        self.shape = (num_levels, num_episodes)
        self.level_seeds = np.tile(np.arange(num_episodes, dtype=np.int32), (num_levels, 1))
        self.starts = np.tile(np.linspace(0, 0.5, num_episodes, dtype=np.float32), num_levels)
        self.env = BoxVecEnv(np.zeros(num_slots))
        self.env.reset(0)

    def start(self, slots: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        self.env.side[slots], self.env.time[slots] = self.starts[episodes], 0
        return self.env.side[..., None].copy()

    def step(self, action: np.ndarray) -> HostStep:
        return self.env.step(action)


class BoxHostTask:
    """See `jaxgen.types.HostTask`."""

    spec = SPEC

    def __init__(self) -> None:
        self.bridge = CallbackBridge(SPEC)

    def training(self, words: Any, levels: Any, num_envs: int, num_starts: int) -> Any:
        shape = (*levels.shape, num_envs)
        return BoxVecEnv(np.linspace(0, 0.5, int(np.prod(shape))).reshape(shape))

    def evaluation(self, words: Any, levels: Any, num_episodes: int, num_slots: int) -> Any:
        return BoxEpisodes(len(levels), num_episodes, num_slots)

    def kinds(self, levels: Any, num_episodes: int) -> Any:
        return SimpleNamespace()


NOISE = 0.1
"""Half of the interval that `make_linear` draws from, around its best action."""


def make_linear(config: Config, technique: Technique, spec: EnvSpec) -> Algorithm:
    """A linear policy ``[A]`` of the observation that draws around it, and learns nothing."""
    assert isinstance(spec.actions, Box)
    size = spec.actions.shape[0]

    def best(params, obs):
        return obs * params.reshape((1,) * (obs.ndim - 1) + (size,))

    def draw(params, obs, words):
        return best(params, obs) + NOISE * (2 * uniform_of(words) - 1)

    def update(state, actor, rollout, iteration, key):
        names = ("loss", "agree_ref", "agree_pair", "grad_norm", "updates", "skipped_updates")
        return state, {name: jnp.float32(0) for name in names}

    return Algorithm(
        init=lambda key: jnp.zeros(size),
        prepare=lambda state, iteration, key: state,
        act=lambda actor, obs, words: (draw(actor, obs, words), ()),
        policy=Policy(best, draw, num_words=size),
        params=lambda state: state,
        record=lambda transition: transition,
        update=update,
        half_gradients=lambda state, actor, rollout: {PRIMARY: jnp.zeros((2, 3, size))},
        shape=RolloutShape(config.num_envs, config.num_steps, config.num_envs),
    )
