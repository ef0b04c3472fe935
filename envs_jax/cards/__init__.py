"""Cards of the environments; importing this registers them. No JAX and no NumPy."""

from envs_jax.cards import cartpole, gymnasium, gymnax, minigrid, mujoco, pendulum, procgen
from jaxgen.study.cards import register_environment, register_family

CARDS = (cartpole.CARD, minigrid.CARD, pendulum.CARD, *procgen.CARDS, *mujoco.CARDS)
"""All cards, in the order in which tables show them."""

for _card in CARDS:
    register_environment(_card)

register_family(gymnax.PREFIX, gymnax.card)
register_family(gymnasium.PREFIX, gymnasium.card)
