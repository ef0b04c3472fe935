"""What was trained can act in another process: without the technique, today's presets, or more than
its algorithm."""

from typing import Any

import jax
import numpy as np
import pytest

from envs_jax import make_task
from jaxgen import load_agent, save_agent, types
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.saving import VERSION
from jaxgen.evaluation.specs import spec_to_dict
from jaxgen.study.cards import ALGORITHM_CARDS
from jaxgen.study.cards.base import AlgorithmCard
from jaxgen.study.config import Config, PPOConfig, to_dict
from jaxgen.study.presets import preset
from jaxgen.system import archives, checkpoint
from jaxgen.system.errors import BadInput
from jaxgen.techniques import COMPONENTS, Technique
from jaxgen.types import EnvSpec

SPACES: tuple[Any, ...] = (types.Codes, types.Discrete, types.Numbers)
Codes, Discrete, Numbers = SPACES
"""With arguments of any type."""

OBS = np.array([[0.1, 0.0, -0.05, 0.2]] * 3, np.float32)


def agent_of(algorithm: str, technique: str, config: Config, spec: EnvSpec | None = None) -> Agent:
    """An agent with random parameters; compiles nothing."""
    spec = make_task("cartpole").spec if spec is None else spec
    agent = Agent(algorithm, technique, config, spec, np.zeros(0, np.float32))
    functions = agent.functions()
    shape = jax.eval_shape(lambda key: functions.params(functions.init(key)), jax.random.key(0))
    draws = np.random.default_rng(0).normal(0, 0.3, shape.shape)
    return agent._replace(params=draws.astype(np.float32))


def test_an_agent_acts_without_its_technique(tmp_path, monkeypatch):
    """One of a technique, and of a preset, that only the process knew which trained it."""
    config: Any = preset("ppo", "cartpole")
    with monkeypatch.context() as there:
        there.setitem(COMPONENTS, "mine", Technique(levels=(0.0, 0.5, 0.5)))
        there.setitem(ALGORITHM_CARDS["ppo"].variants, "ppo-mine", {"gamma": 0.98})
        agent = agent_of("ppo-mine", "mine+reg", config)
        save_agent(tmp_path / "agent", agent)
    loaded = load_agent(tmp_path / "agent")
    assert (loaded.algorithm, loaded.technique) == ("ppo-mine", "mine+reg")
    expected = agent_of("ppo", "baseline", config).act(OBS)
    np.testing.assert_array_equal(loaded.act(OBS), expected)


def test_an_agent_of_an_algorithm_that_is_not_registered_says_so(tmp_path, monkeypatch):
    class MineConfig(PPOConfig):
        algorithm = "mine"

    config = MineConfig(**vars(preset("ppo", "cartpole")))
    card = AlgorithmCard(config=MineConfig, make="jaxgen.algorithms.ppo:make_ppo")
    with monkeypatch.context() as there:
        there.setitem(ALGORITHM_CARDS, "mine", card)
        save_agent(tmp_path / "agent", agent_of("mine", "dr", config))
        assert load_agent(tmp_path / "agent").config == config
    with pytest.raises(BadInput, match="an agent of mine, an algorithm that is not registered he"):
        load_agent(tmp_path / "agent")


def save_raw(path: Any, algorithm: str, **changes: Any) -> None:
    """Save an agent whose files hold something else."""
    config, spec = preset(algorithm, "minigrid"), make_task("minigrid").spec
    meta = {
        "kind": archives.AGENT, "version": VERSION, "algorithm": algorithm, "base": algorithm,
        "technique": "dr", "config": to_dict(config), "spec": spec_to_dict(spec), "seed": 0,
    }  # fmt: skip
    checkpoint.save(path, {"params": np.zeros(5, np.float32)}, meta | changes)


@pytest.mark.parametrize("lacking", [("encoding", "reward_scale"), ("activation",), ("n_step",)])
def test_what_an_older_agent_lacks_has_the_default_of_its_class(tmp_path, lacking):
    """Not CartPole's, whose preset is the first, and it is said."""
    config = to_dict(preset("dqn", "minigrid"))
    older = {key: value for key, value in config.items() if key not in lacking}
    save_raw(tmp_path / "old", "dqn", config=older)
    with pytest.warns(UserWarning, match=f"by an older jaxgen, without .*{lacking[0]} = "):
        loaded = load_agent(tmp_path / "old")
    defaults = {"encoding": "unit", "reward_scale": 1.0, "activation": "relu", "n_step": 1}
    assert {key: getattr(loaded.config, key) for key in lacking} == {
        key: defaults[key] for key in lacking
    }


def test_an_older_agent_that_lacks_more_is_refused(tmp_path):
    config = to_dict(preset("dqn", "minigrid"))
    del config["hidden"], config["num_envs"]
    save_raw(tmp_path / "old", "dqn", config=config)
    with pytest.raises(BadInput, match="dqn: a configuration lacks hidden, num_envs"):
        load_agent(tmp_path / "old")


def test_an_agent_of_a_newer_version_is_refused(tmp_path):
    save_raw(tmp_path / "new", "dqn", version=VERSION + 1)
    with pytest.raises(BadInput, match="new was saved by a newer jaxgen .* install that"):
        load_agent(tmp_path / "new")


@pytest.mark.parametrize(
    "observation",
    [Numbers(np.array([-np.inf, 0.0]), np.array([np.inf, 1.0])), Numbers([0, 1], [0, 1]),
     Codes((), np.int64(16)), Codes([2, 2], 5)],
)  # fmt: skip
@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "es"])
def test_agents_of_any_specification_act_and_come_back(tmp_path, algorithm, observation):
    spec = EnvSpec("mine", observation, Discrete(np.int64(3)), np.int32(9))  # pyright: ignore
    agent = agent_of(algorithm, "baseline", preset(algorithm, "minigrid"), spec)
    obs = np.zeros((2, *spec.obs_shape), spec.obs_dtype)
    save_agent(tmp_path / "agent", agent)
    loaded = load_agent(tmp_path / "agent")
    assert loaded.spec == spec and hash(loaded.spec) == hash(spec)
    preferences = jax.eval_shape(lambda: loaded.preferences(obs))
    assert preferences.shape == (2, 3)
