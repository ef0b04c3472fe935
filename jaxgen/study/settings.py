"""Hyper-parameters in words: one grammar for command lines, files and searches.

``learning_rate=1e-3`` sets a field of the configuration; commas are alternatives
(``learning_rate=1e-3,3e-4``), an ``x`` joins the whole numbers of a tuple (``hidden=128x128``), and
``1e-4..1e-2`` is a range, searched evenly, or by its logarithm: ``log:1e-4..1e-2``.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from jaxgen.system.errors import BadInput

LOG = "log:"


class Range(NamedTuple):
    """All numbers between two ends."""

    low: float
    high: float
    log: bool
    """Even in the logarithm."""


Choice = list[str] | Range
"""Alternatives as they were written, or a range."""


def parse_settings(words: Iterable[str]) -> dict[str, Choice]:
    """Read ``FIELD=VALUE`` words: the values of each field.

    Raises:
      BadInput: a word is none of the grammar, a field or an alternative is given twice, or a range
        is empty.
    """
    settings: dict[str, Choice] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not (key and sign and text):
            raise BadInput(
                f"{word!r} is not allowed; write FIELD=VALUE, as in learning_rate=1e-3, or with "
                "alternatives learning_rate=1e-3,3e-4"
            )
        if key in settings:
            raise BadInput(f"{key} is set twice; give all its alternatives at once: {key}=A,B")
        settings[key] = _choice(key, text)
    return settings


def with_settings(arms: Sequence[str], settings: Mapping[str, Choice]) -> list[str]:
    """Arms in words, each with every combination of the alternatives; the first field outermost.

    Raises:
      BadInput: a field has a range, of which arms cannot be made.
    """
    for key, choice in settings.items():
        if isinstance(choice, Range):
            raise BadInput(
                f"{key} has a range, which only a search can take; name the values: {key}="
                f"{choice.low:g},{choice.high:g}"
            )
    named = [[f"@{key}={value}" for value in choice] for key, choice in settings.items()]
    return [arm + "".join(words) for words in product(*named) for arm in arms]


def _choice(key: str, text: str) -> Choice:
    if ".." in text:
        return _range(key, text)
    alternatives = text.split(",")
    if not all(alternatives):
        raise BadInput(f"{key} = {text!r} has an empty alternative; write {key}=A,B")
    for value in alternatives:
        if alternatives.count(value) > 1:
            raise BadInput(f"{key} = {text!r} names {value} twice; name each value once")
    return alternatives


def _range(key: str, text: str) -> Range:
    log = text.startswith(LOG)
    low, _, high = text.removeprefix(LOG).partition("..")
    try:
        ends = Range(float(low), float(high), log)
    except ValueError:
        ends = None
    least = 0.0 if log else -float("inf")
    if ends is None or not least < ends.low < ends.high < float("inf"):
        raise BadInput(
            f"{key} = {text!r} is no range; write LOW..HIGH, or log:LOW..HIGH with positive ends"
        )
    return ends
