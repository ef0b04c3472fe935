"""The summary of an experiment, as text or markdown.

Runs that diverged are counted and named, aliases are shown but enter no difference, greedy and
sampled returns never share a table, settings are never pooled, and every table states its n.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from jaxgen.evaluation.scores import integrate
from jaxgen.evaluation.statistics import MIN_PAIRS
from jaxgen.report.differences import Difference, core_arms, decompose
from jaxgen.report.documents.document import Block, Section, Table, to_markdown, to_text
from jaxgen.report.style import FLAG, QUICK_BANNER
from jaxgen.results.read import missing_runs
from jaxgen.results.records import (
    HEADLINE_MODE,
    Cell,
    Record,
    environment_order,
    group_cells,
    levels_of,
    modes_of,
)
from jaxgen.study.cards import sentence_title
from jaxgen.study.product import knows_ceiling

_PARTS_NOTE = (
    "gar - baseline = (dr - baseline) + (gar - dr), paired by the seeds that all arms share. Only "
    "gar - dr can support a claim about the agreement, since gar trains on more variations too."
)
_COMPARED = ("A_ood", "A")
"""Scores of which differences between arms are shown, the primary one first."""


def summary(
    records: Iterable[Record],
    plan: Collection[tuple[str, int]] | None = None,
    *,
    markdown: bool = False,
) -> str:
    """All tables of the records as text, or as markdown.

    Args:
        records: any number, none included.
        plan: (run name, seed) of every run that is expected; None: nothing is known of it.
        markdown: the text for ``experiment_summary.md`` instead of ``.txt``.
    """
    return (to_markdown if markdown else to_text)(sections(records, plan))


def sections(
    records: Iterable[Record], plan: Collection[tuple[str, int]] | None = None
) -> list[Section]:
    """The parts of the summary, before they are text; arguments as in `summary`."""
    cells = group_cells(records)
    present = [record for cell in cells for record in cell.records]
    names = sorted({cell.environment for cell in cells}, key=environment_order)
    return [
        _overview(present, plan),
        Section("How to read this", _reading(present)),
        *(_environment_section([c for c in cells if c.environment == name]) for name in names),
        *_missing_sections(present, plan),
    ]


_READING = (
    "J(v): mean return at variation level v; level 0 is the training environment. "
    "s(v): J(v) scaled so that random play is 0 and the ceiling is 1. "
    "A: integral of clip(s, 0, 1), absolute robustness. A_ood: mean s at .75 and 1, for arms that "
    "train on neither. grs_n: integral of clip(s(v)/s(0), 0, 1), retention alone. "
    "Literal grs: integral of J(v)/J(0), unclipped. About 1 is perfect, about .5 a linear decay, "
    f"under .4 poor. Read it beside A, and never where it is flagged with {FLAG}: that policy did "
    "not learn.",
    "Values are mean +- standard deviation over n training seeds; [k] says that only k of the n "
    "have a value. A diverged run has no value: it is counted, and is a failure of its arm.",
)


def _reading(records: Iterable[Record]) -> list[Block]:
    """Explanations of the scores, as far as they apply."""
    floors = ((r, r.result["references"]["floor"]) for r in records if not r.diverged)
    literal = (
        (record, integrate(levels_of([record]), floor) / floor[0])
        for record, floor in floors
        if floor[0] > 0
    )
    warnings = (
        f"Uniform random play on {sentence_title(record.environment)} scores a literal grs of "
        f"{grs:.2f}."
        for record, grs in literal
        if grs > 1
    )
    return [*_READING, *dict.fromkeys(warnings)]


def _overview(records: list[Record], plan: Collection[tuple[str, int]] | None) -> Section:
    failed = [f"{r.name} seed {r.seed}" for r in records if r.diverged]
    aliases = sum(r.alias_of is not None for r in records)
    blocks: list[Block] = []
    if num_quick := sum(r.quick for r in records):
        blocks.append(f"{QUICK_BANNER} ({num_quick} of {len(records)} runs are quick)")
    expected = "" if plan is None else f" of {len(plan)} planned"
    absent = sum(map(len, missing_runs(records, plan or ()).values()))
    blocks.append(
        f"{len(plan) - absent if plan is not None else len(records)}{expected} runs are here. "
        f"{aliases} of the runs here are aliases, {len(failed)} diverged"
        + (f": {', '.join(failed)}." if failed else ".")
    )
    return Section("Experiment summary", blocks)


def _missing_sections(
    records: list[Record], plan: Collection[tuple[str, int]] | None
) -> list[Section]:
    missing = missing_runs(records, plan or ())
    if not missing:
        return []
    lines = [(name, ", ".join(map(str, seeds))) for name, seeds in missing.items()]
    title = f"{sum(map(len, missing.values()))} planned runs"
    return [Section("Missing", [Table(title, ("run", "seeds"), lines)])]


def _environment_section(cells: list[Cell]) -> Section:
    records = [record for cell in cells for record in cell.records]
    blocks: list[Block] = [QUICK_BANNER] if any(cell.quick for cell in cells) else []
    if any(_several_settings(cells, cell) for cell in cells):
        blocks.append(
            "Runs of several settings are here (other budgets or configurations), marked as "
            "[setting, env steps]. They are never pooled and never compared."
        )
    blocks += _options(records)
    if not knows_ceiling(cells[0].environment):
        blocks.append(unknown_ceiling(cells[0].environment))
    for mode in modes_of(records):
        blocks += [_scores_table(cells, mode), _returns_table(cells, mode)]
        if not knows_ceiling(cells[0].environment):
            blocks.append(_retention_table(cells, mode))
    blocks += [*_decomposition_tables(cells), _training_table(cells)]
    if any(record.result.get("layout_overlap") for record in records):
        blocks.append(_overlap_table(cells))
    return Section(cells[0].environment, blocks)


def _options(records: list[Record]) -> list[Block]:
    """The options of the tasks, where records say them: a paragraph for each set of options."""
    sets = (record.spec.get("task_options") or {} for record in records)
    texts = (", ".join(f"{name} = {value}" for name, value in each.items()) for each in sets)
    return [f"Options of the task: {text}." for text in dict.fromkeys(texts) if text]


def unknown_ceiling(environment: str) -> str:
    """The meaning of scores where nobody knows the best return of a level, in words."""
    return (
        f"Nobody knows the best return on {sentence_title(environment)} under shift. A return "
        "that counts as 1 at every level is no bound: scores compare arms, and say nothing of what "
        "is possible at a level. Returns and J(v)/J(0) need no such number; report.py --reference "
        "specialists has one for each level."
    )


def _scores_table(cells: list[Cell], mode: str) -> Table:
    headline = "headline" if mode == HEADLINE_MODE else "not comparable with the greedy table"
    return Table(
        f"{cells[0].environment}: scores, {mode} ({headline})",
        ("algorithm", "technique", "n", "learned", "diverged", "J(0)", "A", "A_ood", "grs_n",
         "literal grs"),
        [_scores_row(cells, cell, mode) for cell in cells],
        (f"{FLAG} marks a literal value to which a seed contributes that did not learn, or that is "
         "null as J(0) <= 0: no measure of robustness.",),
    )  # fmt: skip


def _scores_row(cells: list[Cell], cell: Cell, mode: str) -> tuple[str, ...]:
    n, learned = len(cell.records), cell.num_valid(mode)
    if not cell.finished:
        values = ("failed",) * 5
    else:
        values = (
            _spread(cell.curves(mode)[:, :1].ravel(), n),
            *(_spread(list(cell.scores(name, mode).values()), n) for name in ("A", "A_ood")),
            _spread(list(cell.scores("grs_n", mode).values()), n) if learned else "did not learn",
            _literal(cell, mode),
        )
    return (
        cell.algorithm,
        _label(cells, cell),
        str(n),
        f"{learned} of {n}",
        str(cell.num_diverged),
        *values,
    )


def _literal(cell: Cell, mode: str) -> str:
    values = list(cell.scores("grs", mode).values())
    flagged = not all(cell.scores("grs_valid", mode).values())
    text = _spread(values, len(cell.records)) if values else "null"
    return f"{text} {FLAG}" if flagged else text


def _returns_table(cells: list[Cell], mode: str) -> Table:
    records = [record for cell in cells for record in cell.records]
    levels = levels_of(records)
    lines = [
        (
            cell.algorithm,
            _label(cells, cell),
            str(len(cell.records)),
            *(
                _spread(column, len(cell.records))
                for column in cell.curves(mode).T.reshape(len(levels), -1)
            ),
        )
        for cell in cells
    ]
    counts_as_one = "ceiling" if knows_ceiling(cells[0].environment) else "counts as 1"
    lines += [
        (title, "", "", *map(_number, curve))
        for title, key in (("random play", "floor"), (counts_as_one, "ceiling"))
        for curve in _references(records, key)
    ]
    return Table(
        f"{cells[0].environment}: returns by level, {mode}",
        ("algorithm", "technique", "n", *(f"J({level:g})" for level in levels)),
        lines,
    )


def _retention_table(cells: list[Cell], mode: str) -> Table:
    levels = levels_of(record for cell in cells for record in cell.records)
    lines = []
    for cell in cells:
        curves = cell.curves(mode).reshape(-1, len(levels))
        positive = curves[curves[:, 0] > 0]
        shares = (positive / positive[:, :1]).T
        each = [_spread(column, len(cell.records)) for column in shares]
        lines.append((cell.algorithm, _label(cells, cell), str(len(cell.records)), *each))
    return Table(
        f"{cells[0].environment}: returns relative to level 0, {mode}",
        ("algorithm", "technique", "n", *(f"J({level:g})/J(0)" for level in levels)),
        lines,
        ("Of seeds with J(0) > 0.",),
    )


def _references(records: list[Record], key: str) -> list[tuple[float, ...]]:
    """The distinct curves of references: one, unless evaluations of several kinds are here."""
    curves = (tuple(r.result["references"][key]) for r in records if not r.diverged)
    return list(dict.fromkeys(curves))


def _decomposition_tables(cells: list[Cell]) -> list[Table]:
    lines = [row for group in _settings(cells) for row in _difference_rows(cells, group)]
    if not lines:
        return []
    notes = [_PARTS_NOTE] if "gar" in {cell.arm for cell in cells} else []
    fewest = min(len(cell.records) for cell in cells)
    if fewest < MIN_PAIRS:
        notes.append(
            f"Means and standard deviations, no tests: n = {fewest} is descriptive only. At 3 "
            "seeds a nominal 95 % bootstrap interval covers the mean only about 74 % of the time."
        )
    return [Table(
        f"{cells[0].environment}: what the data and what the agreement add (greedy, by seed)",
        ("algorithm", "difference", "measures", "n pairs", *_COMPARED),
        lines,
        tuple(notes),
    )]  # fmt: skip


def _difference_rows(cells: list[Cell], group: list[Cell]) -> list[tuple[str, ...]]:
    """Rows of the cells of one algorithm and setting."""
    arms = {cell.arm: cell for cell in group}
    mark = _setting_mark(cells, group[0])
    if len(arms) < len(group):
        blanks = ("-",) * len(_COMPARED)
        return [(group[0].algorithm, "none" + mark, "an arm is here twice", "0", *blanks)]
    return [
        _difference_row(group[0].algorithm, mark, difference)
        for suffix in ("", "+reg")
        for difference in decompose(arms, suffix, _COMPARED)
        if len(arms.keys() & set(core_arms(suffix))) > 1
        and set(difference.label.split(" - ")) <= {cell.arm for cell in cells}
    ]


def _difference_row(algorithm: str, mark: str, difference: Difference) -> tuple[str, ...]:
    values = [difference.values.get(name, np.empty(0)) for name in _COMPARED]
    return (
        algorithm,
        difference.label + mark,
        difference.meaning,
        "/".join(map(str, sorted({len(value) for value in values}))),
        *(_spread(v, len(v), "+") if len(v) else difference.reason or "-" for v in values),
    )


def _training_table(cells: list[Cell]) -> Table:
    return Table(
        f"{cells[0].environment}: training",
        ("algorithm", "technique", "n", "env steps", "agree_pair", "agree_ref",
         "skipped updates", "weight shrink"),
        [_training_row(cells, cell) for cell in cells],
        ("agree_pair: mean cosine between the gradients of two variations; agree_ref: mean of "
         "max(0, cosine with their mean), .577 for independent noise. Env steps: trained of "
         "requested, per run, the whole population counted. Weight shrink: total shrink of the "
         "weights by reg over a whole training.",),
    )  # fmt: skip


def _training_row(cells: list[Cell], cell: Cell) -> tuple[str, ...]:
    n = len(cell.records)

    def values(name: str) -> list[float]:
        numbers = [(r.result["training"] or {}).get(name) for r in cell.finished]
        return [value for value in numbers if value is not None]

    return (
        cell.algorithm,
        _label(cells, cell),
        str(n),
        _env_steps(cell),
        _spread(values("agree_pair"), n),
        _spread(values("agree_ref"), n),
        f"{sum(values('skipped_updates')):g} of {sum(values('updates')):.0f}",
        _small(values("weight_shrink")),
    )


def _overlap_table(cells: list[Cell]) -> Table:
    levels = levels_of(record for cell in cells for record in cell.records)
    lines = []
    for cell in cells:
        overlaps = [x for x in (r.result.get("layout_overlap") for r in cell.finished) if x]
        if overlaps:
            shares = (_small(column) for column in zip(*overlaps, strict=True))
            lines.append((cell.algorithm, _label(cells, cell), str(len(overlaps)), *shares))
    return Table(
        f"{cells[0].environment}: layouts of evaluation that occurred in training",
        ("algorithm", "technique", "n", *(f"v = {level:g}" for level in levels)),
        lines,
        ("Share of the evaluation layouts, mean over the n runs that measured it.",),
    )


# Cells of text


def _label(cells: list[Cell], cell: Cell) -> str:
    alias = f" (= {cell.alias_of})" if cell.alias_of else ""
    quick = " [quick]" if cell.quick else ""
    return cell.arm + alias + quick + _setting_mark(cells, cell)


def _setting_mark(cells: list[Cell], cell: Cell) -> str:
    if not _several_settings(cells, cell):
        return ""
    twice = sum(_same_arm(c, cell) and c.setting == cell.setting for c in cells) > 1
    steps = cell.records[0].result["env_steps"]["requested"]
    return f" [{cell.digest[:4] if twice else cell.setting}, {steps}]"


def _settings(cells: list[Cell]) -> list[list[Cell]]:
    """Cells by algorithm and setting: what may be compared."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.algorithm, cell.setting), []).append(cell)
    return list(groups.values())


def _several_settings(cells: list[Cell], cell: Cell) -> bool:
    same = [c for c in cells if c.algorithm == cell.algorithm]
    return len({c.setting for c in same}) > 1 or any(
        c is not cell and _same_arm(c, cell) for c in same
    )


def _same_arm(one: Cell, other: Cell) -> bool:
    return (one.algorithm, one.arm) == (other.algorithm, other.arm)


def _env_steps(cell: Cell) -> str:
    steps = [r.result["env_steps"] for r in cell.records]
    actual = sorted({step["actual"] for step in steps})
    trained = f"{actual[0]}" if len(actual) == 1 else f"{actual[0]}-{actual[-1]}"
    return f"{trained} of {steps[0]['requested']}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.{1 if abs(value) >= 10 else 3}f}"


def _spread(values: Sequence[float] | np.ndarray, total: int, sign: str = "") -> str:
    """Mean +- standard deviation, and [k] where only k of ``total`` seeds have a value."""
    if not len(values):
        return "-"
    mean = float(np.mean(values))
    digits = 1 if abs(mean) >= 10 else 3
    spread = f" +- {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    count = f" [{len(values)}]" if len(values) != total else ""
    return f"{mean:{sign}.{digits}f}{spread}{count}"


def _small(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2g}" if len(values) else "-"
