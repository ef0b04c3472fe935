"""Reports: what is found is what was planted, and no sentence says more than its evidence."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_document import columns_of
from test_page import Page

from experiments import report
from jaxgen.evaluation.statistics import (
    Interval,
    PairedDifference,
    bootstrap,
    equivalence_test,
    holm,
    sign_flip_test,
)
from jaxgen.report import style
from jaxgen.report.documents.document import Picture, Table, to_markdown, to_text
from jaxgen.report.generalisation import pictures, words
from jaxgen.report.generalisation.evidence import (
    Comparison,
    Verdict,
    arms_of,
    base_of,
    choose,
    compare,
    estimate,
    leader,
    missing_arms,
    ranked,
    values_of,
)
from jaxgen.report.generalisation.findings import Findings, findings_of
from jaxgen.report.generalisation.prediction import (
    PREDICTORS,
    Prediction,
    Predictor,
    Transfer,
    predictions,
    transfers,
)
from jaxgen.report.generalisation.sections import sections
from jaxgen.report.generalisation.tables import cell_table
from jaxgen.report.source import Source, making_of, read_source, write_report
from jaxgen.report.style import QUICK_BANNER
from jaxgen.results.lock import locked
from jaxgen.results.read import read_records
from jaxgen.results.records import Cell, Record
from jaxgen.results.store import open_store
from jaxgen.results.table import CSV_COLUMNS, csv_text, rows
from synthetic_records import make_gas, make_record, make_study

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n\x1a\n"
INTERVAL = re.compile(r"\[[+-]?\d+\.\d")
P_VALUE = re.compile(r"\bp [=<]")


def arm(
    technique: str,
    heights: Iterable[float],
    algorithm: str = "ppo",
    environment: str = "cartpole",
    *,
    seeds: Iterable[int] | None = None,
    diverged: Sequence[int] = (),
    failed: bool = False,
    **options: Any,
) -> list[Record]:
    """Runs of which ``A_ood`` is as given; they learned unless ``failed``."""
    heights = list(heights)
    start = [0.0] * 3 if failed else [0.9, 0.8, 0.7]
    return [
        make_record(algorithm, environment, technique, seed, s=[*start, float(height)] + [height],
                    diverged=seed in diverged, **options)
        for seed, height in zip(seeds or range(len(heights)), heights, strict=True)
    ]  # fmt: skip


def noise(size: int, scale: float, seed: int = 0) -> np.ndarray:
    """Of mean zero."""
    values = scale * np.random.default_rng(seed).normal(size=size)
    return values - values.mean()


def cells_of(*arms: list[Record]) -> list[Cell]:
    return arms_of([record for group in arms for record in group])


def study(*arms: list[Record]) -> Findings:
    return findings_of([record for group in arms for record in group])


def one(comparisons: Sequence[Comparison]) -> Comparison:
    (found,) = comparisons
    return found


def tables(found: Findings) -> dict[str, Table]:
    blocks = [block for section in sections(found) for block in section.blocks]
    return {block.title: block for block in blocks if isinstance(block, Table)}


def as_dicts(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def paragraph(found: Findings, start: str) -> str:
    """The one paragraph of the report that begins so."""
    blocks = [block for section in sections(found) for block in section.blocks]
    (text,) = [block for block in blocks if isinstance(block, str) and block.startswith(start)]
    return text


def labels_of(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


def texts_of(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, not rendered; those made so far."""
    figures: list[Any] = []

    def keep(figure: Any) -> bytes:
        figures.append(figure)
        return PNG

    monkeypatch.setattr(style, "to_png", keep)
    return figures


# Planted effects


BASE = 0.3 + noise(20, 0.03)
DR = BASE + 0.2 + noise(20, 0.02, 1)


@pytest.fixture(scope="module")
def confounded() -> Findings:
    """All that gar gains is the data's."""
    return study(
        arm("baseline", BASE),
        arm("dr", DR),
        arm("gar", DR + noise(20, 0.01, 2)),
        arm("dr-scaled", DR + noise(20, 0.01, 3)),
    )


def attribution_of(found: Findings) -> str:
    return words.attribution(
        *(found.answers[q] for q in (words.TOTAL, words.DATA, words.AGREEMENT))
    )


def claim_of(found: Findings) -> str:
    return words.claim(found.answers[words.AGREEMENT], found.answers[words.STEP])


def test_gain_that_comes_from_data_is_given_to_the_data(confounded):
    text = attribution_of(confounded)
    (parts,) = re.findall(r"PPO on CartPole (\S+) = (\S+) \(data\) ([+-]) (\S+) \(agr", text)
    whole, data, agreement = float(parts[0]), float(parts[1]), float(parts[2] + parts[3])
    assert whole == pytest.approx(0.2, abs=0.001) and data == pytest.approx(0.2, abs=0.001)
    assert agreement == pytest.approx(0, abs=0.001)


def test_gain_that_comes_from_data_supports_no_claim(confounded):
    assert one(confounded.answers[words.AGREEMENT]).verdict is Verdict.NONE
    assert one(confounded.answers[words.TOTAL]).verdict is Verdict.LARGER
    assert "It is supported in 0 of 1 places." in claim_of(confounded)
    assert "Larger" not in words.answer(confounded.answers[words.AGREEMENT])


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_any_mean_around_dr_is_never_called_larger(seed):
    gar = DR + 0.01 * np.random.default_rng(seed).normal(size=20)
    found = one(compare(cells_of(arm("dr", DR), arm("gar", gar)), [("gar", "dr")]))
    assert found.verdict in (Verdict.NONE, Verdict.UNDECIDED)


def test_planted_agreement_is_found_and_its_place_is_named():
    found = study(
        arm("baseline", BASE), arm("dr", DR), arm("dr-scaled", DR),
        arm("gar", DR + 0.15 + noise(20, 0.02, 2)),
    )  # fmt: skip
    assert one(found.answers[words.AGREEMENT]).verdict is Verdict.LARGER
    assert "It is supported in 1 of 1 places: PPO on CartPole." in claim_of(found)
    assert "not shown" not in claim_of(found)
    text = words.answer(found.answers[words.AGREEMENT])
    assert "Larger than zero: PPO on CartPole (+0.150 [" in text


def test_gain_that_equal_steps_have_too_supports_no_claim():
    gar = DR + 0.15 + noise(20, 0.02, 2)
    found = study(arm("dr", DR), arm("gar", gar), arm("dr-scaled", gar + noise(20, 0.01, 3)))
    text = claim_of(found)
    assert "It is supported in 0 of 1 places." in text
    assert "In PPO on CartPole gar is better than dr, but not shown to beat dr-scaled." in text


def test_claim_without_the_control_is_not_supported():
    found = study(arm("dr", DR), arm("gar", DR + 0.15))
    assert "supported in 0 of 1 places" in claim_of(found)
    assert "not shown to beat dr-scaled" in claim_of(found)


def test_effect_in_one_place_is_no_claim_about_another():
    found = study(
        *(arm(name, DR + gain, environment=environment)
          for environment, gains in {"cartpole": (0, 0, 0.15), "minigrid": (0, 0, 0.0)}.items()
          for name, gain in zip(("dr", "dr-scaled", "gar"), gains, strict=True))
    )  # fmt: skip
    assert "supported in 1 of 2 places: PPO on CartPole." in claim_of(found)
    verdicts = {c.environment: c.verdict for c in found.answers[words.AGREEMENT]}
    assert verdicts == {"cartpole": Verdict.LARGER, "minigrid": Verdict.NONE}


# Trouble


@pytest.fixture
def troubled(unpictured) -> Findings:
    """Three seeds; one diverged, one arm is missing, DQN on the grid learned nothing."""
    techniques = ("baseline", "dr", "gar")
    return study(
        *(arm(t, [0.4, 0.5, 0.6], a, e, failed=(a, e) == ("dqn", "minigrid"),
              diverged=[2] if (a, e, t) == ("ppo", "cartpole", "dr") else ())
          for e in ("cartpole", "minigrid") for a in ("ppo", "dqn") for t in techniques
          if (a, e, t) != ("ppo", "minigrid", "gar")),
        arm("baseline", [-0.2, -0.3, -0.4], "es", "minigrid", failed=True, diverged=[0]),
    )  # fmt: skip


def test_limits_name_what_diverged_what_is_missing_and_what_did_not_learn(troubled):
    assert paragraph(troubled, "Diverged runs") == (
        "Diverged runs, counted as failures: ppo dr on cartpole, seed 2; "
        "es baseline on minigrid, seed 0."
    )
    missing = paragraph(troubled, "Missing")
    assert "ppo gar on minigrid: no run" in missing and "dqn" not in missing
    failed = paragraph(troubled, "Arms with runs that did not learn")
    for name in ("dqn baseline", "dqn dr", "dqn gar"):
        assert f"{name} on minigrid (3 of 3)" in failed
    assert "es baseline on minigrid (2 of 3)" in failed and "ppo" not in failed


def test_tables_count_what_diverged_and_what_learned(troubled):
    for title, size in (("CartPole: arms by mean A", 6), ("Grid: arms by mean A", 6)):
        table = as_dicts(tables(troubled)[title])
        assert len(table) == size
        for row in table:
            where = title[:4], row["algorithm"], row["technique"]
            expected = {
                ("Cart", "ppo", "dr"): ("2 of 3", "1"),
                ("Grid", "es", "baseline"): ("0 of 3", "1"),
            }.get(where, ("0 of 3" if where[:2] == ("Grid", "dqn") else "3 of 3", "0"))
            assert (row["n"], row["learned"], row["diverged"]) == ("3", *expected)
            assert (row["grs_n"] == "did not learn") == (expected[0] == "0 of 3")


def test_arm_that_is_missing_and_arms_that_failed_are_no_differences(troubled):
    text = words.answer(troubled.answers[words.AGREEMENT])
    assert "Not measured: PPO on the grid (no runs of gar)" in text
    assert re.search(r"Neither arm learned: DQN on the grid", text)
    grid = as_dicts(tables(troubled)["Grid: what the data and what the agreement add to A_ood"])
    verdicts = {(row["algorithm"], row["difference"]): row["verdict"] for row in grid}
    assert verdicts["dqn", "gar - dr"] == "neither learned"
    assert verdicts["ppo", "dr - baseline"] == "too few pairs"
    absent = [row["mean"] for row in grid if (row["algorithm"], row["n pairs"]) == ("ppo", "0")]
    assert absent == ["no runs of gar"] * 2


def test_few_seeds_have_neither_p_values_nor_intervals(troubled):
    document = sections(troubled, draw=False)
    assert not P_VALUE.search(to_text(document)) and not INTERVAL.search(to_text(document))
    found = [row for table in tables(troubled).values() for row in as_dicts(table) if "p" in row]
    assert found
    assert {row[name] for row in found for name in ("p", "p, equivalence", "detectable")} == {"-"}
    assert "Larger than" not in to_text(document) and "Smaller than" not in to_text(document)


def test_words_say_that_few_seeds_decide_nothing(troubled):
    text = words.ranking_words([c for c in troubled.cells if c.environment == "cartpole"], "A")
    assert "With fewer than 6 seeds this describes the runs and decides nothing" in text
    assert "No place has the 6 pairs of seeds that a test needs." in claim_of(troubled)
    assert "nothing is concluded" in paragraph(troubled, "12 of 12 arms have fewer than 6 seeds")
    assert "nothing can be said" in words.prediction_words(troubled.predictions, [])


def test_diverged_run_counts_as_random_play():
    """Flat curves have A equal to their height: the mean is (.6 + .9 + 0) / 3."""
    records = [
        make_record(seed=0, s=[0.6] * 5), make_record(seed=1, s=[0.9] * 5),
        make_record(seed=2, s=[0.9] * 5, diverged=True),
    ]  # fmt: skip
    (cell,) = arms_of(records)
    assert values_of(cell, "A") == pytest.approx({0: 0.6, 1: 0.9, 2: 0.0})
    assert words.score_text(cell, "A") == "0.500 (0.000 to 0.900)"
    assert words.score_text(cell, "A_ood") == "0.500 (0.000 to 0.900)"
    (row,) = as_dicts(cell_table([cell]))
    assert row["A"] == "0.500 (0.000 to 0.900)" and row["grs_n"].endswith("[2]")


def test_diverged_run_counts_as_the_worst_where_that_is_below_random_play():
    (cell,) = cells_of(arm("dr", [-0.4, -0.1, 0.9], failed=True, diverged=[2]))
    assert values_of(cell, "A_ood") == pytest.approx({0: -0.4, 1: -0.1, 2: -0.4})
    assert values_of(cell, "A") == pytest.approx({0: 0, 1: 0, 2: 0})
    assert values_of(cell, "grs_n") == {}


def test_losing_its_best_seed_never_helps_an_arm():
    heights = [-0.3, 0.1, 0.2, 0.5]
    means = [
        np.mean(list(values_of(one_cell, "A_ood").values()))
        for lost in ([], [3], [2, 3], [1, 2, 3])
        for one_cell in cells_of(arm("dr", heights, diverged=lost))
    ]
    assert means == sorted(means, reverse=True)


def test_diverged_run_is_a_failure_in_differences_too():
    cells = cells_of(arm("dr", [0.5] * 6), arm("gar", [0.5] * 6, diverged=[1]))
    difference = one(compare(cells, [("gar", "dr")])).difference
    assert difference is not None and difference.num_pairs == 6
    assert difference.interval.estimate == pytest.approx(-0.5 / 6)


def test_environment_in_which_every_run_diverged_is_reported(undrawn):
    found = study(*(arm(t, [0.5] * 3, diverged=[0, 1, 2]) for t in ("baseline", "dr")))
    text = to_text(sections(found))
    assert "neither learned" in text and "0.000 (0.000 to 0.000)" in text
    assert {row["grs_n"] for row in as_dicts(cell_table(found.cells))} == {"failed"}
    assert len(undrawn) >= 4


def test_nothing_at_all_is_reported_as_nothing():
    (section,) = sections(findings_of([]))
    assert "nothing to report" in str(section.blocks[0])
    aliases = findings_of([make_record("es", technique="gar")])
    assert "nothing to report" in str(sections(aliases)[0].blocks[0])


def test_one_run_is_a_report(undrawn):
    text = to_text(sections(study([make_record()])))
    assert "1 trained run: 1 arm, 1 seed each" in text and not P_VALUE.search(text)


def test_only_questions_that_were_asked_are_answered(unpictured):
    """Of baseline and dr alone: what their data give, and nothing about gar or weight decay."""
    text = to_text(sections(study(arm("baseline", BASE[:3]), arm("dr", DR[:3]))))
    asked = [question for question in words.QUESTIONS if question.title in text]
    assert asked == [words.DATA]
    for absent in ("GAR", "gar's gain", "No arms", "predict generalisation"):
        assert absent not in text


# Scores


def test_five_seeds_have_a_range_and_six_an_interval():
    heights = [0.31, 0.42, 0.55, 0.47, 0.39, 0.6]
    (five,), (six,) = cells_of(arm("dr", heights[:5])), cells_of(arm("dr", heights))
    assert words.score_text(five, "A_ood") == "0.428 (0.310 to 0.550)"
    found = estimate(values_of(five, "A_ood").values())
    assert found is not None and np.isnan(found.low) and np.isnan(found.high)
    expected = bootstrap([list(values_of(six, "A_ood").values())])
    assert estimate(values_of(six, "A_ood").values()) == expected
    low, high = float(expected.low), float(expected.high)
    assert words.score_text(six, "A_ood") == f"0.457 [{low:.3f}, {high:.3f}]"


def test_no_value_has_no_estimate():
    assert estimate([]) is None
    assert words.interval_text(None) == "-"


def test_numbers_are_never_minus_zero():
    assert words.number(-0.0001) == "0.000" and words.number(-0.0001, "+") == "+0.000"
    assert words.p_text(0.0004) == "< .001" and words.p_text(0.0321) == ".032"
    assert words.p_text(1.0) == "1.000" and words.p_text(None) == "-"


def test_interval_over_environments_needs_seeds_of_the_baseline_too(unpictured):
    found = study(
        *(arm("baseline", BASE[:3], environment=e) for e in ("cartpole", "minigrid")),
        *(arm("dr", DR, environment=e) for e in ("cartpole", "minigrid")),
    )
    baseline, dr = as_dicts(tables(found)["A_ood over 2 environments"])
    assert (baseline["n"], dr["n"]) == ("3+3", "20+20")
    assert not INTERVAL.search(baseline["interquartile mean"])
    assert INTERVAL.search(dr["interquartile mean"])
    assert not INTERVAL.search(dr["P(above baseline)"])


# Differences


def test_parts_add_up_over_the_seeds_that_the_three_arms_share():
    cells = cells_of(
        arm("baseline", BASE[:10]),
        arm("dr", DR[:10], seeds=range(2, 12)),
        arm("gar", 1.1 * DR[5:15], seeds=range(1, 11)),
    )
    total, data, agreement = (
        one(compare(cells, [pair])).difference
        for pair in (("gar", "baseline"), ("dr", "baseline"), ("gar", "dr"))
    )
    assert total and data and agreement
    assert [d.num_pairs for d in (total, data, agreement)] == [8] * 3
    assert total.interval.estimate == pytest.approx(
        data.interval.estimate + agreement.interval.estimate, abs=1e-12
    )
    # baseline has seeds 0 to 9, gar 1 to 10, dr 2 to 11: by hand over 2 to 9.
    expected = np.mean(1.1 * DR[6:14] - BASE[2:10])
    assert total.interval.estimate == pytest.approx(expected)


def test_seeds_of_controls_do_not_shorten_the_parts():
    cells = cells_of(arm("dr", DR), arm("gar", DR + 0.1), arm("dr-scaled", DR[:7]))
    pairs = [("gar", "dr"), ("gar", "dr-scaled")]
    numbers = [c.difference.num_pairs for c in compare(cells, pairs) if c.difference]
    assert numbers == [20, 7]


def test_arms_without_a_common_seed_have_no_difference():
    cells = cells_of(arm("dr", DR[:3]), arm("gar", DR[:3], seeds=[5, 6, 7]))
    found = one(compare(cells, [("gar", "dr")]))
    assert found.difference is None and found.reason == "no seed in common"
    assert found.verdict is Verdict.ABSENT and words.difference_text(found) == found.reason


PLACES = [("ppo", "cartpole"), ("dqn", "cartpole"), ("ppo", "minigrid")]
GAINS = (0.03, 0.012, 0.005)


def family(failed: bool = False) -> tuple[list[Comparison], list[np.ndarray]]:
    """Comparisons of three places, and of another that may have failed; their differences."""
    differences = [gain + noise(10, 0.02, i) for i, gain in enumerate(GAINS)]
    arms = [
        records
        for (algorithm, environment), difference in zip(PLACES, differences, strict=True)
        for records in (arm("dr", DR[:10], algorithm, environment),
                        arm("gar", DR[:10] + difference, algorithm, environment))
    ]  # fmt: skip
    own = noise(10, 0.001, 9) + 0.01
    arms += [
        arm("dr", DR[:10], "dqn", "minigrid", failed=failed),
        arm("gar", DR[:10] + own, "dqn", "minigrid", failed=failed),
    ]
    expected = differences if failed else [*differences, own]
    return compare(cells_of(*arms), [("gar", "dr")]), expected


@pytest.mark.parametrize("failed", [False, True])
def test_p_values_are_those_of_the_family_after_holm(failed):
    found, differences = family(failed)
    places = [*PLACES, *([] if failed else [("dqn", "minigrid")])]
    by_place = {(c.algorithm, c.environment): c for c in found}
    assert len(found) == 4
    for name, test in (("p_value", sign_flip_test), ("p_equivalent", equivalence_test)):
        expected = holm([test(values) for values in differences])
        ours = [getattr(by_place[place], name) for place in places]
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
        assert (np.array(ours) > [0.9 * test(values) for values in differences]).all()


def test_arms_that_did_not_learn_enter_no_family():
    found, _ = family(failed=True)
    (own,) = [c for c in found if (c.algorithm, c.environment) == ("dqn", "minigrid")]
    assert own.verdict is Verdict.FAILED and own.p_value is None and own.p_equivalent is None
    assert not any("DQN on the grid" in text for text in (words.claim(found, []),))


def test_one_arm_that_learned_is_enough_for_a_comparison():
    cells = cells_of(arm("dr", [0.0] * 8, failed=True), arm("gar", DR[:8]))
    assert one(compare(cells, [("gar", "dr")])).verdict is Verdict.LARGER
    assert one(compare(cells, [("dr", "gar")])).verdict is Verdict.SMALLER


def test_pairs_that_were_not_run_or_cannot_be_run_are_not_compared():
    cells = cells_of(
        *(arm(t, DR[:6], a) for a in ("ppo", "es") for t in ("baseline", "dr")),
        arm("pcgrad", DR[:6]),
    )
    labels = [(c.algorithm, c.label) for c in compare(cells, [("pcgrad", "dr"), ("gar", "dr")])]
    assert labels == [("ppo", "pcgrad - dr")]


def test_arm_that_is_here_twice_is_not_taken_once_in_silence():
    """The same setting, another content: neither may stand for the arm unsaid."""
    records = [
        *arm("dr", DR[:6]), *arm("gar", DR[:6] + 0.2), *arm("gar", DR[:6] - 0.2, digest="ffffffff")
    ]  # fmt: skip
    found = findings_of(records)
    silent = found.aside == [] and one(found.answers[words.AGREEMENT]).difference is not None
    assert not silent


# Aliases, settings, quick runs


def test_aliases_are_listed_and_enter_nothing(unpictured):
    found = findings_of(make_study(("cartpole",), seeds=tuple(range(6))))
    assert paragraph(found, "Aliases") == (
        "Aliases, shown in no comparison: es gar on cartpole; es gar+reg on cartpole."
    )
    arms = [(cell.algorithm, cell.arm) for cell in found.cells]
    assert ("es", "gar") not in arms and ("es", "dr") in arms
    compared = {(c.algorithm, c.label) for group in found.answers.values() for c in group}
    assert ("es", "dr - baseline") in compared
    assert not any(algorithm == "es" and "gar" in label for algorithm, label in compared)
    ranking = as_dicts(tables(found)["CartPole: arms by mean A"])
    assert ("es", "gar") not in [(row["algorithm"], row["technique"]) for row in ranking]
    assert "Missing, by what" not in to_text(sections(found))


def test_the_setting_with_most_runs_is_kept_and_the_others_are_named():
    many = arm("dr", DR[:5], total_steps=100, digest="aaaaaaaa")
    few = arm("dr", DR[:3], total_steps=999_999, digest="bbbbbbbb")
    other = arm("dr", DR[:2], "dqn", total_steps=7)
    kept, aside = choose([*few, *many, *other])
    assert sorted(r.name for r in kept) == sorted(r.name for r in [*many, *other])
    assert aside == [f"ppo on cartpole, setting {few[0].setting}: 3 runs"]
    assert aside[0] in paragraph(findings_of([*few, *many, *other]), "Left aside")


def test_full_runs_go_before_quick_ones():
    quick = arm("dr", DR[:9], quick=True, total_steps=384, digest="ffffffff")
    kept, aside = choose([*quick, *arm("dr", DR[:2])])
    assert [r.quick for r in kept] == [False] * 2
    assert aside == [f"ppo on cartpole, setting {quick[0].setting}: 9 runs"]


def test_quick_runs_are_marked_in_words_and_in_every_figure(undrawn):
    quick = study(*(arm(t, DR[:6], quick=True) for t in ("baseline", "dr", "gar")))
    text = to_text(sections(quick))
    assert text.index("QUICK RUNS") < text.index("trained runs")
    assert len(undrawn) >= 6
    unmarked = [i for i, figure in enumerate(undrawn) if QUICK_BANNER not in texts_of(figure)]
    assert unmarked == []


def test_full_runs_are_not_marked(undrawn):
    full = study(*(arm(t, DR[:6]) for t in ("baseline", "dr", "gar")))
    assert "QUICK" not in to_text(sections(full))
    assert not any(QUICK_BANNER in texts_of(figure) for figure in undrawn)


# Ranking


def test_leader_and_its_company_are_named():
    cells = cells_of(
        arm("baseline", BASE), arm("gar", DR + 0.005), arm("dr", DR + noise(20, 0.02, 4)),
        arm("reg", DR[:5] - 0.1),
    )  # fmt: skip
    found = leader(cells, "A_ood")
    assert found.cell.arm == "gar"
    names = [[c.arm for c in group] for group in (found.tied, found.behind, found.untested)]
    assert names == [["dr"], ["baseline"], ["reg"]]
    text = words.ranking_words(cells, "A_ood")
    assert text.startswith("On CartPole, ppo gar has the highest mean A_ood: 0.505 [")
    assert "over 20 seeds" in text and "distinguished from it: 1 (ppo dr)." in text
    assert "Behind it: 1." in text
    assert re.search(r"Not compared, for too few .*: ppo reg\.", text)


def test_leader_that_did_not_learn_is_called_a_failure():
    cells = arms_of([make_record(seed=i, s=[0.01] * 5) for i in range(3)])
    assert "None of its runs learned" in words.ranking_words(cells, "A")
    learned = arms_of([make_record(seed=i) for i in range(3)])
    assert "None of its runs" not in words.ranking_words(learned, "A")


def test_order_of_a_ranking_is_that_of_means():
    cells = cells_of(arm("baseline", BASE), arm("dr", DR), arm("gar", DR[:3] + 0.3))
    assert [cell.arm for cell in ranked(cells, "A_ood")] == ["gar", "dr", "baseline"]
    text = words.ranking_words(cells, "A_ood")
    assert "ppo gar has the highest" in text and "decides nothing" in text
    assert "behind" not in text


def test_company_is_corrected_for_the_number_of_arms():
    """A raw p-value of 2/64 in one of two arms is not below .05 after Holm's correction."""
    cells = cells_of(
        arm("gar", DR[:6] + 0.2), arm("dr", DR[:6]), arm("reg", DR[:6] + 0.1, seeds=range(6))
    )
    assert [c.arm for c in leader(cells, "A_ood").tied] == ["reg", "dr"]
    assert "no test can distinguish any of so many arms" in words.ranking_words(cells, "A_ood")
    alone = cells_of(arm("gar", DR[:6] + 0.2), arm("dr", DR[:6]))
    assert [c.arm for c in leader(alone, "A_ood").behind] == ["dr"]
    assert "no test" not in words.ranking_words(alone, "A_ood")


def test_arm_that_is_ahead_on_the_common_seeds_is_not_behind():
    """The leader's mean is of seeds that the other does not have."""
    low_then_high = [0.0] * 6 + [1.0] * 6
    cells = cells_of(arm("gar", low_then_high), arm("dr", [0.4] * 6))
    found = leader(cells, "A_ood")
    assert found.cell.arm == "gar"
    assert [c.arm for c in found.behind] == []


def test_another_encoding_on_the_grid_is_named_and_not_compared(unpictured):
    found = study(
        *(arm(t, heights, a, "minigrid") for t, heights in (("baseline", BASE[:6]), ("dr", DR[:6]))
          for a in ("ppo", "es")),
        arm("dr", DR[:6] + 0.3, "dqn", "minigrid"),
    )  # fmt: skip
    text = words.ranking_words(found.cells, "A")
    assert text.startswith("On the grid, ppo dr has the highest")
    assert text.endswith("Not compared, for another encoding of the observations: DQN.")
    assert "dqn" not in text
    assert "would compare the encodings too" in paragraph(found, "On the grid the algorithms")


def test_dqn_with_the_common_encoding_or_on_cartpole_is_compared():
    one_hot = cells_of(
        *(arm(t, DR[:6], "ppo", "minigrid") for t in ("dr", "baseline")),
        arm("dr", DR[:6] + 0.3, "dqn-onehot", "minigrid"),
    )
    assert "On the grid, dqn-onehot dr has the highest" in words.ranking_words(one_hot, "A")
    cartpole = cells_of(arm("dr", DR[:6]), arm("dr", DR[:6] + 0.3, "dqn"))
    text = words.ranking_words(cartpole, "A")
    assert "On CartPole, dqn dr has the highest" in text and "encoding" not in text


def test_encoding_and_base_are_those_of_the_run_not_of_a_preset_of_today():
    """The preset of dqn on the grid says unit; a variant that is not registered here has a base."""
    cells = cells_of(arm("dr", DR[:3], "dqn", "minigrid"), arm("dr", DR[:3], "ppo", "minigrid"))
    assert [words.encoding_of(cell) for cell in cells] == ["one_hot", "unit"]
    (record, *_) = arm("dr", DR[:3], "dqn", "minigrid")
    spec: dict[str, Any] = {**record.spec, "config": {"encoding": "raw"}}
    (cell,) = cells_of([record._replace(spec=spec)])
    assert words.encoding_of(cell) == "raw"
    spec |= {"algorithm": "dqn-mine", "base": "dqn"}
    run = {**record.result["run"], "algorithm": "dqn-mine"}
    mine = record._replace(spec=spec, result={**record.result, "run": run})
    assert base_of(cells_of([mine])[0]) == "dqn"


def test_rows_of_earlier_versions_are_looked_up_among_the_presets():
    spec = {"config": None, "encoding": None, "base": None}
    for algorithm, expected in (("dqn", "unit"), ("dqn-onehot", "one_hot"), ("mine", "")):
        (record, *_) = arm("dr", DR[:3], algorithm, "minigrid")
        known = {name: value for name, value in record.spec.items() if name not in spec}
        (cell,) = cells_of([record._replace(spec=known)])
        assert words.encoding_of(cell) == expected
        assert base_of(cell) == ("mine" if algorithm == "mine" else "dqn")


def test_missing_arms_and_seeds_are_found_and_no_other_is_expected():
    cells = cells_of(
        *(arm(t, DR[: 2 if (a, e, t) == ("ppo", "cartpole", "dr") else 3], a, e)
          for a in ("ppo", "es") for e in ("cartpole", "minigrid")
          for t in ("baseline", "dr", "gar")
          if (a, e, t) != ("ppo", "minigrid", "gar")),
        *(arm("es-gar", DR[:3], "es", e) for e in ("cartpole", "minigrid")),
        *(arm("pcgrad", DR[:3], "ppo", e) for e in ("cartpole", "minigrid")),
        arm("baseline", DR[:3], "dqn-onehot", "minigrid"),
    )  # fmt: skip
    assert missing_arms(cells) == [
        "ppo dr on cartpole: 2 of 3 seeds", "ppo gar on minigrid: no run"
    ]  # fmt: skip


# Predictions


PROBE = PREDICTORS[0]


def predicted(
    technique: str, values: Iterable[float], heights: Iterable[float], *places: str, **options: Any
) -> list[Record]:
    """Runs with a planted GAS of the probe and nothing else that varies with the score."""
    records = arm(technique, heights, *places, **options)
    for record, value in zip(records, values, strict=True):
        record.result["gas"]["probe"] = make_gas(float(value))
    return records


def prediction(cells: list[Cell], predictor: Predictor = PROBE) -> Prediction:
    (found,) = [p for p in predictions(cells) if p.predictor == predictor]
    return found


RISING = np.arange(8) / 100


def test_correlation_within_arms_is_found_though_pooled_runs_show_the_opposite():
    arms = (
        predicted("baseline", 1 + RISING, 0.2 + RISING),
        predicted("dr", 0 + RISING, 0.6 + RISING),
    )
    pooled = np.corrcoef(
        [r.result["gas"]["probe"]["raw"] for group in arms for r in group],
        [r.result["scores"]["greedy"]["A_ood"] for group in arms for r in group],
    )
    assert pooled[0, 1] < -0.9
    found = prediction(cells_of(*arms))
    assert found.correlation.estimate == pytest.approx(1)
    assert (found.num_arms, found.num_runs) == (2, 16)


def test_sign_of_a_correlation_is_that_of_the_score_not_of_the_predictor():
    found = prediction(cells_of(predicted("dr", -RISING, 0.5 + RISING)))
    assert found.correlation.estimate == pytest.approx(-1)


def test_arms_are_averaged_not_pooled():
    found = prediction(cells_of(
        predicted("baseline", RISING, 0.2 + RISING), predicted("dr", -RISING, 0.2 + RISING),
        predicted("reg", RISING, 0.2 + RISING),
    ))  # fmt: skip
    assert found.correlation.estimate == pytest.approx(1 / 3)


def test_diverged_runs_and_short_arms_predict_nothing():
    cells = cells_of(
        predicted("baseline", [*RISING, 9.0], [*(0.2 + RISING), 0.0], diverged=[8]),
        predicted("dr", -RISING[:5], 0.5 + RISING[:5]),
        predicted("gar", -RISING, 0.5 + RISING, diverged=[0, 1, 2]),
    )
    found = prediction(cells)
    assert found.correlation.estimate == pytest.approx(1)
    assert (found.num_arms, found.num_runs) == (1, 8)


def test_constant_or_absent_predictors_are_left_out():
    records = predicted("dr", [0.1] * 8, 0.5 + RISING)
    for record in records:
        record.result["gas"]["train"] = None
        record.result["training"]["value_loss_first"] = None
    names = {p.predictor.name for p in predictions(cells_of(records))}
    assert not any(name.startswith("GAS") for name in names)
    assert "value loss, first quarter" not in names and "value loss, last quarter" in names


def test_sign_carries_over_or_it_does_not():
    for sign, expected in ((1, 1), (-1, -1)):
        cells = cells_of(
            predicted("dr", RISING, 0.5 + RISING, "ppo", "cartpole"),
            predicted("dr", sign * RISING, 0.5 + RISING, "ppo", "minigrid"),
        )
        (own,) = [t for t in transfers(predictions(cells)) if t.predictor == PROBE]
        assert own.environments == ("cartpole", "minigrid")
        assert own.correlations == pytest.approx((expected, expected))
        text = words.prediction_words([prediction_in(cells, "cartpole")], [own])
        assert f"is right in {1 + expected} of 2 " in text


def prediction_in(cells: list[Cell], environment: str) -> Prediction:
    return prediction([cell for cell in cells if cell.environment == environment])


def test_one_environment_transfers_nothing():
    assert transfers(predictions(cells_of(predicted("dr", RISING, 0.5 + RISING)))) == []


def test_environments_and_algorithms_are_never_pooled():
    cells = cells_of(
        predicted("dr", RISING, 0.5 + RISING), predicted("dr", -RISING, 0.5 + RISING, "dqn"),
        predicted("dr", -RISING, 0.5 + RISING, "ppo", "minigrid"),
    )  # fmt: skip
    found = {(p.algorithm, p.environment): float(p.correlation.estimate)
             for p in predictions(cells) if p.predictor == PROBE}  # fmt: skip
    assert found == pytest.approx(
        {("ppo", "cartpole"): 1, ("dqn", "cartpole"): -1, ("ppo", "minigrid"): -1}
    )


def made_up(name: str, *intervals: tuple[float, float, float]) -> list[Prediction]:
    (predictor,) = [p for p in PREDICTORS if p.name == name]
    places = [("cartpole", "ppo"), ("cartpole", "dqn"), ("minigrid", "ppo")]
    return [
        Prediction(*place, predictor, Interval(*map(np.array, interval)), 1, 6)
        for place, interval in zip(places, intervals, strict=False)
    ]


def test_words_list_only_intervals_that_exclude_zero():
    text = words.prediction_words(
        [
            *made_up("GAS, probe", (0.5, 0.2, 0.7), (0.3, -0.1, 0.6), (-0.4, -0.6, -0.1)),
            *made_up("value loss, last quarter", (-0.3, -0.5, -0.1)),
            *made_up("gradient norm, first quarter", (0.2, -0.1, 0.4)),
        ],
        [],
    )
    assert "above zero in PPO on CartPole (+0.500); below zero in PPO on the grid (-0.400)" in text
    assert "DQN" not in text
    assert re.search(r"Value loss, last quarter \(1 place\): below zero", text)
    assert "No interval excludes zero for gradient norm, first quarter." in text


def test_words_say_when_no_interval_of_gas_excludes_zero():
    text = words.prediction_words(made_up("GAS, probe", (0.3, -0.1, 0.6)), [])
    assert "GAS, probe" in text and text.endswith("(1 place): no interval excludes zero.")


def test_words_count_each_environment_left_out_once():
    """Two algorithms in two environments are four tries, not four environments."""
    found = made_up("GAS, probe", (0.5, 0.2, 0.7))
    transferred = [Transfer(a, PROBE, ("cartpole", "minigrid"), (0.3, 0.4)) for a in ("ppo", "es")]
    assert "of 4 environments" not in words.prediction_words(found, transferred)


def test_name_of_a_score_keeps_its_letters():
    text = words.prediction_words(
        made_up("s(0), evaluated at level 0", (0.5, 0.2, 0.7)), []
    )
    assert "s(0)" in text and "S(0)" not in text


# Words and verdicts


def difference(
    mean: float, num_pairs: int = 20, detectable: float | None = 0.042
) -> PairedDifference:
    interval = Interval(*map(np.array, (mean, mean - 0.01, mean + 0.02)))
    return PairedDifference(interval, num_pairs, 0.03, 0.5, 0.04, 0.5, detectable)


def comparison(mean: float, p: float | None, q: float | None, **changes: Any) -> Comparison:
    found = Comparison(
        "cartpole", "ppo", "gar", "dr", difference(mean), p_value=p, p_equivalent=q
    )
    return found._replace(**changes)


LARGER = comparison(0.2, 0.001, 1.0)
SMALLER = comparison(-0.2, 0.0002, 1.0)
UNDER = comparison(0.02, 0.01, 0.03)
NONE = comparison(0.005, 0.6, 0.01)
UNDECIDED = comparison(0.04, 0.2, 0.3, detectable=0.042)
FEW = comparison(0.2, None, None, difference=difference(0.2, 5, None))
FAILED = comparison(0.0, None, None, learned=False)
ABSENT = comparison(0.0, None, None, difference=None, reason="no runs of gar")


@pytest.mark.parametrize(
    ("found", "verdict", "text"),
    [
        (LARGER, Verdict.LARGER,
         "Larger than zero: PPO on CartPole (+0.200 [+0.190, +0.220], p = .001, 20 pairs)."),
        (SMALLER, Verdict.SMALLER,
         "Smaller than zero: PPO on CartPole (-0.200 [-0.210, -0.180], p < .001, 20 pairs)."),
        (UNDER, Verdict.LARGER,
         "Larger than zero: PPO on CartPole (+0.020 [+0.010, +0.040], p = .010, but less than "
         "0.05, 20 pairs)."),
        (NONE, Verdict.NONE,
         "No difference larger than 0.05: PPO on CartPole (+0.005 [-0.005, +0.025], 20 pairs)."),
        (UNDECIDED, Verdict.UNDECIDED,
         "Not decided by these data: PPO on CartPole (+0.040 [+0.030, +0.060], smallest "
         "detectable difference 0.042, 20 pairs)."),
        (FEW, Verdict.FEW,
         "Described only, for fewer than 6 pairs of seeds: PPO on CartPole (+0.200, 5 pairs)."),
        (FAILED, Verdict.FAILED, "Neither arm learned: PPO on CartPole ("),
        (ABSENT, Verdict.ABSENT, "Not measured: PPO on CartPole (no runs of gar)."),
    ],
    ids=lambda value: value.name if isinstance(value, Verdict) else "",
)  # fmt: skip
def test_phrase_of_a_verdict(found, verdict, text):
    assert found.verdict is verdict
    assert text in words.answer([found])
    assert words.answer([found]).startswith("gar - dr on A_ood. ")


DECIDED = ("Larger than zero", "Smaller than zero", "No difference larger than")


@pytest.mark.parametrize("found", [UNDECIDED, FEW, FAILED, ABSENT])
def test_what_is_not_decided_is_not_said(found):
    assert not any(phrase in words.answer([found]) for phrase in DECIDED)
    assert not P_VALUE.search(words.answer([found]))


@pytest.mark.parametrize("found", [SMALLER, NONE, UNDECIDED, FEW, FAILED, ABSENT])
def test_only_a_larger_difference_supports_a_claim(found):
    assert "supported in 1" not in words.claim([found], [LARGER])
    assert "supported in 1" not in words.claim([LARGER], [found])
    assert "supported in 1 of 1" in words.claim([LARGER], [LARGER])


def test_many_comparisons_keep_their_verdicts():
    kinds = [LARGER, SMALLER, NONE, UNDECIDED, FEW, FAILED, ABSENT]
    places = [("ppo", "cartpole"), ("dqn", "cartpole"), ("es", "cartpole"), ("ppo", "minigrid"),
              ("dqn", "minigrid"), ("es", "minigrid"), ("ppo", "starpilot")]  # fmt: skip
    found = [
        kind._replace(algorithm=algorithm, environment=environment)
        for kind, (algorithm, environment) in zip(kinds, places, strict=True)
    ]
    text = words.answer(found)
    assert "Larger than zero: gar - dr (PPO on CartPole)." in text
    assert "Smaller than zero: gar - dr (DQN on CartPole)." in text
    assert "No difference larger than 0.05: gar - dr (ES on CartPole)." in text
    assert "Not decided by these data: gar - dr (PPO on the grid)." in text
    assert "Neither arm learned: gar - dr (ES on the grid)." in text
    assert "Not measured: gar - dr (PPO on Starpilot)." in text


def test_detectable_effect_is_never_nothing():
    found = UNDECIDED._replace(difference=difference(0.001, detectable=0.004))
    assert "0.00 would have been found" not in words.answer([found])


def test_difference_of_arms_that_did_not_learn_is_not_attributed():
    three = [[FAILED._replace(first=a, second=b)] for a, b in
             (("gar", "baseline"), ("dr", "baseline"), ("gar", "dr"))]  # fmt: skip
    assert "(data)" not in words.attribution(*three)


def test_names_keep_their_capitals_in_notes(unpictured):
    found = study(arm("dr", DR[:6]), arm("gar", DR[:6]))
    notes = " ".join(tables(found)[words.AGREEMENT.title].notes)
    assert "claim about GAR" in notes


# Figures


@pytest.fixture(scope="module", params=[3, 50])
def cells_by_size(request) -> tuple[int, list[Cell]]:
    return request.param, arms_of(make_study(("cartpole",), seeds=tuple(range(request.param))))


def test_figures_have_a_row_for_every_arm(cells_by_size):
    num_seeds, cells = cells_by_size
    figure = pictures.ranking(cells, "A")
    expected = [f"{c.algorithm} {c.arm}  (n = {num_seeds})" for c in ranked(cells, "A")]
    assert labels_of(figure.axes[0]) == expected and len(expected) == 16
    points = [line for line in lines_of(figure.axes[0]) if line.get_marker() == "|"]
    assert [len(line.get_xdata()) for line in points] == [num_seeds] * 16
    beaten = labels_of(pictures.improvement(cells).axes[0])
    assert sorted(beaten) == sorted(
        f"{c.algorithm} {c.arm}" for c in cells if c.arm != "baseline"
    )


def test_profiles_have_a_line_for_every_arm(cells_by_size):
    _, cells = cells_by_size
    for axis, algorithm in zip(pictures.profiles(cells).axes, ("ppo", "dqn", "es"), strict=True):
        own = [cell.arm for cell in cells if cell.algorithm == algorithm]
        assert [line.get_label() for line in lines_of(axis)] == own
        assert axis.get_title() == algorithm.upper()


def test_intervals_are_drawn_from_six_seeds_on(cells_by_size):
    num_seeds, cells = cells_by_size
    for figure in (pictures.ranking(cells, "A"), pictures.improvement(cells)):
        drawn = [line for line in lines_of(figure.axes[0]) if line.get_label() != "_child0"
                 and len(line.get_xdata()) == 2 and line.get_marker() == "None"
                 and line.get_xdata()[0] != line.get_xdata()[1]]  # fmt: skip
        assert bool(drawn) == (num_seeds >= 6)


def lines_of(axis: Any) -> Any:
    return axis.get_lines()


def test_figure_of_differences_has_a_row_for_each_and_no_interval_of_few():
    figure = pictures.differences([(LARGER, "agreement"), (FEW, "at equal step")])
    expected = [f"ppo: gar - dr ({meaning})" for meaning in ("agreement", "at equal step")]
    assert labels_of(figure.axes[0]) == expected
    lengths = [len(np.atleast_1d(line.get_xdata())) for line in lines_of(figure.axes[0])[1:]]
    assert lengths == [2, 1, 1]


def test_figure_of_a_predictor_has_a_panel_for_every_place():
    cells = arms_of(make_study(seeds=(0, 1, 2)))
    figure = pictures.agreement(cells, PROBE)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [f"{a} on {e}" for e in ("CartPole", "the grid") for a in ("PPO", "DQN", "ES")]
    drawn = [[len(line.get_xdata()) for line in lines_of(axis)] for axis in figure.axes]
    assert drawn == [[3] * 6, [3] * 6, [3] * 4] * 2


def test_figures_without_a_score_are_still_figures():
    cells = cells_of(arm("dr", [0.5] * 3, diverged=[0, 1, 2]), arm("baseline", [0.1] * 3))
    for figure in (pictures.ranking(cells, "A"), pictures.profiles(cells),
                   pictures.improvement(cells), pictures.agreement(cells, PROBE)):  # fmt: skip
        assert style.to_png(figure).startswith(PNG)


# From files to files


PLATFORM = {
    "command": "matrix.py --num-seeds 3", "cpu": "a cpu", "num_cores": 2, "backend": "cpu",
    "python": "3.12.1", "versions": {"jax": "0.9.2", "numpy": "2.3.0"},
}  # fmt: skip


def with_provenance(records: Iterable[Record], **changes: Any) -> list[Record]:
    """As the matrix leaves it: every run of a program has that program's."""
    records = list(records)
    return [
        record._replace(provenance={
            "program": record.provenance["program"],
            "lanes": sum(r.provenance["program"] == record.provenance["program"] for r in records),
            "seconds": {"compile": 9.5, "train": 36.0, "evaluate": 4.5, "probe": 2.0},
            "platform": PLATFORM,
        } | changes)
        for record in records
    ]  # fmt: skip


def results_folder(root: Path, records: Iterable[Record]) -> Path:
    """A results folder as a study leaves it."""
    store = open_store(root)
    with locked(store):
        for record in records:
            store.write_spec(record.name, record.spec)
            if not record.alias_of:
                store.write_result(
                    record.name, record.seed,
                    {k: v for k, v in record.result.items() if k != "schema"},
                    record.load_history(), record.provenance,
                )  # fmt: skip
    return root


def files_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*")) if path.is_file()
    }  # fmt: skip


def small_records() -> list[Record]:
    """PPO and ES with aliases, one diverged run."""
    records = make_study(("cartpole",), ("ppo", "es"), (0, 1))
    return with_provenance([*records, make_record(seed=2, diverged=True)])


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    """A results folder with the report that its command line made."""
    root = results_folder(tmp_path_factory.mktemp("study") / "results", small_records())
    assert report.main([str(root)]) == 0
    return root


def copied(reported: Path, folder: Path) -> Path:
    """The files of the report, elsewhere."""
    for name, data in files_of(reported / "report").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_report_of_a_results_folder_lies_in_it(reported):
    names = set(files_of(reported / "report"))
    figures = {name for name in names if name.startswith("figures/")}
    assert names - figures == {
        "report.md", "report.html", "arms.csv", "arms.tex", "results.csv.gz", "curves.csv.gz",
        "making.json",
    }  # fmt: skip
    stems = ("ranking", "degradation", "learning", "parts", "profiles", "improvement")
    assert figures == {f"figures/cartpole_{stem}.png" for stem in stems}
    assert not [path for path in reported.rglob("*") if "partial" in path.name]


def test_rows_of_a_report_are_the_results_csv_of_its_folder(reported):
    content = gzip.decompress((reported / "report" / "results.csv.gz").read_bytes()).decode()
    records, damaged = read_records(open_store(reported, create=False))
    assert content == csv_text(rows(records)) and damaged == []
    assert content.splitlines()[0] == ",".join(CSV_COLUMNS)


def test_report_made_again_from_its_own_folder_is_the_same_byte_for_byte(reported, tmp_path):
    before = files_of(reported / "report")
    again = copied(reported, tmp_path / "copy")
    assert report.main([str(again)]) == 0
    assert files_of(again) == before
    elsewhere = tmp_path / "elsewhere"
    write_report(read_source(again / "results.csv.gz"), elsewhere)
    assert files_of(elsewhere) == before


def test_report_of_a_plain_csv_has_what_its_rows_have(reported, tmp_path):
    plain = tmp_path / "results.csv"
    plain.write_bytes(gzip.decompress((reported / "report" / "results.csv.gz").read_bytes()))
    assert report.main([str(plain)]) == 0
    ours, theirs = files_of(tmp_path / "report"), files_of(reported / "report")
    unknown = {"making.json", "curves.csv.gz", "figures/cartpole_learning.png"}
    assert ours.keys() == theirs.keys() - unknown
    different = {name for name in ours if ours[name] != theirs[name]}
    assert different == {"report.md", "report.html"}
    assert b"How the results were made" not in ours["report.md"]
    assert b"How the results were made" in theirs["report.md"]


def test_report_takes_nothing_of_an_older_one_in_its_folder(reported, tmp_path):
    plain = tmp_path / "results.csv"
    plain.write_text(csv_text(rows([make_record(seed=i) for i in range(2)])))
    folder = copied(reported, tmp_path / "report")
    assert report.main([str(plain), "-o", str(folder)]) == 0
    assert read_source(folder) == read_source(plain)


def test_page_elsewhere_links_to_the_figures(reported, tmp_path, capsys):
    page, folder = tmp_path / "docs" / "REPORT.md", tmp_path / "out" / "report"
    assert report.main([str(reported), "-o", str(folder), "--page", str(page)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(page), str(folder / "report.html")]
    links = re.findall(r"\]\((\S+\.png)\)", page.read_text())
    assert len(links) == 6 and all((page.parent / link).is_file() for link in links)
    assert links[0] == "../out/report/figures/cartpole_ranking.png"
    assert not (folder / "report.md").exists()
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name]


def test_command_prints_the_files_that_a_reader_opens(reported, tmp_path, capsys):
    folder = tmp_path / "out"
    assert report.main([str(reported), "--out", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(folder / "report.md"), str(folder / "report.html")]
    assert err == ""


def test_damaged_runs_are_named_and_left_out(reported, tmp_path, capsys):
    records = with_provenance(make_record(seed=i) for i in range(2))
    root = results_folder(tmp_path / "results", records)
    (broken,) = root.glob("runs/*/seed_0001/result.json")
    broken.write_bytes(broken.read_bytes().replace(b"done", b"gone"))
    assert report.main([str(root)]) == 0
    err = capsys.readouterr().err
    assert err.startswith("left aside: ") and str(broken) in err
    assert "1 trained run:" in (root / "report" / "report.md").read_text()


def test_pictures_of_a_report_are_images_and_its_page_is_whole(reported):
    folder = reported / "report"
    figures = sorted((folder / "figures").iterdir())
    assert all(figure.read_bytes().startswith(PNG) for figure in figures)
    assert all(figure.read_bytes().endswith(b"IEND\xaeB`\x82") for figure in figures)
    html = (folder / "report.html").read_text()
    assert "http://" not in html and "https://" not in html
    page = Page(html)
    sources = [attributes["src"] for _, attributes in page.tags if "src" in attributes]
    assert len(sources) == len(figures) == page.count("img") == page.count("figure")
    assert all(source is not None and source.startswith("data:image/png") for source in sources)
    markdown = (folder / "report.md").read_text()
    assert markdown.count("\n![") == len(figures)


def test_tables_of_a_report_have_one_width(reported):
    text = (reported / "report" / "report.md").read_text()
    blocks = [b.splitlines() for b in text.split("\n\n") if b.startswith("| ")]
    assert len(blocks) >= 5
    for lines in blocks:
        assert len({columns_of(line) for line in lines}) == 1 and len(lines) > 2


def test_tables_of_arms_lie_beside_a_report(reported):
    body = list(csv.DictReader(io.StringIO((reported / "report" / "arms.csv").read_text())))
    assert [(row["algorithm"], row["technique"], row["n"]) for row in body[:2]] == [
        ("ppo", "baseline", "3"), ("ppo", "reg", "2")
    ]  # fmt: skip
    assert len(body) == 10 and float(body[0]["A_mean"]) > 0
    assert r"\label{tab:arms}" in (reported / "report" / "arms.tex").read_text()


# How the results were made


def test_programs_commands_and_platforms_are_counted_once():
    other = PLATFORM | {"command": "matrix.py --env minigrid"}
    records = [
        *with_provenance(make_record(seed=i) for i in range(3)),
        *with_provenance((make_record("dqn", "minigrid", seed=i) for i in (0, 1)), platform=other),
        *with_provenance([make_record("es", technique="gar")], platform={"command": "alias"}),
    ]
    making = making_of(records)
    assert making["commands"] == ["matrix.py --num-seeds 3", "matrix.py --env minigrid"]
    assert making["platforms"] == [{k: v for k, v in PLATFORM.items() if k != "command"}]
    counts = {name: (own["times"], own["runs"]) for name, own in making["programs"].items()}
    assert counts == {"ppo_cartpole": (1, 3), "dqn_minigrid": (1, 2)}
    assert json.loads(json.dumps(making)) == making


def test_program_that_ran_twice_is_added_up():
    first = with_provenance([make_record()])
    seconds = {"compile": 1.0, "train": 2.0, "evaluate": 3.0}
    again = with_provenance([make_record(seed=3)], seconds=seconds)
    program = making_of([*first, *again])["programs"]["ppo_cartpole"]
    assert program["times"] == 2
    assert program["seconds"]["train"] == first[0].provenance["seconds"]["train"] + 2.0


def test_making_is_in_the_report_and_survives_the_round_trip(reported):
    source = read_source(reported)
    assert source.making == read_source(reported / "report").making
    assert source.making == json.loads((reported / "report" / "making.json").read_text())
    text = (reported / "report" / "report.md").read_text()
    section = text[text.index("## How the results were made") :]
    assert "Commands: `matrix.py --num-seeds 3`." in section
    assert "a cpu, 2 cores, cpu, Python 3.12.1, jax 0.9.2, numpy 2.3.0" in section
    assert "**Programs, 104 seconds in all**" in section
    assert "| ppo_cartpole | 1 | 13 | 10 | 36 | 2 | 4 |" in section


def test_lanes_that_are_not_written_down_are_the_runs_of_the_program():
    """See `jaxgen.results.records` on provenance."""
    records = [r._replace(provenance={k: v for k, v in r.provenance.items() if k != "lanes"})
               for r in with_provenance(make_record(seed=i) for i in range(3))]  # fmt: skip
    assert making_of(records)["programs"]["ppo_cartpole"]["runs"] == 3


def test_provenance_without_a_platform_is_reported_as_not_known(unpictured, tmp_path):
    records = [make_record(seed=i) for i in range(2)]
    source = Source(csv_text(rows(records)), making=making_of(records))
    write_report(source, tmp_path)
    assert "not known" in (tmp_path / "report.md").read_text()


# Bad input


def assert_refused(
    capsys, path: Path, *messages: str, out: Path | None = None, named: Path | None = None
) -> None:
    """One line that names the path, exit code 2, and nothing written."""
    arguments = [str(path), *(["-o", str(out)] if out else [])]
    assert report.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("report.py: ")
    assert captured.err.count("\n") == 1
    for message in (str(named or path), *messages):
        assert message in captured.err
    assert not (path.parent / "report").exists()


def test_path_that_is_not_there_is_refused(capsys, tmp_path):
    message = "give a results folder, a results.csv or .csv.gz"
    assert_refused(capsys, tmp_path / "nowhere", message)
    with pytest.raises(ValueError, match="nowhere"):
        read_source(tmp_path / "nowhere")


def test_folder_of_something_else_is_refused(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    assert_refused(capsys, tmp_path, "so it is no results folder")


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\xff\xfe", b"a,b\n1,2\n", b"", b"{}", b"\0" * 100],
    ids=["png", "csv", "empty", "json", "zeros"],
)
def test_file_that_is_no_results_csv_is_refused(capsys, tmp_path, content):
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    assert_refused(capsys, path)


def test_csv_of_other_columns_is_refused_and_it_is_said_what_to_do(capsys, tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(csv_text(rows([make_record()])).replace("grad_norm_last,", "", 1))
    assert_refused(capsys, path, "write it again with matrix.py --analyze")


def test_damaged_row_is_refused(capsys, tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(csv_text(rows([make_record()])).replace(",0.25,", ",0x25,", 1))
    assert_refused(capsys, path, "line 3")


def compressed() -> bytes:
    return gzip.compress(csv_text(rows([make_record(seed=i) for i in range(3)])).encode(), mtime=0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"no gzip at all",
        lambda data: data[:20] + bytes([data[20] ^ 255]) + data[21:],
        lambda data: data[:-6] + b"\0\0\0\0\0\0",
        lambda data: data[:-4],
    ],
    ids=["half", "other", "flipped", "checksum", "end"],
)
def test_damaged_gzip_is_refused(capsys, tmp_path, damage):
    path = tmp_path / "results.csv.gz"
    path.write_bytes(damage(compressed()))
    assert_refused(capsys, path, "cannot be read")


def test_every_flipped_byte_of_a_gzip_is_refused_or_harmless(tmp_path):
    path, data = tmp_path / "results.csv.gz", compressed()
    text = gzip.decompress(data).decode()
    for i in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x55]) + data[i + 1 :])
        try:
            assert read_source(path).text == text
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("name", ["making.json", "curves.csv.gz"])
def test_damaged_neighbour_of_the_rows_is_refused_by_name(capsys, tmp_path, name):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "results.csv.gz").write_bytes(compressed())
    (folder / name).write_text("{")
    assert_refused(capsys, folder, named=folder / name)


def test_folder_that_cannot_be_written_is_refused(capsys, tmp_path):
    path = tmp_path / "results.csv.gz"
    path.write_bytes(compressed())
    (tmp_path / "file").write_text("")
    assert_refused(capsys, path, out=tmp_path / "file" / "out", named=tmp_path / "file")


# What is imported


IMPORTS_NO_JAX = """
import sys
for name in ("jax", "jaxlib", "flax", "optax", "orbax"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import jaxgen.report.source
assert not any(name.split(".")[0] == "matplotlib" for name in sys.modules), "matplotlib"
from experiments import report
sys.exit(report.main(sys.argv[2:]))
"""


def test_report_imports_no_accelerator_library(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(csv_text(rows([make_record(seed=i) for i in range(2)])))
    process = subprocess.run(
        [sys.executable, "-c", IMPORTS_NO_JAX, str(ROOT), str(path)],
        cwd="/", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "report" / "report.html").is_file()


# The whole document


def test_sections_without_pictures_draw_nothing(undrawn):
    bare = sections(study(arm("baseline", BASE[:6]), arm("dr", DR[:6])), draw=False)
    assert not any(isinstance(block, Picture) for section in bare for block in section.blocks)
    assert undrawn == []


def test_every_table_of_a_document_states_n(unpictured):
    found = findings_of(make_study(seeds=(0, 1, 2)))
    for title, table in tables(found).items():
        states = {"n", "n pairs"} & set(table.header)
        assert states or title.startswith(("Rank correlation", "One environment")), title
        assert all(len(row) == len(table.header) for row in table.rows)


def test_document_is_the_same_whatever_the_order_of_the_records(unpictured):
    records = make_study(algorithms=("ppo", "dqn"), seeds=(0, 1, 2))
    text = to_markdown(sections(findings_of(records)))
    assert to_markdown(sections(findings_of(records[::-1]))) == text


def test_algorithm_that_is_not_known_here_is_reported(unpictured):
    found = study(
        *(arm(t, DR[:6] + gain, "zzz") for t, gain in (("dr", 0), ("gar", 0.2), ("new", 0))),
        arm("dr", DR[:6]),
    )
    text = to_text(sections(found))
    assert "On CartPole, zzz gar has the highest mean A" in text
    assert one([c for c in found.answers[words.AGREEMENT] if c.difference]).algorithm == "zzz"


def test_questions_ask_each_pair_once():
    pairs = [pair for question in words.QUESTIONS for pair in question.pairs]
    assert len(set(pairs)) == len(pairs)
