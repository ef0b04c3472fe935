"""Which figures a study writes: of each setting its own, of quick runs those of environments."""

from pathlib import Path

import pytest

from jaxgen.report.outputs import write_outputs
from jaxgen.results.store import open_store
from synthetic_records import make_record


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Figures are made, not rendered."""
    monkeypatch.setattr("jaxgen.report.style.to_png", lambda figure: b"png")


def plots(root: Path, records, plan=None) -> set[str]:
    """Names of the figures that are written of records."""
    store = open_store(root)
    for record in records:
        store.write_spec(record.name, record.spec)
        store.write_result(record.name, record.seed, record.result, record.load_history(), {})
    write_outputs(store, plan)
    return {file.stem for file in (root / "plots").iterdir()}


WHOLE = {
    "grs_heatmap", "cartpole_degradation", "cartpole_shift_grid", "cartpole_learning_grid",
}  # fmt: skip


def test_full_runs_have_figures_of_each_arm_too(tmp_path):
    records = [make_record(technique=name) for name in ("baseline", "dr")]
    assert plots(tmp_path, records) == WHOLE | {
        f"ppo_cartpole_{name}_{figure}"
        for name in ("baseline", "dr")
        for figure in ("learning_curves", "grs_curve")
    }


def test_quick_runs_have_figures_of_whole_environments_alone(tmp_path):
    assert plots(tmp_path, [make_record(quick=True), make_record("dqn", quick=True)]) == WHOLE


def test_another_setting_has_figures_of_its_own(tmp_path):
    many = [make_record(seed=seed) for seed in range(2)]
    other = make_record(total_steps=60_000, digest="ffffffff")
    names = plots(tmp_path, [*many, other])
    suffix = f"_ppo_{other.setting}"
    assert {f"{name}{suffix}" for name in WHOLE} < names
    assert {"ppo_cartpole_baseline_grs_curve", f"ppo_cartpole_baseline_grs_curve{suffix}"} < names
    assert len(names) == 2 * (len(WHOLE) + 2)


def test_the_setting_that_was_planned_has_the_plain_names(tmp_path):
    many = [make_record(seed=seed) for seed in range(2)]
    other = make_record(total_steps=60_000, digest="ffffffff")
    names = plots(tmp_path, [*many, other], [(other.name, 0)])
    assert f"cartpole_degradation_ppo_{many[0].setting}" in names


def test_arm_whose_runs_all_diverged_has_no_figure_of_its_levels(tmp_path):
    names = plots(tmp_path, [make_record(), make_record(technique="dr", diverged=True)])
    assert "ppo_cartpole_dr_learning_curves" in names
    assert "ppo_cartpole_dr_grs_curve" not in names
