"""How a study is run changes no bit of it; what fails is counted; the best model acts."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxgen
from envs_jax import make_task
from jaxgen.report.training import generalisation_curves
from jaxgen.results.read import read_records
from jaxgen.results.result import Trained
from jaxgen.results.store import Store, open_store
from jaxgen.running.batch import make_group_program
from jaxgen.running.kinds.matrix import KIND
from jaxgen.running.session import Interrupted, Options, Session
from jaxgen.study.presets import preset
from jaxgen.study.product import Study, make_study
from jaxgen.study.spec import Evaluation
from jaxgen.training.fit import num_padded
from jaxgen.training.memory import num_bytes
from jaxgen.training.program import stack_lanes
from small_runs import (
    BUDGETS,
    SHORT,
    Recorder,
    assert_same_results,
    identities,
    memory_of,
    results_of,
    run,
    run_matrix,
    small_study,
    with_config,
    with_task_options,
)

BEST = "best_models/ppo_cartpole_best"
SEEDS = (0, 1, 2)
CARTPOLE = [("ppo", "cartpole"), ("dqn", "cartpole"), ("es", "cartpole")]
GRID = ("ppo", "minigrid")


# Determinism: no test below compares with a number, each compares two ways of running.


def study_of(cell: tuple[str, str], **changes) -> Study:
    """Six lanes, three on each of two devices; on the grid new layouts every third iteration."""
    algorithm, environment = cell
    # ES has no gar arm of its own.
    changes = {"techniques": ("dr", "reg"), "seeds": SEEDS} | changes
    if environment == "cartpole":
        return small_study(algorithm, environment, **changes)
    per_iteration = preset(algorithm, environment).steps_per_iteration
    changes = {"quick": True, "total_steps": 8 * per_iteration} | changes
    study = small_study(algorithm, environment, **changes)
    return with_task_options(study, refresh_steps=3 * per_iteration)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """(cell) -> the folder of its study, run as by default."""
    made: dict[tuple[str, str], Path] = {}

    def make(cell: tuple[str, str]) -> Path:
        if cell not in made:
            made[cell] = tmp_path_factory.mktemp("_".join(cell))
            run(study_of(cell), made[cell])
        return made[cell]

    return make


@pytest.fixture(
    params=[
        CARTPOLE[0],
        *(pytest.param(cell, marks=pytest.mark.slow) for cell in (*CARTPOLE[1:], GRID)),
    ],
    ids=lambda cell: "-".join(cell),
)
def cell(request) -> tuple[str, str]:
    return request.param


def test_runs_differ(folder, cell):
    """What follows means nothing if all were the same."""
    histories = [data for name, data in results_of(folder(cell)).items() if "history" in name]
    assert len(histories) == len(set(histories)) == 2 * len(SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [*CARTPOLE[1:], GRID], ids="-".join)
def test_one_device_and_longer_chunks_change_no_bit(folder, cell, tmp_path):
    """PPO on CartPole: see `test_another_device_goes_on_where_the_first_stopped`."""
    study = study_of(cell)
    recorder = run(study, tmp_path, num_devices=1, chunks_per_point=1)
    if cell != GRID:
        # A chunk for each point of the curve.
        assert len(recorder.env_steps) == len(recorder.curves) < 40
    assert_same_results(tmp_path, folder(cell))


def test_the_probe_changes_no_bit_of_anything_else(folder, tmp_path):
    cell = CARTPOLE[0]
    run(study_of(cell, evaluation=Evaluation(episodes=10, curve_episodes=3)), tmp_path)
    with_probe, without = (
        {(r.experiment, r.seed): r for r in read_records(open_store(root))[0]}
        for root in (folder(cell), tmp_path)
    )
    assert with_probe.keys() == without.keys() and len(without) == 2 * len(SEEDS)
    for name, record in without.items():
        probed = with_probe[name]
        assert probed.result["gas"]["probe"]["raw"] is not None
        assert record.result["gas"]["probe"] is None
        same = ("evaluation", "scores", "training", "env_steps", "status")
        assert [key for key in same if record.result[key] != probed.result[key]] == []
        history, probed_history = record.load_history(), dict(probed.load_history())
        assert probed_history.pop("probe_gram").shape[1:] == (2, 3, 2, 3)
        assert history.keys() == probed_history.keys()
        for series, values in history.items():
            np.testing.assert_array_equal(values, probed_history[series], err_msg=series)


@pytest.mark.slow
def test_every_rule_trains_a_program_of_its_own(tmp_path):
    """Offered arms beside the usual ones: all runs are there, and no two are the same."""
    arms = ("dr", "gar-n", "gar-shuffle", "pcgrad", "and-mask")
    study = small_study(techniques=arms, seeds=[0], **SHORT)
    recorder = run(study, tmp_path)
    assert len(recorder.noted("runs done")) == 5
    assert any("ppo cartpole gar-n: 1 runs done" in note for note in recorder.notes)
    records, damaged = read_records(open_store(tmp_path))
    assert len(records) == 5 and not damaged
    histories = [record.load_history()["agree_pair"].tobytes() for record in records]
    assert len(set(histories)) == 5
    assert not run(study, tmp_path).noted("runs done")


@pytest.mark.slow
def test_seed_by_seed_changes_no_bit(folder, tmp_path):
    """Nor the best model."""
    cell = CARTPOLE[0]
    # Which seed is the best differs between kinds of CPU; as the last it replaces another.
    best = json.loads((folder(cell) / f"{BEST}_scores.json").read_text())["seed"]
    best_last = sorted(SEEDS, key=lambda seed: seed == best)
    recorder = run(study_of(cell, seeds=best_last), tmp_path, vmap_seeds=False)
    assert len(recorder.noted("runs done")) == len(SEEDS)
    assert_same_results(tmp_path, folder(cell))
    scores = f"{BEST}_scores.json"
    assert (tmp_path / scores).read_bytes() == (folder(cell) / scores).read_bytes()
    ours, theirs = (jaxgen.load_agent(root / BEST).params for root in (tmp_path, folder(cell)))
    np.testing.assert_array_equal(ours, theirs)


def test_arms_that_are_added_change_no_bit(folder, cell, tmp_path):
    """Three lanes, then the other three."""
    run(study_of(cell, techniques=("reg",)), tmp_path)
    before = identities(tmp_path)
    run(study_of(cell), tmp_path)
    after = identities(tmp_path)
    assert {name: after[name] for name in before} == before
    assert_same_results(tmp_path, folder(cell))


@pytest.mark.slow
def test_seeds_and_arms_that_are_added_change_no_bit(folder, cell, tmp_path):
    """One lane first, then the other arm of that seed, then the other seeds."""
    run(study_of(cell, techniques=("reg",), seeds=(1,)), tmp_path)
    before = identities(tmp_path)
    run(study_of(cell, seeds=(1,)), tmp_path)
    run(study_of(cell), tmp_path, max_lanes=2)
    after = identities(tmp_path)
    assert {name: after[name] for name in before} == before
    assert_same_results(tmp_path, folder(cell))


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "num_iterations"), [(CARTPOLE[0], 40), (GRID, 8)])
def test_another_device_goes_on_where_the_first_stopped(folder, cell, num_iterations, tmp_path):
    """With longer chunks; and with the layouts, seen and in use, of the grid."""
    calls = iter(range(100))
    with pytest.raises(Interrupted):
        run(study_of(cell), tmp_path, should_stop=lambda: next(calls) == 7)
    recorder = run(study_of(cell), tmp_path, num_devices=1, chunks_per_point=1)
    assert recorder.noted(f"going on from iteration 7 of {num_iterations}")
    if cell != GRID:
        # A chunk for each point of the curve.
        assert len(recorder.env_steps) == len(recorder.curves) < num_iterations - 7
    assert_same_results(tmp_path, folder(cell))


@pytest.mark.parametrize(
    ("num_lanes", "num_devices", "expected"),
    [(1, 1, 2), (2, 1, 2), (3, 1, 3), (1, 2, 4), (4, 2, 4), (5, 2, 6), (18, 2, 18), (19, 4, 20)],
)
def test_no_lane_is_alone_on_its_device(num_lanes, num_devices, expected):
    assert num_padded(num_lanes, num_devices) == expected


# Memory


def test_lanes_that_memory_does_not_hold_are_trained_in_turn(folder, cell, tmp_path, monkeypatch):
    """Memory for five and a half of six on two devices: two batches of three, padded to four."""
    memory = memory_of(study_of(cell))
    enough = memory.shared + int(5.5 * memory.per_lane)
    monkeypatch.setattr("jaxgen.system.platform.available_memory", lambda: enough)
    recorder = run(study_of(cell), tmp_path)
    assert len(recorder.noted("6 lanes need about")) == 1
    assert len(recorder.noted(": 3 runs done")) == 2
    assert_same_results(tmp_path, folder(cell))


def test_lanes_that_were_asked_for_and_do_not_fit_are_an_error(cell, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxgen.system.platform.available_memory", lambda: 2**28 + 10)
    for asked, remedy in ((2, "lower num_envs"), (None, "lower num_envs")):
        with pytest.raises(ValueError, match=rf"lanes need about 1\.\d GB of memory.*{remedy}"):
            run(study_of(cell), tmp_path, max_lanes=asked)
    enough = memory_of(study_of(cell)).of(5)
    monkeypatch.setattr("jaxgen.system.platform.available_memory", lambda: enough)
    with pytest.raises(ValueError, match="--lanes-per-program auto .which takes 4."):
        run(study_of(cell), tmp_path, max_lanes=6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "environment"),
    [
        (algorithm, environment)
        for algorithm in ("ppo", "dqn", "es") for environment in ("cartpole", "minigrid")
    ],
)  # fmt: skip
def test_the_estimate_of_memory_is_what_the_program_takes(algorithm, environment):
    """At most a tenth less than the compiler's figure and a checkpoint, and not much more."""
    study = make_study([environment], [algorithm], ["dr"], [0, 1, 2])
    group = study.groups[0]
    session = Session(Store(Path("unused")), make_task, Options(), Recorder(), KIND, {})
    program = make_group_program(session, group).program
    arms = [(spec.config, spec.technique_values) for spec, _ in group.lanes]
    lanes = stack_lanes([*arms, arms[-1]], [0, 1, 2, 2])
    content = jax.eval_shape(program.world.content, lanes, np.int32(0))
    carry = jax.eval_shape(program.learner.init, lanes, content)
    analysis = program.learner.compile(lanes, carry, content).memory_analysis()  # pyright: ignore
    taken = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    memory, num_devices, *_ = program.capacity
    taken += num_bytes(carry) // num_devices
    estimated = memory(lanes).per_lane * len(lanes.seed) // num_devices
    assert 0.25 < taken / estimated < 1.1


@pytest.mark.slow
def test_processes_with_one_and_two_devices_agree(tmp_path):
    """Through the command line, with full networks, and with the default suite's width."""
    command = (
        "--env", "minigrid", "--algo", "ppo", "--num-seeds", "3", "--quick",
        "--no-plots", "--quiet",
    )  # fmt: skip
    for count in ("1", "2"):
        flags = f"--xla_force_host_platform_device_count={count}"
        process = run_matrix(*command, "--out", str(tmp_path / count), XLA_FLAGS=flags)
        assert process.returncode == 0, process.stderr
    assert_same_results(tmp_path / "1", tmp_path / "2")


# Failures

DIVERGING = 1e30
"""A learning rate that no network survives; finite, as a configuration must be."""


@pytest.fixture(scope="module")
def diverged(tmp_path_factory) -> Path:
    """A study one arm of which diverges."""
    root = tmp_path_factory.mktemp("diverged")
    study = with_config(small_study(), "gar", learning_rate=DIVERGING)
    recorder = run(study, root)
    assert len(recorder.noted("diverged: its parameters are not finite")) == 2
    return root


def test_a_diverged_arm_is_marked_and_the_others_go_on(diverged, tmp_path):
    results = {
        name: json.loads(data) for name, data in results_of(diverged).items() if "result" in name
    }
    statuses = [(r["run"]["technique"], r["run"]["seed"], r["status"]) for r in results.values()]
    assert sorted(statuses) == [
        ("baseline", 0, "done"), ("baseline", 1, "done"),
        ("gar", 0, "diverged"), ("gar", 1, "diverged"),
    ]  # fmt: skip
    for result in results.values():
        if result["status"] == "diverged":
            assert result["evaluation"] is result["scores"] is None
            assert result["env_steps"]["actual"] == BUDGETS["ppo"]
    # With a third seed the lanes are as many, padded, as those of the study.
    run(small_study(techniques=("baseline",), seeds=SEEDS), tmp_path)
    ours = {k: v for k, v in results_of(diverged).items() if "baseline" in k}
    assert ours == {k: v for k, v in results_of(tmp_path).items() if "seed_0002" not in k}


def test_a_diverged_run_is_counted_in_every_output(diverged):
    summary = (diverged / "experiment_summary.txt").read_text()
    counts = "4 of 4 planned runs are here. 0 of the runs here are aliases, 2 diverged: "
    assert counts in summary
    rows = list(csv.DictReader(io.StringIO((diverged / "results.csv").read_text())))
    failed = [row for row in rows if row["status"] == "diverged"]
    assert [(row["technique"], row["seed"], row["return"]) for row in failed] == [
        ("gar", "0", ""), ("gar", "1", ""),
    ]  # fmt: skip
    best = json.loads((diverged / f"{BEST}_scores.json").read_text())
    assert (best["technique"], best["num_candidates"]) == ("baseline", 2)


def test_a_diverged_run_is_done(diverged):
    before = identities(diverged)
    study = with_config(small_study(), "gar", learning_rate=DIVERGING)
    recorder = run(study, diverged)
    assert (recorder.env_steps, recorder.notes) == ([], [])
    assert identities(diverged) == before


@pytest.mark.slow
def test_curves_at_all_levels_are_drawn_and_change_nothing_else(tmp_path):
    """Level 0 is the curve as it is without; the last point's others are those of the run."""
    plain = Evaluation(episodes=20, curve_episodes=20)
    more = dataclasses.replace(plain, curve_levels=plain.levels)
    found = []
    for name, evaluation in (("plain", plain), ("more", more)):
        study = small_study(techniques=("dr",), seeds=(0, 1), evaluation=evaluation)
        run(study, tmp_path / name)
        found.append(read_records(open_store(tmp_path / name))[0])
    without, records = found
    assert without[0].name != records[0].name and without[0].setting != records[0].setting
    assert "curve_levels" not in without[0].spec["evaluation"]
    assert generalisation_curves(without, "cartpole") is None
    first, second = (each[0].load_history() for each in found)
    at_levels = second.pop("eval_return_at_levels")
    assert first.keys() == second.keys()
    for metric, values in first.items():
        np.testing.assert_array_equal(values, second[metric], err_msg=metric)
    assert at_levels.shape == (len(first["eval_return"]), 5)
    np.testing.assert_array_equal(at_levels[:, 0], first["eval_return"])
    (axis,) = generalisation_curves(records, "cartpole").axes  # pyright: ignore
    (line,) = axis.lines
    floor, ceiling = (records[0].result["references"][key] for key in ("floor", "ceiling"))
    own = []
    for record in records:
        last = record.load_history()["eval_return_at_levels"][-1]
        own.append(np.mean([(last[k] - floor[k]) / (ceiling[k] - floor[k]) for k in (3, 4)]))
    assert np.asarray(line.get_ydata())[-1] == pytest.approx(np.mean(own), rel=1e-5)


def test_what_counts_as_diverged():
    params, updates = np.zeros(3), np.array([0.0, 1.0, 1.0])
    history = {"updates": updates, "loss": np.array([np.nan, 1.0, 2.0])}
    spec, returns = small_study().groups[0].specs[0], np.zeros((2, 1, 1))
    trained = Trained(spec, 0, params, returns, history, None)
    assert trained.fault is None
    infinite = trained._replace(params=np.array([0.0, np.inf, 0.0]))
    assert infinite.fault == "its parameters are not finite"
    # A population that ranks returns which are NaN keeps finite parameters.
    for loss in (np.nan, np.inf):
        ranked = history | {"loss": np.array([1.0, loss, 1.0])}
        assert trained._replace(history=ranked).fault == "its loss is not finite in iteration 1"
    # The same of returns that are infinite, whose loss is as well.
    paid = history | {"reward": np.array([0.0, np.nan, np.inf])}
    assert trained._replace(history=paid).fault == "its training return is infinite in iteration 2"


# The best model


def test_the_best_model_is_that_of_the_best_return_at_level_zero(folder):
    root = folder(("ppo", "cartpole"))
    records, damaged = read_records(open_store(root, create=False))
    assert damaged == []
    at_zero = {
        (r.name, r.seed): r.result["evaluation"]["modes"]["greedy"]["mean"][0] for r in records
    }
    assert len(set(at_zero.values())) > 1
    best = json.loads((root / f"{BEST}_scores.json").read_text())
    assert at_zero[best["run"], best["seed"]] == max(at_zero.values()) == best["return_at_zero"]
    assert best["num_candidates"] == len(records) == 6


def test_the_best_model_acts_without_its_configuration(folder, cell):
    """Its returns over the study's own episodes are those of its result."""
    algorithm, environment = cell
    root = folder(cell)
    agent = jaxgen.load_agent(root / f"best_models/{algorithm}_{environment}_best")
    name = root / f"best_models/{algorithm}_{environment}_best_scores.json"
    best = json.loads(name.read_text())
    assert (agent.technique, agent.seed) == (best["technique"], best["seed"])
    options = study_of(cell).groups[0].specs[0].task_options
    returns = jaxgen.evaluate(agent, make_task(environment, **options), episodes=10)
    assert returns.mean(1, dtype=np.float64).tolist() == best["returns"]
    actions = agent.act(np.zeros((5, *agent.spec.obs_shape), np.float32))
    assert actions.shape == (5,)
