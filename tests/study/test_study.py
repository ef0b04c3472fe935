"""A study is a product of axes: its rows, its aliases, its names, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest

from jaxgen.study.config import replace
from jaxgen.study.presets import preset
from jaxgen.study.product import MAX_SEED, Study, check_seeds, make_study
from jaxgen.study.spec import Evaluation, RunSpec
from jaxgen.system.errors import BadInput
from jaxgen.techniques import SUITES

ENVIRONMENTS, ALGORITHMS, SEEDS = ("cartpole", "minigrid"), ("ppo", "dqn", "es"), (0, 1, 2)


def study_of(suite: str, **changes) -> Study:
    axes = {
        "environments": ENVIRONMENTS,
        "algorithms": ALGORITHMS,
        "arms": SUITES[suite],
        "seeds": SEEDS,
    }
    return make_study(**(axes | changes))


def one_cell(**changes) -> RunSpec:
    study = study_of(
        "controls",
        environments=["cartpole"],
        algorithms=["ppo"],
        arms=["baseline"],
        **changes,
    )
    return study.groups[0].specs[0]


def test_the_controls_suite_has_108_rows():
    """2 environments x 3 algorithms x 6 arms x 3 seeds; per environment ES's gar and gar+reg are
    aliases, 2 x 2 x 3 = 12 rows, so that 96 are trained."""
    study = study_of("controls")
    assert (study.num_runs, study.num_trained) == (108, 96)
    cells = [(g.environment, g.algorithm) for g in study.groups]
    assert cells == [(e, a) for e in ENVIRONMENTS for a in ALGORITHMS]


def test_the_specified_suite_has_72_rows():
    """2 x 3 x 4 x 3; 12 of them aliases."""
    study = study_of("specified")
    assert (study.num_runs, study.num_trained) == (72, 60)


def test_the_rigorous_suite_gives_each_algorithm_the_arms_that_it_has():
    """A program per rule: five for gradients; es has controls, aliases among them, and es-gar."""
    study = study_of("rigorous", environments=["cartpole"])
    arms = {
        name: [{spec.technique for spec in g.specs} for g in study.groups if g.algorithm == name]
        for name in ALGORITHMS
    }
    own = [
        {*SUITES["controls"], "dr-scaled"}, {"gar-n"}, {"gar-shuffle"}, {"pcgrad"}, {"and-mask"},
    ]
    assert arms == {"ppo": own, "dqn": own, "es": [{"baseline", "reg", "dr", "dr+reg"}, {"es-gar"}]}
    aliases = [spec.technique for group in study.groups for spec in group.aliases]
    assert aliases == ["gar", "gar+reg"]


def test_es_arms_with_gar_are_aliases():
    for group in study_of("controls").groups:
        stands_for = {alias.technique: alias.alias_of for alias in group.aliases}
        names = {spec.technique: spec.name for spec in group.specs}
        if group.algorithm == "es":
            assert list(names) == ["baseline", "reg", "dr", "dr+reg"]
            assert stands_for == {"gar": names["baseline"], "gar+reg": names["reg"]}
        else:
            assert list(names) == list(SUITES["controls"])
            assert not stands_for
        assert all(spec.alias_of is None for spec in group.specs)


@pytest.mark.parametrize("algorithm", ["es", "es-matched"])
def test_an_alias_alone_trains_what_it_stands_for(algorithm):
    study = study_of("controls", algorithms=[algorithm], arms=["reg+gar"])
    group = study.groups[0]
    assert [spec.technique for spec in group.specs] == ["reg"]
    assert [(a.technique, a.alias_of) for a in group.aliases] == [("gar+reg", group.specs[0].name)]


def test_lanes_are_arms_then_seeds():
    group = study_of("specified", algorithms=["ppo"], arms=["baseline", "gar"]).groups[0]
    lanes = [(spec.technique, seed) for spec, seed in group.lanes]
    assert lanes == [
        ("baseline", 0),
        ("baseline", 1),
        ("baseline", 2),
        ("gar", 0),
        ("gar", 1),
        ("gar", 2),
    ]
    assert group.config is group.specs[0].config


def test_names_hold_a_hash_of_all_that_decides_a_result():
    names = {
        one_cell().name,
        one_cell(total_steps=4000).name,
        one_cell(study_seed=1).name,
        one_cell(quick=True).name,
        one_cell(evaluation=Evaluation(episodes=10)).name,
        one_cell(evaluation=Evaluation(levels=(0.0, 1.0))).name,
    }
    assert len(names) == 6
    assert all(name.startswith("ppo_cartpole_baseline-") for name in names)
    assert one_cell().name == one_cell().name


def test_a_name_does_not_depend_on_the_other_axes():
    """Adding seeds, arms or algorithms to a study finds the runs that exist."""
    wide = {spec.name for group in study_of("controls").groups for spec in group.specs}
    assert one_cell(seeds=[7]).name in wide


def test_a_spec_is_json_with_its_technique_as_numbers():
    content = json.loads(json.dumps(one_cell().to_dict(), allow_nan=False))
    assert content["technique_values"] == {
        "levels": [0.0, 0.0, 0.0],
        "agreement": 0.0,
        "uniform": 0.0,
        "weight_decay": 0.0,
        "rule": "weights",
    }
    assert content["config"]["total_steps"] == 50_000
    assert content["evaluation"]["levels"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert content["evaluation"]["episodes"] == 1000


def test_quick_runs_that_read_images_are_smaller_in_all_that_takes_time():
    algorithms = ["ppo", "ppo-published", "dqn", "es"]
    study = make_study(["starpilot"], algorithms, ["baseline"], [0], quick=True)
    for group in study.groups:
        assert group.config.total_steps < 1_000
        evaluation = group.specs[0].evaluation
        assert (evaluation.episodes, evaluation.curve_episodes) == (2, 2)


@pytest.mark.parametrize("environment", ["pendulum", "halfcheetah"])
def test_quick_runs_of_single_steps_learn_in_most_of_them(environment):
    (group,) = make_study([environment], ["sac"], ["baseline"], [0], quick=True).groups
    config: Any = group.specs[0].config
    assert config.total_steps == 200 * config.steps_per_iteration
    assert config.learning_starts < config.total_steps / 10


def test_quick_is_small_valid_and_marked():
    for group in study_of("controls", quick=True).groups:
        config = group.config
        config.validate()
        assert all(spec.quick for spec in group.specs)
        assert config.total_steps <= 12 * config.steps_per_iteration
        assert config.total_steps < preset(group.algorithm, group.environment).total_steps / 10


def test_total_steps_overrides_the_budget():
    config = one_cell(total_steps=4000).config
    assert config == replace(preset("ppo", "cartpole"), {"total_steps": 4000})


def test_a_budget_and_a_hyper_parameter_are_checked_together():
    arms = ["baseline@learning_starts=300"]
    (group,) = make_study(["halfcheetah"], ["sac"], arms, [0], total_steps=3_000).groups
    config: Any = group.specs[0].config
    assert (config.total_steps, config.learning_starts) == (3_000, 300)
    with pytest.raises(BadInput, match="learning_starts = 5000 is not allowed; use 0 to 3000"):
        make_study(["halfcheetah"], ["sac"], [*arms, "dr"], [0], total_steps=3_000)


def test_seeds_of_a_study_are_whole_numbers_of_any_type():
    """The same study, to its names, as with Python's."""
    seeds: Any = np.arange(2)
    (group,) = study_of(
        "controls", environments=["cartpole"], algorithms=["ppo"], arms=["baseline"], seeds=seeds,
        study_seed=np.int64(3),
    ).groups
    assert group.seeds == (0, 1) and {type(seed) for seed in group.seeds} == {int}
    assert group.specs[0].name == one_cell(study_seed=3).name


class OnceRead:
    """Seeds that count how often they are gone through."""

    reads = 0

    def __iter__(self):
        self.reads += 1
        return iter(range(1000))


def test_seeds_are_read_once_however_many_they_are():
    """A check of each against all others takes minutes where there are 100 000."""
    seeds = OnceRead()
    assert check_seeds(seeds) == tuple(range(1000))
    assert seeds.reads == 1


REFUSED = [
    ({"environments": ["pong"]}, "environment 'pong' is unknown; use one of cartpole, minigrid"),
    ({"environments": []}, "no environment given"),
    ({"environments": ["cartpole", "cartpole"]}, "environment 'cartpole' is given twice"),
    ({"algorithms": ["a3c"]}, "unknown algorithm 'a3c'; allowed: ppo, dqn, es"),
    ({"algorithms": ["ppo", "ppo"]}, "algorithm 'ppo' is given twice"),
    ({"arms": ["garr"]}, "unknown technique 'garr'"),
    ({"arms": ["gar+reg", "reg+gar"]}, r"technique 'gar\+reg' is given twice"),
    ({"arms": ["gar+dr"]}, "both gar and dr"),
    ({"seeds": [-1]}, f"seed -1 is not allowed; use whole numbers from 0 to {MAX_SEED}"),
    ({"seeds": [2**31]}, "seed 2147483648 is not allowed"),
    ({"seeds": [1.5]}, "seed 1.5 is not allowed"),
    ({"seeds": [3, 4, 3]}, "seed 3 is given twice"),
    ({"seeds": []}, "no seeds given"),
    ({"study_seed": -1}, f"study_seed -1 is not allowed; use whole numbers from 0 to {MAX_SEED}"),
    ({"study_seed": 2**32}, "study_seed 4294967296 is not allowed"),
    ({"total_steps": 100}, "total_steps = 100 is not allowed; use at least one iteration of"),
    ({"evaluation": Evaluation(levels=(0.0, 1.5))}, r"variation level 1.5 is outside \[0, 1\]"),
    ({"evaluation": Evaluation(levels=(-0.1, 0.0))}, r"variation level -0.1 is outside \[0, 1\]"),
    ({"evaluation": Evaluation(levels=(0.0, float("nan")))}, r"level nan is outside \[0, 1\]"),
    ({"evaluation": Evaluation(levels=(0.0, 1.0, 0.5))}, "must increase and begin with 0"),
    ({"evaluation": Evaluation(levels=(0.25, 1.0))}, "must increase and begin with 0"),
    ({"evaluation": Evaluation(episodes=1)}, "episodes = 1 is not allowed; use 2 or more"),
    ({"algorithms": ["es"], "arms": ["pcgrad"]}, "'pcgrad' is not defined for es"),
    ({"algorithms": ["ppo", "dqn"], "arms": ["es-gar"]}, "for ppo; allowed: baseline, reg"),
    ({"evaluation": Evaluation(curve_episodes=0)}, "curve_episodes = 0 is not allowed"),
    ({"evaluation": Evaluation(curve_levels=(0.0, 0.3))}, "must be some of .* and begin with 0"),
    ({"evaluation": Evaluation(curve_levels=(0.5,))}, "must be some of .* and begin with 0"),
]


@pytest.mark.parametrize("changes, message", REFUSED)
def test_bad_axes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        study_of("controls", **changes)
