"""The benchmarks: turns, ratios, skipped peers, what is counted, and the page's tables."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bridge
import env_throughput
import gar_overhead
import harness
import readme
import roofline
import train_throughput
import worker
from contenders import jax_environments, own_training, scanning
from envs_jax import make_task
from harness import Case, Contender
from jaxgen.algorithms import gradients
from jaxgen.study.config import replace
from jaxgen.study.presets import preset
from jaxgen.techniques import Technique

ROOT = Path(__file__).parents[1]
SCRIPTS = (
    "env_throughput", "train_throughput", "control_throughput", "gar_overhead", "bridge", "matrix",
    "roofline", "trials",
)  # fmt: skip


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "support"))
    return tmp_path / "turns"


def contender(function, name="", **args):
    name = name or function
    return Contender(name, f"fake_contenders:{function}", args={"name": name} | args)


def measured(log, *contenders, repeats=3, quick=False, cores=None):
    case = Case("a case", {"log": str(log)}, list(contenders), repeats, cores)
    (records,) = harness.measure([case], "test", quick)
    return records


def test_contenders_take_turns_after_a_warm_up(log):
    measured(log, contender("steady", "a"), contender("steady", "b"))
    assert log.read_text().split() == ["a", "b"] * 4


def test_a_figure_is_the_median_of_its_turns_with_their_range(log):
    """The warm-up takes 1 s and is not counted; 60 steps in 2, 3, 4 s are 30, 20, 15 a second."""
    (record,) = measured(log, contender("slowing"))
    assert (record["steps_per_second"], record["lowest"], record["highest"]) == (20, 15, 30)
    assert (record["repeats"], record["seconds"]) == (3, 3.0)


def test_a_record_names_versions_hardware_and_facts(log):
    (record,) = measured(log, contender("steady"), quick=True)
    assert record["facts"] == {"compile_seconds": 1.5, "return": 7.0}
    assert {"python", "jax", "jaxlib", "numpy"} <= set(record["versions"])
    assert record["hardware"]["num_cores"] >= 1 and record["quick"] and record["repeats"] == 1
    assert record["peak_megabytes"] >= 1
    json.dumps(record, allow_nan=False)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are tied to no cores")
def test_contenders_are_kept_to_cores_before_they_start(log, monkeypatch):
    """As many devices as cores; without a number all cores are there."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    for cores, expected in ((1, 1), (None, len(os.sched_getaffinity(0)))):
        for record in measured(log, contender("kept", "a"), contender("kept", "b"), cores=cores):
            assert record["cores"] == record["facts"]["cores"] == expected
            assert record["facts"]["flags"] == record["xla_flags"]
            count = cores or record["hardware"]["num_cores"]
            assert f"device_count={count} " in record["xla_flags"]


def test_a_system_that_has_no_such_cores_says_so(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    chosen = []
    setter = lambda _, cores: chosen.append(cores)  # noqa: E731
    monkeypatch.setattr(os, "sched_setaffinity", setter, raising=False)
    worker.keep_to(1)
    assert chosen == [[3]] and worker.num_cores() == 2
    with pytest.raises(RuntimeError, match="cores = 3 is not possible; use 2 or fewer"):
        worker.keep_to(3)
    monkeypatch.delattr(os, "sched_setaffinity")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert worker.num_cores() is None
    with pytest.raises(RuntimeError, match="cores = 1 is not possible on .*; use Linux"):
        worker.keep_to(1)


def test_a_peer_that_is_not_installed_is_skipped_by_name(log, capfd):
    records = measured(log, contender("steady"), contender("absent"))
    assert [record["contender"] for record in records] == ["steady"]
    assert "absent: skipped, No module named 'a_package_that_nobody_has'" in capfd.readouterr().err


def test_without_the_second_environment_its_peers_are_skipped(log, capfd, monkeypatch):
    monkeypatch.delenv(harness.PEERS_PYTHON, raising=False)
    peer = contender("steady", "peer")._replace(second_environment=True)
    assert len(measured(log, contender("steady"), peer)) == 1
    assert f"peer: skipped, {harness.PEERS_PYTHON} names no interpreter" in capfd.readouterr().err
    monkeypatch.setenv(harness.PEERS_PYTHON, sys.executable)
    assert len(measured(log, contender("steady"), peer)) == 2


def test_what_a_contender_prints_does_not_disturb(log):
    assert len(measured(log, contender("talkative"))) == 1


def test_a_contender_that_dies_is_an_error_with_its_name(log):
    with pytest.raises(harness.ContenderFailed, match="dying ended with code 3"):
        measured(log, contender("dying"))


def test_a_peer_that_cannot_be_set_up_is_skipped_and_ours_is_not(log, capfd):
    assert len(measured(log, contender("steady"), contender("broken"))) == 1
    shown = capfd.readouterr().err
    assert "broken: skipped, broken ended with code 1" in shown and "no such map" in shown
    for name, message in (("broken", "ended with code 1"), ("absent", "a_package_that")):
        with pytest.raises(harness.ContenderFailed, match=message):
            measured(log, contender(name, "jaxgen, one device"))


def test_the_table_holds_the_ratio_to_each_peer():
    def record(name, rate):
        return {"case": "c", "contender": name, "steps_per_second": rate}

    table = harness.table([record("x", 1.5e6), record("jaxgen", 3e6), record("y", 4e3)])
    assert table.splitlines()[-1] == "| c | 3 M |  | x 1.5 M (**2**), y 4 k (**750**) |"


def test_the_table_compares_one_device_with_one():
    def record(name, rate):
        return {"case": "c", "contender": name, "steps_per_second": rate}

    names = {"jaxgen": 8e6, "jaxgen, one device": 5e6, "x, one device": 1e6, "x, all devices": 2e6}
    table = harness.table([record(name, rate) for name, rate in names.items()])
    expected = "x, one device 1 M (**8**; 5 on one), x, all devices 2 M (**4**)"
    assert table.splitlines()[-1] == f"| c | 8 M | 5 M | {expected} |"


def test_a_quick_run_does_not_write_over_a_real_one(monkeypatch):
    for flags, folder in (([], "results"), (["--quick"], "quick"), (["--out", "x"], "x")):
        monkeypatch.setattr(sys, "argv", ["script", *flags])
        parsed = harness.parse(harness.parser("Says what it is.", "name"))
        assert isinstance(parsed, argparse.Namespace) and parsed.out.name == folder


def test_the_plot_is_written(tmp_path):
    rates = {"steps_per_second": 2e6, "lowest": 1e6, "highest": 3e6}
    names = [f"peer {number}" for number in range(25)]
    records = [{"case": c, "contender": name} | rates for c in "ab" for name in names]
    harness.plot_rates(records, tmp_path / "new" / "rates.png", "title")
    assert (tmp_path / "new" / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_measuring_one_case_keeps_the_records_of_the_others(log, tmp_path):
    """In the order of the cases; what is no case any more goes."""
    args = {"log": str(log)}
    own = contender("steady", "jaxgen")
    cases = [Case(label, args, [own], 1) for label in ("one", "two", "three")]
    for chosen, given in (("o$", cases), ("one", cases), ("three", cases[:1] + cases[2:])):
        options = argparse.Namespace(only=chosen, quick=True, out=tmp_path)
        assert harness.run_benchmark(given, "test", "title", options) == 0
    kept = [record["case"] for record in harness.read_records(tmp_path / "test.jsonl")]
    assert kept == ["one", "three"]


def test_an_unknown_case_lists_those_there_are(tmp_path, capsys):
    options = argparse.Namespace(only="nothing", quick=True, out=tmp_path)
    assert harness.run_benchmark([Case("one", {}, [])], "test", "title", options) == 2
    assert "there are: one" in capsys.readouterr().err


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_explain_themselves(script):
    path = ROOT / "benchmarks" / f"{script}.py"
    shown = subprocess.run(
        [sys.executable, path, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "--quick" in shown.stdout and "--out" in shown.stdout


def test_the_tables_name_the_version_that_each_contender_ran_on():
    """gymnax is in both environments; the versions of peers without a record are not named."""
    def record(name, versions, quick=False):
        hardware = {"num_cores": 2, "cpu": "a processor"}
        return {"contender": name, "versions": versions, "hardware": hardware, "quick": quick}

    records = [
        record("gymnax, one device", {"jax": "0.9", "gymnax": "1.0", "evosax": "0.3"}),
        record("rejax", {"jax": "0.9", "gymnax": "0.0.9", "rejax": "0.1"}),
    ]
    expected = "2 cores, a processor; gymnax 1.0, jax 0.9, rejax 0.1"
    assert readme.provenance(records) == expected
    records.append(record("rejax", {"rejax": "0.1"}, quick=True))
    assert readme.provenance(records) == f"{expected}; QUICK, not a result"


# What is counted


@pytest.mark.parametrize("all_devices", [False, True])
def test_driven_environments_are_all_counted(all_devices, monkeypatch):
    """6 environments for 1024 steps a call, over one device or both."""
    sizes = []

    def make(num):
        sizes.append(num)
        return scanning.Batch(
            lambda key: jnp.zeros(num), lambda carry, key: (carry + 1, jax.random.uniform(key))
        )

    run, facts = scanning.drive(make, 6, all_devices)
    assert sizes == [3 if all_devices else 6] and facts["num_devices"] == 1 + all_devices
    monkeypatch.setattr(scanning, "MIN_SECONDS", 1e-9)
    assert run()["steps"] == 6 * 1024
    with pytest.raises(ValueError, match="5 environments cannot be split over 2 devices"):
        scanning.drive(make, 5, True)


def test_pendulum_is_measured_against_that_of_gymnax(monkeypatch):
    """On one device and on both, with actions all over the same interval: 4 x 1024 steps a call."""
    both = env_throughput.contenders("pendulum", 1024)
    assert [contender.name for contender in both] == [
        "jaxgen", "jaxgen, one device", "gymnax, one device", "gymnax, all devices"
    ]
    monkeypatch.setattr(scanning, "MIN_SECONDS", 1e-9)
    for contender in (both[1], both[2]):
        name = contender.function.split(":")[1]
        run, _ = getattr(jax_environments, name)(num_envs=4, **contender.args)
        assert run()["steps"] == 4 * 1024
    words = jnp.array([0, 2**31, 2**32 - 1], jnp.uint32)
    actions = scanning.numbers_from(words, -2.0, 2.0)
    np.testing.assert_allclose(actions, [-2, 0, 2], atol=1e-6)


@pytest.mark.slow
def test_our_training_counts_the_steps_of_the_seeds_that_were_asked_for():
    """Three seeds are padded to four lanes; 2 iterations of 4 x 32 steps each count three times."""
    rollouts = {"num_variations": 1, "num_envs": 4, "num_steps": 32, "num_minibatches": 4}
    run, facts = own_training.train("ppo", 3, rollouts | {"total_steps": 256})
    result = run()
    assert result["steps"] == 3 * 256 and result["return"] > 5
    assert facts["compile_seconds"] > facts["trace_seconds"] > 0


@pytest.mark.parametrize("cell", [("ppo", "cartpole"), ("dqn", "cartpole"), ("dqn", "minigrid")])
def test_the_pooled_update_has_as_many_samples_in_as_many_updates(cell):
    config: Any = preset(*cell)
    pooled: Any = replace(config, own_training._pooled(*cell))
    pooled.validate()
    assert pooled.num_variations == 1
    assert pooled.steps_per_iteration == config.steps_per_iteration
    for name in ("num_epochs", "num_minibatches", "updates_per_iteration"):
        assert getattr(pooled, name, None) == getattr(config, name, None)
    if cell[0] == "dqn":
        assert pooled.batch_per_variation == 3 * config.batch_per_variation


@pytest.mark.slow
@pytest.mark.parametrize("pooled", [False, True])
def test_updates_and_iterations_run(pooled, monkeypatch):
    monkeypatch.setattr(own_training, "WARM_UP_SHARE", 0.0)
    run, _ = own_training.update("ppo", "cartpole", 2, pooled, 1)
    assert run()["steps"] == 2
    if not pooled:
        run, _ = own_training.iterate("ppo", "cartpole", 2, 1)
        assert run()["steps"] == 2 and run()["seconds"] > 0


def test_both_updates_on_images_take_gradients_of_equally_many_at_a_time():
    """The preset's minibatches of 3 x 336 samples, in 3 x 12 parts of 28 and in 36: where the split
    differs, the parts must not."""
    config: Any = preset("ppo", "starpilot")
    short = gar_overhead.image_overrides(quick=False)
    size = config.num_envs * config.num_steps // config.num_minibatches
    assert config.num_envs * short["num_steps"] // short["num_minibatches"] == size == 336
    parts = []

    def gradient(batch):
        parts.append(batch.shape)
        return batch.sum(), {}

    for whole in (size, 3 * size):
        total, _ = gradients._in_parts(gradient, jnp.ones(whole))
        assert total == 28  # The mean over parts.
    assert set(parts) == {(28,)}


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.slow
def test_updates_on_images_run(pooled):
    overrides = gar_overhead.image_overrides(quick=True) | {"hidden": [8]}
    run, facts = gar_overhead.update_on_images(overrides, pooled)
    for _ in range(2):
        result = run()
        assert result["steps"] == 1 and result["seconds"] > 0
    assert facts["compile_seconds"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["random", "nature"])
def test_rollouts_of_starpilot_count_the_steps_of_all_seeds(policy, monkeypatch):
    """4 environments x 3 steps; procgen alone has the same threads."""
    pytest.importorskip("procgen")
    monkeypatch.setattr(bridge, "MIN_SECONDS", 1e-9)
    monkeypatch.setitem(bridge.POLICIES, policy, ("ppo", 12))
    both = [bridge.rollouts(policy, kind, 4) for kind in ("callback", "loop")]
    assert [run()["steps"] for run, _ in both] == [12, 12]
    if policy == "random":
        seeds = [bridge.rollouts(policy, "callback", 4, 2, together) for together in (True, False)]
        assert [run()["steps"] for run, _ in seeds] == [24, 24]
        run, facts = bridge.raw(4)
        assert run()["steps"] == 12
        assert {own["num_threads"] for _, own in [*both, *seeds]} == {facts["num_threads"]}


def test_random_actions_are_all_of_them_and_no_others():
    spec = make_task("starpilot").spec
    policy = bridge._random_policy(bridge._config("random", 4), Technique(), spec)
    words = np.linspace(0, 2**32 - 1, 1000).astype(np.uint32)[:, None]
    actions, _ = policy.act((), jnp.zeros(()), jnp.asarray(words))
    assert np.array_equal(np.unique(actions), np.arange(15))


def test_the_tables_of_the_bridge():
    """Ratios of those that were measured; what was not stays empty."""
    def record(case, name, rate):
        return {"case": case, "contender": name, "steps_per_second": rate}

    records = [
        record("random", bridge.CALLBACK, 9e4), record("random", bridge.LOOP, 6e4),
        record("random", bridge.RAW, 1.2e5),
        record("nature", bridge.CALLBACK, 3e3), record("nature", bridge.LOOP, 2e3),
    ]
    seeds = record("seeds", bridge.TOGETHER, 8e4), record("seeds", bridge.IN_TURN, 1e5)
    lines = bridge.table([*records, *seeds]).splitlines()
    random = "| random | 90 k/s | 60 k/s | 120 k/s | **0.75** | **0.50** | **1.50** |"
    assert lines[2:4] == [random, "| nature | 3 k/s | 2 k/s |  |  |  | **1.50** |"]
    assert lines[-1] == "| seeds | 80 k/s | 100 k/s | **0.80** |"
    assert bridge.table(records).splitlines() == lines[:4]
    cases = bridge.cases((64,))
    assert [contender.name for contender in cases[0].contenders] == [
        bridge.CALLBACK, bridge.LOOP, bridge.RAW
    ]
    assert cases[-1].args["num_seeds"] == 3


def test_without_procgen_the_bridge_says_what_to_do(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bridge.procgen_games, "installed", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bridge", "--out", str(tmp_path)])
    assert bridge.main() == 1
    assert "procgen is needed: " in capsys.readouterr().err


def test_operations_of_an_iteration_by_hand():
    """DQN on CartPole: 4 x 64 + 64 x 64 + 64 x 2 = 4480 products. An iteration of 3 x 2 x 11 = 66
    steps has 32 x 66 / 66 = 32 updates of 66 transitions; each transition goes through the frozen
    and the current network, forwards, and backwards without the first layer's inputs:
    5 x 4480 - 256 = 22 144."""
    work = roofline.work_of("dqn", "cartpole")
    assert work.collect_flops == 2 * 66 * 4480
    assert work.update_flops == 2 * 32 * 66 * 22_144
    # Parameters, gradients: 4 bytes x 4480 x 32 updates x (6 + 2 x 3) reads and writes.
    assert work.update_bytes == 4 * 4480 * 32 * 12


def test_operations_of_ppo_on_the_grid():
    """49 cells of 4 codes, of which the first takes no part in a product: 147 inputs."""
    policy, value = 147 * 128 + 128 * 128 + 128 * 3, 147 * 128 + 128 * 128 + 128
    work = roofline.work_of("ppo", "minigrid")
    samples = 3 * 16 * 32
    learn = 4 * samples * (3 * (policy + value) - 2 * 147 * 128)
    assert work.update_flops == 2 * (samples * value + learn)
    # Parameters are those of all 196 inputs; 16 updates.
    assert work.update_bytes == 4 * (policy + value + 2 * 49 * 128) * 16 * 12


def test_equal_work_is_asked_of_all():
    (case,) = train_throughput.ppo_cases([1], 500_000)
    own, peer = case.contenders
    assert (own.name, peer.name) == ("jaxgen", "rejax, one device")
    for name, value in train_throughput.ROLLOUTS.items():
        assert own.args["overrides"][name] == peer.args[name] == value
    assert own.args["overrides"]["total_steps"] == peer.args["total_steps"] == 500_000
    (es,) = train_throughput.es_cases([2], 7)
    names = ["jaxgen", "jaxgen, one device", "evosax, one device", "evosax, all devices"]
    assert [contender.name for contender in es.contenders] == names
    assert es.contenders[0].args["overrides"]["total_steps"] == 7 * 50 * 500
    labels = [case.label for case in gar_overhead.cases(quick=False)]
    assert labels[:-1] == ["ppo cartpole", "ppo minigrid", "dqn cartpole", "dqn minigrid"]
    assert labels[-1] == "ppo starpilot, 1/4 rollout"


def test_the_tables_of_the_page_are_those_of_the_records():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert readme.updated(text, ROOT / "benchmarks" / "results") == text
    with pytest.raises(ValueError, match="lacks the marker"):
        readme.updated("nothing", ROOT / "benchmarks" / "results")
