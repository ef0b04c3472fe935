"""The gridworld: step by step as the minigrid package, cheap resets, exact ceilings."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minigrid.core.constants import OBJECT_TO_IDX
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Ball, Goal, Wall
from minigrid.minigrid_env import MiniGridEnv

from envs_jax.gridworld import GridTask, GridWorld, _visible, grid_params, grid_shape, layouts_of
from envs_jax.layouts import parse, to_ascii
from jaxgen.types import Codes

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
NUM_LAYOUTS = 48
CODES = {"unseen": 0, "empty": 1, "wall": 2, "ball": 3, "goal": 4}
TO_CODE = np.array([CODES.get(name, 255) for name in OBJECT_TO_IDX], np.uint8)
CORRIDOR = """
#####
#>.G#
#o.o#
#...#
#####
"""


class ReferenceGrid(MiniGridEnv):
    """The minigrid package's environment with one given layout, our codes and step cost."""

    def __init__(self, text, see_through_walls):
        self.lines = text.split("\n")
        super().__init__(
            mission_space=MissionSpace(mission_func=lambda: "reach the goal"),
            grid_size=len(self.lines),
            max_steps=100,
            see_through_walls=see_through_walls,
        )

    def _gen_grid(self, width, height):
        self.grid = Grid(width, height)
        things = {"#": Wall, "o": Ball, "G": Goal}
        for y, line in enumerate(self.lines):
            for x, cell in enumerate(line):
                if cell in things:
                    self.grid.set(x, y, things[cell]())
                elif cell in ">v<^":
                    self.agent_pos, self.agent_dir = (x, y), ">v<^".index(cell)
        self.mission = "reach the goal"

    def codes(self, observation):
        """Row by row: minigrid's image is [column, row]."""
        return TO_CODE[observation["image"][:, :, 0].T.reshape(-1)]

    def step(self, action):
        obs, reward, terminated, truncated, _ = super().step(action)
        return self.codes(obs), float(reward) - 0.001, terminated, truncated


# Eagerly every operation is a program to compile: each function is compiled as one.
bank_of, prints_of = jax.jit(grid_params), jax.jit(GridTask().fingerprints)
compiled_layouts, shape_of = jax.jit(layouts_of), jax.jit(grid_shape)


def layouts_in(params):
    """The layouts of a bank, in numpy."""
    return jax.tree.map(np.asarray, compiled_layouts(params))


@pytest.fixture(scope="module")
def evaluation():
    """Evaluation banks of the five levels and their words."""
    return GridTask().evaluation(jax.random.key(0), jnp.array(LEVELS), NUM_LAYOUTS)


def take(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def with_inner_walls(params):
    """Every other obstacle column becomes wall, so that there is something to hide behind."""
    layouts = layouts_in(params)
    walls = layouts.obstacles & 0b010101010101
    return bank_of(
        layouts._replace(walls=layouts.walls | walls, obstacles=layouts.obstacles & ~walls)
    )


def one_layout(text):
    return bank_of(jax.tree.map(lambda leaf: np.asarray(leaf)[None], parse(text)))


def roll_out(environment, params, words, actions):
    """Steps without reset: actions [T, *S] -> first obs and what every step gives, [T, *S]."""
    obs, state = environment.reset_from(words, params)

    def step(state, action):
        obs, state, *outcome = environment.advance(state, action, params)
        return state, (obs, *outcome)

    return obs, jax.lax.scan(step, state, actions)[1]


@cache
def roll_outs(see_through_walls):
    """Of 100 steps in all layouts of all levels: one program for all tests."""
    environment = GridWorld(see_through_walls=see_through_walls)
    return jax.jit(jax.vmap(lambda *args: roll_out(environment, *args)))


@pytest.fixture(scope="module", params=[True, False], ids=["see-through", "occluded"])
def trajectories(request, evaluation):
    """Random actions in all layouts of all levels by one compiled program."""
    params, words = evaluation
    params = with_inner_walls(params)
    # Forward half of the time, else walks hardly leave the start.
    draws = np.random.default_rng(1).integers(4, size=(5, 100, NUM_LAYOUTS))
    actions = np.minimum(draws, 2)
    run = roll_outs(request.param)
    first, steps = jax.tree.map(np.asarray, run(params, words, actions))
    layouts = layouts_in(params)
    texts = [[to_ascii(take(layouts, level, i)) for i in range(NUM_LAYOUTS)] for level in range(5)]
    return request.param, texts, actions, first, steps


@pytest.mark.parametrize(
    "level", [0, 4, *(pytest.param(level, marks=pytest.mark.slow) for level in (1, 2, 3))]
)
def test_lockstep_with_minigrid(trajectories, level):
    see_through_walls, texts, actions, first, (obs, reward, terminated, truncated) = trajectories
    num_steps = num_goals = 0
    for i in range(NUM_LAYOUTS):
        reference = ReferenceGrid(texts[level][i], see_through_walls)
        np.testing.assert_array_equal(first[level, i], reference.codes(reference.reset()[0]))
        for t in range(100):
            expected = reference.step(actions[level, t, i])
            np.testing.assert_array_equal(obs[level, t, i], expected[0])
            assert reward[level, t, i] == pytest.approx(expected[1], abs=1e-6)
            assert (terminated[level, t, i], truncated[level, t, i]) == expected[2:]
            num_steps += 1
            if terminated[level, t, i]:
                num_goals += 1
                break
        else:
            assert truncated[level, 99, i]
    assert num_steps > 1000
    assert num_goals >= 3
    assert (0 in obs[level]) == (not see_through_walls)


def test_sight_is_that_of_minigrid_in_any_clutter():
    walls = np.random.default_rng(2).random((500, 7, 7)) < 0.4
    walls[:, 6, 3] = False
    expected = []
    for view in walls:
        grid = Grid(7, 7)
        for y, x in np.argwhere(view):
            grid.set(x, y, Wall())
        expected.append(grid.process_vis((3, 6)).T)
    rows = (walls * 4 ** np.arange(7)).sum(-1).astype(np.uint32)
    visible = np.asarray(jax.jit(_visible)(rows))
    np.testing.assert_array_equal(visible[..., None] >> np.arange(7) & 1 == 1, expected)


def test_goal_at_the_time_limit_sets_both_flags():
    """A step, 98 turns that end where they began, a step: the goal is reached by step 100."""
    actions = np.array([2, *[1] * 96, 0, 1, 2])
    reference = ReferenceGrid(to_ascii(parse(CORRIDOR)), True)
    reference.reset()
    params, environment = one_layout(CORRIDOR), GridWorld()
    _, state = jax.jit(environment.reset_from)(np.zeros(1, np.uint32), params)
    advance = jax.jit(environment.advance)
    for action in actions:
        obs, state, *outcome = advance(state, action, params)
        obs, (reward, terminated, truncated) = jax.tree.map(np.asarray, (obs, outcome))
        expected = reference.step(action)
        np.testing.assert_array_equal(obs, expected[0])
        assert reward == pytest.approx(expected[1], abs=1e-6)
        assert (terminated, truncated) == expected[2:]
    assert terminated and truncated
    assert reward == pytest.approx(1 - 0.9 - 0.001, abs=1e-6)
    assert obs[6 * 7 + 3] == 1, "the agent's own cell reads as empty, on the goal too"


def test_shapes_of_the_levels_are_frozen():
    size, num_obstacles = shape_of(np.array(LEVELS, np.float32))
    assert list(zip(size.tolist(), num_obstacles.tolist(), strict=True)) == [
        (6, 2),
        (7, 3),
        (9, 5),
        (10, 6),
        (12, 8),
    ]


def test_levels_on_a_step_do_not_fall_below_it_in_float32():
    levels = [k / 6 for k in range(7)]
    for shape in (grid_shape, jax.jit(grid_shape)):
        size, num_obstacles = shape(jnp.array(levels, jnp.float32))
        assert size.tolist() == [6, 7, 8, 9, 10, 11, 12]
        assert num_obstacles.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert grid_shape(jnp.float32(0.1666))[0] == 6


def test_packing_keeps_the_layouts(evaluation):
    params, _ = evaluation
    layouts = layouts_in(params)
    jax.tree.map(np.testing.assert_array_equal, bank_of(layouts), params)
    assert (layouts.size[:, 0] == np.array([6, 7, 9, 10, 12])).all()


@pytest.fixture(scope="module")
def training():
    """Training banks of the five levels."""
    return GridTask(bank_size=4096).training_params(jax.random.key(5), jnp.array(LEVELS))


def test_success_of_random_play(training):
    """Standard error of 8192 episodes below .006.

    Expected: a plain numpy simulation of the rules, 8000 episodes a level, standard error
    .005, gave .610 .458 .292 .241 .165.
    """
    environment = GridWorld()

    def success(params, key):
        word_key, action_key = jax.random.split(key)
        words = jax.random.bits(word_key, (8192,))[:, None]
        actions = jax.random.randint(action_key, (100 * 8192,), 0, 3).reshape(100, 8192)
        terminated = roll_out(environment, params, words, actions)[1][2]
        return terminated.any(0).mean()

    shares = jax.jit(jax.vmap(success))(training, jax.random.split(jax.random.key(6), 5))
    np.testing.assert_allclose(shares, [0.61, 0.46, 0.285, 0.238, 0.168], atol=0.02)


def test_one_trace_serves_every_level(evaluation):
    params, words = evaluation
    environment, traces = GridWorld(), []

    @jax.jit
    def first_step(params, words):
        traces.append(1)
        _, state = environment.reset_from(words, params)
        return environment.advance(state, jnp.full(words.shape[:-1], 2), params)[0]

    views = [first_step(take(params, k), words[k]) for k in range(5)]
    assert len(traces) == 1
    assert not np.array_equal(views[0], views[4])


def primitives(jaxpr):
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            names |= primitives(inner) if hasattr(inner, "eqns") else set()
    return names


@pytest.mark.parametrize("see_through_walls", [True, False])
def test_steps_and_resets_generate_nothing(evaluation, see_through_walls):
    """No loop, no sort and no random number: a reset only picks a layout of the bank."""
    params, words = take(evaluation, 0)
    environment = GridWorld(see_through_walls)

    def both(words):
        _, state = environment.reset_from(words, params)
        return environment.advance(state, jnp.zeros(words.shape[:-1], jnp.int32), params)

    costly = {"while", "scan", "sort", "cond", "random_bits", "threefry2x32", "random_fold_in"}
    assert primitives(jax.make_jaxpr(both)(words).jaxpr).isdisjoint(costly)
    # The list is right: a generator of layouts has what a step may not have.
    generate = jax.make_jaxpr(lambda key: GridTask(8).training_params(key, jnp.zeros(1)))
    assert {"while", "random_bits"} <= primitives(generate(jax.random.key(0)).jaxpr)


def test_a_step_with_default_params_generates_nothing():
    """gymnax's wrappers may leave the parameters out, inside of jit."""
    environment = GridWorld()
    jaxpr = jax.make_jaxpr(lambda key: environment.reset(key)[0])(jax.random.key(0)).jaxpr
    assert "while" not in primitives(jaxpr)


def test_words_pick_the_layout(evaluation):
    params, words = take(evaluation, 1)
    np.testing.assert_array_equal(words[:, 0], np.arange(NUM_LAYOUTS))
    layouts, reset = layouts_in(params), jax.jit(GridWorld().reset_from)
    for offset in (0, NUM_LAYOUTS, 5 * NUM_LAYOUTS):
        _, state = reset(words + np.uint32(offset), params)
        np.testing.assert_array_equal(state.layout, np.arange(NUM_LAYOUTS))
        for field in ("x", "y", "direction"):
            np.testing.assert_array_equal(getattr(state, field), getattr(layouts, field))


def test_evaluation_layouts_depend_on_key_level_and_index_only(evaluation):
    params, _ = evaluation
    levels = jnp.array(LEVELS[::-1])
    turned, _ = GridTask().evaluation(jax.random.key(0), levels, NUM_LAYOUTS)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[::-1], b), turned, params)
    other, _ = GridTask().evaluation(jax.random.key(1), jnp.array(LEVELS), NUM_LAYOUTS)
    assert (np.asarray(other.origin) != np.asarray(params.origin)).mean() > 0.9


def test_training_banks_differ_between_variations_lanes_and_keys():
    task = GridTask(bank_size=NUM_LAYOUTS)
    keys = jax.random.split(jax.random.key(2), 3)
    lanes = jax.jit(jax.vmap(task.training_params))(keys, jnp.zeros((3, 5)))
    alone = task.training_params(keys[1], jnp.zeros(5))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b), lanes, alone)
    banks = np.asarray(jax.jit(task.fingerprints)(lanes)).reshape(15, NUM_LAYOUTS)
    for i in range(15):
        for j in range(i):
            assert np.isin(banks[i], banks[j]).mean() < 0.15


def test_ceiling_is_the_return_of_the_fewest_steps():
    # Facing the goal at distance 2: 1 - .9 * 2 / 100 - 2 * .001 = .98.
    words: Any = np.zeros((1, 1, 1), np.uint32)

    def ceiling(text):
        return np.asarray(GridTask().ceiling(take(one_layout(text), None), words))[0, 0]

    assert ceiling(CORRIDOR) == pytest.approx(0.98)
    shut = CORRIDOR.replace("#>.G#", "#>oG#").replace("#o.o#", "#ooo#")
    assert ceiling(shut) == pytest.approx(-0.1), "100 steps for nothing"


def test_no_random_episode_beats_the_ceiling(evaluation):
    params, words = evaluation
    ceiling = np.asarray(GridTask().ceiling(params, words))
    assert ceiling[0].mean() == pytest.approx(0.95, abs=0.02)
    assert (np.diff(ceiling.mean(1)) < 0).all(), "larger grids take longer"
    actions = np.random.default_rng(0).integers(3, size=(5, 100, NUM_LAYOUTS))
    steps = roll_outs(True)(params, words, actions)[1]
    _, reward, terminated, _ = jax.tree.map(np.asarray, steps)
    running = np.cumsum(terminated, axis=1) - terminated == 0
    returns = (reward * running).sum(1)
    assert (returns <= ceiling + 1e-5).all()
    assert (returns.max() > 0.9) and (returns.min() == pytest.approx(-0.1))


def test_fingerprints_tell_layouts_apart(training):
    prints = np.asarray(prints_of(training))
    origin, table = np.asarray(training.origin), np.asarray(training.table)
    rows = np.concatenate([origin[..., None], table[:, :, 3]], axis=-1)
    for level in range(5):
        assert len(np.unique(prints[level])) == len(np.unique(rows[level], axis=0))
    assert len(np.unique(prints[4])) == 4096


@pytest.mark.parametrize(
    "change",
    [
        (">.G", "^.G"),  # direction
        (">.G", ".>G"),  # start
        ("o.o", "oo."),  # an obstacle
        ("o.o", "o.#"),  # its kind
        ("#>.G#\n#o.o#\n#...#", "#>..#\n#o.o#\n#..G#"),  # goal
    ],
)
def test_fingerprints_see_every_part(change):
    assert change[0] in CORRIDOR
    plain, changed = (
        prints_of(one_layout(text)) for text in (CORRIDOR, CORRIDOR.replace(*change))
    )
    assert plain.item() != changed.item()


def test_picture_shows_walls_obstacles_goal_and_agent():
    params, environment = one_layout(CORRIDOR), GridWorld()
    _, state = jax.jit(environment.reset_from)(np.zeros(1, np.uint32), params)
    image = environment.render(state, params)
    assert image.shape == (100, 100, 3)
    centres = image[10::20, 10::20].astype(int)
    dominant = centres.argmax(-1)
    assert (centres[0] == 110).all()
    assert dominant[1, 1] == 0 and centres[1, 1, 0] > 200  # red agent
    assert dominant[1, 3] == 1  # green goal
    assert dominant[2, 1] == dominant[2, 3] == 2  # blue obstacles
    assert (centres[3, 1:4] < 60).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bank_size": 0}, "bank_size 0 is not allowed: use at least 1"),
        ({"refresh_steps": 0}, "refresh_steps 0 is not allowed: use at least 1, or None for never"),
    ],
)
def test_impossible_banks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GridTask(**options)


def test_only_codes_that_occur_have_inputs():
    """Over 100 random steps at all levels: with see-through walls nothing is unseen (code 0)."""
    params, words = GridTask().evaluation(jax.random.key(3), jnp.array(LEVELS), NUM_LAYOUTS)
    actions = np.random.default_rng(4).integers(3, size=(5, 100, NUM_LAYOUTS))

    def codes(see_through_walls):
        obs, (after, *_) = roll_outs(see_through_walls)(params, words, actions)
        return np.unique(np.concatenate([np.ravel(obs), np.ravel(after)]))

    for see_through, expected in ((True, [1, 2, 3, 4]), (False, [0, 1, 2, 3, 4])):
        environment = GridWorld(see_through)
        spec = GridTask(see_through_walls=see_through).spec
        assert spec == environment.spec
        assert spec.observation == Codes((49,), num=5, first=expected[0])
        np.testing.assert_array_equal(codes(see_through), expected)
