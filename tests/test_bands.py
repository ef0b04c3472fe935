"""Returns beside published ones: the rule, and a page that follows from its rows."""

import pytest

from experiments import bands
from experiments.bands import BANDS, Band, band_of, table, updated
from jaxgen.results.records import Record
from synthetic_records import make_record


def test_the_page_has_the_table_of_the_rows_that_are_kept():
    text = bands.PAGE.read_text()
    assert updated(text) == text
    assert all(record.result["status"] == "done" for record in bands.read_kept())


def test_means_are_accepted_from_two_standard_errors_below_on():
    """Of five seeds here and ten there; the numbers that a person would compute."""
    band = Band("halfcheetah", "sac", 100_000, 6156, 700, 10, "somebody")
    assert band.accepted_from(5) == pytest.approx(6156 - 2 * 700 * 0.3**0.5)
    assert band._replace(least=-175).accepted_from(5) == -175


def test_a_preset_is_compared_at_its_budget_alone():
    sac = BANDS[2]
    assert band_of("halfcheetah", "sac-half@num_variations=1", 100_000) == sac
    assert band_of("halfcheetah", "sac", 200_000) is None
    assert band_of("pendulum", "es", 20_000) is None


def of_returns(monkeypatch, *returns: float) -> list[Record]:
    band = Band("cartpole", "ppo", 50_000, 300, 20, 4, "somebody")
    monkeypatch.setattr(bands, "BANDS", (band,))
    records = [make_record(seed=seed) for seed in range(len(returns))]
    for record, value in zip(records, returns):
        record.result["evaluation"]["modes"]["greedy"]["mean"][0] = value
    return records


@pytest.mark.parametrize("returns, verdict", [((280, 290), "in the band"), ((260, 270), "below")])
def test_what_is_below_its_band_says_so(monkeypatch, returns, verdict):
    """300 less 2 x 20 x sqrt(1/2 + 1/4) is 265.4."""
    line = table(of_returns(monkeypatch, *returns)).splitlines()[-1]
    low, high = returns
    assert f"| 2 | {low}, {high} | {low + 5} +- 7 | 300 +- 20 (N = 4, somebody) | 265 |" in line
    assert verdict in line


def test_rows_of_a_folder_take_the_place_of_the_same_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bands, "ROWS", tmp_path / "continuous" / "results.csv.gz")
    monkeypatch.setattr(bands, "PAGE", tmp_path / "page.md")
    bands.PAGE.write_text(f"{bands.BEGIN}\n{bands.END}\n")
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
