"""Environments of Gymnasium that cost nothing, registered as ``toys/...-v0`` on import."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

LIMIT = 12


class Slide(gymnasium.Env):
    """Push a block to 0: pays minus its distance, ends beyond 3; its mass is an attribute."""

    def __init__(self, discrete: bool = False):
        self.mass, self.name = 1.0, "block"
        self.observation_space: Any = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space: Any = (
            spaces.Discrete(3, start=-1) if discrete else spaces.Box(-2, 2, (1, 1), np.float64)
        )
        self.state = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Draw a place and a speed."""
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 2)
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        """Push, with a gust that the generator of the reset draws."""
        assert self.action_space.contains(action) or abs(float(np.sum(action))) > 2
        force = float(np.sum(action)) + self.np_random.normal(0, 0.1)
        place, speed = self.state
        speed = speed + 0.3 * force / self.mass
        self.state = np.array([place + 0.3 * speed, speed])
        ends = bool(abs(self.state[0]) > 3)
        return self.seen(), -abs(float(self.state[0])), ends, False, {}

    def seen(self) -> Any:
        """What is observed."""
        return self.state.copy()


class Picture(Slide):
    """The same as an image of 40 x 40, whose column says where the block is."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (40, 40, 3), np.uint8)

    def seen(self) -> Any:
        """A white column."""
        image = np.zeros((40, 40, 3), np.uint8)
        image[:, int(np.clip(20 + 6 * self.state[0], 0, 39))] = 255
        return image


class Forgetful(Slide):
    """A seed starts other episodes each time."""

    count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Draw with a generator that counts."""
        type(self).count += 1
        return super().reset(seed=type(self).count)


class Pairs(Slide):
    """Observations that are no vector."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Dict({"place": spaces.Discrete(2)})


class Switches(Slide):
    """Actions that are neither a number nor a vector of reals."""

    def __init__(self):
        super().__init__()
        self.action_space = spaces.MultiDiscrete([2, 2])


class Digits(Slide):
    """Observed as one of ten numbers."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Discrete(10, start=5)

    def seen(self) -> Any:
        """A number from 5 to 14."""
        return int(np.clip(10 + self.state[0], 5, 14))


_SLIDE: Any = Slide
_ALL: list[Any] = [Slide, Picture, Forgetful, Pairs, Switches, Digits]
for _class in _ALL:
    gymnasium.register(
        f"toys/{_class.__name__}-v0", _class, max_episode_steps=LIMIT, reward_threshold=-1.0
    )
gymnasium.register("toys/Endless-v0", _SLIDE)
gymnasium.register("toys/Unknown-v0", _SLIDE, max_episode_steps=LIMIT)
