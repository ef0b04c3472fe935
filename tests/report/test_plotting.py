"""Figures: what is drawn, not how it looks (that was looked at)."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxgen.report import figures, style
from jaxgen.report.figures import degradation, grs_curve, grs_heatmap, learning_curves
from jaxgen.report.generalisation import pictures
from jaxgen.report.style import QUICK_BANNER, STYLES, arm_styles, save, smooth, to_png
from jaxgen.results.records import group_cells
from jaxgen.techniques import COMPONENTS, STUDIED, SUITES
from synthetic_records import make_record, make_study

ROOT = Path(__file__).parents[2]
TECHNIQUES = SUITES["controls"]


def words(figure):
    """All text of a figure."""
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def legend_labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def line(axis, start) -> Any:
    """The one labelled line of an axis whose label starts so."""
    (found,) = [x for x in axis.get_lines() if str(x.get_label()).startswith(start)]
    return found


def lines(axis) -> Any:
    """All lines of an axis."""
    return axis.get_lines()


def arrays(record) -> Any:
    """The history of a made-up record, to be changed in place."""
    return record.history


# Learning curves


@pytest.mark.parametrize("num_seeds", [1, 3, 50])
def test_learning_curves_show_every_seed_and_state_n(num_seeds, tmp_path):
    figure = learning_curves([make_record("dqn", seed=i) for i in range(num_seeds)])
    assert [axis.get_ylabel() for axis in figure.axes] == [
        "return at training levels", "loss", "epsilon"
    ]  # fmt: skip
    # Seeds and their mean.
    assert len(figure.axes[1].get_lines()) == num_seeds + 1
    assert any(f"n = {num_seeds}" in label for label in legend_labels(figure))
    assert save(figure, tmp_path / "curves.png").stat().st_size > 1000


def test_only_dqn_has_a_panel_for_epsilon():
    assert len(learning_curves([make_record("ppo")]).axes) == 2


def test_thick_line_is_the_mean_over_seeds_of_the_smoothed_reward():
    records = [make_record(seed=i, iterations=80) for i in range(3)]
    axis = learning_curves(records).axes[0]
    # 80 iterations: the window is 80 // 40 = 2.
    curves = [smooth(r.load_history()["reward"].astype(float), 2) for r in records]
    drawn = line(axis, "training: seeds and their mean (n = 3, mean of the last 2 iterations)")
    np.testing.assert_allclose(drawn.get_ydata(), np.mean(curves, axis=0))
    np.testing.assert_allclose(drawn.get_xdata(), records[0].load_history()["env_steps"])


def test_evaluations_are_drawn_unsmoothed_over_the_reward():
    record = make_record()
    drawn = line(learning_curves([record]).axes[0], "greedy evaluation at v = 0")
    np.testing.assert_allclose(drawn.get_ydata(), record.load_history()["eval_return"], rtol=1e-6)


def test_diverged_seed_is_drawn_and_named_but_not_in_the_mean():
    good, bad = make_record(), make_record(seed=1, diverged=True)
    both, alone = learning_curves([good, bad]), learning_curves([good])
    label = "training: seeds and their mean (n = "
    mean, expected = (line(f.axes[1], label).get_ydata() for f in (both, alone))
    np.testing.assert_array_equal(mean, expected)
    assert len(both.axes[1].get_lines()) == len(alone.axes[1].get_lines()) + 2
    assert "diverged, not in the mean (1)" in legend_labels(both)


def test_evaluation_that_is_nan_leaves_the_mean_of_the_others():
    first, second = make_record(), make_record(seed=1)
    arrays(second)["eval_return"][3] = np.nan
    drawn = line(learning_curves([first, second]).axes[0], "greedy evaluation")
    assert drawn.get_ydata()[3] == pytest.approx(arrays(first)["eval_return"][3])


def test_seeds_of_different_length_are_averaged_where_both_are():
    records = [make_record(iterations=100), make_record(seed=1, iterations=60, total_steps=50_000)]
    arrays(records[1])["env_steps"] //= 2
    drawn = line(learning_curves(records).axes[1], "training")
    assert drawn.get_xdata()[-1] <= 25_000 and np.isfinite(drawn.get_ydata()).all()


def test_run_without_a_finished_episode_or_an_evaluation_is_drawn():
    record = make_record()
    history = arrays(record)
    history["reward"][:] = np.nan
    for name in ("eval_env_steps", "eval_return"):
        history[name] = history[name][:0]
    figure = learning_curves([record])
    assert np.isnan(line(figure.axes[0], "training").get_ydata()).all()


def test_smoothing_is_the_mean_of_the_finite_among_the_last():
    values = np.array([np.nan, 1.0, 3.0, np.nan, np.nan, np.nan, 6.0])
    # Windows of 3: [nan], [nan 1], [nan 1 3], [1 3 nan], [3 nan nan], [nan nan nan], [nan nan 6].
    np.testing.assert_array_equal(smooth(values, 3), [np.nan, 1, 2, 2, 3, np.nan, 6])
    np.testing.assert_array_equal(smooth(values, 1), values)
    assert len(smooth(np.ones(2), 5)) == 2


# Return against level


@pytest.mark.parametrize("num_seeds", [1, 3, 50])
def test_grs_curve_shows_every_seed_the_mean_and_n(num_seeds, tmp_path):
    records = [make_record("ppo", "minigrid", "gar", i) for i in range(num_seeds)]
    figure = grs_curve(records)
    returns = np.array([r.result["evaluation"]["modes"]["greedy"]["mean"] for r in records])
    drawn = line(figure.axes[0], "seeds and their mean")
    np.testing.assert_allclose(drawn.get_ydata(), returns.mean(axis=0))
    scaled = np.array([r.result["scores"]["greedy"]["s"] for r in records])
    np.testing.assert_allclose(
        line(figure.axes[1], "seeds and their mean").get_ydata(), scaled.mean(axis=0)
    )
    curves = [x for x in lines(figure.axes[1]) if len(x.get_xdata()) == 5]
    assert len(curves) == (num_seeds + 1 if num_seeds > 1 else 1)
    assert any(f"n = {num_seeds}" in label for label in legend_labels(figure))
    save(figure, tmp_path / "curve.png")


def test_grs_curve_shows_floor_ceiling_and_training_levels():
    record = make_record("ppo", "minigrid", "gar")
    axis = grs_curve([record]).axes[0]
    assert list(line(axis, "random play").get_ydata()) == record.result["references"]["floor"]
    assert list(line(axis, "ceiling").get_ydata()) == record.result["references"]["ceiling"]
    marked = [x.get_xdata()[0] for x in lines(axis) if x.get_linewidth() == 6]
    assert marked == [0, 0.25, 0.5]


def test_alias_marks_no_training_levels_of_its_own():
    axis = grs_curve([make_record("es", technique="gar")]).axes[0]
    assert not [x for x in lines(axis) if x.get_linewidth() == 6]


def test_mode_is_named_and_chosen():
    record = make_record()
    figure = grs_curve([record], "sampled")
    np.testing.assert_allclose(
        line(figure.axes[0], "seeds").get_ydata(),
        record.result["evaluation"]["modes"]["sampled"]["mean"],
    )
    assert "sampled" in figure.axes[0].get_ylabel()


def test_curve_of_a_policy_that_did_not_learn_says_so():
    text = words(grs_curve([make_record(s=[0.0] * 5)]))
    assert "did not learn" in text and "literal grs 1.40 !" in text


def test_curve_of_diverged_runs_says_so(tmp_path):
    text = words(grs_curve([make_record(), make_record(seed=1, diverged=True)]))
    assert "n = 2, 1 diverged" in text
    figure = grs_curve([make_record(diverged=True)])
    assert "no run finished" in words(figure)
    save(figure, tmp_path / "failed.png")


@pytest.mark.parametrize("draw", [learning_curves, grs_curve])
@pytest.mark.parametrize("records", [[], [make_record(), make_record(technique="gar")]])
def test_figure_of_an_experiment_refuses_others(draw, records):
    with pytest.raises(ValueError, match="one experiment"):
        draw(records)


@pytest.mark.parametrize("draw", [learning_curves, grs_curve])
def test_full_runs_are_shown_rather_than_quick_ones(draw):
    full = [make_record(digest="aaaaaaaa")]
    quick = [make_record(seed=i, quick=True, digest="ffffffff", total_steps=384) for i in range(2)]
    text = words(draw(quick + full))
    assert "run aaaaaaaa, 1 of 2 settings" in text and QUICK_BANNER not in text


# All cells


def heatmap_texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_heatmap_has_a_cell_for_each_algorithm_and_technique(tmp_path):
    figure = grs_heatmap(make_study(seeds=(0, 1)))
    panels = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title("left") for axis in panels] == ["CartPole", "Grid"]
    for axis in panels:
        assert [x.get_text() for x in axis.get_xticklabels()] == list(TECHNIQUES)
        assert [y.get_text() for y in axis.get_yticklabels()] == ["PPO", "DQN", "ES"]
        assert len(axis.texts) == 2 * 18
    save(figure, tmp_path / "grs_heatmap.png")


def test_colour_of_the_heatmap_is_the_mean_of_a():
    records = [make_record(seed=i, s=[height] * 5) for i, height in enumerate((0.2, 0.6))]
    figure = grs_heatmap([*records, make_record(technique="gar", s=[0.9] * 5)])
    area: Any = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(area.filled(np.nan)[0], [0.4, *[np.nan] * 3, 0.9, np.nan])


def test_heatmap_names_what_is_null_missing_failed_and_an_alias():
    texts = heatmap_texts(
        grs_heatmap([
            make_record(s=[0.0] * 5),
            make_record(technique="reg", diverged=True),
            make_record("es", technique="gar", s=[0.5] * 5),
        ])
    )  # fmt: skip
    assert "did not learn" in texts and "A 0.00\nliteral 1.40 !\nn = 1" in texts
    assert "failed" in texts and "n = 1, 1 diverged" in texts
    assert "grs_n 1.00" in texts and "A 0.50\nliteral 1.02\nn = 1 (of baseline)" in texts
    assert texts.count("missing") == 12 - 3


def test_alias_is_hatched():
    records = [make_record("es", technique=t) for t in ("baseline", "gar")]
    assert len(grs_heatmap(records).axes[0].patches) == 1
    assert not grs_heatmap(records[:1]).axes[0].patches


def test_degradation_draws_every_trained_arm_of_every_algorithm(tmp_path):
    records = make_study(seeds=(0, 1, 2))
    figure = degradation(records, "cartpole")
    assert [axis.get_title() for axis in figure.axes] == [
        "PPO (n = 3)", "DQN (n = 3)", "ES (n = 3)"
    ]  # fmt: skip
    assert [len(axis.containers) for axis in figure.axes] == [6, 6, 4]
    assert legend_labels(figure) == [*TECHNIQUES, "ceiling", "random play"]
    save(figure, tmp_path / "degradation.png")


def test_degradation_draws_means_and_ranges():
    records = [make_record(seed=i, s=[height] * 5) for i, height in enumerate((0.2, 0.3, 0.7))]
    (bars,) = degradation(records, "cartpole").axes[0].containers
    np.testing.assert_allclose(bars[0].get_ydata()[0], 22.4 + 0.4 * 477.6)
    low, high = bars[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose((low, high), (22.4 + 0.2 * 477.6, 22.4 + 0.7 * 477.6))


def test_equal_seeds_whose_mean_rounds_outside_their_range_are_drawn():
    records = [make_record("dqn", "minigrid", seed=i, s=[-0.7] * 5) for i in range(3)]
    for record in records:
        record.result["evaluation"]["modes"]["greedy"]["mean"] = [-0.1] * 5
    assert np.mean([-0.1] * 3) != -0.1
    assert len(degradation(records, "minigrid").axes[0].containers) == 1


def test_degradation_counts_what_diverged_and_survives_an_arm_without_a_run():
    records = [make_record(diverged=True), make_record(technique="gar")]
    figure = degradation(records, "cartpole")
    assert figure.axes[0].get_title() == "PPO (n = 1, 1 diverged)"
    assert len(figure.axes[0].containers) == 1


@pytest.mark.parametrize("draw", [lambda: grs_heatmap([]), lambda: degradation([], "cartpole")])
def test_figure_of_nothing_is_an_error(draw):
    with pytest.raises(ValueError, match="at least one record"):
        draw()


# All figures


def all_figures(**kwargs):
    records = make_study(environments=("cartpole",), algorithms=("ppo",), seeds=(0, 1), **kwargs)
    return {
        "learning_curves": learning_curves(records[:2]),
        "grs_curve": grs_curve(records[:2]),
        "grs_heatmap": grs_heatmap(records),
        "degradation": degradation(records, "cartpole"),
    }


def test_quick_runs_are_watermarked():
    for name, figure in all_figures(quick=True).items():
        assert QUICK_BANNER in words(figure), name
    for name, figure in all_figures().items():
        assert QUICK_BANNER not in words(figure), name


def test_no_text_leaves_its_figure():
    for name, figure in all_figures().items():
        figure.draw_without_rendering()
        width, height = figure.bbox.size
        for text in [*figure.texts, *(t for x in figure.legends for t in x.get_texts())]:
            (left, bottom), (right, top) = text.get_window_extent().get_points()
            assert 0 <= left <= right <= width and 0 <= bottom <= top <= height, (name, text)


def test_file_depends_on_the_records_alone(tmp_path):
    first, second = all_figures(), all_figures()
    for name in first:
        one = save(first[name], tmp_path / "a" / name)
        two = save(second[name], tmp_path / "b" / name)
        assert one.read_bytes() == two.read_bytes() == to_png(first[name])
        assert b"Matplotlib" not in one.read_bytes()
    # No partial file stays.
    assert len(list((tmp_path / "a").iterdir())) == len(first)


HOSTILE: Any = {
    "text.usetex": True, "font.size": 24.0, "savefig.bbox": "tight", "figure.autolayout": True,
    "axes.unicode_minus": False, "lines.linewidth": 9.0, "savefig.transparent": True,
    "path.sketch": (1.0, 100.0, 2.0), "figure.facecolor": "black", "axes.grid": True,
}  # fmt: skip
"""What a matplotlibrc, or a style of a paper, may say."""


def drawn() -> dict[str, bytes]:
    """A figure of the tables, and one of the report."""
    records = make_study(environments=("cartpole",), algorithms=("ppo",), seeds=(0, 1))
    cells = group_cells(records[:2])
    named = {
        "learning_curves": learning_curves(records[:2]),
        "ranking": pictures.ranking(cells, "A"),
    }
    return {name: to_png(figure) for name, figure in named.items()}


def test_no_file_depends_on_a_user_s_matplotlibrc():
    import matplotlib

    expected = drawn()
    with matplotlib.rc_context(HOSTILE):
        assert drawn() == expected
        assert {name: matplotlib.rcParams[name] for name in HOSTILE} == HOSTILE


def test_no_style_of_a_user_s_own_counts_in_any_figure():
    """Every function that returns a figure is drawn in the default look."""
    for module in (figures, pictures):
        for name, function in vars(module).items():
            if getattr(function, "__annotations__", {}).get("return") == "Figure":
                assert hasattr(function, "__wrapped__"), f"{module.__name__}.{name}"


def test_no_figure_needs_the_backend_that_a_variable_names():
    """In a process that draws for the first time."""
    code = (
        "from jaxgen.report.style import subplots, default_look, to_png\n"
        "with default_look():\n    figure, axes = subplots(1, 1, 1.0, 1.0)\n"
        "assert to_png(figure)"
    )
    environment = os.environ | {"MPLBACKEND": "nonsense"}
    words = [sys.executable, "-W", "error", "-c", code]
    assert subprocess.run(words, env=environment, cwd=ROOT).returncode == 0


def test_drawing_leaves_no_global_state():
    import sys

    all_figures()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_arms_differ_in_colour_and_in_marker():
    """The six arms of the study in both; offered arms share colours, in lines of their own."""
    assert set(STYLES) == set(STUDIED) == set(SUITES["rigorous"])
    assert set(STUDIED) - set(TECHNIQUES) < set(COMPONENTS)
    for field in ("color", "marker"):
        assert len({getattr(STYLES[name], field) for name in TECHNIQUES}) == len(TECHNIQUES)
    styles = arm_styles([*STYLES, "one", "another"])
    assert len(styles) == len(STYLES) + 2
    assert len({style.marker for style in styles.values()}) == len(styles)
    assert len({(style.color, style.line) for style in styles.values()}) == len(styles)


def test_colours_are_far_apart_in_grey_or_in_hue():
    from matplotlib.colors import to_rgb

    colors = [to_rgb(style.STYLES[name].color) for name in TECHNIQUES]
    for i, one in enumerate(colors):
        for two in colors[:i]:
            assert np.linalg.norm(np.subtract(one, two)) > 0.25
