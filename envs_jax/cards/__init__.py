"""Cards of the environments; importing this registers them. No JAX and no NumPy."""

from envs_jax.cards import (
    cartpole,
    gymnasium,
    gymnax,
    minigrid,
    mountain_car,
    mujoco,
    pendulum,
    procgen,
)
from jaxgen.study.cards import Family, register_environment, register_family

CARDS = (
    cartpole.CARD, minigrid.CARD, pendulum.CARD, mountain_car.CARD, *procgen.CARDS, *mujoco.CARDS,
)  # fmt: skip
"""All cards, in the order in which tables show them."""

for _card in CARDS:
    register_environment(_card)

register_family(
    gymnax.PREFIX, Family(gymnax.card, gymnax.WORD, lambda id: gymnax.PREFIX + id)
)
register_family(
    gymnasium.PREFIX, Family(gymnasium.card, gymnasium.WORD, gymnasium.registry_name_of)
)
