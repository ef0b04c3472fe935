"""Hyper-parameters in words: alternatives, tuples and ranges."""

import re

import pytest

from jaxgen.study.product import make_study
from jaxgen.study.settings import Range, parse_settings, with_settings


def test_alternatives_make_arms_side_by_side():
    settings = parse_settings(["learning_rate=1e-3,3e-4", "hidden=32x32"])
    assert with_settings(["baseline", "dr"], settings) == [
        "baseline@learning_rate=1e-3@hidden=32x32", "dr@learning_rate=1e-3@hidden=32x32",
        "baseline@learning_rate=3e-4@hidden=32x32", "dr@learning_rate=3e-4@hidden=32x32",
    ]  # fmt: skip
    assert with_settings(["gar"], {}) == ["gar"]


def test_floats_that_differ_are_lanes_of_one_program_and_widths_are_not():
    def programs(*words):
        arms = with_settings(["baseline"], parse_settings(words))
        return len(make_study(["cartpole"], ["ppo"], arms, [0]).groups)

    assert programs("learning_rate=1e-3,3e-4,1e-4") == 1
    assert programs("hidden=32x32,64x64") == 2


def test_the_same_value_in_other_words_is_the_same_run():
    def names(word):
        arms = with_settings(["dr"], parse_settings([word]))
        study = make_study(["cartpole"], ["ppo"], arms, [0])
        return {spec.name for spec, _ in study.lanes}

    assert names("learning_rate=1e-3") == names("learning_rate=.001")


def test_ranges():
    assert parse_settings(["a=.5..2", "b=log:1e-4..1e-2"]) == {
        "a": Range(0.5, 2.0, False), "b": Range(1e-4, 1e-2, True),
    }  # fmt: skip


REFUSED = (
    (["learning_rate"], "'learning_rate' is not allowed; write FIELD=VALUE"),
    (["=1"], "'=1' is not allowed; write FIELD=VALUE"),
    (["a="], "'a=' is not allowed; write FIELD=VALUE"),
    (["a=1", "a=2"], "a is set twice; give all its alternatives at once: a=A,B"),
    (["a=1,,2"], "a = '1,,2' has an empty alternative; write a=A,B"),
    (["a=1,2,1"], "a = '1,2,1' names 1 twice; name each value once"),
    (["a=2..1"], "a = '2..1' is no range; write LOW..HIGH, or log:LOW..HIGH with positive ends"),
    (["a=log:0..1"], "a = 'log:0..1' is no range"),
    (["a=low..high"], "a = 'low..high' is no range"),
    (["a=nan..1"], "a = 'nan..1' is no range"),
    (["a=0..inf"], "a = '0..inf' is no range"),
)


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_what_is_none_of_the_grammar_is_refused(words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_settings(words)


def test_a_range_is_refused_where_no_search_takes_it():
    with pytest.raises(ValueError, match="a has a range, which only a search can take; name the"):
        with_settings(["dr"], {"a": Range(0.0, 1.0, False)})
