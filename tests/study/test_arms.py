"""Arms with hyper-parameters of their own: names, groups, what is refused."""

import re

import pytest

from jaxgen.study.arms import Arm, arm_name, parse_arm, technique_of
from jaxgen.study.config import DQNConfig, ESConfig, PPOConfig
from jaxgen.study.presets import preset
from jaxgen.study.product import Study, make_study
from jaxgen.study.spec import Evaluation


def study_of(*arms: str, algorithms: tuple[str, ...] = ("ppo",)) -> Study:
    return make_study(["cartpole"], algorithms, arms, [0], evaluation=Evaluation(episodes=10))


NAMES = (
    ("gar", Arm("gar")),
    ("reg+gar@learning_rate=1e-3", Arm("gar+reg", (("learning_rate", 0.001),))),
    # In the order of the fields, whatever the order of the words.
    ("dr@clip=.1@hidden=32x16", Arm("dr", (("hidden", (32, 16)), ("clip", 0.1)))),
    ("dr@hidden=64@scale_rewards=true", Arm("dr", (("hidden", (64,)), ("scale_rewards", True)))),
    ("dr@num_steps=64@learning_rate=1", Arm("dr", (("learning_rate", 1.0), ("num_steps", 64)))),
)


@pytest.mark.parametrize(("name", "arm"), NAMES)
def test_an_arm_is_read_from_its_name(name: str, arm: Arm):
    assert parse_arm(name, PPOConfig) == arm
    assert parse_arm(arm.name, PPOConfig) == arm
    assert technique_of(arm.name) == arm.technique


def test_names_are_canonical():
    assert parse_arm("dr@clip=.1@hidden=32x16", PPOConfig).name == "dr@hidden=32x16@clip=0.1"
    name = parse_arm("dr@bootstrap_truncations=false", DQNConfig).name
    assert name == "dr@bootstrap_truncations=false"
    assert arm_name("gar", {"hidden": [32, 32], "learning_rate": 0.001}) == (
        "gar@hidden=32x32@learning_rate=0.001"
    )


REFUSED = (
    ("gar@", "'' behind an @; write FIELD=VALUE"),
    ("gar@learning_rate", "'learning_rate' behind an @; write FIELD=VALUE"),
    ("gar@learning_rate=", "'learning_rate=' behind an @; write FIELD=VALUE"),
    ("gar@clip=.1@clip=.2", "sets a hyper-parameter twice; set each once"),
    ("gar@learning_rat=.1", "unknown configuration key 'learning_rat', perhaps learning_rate;"),
    ("gar@learning_rate=high", "ppo: learning_rate = 'high' is not allowed; use a number"),
    ("gar@learning_rate=nan", "learning_rate = nan is not allowed; use a finite number"),
    ("gar@num_steps=1.5", "ppo: num_steps = '1.5' is not allowed; use a whole number"),
    ("gar@num_steps=0", "num_steps = 0 is not allowed; use a positive whole number"),
    ("gar@hidden=32,32", "hidden = '32,32' is not allowed; use whole numbers joined by x, as in"),
    ("gar@scale_rewards=1", "scale_rewards = '1' is not allowed; use true or false"),
    ("gar@num_variations=2", "arm 'gar@num_variations=2': num_variations = 2 is not allowed with a "
     "technique that trains on the levels 0, 0.25, 0.5; use 3"),
    ("gar@network=nature", "network = 'nature' is not allowed on cartpole, whose preset has 'mlp'"),
    ("garr@clip=.1", "unknown technique 'garr'"),
    ("gar@hidden=" + "x".join(["64"] * 80), "has too long a name for a folder"),
)


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_what_is_not_allowed_is_refused_by_name(name: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        study_of(name)


def test_the_same_arm_in_other_words_is_given_twice():
    with pytest.raises(ValueError, match="'gar@learning_rate=0.001' is given twice"):
        study_of("gar@learning_rate=1e-3", "gar@learning_rate=0.001")


def test_floats_are_lanes_of_a_program_and_widths_are_programs():
    study = study_of("dr", "gar", "gar@learning_rate=0.001", "gar@hidden=32x32", "dr@hidden=32x32")
    assert [[spec.arm for spec in group.specs] for group in study.groups] == [
        ["dr", "gar", "gar@learning_rate=0.001"], ["gar@hidden=32x32", "dr@hidden=32x32"],
    ]  # fmt: skip


def test_an_algorithm_without_the_hyper_parameter_is_left_out():
    study = study_of("dr", "dr@clip=0.1", algorithms=("ppo", "dqn"))
    assert [(g.algorithm, [spec.arm for spec in g.specs]) for g in study.groups] == [
        ("ppo", ["dr", "dr@clip=0.1"]), ("dqn", ["dr"]),
    ]  # fmt: skip
    assert study.left_out == ("dqn dr@clip=0.1",)
    with pytest.raises(ValueError, match="dqn: unknown configuration key 'clip'"):
        study_of("dr@clip=0.1", algorithms=("dqn",))


def test_an_alias_stands_for_the_arm_with_the_same_hyper_parameters():
    (group,) = study_of("gar@sigma=0.1", algorithms=("es",)).groups
    (alias,) = group.aliases
    assert parse_arm("gar@sigma=0.1", ESConfig).name == alias.arm
    assert [spec.arm for spec in group.specs] == ["baseline@sigma=0.1"]
    assert alias.alias_of == group.specs[0].name


def test_overrides_are_part_of_the_identity_and_the_rest_of_the_spec_is_shared():
    (group,) = study_of("gar", "gar@learning_rate=0.001").groups
    plain, other = group.specs
    assert plain.config == preset("ppo", "cartpole") and "overrides" not in plain.to_dict()
    assert other.config.learning_rate == 0.001 != plain.config.learning_rate
    written = other.to_dict()
    assert written.pop("overrides") == {"learning_rate": 0.001}
    assert written == plain.to_dict()
    assert other.name.startswith("ppo_cartpole_gar@learning_rate=0.001-")
