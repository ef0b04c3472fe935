"""The arms as tables for other programs: numbers as CSV, and a LaTeX table that fits a page."""

from collections.abc import Sequence

import numpy as np

from jaxgen.evaluation import statistics
from jaxgen.evaluation.statistics import Statistic, interquartile_mean
from jaxgen.report.generalisation.evidence import MIN_SEEDS, PRIMARY, estimate, values_of
from jaxgen.report.generalisation.settings import in_panels
from jaxgen.results.records import Cell, arm_order, levels_of
from jaxgen.results.table import table_text
from jaxgen.study.cards import algorithm_title, figure_title

WIDEST = 3
"""Algorithms beside each other in the LaTeX table; others follow below."""
SCORES: dict[str, tuple[str, Statistic]] = {
    "A": ("A", statistics.mean),
    PRIMARY: (PRIMARY, statistics.mean),
    f"{PRIMARY}_iqm": (PRIMARY, interquartile_mean),
    "grs_n": ("grs_n", statistics.mean),
}
"""Columns of the CSV: the score, and what is taken of it over seeds."""


def arms_csv(cells: Sequence[Cell]) -> str:
    """A row per arm, numbers in full precision, nothing where there is no number.

    Of each score there are the mean (of ``_iqm`` the interquartile mean), and ``low`` and ``high``:
    its 95 % interval from `MIN_SEEDS` seeds on, and of fewer seeds the range of the seeds, as
    ``bounds`` says.
    """
    levels = sorted({level for cell in cells for level in levels_of(cell.records)})
    header = [
        "environment", "algorithm", "technique", "n", "learned", "diverged", "env_steps", "bounds",
        *(f"{name}_{end}" for name in SCORES for end in ("mean", "low", "high")), "grs_n_n",
        "return_at_0", *(f"s_at_{level:g}" for level in levels),
    ]  # fmt: skip
    return table_text([header, *(_row(cell, levels) for cell in cells)])


def _row(cell: Cell, levels: Sequence[float]) -> list[str | int]:
    returns, curves = cell.curves(), cell.normalised_curves()
    scores = dict(zip(levels_of(cell.records), curves.mean(0), strict=True)) if len(curves) else {}
    steps = [record.result["env_steps"]["actual"] for record in cell.records]
    numbers = [
        number
        for score, statistic in SCORES.values()
        for number in _bounds(list(values_of(cell, score).values()), statistic)
    ]
    return [
        cell.environment, cell.algorithm, cell.arm, len(cell.records), cell.num_valid(),
        cell.num_diverged, _text(float(np.mean(steps))),
        "95 % interval" if len(cell.records) >= MIN_SEEDS else "range of seeds",
        *map(_text, numbers), len(values_of(cell, "grs_n")),
        _text(float(returns[:, 0].mean()) if len(returns) else None),
        *(_text(scores.get(level)) for level in levels),
    ]  # fmt: skip


def _bounds(values: list[float], statistic: Statistic) -> tuple[float | None, ...]:
    """A statistic of the seeds, and the ends of its interval or of the seeds."""
    interval = estimate(values, statistic)
    if interval is None:
        return None, None, None
    if np.isfinite(interval.low):
        return float(interval.estimate), float(interval.low), float(interval.high)
    return float(interval.estimate), min(values), max(values)


def _text(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def arms_latex(cells: Sequence[Cell]) -> str:
    """A ``table`` of techniques by algorithms for the booktabs package: the primary score.

    Of an algorithm with several arms the highest mean in an environment is bold. Presets and
    settings that were run with one arm stand in lines of their own.
    """
    parts = [
        part
        for environment in dict.fromkeys(cell.environment for cell in cells)
        for part in _environment([cell for cell in cells if cell.environment == environment])
    ]
    lines = [line for part in parts for line in (r"\midrule", *part)][1:]
    columns = max((line.count(" & ") for line in lines), default=1)
    few = any(len(cell.records) < MIN_SEEDS for cell in cells)
    caption = (
        rf"{_escape(PRIMARY)}, the mean score at variation levels .75 and 1: 0 is random play, 1 "
        r"the ceiling. Means over training seeds with 95\,\% bootstrap intervals"
        + (rf", of fewer than {MIN_SEEDS} seeds with their range in parentheses" if few else "")
        + "; bold: the highest mean of an algorithm in an environment."
    )
    return "\n".join([
        r"\begin{table}[t]", r"\centering", r"\small", r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{caption}}}", r"\label{tab:arms}",
        rf"\begin{{tabular}}{{l{'c' * columns}}}",
        r"\toprule", *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def _environment(cells: Sequence[Cell]) -> list[list[str]]:
    """Parts of one environment: a header and lines for at most `WIDEST` algorithms each."""
    wide = in_panels(cells)
    algorithms = list(dict.fromkeys(cell.algorithm for cell in wide))
    title = _escape(figure_title(cells[0].environment))
    by_key = {(cell.algorithm, cell.arm): cell for cell in cells}
    parts = []
    for start in range(0, len(algorithms), WIDEST):
        chosen = algorithms[start : start + WIDEST]
        arms = sorted({cell.arm for cell in wide if cell.algorithm in chosen}, key=arm_order)
        best = {name: _best([cell for cell in wide if cell.algorithm == name]) for name in chosen}
        parts.append([
            _line(title, *(_escape(algorithm_title(name)) for name in chosen)), r"\midrule",
            *(_line(_escape(arm), *(_entry(by_key.get((name, arm)), best[name]) for name in chosen))
              for arm in arms),
        ])  # fmt: skip
    apart = [cell for cell in cells if cell.algorithm not in algorithms]
    if apart:
        parts.append([
            _line(_escape(f"{cell.algorithm}, {cell.arm}"), _entry(cell, None)) for cell in apart
        ])
    return parts


def _line(*entries: str) -> str:
    return " & ".join(entries) + r" \\"


def _best(cells: Sequence[Cell]) -> str | None:
    """The run name of the cell with the highest mean; None of a single one."""
    if len(cells) < 2:
        return None
    return max(cells, key=lambda cell: np.mean(list(values_of(cell, PRIMARY).values()))).name


def _entry(cell: Cell | None, best: str | None) -> str:
    if cell is None:
        return "--"
    values = list(values_of(cell, PRIMARY).values())
    mean, low, high = _bounds(values, statistics.mean)
    assert mean is not None and low is not None and high is not None
    text = f"{mean:.3f}"
    text = rf"\textbf{{{text}}}" if cell.name == best else text
    left, right = "[]" if len(values) >= MIN_SEEDS else "()"
    return rf"{text} {{\scriptsize {left}{low:.3f}, {high:.3f}{right}}}"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def _escape(text: str) -> str:
    """LaTeX of a text."""
    return "".join(_LATEX.get(letter, letter) for letter in text)
