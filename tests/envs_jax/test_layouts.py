"""Layouts: drawn as specified, solvable, solved, and the same as text."""

from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from envs_jax.layouts import (
    Layout,
    is_solvable,
    layout_from_words,
    optimal_steps,
    outer_walls,
    parse,
    sample_layouts,
    to_ascii,
)

SHAPES = [(6, 2), (7, 3), (9, 5), (10, 6), (12, 8)]
MOVES = [(1, 0), (0, 1), (-1, 0), (0, -1)]
TEXT = """
#######
#>..o.#
#.o.#.#
#..##.#
#.....#
#o...G#
#######
"""
SHUT = """
#####
#.o.#
#oo.#
#G.^#
#####
"""


@pytest.fixture(scope="module")
def draw():
    """10 000 layouts of a size and a number of obstacles; counts its traces."""

    def sample(key, size, num_obstacles):
        draw.num_traces += 1
        return sample_layouts(key, size, num_obstacles, 10_000)

    jitted = jax.jit(sample)
    banks = {}

    def draw(size, num_obstacles):
        if size not in banks:
            layouts = jitted(jax.random.key(size), size, num_obstacles)
            banks[size] = jax.tree.map(np.asarray, layouts)
        return banks[size]

    draw.num_traces = 0
    return draw


def cells(board):
    """Boards [M, 12] -> bool [M, y, x]."""
    return (board[..., None] >> np.arange(12)) & 1 == 1


def at(x, y):
    """One cell per layout -> bool [M, y, x]."""
    return (np.arange(12)[:, None] == y[:, None, None]) & (np.arange(12) == x[:, None, None])


@jax.jit
def searched(layouts):
    return optimal_steps(layouts), is_solvable(layouts)


def take(layouts, index):
    return jax.tree.map(lambda leaf: leaf[index], layouts)


def breadth_first(layout):
    """Fewest actions to the goal by a plain search over (x, y, direction)."""
    blocked = cells(np.asarray(layout.walls | layout.obstacles))
    start = (int(layout.x), int(layout.y), int(layout.direction))
    queue, steps = deque([start]), {start: 0}
    while queue:
        x, y, d = queue.popleft()
        if (x, y) == (int(layout.goal_x), int(layout.goal_y)):
            return steps[x, y, d]
        ahead = (x + MOVES[d][0], y + MOVES[d][1], d)
        moves = [(x, y, (d + 1) % 4), (x, y, (d - 1) % 4)]
        for state in moves if blocked[ahead[1], ahead[0]] else [*moves, ahead]:
            if state not in steps:
                steps[state] = steps[x, y, d] + 1
                queue.append(state)
    return -1


@pytest.mark.parametrize(("size", "num_obstacles"), SHAPES)
def test_every_layout_is_valid(draw, size, num_obstacles):
    layouts = draw(size, num_obstacles)
    walls, obstacles = cells(layouts.walls), cells(layouts.obstacles)
    start, goal = at(layouts.x, layouts.y), at(layouts.goal_x, layouts.goal_y)
    inside = np.zeros((12, 12), bool)
    inside[1 : size - 1, 1 : size - 1] = True
    assert (walls == ~inside).all()
    # All within the interior and all distinct: the union has as many cells as there are things.
    assert ((start | goal | obstacles).sum((1, 2)) == 2 + num_obstacles).all()
    assert not ((start | goal | obstacles) & walls).any()
    assert (obstacles.sum((1, 2)) == num_obstacles).all()
    assert (layouts.size == size).all()


@pytest.mark.parametrize(("size", "num_obstacles"), SHAPES)
def test_every_layout_is_solvable(draw, size, num_obstacles):
    layouts = draw(size, num_obstacles)
    free = ~cells(layouts.walls | layouts.obstacles)
    reach, goal = at(layouts.x, layouts.y), at(layouts.goal_x, layouts.goal_y)
    for _ in range(60):  # longer than any path around 8 obstacles
        wide = np.pad(reach, ((0, 0), (1, 1), (1, 1)))
        sides = wide[:, 2:, 1:-1] | wide[:, :-2, 1:-1] | wide[:, 1:-1, 2:] | wide[:, 1:-1, :-2]
        reach = (reach | sides) & free
    assert (reach & goal).any((1, 2)).all()
    for i in range(0, 10_000, 100):
        parts = np.zeros((12, 12), np.int32)
        scipy.ndimage.label(free[i], output=parts)
        assert parts[layouts.y[i], layouts.x[i]] == parts[layouts.goal_y[i], layouts.goal_x[i]] > 0


def test_one_trace_draws_every_shape(draw):
    for size, num_obstacles in SHAPES:
        draw(size, num_obstacles)
    assert draw.num_traces == 1


@pytest.mark.parametrize(("size", "num_obstacles"), SHAPES)
def test_positions_are_uniform(size, num_obstacles):
    """Before the check for a path; p-values of fixed keys, above 1e-3 each."""
    words = jax.random.bits(jax.random.key(7), (400_000,)).reshape(40_000, 10)
    layouts = jax.jit(layout_from_words)(words, size, num_obstacles)
    layouts = jax.tree.map(np.asarray, layouts)
    span = size - 2
    start = (layouts.y - 1) * span + layouts.x - 1
    goal = (layouts.goal_y - 1) * span + layouts.goal_x - 1
    obstacles = cells(layouts.obstacles)[:, 1 : size - 1, 1 : size - 1].reshape(-1, span * span)
    pairs = np.bincount(start * span * span + goal, minlength=span**4).reshape(span**2, span**2)
    assert np.trace(pairs) == 0
    counts = {
        "start": np.bincount(start, minlength=span * span),
        "goal": np.bincount(goal, minlength=span * span),
        "direction": np.bincount(layouts.direction, minlength=4),
        "pairs": pairs[~np.eye(span * span, dtype=bool)],
    }
    for what, count in counts.items():
        assert scipy.stats.chisquare(count).pvalue > 1e-3, what
    # Obstacles of one layout exclude each other: compare each cell with its binomial spread.
    share = num_obstacles / span**2
    spread = np.sqrt(40_000 * share * (1 - share))
    assert np.abs(obstacles.sum(0) - 40_000 * share).max() < 4.2 * spread


def test_the_check_for_a_path_hardly_moves_the_distribution(draw):
    """At size 6, 1 of 91 obstacle pairs cuts off a corner: still within 5 sigma of uniform."""
    layouts = draw(6, 2)
    count = np.bincount(layouts.goal_y * 12 + layouts.goal_x, minlength=144).reshape(12, 12)
    count = count[1:5, 1:5]
    assert np.abs(count - 625).max() < 5 * np.sqrt(625)


def test_a_layout_depends_on_its_index_only(draw):
    """Layout i is the same however many are drawn with it, so redraws of others do not matter."""
    few = jax.jit(sample_layouts, static_argnums=3)(jax.random.key(6), 6, 2, 100)
    many = draw(6, 2)  # 10 000 by the same key
    jax.tree.map(np.testing.assert_array_equal, few, take(many, slice(100)))
    assert len({to_ascii(take(many, i)) for i in range(300)}) > 280


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 0, 1), "size 3 is not allowed: use 4 to 12"),
        ((13, 0, 1), "size 13 is not allowed: use 4 to 12"),
        ((4, 3, 1), "num_obstacles 3 is not allowed: size 4 takes 0 to 2"),
        ((12, 9, 1), "num_obstacles 9 is not allowed: size 12 takes 0 to 8"),
        ((12, -1, 1), "num_obstacles -1 is not allowed"),
        ((6, 2, 0), "num_layouts 0 is not allowed: ask for at least 1"),
    ],
)
def test_impossible_layouts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_layouts(jax.random.key(0), *arguments)


@pytest.mark.parametrize(("size", "num_obstacles"), SHAPES)
def test_optimal_steps_equal_plain_search(draw, size, num_obstacles):
    layouts = take(draw(size, num_obstacles), slice(60))
    expected = [breadth_first(take(layouts, i)) for i in range(60)]
    np.testing.assert_array_equal(searched(layouts)[0], expected)


def test_search_handles_mazes_and_dead_ends():
    """Random clutter, half of it without a path, against plain search."""
    generator = np.random.default_rng(0)
    blocked = generator.random((300, 12, 12)) < 0.35
    order = generator.permuted(np.tile(np.arange(100), (300, 1)), axis=1)
    x, goal_x = 1 + order[:, 0] % 10, 1 + order[:, 1] % 10
    y, goal_y = 1 + order[:, 0] // 10, 1 + order[:, 1] // 10
    blocked &= ~at(x, y) & ~at(goal_x, goal_y)
    as_wall = generator.random((300, 12, 12)) < 0.5
    boards = [(blocked & part) @ (1 << np.arange(12)) for part in (as_wall, ~as_wall)]
    inside = ~np.asarray(outer_walls(jnp.int32(12)))
    fields: dict[str, Any] = {
        "size": np.full(300, 12),
        "walls": ((boards[0] | ~inside) & 0xFFF).astype(np.uint32),
        "obstacles": (boards[1] & inside).astype(np.uint32),
        "x": x,
        "y": y,
        "direction": generator.integers(4, size=300),
        "goal_x": goal_x,
        "goal_y": goal_y,
    }
    layouts = Layout(**fields)
    expected = np.array([breadth_first(take(layouts, i)) for i in range(300)])
    assert 50 < (expected < 0).sum() < 250
    steps, solvable = searched(layouts)
    np.testing.assert_array_equal(steps, expected)
    np.testing.assert_array_equal(solvable, expected >= 0)


def test_steps_of_a_layout_counted_by_hand():
    # Turn right, 3 down to (1, 4), turn left, 4 along to (5, 4), turn right, 1 down: 11 actions.
    assert searched(parse(TEXT)) == (11, True)
    assert searched(parse(SHUT)) == (3, True)  # left, forward, forward
    assert searched(parse(SHUT.replace("#G.^#", "#Go^#"))) == (-1, False)


def test_text_round_trips(draw):
    assert to_ascii(parse(TEXT)) == TEXT.strip()
    for size, num_obstacles in SHAPES:
        layouts = draw(size, num_obstacles)
        for i in range(5):
            again = parse(to_ascii(take(layouts, i)))
            jax.tree.map(np.testing.assert_array_equal, again, take(layouts, i))


def test_indented_text_is_the_same():
    indented = "\n".join("    " + line for line in TEXT.splitlines())
    assert to_ascii(parse(indented)) == TEXT.strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("###\n#>#\n###", "a layout of 3 lines is not allowed: use 4 to 12"),
        (TEXT.replace("#>..o.#", "#>..o#"), "line 2 has 6 cells: a layout of 7 lines is square"),
        (TEXT.replace("o.#", "x.#"), "character 'x' in line 2, column 5 is not allowed"),
        (TEXT.replace("#o...", ".o..."), "'.' in line 6, column 1 is on the border"),
        (TEXT.replace(">", "."), r"exactly one agent \(> v < \^\), this one has 0"),
        (TEXT.replace("o", "v"), r"exactly one agent \(> v < \^\), this one has 4"),
        (TEXT.replace("o", "G"), r"exactly one goal \(G\), this one has 4"),
    ],
)
def test_text_errors_say_what_and_where(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_a_stack_has_no_text(draw):
    with pytest.raises(ValueError, match=r"layouts of shape \(10000,\): pass one"):
        to_ascii(draw(6, 2))
