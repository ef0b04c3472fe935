"""Studies as files: a file says what flags say, and the other way round."""

import json

import pytest

from experiments import matrix
from experiments.command_line import config_text, parse, study_of, worker_argv
from jaxgen.system.errors import BadInput
from small_runs import refused

WORDS = ["--algo", "ppo", "es", "--env", "cartpole", "--technique", "dr", "--num-seeds", "4",
         "--total-steps", "1e5", "--set", "learning_rate=1e-3,3e-4", "--no-vmap-seeds",
         "--no-plots"]  # fmt: skip
CONTENT = {
    "algo": ["ppo", "es"], "env": "cartpole", "technique": "dr", "num_seeds": 4,
    "total_steps": 1e5, "set": {"learning_rate": [1e-3, "3e-4"]}, "vmap_seeds": False,
    "no_plots": True,
}  # fmt: skip


def file_of(tmp_path, content, suffix=".json"):
    path = tmp_path / f"study{suffix}"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def asked(args):
    """All that a command line asks for, but for the way to say it."""
    return {key: value for key, value in vars(args).items() if key != "config"}


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_file_asks_for_what_flags_ask_for(tmp_path, suffix):
    """JSON is YAML."""
    ours = parse(["--config", file_of(tmp_path, CONTENT, suffix)])
    theirs = parse(WORDS)
    assert study_of(ours) == study_of(theirs)
    ours.set = theirs.set
    assert asked(ours) == asked(theirs)


def test_what_is_printed_runs_as_a_file_and_prints_the_same(tmp_path, capsys):
    assert matrix.main([*WORDS, "--print-config"]) == 0
    text = capsys.readouterr().out
    file = file_of(tmp_path, text)
    assert study_of(parse(["--config", file])) == study_of(parse(WORDS))
    assert config_text(parse(["--config", file])) + "\n" == text


def test_the_command_line_counts_more(tmp_path):
    file = file_of(tmp_path, CONTENT)
    args = parse(["--config", file, "--seeds", "7", "--algo", "dqn", "--quiet"])
    assert (args.seeds, args.num_seeds, args.algo, args.quiet) == ([7], None, ["dqn"], True)
    assert args.technique == ["dr"]


def test_yaml_as_people_write_it(tmp_path):
    text = "algo: ppo\nseeds: [3, 5]\nset:\n  hidden: 32x32\n  learning_rate: [1e-3, 3e-4]\n"
    args = parse(["--config", file_of(tmp_path, text, ".yml")])
    assert args.seeds == [3, 5] and args.set == ["hidden=32x32", "learning_rate=1e-3,3e-4"]


REFUSED = [
    (".json", {"lr": 1}, "study.json: unknown key 'lr'; allowed: suite, algo, technique, env, "),
    (".json", {"list": True}, "unknown key 'list'"),
    (".json", {"config": "x"}, "unknown key 'config'"),
    (".json", "{", "study.json: it is no valid JSON"),
    (".json", '{"algo": "ppo", "algo": "es"}', "a key occurs twice"),
    (".json", {"quick": "yes"}, "study.json: quick = 'yes' is not allowed; use true or false"),
    (".yaml", "- a\n- b\n", "study.yaml is not allowed; write one KEY: VALUE a line"),
    (".yaml", "a: [", "study.yaml cannot be read: while parsing"),
    (".toml", "", "study.toml is not allowed; name a file that ends in .json, .yaml, .yml"),
    (".json", {"algo": "a3c"}, "unknown algorithm 'a3c'"),
]


@pytest.mark.parametrize(("suffix", "content", "message"), REFUSED)
def test_bad_files_are_refused_in_one_line(tmp_path, capsys, suffix, content, message):
    words = ["--config", file_of(tmp_path, content, suffix), "--list"]
    refused(matrix.main, "matrix.py", words, capsys, message)


def test_a_file_that_is_not_there_is_refused(tmp_path, capsys):
    words = ["--config", str(tmp_path / "none.yaml"), "--list"]
    refused(matrix.main, "matrix.py", words, capsys, "none.yaml cannot be read: [Errno 2] No such")


def test_workers_find_files_from_any_folder(tmp_path, monkeypatch):
    file_of(tmp_path, {"algo": "ppo"})
    (tmp_path / "own_workers.py").write_text("")
    monkeypatch.chdir(tmp_path)
    argv = ["--config", "study.json", "--plugin", "own_workers.py"]
    words = worker_argv(argv, parse(argv))
    monkeypatch.chdir("/")
    args = parse(words)
    assert args.plugin == [tmp_path / "own_workers.py"] and args.algo == ["ppo"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "learning_rate=1e-4..1e-2"], "learning_rate has a range, which only a search"),
        (["--set", "learning_rat=1"], "key 'learning_rat', perhaps learning_rate; allowed: total"),
        (["--set", "learning_rate=high"], "learning_rate = 'high' is not allowed; use a number"),
        (["--set", "hidden=0x8"], "hidden"),
        (["--plugin", "none.py"], "none.py is not allowed; give a Python file, e.g. my_env.py"),
    ],
)
def test_bad_settings_and_plugins_are_refused_in_one_line(capsys, words, message):
    refused(matrix.main, "matrix.py", [*words, "--list"], capsys, message)


def test_quick_runs_have_a_folder_of_their_own():
    assert parse([]).out == "results" and parse(["--quick"]).out == "results-quick"
    assert parse(["--quick", "--out", "x"]).out == "x"
    with pytest.raises(BadInput):
        parse(["--config", "missing.json"])
