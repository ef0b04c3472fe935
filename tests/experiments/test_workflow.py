"""The command that follows one training: its files, what they hold, and how it goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jaxgen
from experiments import workflow
from jaxgen.evaluation.saving import load_agent
from jaxgen.results.store import open_store
from small_runs import refused

STEPS = 15360
"""Ten iterations of 12 x 128 steps; the learning curve has points after each second of them."""
WORDS = [
    "cartpole", "ppo", "--total-steps", str(STEPS), "--eval-freq", "3072", "--checkpoints", "0.2",
    "0.4", "1", "--quick", "--quiet", "--checkpoint-seconds", "0", "--eval-episodes", "6",
]  # fmt: skip
PLAIN = ["--set", "num_variations=1", "num_envs=12"]
SEEDS = ["--seeds", "0", "3", "--name", "two"]
PICTURES = ("comparison", "learning_curve", "checkpoint_means_barplot")


def started(root: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(Path(workflow.__file__)), *WORDS, *PLAIN, "--out", str(root)]
    return subprocess.run(
        [*command, *words], env=os.environ | environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip


def files_of(root: Path) -> dict[Path, bytes]:
    """All files but those that say when and where, and states, which have random names."""
    return {
        path.relative_to(root): path.read_bytes() for path in root.rglob("*")
        if path.is_file() and path.name not in ("provenance.json", ".lock", "plan.json")
        and ("snapshots" not in path.parts or path.suffix == ".npz") and path.suffix != ".mp4"
    }  # fmt: skip


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def folder_of(root: Path) -> Path:
    (folder,) = (root / "PPO_CartPole").iterdir()
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Two seeds, with films."""
    root = tmp_path_factory.mktemp("whole")
    assert workflow.main([*WORDS, *PLAIN, *SEEDS, "--out", str(root)]) == 0
    return root


def test_every_file_is_there_and_holds_what_its_name_says(whole):
    """Returns of checkpoints are those of a loaded agent on the named episodes; the curve's are
    greedy ones, as long as they returned, as CartPole pays 1 a step."""
    whole_folder = folder_of(whole)
    folder = whole_folder / "seed_0000"
    seeds = json.loads((whole_folder / "seeds.json").read_text())
    assert seeds["training"] == [0, 3] and len(seeds["evaluation"]) == 6
    assert seeds["evaluation"] != seeds["learning_curve"]
    random = arrays(whole_folder / "random_baseline_rewards.npz")["rewards"]
    assert random.shape == (6,) and 5 < random.mean() < 60
    curve = arrays(folder / "evaluations.npz")
    assert curve["timesteps"].tolist() == [3072, 6144, 9216, 12288, 15360]
    assert curve["results"].shape == curve["ep_lengths"].shape == (5, 6)
    np.testing.assert_array_equal(curve["results"], curve["ep_lengths"])
    for name, share, steps in (("020", 0.2, 3072), ("040", 0.4, 6144), ("100", 1.0, 15360)):
        inside = folder / "checkpoints" / name
        meta = json.loads((inside / "meta.json").read_text())
        assert (meta["env_steps"], meta["share"], meta["seed"]) == (steps, share, 0)
        trained = arrays(inside / "trained_rewards.npz")
        assert trained["rewards"].shape == (6,) and meta["mean"] == trained["rewards"].mean()
        agent = load_agent(inside / "agent.npz")
        again = jaxgen.evaluate(agent, "cartpole", [0.0], episodes=6)
        np.testing.assert_array_equal(again[0], trained["rewards"])
        with Image.open(inside / "rollout.gif") as film:
            assert film.n_frames > 3  # pyright: ignore[reportAttributeAccessIssue]
        # The lower median of six; filmed one by one, sums are rounded otherwise than in a batch.
        what, _, played = meta["film"].partition(": return ")
        median = np.argsort(trained["rewards"], kind="stable")[2]
        assert what == f"median of 6, episode {median}"
        assert float(played.split(",")[0]) == pytest.approx(trained["rewards"][median], rel=0.1)
        for picture in ("boxplot_trained_vs_random", "trained_rewards_hist"):
            assert (inside / f"{picture}.png").stat().st_size > 5000
    for picture in PICTURES:
        for place in (folder, whole_folder / "seed_0003", whole_folder):
            assert (place / f"{picture}.png").stat().st_size > 5000


def test_the_best_model_is_that_of_the_best_point_and_is_judged_on_other_episodes(whole):
    folder = folder_of(whole) / "seed_0000"
    curve = arrays(folder / "evaluations.npz")
    best = json.loads((folder / "best_model.json").read_text())
    point = curve["results"].mean(1).argmax()
    assert best["env_steps"] == curve["timesteps"][point]
    assert best["mean_on_the_episodes_that_it_was_chosen_by"] == curve["results"][point].mean()
    agent = load_agent(folder / "best_model.npz")
    returns = jaxgen.evaluate(agent, "cartpole", [0.0], episodes=6)
    assert best["mean_on_others"] == returns.mean()
    final = load_agent(folder / "final_model.npz")
    last = load_agent(folder / "checkpoints" / "100" / "agent.npz")
    np.testing.assert_array_equal(final.params, last.params)
    assert (load_agent(folder / "checkpoints" / "020" / "agent.npz").params != final.params).any()


def test_following_changes_nothing_of_a_run(whole, tmp_path):
    """Segments are one piece: the same parameters as without checkpoints."""
    from experiments import matrix

    words = ["--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "--seeds", "0",
             "--total-steps", str(STEPS), "--quick", "--quiet", "--no-plots", *PLAIN]  # fmt: skip
    assert matrix.main([*words, "--out", str(tmp_path)]) == 0
    (plain,) = tmp_path.glob("runs/*/seed_0000/agent.npz")
    ours = load_agent(folder_of(whole) / "seed_0000" / "final_model.npz")
    np.testing.assert_array_equal(load_agent(plain).params, ours.params)


def test_a_larger_budget_goes_on_as_if_it_had_been_one_piece(tmp_path, capsys):
    """From the end of the run before, whose own checkpoints are those of the past."""
    words = ["cartpole", "ppo", "--eval-freq", "3072", "--checkpoints", "0.2", "0.4", "1",
             "--quick", "--quiet", "--no-plots", "--eval-episodes", "6", *PLAIN]  # fmt: skip
    twice = ["--total-steps", str(2 * STEPS)]
    parts, piece = tmp_path / "parts", tmp_path / "piece"
    assert workflow.main([*words, "--total-steps", str(STEPS), "--out", str(parts)]) == 0
    before = set(parts.glob("PPO_CartPole/*"))
    assert workflow.main([*words, *twice, "--resume", "--out", str(parts)]) == 0
    assert workflow.main([*words, *twice, "--out", str(piece)]) == 0
    (longer,) = set(parts.glob("PPO_CartPole/*")) - before
    alone = folder_of(piece)
    for name in ("final_model.npz", "best_model.npz"):
        ours, theirs = (load_agent(root / name) for root in (longer, alone))
        np.testing.assert_array_equal(ours.params, theirs.params)
    ours, theirs = (arrays(root / "evaluations.npz") for root in (longer, alone))
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])
    # .2 of the larger budget is .4 of the smaller one, which kept that, and .4 is .8.
    assert {path.name for path in (longer / "checkpoints").iterdir()} == {"020", "100"}
    for name in ("020", "100"):
        ours, theirs = (
            (root / "checkpoints" / name / "trained_rewards.npz").read_bytes()
            for root in (longer, alone)
        )
        assert ours == theirs
    assert "-: no agent was kept there by the run" in capsys.readouterr().out


def test_a_name_belongs_to_one_run(whole, capsys):
    other = [*WORDS, "--seeds", "0", "--name", "two", "--out", str(whole)]
    refused(workflow.main, "workflow.py", other, capsys, "give another --name")


def test_runs_that_begin_with_an_agent_say_so(whole, tmp_path, capsys):
    """With a learning rate of 0 it stays what it was; its arm has another name than a new one's."""
    from experiments import matrix

    agent = folder_of(whole) / "seed_0000" / "final_model.npz"
    words = ["--env", "cartpole", "--algo", "ppo", "--technique", "baseline", "--seeds", "5",
             "--total-steps", "3072", "--quick", "--quiet", "--no-plots", "--out", str(tmp_path),
             "--set", "num_variations=1", "num_envs=12", "learning_rate=0.0"]  # fmt: skip
    assert matrix.main([*words, "--start", str(agent)]) == 0
    assert "ppo@learning_rate=0.0@num_envs=12@num_variations=1@start=" in capsys.readouterr().out
    (ours,) = tmp_path.glob("runs/*/seed_0005/agent.npz")
    np.testing.assert_array_equal(load_agent(ours).params, load_agent(agent).params)
    refused(matrix.main, "matrix.py", [*words, "--start", "none.npz"], capsys, "there is no agent")
    # The copy that the folder keeps is what runs begin with, wherever the first one is.
    (copy,) = (tmp_path / "starts").iterdir()
    copy.write_bytes(b"other")
    shutil.rmtree(tmp_path / "runs")
    assert matrix.main([*words, "--start", str(agent)]) == 0
    assert copy.read_bytes() == agent.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["checkpoint.placed:3", "derived.before:4", "derived.written:11"])
def test_killed_at_any_moment_the_same_command_goes_on(whole, tmp_path, point):
    """While it trains, and while its files are written."""
    killed = started(tmp_path, *SEEDS, JAXGEN_KILL_AT=point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = started(tmp_path, *SEEDS)
    assert again.returncode == 0, again.stderr
    assert files_of(tmp_path) == files_of(whole)


def test_a_plateau_ends_training_early_and_is_on_record(tmp_path):
    """No point can be above 500: after two more at that return, or below, training ends."""
    words = ["cartpole", "ppo", "--total-steps", str(20 * STEPS), "--eval-freq", "3072", "--quick",
             "--checkpoints", "1", "--quiet", "--no-plots", "--eval-episodes", "4", "--set",
             "plateau_points=2", "num_variations=1", "num_envs=12"]  # fmt: skip
    assert workflow.main([*words, "--seeds", "0", "1", "--out", str(tmp_path)]) == 0
    store = open_store(tmp_path)
    (name,) = store.run_names()
    lengths = []
    for seed in (0, 1):
        curve = store.read_history(name, seed)["eval_return"]
        lengths.append(len(curve))
        assert np.argmax(curve) == len(curve) - 3
        result: dict[str, Any] = store.read_result(name, seed)
        assert result["env_steps"]["actual"] == 3072 * len(curve) < 20 * STEPS
    # Each seed stops where it has stopped alone.
    assert workflow.main([*words, "--seeds", "1", "--out", str(tmp_path / "alone")]) == 0
    alone = open_store(tmp_path / "alone")
    assert len(alone.read_history(name, 1)["eval_return"]) == lengths[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoints", "0.3", "1"], "is no multiple of the evaluation frequency"),
        (["--checkpoints", "0.5"], "use shares of training that increase to 1"),
        (["--checkpoints", "0.4", "0.2", "1"], "use shares of training that increase to 1"),
        (["--eval-freq", "10"], "an evaluation every 10 env steps is not allowed"),
        (["--technique", "baseline", "dr"], "one arm is trained at a time, not 2"),
        (["--env", "cartpole"], "environment and algorithm come first"),
        (["--resume"], "leave out --resume"),
        (["--hparams-from", "nothing.json"], "nothing.json cannot be read"),
        (["--set", "plateau_points=-1"], "plateau_points = -1 is not allowed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, capsys, words, message):
    usual = [*WORDS, "--out", str(tmp_path / "none")]
    open_store(tmp_path / "none")
    refused(workflow.main, "workflow.py", [*usual, *words], capsys, message)
