"""Figures: what is drawn, not how it looks (that was looked at)."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxgen.report import figures, style, training
from jaxgen.report.figures import degradation, grs_curve, grs_heatmap, shift, shift_grid
from jaxgen.report.generalisation import pictures
from jaxgen.report.shown import figure_sets
from jaxgen.report.style import (
    QUICK_BANNER,
    STYLES,
    arm_styles,
    in_lines,
    save,
    smooth,
    to_png,
)
from jaxgen.report.training import learning_curves, learning_grid
from jaxgen.results.records import group_cells
from jaxgen.results.table import csv_text, read_csv, rows
from jaxgen.techniques import COMPONENTS, STUDIED, SUITES
from synthetic_records import make_record, make_study, with_overrides

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


@pytest.mark.parametrize(
    "num_seeds", [1, 3, pytest.param(50, marks=pytest.mark.slow)]
)
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
    assert "A 0.00, did not learn" in text and "literal" not in text


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
    for axis, steps in zip(panels, ("50k", "1M"), strict=True):
        assert [x.get_text() for x in axis.get_xticklabels()] == list(TECHNIQUES)
        assert [y.get_text() for y in axis.get_yticklabels()] == [
            f"{name}\n{steps} steps" for name in ("PPO", "DQN", "ES")
        ]
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
    assert texts[:2] == ["A 0.00", "did not learn\nn = 1"]
    assert "failed" in texts and "n = 1, 1 diverged" in texts
    assert "A 0.50" in texts and "grs_n 1.00\nn = 1 (of baseline)" in texts
    assert not any("literal" in text for text in texts)
    assert texts.count("missing") == 12 - 3


def test_alias_is_hatched():
    records = [make_record("es", technique=t) for t in ("baseline", "gar")]
    assert len(grs_heatmap(records).axes[0].patches) == 1
    assert not grs_heatmap(records[:1]).axes[0].patches


def test_degradation_draws_every_trained_arm_of_every_algorithm(tmp_path):
    records = make_study(seeds=(0, 1, 2))
    figure = degradation(records, "cartpole")
    assert [axis.get_title() for axis in figure.axes] == [
        f"{name}\n50k steps (n = 3)" for name in ("PPO", "DQN", "ES")
    ]  # fmt: skip
    assert [len(axis.containers) for axis in figure.axes] == [6, 6, 4]
    others = ["ceiling", "random play", "levels that an arm trains on"]
    assert legend_labels(figure) == [*TECHNIQUES, *others]
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
    assert figure.axes[0].get_title() == "PPO\n50k steps (n = 1, 1 diverged)"
    assert len(figure.axes[0].containers) == 1


@pytest.mark.parametrize("draw", [lambda: grs_heatmap([]), lambda: degradation([], "cartpole")])
def test_figure_of_nothing_is_an_error(draw):
    with pytest.raises(ValueError, match="at least one record"):
        draw()


def test_a_point_stays_at_its_level_however_many_arms_there_are():
    records = [make_record(technique=name) for name in COMPONENTS if name != "es-gar"]
    (axis,) = degradation(records, "cartpole").axes
    levels = np.array([0, 0.25, 0.5, 0.75, 1])
    width = np.ptp(axis.get_xlim())
    drawn = np.array([bars[0].get_xdata() for bars in axis.containers])
    assert len(drawn) == len(records) and len(np.unique(drawn[:, 0])) == len(records)
    assert np.abs(drawn - levels).max() <= 0.01 * width + 1e-9


def marked(axis) -> list[float]:
    """Levels that are shaded."""
    return sorted(x.get_xdata()[0] for x in lines(axis) if x.get_linewidth() == 6)


def test_degradation_marks_the_levels_that_any_arm_of_a_panel_trains_on():
    records = [make_record(), make_record(technique="dr"), make_record("dqn")]
    assert [marked(axis) for axis in degradation(records, "cartpole").axes] == [[0, 0.25, 0.5], [0]]


def test_rows_of_a_table_have_the_levels_of_the_technique_of_their_name():
    named = [make_record(technique="gar"), make_record(technique="unheard-of")]
    first, second = read_csv(csv_text(rows(named)))
    assert (first.training_levels, second.training_levels) == ((0, 0.25, 0.5), ())


def test_new_arm_stands_before_ceiling_and_random_play_in_a_legend():
    records = [make_record(technique=name) for name in ("baseline", "dr-new")]
    labels = legend_labels(degradation(records, "cartpole"))
    assert labels[:4] == ["baseline", "dr-new", "ceiling", "random play"]


def test_no_panel_shows_two_budgets_of_an_algorithm():
    """The setting with more runs is drawn, with its budget; the other one has its own figure."""
    small = [make_record(technique=name) for name in ("baseline", "dr")]
    large = [make_record(total_steps=60_000, digest="ffffffff"), make_record("dqn")]
    sets = figure_sets(small + large)
    other = f"_ppo_{large[0].setting}"
    assert {name: len(records) for name, records in sets.items()} == {"": 3, other: 1}
    titles = [axis.get_title() for axis in degradation(small + large, "cartpole").axes]
    assert titles == ["PPO\n50k steps (n = 1)", "DQN\n50k steps (n = 1)"]
    (axis,) = degradation(sets[other], "cartpole").axes
    assert axis.get_title() == "PPO\n60k steps (n = 1)" and len(axis.containers) == 1


def test_the_setting_that_was_asked_for_last_is_shown_first_unless_it_is_quick():
    small = [make_record(technique=name) for name in ("baseline", "dr")]
    large = make_record(total_steps=60_000, digest="ffffffff")
    quick = make_record(quick=True, digest="eeeeeeee")
    assert figure_sets([*small, large], [large.name])[""] == [large]
    assert figure_sets([*small, quick], [quick.name])[""] == small


def test_settings_have_panels_and_rows_of_their_own():
    plain = [make_record(technique=name) for name in ("baseline", "dr")]
    records = plain + [with_overrides(record, hidden=[128, 128]) for record in plain]
    title = "PPO\n@hidden=128x128\n50k steps"
    axes = degradation(records, "cartpole").axes
    assert [axis.get_title() for axis in axes] == ["PPO\n50k steps (n = 1)", f"{title} (n = 1)"]
    assert [[bars.get_label() for bars in axis.containers] for axis in axes] == [
        ["baseline", "dr"]
    ] * 2
    ticks = grs_heatmap(records).axes[0].get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["PPO\n50k steps", title]


def test_shift_names_each_line_and_marks_its_levels():
    cells = group_cells([make_record(), make_record("dqn", technique="dr")])
    figure = shift("Title", [(cell.algorithm, cell) for cell in cells])
    (axis,) = figure.axes
    assert [bars.get_label() for bars in axis.containers] == ["ppo", "dqn"]
    assert marked(axis) == [0, 0.25, 0.5]


# Grids


@pytest.mark.parametrize("draw", [shift_grid, learning_grid])
def test_grid_has_a_panel_for_every_arm_that_was_trained(draw, tmp_path):
    records = make_study(("cartpole",), ("ppo", "es"), seeds=(0, 1))
    figure = draw(records, "cartpole")
    panels = [axis for axis in figure.axes if axis.get_title()]
    titles = [axis.get_title() for axis in panels]
    own = [name for name in TECHNIQUES if not name.startswith("gar")]
    assert titles == [f"{name} (n = 2)" for name in (*TECHNIQUES, *own)]
    assert figure.axes[0].get_ylabel() == "PPO\n50k steps"
    assert all(axis.get_lines() for axis in panels)
    save(figure, tmp_path / "grid.png")


@pytest.mark.parametrize("draw", [learning_curves, lambda x: learning_grid(x, "cartpole")])
def test_gap_of_a_curve_is_explained_where_there_is_one(draw):
    note = "Lines of the training return have a gap where no episode ended."
    whole, broken = make_record(), make_record()
    arrays(whole)["reward"][:] = 1.0
    assert note in words(draw([broken])) and note not in words(draw([whole]))


def test_last_evaluation_that_follows_at_once_makes_no_hook():
    """Evaluations at 0, 100, ..., 900 and 910: the one at 900 is left out."""
    steps = np.array([*range(0, 1000, 100), 910])
    history = {"eval_env_steps": steps, "eval_return": np.arange(11)}
    curve = style.evaluations(history)
    assert curve is not None
    assert curve[0].tolist() == [*range(0, 900, 100), 910] and curve[1].tolist() == [*range(9), 10]
    history = {name: values[:10] for name, values in history.items()}
    curve = style.evaluations(history)
    assert curve is not None and len(curve[0]) == 10
    assert style.evaluations({}) is None


def test_learning_of_a_report_shows_the_spread_of_seeds():
    (cell,) = group_cells([make_record(seed=i) for i in range(3)])
    (axis,) = pictures.learning({"PPO": [("baseline", cell)]}).axes
    (band,) = axis.collections
    values = [np.asarray(record.load_history()["eval_return"]) for record in cell.records]
    vertices = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert vertices.min() == pytest.approx(np.min(values))
    assert vertices.max() == pytest.approx(np.max(values))


# All figures


def all_figures(**kwargs):
    records = make_study(environments=("cartpole",), algorithms=("ppo",), seeds=(0, 1), **kwargs)
    return {
        "learning_curves": learning_curves(records[:2]),
        "grs_curve": grs_curve(records[:2]),
        "grs_heatmap": grs_heatmap(records),
        "shift_grid": shift_grid(records, "cartpole"),
        "learning_grid": learning_grid(records, "cartpole"),
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
    for module in (figures, pictures, training):
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


def test_long_names_are_on_several_lines():
    """Broken before a setting; what is short, or has none, stays as it is."""
    name = "grpo-beta@num_envs=16@num_variations=1@credit=episode@same_start=false"
    assert in_lines(name) == (
        "grpo-beta@num_envs=16@num_variations=1\n@credit=episode@same_start=false"
    )
    assert in_lines("ppo gar+reg") == "ppo gar+reg" and in_lines("x" * 60) == "x" * 60
