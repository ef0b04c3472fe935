"""OpenAI evolution strategies (Salimans et al. 2017).

Antithetic perturbations, centred ranks with ties averaged, Adam. Members of a
generation share their episodes' starts, the next generation gets fresh ones;
the mean parameter vector is what is evaluated. Every live step of the
population counts in the budget.

Members are ranked by their mean return over the variations, so that there is one
pseudo-gradient. Under ``es-gar`` each variation ranks them by its own returns, with the
same perturbations, and the pseudo-gradients are combined by their agreement.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxgen.algorithms.base import Adam, Algorithm, Optimizer, decay_of
from jaxgen.algorithms.gradients import combine
from jaxgen.nn import networks, ops
from jaxgen.nn.distributions import policy_of, preferred
from jaxgen.study.config import ESConfig
from jaxgen.techniques import Rule, Technique
from jaxgen.types import Array, EnvSpec, Metrics, PyTree, Transition


class Population(NamedTuple):
    """A generation: member p is ``mean + sigma * noise[p]``."""

    tree: PyTree
    """Parameters of all members, leaves ``[P, ...]``."""
    noise: Array
    """float32 ``[P, D]``, the second half the first one's negative."""


class Outcome(NamedTuple):
    """What a rollout keeps of a step."""

    reward: Array
    done: Array


def make_es(config: ESConfig, technique: Technique, spec: EnvSpec) -> Algorithm:
    """Build ES; see `jaxgen.algorithms.base.Algorithm` for the contract."""
    head = preferred(spec.actions)
    network = networks.single(
        spec, head.num_outputs, config.hidden, network=config.network, encoding="one_hot",
        head_scale=config.head_scale,
    )
    # Convolutions with the kernels of one member after the other.
    over_members = jax.vmap if config.network == "mlp" else _in_turn
    adam = Adam(config.learning_rate, decay_of(technique), config.adam_eps)

    def prepare(state: Optimizer, iteration: Array, key: Array) -> Population:
        half = jax.random.normal(key, (config.population // 2, state.params.size))
        noise = jnp.concatenate([half, -half])
        members = state.params[None] + config.sigma * noise
        return Population(jax.vmap(network.unravel)(members), noise)

    def act(population: Population, obs: Array, words: Array) -> tuple[Array, PyTree]:
        members = obs.reshape(obs.shape[0], config.population, -1, *obs.shape[2:])
        outputs = over_members(network.apply, in_axes=(0, 1), out_axes=1)(population.tree, members)
        return head.of(outputs).best().reshape(*obs.shape[:2], *spec.actions.shape), ()

    def update(
        state: Optimizer, population: Population, rollout: Outcome, iteration: Array, key: Array
    ) -> tuple[Optimizer, Metrics]:
        by_variation = _member_returns(config, rollout)
        fitness = by_variation.mean(0)
        own = {
            "loss": -fitness.mean(), "reward": fitness.mean(), "best_fitness": fitness.max(),
            "updates": 1.0,
        }
        if technique.rule is Rule.APART:
            gradients = _pseudo_gradients(by_variation, population.noise, config.sigma)
            combined = combine(technique, -gradients)
        else:
            gradient = pseudo_gradient(fitness, population.noise, config.sigma)
            combined = combine(Technique(), -gradient[None])
            # One pseudo-gradient for all variations: there is no agreement to measure.
            own |= {"agree_ref": jnp.nan, "agree_pair": jnp.nan}
        state, metrics = adam.step(state, combined)
        return state, metrics | {name: jnp.float32(value) for name, value in own.items()}

    return Algorithm(
        init=lambda key: adam.init(network.init(key)),
        prepare=prepare,
        act=act,
        policy=policy_of(
            head, lambda params, obs: network.apply(network.unravel(params), obs)
        ),
        params=lambda state: state.params,
        record=_outcome,
        keeps_obs=False,
        update=update,
        half_gradients=partial(_half_gradients, config),
        num_envs=config.num_envs,
        num_steps=config.num_steps,
        fresh=True,
        num_starts=config.episodes_per_member,
        in_turn=config.network != "mlp",
        count_steps=lambda rollout: first_episode(rollout.done).sum().astype(jnp.int32),
    )


def _in_turn(
    apply: Callable[[PyTree, Array], Array], in_axes: tuple[int, int], out_axes: int
) -> Callable[[PyTree, Array], Array]:
    """As vmap over trees of parameters ``[P, ...]`` and observations whose axis 1 is P."""
    assert (in_axes, out_axes) == ((0, 1), 1)

    def mapped(trees: PyTree, obs: Array) -> Array:
        outputs = jax.lax.map(lambda own: apply(*own), (trees, jnp.moveaxis(obs, 1, 0)))
        return jnp.moveaxis(outputs, 0, 1)

    return mapped


def _member_returns(config: ESConfig, rollout: Outcome) -> Array:
    """Mean return of each member on each variation, ``[V, P]``."""
    returns = (rollout.reward * first_episode(rollout.done)).sum(0)
    return returns.reshape(returns.shape[0], config.population, -1).mean(2)


def _half_gradients(
    config: ESConfig, state: Optimizer, population: Population, rollout: Outcome
) -> Array:
    """The pseudo-gradients of two halves of the population; see `Algorithm`."""
    fitness, pairs = _member_returns(config, rollout), config.population // 2
    half = pairs // 2
    if not half:
        # A single pair cannot be halved.
        return jnp.full((2, len(fitness), state.params.size), jnp.nan)
    # Antithetic pairs stay together; of an odd number one is left out.
    first = jnp.arange(half)
    members = [jnp.concatenate([part, part + pairs]) for part in (first, first + half)]
    return -jnp.stack([
        _pseudo_gradients(fitness[:, own], population.noise[own], config.sigma) for own in members
    ])


def pseudo_gradient(fitness: Array, noise: Array, sigma: Array | float) -> Array:
    """Estimate the gradient of expected fitness (Salimans et al. 2017, algorithm 1).

    Args:
      fitness: float32 ``[P]``, higher is better.
      noise: standard normal perturbations float32 ``[P, D]``.
      sigma: their scale.

    Returns:
      ``sum_p rank_p noise_p / (P sigma)``, float32 ``[D]``, with centred ranks.
    """
    chex.assert_rank([fitness, noise], [1, 2])
    chex.assert_type([fitness, noise], float)
    return ops.centred_ranks(fitness) @ noise / (fitness.shape[0] * sigma)


def _pseudo_gradients(fitness: Array, noise: Array, sigma: Array | float) -> Array:
    """`pseudo_gradient` of each variation: fitness ``[V, P]`` -> ``[V, D]``."""
    gradients = []
    for own in fitness:
        # Barriers keep XLA from making one product, whose order of sums depends on the lanes.
        own, own_noise = jax.lax.optimization_barrier((own, noise))
        gradients.append(pseudo_gradient(own, own_noise, sigma))
    return jnp.stack(gradients)


def first_episode(done: Array) -> Array:
    """Mark the steps of each environment's first episode: bool ``[T, ...]`` -> float32."""
    chex.assert_type(done, bool)
    ended_before = jnp.cumsum(done, axis=0) - done
    return (ended_before == 0).astype(jnp.float32)


def _outcome(transition: Transition) -> Outcome:
    return Outcome(transition.reward, transition.terminated | transition.truncated)
