"""Programs over lanes: a lane is a run of its own, whatever runs beside it, however it is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.study.cards import ALGORITHM_CARDS
from jaxgen.study.config import replace
from jaxgen.study.fork import Fork
from jaxgen.techniques import SUITES, make_technique
from jaxgen.training.keys import STREAMS, evaluation_key, iteration_keys, stream_key
from jaxgen.training.program import stack_lanes
from jaxgen.training.segments import segments
from probe_envs import (
    ARMS,
    NUM_ITERATIONS,
    NUM_LANES,
    SEEDS,
    assert_same_bits,
    pick,
    reference,
    start,
    tiny_config,
    traced,
    train,
)

GAR, LAST = 4, 7
"""A lane with an arm that differs in everything, and the lane with another seed."""


SLOW = ("grpo", "td3")
"""Algorithms whose programs are like others': PPO's with episodes of ES, and SAC's."""


@pytest.fixture(params=[
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name in sorted(ALGORITHM_CARDS)
])  # fmt: skip
def algorithm(request) -> str:
    return request.param


def test_lanes_differ(algorithm):
    """What follows means nothing if all lanes were the same; es knows no agreement."""
    params = np.asarray(jax.tree.leaves(reference(algorithm).carry.state)[0])
    distinct = len(np.unique(params, axis=0))
    assert distinct == (5 if algorithm == "es" else NUM_LANES), distinct


def test_a_lane_equals_the_same_seed_alone(algorithm):
    """A program of one lane on one device against eight lanes on two, over 24 iterations, from
    the environments' parameters on: so adding arms or seeds changes none that exist. XLA sums
    products of one lane in another order: equal to 1e-4; es and all starts equal in every bit. Of
    grpo, whose sampled actions soon follow the rounding of its policy, the first iteration."""
    ours, program = reference(algorithm), traced(algorithm, num_devices=1).program
    cuts, expected = (0, NUM_ITERATIONS), (ours.carry, ours.metrics)
    if algorithm == "grpo":
        cuts = (0, 1)
        expected = train(traced(algorithm).program, ours.lanes, ours.first, ours.content, cuts)
    compare = assert_same_bits if algorithm == "es" else assert_close
    # In the last lane of grpo the variations' gradients cancel, so that rounding decides of gar.
    for lane in (GAR,) if algorithm == "grpo" else (GAR, LAST):
        alone = pick(ours.lanes, [lane])
        content, first = start(program, alone)
        carry, metrics = train(program, alone, first, content, cuts)
        assert_same_bits(content, pick(ours.content, [lane]))
        assert_same_bits(first, pick(ours.first, [lane]))
        compare(carry, pick(expected[0], [lane]))
        compare(metrics, pick(expected[1], [lane]))


def test_at_one_width_the_neighbours_change_no_bit(algorithm):
    """The same seed with seven copies of itself instead of the other arms."""
    ours, program = reference(algorithm), traced(algorithm).program
    copies = [GAR] * NUM_LANES
    carry, metrics = train(
        program, pick(ours.lanes, copies), pick(ours.first, copies), pick(ours.content, copies),
        (0, NUM_ITERATIONS),
    )
    assert_same_bits(carry, pick(ours.carry, copies))
    assert_same_bits(metrics, pick(ours.metrics, copies))


def test_the_place_of_a_lane_does_not_matter(algorithm):
    """In reverse order each lane runs on the other device; all bits stay with their lane."""
    ours, program = reference(algorithm), traced(algorithm).program
    backwards = np.arange(NUM_LANES)[::-1]
    lanes = pick(ours.lanes, backwards)
    content, first = start(program, lanes)
    carry, _ = train(program, lanes, first, content, (0, NUM_ITERATIONS))
    assert_same_bits(carry, pick(ours.carry, backwards))


def test_where_a_call_ends_changes_no_bit(algorithm):
    ours, program = reference(algorithm), traced(algorithm).program
    carry, metrics = train(
        program, ours.lanes, ours.first, ours.content, (0, 1, 7, 8, 20, NUM_ITERATIONS)
    )
    assert_same_bits(carry, ours.carry)
    assert_same_bits(metrics, ours.metrics)


@pytest.mark.skipif(jax.local_device_count() < 2, reason="needs two devices")
def test_one_device_and_short_chunks_change_no_bit(algorithm):
    """The same eight lanes on one device, in a program whose chunks hold 5 iterations."""
    ours, program = reference(algorithm), traced(algorithm, num_devices=1, chunk=5).program
    assert (program.capacity.num_devices, traced(algorithm).program.capacity.num_devices) == (1, 2)
    carry, metrics = train(
        program, ours.lanes, ours.first, ours.content, (0, 5, 10, 15, 20, NUM_ITERATIONS)
    )
    assert_same_bits(carry, ours.carry)
    assert_same_bits(metrics, ours.metrics)


def test_a_program_traces_once(algorithm):
    """Other seeds, arms, floats, levels and ends of a call: all are data; and what `init` makes
    lies on the devices as what `train` returns, so that the second call compiles nothing."""
    reference(algorithm)
    task, program, counts = traced(algorithm)
    before = counts[0], task.num_traces
    arms = [(tiny_config(algorithm, learning_rate=1e-3 * (n + 1)), a) for n, a in enumerate(ARMS)]
    lanes = stack_lanes(arms, [seed + 10 for seed in SEEDS])
    content, carry = start(program, lanes)
    for begin, end in ((3, 4), (4, 11)):
        carry, _ = program.learner.train(lanes, carry, content, begin, end)
    assert (counts[0], task.num_traces) == before
    assert before[0] > 0


def test_a_diverged_lane_leaves_the_others_alone(algorithm):
    """A learning rate of NaN: the lane shows it, the others keep every bit."""
    ours, program = reference(algorithm), traced(algorithm).program
    learning_rate = np.array(ours.lanes.config.learning_rate)
    learning_rate[GAR] = np.nan
    sick = ours.lanes._replace(config=replace_float(ours.lanes.config, learning_rate))
    carry, metrics = train(program, sick, ours.first, ours.content, (0, NUM_ITERATIONS))
    others = [lane for lane in range(NUM_LANES) if lane != GAR]
    assert_same_bits(pick(carry, others), pick(ours.carry, others))
    assert_same_bits(pick(metrics, others), pick(ours.metrics, others))
    assert np.isnan(np.asarray(program.learner.params(sick, carry))[GAR]).all()
    if algorithm != "es":
        # A population of NaN acts like any other; its loss is the fitness, which stays finite.
        assert np.isnan(metrics["loss"][GAR, -1])


def replace_float(config, learning_rate):
    """`dataclasses.replace` for a configuration whose floats are arrays of lanes."""
    names = [name for name in vars(config) if name != "learning_rate"]
    return type(config)(learning_rate=learning_rate, **{n: getattr(config, n) for n in names})


def assert_close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


def test_every_arm_counts_the_same_steps(algorithm):
    """V x N x T = 3 x 2 x 4 = 24 steps an iteration in every arm; es counts what its members
    live through, at the arms' own levels: 36 one-step episodes at level 0."""
    steps = reference(algorithm).metrics["env_steps"]
    if algorithm == "es":
        expected = 36 * np.arange(1, NUM_ITERATIONS + 1)
        for lane, arm in enumerate(ARMS):
            # Level .5 is the probe of two steps: 12 episodes of one more.
            per_generation = 36 if arm.levels == (0.0, 0.0, 0.0) else 48
            np.testing.assert_array_equal(steps[lane], expected * per_generation // 36)
    elif algorithm == "grpo":
        # 24 episodes of a step or more.
        assert (np.diff(steps, axis=1, prepend=0) >= 24).all()
    else:
        expected = np.tile(24 * np.arange(1, NUM_ITERATIONS + 1), (NUM_LANES, 1))
        np.testing.assert_array_equal(steps, expected)
    np.testing.assert_array_equal(reference(algorithm).carry.env_steps, steps[:, -1])


def test_streams_of_keys_are_disjoint():
    """Training, content, init and probe of every seed, and evaluation: no two keys are equal."""
    keys = [stream_key(0, jnp.uint32(seed), stream) for seed in range(50) for stream in STREAMS]
    keys += [stream_key(0, jnp.uint32(2**31 - 1), stream) for stream in STREAMS]
    keys += [evaluation_key(0, purpose) for purpose in range(5)]
    keys += [key for number in range(50) for key in iteration_keys(0, jnp.uint32(0), number)]
    data = np.stack([np.asarray(jax.random.key_data(key)) for key in keys])
    assert len(np.unique(data, axis=0)) == len(keys) == 50 * 5 + 5 + 5 + 50 * 4


def test_another_study_seed_gives_other_keys():
    one, other = (stream_key(study, jnp.uint32(0), "init") for study in (0, 1))
    assert (jax.random.key_data(one) != jax.random.key_data(other)).any()


def test_a_key_depends_on_seed_and_stream_alone():
    """Literal: fold_in(fold_in(key(study), seed), number of the stream)."""
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), 9), STREAMS.index("train"))
    ours = stream_key(5, jnp.uint32(9), "train")
    assert (jax.random.key_data(ours) == jax.random.key_data(expected)).all()


def drawn(*starts: Fork | None) -> list[list[bytes]]:
    """Keys of iteration 7 of seed 3 for prepare, start, collect and update, by start."""
    arms = [(tiny_config("ppo"), make_technique("gar"))]
    found = []
    for begun in starts:
        lanes = stack_lanes(arms, [3], [begun] if begun else [])
        lane = jax.tree.map(lambda leaf: leaf[0], lanes)
        keys = iteration_keys(0, lane.seed, 7, lane.fork)
        found.append([np.asarray(jax.random.key_data(key)).tobytes() for key in keys])
    return found


def test_a_fork_draws_its_training_alone_from_another_key():
    """Number 0 has its parent's keys, as has one without noise; others share with it what their
    noise leaves out. A lane that is no fork has no leaf more."""
    numbers = [Fork("parent", 0.5, number) for number in (0, 1, 2)]
    plain, *forks = drawn(None, *numbers)
    expected = jax.random.fold_in(stream_key(0, jnp.uint32(3), "train"), 7)
    literal = [np.asarray(jax.random.key_data(key)) for key in jax.random.split(expected, 4)]
    assert plain == [key.tobytes() for key in literal] and plain == forks[0]
    assert len({key for keys in (plain, *forks[1:]) for key in keys}) == 12
    of_noise = drawn(*(Fork("parent", 0.5, 1, noise=kind) for kind in ("data", "order", "none")))
    assert of_noise == [forks[1][:3] + plain[3:], plain[:3] + forks[1][3:], plain]
    arms = [(tiny_config("ppo"), make_technique("gar"))]
    lane, fork = stack_lanes(arms, [3]), stack_lanes(arms, [3], [numbers[1]])
    assert len(jax.tree.leaves(fork)) == len(jax.tree.leaves(lane)) + 5
    jax.tree.map(np.testing.assert_array_equal, fork._replace(fork=None), lane)


def test_both_forks_in_lockstep_have_the_keys_of_the_first():
    for first, second in ((1, 2), (7, 8)):
        one, other = (Fork("parent", 0.5, number, "shared") for number in (first, second))
        assert (one.member, other.member, one.stream) == (0, 1, other.stream)
        assert drawn(one) == drawn(other) == drawn(Fork("parent", 0.5, first))


def test_lanes_share_everything_but_floats():
    arms = [(tiny_config("ppo"), make_technique(name)) for name in SUITES["controls"]]
    lanes = stack_lanes(arms, list(range(6)))
    assert lanes.technique.levels.shape == (6, 3)  # pyright: ignore
    assert lanes.config.learning_rate.shape == (6,)  # pyright: ignore
    with pytest.raises(ValueError, match="share all but the floats .* differ in num_steps"):
        stack_lanes([arms[0], (tiny_config("ppo", num_steps=8), arms[1][1])], [0, 1])
    with pytest.raises(ValueError, match="these differ in rule"):
        stack_lanes([arms[0], (tiny_config("ppo"), make_technique("pcgrad"))], [0, 1])


@pytest.mark.parametrize("refresh_steps", [None, 24 * 7])
@pytest.mark.parametrize("begin", [0, 13, 100])
def test_segments_cover_what_is_left_and_stop_at_every_event(refresh_steps, begin):
    """100 iterations: a curve point every 5, fresh content every 7, calls of at most 3."""
    config = replace(tiny_config("ppo"), {"total_steps": 24 * 100})
    cut = list(segments(config, refresh_steps, 3, begin))
    covered = [i for segment in cut for i in range(segment.start, segment.stop)]
    assert covered == list(range(begin, 100))
    for segment in cut:
        assert 0 < segment.stop - segment.start <= 3
        assert segment.curve_point == (segment.stop % 5 == 0)
        assert not any(i % 5 == 0 for i in range(segment.start + 1, segment.stop))
        if refresh_steps:
            assert {i // 7 for i in range(segment.start, segment.stop)} == {segment.epoch}
            assert segment.fresh_content == (segment.start % 7 == 0)
        else:
            assert (segment.epoch, segment.fresh_content) == (0, False)


def test_the_last_iteration_is_a_curve_point():
    config = replace(tiny_config("ppo"), {"total_steps": 103 * 24})
    cut = list(segments(config, None, 64))
    assert (cut[-1].stop, cut[-1].curve_point) == (103, True)


def test_a_technique_without_a_level_for_each_variation_is_refused():
    config = replace(tiny_config("ppo"), {"num_variations": 1})
    message = "num_variations = 1 is not allowed with a technique .* the levels 0, 0.25, 0.5; use 3"
    with pytest.raises(ValueError, match=message):
        stack_lanes([(config, make_technique("gar"))], [0])
    lanes = stack_lanes([(config, make_technique("baseline"))], [0])
    assert np.shape(lanes.technique.levels) == (1, 1)
