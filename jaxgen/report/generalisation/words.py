"""Sentences that say what the numbers allow, and no more."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxgen.evaluation.statistics import MARGIN, Interval
from jaxgen.report.generalisation.evidence import (
    ALPHA,
    CORE,
    MIN_SEEDS,
    PRIMARY,
    Comparison,
    Leader,
    Verdict,
    base_of,
    estimate,
    leader,
    presentable,
    values_of,
)
from jaxgen.report.generalisation.prediction import Prediction, Predictor, Transfer
from jaxgen.report.generalisation.settings import own, without_folder
from jaxgen.results.records import Cell
from jaxgen.study.cards import algorithm_title, sentence_title
from jaxgen.study.presets import observes_codes, preset, setups_of

MAX_DETAILED = 6
"""Answers about more comparisons leave the numbers to the tables."""


class Question(NamedTuple):
    """A question that differences between pairs of arms answer; its pairs are one family."""

    title: str
    meaning: str
    """Meaning of the differences."""
    pairs: tuple[tuple[str, str], ...]


AGREEMENT = Question(
    "Does the agreement of gradients help, beyond the data that it needs?",
    "same data, weights by agreement or equal ones: the only difference that can support a claim "
    "about GAR",
    (("gar", "dr"),),
)
STEP = Question(
    "Is it the selection, or the size of the step?",
    "the steps of dr-scaled are as long as gar's, without its selection",
    (("gar", "dr-scaled"),),
)
PLACEBO = Question(
    "Does gar beat a placebo?",
    "samples of gar-shuffle are dealt out anew, so that there is nothing to select",
    (("gar", "gar-shuffle"),),
)
DATA = Question(
    "What does training on several variations give?",
    "the same algorithm, trained on levels 0, .25, .5 or on level 0 alone",
    (("dr", "baseline"),),
)
TOTAL = Question(
    "What does gar give, data included?",
    "the data's part and the agreement's together",
    (("gar", "baseline"),),
)
REG = Question(
    "Does weight decay help?",
    "decoupled weight decay of 1e-4 (reg)",
    (("reg", "baseline"), ("dr+reg", "dr"), ("gar+reg", "gar")),
)
AGREEMENT_REG = Question(
    "Does the agreement help together with weight decay?",
    "as the first question, with reg in both arms",
    (("gar+reg", "dr+reg"),),
)
OFFERED = Question(
    "Do other rules of combining gradients beat their plain mean?",
    "the same data, combined by another rule or by the mean",
    (("gar-n", "dr"), ("pcgrad", "dr"), ("and-mask", "dr"), ("es-gar", "dr")),
)
QUESTIONS = (AGREEMENT, STEP, PLACEBO, DATA, TOTAL, REG, AGREEMENT_REG, OFFERED)


# Numbers


def number(value: float, sign: str = "") -> str:
    """Three digits behind the point; never a negative zero."""
    return f"{round(value, 3) + 0.0:{sign}.3f}"


def interval_text(interval: Interval | None, values: Iterable[float] = (), sign: str = "") -> str:
    """``0.812 [0.790, 0.831]``; of too few seeds their range, ``0.812 (0.7 to 0.9)``."""
    if interval is None:
        return "-"
    text = number(float(interval.estimate), sign)
    if np.isfinite(interval.low):
        return f"{text} [{number(float(interval.low), sign)}, {number(float(interval.high), sign)}]"
    values = list(values)
    if len(values) < 2:
        return text
    return f"{text} ({number(min(values), sign)} to {number(max(values), sign)})"


def p_text(p_value: float | None) -> str:
    """``p = .03``; null where no test was made."""
    if p_value is None:
        return "-"
    return "< .001" if p_value < 0.001 else f"{p_value:.3f}".lstrip("0") or "0"


def score_text(cell: Cell, score: str) -> str:
    """The mean of a score over seeds with its interval or range."""
    values = list(values_of(cell, score).values())
    return interval_text(estimate(values), values)


def difference_text(comparison: Comparison) -> str:
    """``+0.012 [-0.010, +0.035]``, without an interval below `MIN_SEEDS`."""
    if comparison.difference is None:
        return comparison.reason
    difference = comparison.difference
    return interval_text(presentable(difference.interval, difference.num_pairs), sign="+")


def place(algorithm: str, environment: str) -> str:
    """``PPO on CartPole``."""
    return f"{algorithm_title(algorithm)} on {sentence_title(environment)}"


def arm_name(cell: Cell) -> str:
    """``ppo dr+reg``."""
    return f"{cell.algorithm} {cell.arm}"


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listing(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


# Which arm is best


def ranking_words(cells: Sequence[Cell], score: str) -> str:
    """Name the leading arm of one environment and those that keep up with it."""
    comparable, others = _of_one_encoding(cells)
    best = leader(comparable, score)
    environment = cells[0].environment
    title = sentence_title(environment)
    n = len(best.cell.records)
    text = (
        f"On {title}, {arm_name(best.cell)} has the highest mean {score}: "
        f"{score_text(best.cell, score)} over {n} seeds."
    )
    if not best.cell.num_valid():
        text += " None of its runs learned, so this ranks failures."
    if n < MIN_SEEDS:
        text += (
            f" With fewer than {MIN_SEEDS} seeds this describes the runs and decides nothing: any "
            "other arm may be as good or better."
        )
    else:
        text += _company(best)
    if others:
        names = listing(sorted({algorithm_title(cell.algorithm) for cell in others}))
        text += f" Not compared, for another encoding of the observations: {names}."
    return text


def _company(best: Leader) -> str:
    """How the others stand to the leading arm."""
    tied, behind = best.tied, best.behind
    text = ""
    if tied or behind:
        total = len(tied) + len(behind)
        text = f" {total} other arms were compared with it. Behind it: {len(behind)}. Cannot be "
        text += f"distinguished from it: {len(tied)}{_some(tied, ' (', ')')}."
    if best.out_of_reach:
        text += " With so few seeds no test can distinguish any of so many arms from it."
    if best.untested:
        text += f" Not compared, for too few common seeds: {_some(best.untested)}."
    return text


def _some(cells: Sequence[Cell], before: str = "", after: str = "") -> str:
    """The first few names."""
    if not cells:
        return ""
    names = [arm_name(cell) for cell in cells[:MAX_DETAILED]]
    rest = f" and {len(cells) - len(names)} more" if len(cells) > len(names) else ""
    return f"{before}{', '.join(names)}{rest}{after}"


def _of_one_encoding(cells: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """The cells whose networks see the observations in the most common encoding, and the rest."""
    encodings = {cell.name: encoding_of(cell) for cell in cells}
    # Presets and settings are compared where they can be, and never decide what is common.
    names = [encodings[cell.name] for cell in own(cells)]
    common = max(dict.fromkeys(names), key=names.count)
    return (
        [cell for cell in cells if encodings[cell.name] == common],
        [cell for cell in cells if encodings[cell.name] != common],
    )


def encoding_of(cell: Cell) -> str:
    """How the network saw codes of cells; "" where there are none, or where it is not known.

    The run says it. Rows of earlier versions do not: there it is what today's preset says.
    """
    known = cell.environment in setups_of(base_of(cell))
    # A vector of numbers is what it is; scales of it are no other information.
    if not known or not observes_codes(cell.environment):
        return ""
    if encoding := cell.records[0].encoding:
        return encoding
    config = preset(without_folder(cell.records[0].algorithm), cell.environment)
    return getattr(config, "encoding", "one_hot")


# What differences say


def answer(comparisons: Sequence[Comparison]) -> str:
    """The answer of one family of comparisons, of which there are some, by verdict."""
    phrases: dict[Verdict, Callable[[str], str]] = {
        Verdict.LARGER: lambda text: f"Larger than zero: {text}.",
        Verdict.SMALLER: lambda text: f"Smaller than zero: {text}.",
        Verdict.NONE: lambda text: f"No difference larger than {MARGIN:g}: {text}.",
        Verdict.UNDECIDED: lambda text: f"Not decided by these data: {text}.",
        Verdict.FEW: lambda text: (
            f"Described only, for fewer than {MIN_SEEDS} pairs of seeds: {text}."
        ),
        Verdict.FAILED: lambda text: f"Neither arm learned: {text}.",
        Verdict.ABSENT: lambda text: f"Not measured: {text}.",
    }
    parts = []
    for verdict, phrase in phrases.items():
        group = [c for c in comparisons if c.verdict is verdict]
        if group:
            parts.append(phrase(_comparison_texts(group, brief=len(comparisons) > MAX_DETAILED)))
    labels = list(dict.fromkeys(each.label for each in comparisons))
    return f"{', '.join(labels)} on {PRIMARY}. {' '.join(parts)}"


def _comparison_texts(comparisons: Sequence[Comparison], brief: bool) -> str:
    """The comparisons of one verdict, by pair of arms."""
    by_label: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_label.setdefault(comparison.label, []).append(comparison)
    texts = []
    for label, group in by_label.items():
        if brief:
            places = ", ".join(place(each.algorithm, each.environment) for each in group)
            texts.append(f"{label} ({places})")
        else:
            texts += map(_comparison_text, group)
    return "; ".join(texts)


def _comparison_text(comparison: Comparison) -> str:
    label = place(comparison.algorithm, comparison.environment)
    difference, verdict = comparison.difference, comparison.verdict
    if difference is None:
        return f"{label} ({comparison.reason})"
    details = [difference_text(comparison)]
    if verdict in (Verdict.LARGER, Verdict.SMALLER):
        details.append(f"p {_equals(comparison.p_value)}")
        if comparison.p_equivalent is not None and comparison.p_equivalent < ALPHA:
            details.append(f"but less than {MARGIN:g}")
    if verdict is Verdict.UNDECIDED and comparison.detectable is not None:
        details.append(f"smallest detectable difference {number(comparison.detectable)}")
    details.append(f"{difference.num_pairs} pairs")
    return f"{label} ({', '.join(details)})"


def _equals(p_value: float | None) -> str:
    text = p_text(p_value)
    return text if text.startswith("<") else f"= {text}"


def claim(agreement: Sequence[Comparison], step: Sequence[Comparison]) -> str:
    """The places where a claim about the agreement is supported by both differences above zero."""
    scaled = {(each.environment, each.algorithm): each for each in step}
    tested = [comparison for comparison in agreement if comparison.p_value is not None]
    rule = "A claim for GAR needs gar - dr and gar - dr-scaled above zero in the same place."
    if not tested:
        return f"{rule} No place has the {MIN_SEEDS} pairs of seeds that a test needs."
    holds, alone = [], []
    for comparison in tested:
        if comparison.verdict is Verdict.LARGER:
            environment, algorithm = comparison.environment, comparison.algorithm
            other = scaled.get((environment, algorithm))
            supported = other is not None and other.verdict is Verdict.LARGER
            (holds if supported else alone).append(place(algorithm, environment))
    text = f"{rule} It is supported in {len(holds)} of {len(tested)} places"
    text += f": {listing(holds)}." if holds else "."
    if alone:
        text += f" In {listing(alone)} gar is better than dr, but not shown to beat dr-scaled."
    return text


def attribution(
    total: Sequence[Comparison], data: Sequence[Comparison], agreement: Sequence[Comparison]
) -> str:
    """Split what gar gains over the baseline into the data's part and the agreement's."""
    parts = [{(c.environment, c.algorithm): c for c in family} for family in (data, agreement)]
    lines = []
    for comparison in total:
        others = [part.get((comparison.environment, comparison.algorithm)) for part in parts]
        sizes = [
            float(c.difference.interval.estimate)
            for c in (comparison, *others)
            if c is not None and c.difference is not None and c.learned
        ]
        if len(sizes) < 3:
            continue
        whole, *split = (number(value, "+") for value in sizes)
        lines.append(
            f"{place(comparison.algorithm, comparison.environment)} {whole} = {split[0]} (data) "
            f"{split[1][0]} {split[1][1:]} (agreement)"
        )
    if not lines:
        return f"The three arms {', '.join(CORE)} are in no place together."
    return f"gar - baseline on {PRIMARY} splits into: {'; '.join(lines)}."


# What predicts generalisation


def prediction_words(predicted: Sequence[Prediction], transferred: Sequence[Transfer]) -> str:
    """The worth of GAS and of simpler predictors."""
    if not predicted:
        return (
            f"No arm has {MIN_SEEDS} runs with a predictor that varies, so nothing can be said of "
            "what predicts generalisation."
        )
    by_predictor: dict[Predictor, list[Prediction]] = {}
    for prediction in predicted:
        by_predictor.setdefault(prediction.predictor, []).append(prediction)
    gas = next((p for p in by_predictor if p.name in ("GAS, probe", "GAS, training")), None)
    texts = [f"Rank correlations with {PRIMARY} over the seeds of an arm."]
    texts += [_tally(gas, by_predictor[gas])] if gas else []
    forms = {p: group for p, group in by_predictor.items() if p.name.startswith("GAS") and p != gas}
    simpler = {p: group for p, group in by_predictor.items() if not p.name.startswith("GAS")}
    texts += _others("Other forms of GAS", forms) + _others("What is simpler", simpler)
    signs = [v > 0 for each in transferred if each.predictor == gas for v in each.correlations]
    if gas and signs:
        texts.append(
            f"The sign of {gas.name}, taken from the other environments, is right in {sum(signs)} "
            f"of {len(signs)} places."
        )
    return " ".join(texts)


def _others(title: str, groups: Mapping[Predictor, Sequence[Prediction]]) -> list[str]:
    """Predictors whose intervals exclude zero, one sentence each; the others in one together."""
    clear = {p: group for p, group in groups.items() if any(map(_excludes_zero, group))}
    texts = [_tally(predictor, group) for predictor, group in clear.items()]
    rest = [predictor.name for predictor in groups if predictor not in clear]
    if rest:
        texts.append(f"No interval excludes zero for {'; '.join(rest)}.")
    return [f"{title}:", *texts] if texts else []


def _excludes_zero(prediction: Prediction) -> bool:
    return bool(prediction.correlation.low > 0 or prediction.correlation.high < 0)


def _tally(predictor: Predictor, group: Sequence[Prediction]) -> str:
    """The places where the intervals of a predictor exclude zero."""
    parts = []
    for side, sign in (("above", 1), ("below", -1)):
        one_sided = [p for p in group if _excludes_zero(p) and p.correlation.estimate * sign > 0]
        if one_sided:
            names = [f"{place(p.algorithm, p.environment)} ({_rho(p)})" for p in one_sided]
            parts.append(f"{side} zero in {listing(names)}")
    # A sentence begins with a capital, a score keeps its letter.
    score = predictor.name.startswith("s(")
    name = predictor.name if score else predictor.name[0].upper() + predictor.name[1:]
    clear = "; ".join(parts) or "no interval excludes zero"
    places = f"{len(group)} place" + ("s" if len(group) > 1 else "")
    return f"{name} ({places}): {clear}."


def _rho(prediction: Prediction) -> str:
    return number(float(prediction.correlation.estimate), "+")
