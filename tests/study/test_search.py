"""Searches as data: spaces, what trials are worth, which are given up, what is proposed next."""

import json
import math

import numpy as np
import pytest

from jaxgen.study.kinds import proposals
from jaxgen.study.kinds.search import (
    BEST,
    COMPLETE,
    FAILED,
    PRUNED,
    RUNNING,
    Plan,
    Trial,
    best_settings,
    best_trial,
    given_up,
    narrowed,
    parse_space,
    running,
    space_text,
)
from jaxgen.study.presets import preset
from jaxgen.study.settings import Range
from jaxgen.system.errors import BadInput

CONFIG = preset("ppo", "cartpole")
WORDS = ["learning_rate=log:1e-4..1e-2", "gamma=0.9..0.999", "hidden=32x32,64x64"]
SPACE = parse_space(WORDS, CONFIG)
TWO = Plan((0, 1), 2)


def trial(number: int, *points: float | None, pruned: bool = False) -> Trial:
    """One whose two seeds are 1 apart."""
    both = tuple((p, p) if p is None else (p - 0.5, p + 0.5) for p in points)
    return Trial(number, {"gamma": "0.9"}, both, pruned)


# Spaces


def test_a_space_is_read_and_written():
    assert {
        "learning_rate": Range(1e-4, 1e-2, True), "gamma": Range(0.9, 0.999, False),
        "hidden": ["32x32", "64x64"],
    } == SPACE  # fmt: skip
    words = [f"{field}={text}" for field, text in space_text(SPACE).items()]
    assert parse_space(words, CONFIG) == SPACE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing is searched"),
        (["learning=1..2"], "unknown configuration key 'learning', perhaps learning_rate"),
        (["gamma=0.9..1.5"], "gamma = 1.5 is not allowed; use a share in"),
        (["gamma=0.9,1.5"], "gamma = 1.5 is not allowed"),
        (["hidden=32..64"], "hidden is no number, so that it has no range"),
        (["gamma=0.99..0.9"], "is no range"),
        (["gamma=abc,0.9"], "gamma = 'abc' is not allowed; use a number"),
        (["num_envs=0..4"], "num_envs = 0 is not allowed"),
    ],
)
def test_a_space_that_contradicts_the_algorithm_is_refused(words, message):
    with pytest.raises(BadInput, match=message):
        parse_space(words, CONFIG)


def test_a_second_round_searches_around_the_best():
    """A third of two decades around 1e-3: from 10^(-3 - 1/3) to 10^(-3 + 1/3); a range ends where
    the first one did, and other fields stay as they were best."""
    best = {"learning_rate": "0.001", "gamma": "0.99", "hidden": "64x64"}
    narrow = narrowed(SPACE, best, ["learning_rate"], 1 / 3)
    assert narrow["gamma"] == ["0.99"] and narrow["hidden"] == ["64x64"]
    rate = narrow["learning_rate"]
    assert isinstance(rate, Range) and rate.log
    np.testing.assert_allclose([rate.low, rate.high], 10 ** (-3 + np.array([-1, 1]) / 3), rtol=1e-4)
    at_the_end = narrowed(SPACE, best, ["gamma"], 0.5)["gamma"]
    # Half of .099 around .99 would reach .99 + .02475.
    assert at_the_end == Range(0.96525, 0.999, False)
    with pytest.raises(BadInput, match="hidden had no range"):
        narrowed(SPACE, best, ["hidden"], 0.5)


# Trials


def test_a_trial_is_worth_its_last_point_or_its_mean():
    done, half, bad = trial(0, 2.0, 4.0), trial(1, 2.0), trial(2, 1.0, None)
    states = [each.state(TWO) for each in (done, half, bad, trial(3, 1.0, pruned=True))]
    assert states == [COMPLETE, RUNNING, FAILED, PRUNED]
    assert done.value(TWO) == 4 and done.values(TWO) == (3.5, 4.5)
    assert done.value(TWO._replace(value="mean")) == 3
    assert bad.value(TWO) is None and bad.values(TWO) == ()
    assert running([done, half, bad], TWO) == [half]
    assert best_trial([trial(0, 0, 3), trial(1, 0, 5), trial(2, 0, 5), half], TWO) == trial(1, 0, 5)
    assert best_trial([half, bad], TWO) is None


def test_halving_keeps_the_upper_half_and_earlier_ones_of_equals():
    plan = TWO._replace(pruner="halving")
    alive = [trial(0, 1.0), trial(1, 3.0), trial(2, 2.0), trial(3, 2.0), trial(4, 9.0)]
    assert given_up(alive, plan) == [0, 3]
    assert given_up([trial(0)], plan) == []
    # Those that have ended are not asked.
    assert given_up([trial(5, 0.0, 0.0), trial(6, 0.0, pruned=True), *alive], plan) == [0, 3]


def test_the_median_is_that_of_complete_trials_at_the_same_point():
    """Points 1 of the four complete ones: 1, 2, 3, 10, median 2.5, whatever they ended with."""
    plan = TWO._replace(pruner="median")
    complete = [trial(n, first, 100.0 - first) for n, first in enumerate((1.0, 2.0, 3.0, 10.0))]
    alive = [trial(4, 2.4), trial(5, 2.6)]
    assert given_up([*complete, *alive], plan) == [4]
    assert given_up([*complete[:3], *alive], plan) == []
    assert given_up([*complete, *alive], TWO) == []
    assert TWO.stops == [2] and plan.stops == [1, 2]


# Proposals


def test_a_grid_takes_every_combination_once_and_ends():
    space = parse_space(["hidden=32x32,64x64", "num_epochs=1,2"], CONFIG)
    first = proposals.propose("grid", space, CONFIG, [], TWO, 3, 0)
    done = [Trial(n, params, ((0.0, 0.0), (1.0, 1.0))) for n, params in enumerate(first)]
    rest = proposals.propose("grid", space, CONFIG, done, TWO, 3, 0)
    cells = [(each["hidden"], each["num_epochs"]) for each in first + rest]
    assert cells == [("32x32", "1"), ("32x32", "2"), ("64x64", "1"), ("64x64", "2")]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_proposals_follow_from_seed_and_trials_and_lie_in_the_space(sampler):
    def asked(seed: int, trials: list[Trial]) -> list[dict[str, str]]:
        return proposals.propose(sampler, SPACE, CONFIG, trials, TWO, 6, seed)

    first = asked(0, [])
    assert first == asked(0, []) != asked(1, [])
    for params in first:
        assert list(params) == list(SPACE)
        assert 1e-4 <= float(params["learning_rate"]) <= 1e-2 and len(params["gamma"]) <= 7
        assert 0.9 <= float(params["gamma"]) <= 0.999 and params["hidden"] in ("32x32", "64x64")
    known = [Trial(n, p, ((0.0, 0.0), (n * 1.0, n * 1.0))) for n, p in enumerate(first)]
    assert asked(0, known) == asked(0, known) != first


def test_whole_numbers_stay_whole():
    space = parse_space(["num_epochs=1..8"], CONFIG)
    for sampler in ("random", "tpe"):
        drawn = proposals.propose(sampler, space, CONFIG, [], TWO, 20, 0)
        numbers = {int(params["num_epochs"]) for params in drawn}
        assert numbers <= set(range(1, 9)) and len(numbers) > 4


def worth(params: dict[str, str]) -> float:
    """A quadratic whose optimum is at a learning rate of 1e-3 and a gamma of .97."""
    rate, gamma = float(params["learning_rate"]), float(params["gamma"])
    return -((math.log10(rate) + 3) ** 2) - (20 * (gamma - 0.97)) ** 2


def test_a_planted_optimum_is_found_and_better_than_by_chance():
    space = parse_space(WORDS[:2], CONFIG)
    best = {}
    for sampler in ("random", "tpe"):
        trials: list[Trial] = []
        while len(trials) < 40:
            for params in proposals.propose(sampler, space, CONFIG, trials, TWO, 5, 0):
                value = worth(params)
                trials.append(Trial(len(trials), params, ((value,) * 2,) * 2))
        found = best_trial(trials, TWO)
        assert found is not None
        best[sampler] = found.value(TWO)
        assert abs(math.log10(float(found.params["learning_rate"])) + 3) < 0.3
    assert best["tpe"] > best["random"] and best["tpe"] > -0.01


def test_failed_and_pruned_trials_may_be_told_of():
    params = proposals.propose("tpe", SPACE, CONFIG, [], TWO, 3, 0)
    points = [((1.0, 1.0), (2.0, 2.0)), ((1.0, 1.0),), ((1.0, 1.0), (None, 2.0))]
    trials = [
        Trial(n, own, reached, n == 1)
        for n, (own, reached) in enumerate(zip(params, points, strict=True))
    ]
    assert len(proposals.propose("tpe", SPACE, CONFIG, trials, TWO, 2, 0)) == 2


@pytest.mark.parametrize(
    ("sampler", "words", "message"),
    [
        ("grid", ["gamma=0.9..0.99"], "a grid needs alternatives, but gamma has a range"),
        ("pbt", ["hidden=32x32,64x64"], "pbt changes numbers while agents train, but hidden"),
        ("pbt", ["num_epochs=1..3"], "pbt changes numbers while agents train, but num_epochs"),
        ("best", ["gamma=0.9..0.99"], "sampler 'best' is not allowed; use one of tpe"),
    ],
)
def test_a_sampler_that_does_not_suit_a_space_is_refused(sampler, words, message):
    with pytest.raises(BadInput, match=message):
        proposals.check_sampler(sampler, parse_space(words, CONFIG), CONFIG)


def test_without_optuna_its_sampler_is_refused(monkeypatch):
    monkeypatch.setattr(proposals.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="needs Optuna, which is not installed; pip install"):
        proposals.check_sampler("tpe", SPACE, CONFIG)
    proposals.check_sampler("random", SPACE, CONFIG)


def test_a_population_copies_from_its_best():
    """Of eight members the two lowest (2 and 5) go on from the two highest (1 and 3)."""
    values = [3.0, 9.0, None, 8.0, 4.0, 0.0, 5.0, 6.0]
    rng = np.random.default_rng(0)
    sources = [proposals.exploited(values, rng) for _ in range(20)]
    for each in sources:
        assert [member for member, source in enumerate(each) if source != member] == [2, 5]
    assert {each[2] for each in sources} == {1, 3}
    assert proposals.exploited([1.0, 1.0, 1.0, 1.0], rng) == [0, 1, 2, 3]
    assert proposals.exploited([1.0], rng) == [0]


def test_what_is_copied_is_changed_within_its_range():
    space = parse_space([*WORDS[:1], "gamma=0.9,0.95,0.99"], CONFIG)
    rng = np.random.default_rng(1)
    near = [
        proposals.explored({"learning_rate": "0.001", "gamma": "0.95"}, space, rng)
        for _ in range(60)
    ]
    rates = [float(each["learning_rate"]) for each in near]
    assert {0.0008, 0.00125} < set(rates) and all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert {each["gamma"] for each in near} == {"0.9", "0.95", "0.99"}
    edge = {"learning_rate": "0.01", "gamma": "0.99"}
    assert all(float(proposals.explored(edge, space, rng)["learning_rate"]) <= 1e-2
               for _ in range(20))  # fmt: skip


# What a search recommends


def test_what_was_best_is_read_as_settings(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({BEST: {"gamma": "0.97", "hidden": "64x64"}}))
    assert best_settings(path) == ["gamma=0.97", "hidden=64x64"]
    assert best_settings(path, ["gamma=0.9"]) == ["hidden=64x64"]
    path.write_text(json.dumps({BEST: None}))
    with pytest.raises(BadInput, match="has no best_params; give the results.json"):
        best_settings(path)
    with pytest.raises(BadInput, match=r"nothing\.json cannot be read"):
        best_settings(tmp_path / "nothing.json")


def test_budgets_are_not_searched():
    with pytest.raises(BadInput, match="total_steps is a trial's budget or its end"):
        parse_space(["total_steps=1920,3840"], CONFIG)


def test_whole_numbers_stay_inside_of_a_range_that_is_not():
    space = parse_space(["num_epochs=2.2..4.9"], CONFIG)
    for sampler in ("random", "tpe"):
        drawn = proposals.propose(sampler, space, CONFIG, [], TWO, 12, 0)
        assert {params["num_epochs"] for params in drawn} <= {"3", "4"}
