"""OpenAI-ES against evosax and by hand, on a quadratic and on probes, and its own budget."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from evosax.algorithms import Open_ES

from jaxgen.algorithms import es
from jaxgen.algorithms.base import PRIMARY, Algorithm
from jaxgen.algorithms.gradients import combine as eager_combine
from jaxgen.algorithms.learner import Adam
from jaxgen.nn import ops
from jaxgen.techniques import Technique, make_technique
from jaxgen.training.program import stack_lanes
from probe_envs import (
    NUM_LANES,
    PROBES,
    ProbeTask,
    assert_same_bits,
    compiled,
    look,
    pick,
    reference,
    single,
    start,
    tiny_config,
    traced,
    train,
)

SPEC = ProbeTask(PROBES["match"]).spec
LEARNING_RATE, SIGMA, POPULATION = 0.1, 0.3, 6
NAMES = list(PROBES)

pseudo_gradient, combine = jax.jit(es.pseudo_gradient), jax.jit(eager_combine)


@cache
def make(technique: Technique, **overrides: Any) -> Algorithm:
    return compiled(es.make_es(tiny_config("es", **overrides), technique, SPEC))


def updated_eagerly(technique: Technique, **overrides: Any) -> Algorithm:
    algorithm = es.make_es(tiny_config("es", **overrides), technique, SPEC)
    return make(BASELINE, **overrides)._replace(update=algorithm.update)


BASELINE, REG = make_technique("baseline"), make_technique("reg")
SINGLE_EPISODE = {"episodes_per_member": 1, "num_envs": POPULATION}


def outcome(fitness) -> es.Outcome:
    """A rollout [1, 3, P] in which every member's only step pays its fitness and ends."""
    reward: Any = np.broadcast_to(np.asarray(fitness, np.float32), (1, 3, POPULATION))
    return ended_at_once(reward)


def ended_at_once(reward: np.ndarray) -> es.Outcome:
    """Rewards [1, 3, N], each of an episode of one step."""
    return es.Outcome(reward, np.ones_like(reward, bool))  # pyright: ignore


def one_step(algorithm: Algorithm, rollout: es.Outcome, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """State before, population, state after one update, and its metrics, in numpy."""
    state = algorithm.init(jax.random.key(seed))
    population = algorithm.prepare(state, jnp.int32(0), jax.random.key(seed + 1))
    after, metrics = algorithm.update(
        state, population, rollout, jnp.int32(0), jax.random.key(seed + 2)
    )
    return jax.tree.map(np.asarray, (state, population, after, metrics))


@pytest.mark.parametrize("seed", [0, 1])
def test_one_step_equals_evosax(seed):
    """The same noise and fitness without ties; evosax minimises, so it is told the negative."""
    fitness = np.random.default_rng(seed).normal(size=POPULATION).astype(np.float32)
    algorithm = make(BASELINE, **SINGLE_EPISODE)
    before, population, after, _ = one_step(algorithm, outcome(fitness), seed)
    theirs = Open_ES(
        POPULATION,
        before.params,
        optimizer=optax.adam(LEARNING_RATE, eps=1e-8),
        std_schedule=optax.constant_schedule(SIGMA),
    )

    @jax.jit
    def mean_after(members, fitness):
        key, params = jax.random.key(0), theirs.default_params
        state = theirs.init(key, before.params, params)
        return theirs.tell(key, members, -fitness, state, params)[0].mean

    with jax.numpy_rank_promotion("allow"):
        expected = mean_after(before.params[None] + SIGMA * population.noise, fitness)
    np.testing.assert_allclose(after.params, expected, atol=2e-6)
    assert np.abs(after.params - before.params).max() > 0.05


def test_members_are_antithetic_pairs_around_the_mean():
    algorithm = make(BASELINE)
    state, population, _, _ = one_step(algorithm, outcome(np.arange(6.0)))
    noise = np.asarray(population.noise)
    np.testing.assert_array_equal(noise[3:], -noise[:3])
    assert 0.9 < noise[:3].std() < 1.1
    members = jax.tree.leaves(population.members)
    leaves = [np.asarray(leaf).reshape(POPULATION, -1) for leaf in members]
    expected = np.asarray(state.params) + SIGMA * noise
    np.testing.assert_allclose(np.concatenate(leaves, axis=1), expected, rtol=1e-5, atol=1e-6)


def test_pseudo_gradient_by_hand():
    """Ranks of (3, 1): .5 and -.5; (.5 e - .5 (-e)) / (2 x .5) = e."""
    direction = np.array([1.0, -2.0], np.float32)
    noise = np.stack([direction, -direction])
    ours = pseudo_gradient(np.array([3.0, 1.0], np.float32), noise, 0.5)
    np.testing.assert_allclose(ours, direction, rtol=1e-6)


def test_equal_fitness_moves_nothing():
    """When everyone times out there is no gradient to invent: all bits stay.

    Eagerly: in a compiled program XLA divides ranks by a reciprocal, which leaves up to 3e-8.
    """
    algorithm = updated_eagerly(BASELINE, **SINGLE_EPISODE)
    before, _, after, metrics = one_step(algorithm, outcome(np.full(6, -0.1)))
    np.testing.assert_array_equal(before.params, after.params)
    assert metrics["grad_norm"] == 0


def test_equal_fitness_under_reg_only_decays():
    """Every weight times 1 - lr x wd = 1 - .1 x .02 = .998; eagerly, as above."""
    algorithm = updated_eagerly(replace(REG, weight_decay=0.02), **SINGLE_EPISODE)
    before, _, after, _ = one_step(algorithm, outcome(np.full(6, -0.1)))
    np.testing.assert_allclose(after.params, 0.998 * np.asarray(before.params), rtol=1e-6)


def test_fitness_is_the_mean_over_variations_before_ranking():
    """Member p is paid 10 p, -p and -p: two of three variations rank them downwards, the mean
    8 p / 3 upwards, and the mean is what is ranked (OpenES as published)."""
    order = np.arange(6.0)
    paid = np.stack([10 * order, -order, -order])[None]
    rollout = ended_at_once(paid.astype(np.float32))
    algorithm = make(BASELINE, **SINGLE_EPISODE)
    _, _, after, metrics = one_step(algorithm, rollout)
    _, _, expected, _ = one_step(algorithm, outcome(8 * order / 3))
    np.testing.assert_array_equal(after.params, expected.params)
    np.testing.assert_allclose(metrics["reward"], 8 / 3 * order.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["best_fitness"], 8 / 3 * 5, rtol=1e-6)


def test_a_members_fitness_is_the_mean_of_its_own_episodes():
    """Two episodes each, in environments 2p and 2p + 1: (0, 2p) has mean p."""
    paid = np.stack([np.zeros(6), 2 * np.arange(6.0)], axis=-1).reshape(12)
    rollout = ended_at_once(np.broadcast_to(paid.astype(np.float32), (1, 3, 12)))
    _, _, after, metrics = one_step(make(BASELINE), rollout)
    _, _, expected, _ = one_step(make(BASELINE, **SINGLE_EPISODE), outcome(np.arange(6.0)))
    np.testing.assert_array_equal(after.params, expected.params)
    assert metrics["best_fitness"] == 5


def test_only_the_first_episode_of_a_member_counts():
    """Done at step 2 of 5: steps 0, 1 and 2 count; never done: all 5."""
    done: Any = np.array([[0, 0], [0, 0], [1, 0], [0, 0], [1, 0]], bool)
    np.testing.assert_array_equal(
        jax.jit(ops.first_episode)(done), [[1, 1], [1, 1], [1, 1], [0, 1], [0, 1]]
    )
    rollout, count_steps = es.Outcome(np.ones((5, 2)), done), make(BASELINE).count_steps  # pyright: ignore
    assert count_steps is not None and jax.jit(count_steps)(rollout) == 8


def test_what_a_member_earns_after_its_episode_is_no_fitness():
    """A second episode that pays the opposite, tenfold, changes no bit of the update."""
    algorithm, first = make(BASELINE, **SINGLE_EPISODE), outcome(np.arange(6.0))
    second = outcome(-10 * np.arange(6.0))
    both = jax.tree.map(lambda *pair: np.concatenate(pair), first, second)
    _, _, after, metrics = one_step(algorithm, both)
    _, _, expected, expected_metrics = one_step(algorithm, first)
    np.testing.assert_array_equal(after.params, expected.params)
    assert metrics["reward"] == expected_metrics["reward"] == 2.5


def test_a_quadratic_converges():
    """fitness = -|x - target|^2 in 5 dimensions, from 0 to within .15 in 300 generations."""
    target = np.array([1.0, -2.0, 0.5, 3.0, -1.0], np.float32)
    adam = Adam(0.05, 0.0, 1e-8)

    def generation(state, key):
        half = jax.random.normal(key, (20, 5))
        noise = jnp.concatenate([half, -half])
        members = state.params[None] + 0.1 * noise
        fitness = -jnp.square(members - target[None]).sum(-1)
        gradient = es.pseudo_gradient(fitness, noise, 0.1)
        return adam.step(state, eager_combine(Technique(), -gradient[None]))[0], None

    @jax.jit
    def evolved(key):
        keys = jax.random.split(key, 300)
        return jax.lax.scan(generation, adam.init(jnp.zeros(5)), keys)[0]

    state = evolved(jax.random.key(0))
    np.testing.assert_allclose(state.params, target, atol=0.15)


def lanes_of(*arms: tuple[str, Technique]):
    """Baseline or other arms on single probes, filled up to the usual number of lanes."""
    pairs = [
        (tiny_config("es"), replace(single(NAMES.index(probe)), weight_decay=arm.weight_decay))
        for probe, arm in arms
    ]
    pairs += [pairs[0]] * (NUM_LANES - len(pairs))
    return stack_lanes(pairs, list(range(NUM_LANES)))


def test_es_gar_combines_a_pseudo_gradient_of_each_variation():
    """Ranks by each variation's own returns, with the perturbations that all share."""
    fitness = np.random.default_rng(0).normal(size=(3, POPULATION)).astype(np.float32)
    technique, config = make_technique("es-gar"), tiny_config("es", **SINGLE_EPISODE)
    algorithm = make(technique, **SINGLE_EPISODE)
    state, population, after, metrics = one_step(algorithm, outcome(fitness))
    gradients = np.stack([pseudo_gradient(own, population.noise, config.sigma) for own in fitness])
    combined = combine(technique, -gradients)
    assert combined.metrics["agree_ref"] < 0.99
    for name in ("agree_ref", "agree_pair"):
        np.testing.assert_allclose(metrics[name], combined.metrics[name], rtol=1e-4, atol=1e-6)
    adam = Adam(config.learning_rate, 0.0, config.adam_eps)
    expected, _ = jax.jit(adam.step)(state, combined)
    np.testing.assert_allclose(after.params, expected.params, rtol=1e-4, atol=1e-5)


def test_the_halves_of_a_generation_are_pairs():
    """Of 3 antithetic pairs the first and the second; members of a pair stay together."""
    fitness = np.random.default_rng(0).normal(size=(3, POPULATION)).astype(np.float32)
    algorithm, config = make(BASELINE, **SINGLE_EPISODE), tiny_config("es", **SINGLE_EPISODE)
    state, population, _, _ = one_step(algorithm, outcome(fitness))
    halves = np.asarray(algorithm.half_gradients(state, population, outcome(fitness))[PRIMARY])
    for half, pair in ((0, [0, 3]), (1, [1, 4])):
        for variation in range(3):
            own, noise = fitness[variation, pair], population.noise[pair]
            expected = -np.asarray(pseudo_gradient(own, noise, config.sigma))
            np.testing.assert_allclose(halves[half, variation], expected, rtol=1e-5)


def test_probes_are_learned():
    """Nearly all members take the paying action, in both states of the second probe."""
    program, lanes = traced("es").program, lanes_of(("action", BASELINE), ("match", BASELINE))
    content, first = start(program, lanes)
    carry, metrics = train(program, lanes, first, content, (0, 50))
    assert (metrics["reward"][:2, -10:].mean(1) > 0.95).all()
    algorithm = make(BASELINE)
    for lane, probe, state, best in ((0, "action", 0, 1), (1, "match", 0, 0), (1, "match", 1, 1)):
        params = carry.state.params[lane]
        assert algorithm.policy.best(params, look(PROBES[probe], state)) == best


def test_a_lane_rests_from_the_generation_that_reaches_its_budget():
    """3 x 12 episodes a generation: of 4 steps in `truncated`, 144 a generation, so that 2000 are
    reached by 14 (2016); of 1 step in `constant`, so that lane goes on to 36 x 20 = 720. Under
    reg every generation moves the weights, and the resting lane keeps every bit."""
    program = traced("es").program
    lanes = lanes_of(("truncated", REG), ("constant", REG))
    content, first = start(program, lanes)
    reached, _ = train(program, lanes, first, content, (0, 14))
    carry, metrics = train(program, lanes, first, content, (0, 20))
    np.testing.assert_array_equal(metrics["env_steps"][0], [*range(144, 2017, 144)] + [2016] * 6)
    np.testing.assert_array_equal(metrics["env_steps"][1], np.arange(36, 721, 36))
    np.testing.assert_array_equal(metrics["active"][0], [1] * 14 + [0] * 6)
    np.testing.assert_array_equal(metrics["active"][1], 1)
    assert_same_bits(pick(carry, 0), pick(reached, 0))
    assert (carry.state.params[1] != reached.state.params[1]).any()
    before, _ = train(program, lanes, first, content, (0, 13))
    assert (before.state.params[0] != reached.state.params[0]).any()


def test_agreement_is_not_measured():
    """One pseudo-gradient for all variations: NaN, which tables show as absent."""
    metrics = reference("es").metrics
    assert np.isnan(metrics["agree_ref"]).all() and np.isnan(metrics["agree_pair"]).all()
    assert (metrics["updates"] == 1).all() and (metrics["skipped_updates"] == 0).all()


@pytest.mark.slow
def test_es_gar_changes_no_bit_with_its_company():
    """Lanes 0 and 1 of es-gar alone and among eight, over 6 generations."""
    program, name = traced("es").program, "es-gar"
    arm = replace(single(2, name), levels=(0.0, 0.25, 0.5))
    arms = [(tiny_config("es"), arm)] * NUM_LANES
    states = []
    for count in (NUM_LANES // 2, NUM_LANES):
        lanes = stack_lanes(arms[:count], list(range(count)))
        content, first = start(program, lanes)
        carry, _ = train(program, lanes, first, content, (0, 6))
        states.append(pick(carry, slice(0, 2)))
    assert_same_bits(*states)
