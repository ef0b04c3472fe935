"""Keys of compiled programs: arms with the same one share a program."""

import dataclasses

from jaxgen.study.arms import arm_name
from jaxgen.study.config import Config, float_fields
from jaxgen.study.spec import RunSpec
from jaxgen.techniques import STATIC_FIELDS, Rule, Technique


def program_key(config: Config, technique: Technique) -> tuple:
    """All that decides which program is compiled of an arm: equal keys, one program.

    Returns:
      The configuration's class and (name, value) of each static field. The floats of both, which
      are missing, may differ between the lanes of a program.
    """
    floats = float_fields(type(config))
    static = (
        (field.name, getattr(config, field.name))
        for field in dataclasses.fields(config) if field.name not in floats
    )
    return (type(config), *static, *((name, getattr(technique, name)) for name in STATIC_FIELDS))


def differing_fields(keys: set[tuple]) -> list[str]:
    """Names of the static fields in which some keys differ."""
    pairs = {pair for key in keys for pair in key[1:]}
    names = [name for name, _ in pairs]
    several = {name for name in names if names.count(name) > 1}
    return sorted(several) or ["algorithm"]


def program_words(spec: RunSpec) -> list[str]:
    """The difference of an arm's program from the usual one, in words; empty for the usual."""
    technique, floats = spec.technique_values, float_fields(type(spec.shared))
    static = {key: value for key, value in spec.overrides if key not in floats}
    return [
        *([] if technique.rule is Rule.WEIGHTS else [technique.rule.value]),
        *([] if technique.augment == "none" else [technique.augment]),
        *arm_name("", static).split("@")[1:],
    ]
