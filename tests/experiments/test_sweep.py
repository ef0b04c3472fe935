"""Folders of configurations: how they are written, run by workers, and shown."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from experiments import matrix, sweep
from jaxgen.results.store import open_store
from small_runs import refused

SMALL = ["--quick", "--seeds", "0", "1", "--total-steps", "3072", "--technique", "baseline"]


@pytest.fixture
def configs(tmp_path) -> Path:
    """PPO with two learning rates, and GRPO with two group sizes, all on CartPole."""
    folder = tmp_path / "configs"
    place = ["--make-configs", str(folder), "--env", "cartpole", *SMALL]
    assert sweep.main([*place, "--algo", "ppo", "--set", "learning_rate=0.001,0.0003"]) == 0
    assert sweep.main([*place, "--algo", "grpo", "--set", "group_size=4,8", "num_envs=8"]) == 0
    return folder


def test_a_file_is_written_for_each_combination_and_the_matrix_reads_it(configs, capsys):
    names = {path.name for path in configs.iterdir()}
    assert names == {
        "cartpole_ppo_baseline@learning_rate=0.001.json",
        "cartpole_ppo_baseline@learning_rate=0.0003.json",
        "cartpole_grpo_baseline@num_envs=8@group_size=4.json",
        "cartpole_grpo_baseline@num_envs=8@group_size=8.json",
    }
    for path in configs.iterdir():
        content = json.loads(path.read_text())
        assert content["env"] == ["cartpole"] and content["seeds"] == [0, 1]
        assert matrix.main(["--config", str(path), "--list"]) == 0
    assert "ppo on cartpole: 2 lanes" in capsys.readouterr().out


def test_configurations_that_differ_in_numbers_share_a_program(configs):
    study = sweep.study_of(sweep.parse(["--config-dir", str(configs)]))
    assert [len(group.specs) for group in study.groups] == [1, 1, 2]
    assert all(spec.followed == () for group in study.groups for spec in group.specs)


def test_a_folder_is_run_and_shown(configs, tmp_path, capsys):
    """The specified folders and files; what is not there is said, and the rest drawn."""
    out = tmp_path / "out"
    words = ["--config-dir", str(configs), "--out", str(out), "--quiet"]
    assert sweep.main([*words, "--skip-films"]) == 0
    for name in ("cartpole_ppo_learning_rate=0.001", "cartpole_grpo_g4_num_envs=8"):
        folder = out / f"{name}_seed1"
        metrics = json.loads((folder / "metrics.json").read_text())
        evaluation, training = metrics["evaluation"], metrics["training"]
        assert len(evaluation["returns"]) == len(evaluation["env_steps"]) > 0
        # CartPole pays 1 a step.
        assert evaluation["returns"] == evaluation["lengths"]
        assert len(training["reward"]) == len(training["env_steps"])
        log = (folder / "logs" / "training.log").read_text().splitlines()
        assert len(log) == len(evaluation["env_steps"]) and log[0].startswith("env_steps ")
        lines = (folder / "timings.jsonl").read_text().splitlines()
        timings = [json.loads(line) for line in lines]
        assert {line["part"] for line in timings} == {"compile", "train", "evaluate", "probe"}
        assert {path.name for path in (folder / "checkpoints").iterdir()} == {
            "final.npz", "best.npz",
        }  # fmt: skip
        assert not (folder / "videos").exists()
    for kind in ("_plots_learning_curves/cartpole_ppo", "_plots_learning_curves/cartpole_grpo",
                 "_plots_grpo_g_analysis/cartpole_grpo"):  # fmt: skip
        with Image.open(out / f"{kind}.png") as image:
            assert image.width > 600
    assert not (out / "_plots_grpo_g_analysis/cartpole_ppo.png").exists()
    assert re.search(r"baseline@learning_rate=0.001 +n=2", capsys.readouterr().out)
    store = open_store(out)
    lost = next(name for name in store.run_names() if "learning_rate=0.001-" in name)
    store.discard(lost, 1)
    shown = [*words, "--analyze", "--field", "learning_rate", "-o", str(tmp_path / "figures")]
    assert sweep.main([*shown, "--skip-films"]) == 0
    assert "missing: 1 of 8 runs: cartpole_ppo_learning_rate=0.001_seed1" in capsys.readouterr().out
    assert (tmp_path / "figures" / "_plots_grpo_g_analysis" / "cartpole_ppo.png").exists()


@pytest.mark.slow
def test_24_configurations_and_a_worker_that_is_killed(tmp_path):
    """All runs are done, none twice, whoever dies."""
    configs, out = tmp_path / "configs", tmp_path / "out"
    rates = ",".join(f"{1e-4 * 1.3 ** n:.3g}" for n in range(12))
    for environment in ("cartpole", "pendulum"):
        made = ["--make-configs", str(configs), "--env", environment, "--algo", "ppo",
                "--set", f"learning_rate={rates}", "--quick", "--seeds", "0",
                "--technique", "baseline"]  # fmt: skip
        assert sweep.main(made) == 0
    assert len(list(configs.iterdir())) == 24
    command = [sys.executable, str(Path(sweep.__file__)), "--config-dir", str(configs), "--workers",
               "2", "--out", str(out), "--stale-seconds", "5", "--no-plots"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=os.environ) as process:  # fmt: skip
        workers: list[int] = []
        while len(workers) < 2 and process.poll() is None:
            time.sleep(0.5)
            found = subprocess.run(["pgrep", "-f", f"{out}.*--worker"], capture_output=True,
                                   text=True, check=False)  # fmt: skip
            workers = [int(number) for number in found.stdout.split()]
        time.sleep(8)
        os.kill(workers[0], signal.SIGKILL)
        said, _ = process.communicate(timeout=900)
    again = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert again.returncode == 0, said + again.stdout + again.stderr
    store = open_store(out)
    assert len(store.run_names()) == 24
    assert all(store.is_done(name, 0) for name in store.run_names())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    assert subprocess.run(command, capture_output=True, timeout=900, check=False).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("result.json")} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --config-dir DIR, or write one by --make-configs DIR"),
        (["--config-dir", "nowhere"], "there is no folder nowhere; write one by --make-configs"),
        (["--make-configs", "x", "--env", "cartpole", "--algo", "pp"], "'pp'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, capsys, words, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(sweep.main, "sweep.py", words, capsys, message)


def test_files_that_contradict_each_other_are_refused(configs, tmp_path, capsys):
    (first, *_) = sorted(configs.iterdir())
    words = ["--config-dir", str(configs), "--out", str(tmp_path / "out")]
    (configs / "again.json").write_text(first.read_text())
    refused(sweep.main, "sweep.py", words, capsys, "ask for the same run, grpo_cartpole_baseline")
    (configs / "again.json").write_text('{"learning_rate": 3}')
    refused(sweep.main, "sweep.py", words, capsys, "unknown key 'learning_rate'")
    (configs / "again.json").write_text(first.read_text().replace("3072", "6144"))
    refused(sweep.main, "sweep.py", words, capsys, "would both lie in cartpole_grpo_g4_num_envs=8")
