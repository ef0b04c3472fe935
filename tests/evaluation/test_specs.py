"""Specifications in the files of saved agents, in today's form and in the one before spaces."""

import json

import jax
import numpy as np
import pytest

from envs_jax import make_task
from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.saving import load_agent, save_agent
from jaxgen.evaluation.specs import spec_from_dict, spec_to_dict
from jaxgen.study.config import to_dict
from jaxgen.study.presets import preset
from jaxgen.system import archives, checkpoint
from jaxgen.techniques import make_technique
from jaxgen.types import Box, Codes, Discrete, EnvSpec, Image, Numbers

SPECS = [
    EnvSpec("numbers", Numbers((-1.0, 0.0), (1.0, 2.5)), Box((-2.0,), (2.0,)), 9),
    EnvSpec("image", Image(64, 64, 3), Discrete(15), 99, truncates=False),
    EnvSpec("codes", Codes((7, 7), 5, first=1), Discrete(3), 100),
]


@pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])
def test_a_specification_comes_back_from_json(spec):
    read = spec_from_dict(json.loads(json.dumps(spec_to_dict(spec))))
    assert read == spec and hash(read) == hash(spec)
    for space in ("observation", "actions"):
        # Tuples with the same numbers would be equal too.
        assert type(getattr(read, space)) is type(getattr(spec, space))


# As `save_agent` wrote them before there were spaces.
OLD = {
    "cartpole": {
        "name": "cartpole", "obs_shape": [4], "obs_dtype": "float32", "num_actions": 2,
        "max_episode_steps": 500, "num_codes": None, "first_code": 0,
        "obs_low": [-2.4, -3.0, -0.21, -3.5], "obs_high": [2.4, 3.0, 0.21, 3.5],
        "truncates": True,
    },
    "minigrid": {
        "name": "minigrid", "obs_shape": [49], "obs_dtype": "uint8", "num_actions": 3,
        "max_episode_steps": 100, "num_codes": 5, "first_code": 1, "obs_low": [0.0],
        "obs_high": [4.0], "truncates": True,
    },
    "starpilot": {
        "name": "starpilot", "obs_shape": [64, 64, 3], "obs_dtype": "uint8", "num_actions": 15,
        "max_episode_steps": 1000, "num_codes": None, "first_code": 0, "obs_low": [0.0],
        "obs_high": [1.0], "truncates": False,
    },
}


@pytest.mark.parametrize("name", OLD)
def test_old_specifications_are_those_of_todays_environments(name):
    assert spec_from_dict(OLD[name]) == make_task(name).spec


def test_one_old_bound_stands_for_all_numbers():
    fields = OLD["cartpole"] | {"obs_low": [0.0], "obs_high": [1.0]}
    assert spec_from_dict(fields).observation == Numbers((0.0,) * 4, (1.0,) * 4)


def test_an_agent_that_was_saved_before_spaces_is_read(tmp_path):
    """The same as one that is saved today, and it acts."""
    task, config = make_task("cartpole"), preset("ppo", "cartpole")
    algorithm = ALGORITHMS["ppo"](config, make_technique("gar"), task.spec)
    params = np.asarray(algorithm.params(algorithm.init(jax.random.key(0))))
    agent = Agent("ppo", "gar", config, task.spec, params, seed=3)
    meta = {
        "kind": archives.AGENT, "algorithm": "ppo", "base": "ppo", "technique": "gar",
        "config": to_dict(config), "spec": OLD["cartpole"], "seed": 3,
    }
    checkpoint.save(tmp_path / "old", {"params": params}, meta)
    save_agent(tmp_path / "new", agent)
    old, new = (load_agent(tmp_path / name) for name in ("old", "new"))
    assert old._replace(params=None) == new._replace(params=None)  # pyright: ignore
    np.testing.assert_array_equal(old.params, new.params)
    obs = np.array([[0.1, 0.0, -0.05, 0.2]] * 3, np.float32)
    drawn, expected = (one.act(obs, jax.random.key(1)) for one in (old, agent))
    np.testing.assert_array_equal(drawn, expected)
