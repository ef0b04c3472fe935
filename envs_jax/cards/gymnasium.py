"""Cards of Gymnasium's environments, made when their names are first asked for."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from envs_jax.cards import gymnax, mujoco
from jaxgen.study.cards.base import (
    EnvironmentCard,
    Limits,
    Observed,
    Setup,
    TaskCard,
    Title,
    resolve,
)
from jaxgen.study.config import PPOConfig

PREFIX = "gymnasium-"
"""Begins the registry names: ``gymnasium-LunarLander-v3``."""
WORD = "gymnasium:"
"""Begins the names that a person writes: ``gymnasium:LunarLander-v3``."""
SIGNS = {":": "++", "/": "+"}
"""Signs of Gymnasium's names that registry names cannot have, and what stands for them."""
INSTALL = 'pip install "gymnasium<1.4"'
STEP_US = 50.0
"""Microseconds of a step, a guess: environments differ by a factor of a hundred."""


def registry_name_of(id: str) -> str:
    """``gymnasium-<id>``, which can name a file."""
    for sign, other in SIGNS.items():
        id = id.replace(sign, other)
    return PREFIX + id


def id_of(name: str) -> str:
    """The name in Gymnasium of a registry name."""
    id = name.removeprefix(PREFIX)
    for sign, other in SIGNS.items():
        id = id.replace(other, sign)
    return id


def missing() -> str | None:
    """Say what is missing before an environment can be made; None: nothing is."""
    if importlib.util.find_spec("gymnasium") is None:
        return f"gymnasium is not installed; install it: {INSTALL}"
    return None


def card(name: str) -> EnvironmentCard:
    """The card of ``gymnasium-<id>`` with its usual parameters."""
    return _card(id_of(name))


def varied(
    name: str,
    vary: Mapping[str, Sequence[float]],
    reference: float | None = None,
    max_episode_steps: int | None = None,
    make: Mapping[str, Any] = {},
) -> EnvironmentCard:
    """The card of an environment some of whose attributes vary.

    Args:
      name: registry name, or as a person writes it.
      vary: name of an attribute -> its values at levels 0 and 1.
      reference: the return that counts as 1; None: the one from which on it counts as solved.
      max_episode_steps: time limit; None: Gymnasium's.
      make: further arguments of `gymnasium.make`.
    """
    id = name.removeprefix(WORD) if name.startswith(WORD) else id_of(name)
    ends = {key: [float(low), float(high)] for key, (low, high) in vary.items()}
    made = _card(id, max_episode_steps, make)
    options = {
        "vary": ends, "reference": reference, "max_episode_steps": max_episode_steps,
        "make": dict(make),
    }  # fmt: skip
    return replace(made, task=replace(made.task, options=options))


def _card(
    id: str, max_episode_steps: int | None = None, make: Mapping[str, Any] = {}
) -> EnvironmentCard:
    image, acts = _spaces(id, max_episode_steps, tuple(make.items()))
    return EnvironmentCard(
        name=registry_name_of(id),
        title=Title(id, id),
        task=TaskCard(
            make="envs_jax.host.gymnasium_envs:GymnasiumTask", fixed={"id": id},
            options={"vary": {}, "reference": None, "max_episode_steps": None, "make": {}},
            observed=Observed.IMAGES if image else Observed.NUMBERS,
            describe="envs_jax.varying:describe_level", missing=missing,
        ),
        limits=Limits(
            episodes=100, curve_episodes=10, quick_episodes=2, knows_ceiling=False, can_probe=False
        ),
        setups=_of_images(image) if image else _of_numbers(acts),
    )  # fmt: skip


@cache
def _spaces(
    id: str, max_episode_steps: int | None, make: tuple[tuple[str, Any], ...]
) -> tuple[tuple[int, ...], str]:
    """Shape of an image, or (), and kind of action; "" where nothing can be said of it here."""
    if missing():
        return (), ""
    try:
        spec = resolve("envs_jax.host.gymnasium_envs:spec_of")(id, max_episode_steps, dict(make))
    except ValueError:
        # The task says why.
        return (), ""
    return spec.obs_shape if spec.is_image else (), type(spec.actions).__name__


def _of_numbers(acts: str) -> dict[str, Setup]:
    """Setups of the algorithms that act so; of all where it is not known how."""
    setups = dict(mujoco.setups(STEP_US, ppo=500_000, es=2_000_000))
    dqn = gymnax.card(gymnax.PREFIX).setups["dqn"]
    setups["dqn"] = dqn._replace(seconds=dqn.seconds + STEP_US)
    without = {"Box": ("dqn",), "Discrete": ("sac", "td3")}.get(acts, ())
    return {name: setup for name, setup in setups.items() if name not in without}


def _of_images(shape: tuple[int, ...]) -> dict[str, Setup]:
    """PPO with the network of Mnih et al. 2015, or that of Espeholt et al. 2018 on small images."""
    network = "nature" if min(shape[:2]) >= 36 else "impala"
    config = PPOConfig(
        total_steps=1_000_000, learning_rate=2.5e-4, hidden=(256,), num_envs=8, num_steps=128,
        num_epochs=4, num_minibatches=8, scale_rewards=True, network=network, num_frames=4,
    )  # fmt: skip
    quick = {"num_envs": 1, "num_steps": 8, "num_minibatches": 2}
    return {"ppo": Setup(config, seconds=1500.0, quick=quick)}
