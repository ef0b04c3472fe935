"""Lines as files, rows and verdicts: numbers that follow by hand."""

import csv
import io
from typing import Any

import numpy as np
import pytest

from jaxgen.report.connectivity import pictures, studies
from jaxgen.report.connectivity.measures import COLUMNS, Key, rows_of, verdicts
from jaxgen.report.connectivity.outputs import write_connectivity
from jaxgen.report.style import to_png
from jaxgen.results.lines import Line, line_path, read_line, read_lines, write_line
from jaxgen.results.store import open_store
from jaxgen.system.files import DamagedFile

ENDS = [{"run": run, "seed": 0, "share": 1.0} for run in ("a", "b")]
ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


def line_of(
    seed: int = 0, point: float = 0.5, strategy: str = "copy", depth: float = 20.0,
    ends: tuple[float, float] = (60.0, 100.0), levels: tuple[float, ...] = (0.0, 1.0),
) -> Line:
    """Returns on a scale from 10 to 110, with a valley in the middle; level 1 has none."""
    alphas = np.asarray(ALPHAS)
    straight = (1 - alphas) * ends[0] + alphas * ends[1]
    valley = depth * (1 - np.abs(2 * alphas - 1))
    mean = np.stack([straight - valley * (level == 0) for level in levels], 1)
    returns = (mean[..., None] + np.array([-1.0, 1, -1, 1, -1, 1, -1, 1])).astype(np.float32)
    meta: dict[str, Any] = {
        "environment": "cartpole", "algorithm": "ppo", "arm": "baseline", "seed": seed,
        "parent": "ppo_cartpole_baseline-0123abcd", "point": point, "strategy": strategy,
        "path": "straight", "number": 1,
        "pair": f"fork_{point:g}_{strategy}", "ends": ENDS, "alphas": ALPHAS,
        "levels": list(levels), "episodes": 8, "quick": False,
    }  # fmt: skip
    num = len(levels)
    return Line(returns, np.full(num, 10.0), np.full(num, 110.0), 2.5, meta)


def test_a_row_has_falls_in_shares_of_the_scale():
    """Depth 20 of 100 below the line; the specified instability is the mean of the ends, 80, less
    the lowest return, 60."""
    first, second = rows_of(line_of())
    assert set(first) == set(COLUMNS)
    assert (first["first"], first["second"], first["level"]) == (60, 100, 0.0)
    assert first["barrier"] == pytest.approx(0.2) and first["middle"] == pytest.approx(0.2)
    assert first["valley"] == pytest.approx(0.0) and first["area"] == pytest.approx(0.1)
    assert first["instability"] == pytest.approx(20) and first["stable_as_specified"] is False
    assert second["barrier"] == pytest.approx(0.0) and second["learned"]
    # A straight line between unequal ends is unstable as it is specified.
    assert second["instability"] == pytest.approx(20) and second["stable_as_specified"] is False


def test_ends_that_did_not_learn_have_no_barrier():
    first, _ = rows_of(line_of(ends=(10.0, 100.0)))
    assert first["learned"] is False and first["barrier"] is None


def test_parents_are_the_unit_of_a_verdict():
    """Three parents of about .2, and one that did not learn, which is left out."""
    lines = [line_of(seed, depth=depth) for seed, depth in enumerate((18.0, 20.0, 22.0))]
    rows = [row for line in [*lines, line_of(3, ends=(10.0, 100.0))] for row in rows_of(line)]
    found = verdicts(rows)
    apart = found[Key("cartpole", "ppo", "baseline", "copy", "straight", 0.5, 0.0)]
    assert apart.word == "not connected" and apart.num == 3
    assert apart.estimate == pytest.approx(0.2)
    together = found[Key("cartpole", "ppo", "baseline", "copy", "straight", 0.5, 1.0)]
    assert together.word == "connected" and together.num == 3


def test_lines_are_files_that_notice_damage(tmp_path):
    store = open_store(tmp_path)
    line = line_of()
    write_line(store, "fork_0.5_copy", line)
    path = line_path(store, line.meta["parent"], 0, "fork_0.5_copy")
    again = read_line(path)
    np.testing.assert_array_equal(again.returns, line.returns)
    assert again.distance == 2.5 and dict(again.meta) == {"kind": "jaxgen line", **line.meta}
    data = path.read_bytes()
    at = data.index(line.returns.tobytes())
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(DamagedFile):
        read_line(path)
    assert read_lines(store)[0] == [] and len(read_lines(store)[1]) == 1


def test_all_files_follow_from_the_lines(tmp_path):
    """Rows, the tree of the specification, verdicts in words; drawn twice they are the same."""
    store = open_store(tmp_path)
    for seed in range(2):
        for strategy in ("copy", "fresh"):
            for point in (0.1, 0.5):
                line = line_of(seed, point, strategy)
                write_line(store, line.meta["pair"], line)
    words = write_connectivity(store)
    assert any("not connected" in word or "undecided" in word for word in words)
    tree = tmp_path / "base/cartpole/PPO/seed_0_0123abcd/fork_analysis"
    assert {path.name for path in tree.iterdir()} == {
        "fork_analysis.json", "all_interpolations.png", "instability_over_time.png",
        *(f"interp_fork_{p}_{r}.png" for p in ("0.1", "0.5") for r in ("copy", "fresh")),
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((tmp_path / "connectivity.csv").read_text())))
    assert len(rows) == 2 * 2 * 2 * 2 and tuple(rows[0]) == COLUMNS
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert len(before) == 2 * 6 + 4
    write_connectivity(store)
    assert before == {path: path.read_bytes() for path in before}


def test_paths_and_ends_without_a_point_have_rows_of_their_own(tmp_path):
    """Aligned lines are in tables, not in figures; two parents' ends are a horizontal line."""
    store, line = open_store(tmp_path), line_of()
    apart = line_of(strategy="independent", depth=50.0)
    apart = apart._replace(meta={**apart.meta, "point": None, "pair": "fork_independent"})
    aligned = apart._replace(meta={**apart.meta, "path": "aligned"})
    for name, each in (("a", line), ("b", apart), ("b-aligned", aligned)):
        write_line(store, name, each)
    words = "\n".join(write_connectivity(store))
    assert "independent (aligned)" in words
    rows = list(csv.DictReader(io.StringIO((tmp_path / "connectivity.csv").read_text())))
    assert [row["path"] for row in rows] == ["straight"] * 2 + ["aligned"] * 2 + ["straight"] * 2
    assert [row["point"] for row in rows] == ["0.5"] * 2 + [""] * 4
    tree = tmp_path / "base/cartpole/PPO/seed_0_0123abcd/fork_analysis"
    assert (tree / "interp_fork_independent.png").exists() and len(list(tree.iterdir())) == 5
    figure: Any = studies.instability_over_time([rows_of(line)[0], rows_of(apart)[0]], "title")
    levels = [artist.get_ydata() for artist in figure.axes[0].lines]
    assert any(np.allclose(level, 0.5) and len(level) == 2 for level in levels)


def test_critics_rise_above_the_line_between_their_ends():
    """Errors 1 and 2 at the ends and 3 halfway, where the line has 1.5."""
    errors = np.array([1.0, 1.25, 3.0, 1.75, 2.0])
    critics = np.stack([errors, 2 * errors, np.array([1.0, 0.9, 0.5, 0.9, 1.0])])
    first, second = rows_of(line_of()._replace(critics=critics))
    assert (first["td_rise"], first["td_rise_both"], first["correlation"]) == (1.5, 3.0, 0.5)
    assert second["td_rise"] is None and rows_of(line_of())[0]["td_rise"] is None
    figure: Any = studies.policy_and_critic([first], "title")
    assert len(figure.axes) == 3 and to_png(figure).startswith(b"\x89PNG")


def test_falls_by_level_along_the_line_are_drawn():
    """Level 0 falls by .2 of the scale halfway, level 1 nowhere."""
    figure: Any = studies.levels_along([line_of(0), line_of(1)], "title")
    drawn = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn, [[0, 0.1, 0.2, 0.1, 0], [0] * 5], atol=1e-6)


def test_a_line_is_drawn_with_its_straight_line():
    figure = pictures.interpolation(line_of())
    drawn: Any = figure.axes[0].lines
    np.testing.assert_allclose(drawn[0].get_ydata(), [60, 60, 60, 80, 100])
    np.testing.assert_allclose(drawn[1].get_ydata(), [60, 100])
    assert to_png(figure).startswith(b"\x89PNG")
