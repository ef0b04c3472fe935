"""Returns beside published ones: the rule, and a page that follows from its rows."""

import pytest

from experiments import bands
from experiments.bands import BANDS, Band, band_of, table, updated
from jaxgen.results.records import Record
from jaxgen.study.presets import preset
from synthetic_records import make_record


def test_the_page_has_the_table_of_the_rows_that_are_kept():
    text = bands.PAGE.read_text()
    assert updated(text) == text
    assert all(record.result["status"] == "done" for record in bands.read_kept())
    assert f"| SBX {bands.read_rows(bands.PEERS)[0]['version']} | 100,000 | " in text


def test_means_are_accepted_from_two_standard_errors_below_on():
    """Of five seeds here and ten there; the numbers that a person would compute."""
    band = Band("halfcheetah", ("sac",), 100_000, 6156, 700, 10, "somebody")
    assert band.accepted_from(5) == pytest.approx(6156 - 2 * 700 * 0.3**0.5)
    assert band._replace(least=-175).accepted_from(5) == -175


def test_presets_are_compared_with_what_trained_as_they_do():
    assert band_of("halfcheetah", "sac-half@num_variations=1", 100_000) == BANDS[3]
    assert band_of("halfcheetah", "sac-half", 100_000) is None
    assert band_of("halfcheetah", "sac-published", 200_000) is None
    beta = band_of("halfcheetah", "ppo-mujoco-beta", 1_000_000)
    assert beta is not None and beta.least == 1500
    names = [(band.environment, preset) for band in BANDS for preset in band.presets]
    for environment, name in names:
        preset(name.split("@")[0], environment)


def of_returns(monkeypatch, *returns: float, mode: str = "greedy", **spec) -> list[Record]:
    band = Band("cartpole", ("ppo",), 50_000, 300, 20, 4, "somebody", mode)
    monkeypatch.setattr(bands, "BANDS", (band,))
    records = [make_record(seed=seed, **spec) for seed in range(len(returns))]
    for record, value in zip(records, returns):
        record.result["evaluation"]["modes"]["greedy"]["mean"][0] = value
        record.result["evaluation"]["modes"]["sampled"]["mean"][0] = value - 30
    return records


@pytest.mark.parametrize("mode, returns, verdict", [
    ("greedy", (280, 290), "in the band"), ("greedy", (260, 270), "**below**"),
    ("sampled", (300, 310), "in the band"), ("sampled", (280, 290), "**below**"),
])  # fmt: skip
def test_what_is_below_its_band_says_so(monkeypatch, mode, returns, verdict):
    """300 less 2 x 20 x sqrt(1/2 + 1/4) is 265.4."""
    line = table(of_returns(monkeypatch, *returns, mode=mode)).splitlines()[-1]
    low, high = returns
    compared = low + 5 - 30 * (mode == "sampled")
    assert f"| 2 | {low}, {high} | {low + 5} +- 7 | 300 +- 20 (N = 4, somebody) | " in line
    assert line.endswith(f" | {mode}, {compared} +- 7 | 265 | {verdict} |")


def test_survivors_and_other_arms_get_no_verdict(monkeypatch):
    records = of_returns(monkeypatch, 280, 290)
    records[0] = make_record(seed=0, diverged=True)
    line = table(records).splitlines()[-1]
    assert "| 2 (1 diverged) | 290 | 290 |" in line and line.endswith("not all seeds finished |")
    records[1] = make_record(seed=1, diverged=True)
    assert "| 2 (2 diverged) |  |  |" in table(records)
    line = table(of_returns(monkeypatch, 280, 290, technique="gar")).splitlines()[-1]
    assert "| `ppo` gar |" in line and line.endswith("|  |  |  |  |")


def test_peers_are_held_to_the_same_band(monkeypatch):
    """At the budget that is published, not at those of the evaluations before."""
    of_returns(monkeypatch)
    row = {"peer": "Other", "version": "1.2", "environment": "cartpole", "preset": "ppo"}
    peers = [
        {**row, "env_steps": str(steps), "seed": str(seed), "return": str(value)}
        for steps, values in ((10_000, (1, 2)), (50_000, (260, 270)))
        for seed, value in enumerate(values)
    ]
    _, _, *lines = table([], peers).splitlines()
    assert [line.split(" | ")[1:6] for line in lines] == [
        ["Other 1.2", "50,000", "2", "260, 270", "265 +- 7"]
    ]
    assert lines[0].endswith(" | greedy, 265 +- 7 | 265 | **below** |")


def test_rows_of_a_folder_take_the_place_of_the_same_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bands, "ROWS", tmp_path / "continuous" / "results.csv.gz")
    monkeypatch.setattr(bands, "PAGE", tmp_path / "page.md")
    bands.PAGE.write_text("<!-- bands: begin -->\n<!-- bands: end -->\n")
    store = bands.open_store(tmp_path / "results")
    for height in (0.5, 0.6):
        for seed in (0, 1):
            record = make_record(seed=seed, s=[height + 0.1 * seed] * 5)
            store.write_spec(record.name, record.spec)
            store.write_result(record.name, seed, record.result, {}, {})
        assert bands.main([str(tmp_path / "results")]) == 0
        assert len(bands.read_kept()) == 2
    first = bands.ROWS.read_bytes()
    assert bands.main([]) == 0 and bands.ROWS.read_bytes() == first
    assert "`ppo`" in bands.PAGE.read_text() and "| 2 |" in capsys.readouterr().out
    assert bands.main([str(tmp_path / "nowhere")]) == 2
