"""Snapshots and forks: a fork is a run that goes on from another one."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxgen.evaluation.saving import load_agent
from jaxgen.results.kept import agent_of
from jaxgen.results.store import Store
from jaxgen.running import snapshots
from jaxgen.running.session import Interrupted
from jaxgen.study.fork import Fork
from jaxgen.study.product import Study
from jaxgen.study.spec import Evaluation, RunSpec
from jaxgen.system import checkpoint
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile
from small_runs import BUDGETS, run, small_study

SHARE, NUM_ITERATIONS, AT = 0.5, 40, 20
"""A snapshot after 20 of 40 iterations, where a stretch of the curve ends too."""
SEEDS = (0, 1)


def with_start(*starts: Fork | None, shares: tuple[float, ...] = ()) -> Study:
    """A study of one arm, for each of these starts."""
    evaluation = Evaluation(episodes=10, curve_episodes=3)
    (group,) = small_study(techniques=("gar",), seeds=SEEDS, evaluation=evaluation).groups
    (spec,) = group.specs
    specs = [dataclasses.replace(spec, start=start, snapshots=shares) for start in starts]
    return Study((dataclasses.replace(group, specs=tuple(specs)),))


PARENT = with_start(None, shares=(0.3, SHARE, 1.0))
NAME = PARENT.groups[0].specs[0].name


def forks(*numbers: int, **changes: object) -> Study:
    return with_start(*(Fork(NAME, SHARE, number, **changes) for number in numbers))  # pyright: ignore


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("parent")
    run(PARENT, root)
    return root


@pytest.fixture
def copied(parent, tmp_path) -> Path:
    return Path(shutil.copytree(parent, tmp_path / "copy"))


def history_of(root: Path, spec: RunSpec, seed: int) -> dict[str, np.ndarray]:
    return Store(root).read_history(spec.name, seed)


def leaves_of(root: Path, share: float, seed: int) -> dict[str, np.ndarray]:
    tree, meta = checkpoint.load(snapshots.path_of(Store(root), NAME, seed, share))
    assert meta["lanes"] == [[NAME, seed]]
    names = checkpoint._named_leaves(tree)
    return {".".join(name): leaf for name, leaf in names.items()}


def test_what_is_not_asked_for_is_not_in_a_spec():
    """So that the hash of a run, and with it the name of its folder, stays as it was."""
    plain, fork = with_start(None).groups[0].specs[0], forks(1).groups[0].specs[0]
    assert not {"start", "snapshots"} & plain.to_dict().keys()
    assert fork.to_dict()["start"] == {
        "run": NAME, "share": SHARE, "number": 1, "replay": "copy",
    }  # fmt: skip
    assert PARENT.groups[0].specs[0].to_dict()["snapshots"] == [0.3, SHARE, 1.0]
    assert len({plain.name, fork.name, NAME}) == 3


def test_snapshots_change_nothing_of_a_run(parent, tmp_path):
    plain = with_start(None)
    run(plain, tmp_path)
    for seed in SEEDS:
        ours = history_of(parent, PARENT.groups[0].specs[0], seed)
        theirs = history_of(tmp_path, plain.groups[0].specs[0], seed)
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name], err_msg=name)


def test_a_fork_without_a_change_is_its_parent_and_another_is_not(copied):
    """Number 0 ends with the parent's history and parameters, bit by bit; number 1 has the same
    past, and another future; both are ordinary runs, with scores."""
    study = forks(0, 1)
    recorder = run(study, copied)
    # 20 iterations of V x N x T = 3 x 8 x 16 steps in each of 4 lanes are there already.
    assert min(recorder.env_steps) > 20 * 384 * 4
    store = Store(copied)
    zero, one = study.groups[0].specs
    for seed in SEEDS:
        expected = history_of(copied, PARENT.groups[0].specs[0], seed)
        same, other = (history_of(copied, spec, seed) for spec in (zero, one))
        assert expected.keys() == same.keys() == other.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(values, same[name], err_msg=name)
        np.testing.assert_array_equal(other["loss"][:AT], expected["loss"][:AT])
        assert (other["loss"][AT:] != expected["loss"][AT:]).all()
        names = (NAME, zero.name, one.name)
        params = [load_agent(store.seed_dir(name, seed)).params for name in names]
        np.testing.assert_array_equal(params[0], params[1])
        assert (params[0] != params[2]).mean() > 0.5
        results = [store.read_result(name, seed) for name in (NAME, zero.name)]
        assert results[0]["scores"] == results[1]["scores"]
    assert not run(study, copied).env_steps
    written = json.loads((copied / "runs" / one.name / "spec.json").read_text())
    assert written["start"]["run"] == NAME


def of_dqn(*starts: Fork | None) -> Study:
    """DQN with an update in each of 40 iterations from the 16th on."""
    evaluation = Evaluation(episodes=10, curve_episodes=3)
    study = small_study("dqn", techniques=("baseline",), seeds=SEEDS, evaluation=evaluation)
    (group,) = study.groups
    (spec,) = group.specs
    specs = [
        dataclasses.replace(spec, start=start, snapshots=() if start else (SHARE,))
        for start in starts
    ]
    return Study((dataclasses.replace(group, specs=tuple(specs)),))


@pytest.mark.slow
def test_forks_with_less_of_a_replay(tmp_path):
    """Half of it goes on learning at once, each half in another way; nothing of it waits for 1 000
    env steps, which are 16 iterations of 66; what was before is the parent's."""
    run(of_dqn(None), tmp_path)
    parent = of_dqn(None).groups[0].specs[0]
    expected = history_of(tmp_path, parent, 0)
    assert expected["updates"][AT] > 0
    histories = {}
    for kind in ("split", "fresh"):
        study = of_dqn(*(Fork(parent.name, SHARE, number, kind) for number in (1, 2)))
        run(study, tmp_path)
        for spec in study.groups[0].specs:
            history = history_of(tmp_path, spec, 0)
            np.testing.assert_array_equal(history["loss"][:AT], expected["loss"][:AT])
            histories[kind, spec.start.number] = history  # pyright: ignore
    halves = [histories["split", number]["loss"][AT:] for number in (1, 2)]
    assert np.isfinite(halves).all() and (halves[0] != halves[1]).all()
    for number in (1, 2):
        updates = histories["fresh", number]["updates"][AT:]
        assert not updates[:15].any() and (updates[15:] > 0).all()


@pytest.mark.slow
def test_forks_that_learn_from_one_stream(tmp_path):
    """In tandem: the second learns from what the first has seen, whose environments are those of a
    fork alone; so its own environments change nothing."""
    run(of_dqn(None), tmp_path)
    parent = of_dqn(None).groups[0].specs[0]
    pair = of_dqn(*(Fork(parent.name, SHARE, number, "tandem") for number in (1, 2)))
    run(pair, tmp_path)
    first, second = (history_of(tmp_path, spec, 0) for spec in pair.groups[0].specs)
    for history in (first, second):
        assert (history["updates"][AT:] > 0).all()
    assert (first["loss"][AT:] != second["loss"][AT:]).all()
    both = of_dqn(*(Fork(parent.name, SHARE, number, "shared") for number in (1, 2)))
    run(both, tmp_path)
    shared = history_of(tmp_path, both.groups[0].specs[0], 0)
    # The same draws from rings that differ by what the second wrote.
    assert (shared["loss"][AT + 1 :] != first["loss"][AT + 1 :]).all()


@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.slow), SHARE])
def test_forks_that_share_a_replay(tmp_path, share):
    """Both learn at once, each in its own way, from where their parent was; each of them is what
    it is whether or not the other one is a run as well."""
    run(of_dqn(None), tmp_path)
    parent = of_dqn(None).groups[0].specs[0]
    at = round(NUM_ITERATIONS * share)
    expected = history_of(tmp_path, parent, 0)
    both = of_dqn(*(Fork(parent.name, share, number, "shared") for number in (1, 2)))
    run(both, tmp_path)
    histories = [history_of(tmp_path, spec, 0) for spec in both.groups[0].specs]
    for history in histories:
        np.testing.assert_array_equal(history["loss"][:at], expected["loss"][:at])
        assert history["env_steps"].tolist() == expected["env_steps"].tolist()
        assert (history["updates"][max(at, 15) :] == expected["updates"][-1]).all()
    first, second = (history["loss"][max(at, 15) :] for history in histories)
    assert (first != second).all() and (first != expected["loss"][max(at, 15) :]).all()
    copied = shutil.copytree(tmp_path, tmp_path / "again")
    alone = of_dqn(Fork(parent.name, share, 2, "shared"))
    spec = alone.groups[0].specs[0]
    shutil.rmtree(copied / "runs" / spec.name)
    run(alone, copied)
    np.testing.assert_array_equal(history_of(copied, spec, 0)["loss"], histories[1]["loss"])


def test_a_part_of_the_noise_is_enough_to_draw_forks_apart(copied):
    """Without any, forks are their parent again; what is left out of it is the parent's: the first
    rollout of a fork with other updates, and a reward follows the rollout alone."""
    kinds = ("none", "data", "order")
    study = with_start(*(Fork(NAME, SHARE, 1, noise=kind) for kind in kinds))
    run(study, copied)
    parent = history_of(copied, PARENT.groups[0].specs[0], 0)
    none, data, order = (history_of(copied, spec, 0) for spec in study.groups[0].specs)
    np.testing.assert_array_equal(none["loss"], parent["loss"])
    for history in (data, order):
        assert (history["loss"][AT + 1 :] != parent["loss"][AT + 1 :]).all()
    assert order["reward"][AT] == parent["reward"][AT]


@pytest.mark.parametrize(
    ("algorithm", "environment"),
    [
        ("es", "cartpole"),
        *(pytest.param(name, place, marks=pytest.mark.slow) for name, place in (
            ("grpo", "cartpole"), ("dqn", "cartpole"), ("sac", "pendulum"), ("td3", "pendulum"),
            ("crossq", "pendulum"),
        )),
    ],
)  # fmt: skip
def test_forks_without_noise_are_their_parent_and_others_are_not(tmp_path, algorithm, environment):
    """Bit by bit, of every algorithm; of those whose iterations count unlike from snapshots at the
    first iteration that reached a share, and of each seed alone."""
    evaluation = Evaluation(episodes=4, curve_episodes=2)
    (group,) = small_study(
        algorithm, environment, ["gar"], SEEDS, evaluation=evaluation,
        total_steps=BUDGETS.get(algorithm, 3000),
    ).groups  # fmt: skip
    (spec,) = group.specs
    parent = dataclasses.replace(spec, snapshots=(0.3, SHARE))
    plain, kept = (Study((dataclasses.replace(group, specs=(each,)),)) for each in (spec, parent))
    run(plain, tmp_path)
    run(kept, tmp_path)
    starts = [Fork(parent.name, SHARE, 1, noise="none"), Fork(parent.name, SHARE, 2, noise="none"),
              Fork(parent.name, SHARE, 1)]  # fmt: skip
    specs = tuple(dataclasses.replace(spec, start=start) for start in starts)
    run(Study((dataclasses.replace(group, specs=specs),)), tmp_path)
    store = Store(tmp_path)
    for seed in SEEDS:
        histories = [history_of(tmp_path, each, seed) for each in (spec, parent, *specs)]
        # XLA rounds CrossQ's statistics otherwise in the program of forks.
        pairs = [(0, 1), (2, 3)] if algorithm == "crossq" else [(0, 1), (0, 2), (0, 3)]
        for first, second in pairs:
            assert histories[first].keys() == histories[second].keys()
            for name, values in histories[first].items():
                np.testing.assert_array_equal(values, histories[second][name], err_msg=name)
        at = load_agent(agent_of(store, parent.name, seed, SHARE))
        ends = [load_agent(store.check_agent(each.name, seed)).params
                for each in (parent, *specs)]  # fmt: skip
        assert (ends[1] == ends[2]).all()
        assert (ends[0] == ends[1]).all() or algorithm == "crossq"
        assert (ends[0] != ends[3]).any() and (at.params != ends[0]).any()
        begun, half = progress_at(tmp_path, parent.name, seed), SHARE * spec.config.total_steps
        before, after = [0, *histories[0]["env_steps"]][begun - 1 : begun + 1]
        assert before < half <= after or spec.config.counts_alike


def progress_at(root: Path, run_name: str, seed: int) -> int:
    """The iteration of a snapshot."""
    return checkpoint.read_meta(snapshots.path_of(Store(root), run_name, seed, SHARE))["iteration"]


@pytest.mark.slow
def test_a_perturbed_fork_draws_apart_though_it_draws_the_same(copied):
    """The smaller the perturbation the nearer they are after an iteration."""
    lengths = (1e-6, 1e-2)
    study = with_start(
        *(Fork(NAME, SHARE, 1, noise="none", perturbation=length) for length in lengths),
        Fork(NAME, SHARE, 2, noise="none", perturbation=lengths[1]),
    )
    run(study, copied)
    parent = history_of(copied, PARENT.groups[0].specs[0], 0)
    small, large, other = (history_of(copied, spec, 0) for spec in study.groups[0].specs)
    np.testing.assert_array_equal(small["loss"][:AT], parent["loss"][:AT])
    near, far = (abs(history["loss"] - parent["loss"])[AT] for history in (small, large))
    assert 0 < near < far and (other["loss"][AT:] != large["loss"][AT:]).all()


def test_a_fork_stops_at_its_horizon(copied):
    """7 iterations of 384 env steps after the snapshot, where it is as far as one to the end."""
    study = with_start(Fork(NAME, SHARE, 1), Fork(NAME, SHARE, 1, horizon=7 * 384))
    (group,) = study.groups
    for spec in group.specs:
        run(Study((dataclasses.replace(group, specs=(spec,)),)), copied)
    whole, part = (history_of(copied, spec, 0)["loss"] for spec in group.specs)
    assert len(whole) == NUM_ITERATIONS
    np.testing.assert_array_equal(part, whole[: AT + 7])
    assert [spec.own_steps for spec in group.specs] == [20 * 384, 7 * 384]


@pytest.mark.slow
def test_a_fork_that_is_killed_goes_on(copied, tmp_path):
    study, whole = forks(1), tmp_path / "whole"
    shutil.copytree(copied, whole)
    run(study, whole)
    calls = iter(range(100))
    with pytest.raises(Interrupted):
        run(study, copied, should_stop=lambda: next(calls) == 5)
    recorder = run(study, copied)
    assert recorder.noted("going on from iteration")
    for seed in SEEDS:
        spec = study.groups[0].specs[0]
        for file in ("history.npz", "result.json"):
            name = f"runs/{spec.name}/seed_{seed:04d}/{file}"
            assert (copied / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("stopped_after", [3, 25])
def test_snapshots_of_a_killed_run_come_back(parent, tmp_path, stopped_after):
    """Killed before or after one of them: all are there at the end, with the same arrays."""
    calls = iter(range(100))
    with pytest.raises(Interrupted):
        run(PARENT, tmp_path, should_stop=lambda: next(calls) == stopped_after)
    assert run(PARENT, tmp_path).noted("going on from iteration")
    for seed in SEEDS:
        for share in (0.3, SHARE, 1.0):
            ours, theirs = leaves_of(tmp_path, share, seed), leaves_of(parent, share, seed)
            assert ours.keys() == theirs.keys()
            for name, leaf in ours.items():
                np.testing.assert_array_equal(leaf, theirs[name], err_msg=name)


def test_a_fork_at_the_start_trains_new_networks_of_the_same_seed(copied):
    """Share 0: nothing is loaded; number 0 is the parent again, without its snapshots."""
    study = with_start(Fork(NAME, 0.0, 0), Fork(NAME, 0.0, 3))
    run(study, copied)
    zero, other = study.groups[0].specs
    expected = history_of(copied, PARENT.groups[0].specs[0], 0)
    np.testing.assert_array_equal(history_of(copied, zero, 0)["loss"], expected["loss"])
    assert (history_of(copied, other, 0)["loss"] != expected["loss"]).all()


def test_agents_of_snapshots_and_of_forks_are_kept_with_their_critics(copied):
    """A snapshot's agent is what its state holds; a run without either keeps no critic."""
    study, store = forks(0), Store(copied)
    run(study, copied)
    plain = with_start(None)
    run(plain, copied)
    for seed in SEEDS:
        path = agent_of(store, NAME, seed, SHARE)
        kept, ended = load_agent(path), load_agent(agent_of(store, NAME, seed, 1.0))
        state = leaves_of(copied, SHARE, seed)
        assert any(leaf.shape[1:] == kept.params.shape and (leaf[0] == kept.params).all()
                   for leaf in state.values())  # fmt: skip
        assert (kept.params != ended.params).any()
        np.testing.assert_array_equal(kept.critic, kept.params)
        fork = load_agent(store.check_agent(study.groups[0].specs[0].name, seed))
        np.testing.assert_array_equal(fork.critic, ended.critic)
        other = load_agent(store.check_agent(plain.groups[0].specs[0].name, seed))
        assert other.critic is None
        np.testing.assert_array_equal(other.params, ended.params)
    with pytest.raises(DamagedFile, match="it was not kept"):
        agent_of(store, NAME, 0, 0.77)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (with_start(Fork(NAME, 0.25, 1)), "has no snapshot to begin with .* at 0.25"),
        (with_start(Fork("ppo_cartpole_gar-none", SHARE, 1)), "has no snapshot to begin with"),
        (with_start(None, shares=(0.5, 0.501)), "an iteration or more apart"),
        (with_start(None, shares=(0.0,)), r"use one in \(0, 1\]"),
        (forks(1, replay="split"), "split.* where an algorithm cannot divide a replay; use copy"),
        (forks(1, replay="shared"), "ppo on cartpole cannot share a replay: use copy"),
    ],
)
def test_what_cannot_be_forked_is_refused(copied, study, message):
    with pytest.raises(ValueError, match=message):
        run(study, copied)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.5}, r"share = 1.5 is not allowed; use one in \[0, 1\]"),
        ({"number": -1}, "number = -1 is not allowed; use 0 to 2147483647"),
        ({"number": 0, "replay": "shared"}, "number = 0 is not allowed; use 1 to 2147483647"),
        ({"noise": "some"}, "noise = 'some' is not allowed; use one of all, data, order, none"),
        ({"perturbation": -0.1}, "perturbation = -0.1 is not allowed; use a finite number"),
        ({"perturbation": 0.1, "share": 0.0}, "perturbation = 0.1 is not allowed at the start"),
        ({"horizon": -5}, "horizon = -5 is not allowed; use 0 or more env steps"),
        ({"replay": "half"}, "replay = 'half' is not allowed; use one of copy, fresh, fresh-b"),
    ],
)
def test_a_fork_checks_what_it_is_given(changes, message):
    with pytest.raises(BadInput, match=message):
        Fork(**({"run": NAME, "share": SHARE, "number": 1} | changes)).validate()
