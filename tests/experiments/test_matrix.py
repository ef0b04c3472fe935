"""The command line: what it refuses, what it lists, what it writes and what it prints."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs_jax import procgen_games, unavailable
from experiments import matrix
from jaxgen.report.brief import HEADER
from jaxgen.report.style import QUICK_BANNER
from jaxgen.results import store
from jaxgen.results.best import CHOICES
from jaxgen.results.store import open_store
from jaxgen.running.command import _num_of_other_settings
from jaxgen.running.watching.console import (
    LONG_SECONDS,
    PLAIN_SECONDS,
    Console,
    log_lines,
    progress_line,
)
from jaxgen.study.estimate import describe_plan, estimated_seconds
from jaxgen.study.product import make_study
from jaxgen.study.spec import RunSpec
from jaxgen.system import files
from small_runs import (
    BUDGETS,
    ROOT,
    files_of,
    identities,
    refused,
    run,
    run_matrix,
    small_study,
)

# Bad input

NAMES = "use one of cartpole, minigrid"
REFUSED = [
    (["--env", "pong"], f"environment 'pong' is unknown; {NAMES}"),
    (["--env", "../cartpole"], f"environment '../cartpole' is unknown; {NAMES}"),
    (["--env", "cartpole", "cartpole"], "environment 'cartpole' is given twice; name each once"),
    (["--env", "cartpole", "--all"], "--env and --all exclude each other; give one"),
    (["--algo", "a3c"], "unknown algorithm 'a3c'; allowed: ppo, dqn, es"),
    (["--algo", "ppo", "ppo"], "algorithm 'ppo' is given twice; name each once"),
    (["--technique", "garr"], "unknown technique 'garr' in 'garr'; allowed: baseline, reg, dr, "),
    (["--technique", "a/../reg"], "unknown technique 'a/../reg' in 'a/../reg'; allowed: "),
    (["--technique", "gar+dr"], "technique 'gar+dr' holds both gar and dr"),
    (["--seeds", "-1"], "seed -1 is not allowed; use whole numbers from 0 to 2147483647"),
    (["--seeds", "2147483648"], "seed 2147483648 is not allowed; use whole numbers from 0 to "),
    (["--seeds", "1", "2", "1"], "seed 1 is given twice; name each seed once"),
    (["--num-seeds", "0"], "--num-seeds 0 is not allowed; use 1 or more"),
    (["--num-seeds", "-3"], "--num-seeds -3 is not allowed; use 1 or more"),
    (["--total-steps", "100"], "total_steps = 100 is not allowed; use at least one iteration of "),
    (["--total-steps", "-1"], "total_steps = -1 is not allowed; use at least one iteration of "),
    (["--eval-episodes", "1"], "episodes = 1 is not allowed; use 2 or more"),
    (["--eval-episodes", "1", "--quick"], "episodes = 1 is not allowed; use 2 or more"),
]
"""Words of the command line and the message that they meet, or its beginning."""

UNREADABLE = [
    (["--suite", "all"], "argument --suite: invalid choice: 'all'"),
    (["--seeds", "one"], "argument --seeds: invalid int value: 'one'"),
    (["--seeds", "1", "--num-seeds", "2"], "not allowed with argument --seeds"),
    (["--list", "--analyze"], "not allowed with argument --list"),
    (["--device", "abacus"], "argument --device: invalid choice: 'abacus'"),
    (["--nonsense"], "unrecognized arguments: --nonsense"),
    (["--lanes-per-program", "0"], "'0' is not allowed; use 1 or more, or auto"),
    (["--lanes-per-program", "many"], "'many' is not allowed; use 1 or more, or auto"),
    (["--bridge", "rope"], "argument --bridge: invalid choice: 'rope'"),
]


def assert_refused(capsys, words: list[str], message: str) -> None:
    refused(matrix.main, "matrix.py", words, capsys, message)


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_bad_input_is_refused_in_one_line(capsys, tmp_path, words, message):
    assert_refused(capsys, [*words, "--out", str(tmp_path / "out")], message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "message"), UNREADABLE)
def test_words_that_cannot_be_read_are_refused(capsys, words, message):
    with pytest.raises(SystemExit) as error:
        matrix.main(words)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file"


def another_schema(folder: Path) -> Path:
    (folder / "store.json").write_bytes(files.seal({"schema": 99, "kind": store.KIND}))
    return folder


def another_kind(folder: Path) -> Path:
    (folder / "store.json").write_bytes(files.seal({"schema": files.SCHEMA, "kind": "stamps"}))
    return folder


def no_results(folder: Path) -> Path:
    (folder / "thesis.tex").write_text("")
    return folder


def damaged_marker(folder: Path) -> Path:
    open_store(folder)
    data = (folder / "store.json").read_bytes()
    (folder / "store.json").write_bytes(data.replace(b"results", b"resulta"))
    return folder


FOLDERS = [
    (lambda folder: a_file(folder), "cannot be written (File exists)"),
    (lambda folder: a_file(folder) / "out", "cannot be written (Not a directory)"),
    (another_schema, f"has schema 99 and this version needs {files.SCHEMA}; give another folder"),
    (another_kind, "holds 'stamps', no results; give another folder"),
    (no_results, "holds files but no store.json, so it is no results folder"),
    (damaged_marker, "store.json: its content does not match its sha256; give another folder"),
]


@pytest.mark.parametrize(("make", "message"), FOLDERS)
def test_unusable_folders_are_refused_untouched(capsys, tmp_path, make, message):
    out = make(tmp_path)
    before = files_of(tmp_path)
    assert_refused(capsys, ["--quick", "--out", str(out)], message)
    assert files_of(tmp_path) == before


def test_a_folder_without_results_cannot_be_analysed(capsys, tmp_path):
    out = tmp_path / "out"
    message = f"there are no results in {out}; check the path, or run first"
    assert_refused(capsys, ["--analyze", "--out", str(out)], message)
    assert not out.exists()


IMPORTS_NOTHING_HEAVY = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
sys.path.insert(0, sys.argv[1])
from experiments import matrix
for words in json.loads(sys.argv[2]):
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            matrix.main(words)
        except SystemExit:
            pass
    heavy = sorted({"jax", "flax", "optax", "orbax", "matplotlib"} & set(sys.modules))
    assert not heavy, (words, heavy)
"""


def test_listing_and_refusing_import_nothing_heavy(tmp_path):
    out = ["--out", str(tmp_path / "out")]
    commands = [words + out for words, _ in REFUSED + UNREADABLE]
    commands += [["--list"], ["--list", "--all", "--quick"], ["--quick", "--out", "/dev/null/out"]]
    process = subprocess.run(
        [sys.executable, "-c", IMPORTS_NOTHING_HEAVY, str(ROOT), json.dumps(commands)],
        cwd="/", capture_output=True, text=True, timeout=120,
    )
    assert process.returncode == 0, process.stderr


# Starpilot, with and without procgen


def test_without_procgen_starpilot_says_what_to_do(capsys, monkeypatch, tmp_path):
    """Before anything is made; plans and tables do not need it, and --all leaves it out."""
    monkeypatch.setattr(procgen_games, "installed", lambda: False)
    # A failure of this test trains for hours.
    monkeypatch.setattr("jaxgen.running.runner.run_study", None)
    assert matrix.main(["--env-only", "starpilot", "--out", str(tmp_path / "out")]) == 2
    remedy = unavailable()["starpilot"]
    assert capsys.readouterr().err == (
        f"matrix.py: environment 'starpilot' cannot be played: {remedy}\n"
    )
    assert not (tmp_path / "out").exists()
    assert listed(capsys, "--env", "starpilot")[0] == "54 runs, 48 trained, 3 programs"
    lines = listed(capsys, "--all")
    assert lines[:2] == [f"starpilot is left out: {remedy}", "108 runs, 96 trained, 6 programs"]


def test_all_has_three_environments(capsys, monkeypatch):
    """The specified 3 x 3 x 6 x 3 with the control arms: 162 rows, 18 of them aliases of es."""
    monkeypatch.setattr(procgen_games, "installed", lambda: True)
    assert listed(capsys, "--all")[0] == "162 runs, 144 trained, 9 programs"


# Plans


def listed(capsys, *words: str) -> list[str]:
    assert matrix.main(["--list", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_default_plan(capsys):
    lines = listed(capsys)
    assert lines[0] == "108 runs, 96 trained, 6 programs"
    heads = [line.split(":")[0] for line in lines if " lanes x " in line]
    algorithms = ("ppo", "dqn", "es")
    assert heads == [f"{a} on {e}" for e in ("cartpole", "minigrid") for a in algorithms]
    assert len([line for line in lines if "(alias of " in line]) == 4
    assert "  (alias of es_cartpole_reg-" in "\n".join(lines)
    assert lines[-1].startswith("estimated time on two CPU cores: ")


def test_a_plan_counts_steps_lanes_and_seconds(capsys):
    words = ("--env", "cartpole", "--algo", "ppo", "--technique", "reg+gar", "--num-seeds", "8")
    lines = listed(capsys, *words, "--total-steps", "1e4")
    (group,) = make_study(["cartpole"], ["ppo"], ["gar+reg"], range(8), total_steps=10_000).groups
    assert lines == [
        "8 runs, 8 trained, 1 programs",
        "",
        "ppo on cartpole: 8 lanes x 10,000 env steps = 80,000; about "
        f"{estimated_seconds(group):.0f} s; seeds 0, 1, 2, 3, 4, 5, ...",
        f"  {group.specs[0].name}",
        "",
        lines[-1],
    ]


def test_a_plan_says_how_often_a_replay_is_learned_from(capsys):
    """In two environments as often as in one; of DQN 32 transitions a step, in batches of 66."""
    for words, updates in (
        (("pendulum", "--algo", "sac"), "1 update"),
        (("pendulum", "--algo", "sac", "--set", "num_envs=2"), "1 update"),
        (("cartpole", "--algo", "dqn"), "0.485 updates"),
    ):
        lines = listed(capsys, "--technique", "baseline", "--seeds", "0", "--env", *words)
        assert f"; {updates} a step; about " in lines[2]


def test_the_specified_suite_has_four_arms(capsys):
    lines = listed(capsys, "--suite", "specified", "--env", "cartpole", "--algo", "ppo")
    assert lines[0] == "12 runs, 12 trained, 1 programs"
    arms = [line.split("_")[2].split("-")[0] for line in lines if line.startswith("  ppo")]
    assert arms == ["baseline", "reg", "gar", "gar+reg"]


def test_short_names_are_the_same(capsys):
    short = listed(capsys, "--env", "cartpole", "--algo", "es")
    assert short == listed(capsys, "--env-only", "cartpole", "--algo-only", "es")


def test_a_quick_run_of_games_has_one_seed_unless_more_are_named(capsys):
    words = ["--quick", "--env", "bigfish", "--algo", "ppo", "--technique", "baseline"]
    assert listed(capsys, *words)[0].endswith("1 runs, 1 trained, 1 programs")
    assert listed(capsys, *words, "--seeds", "0", "1")[0].endswith("2 runs, 2 trained, 1 programs")
    assert listed(capsys, *words[1:])[0].endswith("3 runs, 3 trained, 1 programs")


def test_a_quick_plan_says_so(capsys):
    assert "QUICK: seconds of training, not a result" in listed(capsys, "--quick")
    assert not any("QUICK" in line for line in listed(capsys))


def test_a_plan_of_nothing_but_an_alias_names_what_is_trained():
    text = describe_plan(make_study(["cartpole"], ["es"], ["gar"], [0]))
    name = make_study(["cartpole"], ["es"], ["baseline"], [0]).groups[0].specs[0].name
    assert f"  {name}\n" in text
    assert f"(alias of {name})" in text


# A quick run, from the first line to the figures

QUICK = (
    "--env", "cartpole", "--algo", "es", "--technique", "baseline", "dr", "gar",
    "--seeds", "0", "1", "--quick",
)  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Folder and output of a quick run in a process of its own."""
    root = tmp_path_factory.mktemp("quick")
    process = run_matrix(*QUICK, "--out", str(root))
    assert process.returncode == 0, process.stderr
    return root, process


def test_a_quick_run_writes_everything(quick):
    root, process = quick
    names = set(files_of(root))
    experiments = ("es_cartpole_baseline", "es_cartpole_dr", "es_cartpole_gar")
    expected = {
        "results.csv", "experiment_summary.txt", "experiment_summary.md",
        *(f"best_models/es_cartpole_{name}{end}" for name in CHOICES
          for end in (".npz", "_scores.json")),
        "best_models/best_scores.json",
        "plots/grs_heatmap.png", "plots/cartpole_degradation.png",
        "plots/cartpole_shift_grid.png", "plots/cartpole_learning_grid.png",
        *(f"metrics/{name}_history.json" for name in experiments),
    }  # fmt: skip
    assert expected <= names
    assert len([name for name in names if name.startswith("plots/")]) == 4
    assert len([name for name in names if name.endswith("result.json")]) == 4
    assert list((root / "checkpoints").iterdir()) == []
    for place in ("experiment_summary.md", "results.csv", "plots", "best_models", "runs"):
        assert str(root / place) in process.stdout
    assert process.stderr == ""


def test_all_best_models_are_in_one_file_that_the_files_beside_them_make(quick):
    best = json.loads((quick[0] / "best_models/best_scores.json").read_text())
    one = json.loads((quick[0] / "best_models/es_cartpole_best_scores.json").read_text())
    other = json.loads((quick[0] / "best_models/es_cartpole_robust_scores.json").read_text())
    assert best == {"es_cartpole": one, "es_cartpole_robust": other}
    assert "flatter" in other["chosen_by"]


def test_a_quick_run_is_marked_everywhere(quick):
    root, process = quick
    assert "QUICK: seconds of training, not a result" in process.stdout
    for name in ("experiment_summary.txt", "experiment_summary.md"):
        assert QUICK_BANNER in (root / name).read_text()
    rows = list(csv.DictReader(io.StringIO((root / "results.csv").read_text())))
    assert {row["quick"] for row in rows} == {"true"}
    for pattern in ("runs/*/*/result.json", "runs/*/spec.json", "best_models/*_best_scores.json"):
        files = list(root.glob(pattern))
        assert files
        assert all(json.loads(file.read_text())["quick"] for file in files)
    for file in root.glob("metrics/*.json"):
        assert all(run["quick"] for run in json.loads(file.read_text())["runs"])


def test_a_run_without_a_terminal_prints_plain_lines(quick):
    out = quick[1].stdout
    assert "\r" not in out
    assert "\x1b" not in out
    assert " Step " not in out
    assert out.startswith("4 runs to train, 2 aliases, on cpu, into ")
    lines = out.splitlines()
    (title,) = (i for i, line in enumerate(lines) if line.startswith("CartPole (greedy, mean "))
    assert lines[title + 1].split() == [*HEADER]
    arms = [line.split()[:3] for line in lines[title + 2 : title + 4]]
    assert arms == [["es", "baseline", "2"], ["es", "dr", "2"]]
    assert lines[title + 4].startswith("  es: A_ood, dr - baseline ")
    assert len(lines) < 20 and lines[-1].startswith("Finished in ")


def test_another_budget_is_said_to_begin_anew(tmp_path):
    """Of the same arms alone; what was trained before stays where it is."""
    results = open_store(tmp_path)
    for technique, total_steps in (("dr", 1e5), ("dr", 2e5), ("gar", 1e5)):
        study = make_study(["cartpole"], ["ppo"], [technique], [0], total_steps=int(total_steps))
        for spec, _ in study.lanes:
            results.write_spec(spec.name, spec.to_dict())
    study = make_study(["cartpole"], ["ppo"], ["dr"], [0], total_steps=100_000)
    assert _num_of_other_settings(results, study) == 1


@pytest.fixture
def partial(quick, tmp_path) -> Path:
    """The quick run without one run, without its derived files."""
    root = shutil.copytree(quick[0], tmp_path / "partial")
    for name in ("metrics", "plots"):
        shutil.rmtree(root / name)
    for name in ("results.csv", "experiment_summary.txt", "experiment_summary.md"):
        (root / name).unlink()
    shutil.rmtree(sorted(root.glob("runs/*_dr-*/seed_0001"))[0])
    return root


def test_analyse_writes_what_the_files_allow_and_says_what_is_missing(capsys, partial, quick):
    before = identities(partial)
    assert matrix.main([*QUICK, "--analyze", "--out", str(partial)]) == 0
    out = capsys.readouterr().out
    name = sorted(partial.glob("runs/*_dr-*"))[0].name
    assert f"MISSING: 1 of 6 runs, of {name}\n" in out
    summary = (partial / "experiment_summary.txt").read_text()
    assert "5 of 6 planned runs are here." in summary
    missing = summary[summary.index("MISSING") :]
    assert [line.split() for line in missing.splitlines() if name in line] == [[name, "1"]]
    assert identities(partial) == before
    whole = {k for k in files_of(quick[0]) if not k.startswith("runs/")}
    assert {k for k in files_of(partial) if not k.startswith("runs/")} == whole


def test_analyse_imports_no_jax_and_draws_nothing_if_asked(partial):
    code = "import sys; sys.path.insert(0, sys.argv[1]); from experiments import matrix; "
    code += "matrix.main(sys.argv[2:]); assert not {'jax', 'matplotlib'} & set(sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), *QUICK, "--analyze", "--no-plots", "--out",
         str(partial)], cwd="/", capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert not (partial / "plots").exists()
    assert (partial / "results.csv").exists()


def test_analyse_of_an_empty_store(capsys, tmp_path):
    open_store(tmp_path)
    assert matrix.main([*QUICK, "--analyze", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "MISSING: 6 of 6 runs, of es_cartpole_" in out
    assert (tmp_path / "results.csv").read_text().count("\n") == 1
    assert not (tmp_path / "plots").exists()


def test_the_same_command_in_this_process_finds_everything_done(capsys, quick, tmp_path):
    """Quietly and without figures: notes and the summary are all that is printed."""
    root = shutil.copytree(quick[0], tmp_path / "copy")
    shutil.rmtree(root / "plots")
    before = identities(root)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert matrix.main([*QUICK, "--quiet", "--no-plots", "--out", str(root)]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    out = capsys.readouterr().out
    assert out.startswith("0 runs to train, 4 done before, 2 aliases, on cpu, into ")
    assert "CartPole (greedy, mean over n seeds, QUICK RUNS: NOT A RESULT)" in out
    assert identities(root) == before
    assert not (root / "plots").exists()


def test_stopped_at_once_says_how_to_go_on(capsys, monkeypatch, tmp_path):
    def interrupt(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("jaxgen.running.runner.run_study", interrupt)
    for words, without in (([], ""), (["--fresh"], " without --fresh")):
        assert matrix.main([*QUICK, *words, "--out", str(tmp_path)]) == 130
        err = capsys.readouterr().err
        ending = f"matrix.py: stopped at once; the same command{without} goes on from the last "
        assert err.splitlines()[-1] == ending + "checkpoint"


# Console

PPO = make_study(["cartpole"], ["ppo"], ["baseline", "gar"], [0, 1]).groups[0]
LINE = "ppo cartpole {} (n=2): Step 10000 | Reward: 25 | Loss: 0.39"


def history(**changes) -> dict[str, np.ndarray]:
    """Four lanes, three iterations; the last numbers are those of `LINE`."""
    def rows(value: float) -> np.ndarray:
        return np.full((4, 3), value, np.float32)

    values = {
        "env_steps": rows(10_000).astype(np.int32), "reward": rows(25), "loss": rows(0.39),
        "agree_pair": rows(0.233), "updates": rows(4), "eval_return": rows(101),
    }  # fmt: skip
    return values | changes


def lines_of(**changes) -> list[str]:
    return log_lines(PPO.lanes, history(**changes))


def test_a_log_line_per_arm_with_agreement_where_it_means_something():
    assert lines_of() == [
        LINE.format("baseline") + " | Eval: 101",
        LINE.format("gar") + " | GAR Agree: 0.233 | Eval: 101",
    ]


def test_a_log_line_is_a_mean_over_seeds_and_over_the_last_stretch():
    # curve_iterations of the default budget is longer than what there is: all of it counts.
    reward = np.array([[10, 20, 30], [20, 30, 40], [0, 0, 0], [2, 2, 2]], np.float32)
    assert PPO.config.curve_iterations >= 3
    assert "Reward: 25 |" in lines_of(reward=reward)[0]
    assert "Reward: 1 |" in lines_of(reward=reward)[1]
    earlier = np.full((4, 100), 7, np.float32)
    window = np.full((4, PPO.config.curve_iterations), 25, np.float32)
    assert "Reward: 25 |" in lines_of(reward=np.concatenate([earlier, window], axis=1))[0]


def test_agreement_is_clipped_at_zero_and_left_out_where_it_is_not_measured():
    assert "GAR Agree: 0.000 |" in lines_of(agree_pair=np.full((4, 3), -0.4, np.float32))[1]
    absent = lines_of(agree_pair=np.full((4, 3), np.nan, np.float32))
    assert not any("Agree" in line for line in absent)


def test_what_was_not_measured_is_a_dash_and_what_diverged_is_counted():
    nothing = np.full((4, 3), np.nan, np.float32)
    resting = lines_of(reward=nothing, loss=nothing, updates=np.zeros((4, 3)))[0]
    assert "Reward: - | Loss: - | Eval: 101" in resting
    loss = np.full((4, 3), 0.39, np.float32)
    loss[1, 2] = np.nan
    line = lines_of(loss=loss)[0]
    assert "Loss: 0.39 |" in line
    assert line.endswith("| Diverged: 1")


@pytest.mark.parametrize(
    ("env_steps", "rate", "expected"),
    [
        (450e3, 50e3, "ppo cartpole   45 %  0.05 M steps/s  ETA 0:11"),
        (0, 0, "ppo cartpole    0 %  0 M steps/s  ETA ?"),
        (1e6, 1.25e6, "ppo cartpole  100 %  1.25 M steps/s  ETA 0:00"),
        (1.1e6, 1e6, "ppo cartpole  100 %  1 M steps/s  ETA 0:00"),
        (0, 100, "ppo cartpole    0 %  100 steps/s  ETA 2:46:40"),
    ],
)
def test_progress_line(env_steps, rate, expected):
    assert progress_line("ppo cartpole", env_steps, 1e6, rate) == expected


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_progress_line_is_redrawn_and_cleared():
    stream = Terminal()
    console = Console(stream=stream)
    console.progress("a", 10, 100, 1)
    console.progress("a", 20, 100, 1)
    console.note("a note")
    console.note("another")
    line = progress_line("a", 10, 100, 1), progress_line("a", 20, 100, 1)
    clear = "\r\x1b[2K"
    assert stream.getvalue() == f"{clear}{line[0]}{clear}{line[1]}{clear}a note\nanother\n"


def test_elsewhere_a_plain_line_is_printed_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("jaxgen.running.watching.console.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    console = Console(stream=stream)
    console.stage("a: compiling")
    for second, done in ((1, 0), (15, 10), (29, 40), (30, 70), (45, 80)):
        now[0] = second * PLAIN_SECONDS / 15
        console.progress("a", done, 100, 1)
    console.stage("a: trained, evaluating")
    now[0] += 1
    console.stage("b: compiling")
    half = progress_line("a", 70, 100, 1)
    expected = ["a: compiling", half, "a: trained, evaluating"]
    assert stream.getvalue().splitlines() == expected


def test_long_silence_is_broken_and_arms_are_told_of_on_request(monkeypatch):
    now, stream = [0.0], io.StringIO()
    monkeypatch.setattr("jaxgen.running.watching.console.time.monotonic", lambda: now[0])
    console = Console(verbose=True, stream=stream)
    for now[0] in (LONG_SECONDS, LONG_SECONDS + PLAIN_SECONDS, 2 * LONG_SECONDS):
        console.progress("a", 1, 100, 1)
    assert stream.getvalue().splitlines() == [progress_line("a", 1, 100, 1)] * 2
    console.curve("a", PPO.lanes, history())
    assert stream.getvalue().splitlines()[2:] == lines_of()


def test_quiet_keeps_notes_only():
    stream = Terminal()
    console = Console(quiet=True, stream=stream)
    console.progress("a", 10, 100, 1)
    console.curve("a", PPO.lanes, history())
    console.note("a note")
    assert stream.getvalue() == "a note\n"


@pytest.mark.slow
def test_the_runner_reports_what_the_console_needs(tmp_path):
    """At each point of the curves, for the lanes of the batch, with agreement for gar only."""
    recorder = run(small_study(seeds=(0,)), tmp_path)
    budget = BUDGETS["ppo"]
    assert len(recorder.curves) == 20
    for lanes, metrics in recorder.curves:
        assert [spec.technique for spec, _ in lanes] == ["baseline", "gar"]
        first, second = log_lines(lanes, metrics)
        assert "GAR Agree" not in first
        assert "GAR Agree" in second
        assert f"Step {metrics['env_steps'][0, -1]} |" in first
    assert recorder.env_steps == sorted(recorder.env_steps)
    assert recorder.env_steps[-1] == 2 * budget
    spec: RunSpec = recorder.curves[0][0][0][0]
    assert spec.config.total_steps == budget
