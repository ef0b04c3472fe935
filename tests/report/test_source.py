"""What a report is made of, and what it may write over: only what says that it is a report."""

import gzip
from pathlib import Path

import pytest

from experiments import report
from jaxgen.report.generalisation.findings import findings_of
from jaxgen.report.generalisation.reference import level_of_specialist
from jaxgen.report.generalisation.settings import origins, own
from jaxgen.report.source import Source, read_source, together
from jaxgen.results.read import read_records
from jaxgen.results.records import Record
from jaxgen.results.store import open_store
from jaxgen.results.table import csv_text, read_csv, rows
from jaxgen.techniques import COMPONENTS
from synthetic_records import make_record, with_overrides

FEW = [make_record(seed=seed) for seed in range(2)]
MORE = [make_record(seed=seed) for seed in range(4)]


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    monkeypatch.setattr("jaxgen.report.style.to_png", lambda figure: b"png")


def folder_of(root: Path, records=MORE) -> Path:
    store = open_store(root)
    for record in records:
        store.write_spec(record.name, record.spec)
        store.write_result(record.name, record.seed, record.result, record.load_history(), {})
    return root


def number_of_runs(page: Path) -> int:
    return int(page.read_text().split(" trained runs", 1)[0].rsplit("\n", 1)[-1])


# What is read


def test_rows_that_lie_in_a_results_folder_are_not_its_results(tmp_path):
    root = folder_of(tmp_path / "results")
    (root / "results.csv.gz").write_bytes(gzip.compress(csv_text(rows(FEW)).encode()))
    assert report.main([str(root)]) == 0
    assert number_of_runs(root / "report" / "report.md") == len(MORE)
    assert not (root / "report.md").exists()


def test_what_lies_beside_a_table_of_another_name_is_not_of_it(tmp_path):
    assert report.main([str(folder_of(tmp_path / "results"))]) == 0
    made = tmp_path / "results" / "report"
    (made / "filtered.csv").write_text(csv_text(rows(FEW)))
    source = read_source(made / "filtered.csv")
    assert (source.making, source.curves) == (None, "")
    assert read_source(made).making is not None


def test_a_shuffled_table_makes_the_same_report(tmp_path):
    header, *lines = csv_text(rows(MORE)).splitlines()
    pages = []
    for name, content in (("a", [header, *lines]), ("b", [header, *reversed(lines)])):
        path = tmp_path / name / "results.csv"
        path.parent.mkdir()
        path.write_text("\r\n".join(content), encoding="utf-8-sig")
        assert report.main([str(path)]) == 0
        pages.append({
            file.name: file.read_bytes() for file in (tmp_path / name / "report").rglob("*.*")
        })
    assert pages[0] == pages[1]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_table_of_another_encoding_is_refused(tmp_path, capsys, encoding):
    path = tmp_path / "results.csv"
    path.write_bytes(csv_text(rows(FEW)).replace("done", "d\xf6ne").encode(encoding))
    assert report.main([str(path)]) == 2
    assert "it is no UTF-8 text; save it as UTF-8" in capsys.readouterr().err


def test_a_run_that_disagrees_with_its_spec_is_left_aside(tmp_path):
    root = folder_of(tmp_path / "results")
    other = make_record(technique="dr")
    store = open_store(root)
    store.write_spec(other.name, dict(other.spec) | {"technique": "gar"})
    store.write_result(other.name, 0, other.result, {}, {})
    records, damaged = read_records(store)
    assert len(records) == len(MORE)
    assert len(damaged) == 1 and other.name in damaged[0]


# Several folders


def of_height(height: float, seeds=range(6), **options) -> list[Record]:
    return [
        make_record(technique=name, seed=seed, s=[height + gain] * 5, **options)
        for seed in seeds
        for name, gain in (("baseline", 0.0), ("dr", 0.1))
    ]


def test_several_folders_are_one_report_and_are_compared_by_seed(tmp_path, capsys):
    """The new one has another budget and lacks a seed; all its runs are .2 better."""
    old = folder_of(tmp_path / "one", of_height(0.3))
    new = folder_of(tmp_path / "two", of_height(0.5, range(1, 7), total_steps=60_000))
    out = tmp_path / "one" / "report-then-now"
    assert report.main([str(old), str(new), "--names", "then", "now"]) == 0
    assert str(out / "report.html") in capsys.readouterr().out
    text = (out / "report.md").read_text()
    assert "24 trained runs: 4 arms" in text and "Several folders are here: then and now." in text
    lines = [line.split(" | ") for line in text.splitlines() if "ppo:now - ppo:then" in line]
    assert [(line[1], line[2], line[3]) for line in lines] == [
        ("baseline", "5", "+0.200"), ("dr", "5", "+0.200")
    ]  # fmt: skip
    assert "ppo:then - ppo:now" not in text and "planned" not in text
    assert "dr - baseline on A_ood." in text and "PPO:then on CartPole" in text


def test_the_best_arm_can_be_what_counts_as_one(tmp_path, capsys):
    """s of .3 and .4 become .75 and 1, whatever the ceiling was; an arm that trains beyond .5 still
    has no A_ood, and the report is made again from its own rows."""
    wide = make_record(technique="dr-wide", s=[0.2] * 5)
    wide.result["scores"]["greedy"]["A_ood"] = None
    root = folder_of(tmp_path / "results", [*of_height(0.3, range(2)), wide])
    out = root / "report"
    assert report.main([str(root), "--reference", "best-arm"]) == 0
    assert "the mean return of the best arm there" in (out / "report.md").read_text()
    scores = {
        record.arm: record.result["scores"]["greedy"]
        for record in read_csv(read_source(out).text)
    }
    assert scores["baseline"]["A_ood"] == pytest.approx(0.75)
    assert scores["dr"]["A"] == pytest.approx(1.0) and scores["dr"]["grs_n"] == pytest.approx(1.0)
    assert scores["dr-wide"]["s"] == pytest.approx([0.5] * 5)
    assert scores["dr-wide"]["A_ood"] is None
    first = (out / "report.md").read_bytes()
    assert report.main([str(out)]) == 0 and (out / "report.md").read_bytes() == first
    assert report.main([str(out), "--reference", "best-arm"]) == 2
    assert "is no results folder, so its scores stay as they are" in capsys.readouterr().err
    assert report.main([str(root), str(out), "--reference", "best-arm"]) == 2
    assert "takes one folder" in capsys.readouterr().err


HEIGHTS = {"baseline": 0.8, "at25": 0.5, "at50": 0.6, "at75": 0.4, "at100": 0.2}
"""s of the specialists at their own levels; elsewhere it is .1."""


def specialists(*names: str, **options) -> list[Record]:
    levels = dict(zip(HEIGHTS, range(5)))
    return [
        make_record(technique=name, seed=seed, **options, s=[
            HEIGHTS[name] if index == levels[name] else 0.1 for index in range(5)
        ]) for seed in (0, 1) for name in names
    ]  # fmt: skip


def test_the_arms_that_were_trained_at_a_level_can_be_what_counts_as_one_there(tmp_path, capsys):
    """Of the same algorithm; s of .4 becomes .5, .8, 2/3, 1 and 2, and A has no upper end."""
    others = specialists(*HEIGHTS, algorithm="dqn")
    dr = [make_record(technique="dr", seed=seed, s=[0.4] * 5) for seed in (0, 1)]
    for record in others:
        record.result["evaluation"]["modes"]["greedy"]["mean"][4] *= 2
    root = folder_of(tmp_path / "results", [*specialists(*HEIGHTS), *others, *dr])
    out = root / "report"
    assert report.main([str(root), "--reference", "specialists"]) == 0
    assert "the mean return of the specialist" in (out / "report.md").read_text()
    records = {
        (record.algorithm, record.arm): record.result["scores"]["greedy"]
        for record in read_csv(read_source(out).text)
    }
    scores = records["ppo", "dr"]
    assert scores["s"] == pytest.approx([0.5, 0.8, 2 / 3, 1.0, 2.0])
    assert scores["A"] == pytest.approx((0.25 + 0.8 + 2 / 3 + 1.0 + 1.0) / 4)
    for index, name in enumerate(HEIGHTS):
        assert records["dqn", name]["s"][index] == pytest.approx(1.0)
    first = (out / "report.md").read_bytes()
    assert report.main([str(out)]) == 0 and (out / "report.md").read_bytes() == first
    capsys.readouterr()
    without = folder_of(tmp_path / "without", [*specialists("baseline", "at25", "at50"), *dr])
    assert report.main([str(without), "--reference", "specialists"]) == 2
    message = "no specialist of ppo on cartpole was trained at level 0.75 alone; train it: --tech"
    assert message in capsys.readouterr().err


def test_only_an_arm_of_one_level_and_nothing_else_is_a_specialist():
    levels = {name: level_of_specialist(name) for name in COMPONENTS}
    known = {name: level for name, level in levels.items() if level is not None}
    assert known == {"baseline": 0.0, "at25": 0.25, "at50": 0.5, "at75": 0.75, "at100": 1.0}
    assert level_of_specialist("at25+reg") is None and level_of_specialist("other") is None


def test_arms_at_random_play_are_no_reference(tmp_path, capsys):
    root = folder_of(tmp_path / "results", of_height(-0.1, range(2)))
    assert report.main([str(root), "--reference", "best-arm"]) == 2
    assert "no arm can be the reference on cartpole: level 0 is uninf" in capsys.readouterr().err


def test_report_of_several_folders_is_made_again_from_its_own(tmp_path):
    old = folder_of(tmp_path / "old", of_height(0.3, range(2)))
    new = folder_of(tmp_path / "new", of_height(0.5, range(2)))
    assert report.main([str(old), str(new)]) == 0
    made = tmp_path / "old" / "report-old-new"
    first = (made / "report.html").read_bytes()
    (made / "report.html").unlink()
    assert report.main([str(made)]) == 0
    assert (made / "report.html").read_bytes() == first


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["one"], "--names has 1 names for 2 results"),
        (["one", "one"], "names one, one are not different"),
        (["one", "a b"], "the name 'a b' is not allowed; use letters"),
    ],
)
def test_names_that_do_not_name_the_folders_are_refused(tmp_path, capsys, names, message):
    folders = [str(folder_of(tmp_path / name, FEW)) for name in ("a", "b")]
    assert message in refused(capsys, *folders, "--names", *names)


def test_settings_and_presets_are_compared_within_their_folder_or_across():
    records = [
        *of_height(0.3, range(1)),
        *(with_overrides(record, hidden=[8]) for record in of_height(0.3, range(1))),
        make_record("ppo-published", technique="dr"),
    ]
    source = Source(csv_text(rows(records)))
    both = together({"old": source, "new": source})
    found = findings_of(read_csv(both.text), both.making)
    assert {name: origin for (_, name), origin in origins(found.cells).items()} == {
        "ppo:old@hidden=8": "ppo:old",
        "ppo-published:old": "ppo:old",
        "ppo:new": "ppo:old",
        "ppo:new@hidden=8": "ppo:old@hidden=8",
        "ppo-published:new": "ppo-published:old",
    }
    assert {cell.algorithm for cell in own(found.cells)} == {"ppo:old", "ppo:new"}


# What is written over


def refused(capsys, *words: str) -> str:
    assert report.main(list(words)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["report.md", "report.html", "arms.csv", "making.json"])
def test_a_file_that_is_no_reports_is_not_written_over(tmp_path, capsys, name):
    root, paper = folder_of(tmp_path / "results"), tmp_path / "paper"
    paper.mkdir()
    (paper / name).write_text("mine")
    assert f"{paper / name} is in the way" in refused(capsys, str(root), "-o", str(paper))
    assert [file.name for file in paper.iterdir()] == [name]
    assert (paper / name).read_text() == "mine"


def test_a_report_is_written_over_and_other_files_beside_it_stay(tmp_path):
    root = folder_of(tmp_path / "results")
    assert report.main([str(root)]) == 0
    (root / "report" / "notes.txt").write_text("mine")
    (root / "report" / "report.md").write_text("an older one")
    assert report.main([str(root)]) == 0
    assert number_of_runs(root / "report" / "report.md") == len(MORE)
    assert (root / "report" / "notes.txt").read_text() == "mine"


def test_a_page_that_is_no_report_is_not_written_over(tmp_path, capsys):
    root, page = folder_of(tmp_path / "results"), tmp_path / "README.md"
    page.write_text("# My project\n")
    message = f"{page} is there and is no report"
    assert message in refused(capsys, str(root), "--page", str(page))
    assert page.read_text() == "# My project\n" and not (root / "report").exists()
    page.unlink()
    for _ in range(2):
        assert report.main([str(root), "--page", str(page)]) == 0


def test_a_report_that_was_stopped_is_written_again(tmp_path, monkeypatch):
    root = folder_of(tmp_path / "results")
    monkeypatch.setattr("jaxgen.report.source.to_html", lambda *_: "")
    assert report.main([str(root)]) == 0
    written = root / "report"
    for file in written.iterdir():
        if file.is_file() and file.name != "results.csv.gz":
            file.unlink()
    (written / "report.html").write_text("a part")
    monkeypatch.undo()
    monkeypatch.setattr("jaxgen.report.style.to_png", lambda figure: b"png")
    assert report.main([str(root)]) == 0
    assert (written / "report.html").read_text() != "a part"


# Levels that are unseen


def test_an_arm_that_trains_on_unseen_levels_is_in_no_ranking(tmp_path):
    wide = make_record(technique="dr-wide", s=[0.99] * 5)
    for scores in wide.result["scores"].values():
        scores["A_ood"] = None
    root = folder_of(tmp_path / "results", [*MORE, wide])
    assert report.main([str(root)]) == 0
    text = (root / "report" / "report.md").read_text()
    assert f"Left aside: {wide.name}, which trains beyond level 0.5 and has no A_ood." in text
    assert text.count("dr-wide") == 1
    assert "on which none of these arms trains" in text
