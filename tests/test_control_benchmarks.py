"""The benchmark of continuous control: equal work, turns that go on, and how the table reads."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import control_throughput
from contenders import own_control, peer_control
from control_throughput import FULL, QUICK, SBX, STABLE_BASELINES
from envs_jax.mujoco import engine as mujoco_engine
from jaxgen.study.config import replace
from jaxgen.study.presets import preset


def by_label(lengths=FULL):
    return {case.label: case for case in control_throughput.cases(lengths)}


def config_of(contender: Any) -> Any:
    args = contender.args
    return replace(preset(args["algorithm"], args["environment"]), args["overrides"])


def test_the_cases_are_those_that_targets_are_set_for():
    cases = by_label()
    assert {label: [contender.name for contender in case.contenders] for label, case in
            cases.items()} == {
        control_throughput.ALONE: ["jaxgen", SBX, STABLE_BASELINES],
        "sac halfcheetah, 5 seeds, 1 core": ["jaxgen", SBX],
        control_throughput.TOGETHER: ["jaxgen", SBX],
        "sac pendulum, 1 seed, 1 core": ["jaxgen", "rejax"],
        "sac pendulum, 5 seeds, 1 core": ["jaxgen", "rejax"],
        "ppo halfcheetah 1 x 2048, 1 seed, 1 core": ["jaxgen", STABLE_BASELINES],
        "ppo halfcheetah 64 x 32, 1 seed, 1 core": ["jaxgen", STABLE_BASELINES],
        "ppo halfcheetah 1 x 2048, 5 seeds, 1 core": ["jaxgen", STABLE_BASELINES],
    }  # fmt: skip
    assert list(by_label(QUICK)) == list(cases)
    for label, case in cases.items():
        assert case.cores == (1 if label.endswith("1 core") else None)
        assert all(peer.second_environment for peer in case.contenders[1:])


def test_equal_work_is_asked_of_sac():
    """256 x 256, a batch of 256 and an update for each step; updates before the first turn."""
    for label, case in by_label().items():
        if not label.startswith("sac"):
            continue
        own, *peers = case.contenders
        config = config_of(own)
        assert (config.hidden, config.batch_size, config.updates_per_step) == ((256, 256), 256, 1)
        assert case.args["begin_steps"] > config.learning_starts
        for peer in peers:
            for name in ("learning_rate", "batch_size", "buffer_size", "gamma"):
                assert peer.args[name] == getattr(config, name)
            if peer.name == "rejax":
                layers, starts = peer.args["hidden_layer_sizes"], peer.args["fill_buffer"]
                updates, tau = peer.args["num_epochs"], 1 - peer.args["polyak"]
                # Seeds of both train together.
                assert peer.args["turn_steps"] == own.args["turn_steps"]
            else:
                layers, starts = peer.args["policy_kwargs"]["net_arch"], config.learning_starts
                updates, tau = peer.args["gradient_steps"], peer.args["tau"]
            assert (layers, starts, updates) == ([256, 256], config.learning_starts, 1)
            assert tau == pytest.approx(config.tau)


@pytest.mark.parametrize("rollout", ["1 x 2048", "64 x 32"])
def test_equal_work_is_asked_of_ppo(rollout):
    """10 epochs of 32 minibatches of 64; turns are whole rollouts."""
    case = by_label()[f"ppo halfcheetah {rollout}, 1 seed, 1 core"]
    own, peer = case.contenders
    config, args = config_of(own), peer.args
    assert args["num_envs"] * args["n_steps"] == config.steps_per_iteration == 2048
    assert (args["n_epochs"], args["batch_size"], config.num_minibatches) == (10, 64, 32)
    assert args["normalize"] and config.scale_rewards and not config.anneal_learning_rate
    for name in ("learning_rate", "gamma", "gae_lambda", "max_grad_norm"):
        assert args[name] == getattr(config, name)
    for steps in (args["turn_steps"], own.args["turn_steps"], case.args["begin_steps"]):
        assert steps % 2048 == 0


@pytest.mark.slow
def test_our_turns_count_the_steps_of_all_seeds():
    """Two seeds of 12 steps a turn; their first episodes of 200 steps end in none of them."""
    overrides = {"hidden": [8], "batch_size": 8, "replay_ratio": 8, "learning_starts": 16}
    run, facts = own_control.train("sac-published", "pendulum", 2, 20, 12, overrides)
    for _ in range(2):
        result = run()
        assert result["steps"] == 24 and result["seconds"] > 0 and result["return"] is None
    assert facts["begin_seconds"] > 0 and facts["num_devices"] == 2


@pytest.mark.slow
def test_our_turns_go_on_and_tell_what_training_reached():
    """500 steps before, then 500 in each turn: every second one ends an episode of 1 000."""
    pytest.importorskip("mujoco")
    if reason := mujoco_engine.missing():
        pytest.skip(reason)
    overrides = {"num_steps": 500, "num_minibatches": 4, "num_epochs": 1, "hidden": [8]}
    run, facts = own_control.train("ppo-mujoco", "halfcheetah", 1, 500, 500, overrides)
    results = [run() for _ in range(own_control.MAX_TURNS)]
    assert [result["steps"] for result in results] == [500] * 8 and facts["num_devices"] == 1
    returns = [result["return"] for result in results]
    assert returns[::2] == returns[1::2] and len(set(returns)) == 4
    assert all(-1000 < each < 1000 for each in returns)
    with pytest.raises(RuntimeError, match="turn 9 is not possible; use 8 or fewer"):
        run()


class Model:
    """A peer's model: its episodes of 100 steps return their number."""

    def __init__(self, policy, env, **settings):
        self.policy, self.env, self.settings = policy, env, settings
        self.num_timesteps, self.ep_info_buffer = 0, []

    def learn(self, total_timesteps, reset_num_timesteps):
        assert not reset_num_timesteps
        for _ in range(total_timesteps):
            self.num_timesteps += 1
            if self.num_timesteps % 100 == 0:
                self.ep_info_buffer.append({"r": self.num_timesteps // 100})


@pytest.fixture
def models(monkeypatch):
    """Models that are made by what looks like the packages."""
    made = []

    def make(*args, **settings):
        made.append(Model(*args, **settings))
        return made[-1]

    def module(name, **contents):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        sys.modules[name].__dict__.update(contents)

    module("torch", set_num_threads=lambda count: None)
    module("stable_baselines3", PPO=make)
    module("stable_baselines3.common")
    module("stable_baselines3.common.env_util", make_vec_env=lambda name, num, seed: (name, num))
    wrapper = lambda env, gamma: SimpleNamespace(env=env, gamma=gamma)  # noqa: E731
    module("stable_baselines3.common.vec_env", VecNormalize=wrapper)
    return made


def test_turns_of_peers_go_on_and_leave_their_beginning_out(models):
    """150 steps before, then 60 in each turn: an episode ends after 200, 300 and 400."""
    run, facts = peer_control.sb3(
        "stable_baselines3", "PPO", "Task-v0", 5, 2, 150, 60, True, gamma=0.9
    )
    results = [run() for _ in range(4)]
    assert [result["steps"] for result in results] == [60] * 4
    assert [result["return"] for result in results] == [2.0, 2.0, 3.0, 3.0]
    (model,) = models
    assert model.env.env == ("Task-v0", 2) and model.env.gamma == 0.9
    assert model.settings == {"device": "cpu", "seed": 0, "gamma": 0.9}
    assert facts["seeds_in_turn"] == 5


def test_what_is_not_to_be_normalised_is_not(models):
    run, _ = peer_control.sb3("stable_baselines3", "PPO", "Task-v0", 1, 1, 10, 10, False)
    assert run()["return"] is None
    assert models[0].env == ("Task-v0", 1)


def record(case, name, rate, cores=1):
    return {"case": case, "contender": name, "steps_per_second": rate, "cores": cores}


def test_the_table_names_cores_and_ratios():
    """10 seeds at 300 a second are 1.5 times what two processes at 100 would be."""
    alone = [record(control_throughput.ALONE, name, rate)
             for name, rate in (("jaxgen", 120), (SBX, 100), (STABLE_BASELINES, 40))]
    together = [record(control_throughput.TOGETHER, "jaxgen", 300, 2)]
    lines = control_throughput.summary([*alone, *together]).splitlines()
    peers = f"{SBX} 100 (**1.2**), {STABLE_BASELINES} 40 (**3**)"
    assert lines[2:4] == [
        f"| {control_throughput.ALONE} | 1 | 120 | {peers} |",
        f"| {control_throughput.TOGETHER} | 2 | 300 |  |",
    ]
    assert lines[-1].endswith("takes 200 steps/s at most: jaxgen's 10 seeds **1.5** times that.")
    assert "processes" not in control_throughput.summary(alone)
