"""The study of learning without a critic: rows, effects by hand, and a page that follows."""

import csv
from typing import Any

import numpy as np
import pytest

from experiments import critic_free, gradient_noise
from experiments.critic_free import EFFECTS, SETTINGS, area, differences, interval
from experiments.tables import read_rows, with_table
from jaxgen.results.records import Record
from small_runs import run, small_study

PLAIN = {
    "credit": "step", "same_start": "True", "scale_by_deviation": "True", "gamma": "1",
    "baseline": "group", "group_size": "16", "num_envs": "16",
}  # fmt: skip


def row(seed: int, value: float, **settings: str) -> dict[str, str]:
    kind = dict.fromkeys(SETTINGS, "") if settings.get("algorithm") == "ppo" else PLAIN
    return kind | {
        "environment": "cartpole", "algorithm": "grpo", "seed": str(seed), "status": "done",
        "env_steps": "1000", "area": str(value), "return": "1", "s": str(value), "A_ood": "0.5",
    } | settings  # fmt: skip


def effect(name: str) -> critic_free.Effect:
    (found,) = [each for each in EFFECTS if each.name == name]
    return found


def differences_of(rows: list[dict[str, str]], name: str) -> dict[int, float]:
    cells = critic_free.cells_of(rows, "cartpole")
    return differences(cells, effect(name), "area")


def test_an_effect_is_the_mean_over_pairs_of_cells_within_a_seed():
    """Step less episode: .6 - .2 and .5 - .4 of seed 0, .7 - .1 and .9 - .2 of seed 1; what has no
    partner, a discount or another mean does not count, nor does PPO, nor a seed without all pairs,
    as seed 3."""
    rows = [
        row(0, 0.6), row(0, 0.2, credit="episode"), row(1, 0.7), row(1, 0.1, credit="episode"),
        row(0, 0.5, same_start="False"), row(0, 0.4, credit="episode", same_start="False"),
        row(1, 0.9, same_start="False"), row(1, 0.2, credit="episode", same_start="False"),
        row(3, 0.9), row(3, 0.1, credit="episode"),
        row(2, 0.9), row(0, 0.0, gamma="0.9"), row(0, 0.0, baseline="others"),
        row(0, 0.99, algorithm="ppo"),
    ]  # fmt: skip
    found = differences_of(rows, "credit: step - episode")
    assert found == pytest.approx({0: 0.25, 1: 0.65})
    start = differences_of(rows, "start, credit by step: same - any")
    assert start == pytest.approx({0: 0.1, 1: -0.2})
    assert differences_of(rows, "discount, credit by step: yes - no") == pytest.approx({0: -0.6})
    others = differences_of(rows, "mean of: the others - the group")
    assert others == pytest.approx({0: -0.6})


def test_groups_are_compared_with_one_of_them_and_with_as_many_episodes():
    rows = [
        row(0, 0.5), row(0, 0.9, group_size="4", num_envs="4"), row(0, 0.1, num_envs="64"),
        row(0, 0.3, group_size="4", num_envs="64"), row(0, 0.2, group_size="64", num_envs="64"),
    ]  # fmt: skip
    for name, expected in (
        ("one group an iteration: 4 - 16", 0.4), ("one group an iteration: 64 - 16", -0.3),
        ("64 episodes an iteration, groups: 4 - 16", 0.2),
        ("64 episodes an iteration, groups: 64 - 16", 0.1),
    ):
        assert differences_of(rows, name) == pytest.approx({0: expected}), name


def test_what_diverged_counts_as_a_failure():
    rows = [row(0, 0.6), row(0, 0.9, credit="episode", status="diverged")]
    assert differences_of(rows, "credit: step - episode") == pytest.approx({0: 0.6})
    assert "0.00 (0.00, 0.00), 1 failed" in critic_free.cells_table(rows)


def test_an_interval_is_students():
    """Of 1, 2, 3: 2 +- 4.303 / sqrt 3."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2, 4.3027 / 3**0.5), rel=1e-4)


def record_of(reward: list[float], env_steps: list[int]) -> Record:
    history = {"reward": np.array(reward), "env_steps": np.array(env_steps)}
    references: Any = {"references": {"floor": [10.0], "ceiling": [110.0]}}
    return Record({}, 0, references, history, {})


def test_the_area_is_weighed_by_env_steps():
    """60 over 100 steps, nothing known over the next 100, 110 over 200: (60 + 60 + 220) / 4 = 85,
    .75 of the way; what comes before the first known return counts as it does."""
    assert area(record_of([60, np.nan, 110], [100, 200, 400])) == pytest.approx(0.75)
    assert area(record_of([np.nan, 60], [100, 200])) == pytest.approx(0.5)
    assert np.isnan(area(record_of([np.nan], [100])))


@pytest.mark.slow
def test_rows_of_a_folder_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(critic_free, "ROWS", tmp_path / "rows.csv")
    run(small_study(techniques=("baseline",), seeds=(0, 1)), tmp_path / "one")
    critic_free.keep([str(tmp_path / "one")])
    critic_free.keep([str(tmp_path / "one")])
    with critic_free.ROWS.open() as file:
        rows = list(csv.DictReader(file))
    assert [(each["algorithm"], each["seed"]) for each in rows] == [("ppo", "0"), ("ppo", "1")]
    assert all(np.isfinite(float(each["area"])) and each["credit"] == "" for each in rows)


def test_the_page_has_the_tables_of_its_rows():
    text, rows = critic_free.PAGE.read_text(), read_rows(critic_free.ROWS)
    assert rows and critic_free.updated(text, critic_free.tables(rows)) == text
    noise = gradient_noise.table(read_rows(gradient_noise.ROWS))
    assert with_table(text, "gradient noise", noise) == text


def test_noise_over_signal_of_known_gradients():
    """Mean (3, 4), variances 1 and 2: 3 / 25, without bias, and the square 25."""
    random = np.random.default_rng(0)
    found = np.array([3.0, 4.0]) + random.normal(size=(100_000, 2)) * np.sqrt([1, 2])
    ratio, signal = gradient_noise.noise_to_signal(found)
    assert ratio == pytest.approx(0.12, rel=0.02) and signal == pytest.approx(25, rel=0.01)
    few = [gradient_noise.noise_to_signal(found[i : i + 4])[1] for i in range(0, 40_000, 4)]
    assert np.mean(few) == pytest.approx(25, rel=0.01)


def test_ppo_is_compared_with_the_usual_cell_of_the_same_seeds():
    """.9 - .5 and .8 - .6 of two seeds: .3 +- 12.7062 x .1; a seed of one of them alone is out."""
    usual = {"same_start": "False", "scale_by_deviation": "False"}
    rows = [
        row(0, 0.5, **usual), row(1, 0.6, **usual), row(2, 0.1, **usual), row(0, 0.2),
        row(0, 0.9, algorithm="ppo"), row(1, 0.8, algorithm="ppo"), row(3, 0.3, algorithm="ppo"),
    ]  # fmt: skip
    lines = critic_free.ppo_table(rows).splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("| G = 16 | CartPole | 2 | +0.300 +- 1.271 |")
