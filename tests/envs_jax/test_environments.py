"""What holds for every registered environment; a new entry inherits all of it."""

import subprocess
import sys
from pathlib import Path
from typing import cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.wrappers import FlattenObservationWrapper, LogWrapper

import envs_jax
from envs_jax import make_task, procgen_games
from envs_jax.base import Environment, check_levels
from envs_jax.cards.procgen import OTHERS
from envs_jax.mujoco import engine as mujoco_engine
from envs_jax.mujoco.robots import ROBOTS
from envs_jax.procgen_games import GAMES
from jaxgen.study.cards import ENVIRONMENT_CARDS, environment_names
from jaxgen.study.cards.base import Listing
from jaxgen.study.presets import preset
from jaxgen.types import Codes, Discrete

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
OPTIONS = {"minigrid": {"bank_size": 48}}
NUM_ENVS = 48


class Subject:
    """A task with what most tests need from it, made once."""

    def __init__(self, name):
        self.name = name
        self.task = make_task(name, **OPTIONS.get(name, {}))
        self.spec, self.environment = self.task.spec, cast(Environment, self.task.environment)
        self.params = self.task.training_params(jax.random.key(0), jnp.array(LEVELS))
        shape = (5, NUM_ENVS, self.environment.reset_words)
        self.words = jax.random.bits(jax.random.key(1), shape)
        self.reset = jax.jit(jax.vmap(self.environment.reset_from))
        self.advance = jax.jit(jax.vmap(self.environment.advance))
        self.reset_one = jax.jit(self.environment.reset_from)
        self.step = jax.jit(self.environment.step)
        self.evaluation = jax.jit(self.task.evaluation, static_argnums=2)

    def actions(self, *shape):
        """Within their space, drawn evenly."""
        space, generator = self.spec.actions, np.random.default_rng(0)
        if isinstance(space, Discrete):
            return jnp.asarray(generator.integers(space.num, size=shape), space.dtype)
        draws = generator.uniform(space.low, space.high, (*shape, *space.shape))
        return jnp.asarray(draws, space.dtype)

    def one_level(self, level):
        return take((self.params, self.words), level)


@pytest.fixture(scope="module", params=[*environment_names(Listing.DEFAULT), "pendulum"])
def subject(request):
    return Subject(request.param)


def types(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


def take(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def assert_equal_trees(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_names_are_listable_without_jax():
    """NumPy neither: doctor may find it missing."""
    code = (
        "import sys, envs_jax; from jaxgen.study.cards import ENVIRONMENT_CARDS; "
        "print(list(ENVIRONMENT_CARDS), 'jax' in sys.modules, 'numpy' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert run.stdout.strip() == f"{list(ENVIRONMENT_CARDS)} False False"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'cartpol' is unknown, perhaps cartpole; use one of"):
        make_task("cartpol")


def test_all_games_of_procgen_have_names_and_settings():
    """On cards, which are read without it, and where it is played: the same sixteen."""
    assert {"starpilot", *OTHERS} == set(GAMES)
    setups = ENVIRONMENT_CARDS["starpilot"].setups
    by_name = ["pendulum", "mountain_car_continuous", *OTHERS, *ROBOTS]
    assert environment_names(Listing.BY_NAME) == by_name
    for name in OTHERS:
        assert make_task(name).spec.name == name
        assert all(preset(each, name) == preset(each, "starpilot") for each in setups)


def test_without_procgen_its_games_are_not_available(monkeypatch):
    monkeypatch.setattr(mujoco_engine, "installed", lambda: mujoco_engine.VERSION)
    monkeypatch.setattr(procgen_games, "installed", lambda: False)
    assert set(envs_jax.unavailable()) == set(GAMES)
    monkeypatch.setattr(procgen_games, "installed", lambda: True)
    assert envs_jax.unavailable() == {}
    monkeypatch.setattr(mujoco_engine, "installed", lambda: None)
    assert set(envs_jax.unavailable()) == set(ROBOTS)


def test_shapes_and_types(subject):
    """Also that a state and what follows it can share the carry of a scan."""
    spec = subject.spec
    obs, state = subject.reset(subject.words, subject.params)
    after, stepped, reward, terminated, truncated = subject.advance(
        state, subject.actions(5, NUM_ENVS), subject.params
    )
    chex.assert_shape([obs, after], (5, NUM_ENVS, *spec.obs_shape))
    chex.assert_type([obs, after], spec.obs_dtype)
    chex.assert_tree_all_finite((obs, after, state, stepped, reward))
    assert types(state) == types(stepped)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, after, reward)))
    chex.assert_type([reward, terminated, truncated], [jnp.float32, bool, bool])
    chex.assert_shape([reward, terminated, truncated], (5, NUM_ENVS))
    assert spec.name == subject.name == subject.environment.name


def test_declared_ranges_fit_the_observation(subject):
    spec = subject.spec
    edges = spec.observation.low, spec.observation.high
    low, high = (np.broadcast_to(edge, spec.obs_shape) for edge in edges)
    assert (low < high).all()
    obs = np.asarray(subject.reset(subject.words, subject.params)[0])
    assert ((obs >= low) & (obs <= high)).all()


def test_codes_stay_in_range(subject):
    if not isinstance(subject.spec.observation, Codes):
        pytest.skip("observations are numbers")
    obs, _ = subject.reset(subject.words, subject.params)
    assert obs.max() < subject.spec.observation.num


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_any_leading_shape_gives_the_same(subject, shape):
    params, words = subject.one_level(2)
    environment, count = subject.environment, int(np.prod(shape))
    actions = subject.actions(count)

    def two_steps(words, actions):
        obs, state = environment.reset_from(words, params)
        _, state, *_ = environment.advance(state, actions, params)
        return obs, environment.advance(state, actions, params)

    in_shape = actions.reshape(*shape, *actions.shape[1:])
    flat = jax.jit(two_steps)(words[:count], actions)
    shaped = jax.jit(two_steps)(words[:count].reshape(*shape, -1), in_shape)
    for a, b in zip(jax.tree.leaves(flat), jax.tree.leaves(shaped), strict=True):
        # XLA may contract multiply and add differently for another shape.
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-6, atol=1e-7)


def test_variations_are_independent(subject):
    """vmap over params[V] equals each variation alone."""
    obs, state = subject.reset(subject.words, subject.params)
    for level in (0, 4):
        params, words = take(subject.one_level(level), None)
        alone = subject.reset(words, params)
        assert_equal_trees(take((obs, state), slice(level, level + 1)), alone)


def test_episodes_are_truncated_at_the_limit_and_only_there(subject):
    """No action that matters: an episode that does not end by itself runs to its limit."""
    params, words = subject.one_level(0)
    environment, limit = subject.environment, subject.spec.max_episode_steps
    space = subject.spec.actions
    _, state = subject.reset_one(words, params)

    def step(state, action):
        all_alike = jnp.broadcast_to(action, (NUM_ENVS, *space.shape)).astype(space.dtype)
        state = environment.advance(state, all_alike, params)
        return state[1], state[3:]

    actions = jnp.arange(limit + 1) % 2
    _, (_, truncated) = jax.jit(lambda state: jax.lax.scan(step, state, actions))(state)
    assert not truncated[: limit - 1].any()
    assert truncated[limit - 1 :].all()


def test_step_resets_finished_episodes_and_keeps_the_true_successor(subject):
    params, words = subject.one_level(0)
    environment = subject.environment
    _, state = subject.reset_one(words[0], params)
    last = state._replace(time=jnp.int32(subject.spec.max_episode_steps - 1))
    key, action = jax.random.key(3), subject.actions()
    final_obs, successor, *_ = jax.jit(environment.advance)(state, action, params)
    fresh_obs, fresh = jax.jit(environment.reset)(key, params)

    obs, after, reward, terminated, truncated, info = subject.step(key, last, action, params)
    assert truncated and not terminated
    assert_equal_trees((obs, after), (fresh_obs, fresh))
    np.testing.assert_array_equal(info["final_observation"], final_obs)

    obs, after, _, _, truncated, info = subject.step(key, state, action, params)
    assert not truncated
    assert_equal_trees((obs, after), (final_obs, successor))
    np.testing.assert_array_equal(info["final_observation"], final_obs)


def test_runs_in_gymnax_wrappers(subject):
    """Returns and lengths of gymnax's LogWrapper equal sums over the steps."""
    environment = LogWrapper(FlattenObservationWrapper(subject.environment))
    params, _ = subject.one_level(0)
    num_steps = 3 * subject.spec.max_episode_steps // 2

    def step(carry, inputs):
        key, action = inputs
        obs, state, reward, terminated, truncated, info = environment.step(
            key, carry, action, params
        )
        ended = {k: info[k] for k in ("returned_episode_returns", "returned_episode_lengths")}
        return state, (obs, reward, terminated | truncated, ended)

    obs, state = jax.jit(environment.reset)(jax.random.key(0), params)
    assert obs.shape == (np.prod(subject.spec.obs_shape),)
    inputs = jax.random.split(jax.random.key(1), num_steps), subject.actions(num_steps)
    _, (obs, reward, done, ended) = jax.jit(lambda s, i: jax.lax.scan(step, s, i))(state, inputs)
    assert obs.shape == (num_steps, np.prod(subject.spec.obs_shape))
    ends = np.flatnonzero(done)
    assert ends.size > 0
    begin = 0
    for end in ends:
        total = float(reward[begin : end + 1].sum())
        assert ended["returned_episode_returns"][end] == pytest.approx(total, abs=1e-3)
        assert ended["returned_episode_lengths"][end] == end + 1 - begin
        begin = end + 1


def test_default_params_are_those_of_level_zero(subject):
    shapes = jax.eval_shape(
        subject.environment.reset_from, subject.words[0], subject.one_level(0)[0]
    )
    default = jax.eval_shape(lambda: subject.environment.default_params)
    assert shapes == jax.eval_shape(subject.environment.reset_from, subject.words[0], default)


def test_evaluation_is_fixed_by_its_key(subject):
    levels, evaluation = jnp.array(LEVELS), subject.evaluation
    params, words = evaluation(jax.random.key(0), levels, NUM_ENVS)
    assert words.shape == (5, NUM_ENVS, subject.environment.reset_words)
    assert words.dtype == jnp.uint32
    assert all(leaf.shape[0] == 5 for leaf in jax.tree.leaves(params))
    assert_equal_trees(evaluation(jax.random.key(0), levels, NUM_ENVS), (params, words))
    starts = subject.reset(words, params)[0]
    other_params, other_words = evaluation(jax.random.key(1), levels, NUM_ENVS)
    assert not np.array_equal(starts, subject.reset(other_words, other_params)[0])


def test_ceiling_and_fingerprints_have_their_shapes(subject):
    params, words = subject.evaluation(jax.random.key(0), jnp.array(LEVELS), NUM_ENVS)
    ceiling = subject.task.ceiling(params, words)
    assert ceiling.shape == (5, NUM_ENVS)
    assert ceiling.dtype == jnp.float32
    prints = jax.eval_shape(subject.task.fingerprints, params)
    assert prints is None or (prints.dtype == jnp.uint32 and prints.shape[0] == 5)


@pytest.mark.parametrize("level", [-0.01, 1.01, float("nan")])
def test_levels_outside_the_range_are_refused(subject, level):
    levels = np.array([0.0, level], np.float32)
    message = r"variation level (-0.0|1.0|nan)\S* is not allowed: a level lies in \[0, 1\]"
    with pytest.raises(ValueError, match=message):
        subject.task.training_params(jax.random.key(0), levels)
    with pytest.raises(ValueError, match=message):
        subject.task.evaluation(jax.random.key(0), levels, 4)


def test_levels_may_be_traced():
    assert jax.jit(check_levels)(jnp.array([0.5])) == 0.5
    assert check_levels([0, 1]).dtype == jnp.float32


def test_levels_change_what_is_trained_on(subject):
    """The same keys at level 0 and 1 give other parameters of the same shape."""
    leaves = jax.tree.leaves(subject.params)
    assert any(not np.array_equal(leaf[0], leaf[4]) for leaf in leaves)


def test_picture_is_rgb(subject):
    params, words = subject.one_level(4)
    _, state = subject.reset_one(words[0], params)
    image = subject.environment.render(state, params)
    assert image.dtype == np.uint8
    assert image.ndim == 3 and image.shape[2] == 3
    assert len(np.unique(image.reshape(-1, 3), axis=0)) >= 3
