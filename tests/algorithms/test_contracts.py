"""What holds for every registered algorithm with every arm; a new entry inherits all of it."""

import dataclasses
import re
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from box_envs import BoxTask
from jaxgen.algorithms import ALGORITHMS
from jaxgen.algorithms.base import PRIMARY, Algorithm, RolloutShape
from jaxgen.nn.random import random_words
from jaxgen.study.cards import ALGORITHM_CARDS, ENVIRONMENT_CARDS
from jaxgen.study.cards.base import Observed
from jaxgen.study.config import Config
from jaxgen.study.presets import algorithm_card, algorithm_names, preset, setups_of
from jaxgen.study.programs import program_key
from jaxgen.techniques import COMPONENTS, SUITES, Rule, canonical_name, make_technique
from jaxgen.training.program import Lanes, stack_lanes
from jaxgen.training.rollout import collect, start_episodes
from jaxgen.types import EnvSpec, Image
from probe_envs import (
    ARMS,
    NUM_ACTIONS,
    NUM_ITERATIONS,
    NUM_LANES,
    probe_task,
    reference,
    standard_lanes,
    takes_box_alone,
    tiny_config,
    traced,
)

METRICS = {"loss", "agree_ref", "agree_pair", "grad_norm", "updates", "skipped_updates"}
"""What every update reports; see `jaxgen.algorithms.base.Algorithm`."""


def all_techniques() -> list[str]:
    """Every name that components compose to."""
    names = []
    for size in (1, 2, 3):
        for parts in combinations(COMPONENTS, size):
            try:
                names.append(canonical_name("+".join(parts)))
            except ValueError:
                continue
    return names


TECHNIQUES = all_techniques()


def make(name: str) -> Algorithm:
    config = tiny_config(name)
    return ALGORITHMS[config.algorithm](config, make_technique("gar+reg"), probe_task(name).spec)


VARIANTS = ["crossq", "ddpg"]
"""Named presets that learn in another way than their algorithm."""
COSTLY = ("crossq", "ddpg", "dqn", "grpo", "sac", "td3")
"""Probes of the others are trained in files of their own; here PPO and ES stand for them."""


def marked(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name


@pytest.fixture(params=[*sorted(ALGORITHMS), VARIANTS[0], marked(VARIANTS[1])])
def name(request) -> str:
    return request.param


@pytest.fixture(params=[marked(name) for name in (*sorted(ALGORITHMS), *VARIANTS)])
def trained_name(request) -> str:
    """Of tests that need programs compiled."""
    return request.param


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


class Iteration(NamedTuple):
    """The types of all that an iteration makes; traced, not compiled."""

    key: tuple
    """Of its program."""
    lane: Lanes
    """Types of the numbers that were arguments."""
    shape: RolloutShape
    made: dict[str, Any]


def lane_of(name: str, technique: str) -> Lanes:
    """The numbers of an arm, as a program takes them."""
    lanes = stack_lanes([(tiny_config(name), make_technique(technique))], [0])
    return jax.tree.map(lambda leaf: leaf[0], lanes)


def abstract_iteration(name: str, technique: str, task: Any) -> Iteration:
    environment, lane = task.environment, lane_of(name, technique)
    rollout_shapes = []

    def run(lane, key):
        algorithm = ALGORITHMS[lane.config.algorithm](lane.config, lane.technique, task.spec)
        rollout_shapes.append(algorithm.shape)
        params = task.training_params(key, lane.technique.levels)
        state = algorithm.init(key)
        actor = algorithm.prepare(state, jnp.int32(0), key)
        episodes = start_episodes(environment, params, algorithm, key)
        policy, vector = algorithm.policy, algorithm.params(state)
        words = random_words(key, (*episodes.total.shape, policy.num_words))
        after, rollout, _ = collect(environment, params, algorithm, actor, episodes, key)
        new_state, metrics = algorithm.update(state, actor, rollout, jnp.int32(0), key)
        return {
            "state": state, "new_state": new_state, "episodes": episodes, "after": after,
            "rollout": rollout, "metrics": metrics, "vector": vector,
            "acted": algorithm.act(actor, episodes.obs, words)[0],
            "best": policy.best(vector, episodes.obs),
            "drawn": policy.draw(vector, episodes.obs, words),
            "scores": policy.scores and policy.scores(vector, episodes.obs),
            "halves": algorithm.half_gradients(state, actor, rollout),
        }

    made = jax.eval_shape(run, lane, jax.random.key(0))
    key = program_key(tiny_config(name), make_technique(technique))
    return Iteration(key, shapes(lane), rollout_shapes[-1], made)


@cache
def probe_iteration(name: str, rule: Rule, augment: str) -> Iteration:
    """Of the first technique with this rule and augmentation: the others are other numbers."""
    wanted = (rule, augment)
    first = next(each for each in TECHNIQUES if program_fields(each) == wanted)
    return abstract_iteration(name, first, probe_task(name))


def program_fields(technique: str) -> tuple[Rule, str]:
    """What decides which program is compiled of a technique."""
    made = make_technique(technique)
    return made.rule, made.augment


def of_a_traced_rule(name: str, technique: str) -> bool:
    """Of which algorithms all rules are traced, of others the rule that most arms share."""
    return name in ("ppo", "es") or program_fields(technique) == (Rule.WEIGHTS, "none")


@pytest.mark.parametrize(
    ("name", "technique"),
    [
        pytest.param(
            name, technique, id=f"{name}-{technique}",
            marks=[] if of_a_traced_rule(name, technique) and name != "ddpg" else pytest.mark.slow,
        )
        for name in (*sorted(ALGORITHMS), *VARIANTS) for technique in TECHNIQUES
    ],
)  # fmt: skip
def test_an_iteration_keeps_its_types(name, technique):
    """State and episodes come out as they went in, for every arm, so that they can be carried.

    Traced once for all arms that share a program: those of equal keys, whose numbers, which are
    its arguments, have equal types.
    """
    iteration = probe_iteration(name, *program_fields(technique))
    assert iteration.key == program_key(tiny_config(name), make_technique(technique))
    assert iteration.lane == shapes(lane_of(name, technique))
    made = check_iteration(iteration, probe_task(name))
    if not takes_box_alone(name):
        assert made["scores"].shape == (*made["best"].shape, NUM_ACTIONS)


def test_an_iteration_keeps_its_types_in_a_box(name):
    """Or the algorithm refuses actions that are numbers."""
    task = BoxTask()
    try:
        iteration = abstract_iteration(name, "gar+reg", task)
    except ValueError as error:
        assert re.search(f"{name} is not allowed on box.*needs Discrete", str(error))
        return
    assert check_iteration(iteration, task)["scores"] is None


def check_iteration(iteration: Iteration, task: Any) -> dict[str, Any]:
    """Check the types of an iteration, and return what it makes."""
    made, shape, actions = iteration.made, iteration.shape, task.spec.actions
    assert shapes(made["new_state"]) == shapes(made["state"])
    assert shapes(made["after"]) == shapes(made["episodes"])
    lead = (3, shape.num_envs)
    for choice in ("acted", "best", "drawn"):
        assert (made[choice].shape, made[choice].dtype) == ((*lead, *actions.shape), actions.dtype)
    assert (made["vector"].ndim, made["vector"].dtype) == (1, jnp.float32)
    assert made["halves"][PRIMARY].shape[:2] == (2, 3)
    # The vector that acts is that of one of the groups.
    assert made["vector"].shape in {halves.shape[2:] for halves in made["halves"].values()}
    chex.assert_tree_shape_prefix(made["rollout"], (shape.num_steps, *lead))
    assert set(made["metrics"]) >= METRICS
    for metric in made["metrics"].values():
        assert (metric.shape, metric.dtype) == ((), jnp.float32)
    return made


def test_the_state_is_made_of_arrays(name):
    """Nothing callable and no weak types: it can be saved, and a second call compiles nothing."""
    state = jax.eval_shape(make(name).init, jax.random.key(0))
    for leaf in jax.tree.leaves(state):
        assert isinstance(leaf, jax.ShapeDtypeStruct) and not leaf.weak_type
        assert leaf.dtype in (jnp.float32, jnp.int32, jnp.uint8, jnp.bool_)


def test_an_algorithm_of_traced_floats_does_not_leak_them(name):
    """Built while tracing, from a configuration whose floats are traced, it keeps none of them."""

    def first_actor(config):
        technique, spec = make_technique("gar"), probe_task(name).spec
        algorithm = ALGORITHMS[config.algorithm](config, technique, spec)
        key = jax.random.key(0)
        return algorithm.prepare(algorithm.init(key), jnp.int32(0), key)

    with jax.checking_leaks():
        jax.eval_shape(first_actor, tiny_config(name))


def test_every_arm_trains(trained_name):
    """All arms as lanes of one program: a finite state, parameters that moved, all metrics."""
    name = trained_name
    ours = reference(name)
    program = traced(name).program
    params = program.learner.params
    before, after = (np.asarray(params(ours.lanes, c)) for c in (ours.first, ours.carry))
    assert after.shape[0] == NUM_LANES == len(ARMS)
    chex.assert_tree_all_finite(ours.carry.state)
    assert (np.abs(after - before).max(axis=1) > 1e-3).all()
    metrics = [ours.metrics[name] for name in (*METRICS, "reward", "episodes", "env_steps")]
    chex.assert_shape(metrics, (NUM_LANES, NUM_ITERATIONS))
    assert np.isfinite(ours.metrics["loss"][:, 2:]).all()
    assert (ours.metrics["updates"][:, 2:] > 0).all()
    assert (np.diff(ours.metrics["env_steps"], axis=1) > 0).all()


def test_agreement_is_within_its_bounds(trained_name):
    """Mean weights in [0, 1]; the mean cosine over pairs of three vectors in [-1/2, 1]."""
    name = trained_name
    metrics = reference(name).metrics
    reference_agreement, pairs = metrics["agree_ref"], metrics["agree_pair"]
    if algorithm_card(name).techniques.aliases:
        # No gradients that could agree.
        assert np.isnan(reference_agreement).all()
        return
    reference_agreement, pairs = reference_agreement[:, 2:], pairs[:, 2:]
    assert ((reference_agreement >= 0) & (reference_agreement <= 1)).all()
    assert ((pairs >= -0.5 - 1e-5) & (pairs <= 1 + 1e-5)).all()
    assert pairs.std() > 0.01


def test_decay_is_what_tells_reg_from_its_arm(trained_name):
    """baseline and reg, dr and dr+reg: the same seed and data, other parameters."""
    name = trained_name
    lanes, carry = reference(name).lanes, reference(name).carry
    params = np.asarray(traced(name).program.learner.params(lanes, carry))
    for arm in ("baseline", "dr"):
        plain = SUITES["controls"].index(arm)
        with_decay = SUITES["controls"].index(f"{arm}+reg" if arm == "dr" else "reg")
        assert (params[plain] != params[with_decay]).any()


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_preset_builds_for_the_probe(name):
    """Each configuration that is registered under the name, and each named preset of it."""
    names = [name, *ALGORITHM_CARDS[name].variants]
    task = probe_task(name)
    image = dataclasses.replace(task.spec, observation=Image(64, 64, 3), truncates=False)
    for algorithm in names:
        for environment in setups_of(name):
            observed = ENVIRONMENT_CARDS[environment].task.observed
            reads_images = observed is Observed.IMAGES
            try:
                config = preset(algorithm, environment)
                config.validate()
            except ValueError as error:
                if "has the budget of" not in str(error):
                    # A preset of the other kind of observations.
                    assert re.search("reads images|n_step = 3|'lecun'|normalize_obs", str(error))
                    assert reads_images == (algorithm != "ppo-published")
                continue
            assert config.algorithm == name
            spec = image.stacked(config.num_frames) if reads_images else task.spec
            if getattr(config, "policy", None) == "beta":
                spec = dataclasses.replace(spec, actions=BoxTask.spec.actions)
            assert jax.tree.leaves(first_state(config, spec))


@cache
def first_state(config: Config, spec: EnvSpec) -> Any:
    """The types of an algorithm's first state; many environments share a configuration."""
    algorithm = ALGORITHMS[config.algorithm](config, make_technique("gar"), spec)
    return jax.eval_shape(algorithm.init, jax.random.key(0))


def test_names_are_the_same_everywhere():
    assert set(ALGORITHMS) == set(ALGORITHM_CARDS) >= {"ppo", "dqn", "es"}
    plain = set(COMPONENTS) - {"reg"}
    composed = {f"{name}+reg" for name in plain - {"baseline"}}
    assert set(TECHNIQUES) == plain | composed | {"reg"} and len(TECHNIQUES) == len(set(TECHNIQUES))
    assert algorithm_names()[: len(ALGORITHMS)] == tuple(ALGORITHMS)
    assert standard_lanes("ppo").seed.shape == (NUM_LANES,)
