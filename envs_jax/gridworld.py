"""A MiniGrid-style gridworld with varying layouts, packed for speed.

Every layout is a small table of uint32 words that answers "what does the agent see"
without any search: for each direction the rows of cells, rotated so that the agent
looks up, 2 bits a cell. A view is one gather of 7 adjacent words and a shift.
A reset picks a layout of the bank by index; nothing is generated in a step.
"""

from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs_jax.base import Environment, check_levels
from envs_jax.layouts import FRAME, Layout, bit, last_index, optimal_steps, sample_layouts
from jaxgen.types import Array, Codes, Discrete, EnvSpec

VIEW = 7
"""Cells per side of what the agent sees."""
REACH = VIEW // 2
MAX_STEPS = 100
STEP_REWARD = -0.001
UNSEEN, EMPTY, WALL, OBSTACLE, GOAL = range(5)
"""Codes of the observation."""
NUM_ROWS = FRAME - 2 + VIEW - 1
"""Table rows per direction: where an agent can stand, and 6 further ahead."""
SLICE = 512
"""Layouts generated at once: bounds the memory of the temporaries."""

# A table cell is its code - 1: the low bit is wall or goal, the high bit obstacle or goal.
_ALL_WALLS = 0x55555555


class GridParams(NamedTuple):
    """A bank of M layouts."""

    table: Array
    """uint32 ``[M, 4, 16]``: direction, row ahead, 16 cells from left to right at 2 bits.

    Rotated so that the agent looks up, row 0 being furthest ahead: an agent in rotated
    cell (u, v) of the 12x12 frame sees the rows v - 1 to v + 5, of these the cells
    u - 1 to u + 5 (the table starts 5 rows before the frame and 2 cells to its left).
    """
    origin: Array
    """uint32 ``[M]``: size, x, y, goal_x, goal_y at 4 bits each from the lowest, direction at 2."""


class GridState(NamedTuple):
    """Running episodes; every leaf is int32 ``[*S]``."""

    layout: Array
    """Index in the bank."""
    x: Array
    y: Array
    direction: Array
    """0 right, 1 down, 2 left, 3 up."""
    front: Array
    """Code of the cell in front of the agent: what the next step needs to know of the grid."""
    time: Array
    """Steps taken in this episode."""


def grid_shape(levels: Array) -> tuple[Array, Array]:
    """Size floor(6 + 6v) and number of obstacles floor(2 + 6v) of levels, int32, same shape.

    Raises ValueError for a concrete level outside of [0, 1].
    """
    # The small term keeps levels such as 1/6 and 5/6 on their side of the step in float32.
    grown = jnp.floor(6 * check_levels(levels) + 1e-5).astype(jnp.int32)
    return 6 + grown, 2 + grown


def grid_params(layouts: Layout) -> GridParams:
    """Pack layouts ``[*S]`` (``jax.tree.map(jnp.stack, ...)`` stacks single ones) as a bank."""
    row = last_index(layouts.walls.shape)
    goal = jnp.where(layouts.goal_y[..., None] == row, bit(layouts.goal_x)[..., None], 0)
    low, high = layouts.walls | goal, layouts.obstacles | goal
    # Two cells further left and right of the frame, all walls.
    up = _interleave(low << 2 | 0xC003) | _interleave(high << 2) << 1
    # Columns of cells: row x of the board to the right collects cell x of every row.
    place = (2 * last_index((*up.shape, FRAME)) + 4).astype(jnp.uint32)
    cells = (up[..., None] >> place) & 3
    right = (cells << place.swapaxes(-1, -2)).sum(-2, dtype=jnp.uint32) | 0x50000005
    views = [right[..., ::-1], _reverse(up)[..., ::-1], _reverse(right), up]
    table = jnp.stack(views, axis=-2)[..., : FRAME - 1]
    ahead = jnp.full((*table.shape[:-1], NUM_ROWS - FRAME + 1), _ALL_WALLS, jnp.uint32)
    return GridParams(jnp.concatenate([ahead, table], axis=-1), _pack_origin(layouts))


def layouts_of(params: GridParams) -> Layout:
    """The layouts of a bank, ``[*S]``: the inverse of `grid_params`."""
    size, x, y, goal_x, goal_y = (
        ((params.origin >> (4 * i)) & 15).astype(jnp.int32) for i in range(5)
    )
    up = params.table[..., 3, NUM_ROWS - FRAME + 1 :]
    low, high = _compress(up) >> 2 & 0xFFF, _compress(up >> 1) >> 2 & 0xFFF
    last = jnp.full((*low.shape[:-1], 1), 0xFFF, jnp.uint32)
    return Layout(
        size=size,
        walls=jnp.concatenate([low & ~high, last], axis=-1),
        obstacles=jnp.concatenate([high & ~low, 0 * last], axis=-1),
        x=x,
        y=y,
        direction=(params.origin >> 20).astype(jnp.int32),
        goal_x=goal_x,
        goal_y=goal_y,
    )


class GridWorld(Environment):
    """Walk to the goal, with MiniGrid's geometry, actions and view.

    - Layout: a square room with outer walls, static obstacles that block like walls, one
      goal; the agent starts in a free cell in any direction. All from `GridParams`.
    - Observation: uint8 ``[*S, 49]``, the 7x7 cells around and ahead of the agent, which
      stands in the middle of the nearest row and looks up. Cell ``7 * j + i`` is row j,
      furthest first, and column i, from left to right: MiniGrid's ``image[i, j]``.
      Codes: 0 unseen, 1 empty, 2 wall, 3 obstacle, 4 goal. Outside of the grid reads as
      wall, the agent's own cell as empty; 0 appears only without see-through walls.
    - Actions: 0 turn left, 1 turn right, 2 forward; nothing happens when the way is blocked.
    - Reward: 1 - 0.9 t / 100 on reaching the goal, t counting that step, and -0.001 on
      every step, that one included.
    - Terminated: on reaching the goal. Truncated: after 100 steps; both flags can be true.
    - Reset: word modulo M is the index of the layout.
    """

    spec = EnvSpec(
        name="minigrid",
        observation=Codes((VIEW * VIEW,), num=5),
        actions=Discrete(3),
        max_episode_steps=MAX_STEPS,
    )
    reset_words = 1

    def __init__(self, see_through_walls: bool = True) -> None:
        self.see_through_walls = see_through_walls
        if see_through_walls:
            # Nothing is unseen.
            codes = Codes((VIEW * VIEW,), num=5, first=EMPTY)
            self.spec = replace(GridWorld.spec, observation=codes)

    @property
    def default_params(self) -> GridParams:
        """A fixed bank of 256 layouts of level 0."""
        return _default_bank()

    def reset_from(self, words: Array, params: GridParams) -> tuple[Array, GridState]:
        """Start episodes: words uint32 ``[*S, 1]`` -> obs ``[*S, 49]``, state ``[*S]``."""
        layout = words[..., 0] % params.origin.shape[0]
        origin = params.origin[layout]
        x, y = (((origin >> shift) & 15).astype(jnp.int32) for shift in (4, 8))
        direction = (origin >> 20).astype(jnp.int32)
        return self._observe(layout.astype(jnp.int32), x, y, direction, jnp.zeros_like(x), params)

    def advance(
        self, state: GridState, action: Array, params: GridParams
    ) -> tuple[Array, GridState, Array, Array, Array]:
        """Step without auto-reset -> obs, state, reward, terminated, truncated."""
        forward = action == 2
        reached = forward & (state.front == GOAL)
        moved = (reached | (forward & (state.front == EMPTY))).astype(jnp.int32)
        right, down, left, up = (state.direction == d for d in range(4))
        x = state.x + jnp.where(right, moved, jnp.where(left, -moved, 0))
        y = state.y + jnp.where(down, moved, jnp.where(up, -moved, 0))
        turn = jnp.where(action == 0, 3, jnp.where(action == 1, 1, 0))
        time = state.time + 1
        obs, state = self._observe(state.layout, x, y, (state.direction + turn) & 3, time, params)
        reward = jnp.where(reached, 1 - 0.9 / MAX_STEPS * time.astype(jnp.float32), 0)
        return obs, state, reward + STEP_REWARD, reached, time >= MAX_STEPS

    def _observe(
        self, layout: Array, x: Array, y: Array, direction: Array, time: Array, params: GridParams
    ) -> tuple[Array, GridState]:
        rows = _view_rows(layout, x, y, direction, params)
        front = (rows[..., VIEW - 2] >> (2 * REACH) & 3).astype(jnp.int32) + 1
        obs = _unpack(rows, 2) + 1
        if not self.see_through_walls:
            obs = jnp.where(_unpack(_visible(rows), 1) == 1, obs, UNSEEN)
        return obs.astype(jnp.uint8), GridState(layout, x, y, direction, front, time)

    def render(self, state: GridState, params: GridParams) -> np.ndarray:
        """Draw one state, RGB uint8 ``[20 * size, 20 * size, 3]``."""
        layout = layouts_of(jax.tree.map(lambda leaf: leaf[state.layout], params))
        return _draw(layout, int(state.x), int(state.y), int(state.direction))


class GridTask:
    """The gridworld with layouts of any level, drawn for training and for evaluation.

    Args:
      bank_size: layouts per lane and variation: the number of training levels.
      refresh_steps: env steps of one lane between fresh banks; None: never.
      see_through_walls: False hides what walls occlude, as MiniGrid does.
    """

    def __init__(
        self,
        bank_size: int = 4096,
        refresh_steps: int | None = 100_000,
        see_through_walls: bool = True,
    ) -> None:
        if bank_size < 1:
            raise ValueError(f"bank_size {bank_size} is not allowed: use at least 1")
        if refresh_steps is not None and refresh_steps < 1:
            raise ValueError(
                f"refresh_steps {refresh_steps} is not allowed: use at least 1, or None for never"
            )
        self.bank_size = bank_size
        self.refresh_steps = refresh_steps
        self.environment = GridWorld(see_through_walls)
        self.spec = self.environment.spec

    def training_params(self, key: Array, levels: Array) -> GridParams:
        """A bank of fresh layouts per variation: levels ``[V]`` -> ``[V]`` banks."""
        levels = check_levels(levels)
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(levels.shape[0]))
        return _banks(keys, levels, self.bank_size)

    def evaluation(self, key: Array, levels: Array, num_episodes: int) -> tuple[GridParams, Array]:
        """Banks ``[K]`` of E layouts and words ``[K, E, 1]``: episode e starts in layout e.

        Layout e of a level depends on the key, the level and e, and on nothing else.
        """
        levels = check_levels(levels)
        keys = jnp.broadcast_to(key, levels.shape + key.shape)
        words = jnp.arange(num_episodes, dtype=jnp.uint32)[:, None]
        words = jnp.broadcast_to(words, (*levels.shape, *words.shape))
        return _banks(keys, levels, num_episodes), words

    def ceiling(self, params: GridParams, words: Array) -> Array:
        """The return of the fewest actions to the goal, float32 ``[K, E]``."""
        return _ceiling(params, words)

    def fingerprints(self, params: GridParams) -> Array:
        """A hash of size, start, direction, goal and cells of each layout, uint32 ``[K, M]``."""
        value = _mix(params.origin)
        for row in range(NUM_ROWS - FRAME + 1, NUM_ROWS):
            value = _mix(value ^ params.table[..., 3, row])
        return value


def describe_level(task: GridTask, level: float, num_episodes: int) -> str:
    """Size of the grid and number of obstacles at a level."""
    del task, num_episodes
    size, num_obstacles = map(int, grid_shape(jnp.float32(level)))
    return f"{size} x {size} cells with the walls, {num_obstacles} obstacles"


@cache
def _default_bank() -> GridParams:
    # Concrete even while a step is traced: a step must never generate layouts.
    with jax.ensure_compile_time_eval():
        banks = _banks(jax.random.key(0)[None], jnp.zeros(1), 256)
        return jax.tree.map(lambda leaf: leaf[0], banks)


def _bank(key: Array, level: Array, num_layouts: int) -> GridParams:
    """A bank of layouts of one level, generated slice by slice."""
    size, num_obstacles = grid_shape(level)
    width = min(SLICE, num_layouts)
    num_slices = -(-num_layouts // width)

    def draw(index: Array) -> GridParams:
        slice_key = jax.random.fold_in(key, index)
        return grid_params(sample_layouts(slice_key, size, num_obstacles, width))

    slices = jax.lax.map(draw, jnp.arange(num_slices))
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), slices)
    return jax.tree.map(lambda leaf: leaf[:num_layouts], flat)


@partial(jax.jit, static_argnums=2)
def _banks(keys: Array, levels: Array, num_layouts: int) -> GridParams:
    return jax.vmap(_bank, in_axes=(0, 0, None))(keys, levels, num_layouts)


@jax.jit
@jax.vmap
def _ceiling(params: GridParams, words: Array) -> Array:
    index = words[..., 0] % params.origin.shape[0]
    steps = optimal_steps(layouts_of(jax.tree.map(lambda leaf: leaf[index], params)))
    in_time = (steps >= 0) & (steps <= MAX_STEPS)
    best = 1 - 0.9 / MAX_STEPS * steps.astype(jnp.float32) + STEP_REWARD * steps
    return jnp.where(in_time, best, STEP_REWARD * MAX_STEPS)


def _pack_origin(layouts: Layout) -> Array:
    fields = (layouts.size, layouts.x, layouts.y, layouts.goal_x, layouts.goal_y, layouts.direction)
    packed = jnp.zeros_like(layouts.size, jnp.uint32)
    for i, field in enumerate(fields):
        packed |= field.astype(jnp.uint32) << (4 * i)
    return packed


def _view_rows(layout: Array, x: Array, y: Array, direction: Array, params: GridParams) -> Array:
    """The rows of the view, furthest first, 7 cells of 2 bits: uint32 ``[*S, 7]``.

    The agent's own cell reads as empty, also when it stands on the goal.
    """
    far = FRAME - 1
    right, down, left = (direction == d for d in range(3))
    u = jnp.where(right, y, jnp.where(down, far - x, jnp.where(left, far - y, x)))
    v = jnp.where(right, far - x, jnp.where(down, far - y, jnp.where(left, x, y)))
    first = (layout * 4 + direction) * NUM_ROWS + v - 1
    rows = jax.lax.gather(
        params.table.reshape(-1),
        first[..., None],
        jax.lax.GatherDimensionNumbers((first.ndim,), (), (0,)),
        slice_sizes=(VIEW,),
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    cells = np.full((1,) * (rows.ndim - 1) + (VIEW,), 4**VIEW - 1, np.uint32)
    cells[..., VIEW - 1] -= 3 << (2 * REACH)
    return rows >> (2 * (u - 1)).astype(jnp.uint32)[..., None] & cells


def _unpack(rows: Array, bits: int) -> Array:
    """The 7 cells of each of 7 packed rows, row by row: uint32 ``[*S, 7]`` -> int32 ``[*S, 49]``.

    A product with powers of two shifts every row to every place; it is exact in float32.
    XLA's code for shifting and narrowing in place takes 3 to 5 times as long on a CPU, also
    because it repeats the work before it for each of the 49 cells.
    """
    cell = np.arange(VIEW * VIEW)
    places = np.where(cell // VIEW == np.arange(VIEW)[:, None], 0.5 ** (bits * (cell % VIEW)), 0)
    shifted = jnp.matmul(
        rows.astype(jnp.float32), places.astype(np.float32), precision=jax.lax.Precision.HIGHEST
    )
    return shifted.astype(jnp.int32) & (2**bits - 1)


def _visible(rows: Array) -> Array:
    """Cells that the agent sees past walls, bit i of row j: uint32 ``[*S, 7]``.

    MiniGrid's ``Grid.process_vis``, all cells of a row at once: from the agent's row
    upwards, sight runs along a row through everything but walls, and each cell that it
    runs through shows the cell above it and the one above the next.
    """
    walls = _compress(rows) & ~_compress(rows >> 1)
    sight = jnp.full_like(rows[..., 0], 1 << REACH)
    visible = []
    for j in reversed(range(VIEW)):
        clear = ~walls[..., j] & (2**VIEW - 1)
        to_right = clear << 1
        for step in (1, 2, 4):
            sight |= to_right & (sight << step)
            to_right &= to_right << step
        above = sight & clear
        row_above = above | above << 1
        to_left = clear >> 1
        for step in (1, 2, 4):
            sight |= to_left & (sight >> step)
            to_left &= to_left >> step
        above = sight & clear
        visible.append(sight)
        sight = row_above | above | above >> 1
    return jnp.stack(visible[::-1], axis=-1)


def _interleave(board: Array) -> Array:
    """Move bit i to bit 2 i; 16 bits of uint32."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        board = (board | board << shift) & mask
    return board


def _compress(word: Array) -> Array:
    """Move bit 2 i to bit i, dropping the odd bits: the inverse of `_interleave`."""
    word = word & 0x55555555
    for shift, mask in ((1, 0x33333333), (2, 0x0F0F0F0F), (4, 0x00FF00FF), (8, 0x0000FFFF)):
        word = (word | word >> shift) & mask
    return word


def _reverse(word: Array) -> Array:
    """Reverse the order of the 16 cells of 2 bits."""
    for shift, mask in ((2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        word = (word & mask) << shift | (word >> shift) & mask
    return word


def _mix(value: Array) -> Array:
    """Scramble uint32 (MurmurHash3's finaliser, public domain)."""
    value = (value ^ value >> 16) * jnp.uint32(0x85EBCA6B)
    value = (value ^ value >> 13) * jnp.uint32(0xC2B2AE35)
    return value ^ value >> 16


def _draw(layout: Layout, x: int, y: int, direction: int, tile: int = 20) -> np.ndarray:
    """Rasterise a layout with the agent at (x, y), RGB uint8 ``[tile * size, tile * size, 3]``."""
    side = tile * int(layout.size)
    row, column = np.mgrid[0:side, 0:side]
    cell_y, cell_x = row // tile, column // tile
    # The place within a cell, from -1 to 1.
    off_y, off_x = ((2 * (place % tile) + 1) / tile - 1 for place in (row, column))
    walls, obstacles = (
        np.asarray(board)[cell_y] >> cell_x & 1 == 1 for board in (layout.walls, layout.obstacles)
    )
    goal = (cell_x == int(layout.goal_x)) & (cell_y == int(layout.goal_y))
    # The agent is a triangle: `along` grows in the direction in which it looks.
    along, across = [(off_x, off_y), (off_y, off_x), (-off_x, off_y), (-off_y, off_x)][direction]
    agent = (cell_x == x) & (cell_y == y) & (along > -0.7) & (2 * np.abs(across) < 0.8 - along)
    image = np.full((side, side, 3), 20, np.uint8)
    image[(row % tile == 0) | (column % tile == 0)] = 60
    image[walls] = 110
    image[obstacles & (np.hypot(off_x, off_y) < 0.7)] = (70, 110, 230)
    image[goal] = (60, 170, 80)
    image[agent] = (220, 70, 50)
    return image
