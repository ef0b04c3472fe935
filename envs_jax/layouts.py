"""Grid layouts as data: drawing, checking, solving, ASCII.

A layout lives in a frame of 12x12 cells. A *board* is a set of cells: 12 uint32
words, bit x of word y is cell (x, y), x to the right and y downwards as in
MiniGrid. Searches work on all cells of a row, and on all layouts, at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxgen.types import Array

FRAME = 12
"""Cells per side of the frame: the largest size."""
MIN_SIZE = 4
MAX_OBSTACLES = 8
DIRECTIONS = ">v<^"
"""The agent in ASCII by direction: 0 right, 1 down, 2 left, 3 up, as in MiniGrid."""
NUM_DRAWS = 2 + MAX_OBSTACLES
"""Random words per layout: start, goal, obstacles."""


class Layout(NamedTuple):
    """Grids with a start and a goal; every leaf has the same leading shape ``S``."""

    size: Array
    """Cells per side, the outer walls included, int32 ``[*S]``, 4 to 12."""
    walls: Array
    """Board uint32 ``[*S, 12]``; every cell outside of the interior is a wall."""
    obstacles: Array
    """Board uint32 ``[*S, 12]``."""
    x: Array
    """Start of the agent, int32 ``[*S]``."""
    y: Array
    direction: Array
    """First direction of the agent, int32 ``[*S]``: 0 right, 1 down, 2 left, 3 up."""
    goal_x: Array
    goal_y: Array


# Drawing


def sample_layouts(key: Array, size: Array, num_obstacles: Array, num_layouts: int) -> Layout:
    """Draw solvable layouts: start, goal and obstacles uniform over distinct interior cells.

    Uniform over the solvable ones: a layout without a path is drawn again as a whole.
    Layout i depends on the key and on i, neither on ``num_layouts`` nor on the others.

    Args:
      key: random key.
      size: int32 scalar, 4 to 12, may be traced.
      num_obstacles: int32 scalar, 0 to 8 and at most (size - 2)^2 - 2, may be traced.
      num_layouts: how many, static.

    Returns:
      Layouts ``[num_layouts]``.

    Raises ValueError for concrete arguments out of range.
    """
    _check_sample(size, num_obstacles, num_layouts)

    def unsolved(carry: tuple[Array, Layout, Array]) -> Array:
        return ~carry[2].all()

    def redraw(carry: tuple[Array, Layout, Array]) -> tuple[Array, Layout, Array]:
        # Checks the layouts of the round before, so that the check reads them from memory:
        # fused with the draw, XLA would repeat the draw for every row of the search.
        attempt, layouts, _ = carry
        solved = is_solvable(layouts)
        fresh = layout_from_words(draw_words(attempt), size, num_obstacles)
        layouts = jax.tree.map(
            lambda a, b: jnp.where(solved.reshape(-1, *[1] * (a.ndim - 1)), a, b), layouts, fresh
        )
        return attempt + 1, layouts, solved

    def draw_words(attempt: Array) -> Array:
        # One axis: with two, jax compiles the generator 10 times and runs it 3 times as long.
        words = jax.random.bits(jax.random.fold_in(key, attempt), (num_layouts * NUM_DRAWS,))
        return words.reshape(num_layouts, NUM_DRAWS)

    # Zeros are not solvable: the start lies outside of the searched rows.
    numbers, board = jnp.zeros(num_layouts, jnp.int32), jnp.zeros((num_layouts, FRAME), jnp.uint32)
    blank = Layout(numbers, board, board, *[numbers] * 5)
    start = (jnp.uint32(0), blank, jnp.zeros(num_layouts, bool))
    return jax.lax.while_loop(unsolved, redraw, start)[1]


def layout_from_words(words: Array, size: Array, num_obstacles: Array) -> Layout:
    """A layout, perhaps without a path, from random words uint32 ``[*S, 10]``."""
    size = jnp.asarray(size, jnp.int32)
    span = size - 2
    # cell // span as multiply and shift; exact below 65536 / span cells.
    reciprocal = 65536 // span + 1
    cells = _draw_distinct(words, span * span)
    ys = [(cell * reciprocal) >> 16 for cell in cells]
    xs = [cell - y * span + 1 for cell, y in zip(cells, ys, strict=True)]
    ys = [y + 1 for y in ys]
    obstacles = jnp.zeros((*words.shape[:-1], FRAME), jnp.uint32)
    row = last_index(obstacles.shape)
    for index, (x, y) in enumerate(zip(xs[2:], ys[2:], strict=True)):
        used = (row == y[..., None]) & (index < num_obstacles)
        obstacles |= jnp.where(used, bit(x)[..., None], 0)
    return Layout(
        size=jnp.broadcast_to(size, words.shape[:-1]),
        walls=jnp.broadcast_to(outer_walls(size), obstacles.shape),
        obstacles=obstacles,
        x=xs[0],
        y=ys[0],
        # The low bits of a word take no part in the draw of a cell.
        direction=(words[..., 0] & 3).astype(jnp.int32),
        goal_x=xs[1],
        goal_y=ys[1],
    )


def last_index(shape: tuple[int, ...]) -> Array:
    """The position along the last axis, int32 of the given shape."""
    return jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)


def bit(x: Array) -> Array:
    """The word with only bit x set, uint32 of the shape of x."""
    return jnp.left_shift(jnp.uint32(1), x.astype(jnp.uint32))


def outer_walls(size: Array) -> Array:
    """Board uint32 ``[*S, 12]`` of all cells outside of the interior of sizes ``[*S]``."""
    last = jnp.asarray(size)[..., None] - 1
    row = last_index((*last.shape[:-1], FRAME))
    interior = jnp.where((row > 0) & (row < last), bit(last) - 2, 0)
    return 0xFFF & ~interior


def _draw_distinct(words: Array, num_cells: Array) -> list[Array]:
    """One cell in [0, num_cells) per word, int32, all different, uniform.

    Draw k picks among the cells that are left: the sorted list of the earlier draws
    turns the rank among those into a cell, without sorting or marking the cells.
    The bias of multiply and shift is below 2^-17 of a probability.
    """
    cells, ordered = [], []
    for k in range(words.shape[-1]):
        num_left = jnp.maximum(num_cells - k, 1).astype(jnp.uint32)
        cell = (((words[..., k] >> 8) * num_left) >> 24).astype(jnp.int32)
        for earlier in ordered:
            cell += cell >= earlier
        cells.append(cell)
        for i, earlier in enumerate(ordered):
            ordered[i], cell = jnp.minimum(earlier, cell), jnp.maximum(earlier, cell)
        ordered.append(cell)
    return cells


def _check_sample(size: Array, num_obstacles: Array, num_layouts: int) -> None:
    if num_layouts < 1:
        raise ValueError(f"num_layouts {num_layouts} is not allowed: ask for at least 1")
    if isinstance(size, Tracer) or isinstance(num_obstacles, Tracer):
        return
    if not MIN_SIZE <= size <= FRAME:
        raise ValueError(f"size {size} is not allowed: use {MIN_SIZE} to {FRAME}")
    most = min(MAX_OBSTACLES, (int(size) - 2) ** 2 - 2)
    if not 0 <= num_obstacles <= most:
        raise ValueError(
            f"num_obstacles {num_obstacles} is not allowed: size {size} takes 0 to {most}"
        )


# Searching. Rows 0 and 11 of a board are walls, so searches hold the 10 rows between.

_Rows = list[Array]


def is_solvable(layout: Layout) -> Array:
    """Whether a path leads from the start to the goal, bool ``[*S]`` (flood fill)."""
    free = _rows(~(layout.walls | layout.obstacles))
    goal = _one_cell(layout.goal_x, layout.goal_y)

    def unsure(carry: tuple[_Rows, Array]) -> Array:
        return carry[1].any()

    def grow(carry: tuple[_Rows, Array]) -> tuple[_Rows, Array]:
        reach, _ = carry
        sides = [reach, *(_shift(reach, direction) for direction in range(4))]
        grown = [_union(rows) & f for rows, f in zip(zip(*sides, strict=True), free, strict=True)]
        return grown, _differ(grown, reach) & ~_meet(grown, goal)

    start = _one_cell(layout.x, layout.y)
    reach, _ = jax.lax.while_loop(unsure, grow, (start, jnp.ones(layout.x.shape, bool)))
    return _meet(reach, goal)


def optimal_steps(layout: Layout) -> Array:
    """Fewest actions (left, right, forward) to the goal, int32 ``[*S]``; -1 without a path.

    Breadth-first search over cell and direction: after t rounds board d holds the cells
    that t actions can reach looking in direction d.
    """
    free = _rows(~(layout.walls | layout.obstacles))
    goal = _one_cell(layout.goal_x, layout.goal_y)
    start = _one_cell(layout.x, layout.y)
    reach = [[jnp.where(layout.direction == d, row, 0) for row in start] for d in range(4)]

    def unsure(carry: tuple[list[_Rows], Array, Array, Array]) -> Array:
        return carry[2].any()

    def act(
        carry: tuple[list[_Rows], Array, Array, Array],
    ) -> tuple[list[_Rows], Array, Array, Array]:
        reach, steps, searching, _ = carry
        grown = [_after_action(reach, d, free) for d in range(4)]
        goal_reached = _meet(_merge(grown), goal)
        changed = _union([_differ(a, b) for a, b in zip(grown, reach, strict=True)])
        return grown, steps + searching, searching & changed & ~goal_reached, goal_reached

    searching, never = jnp.ones(layout.x.shape, bool), jnp.zeros(layout.x.shape, bool)
    steps = jnp.zeros(layout.x.shape, jnp.int32)
    _, steps, _, goal_reached = jax.lax.while_loop(unsure, act, (reach, steps, searching, never))
    return jnp.where(goal_reached, steps, -1)


def _after_action(reach: list[_Rows], direction: int, free: _Rows) -> _Rows:
    """Cells reached looking in a direction: was there, turned left or right, or stepped."""
    stepped = _shift(reach[direction], direction)
    turned = (reach[(direction + turn) % 4] for turn in (0, 1, 3))
    rows = zip(*turned, stepped, free, strict=True)
    return [stay | left | right | (step & f) for stay, left, right, step, f in rows]


def _rows(board: Array) -> _Rows:
    return [board[..., y] for y in range(1, FRAME - 1)]


def _one_cell(x: Array, y: Array) -> _Rows:
    return [jnp.where(y == row, bit(x), 0) for row in range(1, FRAME - 1)]


def _shift(rows: _Rows, direction: int) -> _Rows:
    """All cells one step further in a direction."""
    none = jnp.zeros_like(rows[0])
    if direction == 0:
        return [row << 1 for row in rows]
    if direction == 1:
        return [none, *rows[:-1]]
    if direction == 2:
        return [row >> 1 for row in rows]
    return [*rows[1:], none]


def _union(arrays: tuple[Array, ...] | list[Array]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total | array
    return total


def _merge(boards: list[_Rows]) -> _Rows:
    return [_union(rows) for rows in zip(*boards, strict=True)]


def _meet(a: _Rows, b: _Rows) -> Array:
    return _union([i & j for i, j in zip(a, b, strict=True)]) != 0


def _differ(a: _Rows, b: _Rows) -> Array:
    return _union([i ^ j for i, j in zip(a, b, strict=True)]) != 0


# ASCII


def parse(text: str) -> Layout:
    """Read one layout: ``#`` wall, ``o`` obstacle, ``.`` empty, ``G`` goal, ``> v < ^`` the agent.

    Lines may be indented; blank lines around are ignored. Solvable or not is not checked.
    Raises ValueError that says what is wrong and where.
    """
    lines = [line.strip() for line in text.strip().splitlines()]
    size = len(lines)
    if not MIN_SIZE <= size <= FRAME:
        raise ValueError(f"a layout of {size} lines is not allowed: use {MIN_SIZE} to {FRAME}")
    for number, line in enumerate(lines, 1):
        if len(line) != size:
            raise ValueError(
                f"line {number} has {len(line)} cells: a layout of {size} lines is square"
            )
        for column, cell in enumerate(line, 1):
            _check_cell(cell, number, column, size)
    (x, y), direction = _find(lines, DIRECTIONS, "agent")
    (goal_x, goal_y), _ = _find(lines, "G", "goal")
    marks = [
        [sum(1 << i for i, cell in enumerate(line) if cell == mark) for line in lines]
        for mark in "#o"
    ]
    boards = [jnp.asarray(rows + [0] * (FRAME - size), jnp.uint32) for rows in marks]
    numbers = (jnp.int32(value) for value in (x, y, direction, goal_x, goal_y))
    return Layout(jnp.int32(size), boards[0] | outer_walls(jnp.int32(size)), boards[1], *numbers)


def to_ascii(layout: Layout) -> str:
    """Write one layout (leaves without a leading shape) as `parse` reads it.

    Raises ValueError for a stack of layouts.
    """
    if np.ndim(layout.size):
        raise ValueError(
            f"to_ascii got layouts of shape {np.shape(layout.size)}: pass one, "
            "for example jax.tree.map(lambda leaf: leaf[0], layouts)"
        )
    size = int(layout.size)
    walls, obstacles = (np.asarray(board) for board in (layout.walls, layout.obstacles))
    cells = [
        ["#" if walls[y] >> x & 1 else "o" if obstacles[y] >> x & 1 else "." for x in range(size)]
        for y in range(size)
    ]
    cells[int(layout.goal_y)][int(layout.goal_x)] = "G"
    cells[int(layout.y)][int(layout.x)] = DIRECTIONS[int(layout.direction)]
    return "\n".join("".join(line) for line in cells)


def _check_cell(cell: str, line: int, column: int, size: int) -> None:
    allowed = "#o.G" + DIRECTIONS
    if cell not in allowed:
        raise ValueError(
            f"character {cell!r} in line {line}, column {column} is not allowed: "
            f"use one of {' '.join(allowed)}"
        )
    if (line in (1, size) or column in (1, size)) and cell != "#":
        raise ValueError(
            f"{cell!r} in line {line}, column {column} is on the border: the border is all '#'"
        )


def _find(lines: list[str], marks: str, what: str) -> tuple[tuple[int, int], int]:
    matches = [
        ((x, y), marks.index(cell))
        for y, line in enumerate(lines)
        for x, cell in enumerate(line)
        if cell in marks
    ]
    if len(matches) != 1:
        raise ValueError(
            f"a layout has exactly one {what} ({' '.join(marks)}), this one has {len(matches)}"
        )
    return matches[0]
