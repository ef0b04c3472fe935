"""MuJoCo's robots as Gymnasium's version 5 has them, shifted in mass, friction and strength.

Level axis: at level v masses and inertias are 1 + .5 v times those of level 0, sliding friction is
1 - .75 v times, gear of the motors 1 - .45 v times; what follows from them is computed anew. With
``vary`` one of these alone is shifted.

At level 0, and at any other with the model's fields set likewise, observations, rewards and ends
are those of Gymnasium with the same engine, bit by bit: each episode starts as
``reset(seed=seed)``, with a seed of its own that follows from the words of its lane.
"""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from envs_jax.cards.mujoco import OPTIONS, RETURNS, VARY
from envs_jax.host import CallbackBridge
from envs_jax.host.seeded import Outcome, SeededEpisodes, SeededVecEnv
from envs_jax.mujoco.drawing import VIEWS, Painter
from envs_jax.mujoco.engine import FACTORS, Batched, Bodies, Pooled, missing, scale_of
from envs_jax.mujoco.robots import ROBOTS, Robot, checked
from jaxgen.types import Box, EnvSpec, EpisodeKinds, Numbers


class Simulations:
    """Episodes of a robot in S simulations; `envs_jax.host.seeded.Worlds`.

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
        self._name, self._painter = task.spec.name, None

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

    @property
    def levels(self) -> np.ndarray:
        """Their levels, float32 ``[S]``."""
        return self.bodies.levels

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

    def render(self, sim: int) -> np.ndarray:
        """Draw a simulation, RGB uint8 ``[240, 320, 3]``."""
        if self._painter is None:
            self._painter = Painter(self.bodies.model, VIEWS[self._name])
        return self._painter.paint(self.bodies.qpos[sim])

    def get(self, sims: slice) -> dict[str, np.ndarray]:
        """All that the next steps of simulations depend on."""
        return self.bodies.get(sims) | {"lengths": self.lengths[sims].copy()}

    def set(self, sims: slice, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `get` gave for as many simulations."""
        self.bodies.set(sims, state)
        self.lengths[sims] = state["lengths"]


def _body(name: str, robot: Robot, body: int | str) -> int:
    """The number of a body of a robot's model; ValueError: it has none such."""
    if what := missing():
        raise ValueError(f"{name} cannot be played: {what}")
    model = make_model(robot)
    try:
        return model.body(body).id
    except (KeyError, IndexError):
        names = ", ".join(model.body(number).name for number in range(1, model.nbody))
        raise ValueError(
            f"{name}: main_body = {body!r} is not allowed; use the name of a body, one of {names}, "
            f"or a number below {model.nbody}"
        ) from None


def make_model(robot: Robot) -> Any:
    """The model of a robot at level 0; it needs mujoco."""
    module, function = robot.model.split(":")
    return getattr(import_module(f"envs_jax.mujoco.models.{module}"), function)()


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))


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
        if (body := self.options.get("main_body", 1)) != 1:
            self.options["main_body"] = _body(name, self.robot, body)
        num_seen, num_motors = self.robot.sizes(self.options)
        self.spec = EnvSpec(
            name, Numbers((-np.inf,) * num_seen, (np.inf,) * num_seen),
            Box((-self.robot.reach,) * num_motors, (self.robot.reach,) * num_motors),
            self.robot.max_episode_steps,
        )  # fmt: skip
        self.bridge = CallbackBridge(self.spec)

    def training(
        self, words: np.ndarray, levels: np.ndarray, num_envs: int, num_starts: int
    ) -> SeededVecEnv:
        """Open the simulations of all lanes: words ``[L, W]``, levels ``[L, V]``."""
        noise = self.options.get("reset_noise_scale", 0.0)
        open_worlds = partial(Simulations, self, noise=noise)
        return SeededVecEnv(self.spec, open_worlds, words, levels, num_envs, num_starts)

    def evaluation(
        self, words: np.ndarray, levels: tuple[float, ...], num_episodes: int, num_slots: int
    ) -> SeededEpisodes:
        """Lay out fixed episodes: words ``[K, W]``, a row per level."""
        sims = Simulations(self, num_slots, self.options.get("eval_reset_noise_scale", 0.0))
        return SeededEpisodes(self.spec, sims, words, levels, num_episodes)

    def kinds(self, levels: tuple[float, ...], num_episodes: int) -> EpisodeKinds:
        """A single kind, whose upper reference is that of level 0 at every level."""
        low, high = RETURNS[self.spec.name]
        index = np.zeros((len(levels), num_episodes), int)
        return EpisodeKinds(("episode",), index, np.array([low]), np.array([high]))


def describe_level(task: MujocoTask, level: float, num_episodes: int) -> str:
    """Scales of the factors that vary, in words."""
    del num_episodes
    return ", ".join(f"{FACTORS[f].word} x {scale_of(f, level):.4g}" for f in task.factors)
