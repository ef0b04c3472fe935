"""The report as a document: every table and figure with its n, every answer with its interval."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jaxgen.report import figures, style
from jaxgen.report.documents.document import Block, Picture, Section, Table
from jaxgen.report.generalisation import pictures, reference, words
from jaxgen.report.generalisation.evidence import (
    MIN_SEEDS,
    PRIMARY,
    Comparison,
    base_of,
    missing_arms,
)
from jaxgen.report.generalisation.findings import RANKING, Findings, Illustrate, have_curves
from jaxgen.report.generalisation.prediction import PREDICTORS
from jaxgen.report.generalisation.settings import in_panels, origins, own
from jaxgen.report.generalisation.tables import (
    DIFFERENCE_HEADER,
    TEST_NOTE,
    cell_table,
    difference_cells,
    mean_return,
    parts_table,
    prediction_table,
    ranking_table,
    setting_differences_table,
    settings_table,
    together_row,
    transfer_tables,
)
from jaxgen.report.generalisation.words import place
from jaxgen.report.shown import budget
from jaxgen.report.summary import unknown_ceiling
from jaxgen.results.records import Cell, algorithm_order, arm_order, levels_of
from jaxgen.study.cards import algorithm_title, figure_title, sentence_title
from jaxgen.study.presets import counting_populations, observes_codes
from jaxgen.study.product import knows_ceiling

TITLES = ("Which training generalises? A report", "Report")
"""The title of a report, and of one without a finished run."""


def sections(findings: Findings, draw: bool = True) -> list[Section]:
    """The document; ``draw``: with its figures, or with their captions alone."""
    if not findings.cells:
        return [Section(TITLES[1], ["No finished run is here, so there is nothing to report."])]
    illustrate, making = _picture if draw else _caption, findings.making or {}
    environments = list(dict.fromkeys(cell.environment for cell in findings.cells))
    by_environment = [
        [cell for cell in findings.cells if cell.environment == name] for name in environments
    ]
    best = [words.ranking_words(cells, RANKING) for cells in by_environment]
    foretold = words.prediction_words(findings.predictions, findings.transfers)
    return [
        _opening(findings, " ".join(best), foretold),
        *(
            _environment(findings, cells, text, illustrate)
            for cells, text in zip(by_environment, best, strict=True)
        ),
        *([_together(by_environment)] if len(by_environment) > 1 else []),
        *_questions(findings),
        *([_prediction(findings, foretold, illustrate)] if findings.predictions else []),
        *_settings(findings, illustrate),
        _limits(findings),
        *([_making(making)] if making.get("programs") else []),
        Section("All arms", [cell_table(findings.cells)], folded=True),
    ]


def _picture(name: str, draw: Callable[[], Any], caption: str) -> Block:
    return Picture(name, style.to_png(draw()), caption)


def _caption(name: str, draw: Callable[[], Any], caption: str) -> Block:
    return caption


# The answers


def _opening(findings: Findings, best: str, foretold: str) -> Section:
    blocks: list[Block] = []
    if any(cell.quick for cell in findings.cells):
        blocks.append("!!! QUICK RUNS ARE AMONG THESE: NOT A RESULT !!!")
    seeds = sorted({len(cell.records) for cell in findings.cells})
    runs = sum(len(cell.records) for cell in findings.cells)
    span = words.counted(seeds[-1], "seed")
    span = span if len(seeds) == 1 else f"{seeds[0]} to {span}"
    arms = words.counted(len(findings.cells), "arm")
    blocks.append(
        f"{words.counted(runs, 'trained run')}: {arms}, {span} each. Scores are those of the "
        "greedy final policy: 0 is random play, 1 the ceiling. A: over all levels of shift; "
        f"{PRIMARY}: levels .75 and 1, on which none of these arms trains. Square "
        f"brackets are 95 % bootstrap intervals over seeds, from {MIN_SEEDS} seeds on; differences "
        "are by seed."
    )
    if name := (findings.making or {}).get("reference"):
        blocks.append(reference.WORDS[name])
    if folders := (findings.making or {}).get("folders"):
        blocks.append(
            f"Several folders are here: {words.listing(folders)}. An algorithm is named with its "
            f"folder behind a colon, as in ppo:{folders[0]}."
        )
    answers = {question: found for question, found in findings.answers.items() if found}
    if len(findings.cells) > 1:
        blocks.append(f"**Which combination generalises best?** {best}")
    blocks += _answered(answers, words.AGREEMENT, words.STEP, words.PLACEBO)
    if words.AGREEMENT in answers:
        claim = words.claim(answers[words.AGREEMENT], answers.get(words.STEP, ()))
        blocks.append(f"**Is a claim for GAR supported?** {claim}")
    blocks += _answered(answers, words.DATA)
    parts = [answers.get(q) for q in (words.TOTAL, words.DATA, words.AGREEMENT)]
    if all(parts):
        split = words.attribution(*(part or () for part in parts))
        blocks.append(f"**How much of gar's gain comes from its data?** {split}")
    blocks += _answered(answers, words.REG, words.OFFERED)
    if findings.predictions:
        title = "Does the agreement of gradients predict generalisation?"
        blocks.append(f"**{title}** {foretold}")
    return Section(TITLES[0], blocks)


def _answered(
    answers: Mapping[words.Question, list[Comparison]], *questions: words.Question
) -> list[str]:
    """The answers to those questions for which there are arms."""
    return [f"**{q.title}** {words.answer(answers[q])}" for q in questions if q in answers]


# One environment


def _environment(
    findings: Findings, cells: list[Cell], best: str, illustrate: Illustrate
) -> Section:
    name = cells[0].environment
    title = figure_title(name)
    panels = in_panels(cells)
    records = [record for cell in panels for record in cell.records]
    unknown = not (findings.making or {}).get("reference") and not knows_ceiling(name)
    blocks: list[Block] = [
        *([unknown_ceiling(name)] if unknown else []),
        best,
        words.ranking_words(cells, PRIMARY),
        ranking_table(cells),
        illustrate(f"{name}_ranking", lambda: pictures.ranking(cells, RANKING),
                   f"{title}: {RANKING} of every arm. Strokes are seeds, points means, lines 95 % "
                   "intervals of the mean."),
        illustrate(f"{name}_degradation", lambda: figures.degradation(records, name),
                   f"{title}: mean return of every arm at each level of shift."),
    ]  # fmt: skip
    if have_curves(cells):
        by_algorithm: dict[str, list[tuple[str, Cell]]] = {}
        for cell in panels:
            title_of = algorithm_title(cell.algorithm)
            by_algorithm.setdefault(title_of, []).append((cell.arm, cell))
        caption = f"{title}: greedy return at level 0 during training, means over seeds."
        blocks.append(
            illustrate(f"{name}_learning", lambda: pictures.learning(by_algorithm), caption)
        )
    parts = _parts(findings, name)
    if parts:
        drawn = [(c, meaning) for c, meaning in parts if c.difference is not None]
        blocks.append(parts_table(title, parts))
        if drawn:
            caption = (
                f"{title}: what the data and what the agreement add to {PRIMARY}, 95 % intervals."
            )
            quick = any(cell.quick for cell in cells)
            blocks.append(
                illustrate(f"{name}_parts", lambda: pictures.differences(drawn, quick), caption)
            )
    caption = f"{title}: performance profiles, the share of runs above each {PRIMARY}."
    blocks.append(illustrate(f"{name}_profiles", lambda: pictures.profiles(panels), caption))
    if any(cell.arm == "baseline" for cell in cells):
        caption = (
            f"{title}: probability that a run of an arm beats one of the same algorithm's baseline "
            f"on {PRIMARY}, ties counted half; 95 % intervals."
        )
        blocks.append(
            illustrate(f"{name}_improvement", lambda: pictures.improvement(cells), caption)
        )
    return Section(title, blocks)


def _parts(findings: Findings, environment: str) -> list[tuple[Comparison, str]]:
    """The terms of the decomposition of one environment, by algorithm."""
    meanings = (
        (words.TOTAL, "data and agreement"),
        (words.DATA, "data"),
        (words.AGREEMENT, "agreement"),
        (words.STEP, "at equal step"),
        (words.PLACEBO, "over placebo"),
    )
    parts = [
        (comparison, meaning)
        for question, meaning in meanings
        for comparison in findings.answers[question]
        if comparison.environment == environment
    ]
    return sorted(parts, key=lambda part: algorithm_order(part[0].algorithm))


# All environments


def _together(by_environment: Sequence[Sequence[Cell]]) -> Section:
    """Scores over environments, each a stratum."""
    arms: dict[tuple[str, str], list[Cell]] = {}
    for cell in (cell for cells in by_environment for cell in cells):
        arms.setdefault((cell.algorithm, cell.arm), []).append(cell)
    whole = {key: cells for key, cells in arms.items() if len(cells) == len(by_environment)}
    order = sorted(whole, key=lambda key: (algorithm_order(key[0]), arm_order(key[1])))
    rows = [together_row(key, whole[key], whole.get((key[0], "baseline"))) for key in order]
    table = Table(
        f"{PRIMARY} over {len(by_environment)} environments",
        ("algorithm", "technique", "n", "interquartile mean", "optimality gap",
         "P(above baseline)"),
        rows,
        ("Every environment is a stratum with the same weight per run; arms that are missing in an "
         "environment are not here. Optimality gap: how far scores stay below 1 on average. "
         "P: averaged over environments.",),
    )  # fmt: skip
    return Section("All environments together", [table])


# Differences and predictions


def _questions(findings: Findings) -> list[Section]:
    blocks: list[Block] = []
    for question, comparisons in findings.answers.items():
        if not comparisons:
            continue
        rows = [
            (place(each.algorithm, each.environment), each.label, *difference_cells(each))
            for each in comparisons
        ]
        header = ("place", "difference", *DIFFERENCE_HEADER)
        note = f"{question.meaning[:1].upper()}{question.meaning[1:]}."
        blocks.append(Table(question.title, header, rows, (note,)))
    title = f"Differences in {PRIMARY}, question by question"
    return [Section(title, [*blocks, TEST_NOTE], folded=True)] if blocks else []


def _prediction(findings: Findings, foretold: str, illustrate: Illustrate) -> Section:
    predicted = findings.predictions
    names = [prediction.predictor.name for prediction in predicted]
    predictor = next(p for p in PREDICTORS if p.name in names)
    cells = own(findings.cells)
    left_out = {cell.algorithm for cell in findings.cells} - {cell.algorithm for cell in cells}
    names_left_out = words.listing(sorted(left_out))
    blocks: list[Block] = [
        foretold,
        *([f"Presets and settings are left out here: {names_left_out}."] if left_out else []),
        prediction_table(predicted), *transfer_tables(findings),
        illustrate("agreement", lambda: pictures.agreement(cells, predictor),
                   f"{predictor.name} of every run against its {PRIMARY}; colours are arms."),
    ]  # fmt: skip
    return Section("Does gradient agreement predict generalisation?", blocks, folded=True)


# Settings


def _settings(findings: Findings, illustrate: Illustrate) -> list[Section]:
    """Presets and settings beside the algorithm that they change, arm by arm."""
    derived = origins(findings.cells)
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in findings.cells:
        origin = derived.get((cell.environment, cell.algorithm))
        if origin is not None:
            groups.setdefault((cell.environment, origin, cell.arm), []).append(cell)
    by_key = {(c.environment, c.algorithm, c.arm): c for c in findings.cells}
    blocks: list[Block] = []
    for environment, origin in dict.fromkeys(key[:2] for key in groups):
        compared = [
            (arm, each) for arm, each in findings.settings
            if (each.environment, each.algorithm) == (environment, origin)
        ]  # fmt: skip
        if compared:
            blocks.append(setting_differences_table(place(origin, environment), compared))
        for key, others in groups.items():
            if key[:2] == (environment, origin):
                cells = [*([by_key[key]] if key in by_key else []), *others]
                blocks += _setting_blocks(key, cells, illustrate)
    folders = "Folders, presets" if (findings.making or {}).get("folders") else "Presets"
    title = f"{folders} and settings of one algorithm"
    return [Section(title, blocks)] if blocks else []


def _setting_blocks(
    key: tuple[str, str, str], cells: Sequence[Cell], illustrate: Illustrate
) -> list[Block]:
    """One arm in an algorithm and in its presets and settings."""
    environment, algorithm, arm = key
    title = f"{place(algorithm, environment)}, {arm}"
    name = "_".join(key).replace(":", "-")
    budgets = [budget([cell]) for cell in cells]
    lines = [
        (cell.algorithm + (f", {steps}" if len(set(budgets)) > 1 else ""), cell)
        for cell, steps in zip(cells, budgets, strict=True)
    ]
    blocks: list[Block] = [
        _setting_words(cells),
        settings_table(title, cells),
        illustrate(f"{name}_presets_shift", lambda: figures.shift(title, lines),
                   f"{title}: mean return at each level of shift, by preset and setting."),
    ]  # fmt: skip
    if have_curves(cells):
        caption = f"{title}: learning curves of the presets and settings, means over seeds."
        draw = partial(pictures.learning, {title: lines})
        blocks.append(illustrate(f"{name}_presets", draw, caption))
    return blocks


def _setting_words(cells: Sequence[Cell]) -> str:
    """The preset or setting with the highest return at level 0."""
    finished = [cell for cell in cells if cell.finished]
    if not finished:
        return "No run of a preset or a setting finished."
    best = max(finished, key=lambda cell: cell.curves()[:, 0].mean())
    return (
        f"{best.algorithm} has the highest mean greedy return at level 0: {mean_return(best)} "
        f"over {len(best.records)} seeds."
    )


# Limits


def _limits(findings: Findings) -> Section:
    cells = findings.cells
    aliases = [r for r in findings.records if r.alias_of]
    names = list(dict.fromkeys(
        f"{r.configured} {r.technique} on {r.environment}" for r in aliases
    ))  # fmt: skip
    diverged = [f"{words.arm_name(cell)} on {r.environment}, seed {r.seed}"
                for cell in cells for r in cell.records if r.diverged]  # fmt: skip
    failed = [
        f"{words.arm_name(cell)} on {cell.environment} ({len(cell.finished) - cell.num_valid()} of "
        f"{len(cell.records)})"
        for cell in cells
        if cell.num_valid() < len(cell.finished)
    ]
    few = [cell for cell in cells if len(cell.records) < MIN_SEEDS]
    blocks: list[Block] = [
        _listed(title, found)
        for title, found in (
            ("Diverged runs, counted as failures", diverged),
            ("Arms with runs that did not learn", failed),
            ("Aliases, shown in no comparison", names),
            ("Missing, by what the other arms have", missing_arms(own(findings.cells))),
            ("Left aside", findings.aside),
        )
        if found
    ]
    if mixed := (findings.making or {}).get("mixed"):
        blocks.append(_listed("Seeds of several versions of code, jaxlib or device", mixed))
    if few:
        blocks.append(
            f"{len(few)} of {len(cells)} arms have fewer than {MIN_SEEDS} seeds: they are "
            "described, and nothing is concluded from them."
        )
    blocks.append(
        "Intervals are too narrow with few seeds. In simulated normal studies with 3, 5, 10 and 20 "
        "seeds a nominal 95 % bootstrap interval held the true mean in 74, 83, 90 and 92 % of the "
        "cases, and the true interquartile mean in 74, 90, 93 and 94 %. The leading arm was chosen "
        "on the data that show it, which flatters it. Corrections are made within a question, not "
        "over all of them."
    )
    blocks += _comparability(cells)
    return Section("What limits this", blocks)


def _listed(title: str, names: Sequence[str]) -> str:
    return f"{title}: {'; '.join(names) or 'none'}."


def _comparability(cells: Sequence[Cell]) -> list[str]:
    texts = []
    for environment in dict.fromkeys(cell.environment for cell in cells):
        if not observes_codes(environment):
            continue
        encodings = {cell.records[0].algorithm: words.encoding_of(cell) for cell in cells
                     if cell.environment == environment}  # fmt: skip
        if len(set(encodings.values())) > 1:
            parts = [f"{algorithm} {encoding}" for algorithm, encoding in encodings.items()]
            texts.append(
                f"On {sentence_title(environment)} the algorithms encode observations differently "
                f"({', '.join(parts)}), so that a comparison between them would compare the "
                "encodings too."
            )
    for name in counting_populations(base_of(cell) for cell in cells):
        texts.append(
            f"{name.upper()} has a budget of its own, counted over its whole population: comparing "
            "it with the others compares budgets too."
        )
    if len({levels_of(cell.records) for cell in cells if cell.finished}) > 1:
        texts.append("Arms were evaluated at different levels.")
    return texts


def _making(making: Mapping[str, Any]) -> Section:
    parts = ("compile", "train", "probe", "evaluate")
    programs = making["programs"]
    rows = [
        (name, str(entry["times"]), str(entry["runs"]),
         *(f"{entry['seconds'].get(part, 0):.0f}" for part in parts))
        for name, entry in programs.items()
    ]  # fmt: skip
    total = sum(sum(entry["seconds"].values()) for entry in programs.values())
    machines = [
        f"{each['cpu']}, {each['num_cores']} cores, {each['backend']}, Python {each['python']}, "
        + ", ".join(f"{name} {version}" for name, version in each["versions"].items())
        for each in making["platforms"]
    ] or ["not known"]
    table = Table(
        f"Programs, {total:.0f} seconds in all",
        ("program", "times", "runs", *(f"{part} s" for part in parts)),
        rows,
    )
    commands = [f"`{command}`" for command in making["commands"]]
    return Section(
        "How the results were made",
        [_listed("Commands", commands), _listed("Machines", machines), table],
        folded=True,
    )
