"""Records to tables: csv, differences, summary, histories, best scores."""

import csv
import io
import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from jaxgen.report.differences import decompose
from jaxgen.report.documents.document import Table
from jaxgen.report.style import QUICK_BANNER
from jaxgen.report.summary import sections, summary
from jaxgen.results.best import best_scores
from jaxgen.results.histories import MAX_POINTS, history_json
from jaxgen.results.read import missing_runs
from jaxgen.results.records import Record, alias_records, check_records, group_cells, levels_of
from jaxgen.results.table import ADDED, CSV_COLUMNS, csv_text, curves_text, read_csv, rows
from synthetic_records import LEVELS, make_record, make_study, run_name


def tables(records, plan=None):
    """Title -> table of the summary."""
    blocks = [block for section in sections(records, plan) for block in section.blocks]
    return {block.title: block for block in blocks if isinstance(block, Table)}


def find(records, start, plan=None):
    """The one table whose title starts so."""
    (table,) = [t for title, t in tables(records, plan).items() if title.startswith(start)]
    return table


def as_dicts(table):
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def arms(*records):
    return {cell.arm: cell for cell in group_cells(records)}


def flat(value):
    """Five equal normalised returns."""
    return [value] * 5


# Records and cells


def test_modules_that_only_read_results_import_no_accelerator_library_and_no_plotting():
    code = (
        "import sys; sys.modules['jax'] = sys.modules['matplotlib'] = None\n"
        "import jaxgen.report.summary, jaxgen.report.figures, jaxgen.evaluation.scores"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_cells_are_in_the_order_of_the_study_whatever_the_order_of_the_records():
    records = make_study(seeds=(1, 0))
    cells = group_cells(reversed(records))
    assert [(c.environment, c.algorithm, c.arm) for c in cells[:7]] == [
        ("cartpole", "ppo", "baseline"),
        ("cartpole", "ppo", "reg"),
        ("cartpole", "ppo", "dr"),
        ("cartpole", "ppo", "dr+reg"),
        ("cartpole", "ppo", "gar"),
        ("cartpole", "ppo", "gar+reg"),
        ("cartpole", "dqn", "baseline"),
    ]
    assert [record.seed for record in cells[0].records] == [0, 1]
    assert cells[-1].environment == "minigrid" and cells[-1].alias_of == "reg"


def test_variant_follows_its_base_and_an_unknown_name_comes_last():
    records = [make_record(a) for a in ("zzz", "dqn-onehot", "es", "dqn")]
    assert [c.algorithm for c in group_cells(records)] == ["dqn", "dqn-onehot", "es", "zzz"]


def test_runs_of_several_settings_are_never_one_cell():
    full, short = make_record(), make_record(digest="ffffffff", total_steps=384)
    cells = group_cells([full, short])
    assert len(cells) == 2 and cells[0].setting != cells[1].setting
    assert make_record(quick=True).setting != full.setting
    # Another technique of the same configuration is comparable.
    assert group_cells([make_record(technique="gar")])[0].setting == cells[0].setting


def test_setting_of_a_diverged_run_is_that_of_its_arm():
    assert make_record(diverged=True).setting == make_record(seed=1).setting


def test_seed_that_occurs_twice_is_an_error():
    with pytest.raises(ValueError, match="seed 0 occurs twice"):
        check_records([make_record(), make_record()])


def test_record_that_disagrees_with_its_spec_is_an_error():
    record = make_record()
    with pytest.raises(ValueError, match=r"technique is 'gar' in spec\.json but 'baseline'"):
        check_records([record._replace(spec={**record.spec, "technique": "gar"})])
    with pytest.raises(ValueError, match=r"result\.json is of seed 0"):
        check_records([record._replace(seed=7)])


def test_record_of_another_schema_is_an_error():
    record = make_record()
    with pytest.raises(ValueError, match="has schema 2; this version reads 1"):
        check_records([record._replace(result={**record.result, "schema": 2})])


def test_different_levels_in_one_table_are_an_error():
    record = make_record(seed=1)
    evaluation = {**record.result["evaluation"], "levels": [0.0, 1.0]}
    other = record._replace(result={**record.result, "evaluation": evaluation})
    with pytest.raises(ValueError, match="different levels"):
        levels_of([make_record(), other])


def test_history_ends_where_the_budget_was_used_and_may_be_loaded_late():
    arrays = {
        "env_steps": np.array([10, 20, 30, 30, 30]),
        "reward": np.array([1.0, 2.0, 3.0, 9.0, 9.0]),
        "eval_return": np.array([5.0, 6.0]),
    }
    for history in (arrays, lambda: arrays):
        loaded = make_record()._replace(history=history).load_history()
        assert loaded["env_steps"].tolist() == [10, 20, 30]
        assert loaded["reward"].tolist() == [1, 2, 3]
        assert loaded["eval_return"].tolist() == [5, 6]


def test_alias_gets_the_records_of_the_run_that_it_stands_for():
    trained = [make_record("es", technique=t, seed=i) for t in ("baseline", "dr") for i in (0, 1)]
    aliases = {r.name: r.spec for t in ("gar", "gar+reg") for r in [make_record("es", technique=t)]}
    records = alias_records(trained, aliases)
    # gar+reg stands for reg, which is not here.
    assert [(r.technique, r.experiment, r.seed) for r in records] == [
        ("gar", "es_cartpole_gar", 0),
        ("gar", "es_cartpole_gar", 1),
    ]
    assert records[1].result["scores"] == trained[1].result["scores"]
    (cell,) = [c for c in group_cells([*trained, *records]) if c.arm == "gar"]
    assert cell.alias_of == "baseline" and cell.name == run_name("es", "cartpole", "gar")
    assert trained[0].technique == "baseline"


# results.csv


def test_csv_has_a_row_per_run_level_and_mode_and_reads_back_exactly():
    records = make_study(seeds=(0,))
    table = rows(records)
    assert len(table) == len(records) * len(LEVELS) * 2
    text = csv_text(table)
    parsed = list(csv.DictReader(io.StringIO(text)))
    assert tuple(parsed[0]) == CSV_COLUMNS and len(parsed) == len(table)
    for row, back in zip(table, parsed, strict=True):
        assert float(back["return"]) == row["return"]
        assert float(back["level"]) == row["level"]
        assert back["quick"] == "false" and back["status"] == "done"
    assert csv_text(rows(reversed(records))) == text


def without(text: str, *columns: str) -> str:
    """A results.csv without some of its columns, as an earlier version wrote it."""
    table = list(csv.DictReader(io.StringIO(text)))
    stream = io.StringIO()
    names = [name for name in table[0] if name not in columns]
    writer = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue()


def test_rows_say_how_a_run_was_configured_and_rows_that_do_not_are_read():
    records = [make_record("dqn-onehot", "minigrid"), make_record("ppo", "minigrid")]
    text = csv_text(rows(records))
    facts = [(r.base, r.encoding) for r in check_records(records)]
    assert facts == [("ppo", "one_hot"), ("dqn", "one_hot")]
    assert [(r.base, r.encoding) for r in read_csv(text)] == facts
    earlier = without(text, *ADDED)
    back = read_csv(earlier)
    assert [(r.base, r.encoding) for r in back] == [(None, None)] * 2
    assert without(csv_text(rows(back)), *ADDED) == earlier
    with pytest.raises(ValueError, match="is no results.csv of this version: it has no gap"):
        read_csv(without(text, "gap"))


def test_csv_keeps_null_apart_from_zero():
    dead, failed = make_record(s=flat(0.0)), make_record(seed=1, diverged=True)
    parsed = list(csv.DictReader(io.StringIO(csv_text(rows([dead, failed])))))
    assert parsed[0]["grs_n"] == "" and parsed[0]["A"] == "0.0"
    assert parsed[0]["valid"] == "false" and parsed[0]["reason"] == "did_not_learn"
    # A diverged run is one row, with no number that an average could swallow.
    assert len(parsed) == 11 and parsed[-1]["status"] == "diverged"
    assert [parsed[-1][name] for name in ("mode", "level", "return", "A", "grs")] == [""] * 5


def test_csv_reads_back_as_the_records_that_it_was_made_of():
    records = [
        *make_study(seeds=(0, 1)),
        make_record("ppo", seed=2, diverged=True),
        make_record("dqn", "minigrid", digest="ffffffff", total_steps=7, quick=True),
    ]
    first: Any = records[0].result
    first["gas"] = {"train": None, "probe": {"raw": 0.25, "corrected": None}}
    first["training"]["grad_norm_last"] = 1 / 3
    text = csv_text(rows(records))
    back = read_csv(text)
    assert csv_text(rows(back)) == text
    assert [c[:4] for c in group_cells(back)] == [c[:4] for c in group_cells(records)]
    for ours, theirs in zip(group_cells(back), group_cells(records), strict=True):
        assert ours.alias_of == theirs.alias_of and ours.num_diverged == theirs.num_diverged
        np.testing.assert_array_equal(ours.curves("sampled"), theirs.curves("sampled"))
        np.testing.assert_array_equal(ours.normalised_curves(), theirs.normalised_curves())
        assert ours.scores("grs_n") == theirs.scores("grs_n")
    assert read_csv(csv_text([])) == []


def test_learning_curves_read_back():
    records = [make_record(seed=i) for i in range(2)]
    text, curves = csv_text(rows(records)), curves_text(records)
    back = read_csv(text, curves)
    assert curves_text(back) == curves and curves.count("\n") == 1 + 2 * 22
    for ours, theirs in zip(back, records, strict=True):
        for name in ("eval_env_steps", "eval_return"):
            np.testing.assert_array_equal(ours.load_history()[name], theirs.load_history()[name])
    assert read_csv(text)[0].load_history() == {}
    with pytest.raises(ValueError, match="is no table of learning curves"):
        read_csv(text, "a,b\n")
    with pytest.raises(ValueError, match="line 45 of the curves is damaged"):
        read_csv(text, curves.rstrip().rsplit(",", 1)[0])


def test_csv_that_is_none_is_an_error():
    text = csv_text(rows([make_record()]))
    with pytest.raises(ValueError, match="its columns are a, b; save it with commas"):
        read_csv("a,b\n1,2\n")
    with pytest.raises(ValueError, match="columns are nothing"):
        read_csv("")
    with pytest.raises(ValueError, match="line 3 of results.csv is damaged: .*'0x25'"):
        read_csv(text.replace(",0.25,", ",0x25,", 1))
    with pytest.raises(ValueError, match="line 11 of results.csv is damaged"):
        read_csv(text.rstrip()[:-40])


def test_csv_row_holds_the_numbers_of_its_level_and_mode():
    record = make_record("ppo", "minigrid", s=[0.9, 0.8, 0.7, 0.6, 0.5])
    row = rows([record])[7]
    assert (row["mode"], row["level"]) == ("sampled", 0.5)
    assert row["return"] == record.result["evaluation"]["modes"]["sampled"]["mean"][2]
    assert row["s"] == pytest.approx(0.95 * 0.7)
    assert (row["floor"], row["ceiling"]) == (0.14, 0.93)
    assert row["episodes"] == 1000 and row["env_steps"] <= row["env_steps_requested"]


# Differences


def test_gain_splits_into_data_and_agreement_by_seed():
    # A = A_ood = the height of a flat curve.
    heights = {"baseline": (0.2, 0.4), "dr": (0.5, 0.6), "gar": (0.6, 0.5)}
    records = [
        make_record(technique=t, seed=i, s=flat(h)) for t, hs in heights.items()
        for i, h in enumerate(hs)
    ]  # fmt: skip
    whole, data, agreement = decompose(arms(*records))
    assert (whole.label, data.label, agreement.label) == (
        "gar - baseline", "dr - baseline", "gar - dr"
    )  # fmt: skip
    for name in ("A", "A_ood"):
        np.testing.assert_allclose(whole.values[name], [0.4, 0.1])
        np.testing.assert_allclose(data.values[name], [0.3, 0.2])
        np.testing.assert_allclose(agreement.values[name], [0.1, -0.1])


def test_differences_use_only_the_seeds_that_all_arms_share():
    records = [
        *(make_record(technique="baseline", seed=i, s=flat(0.2)) for i in (0, 1, 2)),
        *(make_record(technique="dr", seed=i, s=flat(0.3), diverged=i == 2) for i in (0, 1, 2)),
        *(make_record(technique="gar", seed=i, s=flat(0.4 + 0.1 * i)) for i in (1, 2, 3)),
    ]
    differences = decompose(arms(*records))
    # Seed 0 has no gar, seed 2 diverged in dr, seed 3 is gar alone: seed 1 is left.
    assert [d.values["A"].size for d in differences] == [1, 1, 1]
    np.testing.assert_allclose(differences[2].values["A"], [0.2])


def test_controls_follow_where_they_were_run():
    records = [
        make_record(technique=t, s=flat(h))
        for t, h in (
            ("baseline", 0.1), ("dr", 0.3), ("gar", 0.5), ("dr-scaled", 0.45), ("gar-shuffle", 0.4),
        )
    ]
    differences = decompose(arms(*records))
    assert [d.label for d in differences[3:]] == ["gar - dr-scaled", "gar - gar-shuffle"]
    np.testing.assert_allclose([d.values["A"][0] for d in differences[3:]], [0.05, 0.1])


def test_differences_with_reg_compare_arms_with_reg():
    records = [
        make_record(technique=t, s=flat(h))
        for t, h in (("reg", 0.2), ("dr+reg", 0.3), ("gar+reg", 0.5), ("gar", 0.9))
    ]
    differences = decompose(arms(*records), "+reg")
    assert [d.label for d in differences] == [
        "gar+reg - reg", "dr+reg - reg", "gar+reg - dr+reg"
    ]  # fmt: skip
    np.testing.assert_allclose([d.values["A"][0] for d in differences], [0.3, 0.1, 0.2])


def test_alias_enters_no_difference():
    records = [make_record("es", technique=t) for t in ("baseline", "dr", "gar")]
    whole, data, agreement = decompose(arms(*records))
    assert not whole.values and whole.reason == "gar is baseline"
    assert not agreement.values and data.values["A_ood"].size == 1


def test_missing_arm_is_named():
    whole, data, agreement = decompose(arms(make_record(), make_record(technique="gar")))
    assert whole.values["A"].size == 1
    assert data.reason == agreement.reason == "no dr" and not data.values


# Summary


def test_scores_table_by_hand():
    # Flat s = .5: J(0) = 22.4 + .5 * 477.6 = 261.2, A = A_ood = .5, grs_n = 1;
    # literal: (J(v) / J(0)) for v = 0 .. 1 = 1, 1.00938, 1.01799, 1.02584, 1.03216 -> 1.017.
    # Flat s = .7: J(0) = 356.72; literal 1, 1.00412, 1.00790, 1.01135, 1.01413 -> 1.008.
    records = [make_record(seed=0, s=flat(0.5)), make_record(seed=1, s=flat(0.7))]
    (row,) = as_dicts(find(records, "cartpole: scores, greedy"))
    assert row == {
        "algorithm": "ppo", "technique": "baseline", "n": "2", "learned": "2 of 2",
        "diverged": "0", "J(0)": "309.0 +- 67.5", "A": "0.600 +- 0.141",
        "A_ood": "0.600 +- 0.141", "grs_n": "1.000 +- 0.000", "literal grs": "1.012 +- 0.007",
    }  # fmt: skip


def test_one_seed_has_no_standard_deviation():
    (row,) = as_dicts(find([make_record(s=flat(0.5))], "cartpole: scores, greedy"))
    assert (row["n"], row["J(0)"], row["A"]) == ("1", "261.2", "0.500")


def test_diverged_seed_is_counted_and_named_and_never_averaged_away():
    records = [make_record(seed=0, s=flat(0.5)), make_record(seed=1, diverged=True)]
    (row,) = as_dicts(find(records, "cartpole: scores, greedy"))
    assert (row["n"], row["learned"], row["diverged"]) == ("2", "1 of 2", "1")
    assert row["A"] == "0.500 [1]"
    assert f"1 diverged: {run_name('ppo', 'cartpole', 'baseline')} seed 1." in " ".join(
        summary(records).split()
    )


def test_arm_of_which_every_seed_diverged_reads_failed():
    records = [make_record(diverged=True), make_record(technique="gar")]
    row = as_dicts(find(records, "cartpole: scores, greedy"))[0]
    assert {row[name] for name in ("J(0)", "A", "A_ood", "grs_n", "literal grs")} == {"failed"}
    assert all("- baseline" not in d["difference"] or d["n pairs"] == "0"
               for d in as_dicts(find(records, "cartpole: what the data")))  # fmt: skip
    # The same alone: there are no scores at all, but the run is still reported.
    assert "1 diverged" in summary(records[:1])


def test_where_no_ceiling_is_known_returns_stand_beside_those_of_level_zero(monkeypatch):
    """What counts as 1 is not called a ceiling; a seed with J(0) <= 0 has no share of it."""
    records = [make_record(seed=seed, s=flat(0.5)) for seed in range(3)]
    for record, factor in zip(records, (1, 2, -1)):
        mean = record.result["evaluation"]["modes"]["greedy"]["mean"]
        mean[:] = [factor * value for value in (100, 80, 60, 40, 20)]
    title = "cartpole: returns relative to level 0, greedy"
    assert title not in summary(records) and "counts as 1" not in summary(records)
    monkeypatch.setattr("jaxgen.report.summary.knows_ceiling", lambda environment: False)
    (row,) = as_dicts(find(records, title))
    shares = [row[f"J({level:g})/J(0)"] for level in (0, 0.25, 0.5, 0.75, 1)]
    assert shares == [f"{share:.3f} +- 0.000 [2]" for share in (1, 0.8, 0.6, 0.4, 0.2)]
    returns = as_dicts(find(records, "cartpole: returns by level, greedy"))
    assert [row["algorithm"] for row in returns] == ["ppo", "random play", "counts as 1"]
    words = " ".join(summary(records).split())
    assert "Nobody knows the best return on CartPole under shift." in words
    lost = [make_record(seed=3, diverged=True), *records]
    assert len(as_dicts(find(lost, title))) == 1


def test_policy_that_did_not_learn_has_its_literal_score_flagged():
    records = [make_record(seed=0, s=flat(0.0)), make_record(seed=1, s=flat(0.5))]
    (row,) = as_dicts(find(records, "cartpole: scores, greedy"))
    assert row["learned"] == "1 of 2" and row["grs_n"] == "1.000 [1]"
    # 1.404 of random play and 1.017 of the table above.
    assert row["literal grs"] == "1.211 +- 0.273 !"
    (row,) = as_dicts(find(records[:1], "cartpole: scores, greedy"))
    assert row["grs_n"] == "did not learn" and row["literal grs"] == "1.404 !"


def test_null_literal_score_reads_null():
    records = [make_record("dqn", "minigrid", s=flat(-1.0))]
    (row,) = as_dicts(find(records, "minigrid: scores, greedy"))
    assert row["literal grs"] == "null !" and row["grs_n"] == "did not learn"


def test_alias_is_shown_and_marked():
    records = [make_record("es", technique=t) for t in ("baseline", "gar")]
    table = as_dicts(find(records, "cartpole: scores, greedy"))
    assert [row["technique"] for row in table] == ["baseline", "gar (= baseline)"]
    assert "1 of the runs here are aliases" in summary(records)


def test_greedy_and_sampled_returns_never_share_a_table():
    record = make_record()
    record.result["evaluation"]["modes"]["sampled"]["mean"] = [321.7] * 5
    record.result["scores"]["sampled"] |= {"A": 0.777, "A_ood": 0.777, "grs_n": 0.777}
    shown = {
        title: [sample in str(table.rows) for sample in ("321.7", "0.777")]
        for title, table in tables([record]).items()
    }
    assert {title.split(" (")[0] for title, found in shown.items() if any(found)} == {
        "cartpole: scores, sampled",
        "cartpole: returns by level, sampled",
    }
    # Each of the two is wholly of its own mode.
    (scores,) = as_dicts(find([record], "cartpole: scores, sampled"))
    assert (scores["J(0)"], scores["A"], scores["grs_n"]) == ("321.7", "0.777", "0.777")
    returns = as_dicts(find([record], "cartpole: returns by level, sampled"))[0]
    assert {returns[f"J({level:g})"] for level in LEVELS} == {"321.7"}


def test_returns_stand_beside_their_references_once():
    table = as_dicts(find(make_study(seeds=(0, 1)), "minigrid: returns by level, greedy"))
    assert [row["algorithm"] for row in table[18:]] == ["random play", "ceiling"]
    assert [row["J(1)"] for row in table[18:]] == ["0.040", "0.907"]


def test_every_table_of_runs_states_its_n():
    records = make_study(seeds=(0, 1))
    for title, table in tables(records).items():
        assert any(name in ("n", "n runs", "n pairs") for name in table.header), title


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_markdown_tables_have_one_width_and_the_same_words_as_text(seeds):
    records = [*make_study(seeds=seeds), make_record(seed=9, diverged=True)]
    markdown, text = summary(records, markdown=True), summary(records)
    blocks = re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE)
    assert len(blocks) == len(tables(records))
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1
        for cell in block.splitlines()[-1].strip("| ").split(" | "):
            assert cell.strip() in text


def test_columns_of_text_tables_line_up():
    text = summary(make_study(seeds=(0, 1)))
    start = text.index("cartpole: scores, greedy")
    lines = text[start:].splitlines()[2:]
    column = lines[0].index("A_ood")
    for line in lines[2:20]:
        assert line[column - 2 : column] == "  " and line[column] in "0123456789-"


def test_text_is_the_same_whatever_the_order_of_the_records():
    records = make_study(seeds=(0, 1))
    assert summary(records) == summary(reversed(records))


def test_summary_says_what_is_missing():
    records = make_study(seeds=(0, 1))
    plan = [(record.name, record.seed) for record in records]
    partial = [r for r in records if not (r.technique == "dr" and r.algorithm == "ppo")]
    assert missing_runs(partial, plan) == {
        run_name("ppo", environment, "dr"): [0, 1] for environment in ("cartpole", "minigrid")
    }
    text = summary(partial, plan)
    assert "68 of 72 planned runs are here" in text and "4 planned runs" in text
    assert re.search(r"ppo_minigrid_dr-0a1b2c3d +0, 1", text)
    assert "no dr" in text
    text = summary(records, plan)
    assert "72 of 72 planned runs are here" in text and "MISSING" not in text


def test_nothing_at_all_is_a_summary_too():
    text = summary([], [("ppo_cartpole_gar-0a1b2c3d", 0)])
    assert "0 of 1 planned runs are here" in text and "ppo_cartpole_gar-0a1b2c3d" in text
    assert "planned" not in summary([])


def test_quick_run_is_marked_everywhere():
    text = summary([make_record(quick=True, seed=i) for i in range(2)])
    assert text.count(QUICK_BANNER) == 2 and "baseline [quick]" in text
    assert text.index(QUICK_BANNER) < text.index("runs are here")
    assert QUICK_BANNER in summary([make_record(quick=True)], markdown=True)
    assert QUICK_BANNER not in summary([make_record()])


def test_quick_and_full_runs_are_apart():
    records = [
        make_record(s=flat(0.5)),
        make_record(s=flat(0.1), quick=True, digest="ffffffff", total_steps=384),
    ]
    table = as_dicts(find(records, "cartpole: scores, greedy"))
    assert [row["A"] for row in table] == ["0.500", "0.100"]
    assert "[quick]" in table[1]["technique"] and "384]" in table[1]["technique"]
    assert "never pooled" in summary(records)


def test_arm_that_is_here_twice_is_not_compared():
    records = [make_record(technique=t) for t in ("baseline", "gar")]
    records.append(make_record(technique="gar", digest="ffffffff"))
    (row,) = as_dicts(find(records, "cartpole: what the data"))
    assert row["measures"] == "an arm is here twice" and row["n pairs"] == "0"
    labels = [r["technique"] for r in as_dicts(find(records, "cartpole: scores, greedy"))]
    assert labels[1:] == ["gar [0a1b, 50000]", "gar [ffff, 50000]"]


def test_decomposition_table_carries_its_warning_and_no_p_value():
    records = make_study(seeds=(0, 1, 2))
    table = find(records, "cartpole: what the data")
    row = as_dicts(table)[2]
    assert (row["difference"], row["measures"], row["n pairs"]) == ("gar - dr", "agreement", "3")
    assert re.fullmatch(r"[+-]0\.\d{3} \+- 0\.\d{3}", row["A_ood"])
    assert "n = 3 is descriptive only" in " ".join(table.notes)
    many = find(make_study(("cartpole",), ("ppo",), tuple(range(6))), "cartpole: what the data")
    assert not any("descriptive" in note for note in many.notes)


def test_differences_of_a_single_arm_are_no_table():
    records = [make_record(seed=seed) for seed in range(3)]
    assert not any("what the data" in title for title in tables(records))


def test_note_about_gar_stands_only_where_there_is_gar():
    records = [make_record(technique=name) for name in ("baseline", "dr")]
    table = find(records, "cartpole: what the data")
    assert not any("gar" in note for note in table.notes)
    assert [row["difference"] for row in as_dicts(table)] == ["dr - baseline"]


def test_reading_bands_come_with_the_warning_about_random_play():
    pole = " ".join(summary([make_record()]).split())
    assert "under .4 poor" in pole and "on CartPole scores a literal grs of 1.40" in pole
    grid = " ".join(summary([make_record("ppo", "minigrid")]).split())
    assert "under .4 poor" in grid and "random play on" not in grid


def test_training_table_shows_agreement_only_where_it_was_measured():
    records = [make_record(technique=t, seed=i) for t in ("reg", "gar") for i in range(2)]
    regular, gar = as_dicts(find(records, "cartpole: training"))
    assert regular["agree_pair"] == "-" and gar["agree_pair"] == "0.235 +- 0.007"
    assert regular["weight shrink"] == "0.0016" and gar["weight shrink"] == "-"
    assert gar["skipped updates"] == "0 of 10400"


def test_overlap_of_layouts_is_reported_where_there_are_layouts():
    (row,) = as_dicts(find([make_record("ppo", "minigrid")], "minigrid: layouts"))
    assert (row["v = 0"], row["v = 0.25"], row["v = 1"]) == ("0.02", "0.01", "0")
    assert not any("layouts" in title for title in tables([make_record()]))


# Histories


def test_history_is_strict_json_thinned_evenly_and_says_its_length():
    record = make_record("dqn", iterations=1301)
    history = history_json([record, make_record("dqn", seed=1, diverged=True)])
    assert json.loads(json.dumps(history, allow_nan=False)) == history
    series = history["runs"][0]["series"]
    assert series["reward"]["length"] == 1301 and len(series["reward"]["values"]) == MAX_POINTS
    assert series["reward"]["values"][0] is None
    assert series["epsilon"]["values"][0] == 1
    steps = series["env_steps"]["values"]
    assert steps[0] == record.load_history()["env_steps"][0] and steps[-1] == 50_000
    assert np.ptp(np.diff(steps)) <= 1301 / MAX_POINTS * (50_000 / 1301)
    assert [run["status"] for run in history["runs"]] == ["done", "diverged"]


def test_short_history_is_whole():
    series = history_json([make_record(iterations=130)])["runs"][0]["series"]
    assert series["loss"]["length"] == len(series["loss"]["values"]) == 130


@pytest.mark.parametrize("records", [[], [make_record(), make_record(technique="gar")]])
def test_history_is_of_one_experiment(records):
    with pytest.raises(ValueError, match="one experiment"):
        history_json(records)


# Best scores


def test_best_run_has_the_highest_greedy_return_at_level_zero():
    records = [
        make_record(seed=0, s=[0.7, 1, 1, 1, 1]),
        make_record(seed=1, s=[0.9, 0, 0, 0, 0]),
        make_record(technique="gar", seed=0, s=[0.8, 1, 1, 1, 1]),
        make_record(technique="gar", seed=1, diverged=True),
    ]
    best = best_scores(records)["ppo", "cartpole", "best"]
    assert (best["technique"], best["seed"], best["num_candidates"]) == ("baseline", 1, 3)
    assert best["return_at_zero"] == pytest.approx(22.4 + 0.9 * 477.6)
    assert json.loads(json.dumps(best, allow_nan=False)) == best


def permuted(records: list[Record], seed: int) -> list[Record]:
    """The same records with everything measured at v > 0 exchanged between runs and levels."""
    generator = np.random.default_rng(seed)
    shuffled = []
    for record in records:
        s = np.array(record.result["scores"]["greedy"]["s"])
        s[1:] = generator.permutation(np.r_[s[1:], generator.uniform(-1, 1, 4)])[:4]
        shuffled.append(make_record(record.algorithm, record.environment, record.technique,
                                    record.seed, s=list(s)))  # fmt: skip
    return shuffled


@pytest.mark.parametrize("seed", range(5))
def test_permuting_all_results_at_shifted_levels_changes_no_choice(seed):
    records = make_study(seeds=(0, 1, 2))

    def choices(found):
        chosen = best_scores(found).items()
        return {key: (best["run"], best["seed"]) for key, best in chosen if key[2] == "best"}

    assert choices(permuted(records, seed)) == choices(records)


def test_ties_go_to_the_first_technique_and_seed():
    arms = (("gar", 1), ("gar", 0), ("reg", 1), ("reg", 0))
    records = [make_record(technique=t, seed=i, s=flat(1.0)) for t, i in arms]
    best = best_scores(records)["ppo", "cartpole", "best"]
    assert (best["technique"], best["seed"]) == ("reg", 0)


def test_ties_at_level_zero_are_broken_by_the_sampled_policy():
    records = [make_record(seed=i, s=flat(1.0)) for i in range(3)]
    sampled = records[1].result["evaluation"]["modes"]["sampled"]
    sampled["mean"] = [*sampled["mean"]]
    sampled["mean"][0] += 1
    assert best_scores(records)["ppo", "cartpole", "best"]["seed"] == 1


def test_the_robust_run_has_the_highest_A_and_says_that_it_is_flattered():
    quick = make_record(technique="gar", s=flat(0.9), quick=True, digest="ffffffff")
    records = [make_record(seed=0, s=[0.9, 0.5, 0, 0, 0]), make_record(seed=1, s=flat(0.8)), quick]
    best = best_scores(records)
    robust = best["ppo", "cartpole", "robust"]
    assert robust["seed"] == 1 and best["ppo", "cartpole", "best"]["seed"] == 0
    assert "flatter" in robust["chosen_by"]
    assert robust["scores"]["A"] == max(r.result["scores"]["greedy"]["A"] for r in records[:2])


def test_best_run_is_no_alias_and_a_full_run_before_a_quick_one():
    records = [
        make_record("es", s=flat(0.5)),
        make_record("es", technique="gar", s=flat(0.9)),
        make_record("es", seed=1, s=flat(0.9), quick=True, digest="ffffffff"),
    ]
    best = best_scores(records)["es", "cartpole", "best"]
    assert (best["technique"], best["seed"], best["quick"]) == ("baseline", 0, False)
    assert best_scores([make_record(diverged=True)]) == {}
