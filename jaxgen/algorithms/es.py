"""OpenAI evolution strategies (Salimans et al. 2017).

Antithetic perturbations, centred ranks with ties averaged, Adam. Members of a
generation share their episodes' starts, the next generation gets fresh ones;
the mean parameter vector is what is evaluated. Every live step of the
population counts in the budget. Members take the best action of their outputs, so that actions
may be numbered or lie in a box.

Members are ranked by their mean return over the variations, so that there is one
pseudo-gradient. Under ``es-gar`` each variation ranks them by its own returns, with the
same perturbations, and the pseudo-gradients are combined by their agreement.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxgen.algorithms.base import PRIMARY, Algorithm, RolloutShape
from jaxgen.algorithms.gradients import Combined, combine
from jaxgen.algorithms.learner import Adam, Learner, Optimizer, decay_of
from jaxgen.nn import networks, ops
from jaxgen.nn.distributions import policy_of, preferred
from jaxgen.nn.layers import ACTIVATIONS
from jaxgen.nn.networks import Network, Variables
from jaxgen.study.config import ESConfig
from jaxgen.techniques import Rule, Technique
from jaxgen.types import Array, EnvSpec, Metrics, PyTree, Transition


class Population(NamedTuple):
    """A generation: member p is ``mean + sigma * noise[p]``; statistics are those of all."""

    members: Variables
    """Leaves ``[P, ...]``."""
    noise: Array
    """float32 ``[P, D]`` of trained parameters; the second half is the negative of the first."""


class Outcome(NamedTuple):
    """Part of a step that a rollout keeps."""

    reward: Array
    done: Array
    obs: Any = ()
    """Observations from which the network's statistics are renewed, if it has any."""


def make_es(config: ESConfig, technique: Technique, spec: EnvSpec) -> Algorithm:
    """Build ES; see `jaxgen.algorithms.base.Algorithm` for the contract."""
    head = preferred(spec.actions)
    network = networks.single(
        spec, head.num_outputs, config.hidden, network=config.network, encoding="one_hot",
        head_scale=config.head_scale, initialisation=config.initialisation,
        activation=ACTIVATIONS[config.activation],
    )
    adam = Adam(config.learning_rate, decay_of(technique), config.adam_eps)
    learner = Learner(technique, adam, network)

    def act(population: Population, obs: Array, words: Array) -> tuple[Array, PyTree]:
        of_members = obs.reshape(obs.shape[0], config.population, -1, *obs.shape[2:])
        outputs = _member_outputs(network, population.members, of_members)
        return head.of(outputs).best().reshape(*obs.shape[:2], *spec.actions.shape), ()

    def record(transition: Transition) -> Outcome:
        done = transition.terminated | transition.truncated
        return Outcome(transition.reward, done, transition.obs if network.refresh else ())

    def update(
        state: Optimizer, actor: Population, rollout: Outcome, iteration: Array, key: Array
    ) -> tuple[Optimizer, Metrics]:
        by_variation = _member_returns(config, rollout)
        fitness = by_variation.mean(0)
        outcome = {
            "loss": -fitness.mean(), "reward": fitness.mean(), "best_fitness": fitness.max(),
            "updates": 1.0,
        }
        state, metrics = adam.step(state, _combined(config, technique, by_variation, actor.noise))
        if technique.rule is not Rule.APART:
            # One pseudo-gradient for all variations: there is no agreement to measure.
            outcome |= {"agree_ref": jnp.nan, "agree_pair": jnp.nan}
        state = learner.refresh(state, rollout.obs)
        return state, metrics | {name: jnp.float32(value) for name, value in outcome.items()}

    return Algorithm(
        init=learner.init,
        prepare=lambda state, _, key: _perturbed(config, network, state.params, key),
        act=act,
        policy=policy_of(head, lambda params, obs: network.apply(network.unravel(params), obs)),
        params=lambda state: state.params,
        record=record,
        update=update,
        half_gradients=partial(_half_gradients, config),
        shape=RolloutShape(
            config.num_envs, config.num_steps, num_starts=config.episodes_per_member, fresh=True,
            keeps_obs=network.refresh is not None,
        ),
        in_turn=network.in_turn,
        unravel=network.unravel,
        count_steps=lambda rollout: ops.first_episode(rollout.done).sum().astype(jnp.int32),
    )


def _perturbed(config: ESConfig, network: Network, params: Array, key: Array) -> Population:
    """The members around a parameter vector, in antithetic pairs; statistics are not perturbed."""
    num_trained = network.num_trained
    half = jax.random.normal(key, (config.population // 2, num_trained))
    noise = jnp.concatenate([half, -half])
    members = params[:num_trained][None] + config.sigma * noise
    if num_trained < params.size:
        statistics = jnp.tile(params[num_trained:], (config.population, 1))
        members = jnp.concatenate([members, statistics], axis=1)
    return Population(jax.vmap(network.unravel)(members), noise)


def _combined(
    config: ESConfig, technique: Technique, returns: Array, noise: Array
) -> Combined:
    """Combine what returns ``[V, P]`` say of the noise ``[P, D]``: a direction to descend."""
    if technique.rule is Rule.APART:
        return combine(technique, -_pseudo_gradients(returns, noise, config.sigma))
    return combine(Technique(), -pseudo_gradient(returns.mean(0), noise, config.sigma)[None])


def _member_outputs(network: Network, members: Variables, obs: Array) -> Array:
    """Apply each member to its observations: obs ``[V, P, M, ...]`` -> outputs ``[V, P, M, O]``."""
    if not network.in_turn:
        return jax.vmap(network.apply, in_axes=(0, 1), out_axes=1)(members, obs)
    # Convolutions with the kernels of one member after the other.
    by_member = jnp.moveaxis(obs, 1, 0)
    outputs = jax.lax.map(lambda member: network.apply(*member), (members, by_member))
    return jnp.moveaxis(outputs, 0, 1)


def _member_returns(config: ESConfig, rollout: Outcome) -> Array:
    """Mean return of each member on each variation, ``[V, P]``."""
    returns = (rollout.reward * ops.first_episode(rollout.done)).sum(0)
    return returns.reshape(returns.shape[0], config.population, -1).mean(2)


def _half_gradients(
    config: ESConfig, state: Optimizer, actor: Population, rollout: Outcome
) -> dict[str, Array]:
    """The pseudo-gradients of two halves of the population; see `Algorithm`."""
    fitness, pairs = _member_returns(config, rollout), config.population // 2
    half = pairs // 2
    if not half:
        # A single pair cannot be halved.
        return {PRIMARY: jnp.full((2, len(fitness), actor.noise.shape[1]), jnp.nan)}
    # Antithetic pairs stay together; of an odd number one is left out.
    first = jnp.arange(half)
    halves = [jnp.concatenate([part, part + pairs]) for part in (first, first + half)]
    return {PRIMARY: -jnp.stack([
        _pseudo_gradients(fitness[:, members], actor.noise[members], config.sigma)
        for members in halves
    ])}


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
    chex.assert_equal_shape_prefix([fitness, noise], 1)
    chex.assert_type([fitness, noise], float)
    return ops.centred_ranks(fitness) @ noise / (fitness.shape[0] * sigma)


def _pseudo_gradients(fitness: Array, noise: Array, sigma: Array | float) -> Array:
    """`pseudo_gradient` of each variation: fitness ``[V, P]`` -> ``[V, D]``."""
    gradients = []
    for of_variation in fitness:
        # Barriers keep XLA from making one product, whose order of sums depends on the lanes.
        ranked, of_ranked = jax.lax.optimization_barrier((of_variation, noise))
        gradients.append(pseudo_gradient(ranked, of_ranked, sigma))
    return jnp.stack(gradients)
