"""Presets and settings: each an algorithm of its own, beside the one that it changes."""

import csv
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from test_report import BASE, DR, arm, as_dicts, cells_of, noise, one, study, tables

from jaxgen.report import figures, style
from jaxgen.report.documents.document import to_text
from jaxgen.report.generalisation import words
from jaxgen.report.generalisation.evidence import Verdict, compare, missing_arms
from jaxgen.report.generalisation.findings import findings_of
from jaxgen.report.generalisation.sections import sections
from jaxgen.report.generalisation.settings import compare_settings, in_panels, origins, own
from jaxgen.report.summary import summary
from jaxgen.results.records import Record, group_cells
from jaxgen.results.settings import settings_text
from jaxgen.results.table import csv_text, read_csv, rows
from synthetic_records import make_record, with_overrides

WIDE = "ppo@hidden=128x128"


def changed(records: Iterable[Record], **overrides: Any) -> list[Record]:
    return [with_overrides(record, **overrides) for record in records]


def wide(technique: str, heights: Iterable[float]) -> list[Record]:
    """Runs of PPO with another network."""
    return changed(arm(technique, heights), hidden=[128, 128])


@pytest.fixture
def both() -> list[list[Record]]:
    """In the wide setting dr gains .3, in the usual one .2; there the baseline is .1 better."""
    return [
        arm("baseline", BASE), arm("dr", DR), wide("baseline", BASE + 0.1),
        wide("dr", BASE + 0.4 + noise(20, 0.02, 4)),
    ]  # fmt: skip


def test_setting_is_an_algorithm_whose_arms_are_techniques(both):
    cells = cells_of(*both)
    assert [(cell.algorithm, cell.arm) for cell in cells] == [
        ("ppo", "baseline"), ("ppo", "dr"), (WIDE, "baseline"), (WIDE, "dr"),
    ]  # fmt: skip


def test_setting_survives_a_table(both):
    records = [record for group in both for record in group]
    names = [(cell.algorithm, cell.arm) for cell in group_cells(records)]
    back = group_cells(read_csv(csv_text(rows(records))))
    assert [(cell.algorithm, cell.arm) for cell in back] == names


def test_a_table_says_what_each_setting_is(both):
    """A row per run, with what differs as ``--set`` takes it."""
    table = list(csv.DictReader(settings_text(r for group in both for r in group).splitlines()))
    assert {(row["technique"], row["hidden"]) for row in table} == {
        (name, hidden) for name in ("baseline", "dr") for hidden in ("", "128x128")
    }  # fmt: skip
    assert len({row["run"] for row in table}) == 4
    assert all(row["num_seeds"] == "20" and row["evaluation.levels"] for row in table)


def test_what_predicts_generalisation_names_what_it_leaves_out(both):
    found = findings_of([record for group in both for record in group])
    text = to_text(sections(found, draw=False))
    assert ("Presets and settings are left out here: " + WIDE in text) == bool(found.predictions)


def test_alias_of_a_setting_names_the_technique():
    records = changed([make_record("es"), make_record("es", technique="gar")], sigma=1e-05)
    spec = dict(records[1].spec) | {"alias_of": records[0].name}
    (_, alias) = group_cells([records[0], records[1]._replace(spec=spec)])
    assert (alias.algorithm, alias.arm, alias.alias_of) == ("es@sigma=1e-05", "gar", "baseline")


def test_arms_are_compared_within_each_setting(both):
    found = compare(cells_of(*both), [("dr", "baseline")])
    gains = {c.algorithm: float(c.difference.interval.estimate) for c in found if c.difference}
    assert gains == pytest.approx({"ppo": 0.2, WIDE: 0.3}, abs=1e-6)


def test_settings_are_compared_with_their_algorithm_arm_by_arm_and_by_seed(both):
    (first, base), (second, dr) = compare_settings(cells_of(*both))
    assert (first, second) == ("baseline", "dr")
    assert base.label == f"{WIDE} - ppo" and base.environment == "cartpole"
    assert base.difference is not None and dr.difference is not None
    # By seed, so that a constant gain has no spread.
    interval = base.difference.interval
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((0.1,) * 3)
    assert dr.difference.interval.estimate == pytest.approx(0.2, abs=1e-6)
    assert base.verdict is dr.verdict is Verdict.LARGER


def test_settings_are_in_the_ranking_the_claims_and_a_section(both, unpictured):
    gar = [arm("gar", DR + 0.1), wide("gar", DR), wide("dr-scaled", DR), arm("dr-scaled", DR)]
    found = study(*both, *gar)
    ranking = as_dicts(tables(found)["CartPole: arms by mean A"])
    assert [row["algorithm"] for row in ranking].count(WIDE) == 4
    text = to_text(sections(found))
    assert "PPO@hidden=128x128 on CartPole (" in text
    table = as_dicts(tables(found)["PPO on CartPole: presets and settings beside it, A_ood"])
    assert [(row["difference"], row["technique"]) for row in table] == [
        (f"{WIDE} - ppo", name) for name in ("baseline", "dr", "gar", "dr-scaled")
    ]  # fmt: skip
    assert table[0]["mean"] == "+0.100 [+0.100, +0.100]"


def test_summary_takes_differences_within_each_setting(both):
    text = summary([record for group in both for record in group])
    lines = [line.split() for line in text.splitlines() if "dr - baseline" in line]
    assert [line[0] for line in lines if line[0].startswith("ppo")] == ["ppo", WIDE]


def test_few_arms_of_a_setting_are_not_called_missing():
    cells = cells_of(arm("baseline", BASE), arm("dr", DR), wide("dr", DR[:3]))
    labels = [(c.algorithm, c.label) for c in compare(cells, [("dr", "baseline")])]
    assert labels == [("ppo", "dr - baseline")]
    assert not missing_arms(own(cells))


def test_origin_is_the_algorithm_the_preset_or_the_first_of_its_kind():
    def found(*names: str) -> dict[str, str]:
        groups = []
        for name in names:
            base, _, value = name.partition("@lr=")
            records = arm("dr", DR[:6], base)
            groups.append(changed(records, lr=value) if value else records)
        return {algorithm: origin for (_, algorithm), origin in origins(cells_of(*groups)).items()}

    assert found("dqn", "dqn+", "dqn@lr=1", "dqn+@lr=1") == {
        "dqn+": "dqn", "dqn@lr=1": "dqn", "dqn+@lr=1": "dqn+",
    }  # fmt: skip
    assert found("dqn@lr=1", "dqn@lr=2") == {"dqn@lr=2": "dqn@lr=1"}
    assert found("dqn+") == {} and found("ppo", "dqn+") == {}


def test_presets_beside_their_algorithm_are_in_its_ranking(unpictured):
    found = study(arm("dr", DR[:6], "dqn"), arm("dr", DR[:6] + 0.3, "dqn-gamma95"))
    assert [cell.algorithm for cell in found.cells] == ["dqn", "dqn-gamma95"]
    assert "dqn-gamma95 dr has the highest" in words.ranking_words(found.cells, "A")
    assert one([each for _, each in found.settings]).label == "dqn-gamma95 - dqn"
    alone = study(arm("dr", DR[:6], "dqn-onehot"))
    assert [cell.algorithm for cell in alone.cells] == ["dqn-onehot"] and not alone.settings


def test_presets_do_not_decide_which_encoding_is_common():
    heights = np.linspace(0.4, 0.5, 6)
    cells = cells_of(
        *(arm(name, heights, environment="minigrid") for name in ("baseline", "dr")),
        *(arm("baseline", heights, name, "minigrid") for name in ("dqn", "dqn+", "dqn-nstep3")),
    )
    assert "Not compared, for another encoding of the observations: DQN" in (
        words.ranking_words(cells, "A")
    )


def test_presets_predict_nothing_where_their_algorithm_does(unpictured):
    found = study(arm("dr", DR[:6], "dqn"), arm("dr", DR[:6] + 0.3, "dqn-gamma95"))
    assert {each.algorithm for each in found.predictions} == {"dqn"}


def test_a_preset_with_one_arm_has_no_panel_beside_its_algorithm(both):
    cells = cells_of(*both, arm("dr", DR, "ppo-published"))
    assert {cell.algorithm for cell in in_panels(cells)} == {"ppo", WIDE}


def test_presets_and_settings_have_a_section_of_their_own():
    records = [
        make_record(name, "minigrid", seed=i, s=[level] * 5)
        for name, level in (("dqn", 0.3), ("dqn-gamma95", 0.9), ("dqn-onehot", 0.2))
        for i in range(6)
    ]
    document = sections(findings_of(records), draw=False)
    (presets,) = [section for section in document if section.title.startswith("Presets")]
    text = to_text([presets])
    assert "dqn-gamma95 has the highest mean greedy return" in text
    assert "specification" not in text.lower()
    title = "DQN on the grid, baseline: presets and settings"
    table = as_dicts(tables(findings_of(records))[title])
    assert [row["algorithm"] for row in table] == ["dqn", "dqn-gamma95", "dqn-onehot"]


def test_budgets_that_differ_are_named_at_the_lines(monkeypatch):
    drawn: list[list[str]] = []

    def keep(title: str, named: Any) -> None:
        drawn.append([name for name, _ in named])

    def drawn_with(steps: int) -> list[str]:
        records = [make_record(), make_record("ppo-published", total_steps=steps)]
        sections(findings_of(records))
        return drawn[-1]

    monkeypatch.setattr(figures, "shift", keep)
    monkeypatch.setattr(style, "to_png", lambda _: b"png")
    assert drawn_with(50_000) == ["ppo", "ppo-published"]
    assert drawn_with(100_000) == ["ppo, 50k steps", "ppo-published, 100k steps"]
