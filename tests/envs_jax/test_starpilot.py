"""Starpilot: as raw procgen at every step, the levels that are played, states, and bad input."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from envs_jax import procgen_games
from envs_jax.procgen_games import GAMES, Block, Levels, ProcgenMissing, Slots
from envs_jax.starpilot import KINDS, Mixture, ProcgenTask, ProcgenVecEnv
from jaxgen.evaluation.host_episodes import make_host_episodes, play, random_host_returns
from jaxgen.evaluation.policy import Acting

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
ARMS = np.array([[0, 0, 0], [0, 0.25, 0.5], [0.5, 0.75, 1]], np.float32)
"""Levels of lanes ``[L, V]``; no arm trains on the last ones, but the vector can play them."""


@pytest.fixture(scope="module")
def procgen() -> Any:
    return pytest.importorskip("procgen")


needs_procgen = pytest.mark.usefixtures("procgen")


def words_of(num_lanes: int) -> np.ndarray:
    return np.arange(4 * num_lanes, dtype=np.uint32).reshape(num_lanes, 4)


def open_games(
    levels: Any, num_envs: int, *, num_starts: int = 0, words: Any = None, game: str = "starpilot"
) -> ProcgenVecEnv:
    """Training games of lanes at levels ``[L, V]``."""
    levels = np.asarray(levels, np.float32)
    words = words_of(len(levels)) if words is None else words
    return ProcgenTask(game).training(words, levels, num_envs, num_starts or num_envs)


def draw_actions(num_steps: int, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(15, size=(num_steps, *shape), dtype=np.int32)


def assert_same_step(ours: Any, theirs: Any) -> None:
    for own, other in zip(ours, theirs, strict=True):
        assert np.array_equal(own, other)


# As raw procgen plays


RANGES = {"seen": (0, 200), "unseen": (200, 999_800)}
PLAYED = {
    0.0: ["easy seen"] * 2, 0.25: ["easy seen", "easy unseen"], 0.5: ["easy unseen"] * 2,
    0.75: ["easy unseen", "hard unseen"], 1.0: ["hard unseen"] * 2,
}
"""What N = 2 environments of a level play, as the module says."""


def raw_vector(procgen: Any, kind: str, num: int, seed: int) -> Any:
    mode, levels = kind.split()
    start, count = RANGES[levels]
    return procgen.ProcgenGym3Env(
        num=num, env_name="starpilot", distribution_mode=mode, start_level=start,
        num_levels=count, rand_seed=seed, num_threads=0,
    )


class RawGames:
    """``[L, V, 2]`` games, a vector for each (variation, kind), with the seeds of the task."""

    def __init__(self, procgen: Any, words: np.ndarray, levels: np.ndarray):
        self.shape, self.vectors = (*levels.shape, 2), []
        for lane, variation in np.ndindex(levels.shape):
            level = float(levels[lane, variation])
            blocks = ProcgenTask().blocks(words[lane], level, 2, False, variation, 0)
            kinds = list(dict.fromkeys(PLAYED[level]))
            for kind, block in zip(kinds, blocks, strict=True):
                num = PLAYED[level].count(kind)
                self.vectors.append(raw_vector(procgen, kind, num, block.rand_seed))

    def observe(self) -> tuple[np.ndarray, ...]:
        """Images, rewards and whether an episode begins."""
        rewards, obs, firsts = zip(*(vector.observe() for vector in self.vectors))
        parts = [np.concatenate(part) for part in ([o["rgb"] for o in obs], rewards, firsts)]
        return tuple(part.reshape(*self.shape, *part.shape[1:]) for part in parts)

    def act(self, action: np.ndarray) -> None:
        for vector, own in zip(self.vectors, np.split(action.reshape(-1), self.cuts())):
            vector.act(own)

    def cuts(self) -> np.ndarray:
        return np.cumsum([vector.num for vector in self.vectors])[:-1]


@pytest.mark.slow
def test_the_games_are_those_of_raw_procgen(procgen):
    """8 lanes x 3 variations x 2 over 2000 steps of random actions; 3 lanes, and each lane alone,
    beside them."""
    levels, words = ARMS[[1, 2, 0, 1, 2, 0, 1, 2]], words_of(8)
    actions = draw_actions(2000, (8, 3, 2))
    raw = RawGames(procgen, words, levels)
    whole, three = open_games(levels, 2), open_games(levels[:3], 2)
    alone = [open_games(levels[[i]], 2, words=words[[i]]) for i in range(8)]
    first_images = raw.observe()[0]
    assert np.array_equal(whole.reset(0), first_images)
    assert np.array_equal(three.reset(0), first_images[:3])
    for lane, env in enumerate(alone):
        assert np.array_equal(env.reset(0)[0], first_images[lane])
    num_ends = np.zeros(levels.shape, int)
    for action in actions:
        step = whole.step(action)
        raw.act(action)
        assert_same_step((step.obs, step.reward, step.terminated), raw.observe())
        assert not step.truncated.any() and step.next_obs is step.obs
        assert_same_step(three.step(action[:3]), [leaf[:3] for leaf in step])
        for lane, env in enumerate(alone):
            assert_same_step(env.step(action[[lane]]), [leaf[[lane]] for leaf in step])
        num_ends += step.terminated.sum(-1)
    assert num_ends.min() >= 10 and len(np.unique(first_images)) > 100


def recount(procgen: Any, lane: int, parts: tuple[tuple[int, int], ...]) -> list[tuple]:
    """Variation, level seed, length and return of each episode of raw procgen on seen levels that
    ended, V = 2 and N = 2; parts: number of a start, steps after it."""
    found = []
    for number, num_steps in parts:
        blocks = [
            ProcgenTask().blocks(words_of(2)[lane], 0.0, 2, False, variation, number)[0]
            for variation in range(2)
        ]
        raws = [raw_vector(procgen, "easy seen", 2, block.rand_seed) for block in blocks]
        length, total = np.zeros((2, 2), int), np.zeros((2, 2))
        for action in draw_actions(num_steps, (2, 2, 2))[:, lane]:
            for variation, raw in enumerate(raws):
                seeds = [info["level_seed"] for info in raw.get_info()]
                raw.act(action[variation])
                reward, _, first = raw.observe()
                length[variation] += 1
                total[variation] += reward
                for slot in np.flatnonzero(first):
                    at = variation, slot
                    found.append((variation, seeds[slot], length[at], total[at]))
                    length[at], total[at] = 0, 0
    return found


@pytest.mark.parametrize("lane", [0, 1])
def test_the_log_is_a_recount_of_what_was_seen(procgen, lane):
    """Of the raw games: rewards and steps between firsts, and the level seed that was shown while
    an episode ran. A restart drops the episodes that had not ended."""
    parts = ((0, 300), (7, 400))
    env = open_games(np.zeros((2, 2)), 2)
    for number, num_steps in parts:
        env.reset(number)
        for action in draw_actions(num_steps, env.shape):
            env.step(action)
    expected = recount(procgen, lane, parts)
    log = env.episodes(lane)
    assert len(expected) > 30 and max(entry[3] for entry in expected) > 1
    assert list(zip(*log.values(), strict=True)) == expected
    assert list(log) == ["variation", "level_seed", "length", "return"]
    assert log["return"].dtype == np.float32 and log["level_seed"].dtype == np.int32


# Mixtures of levels


def shares(level: float, num_slots: int, evaluation: bool = False) -> tuple[int, ...]:
    """How many of the slots are easy and seen, easy and unseen, hard (and unseen)."""
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    for name, levels, count in ProcgenTask().mixture(level, num_slots, evaluation):
        assert name == f"{levels.mode} {'seen' if levels.start == 0 else 'unseen'}"
        counts[name] += count
    return tuple(counts.values())


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize(
    ("num_slots", "expected"),
    [
        (6, [(6, 0, 0), (3, 3, 0), (0, 6, 0), (0, 3, 3), (0, 0, 6)]),
        # Half a slot goes to the even number: 3.5 -> 4, 2.5 -> 2, .5 -> 0.
        (7, [(7, 0, 0), (3, 4, 0), (0, 7, 0), (0, 3, 4), (0, 0, 7)]),
        (5, [(5, 0, 0), (3, 2, 0), (0, 5, 0), (0, 3, 2), (0, 0, 5)]),
        (1, [(1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 1, 0), (0, 0, 1)]),
    ],
)
def test_the_slots_of_a_level(num_slots, expected, evaluation):
    """In this order: easy seen; half unseen; easy unseen; half hard; hard."""
    assert [shares(level, num_slots, evaluation) for level in LEVELS] == expected


def ranges(mixture: list[Mixture]) -> set[tuple[int, int]]:
    return {(kind.levels.start, kind.levels.start + kind.levels.count) for kind in mixture}


@pytest.mark.parametrize("num_levels", [1, 200, 5000, 500_000])
def test_ranges_of_levels_do_not_overlap(num_levels):
    """Unseen training levels from [200, 10^6), or after the seen ones if these are more;
    evaluation's from [10^6, 2 x 10^6). Seen levels are played in both."""
    task = ProcgenTask(num_levels=num_levels)
    training = set().union(*(ranges(task.mixture(level, 8, False)) for level in LEVELS))
    evaluation = set().union(*(ranges(task.mixture(level, 8, True)) for level in LEVELS))
    seen, unseen = (0, num_levels), (max(200, num_levels), 1_000_000)
    assert training == {seen, unseen}
    assert evaluation == {seen, (1_000_000, 2_000_000)}
    assert seen[1] <= unseen[0] < unseen[1] <= 1_000_000


def test_training_levels_are_never_hard():
    """Levels up to .5 are those that arms may train on."""
    task = ProcgenTask()
    for level in np.linspace(0, 0.5, 21):
        for num_envs in (1, 2, 21, 64):
            assert {kind.levels.mode for kind in task.mixture(level, num_envs, False)} == {"easy"}


@needs_procgen
def test_the_levels_that_are_played_lie_in_their_ranges():
    """4 environments at levels 0, .25 and .5, and 10 episodes at .25 and 1."""
    env = open_games([[0, 0.25, 0.5]], 4)
    for action in draw_actions(800, env.shape):
        env.step(action)
    log = env.episodes(0)
    seen, mixed, unseen = (set(log["level_seed"][log["variation"] == v]) for v in range(3))
    assert len(seen) > 20 and seen < set(range(200))
    assert min(mixed) < 200 < max(mixed) and mixed < set(range(1_000_000))
    assert len(unseen) > 20 and unseen < set(range(200, 1_000_000))
    mixed, unseen = ProcgenTask().evaluation(words_of(2), (0.25, 1.0), 10, 3).level_seeds
    assert set(mixed[:5]) < set(range(200))
    fresh = {*mixed[5:], *unseen}
    assert len(fresh) == 15 and fresh < set(range(1_000_000, 2_000_000))


# Starts


def first_steps(env: ProcgenVecEnv, number: int) -> np.ndarray:
    """Images of a reset and of 40 steps after it."""
    images = [env.reset(number)]
    images += [env.step(action).obs for action in draw_actions(40, env.shape)]
    return np.stack(images)


@needs_procgen
def test_a_number_gives_the_same_starts_whenever_it_comes():
    env, other = open_games(ARMS, 2), open_games(ARMS, 2)
    ours = first_steps(env, 5)
    for action in draw_actions(60, env.shape):
        other.step(action)
    assert np.array_equal(first_steps(other, 5), ours)
    assert np.array_equal(first_steps(env, 5), ours)
    differs = first_steps(env, 6) != ours
    assert differs.any((0, 4, 5, 6)).all(), "every game starts otherwise under another number"


@needs_procgen
def test_starts_are_repeated_in_order():
    """Environments 0 .. 5 of two starts: 0 1 0 1 0 1, and alike under the same actions; at level
    .25 the first is seen and the second is not."""
    env = open_games(ARMS[1:2], 6, num_starts=2)
    actions = np.repeat(draw_actions(100, (1, 3, 1)), 6, axis=-1)
    shown = np.stack([env.reset(0), *(env.step(action).obs for action in actions)])
    for pair in (slice(2, 4), slice(4, 6)):
        assert np.array_equal(shown[:, :, :, pair], shown[:, :, :, :2])
    assert (shown[0, 0, :, 0] != shown[0, 0, :, 1]).any((1, 2, 3)).all()
    log = env.episodes(0)
    seeds, counts = np.unique(log["level_seed"][log["variation"] == 1], return_counts=True)
    assert seeds[0] < 200 < seeds[-1] and (counts % 3 == 0).all()


# States


def played(num_steps: int, levels: Any = ARMS[:2]) -> ProcgenVecEnv:
    env = open_games(levels, 2)
    for action in draw_actions(num_steps, env.shape):
        env.step(action)
    return env


@needs_procgen
@pytest.mark.parametrize("through_a_file", [False, True])
def test_a_fresh_object_goes_on_from_a_state(tmp_path, through_a_file):
    """300 steps, images, rewards and ends, and the log with what was running at the restore."""
    env = played(100)
    state = env.get_state()
    if through_a_file:
        np.savez(tmp_path / "state.npz", allow_pickle=False, **state)
        with np.load(tmp_path / "state.npz", allow_pickle=False) as archive:
            state = dict(archive)
    fresh = open_games(ARMS[:2], 2, words=words_of(2) + 100)
    fresh.set_state(state)
    # The original goes on first: what was taken is a copy.
    actions = draw_actions(300, env.shape)
    expected = [env.step(action) for action in actions]
    for action, step in zip(actions, expected):
        assert_same_step(fresh.step(action), step)
    assert len(env.get_state()["log_returns"]) > len(state["log_returns"]) > 0
    final, restored = env.get_state(), fresh.get_state()
    assert set(final) == set(restored)
    for name, value in final.items():
        assert np.array_equal(value, restored[name]), name


@needs_procgen
def test_a_lane_goes_on_from_the_state_of_another():
    """Lane 0 from the original's lane 1, of other levels too; lane 1 goes on untouched. Images,
    rewards and ends of 300 steps, and the log from its start."""
    env, other = played(100), played(50)
    other.set_state(env.get_state(1), 0)
    actions = draw_actions(300, (2, 3, 2))
    expected = played(50)
    for action in actions:
        ours = other.step(action)
        theirs = env.step(np.stack([action[1], action[0]]))
        untouched = expected.step(action)
        for values, moved, own in zip(ours, theirs, untouched, strict=True):
            assert np.array_equal(values[0], moved[1])
            assert np.array_equal(values[1], own[1])
    for lane, reference, at in ((0, env, 1), (1, expected, 1)):
        log = other.episodes(lane)
        assert len(log["length"]) > 0
        for name, values in reference.episodes(at).items():
            assert np.array_equal(log[name], values), name


@needs_procgen
def test_a_state_of_a_lane_does_not_fit_all():
    env = played(1)
    with pytest.raises(ValueError, match="a state of 6 games does not fit 12 slots"):
        env.set_state(env.get_state(0))


def flipped(array: np.ndarray) -> np.ndarray:
    """The array with a bit of the byte in its middle flipped."""
    changed = bytearray(array.tobytes())
    changed[len(changed) // 2] ^= 1
    return np.frombuffer(bytes(changed), array.dtype)


BAD_STATES: dict[str, Callable[[dict], dict]] = {
    "a byte short": lambda state: {"bytes": state["bytes"][:-1]},
    "half of it": lambda state: {"bytes": state["bytes"][: len(state["bytes"]) // 2]},
    "nothing": lambda state: {"bytes": state["bytes"][:0]},
    "more of it": lambda state: {"bytes": np.append(state["bytes"], np.uint8(0))},
    "a flipped bit": lambda state: {"bytes": flipped(state["bytes"])},
    "flipped lengths": lambda state: {"lengths": flipped(state["lengths"])},
    "a flipped sum": lambda state: {"sha256": flipped(state["sha256"])},
    "a game less": lambda state: {"lengths": state["lengths"][:-1]},
}


@needs_procgen
@pytest.mark.parametrize("damage", BAD_STATES)
def test_a_damaged_state_is_refused_and_harms_nothing(damage):
    """The games go on as those that were never asked."""
    env, untouched = played(20), played(20)
    state = env.get_state()
    with pytest.raises(ValueError, match="does not match|does not fit"):
        env.set_state(state | BAD_STATES[damage](state))
    for action in draw_actions(30, env.shape):
        assert_same_step(env.step(action), untouched.step(action))
    assert_same_step(env.get_state().values(), untouched.get_state().values())


@needs_procgen
def test_a_state_of_other_slots_is_refused():
    """12 games of two lanes, 6 of one."""
    with pytest.raises(ValueError, match="a state of 12 games does not fit 6 slots"):
        played(1, ARMS[:1]).set_state(played(1).get_state())


# Bad input


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (Levels("extreme", 0, 1), "mode 'extreme' is not known; use one of easy, hard"),
        (Levels("easy", -1, 1), "start = -1 is not allowed; use a whole number from 0 on"),
        (Levels("easy", 0, 0), "count = 0 is not allowed; use a whole number from 1 on"),
        (Levels("easy", 0, -5), "count = -5 is not allowed"),
        (Levels("easy", 0, 5.0), r"count = 5\.0 is not allowed"),  # pyright: ignore
        (Levels("easy", 0.5, 5), r"start = 0\.5 is not allowed"),  # pyright: ignore
        (Levels("easy", 0, True), "count = True is not allowed"),
        (Levels("easy", False, 5), "start = False is not allowed"),
        (Levels("easy", 0, "5"), "count = '5' is not allowed"),  # pyright: ignore
        (Levels("easy", 2**31 - 10, 10), "levels 2147483638 to 2147483648 .* below 2147483647"),
        (Levels("hard", 0, 2**40), "to 1099511627776 are not allowed; stay below 2147483647"),
    ],
)
def test_bad_levels_are_refused(levels, message):
    """Most of them would end the process, or play other levels than were asked for."""
    with pytest.raises(ValueError, match=message):
        levels.validate()
    with pytest.raises(ValueError, match=message):
        procgen_games.make_states("starpilot", [Block(levels, 0, 1)])


def test_the_last_levels_are_allowed():
    last = Levels("hard", np.int64(2**31 - 11), np.int64(10))  # pyright: ignore
    last.validate()
    assert last.start + last.count == 2**31 - 1


@pytest.mark.parametrize("game", ["starpilto", "", "Starpilot", "starpilot\0"])
def test_unknown_games_are_refused(game):
    for make in (ProcgenTask, lambda name: Slots(name, 1)):
        with pytest.raises(ValueError, match="no game .* use one of bigfish, .*starpilot") as error:
            make(game)
        assert repr(game) in str(error.value)


@pytest.mark.parametrize("num_levels", [0, -1, 200.0, True, "200", 500_001, 2**31])
def test_bad_numbers_of_levels_are_refused(num_levels):
    with pytest.raises(ValueError, match=f"{num_levels!r} is not allowed; use|stay below") as error:
        ProcgenTask(num_levels=num_levels)
    assert str(num_levels) in str(error.value)


@pytest.mark.parametrize("level", [-0.01, 1.01, np.nan, np.inf, np.float32(2)])
def test_levels_outside_of_the_axis_are_refused(level):
    with pytest.raises(ValueError, match=rf"level {float(level)} is not .*use one in \[0, 1\]"):
        ProcgenTask().mixture(level, 4, evaluation=False)


@needs_procgen
def test_levels_outside_of_the_axis_open_no_games():
    task = ProcgenTask()
    with pytest.raises(ValueError, match="level 2.0 is not allowed"):
        task.training(words_of(1), np.array([[0, 2.0]]), 2, 2)
    with pytest.raises(ValueError, match="level nan is not allowed"):
        task.evaluation(words_of(1), (np.nan,), 2, 2)


@pytest.mark.parametrize("num_slots", [0, -3, 100_001])
def test_bad_numbers_of_slots_are_refused(num_slots):
    with pytest.raises(ValueError, match=f"{num_slots} games .* not allowed; use 1 to 100000"):
        Slots("starpilot", num_slots)


@pytest.mark.parametrize("seed", [-1, 2**31 - 1])
def test_bad_seeds_are_refused(seed):
    """procgen keeps them in 32 bits."""
    with pytest.raises(ValueError, match=f"rand_seed {seed} is not allowed; use 0 to 2147483646"):
        procgen_games.make_states("starpilot", [Block(Levels("easy", 0, 1), seed, 1)])


@needs_procgen
@pytest.mark.parametrize("slot", [-1, 2])
def test_slots_that_are_not_there_are_refused(slot):
    slots = Slots("starpilot", 2)
    with pytest.raises(ValueError, match=f"there is no slot {slot}; use 0 to 1"):
        slots.set([slot], slots.get()[:1])


@needs_procgen
@pytest.mark.parametrize("action", [-1, 15, 99])
def test_actions_that_are_none_are_refused(action):
    """-1 would restart the episode, and 99 be taken; after the refusal nothing has moved."""
    env, untouched = played(10), played(10)
    actions = np.full(env.shape, 4, np.int32)
    bad = actions.copy()
    bad[1, 2, 1] = action
    with pytest.raises(ValueError, match=f"actions from .*{action}.* are not allowed; use 0 to 14"):
        env.step(bad)
    assert_same_step(env.step(actions), untouched.step(actions))


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        ((3, 12), "install it (Linux on x86-64): pip install --no-deps procgen-mirror"),
        ((3, 13), "no wheels for Python 3.13 and later: use Python 3.11 or 3.12"),
    ],
)
def test_without_procgen_it_says_what_to_do(monkeypatch, version, remedy):
    monkeypatch.setattr(procgen_games, "installed", lambda: False)
    task = ProcgenTask()
    with monkeypatch.context() as patch, pytest.raises(ProcgenMissing) as error:
        patch.setattr(sys, "version_info", version)
        task.training(words_of(1), ARMS[:1], 2, 2)
    assert isinstance(error.value, ValueError)
    assert "procgen is not installed" in str(error.value) and remedy in str(error.value)


# Evaluation


def test_kinds_follow_the_levels():
    """(R_min, R_max) of starpilot is (2.5, 64) on easy and (1.5, 35) on hard
    (Cobbe et al. 2020, appendix C)."""
    kinds = ProcgenTask().kinds((0.0, 0.25, 0.75, 1.0), 4)
    assert kinds.names == ("easy seen", "easy unseen", "hard unseen")
    np.testing.assert_array_equal(
        kinds.index, [[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 2, 2]]
    )
    np.testing.assert_array_equal(kinds.low, [2.5, 2.5, 1.5])
    np.testing.assert_array_equal(kinds.high, [64, 64, 35])
    np.testing.assert_array_equal(ProcgenTask("coinrun").kinds((0.0,), 1).high, [10, 10, 10])


@needs_procgen
def test_returns_of_the_random_policy():
    """1.5 on easy levels and .84 on hard ones, measured apart; here through the real path."""
    task: Any = ProcgenTask()
    suite = make_host_episodes(task, jax.random.key(0), (0.0, 1.0), 256)
    easy, hard = random_host_returns(task.spec, suite)
    assert easy.mean() == pytest.approx(1.5, abs=0.3)
    assert hard.mean() == pytest.approx(0.85, abs=0.3)
    assert len(np.unique(easy)) > 5 and easy.min() >= 0


class OnSlots:
    """A task whose evaluation plays on another number of slots."""

    def __init__(self, task: ProcgenTask, num_slots: int):
        self.spec, self.task, self.num_slots = task.spec, task, num_slots

    def evaluation(self, words: Any, levels: Any, num_episodes: int, num_slots: int) -> Any:
        return self.task.evaluation(words, levels, num_episodes, self.num_slots)


@needs_procgen
def test_an_episode_is_the_same_in_any_slot_and_company():
    """The same key, on all 24 slots, on 3, with the levels turned round, and a level alone."""

    def returns(levels: tuple[float, ...], num_slots: int) -> np.ndarray:
        task: Any = OnSlots(ProcgenTask(), num_slots)
        suite = make_host_episodes(task, jax.random.key(0), levels, 12)
        return random_host_returns(task.spec, suite._replace(num_slots=num_slots))

    expected = returns((0.0, 1.0), 24)
    assert len(np.unique(expected)) > 3 and not np.array_equal(*expected)
    assert np.array_equal(returns((0.0, 1.0), 3), expected)
    assert np.array_equal(returns((1.0, 0.0), 5), expected[::-1])
    assert np.array_equal(returns((1.0,), 12), expected[1:])


# The other games


@needs_procgen
def test_all_games_can_be_made_and_stepped():
    pictures = []
    for game in GAMES:
        env = open_games([[0, 0.5]], 2, game=game)
        step = env.step(np.zeros(env.shape, np.int32))
        assert step.obs.shape == (1, 2, 2, 64, 64, 3) and step.obs.dtype == np.uint8
        assert step.reward.dtype == np.float32 and not step.truncated.any()
        pictures.append(step.obs)
    assert len({picture.tobytes() for picture in pictures}) == 16


@needs_procgen
def test_coinrun_pays_ten_or_nothing():
    """Who runs to the right and jumps reaches some coins; a coin is 10 and ends the level (Cobbe
    et al. 2020)."""
    env = open_games([[0, 0.5]], 16, game="coinrun")
    generator = np.random.default_rng(0)
    for _ in range(300):
        env.step(generator.choice([7, 8], size=env.shape).astype(np.int32))
    assert set(env.episodes(0)["return"]) == {0.0, 10.0}


@needs_procgen
def test_an_episode_that_idles_ends_at_the_time_limit():
    """Nothing threatens an agent of heist that never moves: episodes take 1000 steps and pay
    nothing, and procgen calls their end one like any other."""
    task: Any = ProcgenTask("heist")
    assert task.spec.max_episode_steps == 1000 and not task.spec.truncates
    num_steps = []

    def idle(obs: np.ndarray, words: np.ndarray) -> np.ndarray:
        num_steps.append(1)
        return np.full(len(obs), 4, np.int32)

    suite = make_host_episodes(task, jax.random.key(0), (0.0,), 2)
    np.testing.assert_array_equal(play(task.spec, suite, Acting(idle)).returns, [[0, 0]])
    assert len(num_steps) == 1000
    env = open_games([[0]], 2, game="heist")
    for _ in range(1000):
        step = env.step(np.full(env.shape, 4, np.int32))
    assert step.terminated.all()
    np.testing.assert_array_equal(env.episodes(0)["length"], [1000, 1000])
