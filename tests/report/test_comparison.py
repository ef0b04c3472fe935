"""Learning curves from anywhere: what is read, paired, and said of differences."""

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from experiments import report
from jaxgen.report.practice.comparison import Curves, difference, read_curves, table_of
from jaxgen.system.errors import BadInput

STEPS = np.array([100.0, 200.0, 300.0])


def written(folder, seed, values):
    """A file as stable-baselines3 writes it; two episodes a point, 1 above and below its mean."""
    path = folder / f"seed_{seed:04d}" / "evaluations.npz"
    path.parent.mkdir(parents=True)
    results = np.asarray(values, float)[:, None] + [[-1.0, 1.0]]
    np.savez(path, timesteps=STEPS.astype(int), results=results,
             ep_lengths=np.ones(results.shape, int))  # fmt: skip
    return path


@pytest.fixture
def sources(tmp_path):
    for seed, offset in ((0, 0.0), (1, 10.0), (2, 20.0)):
        written(tmp_path / "ours", seed, offset + np.array([0.0, 1.0, 2.0]))
        written(tmp_path / "theirs", seed, offset + np.array([0.0, 2.0, 5.0 + 0.1 * seed]))
    return tmp_path


def test_differences_are_paired_by_seed(sources):
    """Seeds are 10 apart, differences 3, 3.1 and 3.2: mean 3.1, t quantile 4.30265 of 2 degrees,
    deviation .1."""
    (ours,), (theirs,) = (read_curves(sources / name, name) for name in ("ours", "theirs"))
    assert list(ours.by_seed) == [0, 1, 2]
    found = difference(ours.at(300), theirs.at(300))
    assert found.num_pairs == 3 and found.mean == pytest.approx(3.1)
    assert found.half == pytest.approx(4.30265 * 0.1 / 3**0.5, rel=1e-4)
    rows = table_of([ours, theirs])
    assert rows[0][2] == "return after 300 env steps" and rows[2][3:] == ["+3.1 +- 0.24841", "3"]
    # Half-way between two points.
    assert ours.at(250)[0] == pytest.approx(1.5)


def test_without_shared_seeds_the_interval_is_welchs():
    first: dict[int | str, float] = {0: 1.0, 1: 2.0, 2: 4.0}
    second: dict[int | str, float] = {5: 6.0, 6: 9.0, 7: 11.0, 8: 12.0}
    found = difference(first, second)
    known = stats.ttest_ind(list(second.values()), list(first.values()), equal_var=False)
    low, high = known.confidence_interval(0.95)
    assert found.num_pairs == 0
    np.testing.assert_allclose([found.mean - found.half, found.mean + found.half], [low, high])
    assert np.isnan(difference({0: 1.0}, {1: 2.0}).half)


def test_the_last_step_is_one_that_all_have():
    short = Curves("short", {0: (STEPS[:2], np.array([1.0, 3.0]))})
    long = Curves("long", {0: (STEPS, np.array([1.0, 2.0, 9.0]))})
    rows = table_of([long, short])
    assert rows[0][2] == "return after 200 env steps"
    assert [row[2] for row in rows[1:]] == ["2", "3"] and rows[2][4] == "unpaired"


def test_the_command_writes_a_table_and_a_figure(sources, capsys):
    paths = [str(sources / name) for name in ("ours", "theirs")]
    assert report.main([*paths, "--names", "a", "b", "-o", str(sources / "out")]) == 0
    assert "+3.1 +- 0.24841" in capsys.readouterr().out
    text = (sources / "out" / "comparison.md").read_text()
    assert "| b | 3 |" in text and "Welch" in text
    with Image.open(sources / "out" / "comparison.png") as image:
        assert image.width > 600


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"timesteps": STEPS}, "is no file of evaluations"),
        ({"timesteps": STEPS, "results": np.ones(3)}, r"results \[3\]; they must be \[P\]"),
        ({"timesteps": STEPS[:2], "results": np.ones((3, 1))}, r"timesteps \[2\] and results"),
    ],
)
def test_what_is_no_file_of_evaluations_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "evaluations.npz", **arrays)
    with pytest.raises(BadInput, match=message):
        read_curves(tmp_path / "evaluations.npz", "x")


def test_a_folder_without_curves_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"holds no evaluations\.npz"):
        read_curves(tmp_path, "x")


def test_several_trainings_of_a_seed_are_not_pooled(sources):
    """Two folders of seed 0 are two trainings, whatever their names; those without a seed, too."""
    written(sources / "ours" / "again", 0, [9.0, 9.0, 9.0])
    with pytest.raises(BadInput, match="holds several trainings"):
        read_curves(sources / "ours", "ours")


def test_curves_that_do_not_overlap_are_not_extrapolated():
    early = Curves("early", {0: (STEPS, np.ones(3))})
    late = Curves("late", {0: (STEPS + 1000, np.ones(3))})
    with pytest.raises(BadInput, match="late begins after 1,100 env steps, another ends after 300"):
        table_of([early, late])
    other = Curves("other", {0: (STEPS, np.ones(3))}, "pendulum")
    with pytest.raises(BadInput, match="sources are of cartpole, pendulum"):
        table_of([early._replace(environment="cartpole"), other])


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04cut", b"\x93NUMPY"])
def test_a_damaged_file_is_refused(tmp_path, data):
    (tmp_path / "evaluations.npz").write_bytes(data)
    with pytest.raises(BadInput, match="is no file of evaluations"):
        read_curves(tmp_path / "evaluations.npz", "x")
