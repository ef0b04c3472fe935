"""Which arms share a compiled program."""

import dataclasses

import pytest

from jaxgen.algorithms import ALGORITHMS
from jaxgen.study.presets import preset, setups_of
from jaxgen.study.product import make_study
from jaxgen.study.programs import differing_fields, program_key, program_words
from jaxgen.techniques import COMPONENTS, Technique, make_technique, to_dict

CONFIG = preset("ppo", "cartpole")
KEY = program_key(CONFIG, Technique())


@pytest.mark.parametrize("changes", [{"learning_rate": 1.0}, {"gamma": 0.5, "clip": 0.1}])
def test_floats_are_no_part_of_a_program(changes):
    assert program_key(dataclasses.replace(CONFIG, **changes), Technique()) == KEY


@pytest.mark.parametrize(
    "changes", [{"hidden": (8,)}, {"num_envs": 8}, {"network": "nature"}, {"scale_rewards": True}]
)
def test_everything_else_of_a_configuration_is(changes):
    key = program_key(dataclasses.replace(CONFIG, **changes), Technique())
    assert key != KEY
    assert differing_fields({key, KEY}) == list(changes)


def test_algorithms_share_no_program():
    presets = [preset(name, next(iter(setups_of(name)))) for name in ALGORITHMS]
    keys = {program_key(config, Technique()) for config in presets}
    assert len(keys) == len(ALGORITHMS)


def test_techniques_of_one_rule_share_a_program():
    """Their names, levels and numbers are data."""
    rules = {name: make_technique(name).rule for name in COMPONENTS}
    keys = {name: program_key(CONFIG, make_technique(name)) for name in COMPONENTS}
    for one in COMPONENTS:
        for other in COMPONENTS:
            assert (keys[one] == keys[other]) == (rules[one] is rules[other])


def test_an_augmentation_is_a_program_whatever_its_share():
    """Its name is static, its share is a float."""
    cropped = Technique(augment="crop", augment_share=0.5)
    assert program_key(CONFIG, cropped) != KEY
    assert program_key(CONFIG, cropped) == program_key(CONFIG, Technique(augment="crop"))


def test_words_tell_a_program_from_the_usual_one():
    def words(*arms: str) -> list[str]:
        (group,) = make_study(["cartpole"], ["ppo"], arms, [0]).groups
        return program_words(group.specs[0])

    assert words("gar@learning_rate=0.001") == []
    assert words("pcgrad@gamma=0.9@hidden=8x8") == ["pcgrad", "hidden=8x8"]
    COMPONENTS["crop"] = Technique(augment="crop")
    try:
        assert words("crop") == ["crop"]
    finally:
        del COMPONENTS["crop"]


def test_augmentation_is_written_only_where_there_is_some():
    assert "augment" not in "".join(to_dict(make_technique("gar+reg")))
    assert to_dict(Technique(augment="crop"))["augment_share"] == 1.0
    composed = Technique(augment="crop", augment_share=0.5)
    COMPONENTS["crop"] = composed
    try:
        assert make_technique("crop+gar+reg") == dataclasses.replace(
            make_technique("gar+reg"), augment="crop", augment_share=0.5
        )
    finally:
        del COMPONENTS["crop"]
