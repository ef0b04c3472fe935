"""Lines as files, rows and verdicts: numbers that follow by hand."""

import csv
import io
from typing import Any

import numpy as np
import pytest

from jaxgen.report.connectivity import pictures
from jaxgen.report.connectivity.measures import COLUMNS, Key, rows_of, verdicts
from jaxgen.report.connectivity.outputs import write_connectivity
from jaxgen.report.style import to_png
from jaxgen.results.lines import Line, line_path, read_line, read_lines, write_line
from jaxgen.results.store import open_store
from jaxgen.system.files import DamagedFile

ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


def line_of(
    seed: int = 0, point: float = 0.5, replay: str = "copy", depth: float = 20.0,
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
        "parent": "ppo_cartpole_baseline-0123abcd", "point": point, "replay": replay, "number": 1,
        "pair": f"fork_{point:g}_{replay}", "ends": ["a", "b"], "alphas": ALPHAS,
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
    apart = found[Key("cartpole", "ppo", "baseline", "copy", 0.5, 0.0)]
    assert apart.word == "not connected" and apart.num == 3
    assert apart.estimate == pytest.approx(0.2)
    together = found[Key("cartpole", "ppo", "baseline", "copy", 0.5, 1.0)]
    assert together.word == "connected" and together.num == 3


def test_lines_are_files_that_notice_damage(tmp_path):
    store = open_store(tmp_path)
    line = line_of()
    write_line(store, line)
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
        for replay in ("copy", "fresh"):
            for point in (0.1, 0.5):
                write_line(store, line_of(seed, point, replay))
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
    assert len(before) == 2 * 6 + 3
    write_connectivity(store)
    assert before == {path: path.read_bytes() for path in before}


def test_a_line_is_drawn_with_its_straight_line():
    figure = pictures.interpolation(line_of())
    drawn: Any = figure.axes[0].lines
    np.testing.assert_allclose(drawn[0].get_ydata(), [60, 60, 60, 80, 100])
    np.testing.assert_allclose(drawn[1].get_ydata(), [60, 100])
    assert to_png(figure).startswith(b"\x89PNG")
