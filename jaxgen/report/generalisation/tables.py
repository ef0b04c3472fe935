"""Tables of the report."""

from collections.abc import Sequence

import numpy as np

from jaxgen.evaluation.statistics import (
    MARGIN,
    bootstrap,
    interquartile_mean,
    optimality_gap,
    probability_of_improvement,
)
from jaxgen.report.documents.document import Table
from jaxgen.report.generalisation import words
from jaxgen.report.generalisation.evidence import (
    MIN_SEEDS,
    PRIMARY,
    Comparison,
    estimate,
    presentable,
    ranked,
    values_of,
)
from jaxgen.report.generalisation.findings import RANKING, Findings
from jaxgen.report.generalisation.prediction import PREDICTORS, Prediction
from jaxgen.report.generalisation.words import interval_text, number, p_text, place, score_text
from jaxgen.results.records import Cell, levels_of
from jaxgen.study.cards import figure_title


def ranking_table(cells: Sequence[Cell]) -> Table:
    """Arms of an environment, ordered by their mean score."""
    rows = [
        (
            str(rank), cell.algorithm, cell.arm, str(len(cell.records)), _learned(cell),
            str(cell.num_diverged), _env_steps(cell), score_text(cell, "A"),
            score_text(cell, PRIMARY), _retention(cell), mean_return(cell),
        )
        for rank, cell in enumerate(ranked(cells, RANKING), 1)
    ]  # fmt: skip
    title = figure_title(cells[0].environment)
    return Table(
        f"{title}: arms by mean {RANKING}",
        ("rank", "algorithm", "technique", "n", "learned", "diverged", "env steps", "A", PRIMARY,
         "grs_n", "J(0)"),
        rows,
        ("A rank says nothing by itself: neighbours mostly cannot be told apart, see the words "
         "above. A run that diverged counts as 0, as random play, or as the worst of its arm. "
         "Learned: s(0) of at least .1 and a return above random play's by three standard errors; "
         "grs_n, retention alone, is of those runs, [k] of how many.",),
    )  # fmt: skip


def _learned(cell: Cell) -> str:
    return f"{cell.num_valid()} of {len(cell.records)}"


def _retention(cell: Cell) -> str:
    values = list(values_of(cell, "grs_n").values())
    if not values:
        return "did not learn" if cell.finished else "failed"
    count = f" [{len(values)}]" if len(values) < len(cell.records) else ""
    return interval_text(estimate(values), values) + count


def mean_return(cell: Cell) -> str:
    """Mean return at level 0, or why there is none."""
    curves = cell.curves()
    if not len(curves):
        return "failed"
    mean = float(curves[:, 0].mean())
    count = f" [{len(curves)}]" if len(curves) < len(cell.records) else ""
    return (f"{mean:.1f}" if abs(mean) >= 10 else number(mean)) + count


def _env_steps(cell: Cell) -> str:
    steps = [record.result["env_steps"]["actual"] for record in cell.records]
    return f"{np.mean(steps):,.0f}"


def parts_table(title: str, parts: Sequence[tuple[Comparison, str]]) -> Table:
    """The gain of an arm, split into the part of its data and the part of the agreement."""
    rows = [
        (comparison.algorithm, comparison.label, meaning, *difference_cells(comparison))
        for comparison, meaning in parts
    ]
    return Table(
        f"{title}: what the data and what the agreement add to {PRIMARY}",
        ("algorithm", "difference", "measures", *DIFFERENCE_HEADER),
        rows,
        ("gar - baseline = (dr - baseline) + (gar - dr), over the seeds that the three share.",
         TEST_NOTE),
    )  # fmt: skip


def setting_differences_table(title: str, compared: Sequence[tuple[str, Comparison]]) -> Table:
    """The gain of presets and settings over the algorithm that they change, arm by arm."""
    rows = [(each.label, arm, *difference_cells(each)) for arm, each in compared]
    return Table(
        f"{title}: presets and settings beside it, {PRIMARY}",
        ("difference", "technique", *DIFFERENCE_HEADER),
        rows,
        ("Differences are paired by seed, the technique being the same.", TEST_NOTE),
    )


DIFFERENCE_HEADER = (
    "n pairs", "mean", "p", "p, equivalence", "detectable", "pairing r", "verdict"
)  # fmt: skip
TEST_NOTE = (
    "p: sign-flip test of no difference; p, equivalence: small where any difference is "
    f"under {MARGIN:g}. Both are corrected over all places of the same question (Holm). "
    "Detectable: the smallest true difference that a t-test would have found with 80 % power at "
    "the first step of that correction. "
    "Pairing r: correlation of the two arms over seeds."
)


def difference_cells(comparison: Comparison) -> tuple[str, ...]:
    """The cells that describe a difference: seeds, estimate, intervals and tests."""
    difference = comparison.difference
    if difference is None:
        return ("0", comparison.reason, "-", "-", "-", "-", "-")
    return (
        str(difference.num_pairs),
        words.difference_text(comparison),
        p_text(comparison.p_value),
        p_text(comparison.p_equivalent),
        "-" if comparison.detectable is None else number(comparison.detectable),
        "-" if difference.correlation is None else f"{difference.correlation:.2f}",
        comparison.verdict.value,
    )


def together_row(
    key: tuple[str, str], cells: Sequence[Cell], baseline: Sequence[Cell] | None
) -> tuple[str, ...]:
    """An arm over all environments, beside the baseline."""
    strata = [list(values_of(cell, PRIMARY).values()) for cell in cells]
    fewest = min(map(len, strata))
    texts = [
        interval_text(presentable(bootstrap(strata, statistic), fewest))
        for statistic in (interquartile_mean, optimality_gap)
    ]
    beats = "-"
    if baseline is not None and key[1] != "baseline":
        others = [list(values_of(cell, PRIMARY).values()) for cell in baseline]
        interval = probability_of_improvement(strata, others)
        beats = interval_text(presentable(interval, min(fewest, *map(len, others))))
    return (*key, "+".join(map(str, map(len, strata))), *texts, beats)


def prediction_table(predicted: Sequence[Prediction]) -> Table:
    """Rank correlations of every predictor with A_ood, by environment and algorithm."""
    places = list(dict.fromkeys((each.algorithm, each.environment) for each in predicted))
    by_place = {(each.algorithm, each.environment, each.predictor): each for each in predicted}
    rows = []
    for predictor in PREDICTORS:
        row = [by_place.get((*where, predictor)) for where in places]
        if any(row):
            rows.append((predictor.name, "yes" if predictor.early else "no",
                         *("-" if p is None else _correlation(p) for p in row)))  # fmt: skip
    return Table(
        f"Rank correlation with {PRIMARY} over the seeds of an arm, averaged over arms",
        ("predictor", "early", *(place(*where) for where in places)),
        rows,
        ("Spearman's rho with its 95 % interval; (arms, runs). Only arms with at least "
         f"{MIN_SEEDS} runs that differ. One interval in twenty excludes zero by chance alone. "
         "Early: known after a quarter of the training.",),
    )  # fmt: skip


def _correlation(prediction: Prediction) -> str:
    counts = f"({prediction.num_arms}, {prediction.num_runs})"
    return f"{interval_text(prediction.correlation, sign='+')} {counts}"


def transfer_tables(findings: Findings) -> list[Table]:
    """The signs of predictors on one environment, tested on another."""
    environments = list(dict.fromkeys(each.environment for each in findings.predictions))
    rows = [
        (each.algorithm, each.predictor.name, *(number(value, "+") for value in each.correlations),
         f"{sum(value > 0 for value in each.correlations)} of {len(each.correlations)}")
        for each in findings.transfers
        if len(each.correlations) == len(environments)
    ]  # fmt: skip
    if not rows:
        return []
    return [
        Table(
            "One environment left out",
            ("algorithm", "predictor",
             *(figure_title(name) for name in environments), "right"),
            rows,
            ("The correlation in the environment left out, times the sign that the others have on "
             "average: above zero, the sign carries over.",),
        )
    ]  # fmt: skip


def settings_table(title: str, cells: Sequence[Cell]) -> Table:
    """An algorithm, its presets and its settings side by side, greedy and sampled."""
    def at_zero(cell: Cell, mode: str) -> str:
        values = [float(value) for value in cell.curves(mode)[:, :1].ravel()]
        return interval_text(estimate(values), values)

    rows = [
        (cell.algorithm, str(len(cell.records)), _learned(cell), str(cell.num_diverged),
         _env_steps(cell), *(at_zero(cell, mode) for mode in ("greedy", "sampled")),
         score_text(cell, "A"), score_text(cell, PRIMARY))
        for cell in cells
    ]  # fmt: skip
    return Table(
        f"{title}: presets and settings",
        ("algorithm", "n", "learned", "diverged", "env steps", "J(0), greedy", "J(0), sampled", "A",
         PRIMARY),
        rows,
        ("J(0): mean return at level 0 of the runs that did not diverge; the two ways of acting "
         "are compared here and nowhere else.",),
    )  # fmt: skip


def cell_table(cells: Sequence[Cell]) -> Table:
    """A row per arm: for papers, as CSV and LaTeX."""
    rows = []
    for cell in cells:
        curves = cell.normalised_curves()
        levels = levels_of(cell.records)
        means = curves.mean(0) if len(curves) else [np.nan] * len(levels)
        values = list(values_of(cell, PRIMARY).values())
        middle = estimate(values, interquartile_mean)
        rows.append((
            cell.environment, cell.algorithm, cell.arm, str(len(cell.records)),
            _learned(cell), str(cell.num_diverged), score_text(cell, "A"),
            score_text(cell, PRIMARY), interval_text(middle, values), _retention(cell),
            " ".join(number(float(value)) for value in means) or "failed",
        ))  # fmt: skip
    return Table(
        "All arms",
        ("environment", "algorithm", "technique", "n", "learned", "diverged", "A", PRIMARY,
         f"{PRIMARY}, interquartile mean", "grs_n", "mean s at each level"),
        rows,
    )  # fmt: skip
