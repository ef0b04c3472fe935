"""The study of continuous control under shift: rows, differences by hand, a page that follows."""

import numpy as np
import pytest
from scipy import stats

from experiments import control_shift, critic_free
from experiments.control_shift import LEVELS, differences, policies_table, training_table
from experiments.tables import read_rows
from small_runs import run, small_study


def row(seed: int, a_ood: float, arm: str = "baseline", **changes: str) -> dict[str, str]:
    return {
        "environment": "pendulum", "algorithm": "sac", "arm": arm, "seed": str(seed),
        "env_steps": "20000", "status": "done", "A_ood": str(a_ood),
        **{f"return_{level}": "-150" for level in LEVELS},
        **{f"s_{level}": "0.9" for level in LEVELS},
    } | changes  # fmt: skip


def cells(table: str) -> list[list[str]]:
    lines = table.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_differences_are_of_the_seeds_that_both_arms_have():
    one = {seed: row(seed, value) for seed, value in enumerate((0.5, 0.7, 0.9))}
    other = {seed: row(seed, value) for seed, value in ((1, 0.6), (2, 0.5), (7, 0.1))}
    assert differences(one, other, "A_ood") == pytest.approx([0.1, 0.4])


def test_arms_are_compared_with_intervals_and_corrected_p():
    """Seven seeds: dr is above baseline in all (2 of 128 patterns of signs, times 2 comparisons),
    gar is above dr in none."""
    lift = 0.1 + 0.01 * (np.arange(7) - 3)
    rows = [row(seed, 0.5) for seed in range(7)]
    rows += [row(seed, 0.5 + lift[seed], "dr") for seed in range(7)]
    rows += [row(seed, 0.4 + lift[seed], "gar") for seed in range(7)]
    half = stats.t.ppf(0.975, 6) * lift.std(ddof=1) / np.sqrt(7)
    first, second = cells(training_table(rows))
    assert first == ["Pendulum", "SAC", "dr - baseline", "7", "+0.000 +- 0.000", "+0.000 +- 0.000",
                     f"**+0.100 +- {half:.3f}**", f"{4 / 128:.4f}"]  # fmt: skip
    assert second[2:4] == ["gar - dr", "7"] and second[6] == "**-0.100 +- 0.000**"
    few = cells(training_table([each for each in rows if int(each["seed"]) < 5]))
    assert [line[7] for line in few] == ["", ""]


def test_a_run_that_diverged_counts_as_random_play():
    rows = [row(0, 0.6, "dr"), row(0, 0.9, status="diverged")]
    (line,) = cells(training_table(rows))
    assert line[6] == "+0.600"
    assert cells(control_shift.arms_table(rows))[0][-1] == "1"


def test_policies_are_paired_at_the_same_budget():
    gaussian = [row(seed, 0.5, algorithm="ppo") for seed in range(3)]
    beta = [row(seed, 0.6, algorithm="ppo-beta", return_0="-140") for seed in range(3)]
    other = [row(9, 0.0, algorithm="ppo", env_steps="5")]
    (line,) = cells(policies_table([*gaussian, *beta, *other]))
    assert line == ["Pendulum", "20,000", "3", "-150.0", "-140.0", "**+10.0 +- 0.0**",
                    "+0.000 +- 0.000", "**+0.100 +- 0.000**", ""]  # fmt: skip


def test_rows_of_a_folder_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(control_shift, "ROWS", tmp_path / "rows.csv")
    run(small_study(techniques=("baseline",), seeds=(0, 1)), tmp_path / "one")
    for _ in range(2):
        control_shift.keep([str(tmp_path / "one")])
    rows = read_rows(control_shift.ROWS)
    assert [(each["algorithm"], each["arm"], each["seed"]) for each in rows] == [
        ("ppo", "baseline", "0"), ("ppo", "baseline", "1"),
    ]  # fmt: skip
    assert all(np.isfinite(float(each["s_0.75"])) for each in rows)


def test_the_page_has_the_tables_of_its_rows():
    text, rows = control_shift.PAGE.read_text(), read_rows(control_shift.ROWS)
    assert rows and control_shift.updated(text, control_shift.tables(rows)) == text
    assert control_shift.draw(rows).startswith(b"\x89PNG")


def test_the_readme_quotes_the_tables():
    """Numbers of its findings are those of the two pages of continuous control."""
    readme = (control_shift.HERE.parent / "README.md").read_text()
    tables = control_shift.tables(read_rows(control_shift.ROWS))["training"]
    lines = [line for line in tables.splitlines() if "dr - baseline | 40" in line]
    assert len(lines) == 3
    for line in lines:
        algorithm, quoted = line.split("|")[2].strip(), line.split("|")[7].strip(" *")
        words = " ".join(readme.split())
        assert f"{quoted} with {algorithm}" in words, quoted
    effects = critic_free.tables(read_rows(critic_free.ROWS))["effects"]
    (line,) = [x for x in effects.splitlines() if "credit: step - episode | CartPole" in x]
    assert line.split("|")[4].strip(" *") in " ".join(readme.split())
