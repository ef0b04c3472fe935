"""Hyper-parameters that the specification fixes, the accounting rules, and what is refused."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxgen.study.cards import ALGORITHM_CARDS, environment_names
from jaxgen.study.cards.base import Listing
from jaxgen.study.config import (
    SHIFT_LEVELS,
    DQNConfig,
    float_fields,
    from_dict,
    replace,
    to_dict,
)
from jaxgen.study.presets import algorithm_names, base_algorithm, preset, setups_of

VARIANTS = [name for card in ALGORITHM_CARDS.values() for name in card.variants]

# As specified where experiments/SPECIFICATION.md names no difference: total env steps, learning
# rate, hidden layers and the rest of each cell. ES has a budget of its own: 1 M population steps on
# CartPole, 8 M on the grid.
SPECIFIED: dict[tuple[str, str], dict[str, Any]] = {
    ("dqn", "cartpole"): {
        "total_steps": 50_000, "learning_rate": 1e-4, "hidden": (64, 64), "batch_size": 64,
        "buffer_size": 100_000, "replay_ratio": 32,
    },
    ("dqn", "minigrid"): {
        "total_steps": 1_000_000, "learning_rate": 1e-4, "hidden": (128, 128),
        "buffer_size": 100_000, "target_interval": 1000, "replay_ratio": 16, "encoding": "unit",
    },
    ("ppo", "cartpole"): {
        "total_steps": 50_000, "learning_rate": 3e-4, "hidden": (64, 64), "num_epochs": 10,
    },
    ("ppo", "minigrid"): {
        "total_steps": 1_000_000, "learning_rate": 2e-4, "hidden": (128, 128), "num_epochs": 4,
    },
    ("es", "cartpole"): {
        "total_steps": 1_000_000, "population": 50, "sigma": 0.1, "learning_rate": 0.03,
    },
    ("es", "minigrid"): {
        "total_steps": 8_000_000, "population": 40, "sigma": 0.1, "learning_rate": 0.02,
    },
    ("ppo", "starpilot"): {
        "total_steps": 3_000_000, "learning_rate": 5e-5, "hidden": (256, 256), "num_epochs": 3,
        "num_frames": 4, "network": "nature",
    },
    ("dqn", "starpilot"): {
        "total_steps": 3_000_000, "learning_rate": 2.5e-5, "hidden": (256, 256), "batch_size": 32,
        "buffer_size": 100_000, "num_frames": 4, "network": "nature",
    },
    ("es", "starpilot"): {
        "total_steps": 3_000_000, "population": 20, "sigma": 0.02, "num_frames": 4,
        "network": "nature", "num_steps": 1000,
    },
}

# The usual details of each algorithm (Schulman et al. 2017, Mnih et al. 2015), and the specified
# schedule of epsilon.
DETAILS: dict[str, dict[str, Any]] = {
    "ppo": {
        "adam_eps": 1e-5, "gae_lambda": 0.95, "clip": 0.2, "entropy": 0.01, "max_grad_norm": 0.5,
    },
    "dqn": {
        "max_grad_norm": 10.0, "epsilon_start": 1.0, "epsilon_end": 0.05, "epsilon_fraction": 0.7,
    },
    "es": {},
}


@pytest.mark.parametrize("cell", SPECIFIED, ids="-".join)
def test_presets_hold_the_specified_values(cell):
    config = preset(*cell)
    for name, value in (SPECIFIED[cell] | DETAILS[cell[0]]).items():
        assert getattr(config, name) == value, name


@pytest.mark.parametrize("cell", SPECIFIED, ids="-".join)
def test_presets_are_valid_and_round_trip_through_json(cell):
    config = preset(*cell)
    config.validate()
    values = json.loads(json.dumps(to_dict(config)))
    assert replace(config, values) == from_dict(type(config), values) == config


def test_every_preset_is_specified():
    listed = environment_names(Listing.DEFAULT, Listing.ON_REQUEST)
    usual = [name for name, card in ALGORITHM_CARDS.items() if card.listing is Listing.DEFAULT]
    cells = {(name, e) for name in usual for e in setups_of(name) if e in listed}
    assert cells == set(SPECIFIED)
    assert SHIFT_LEVELS == (0.0, 0.25, 0.5, 0.75, 1.0)


def test_the_published_preset_has_the_published_settings():
    """Those of Cobbe et al. 2020; 64 environments become 3 x 21."""
    config: Any = preset("ppo-published", "starpilot")
    published = {
        "num_envs": 21, "num_steps": 256, "num_minibatches": 8, "num_epochs": 3, "clip": 0.2,
        "learning_rate": 5e-4, "gamma": 0.999, "gae_lambda": 0.95, "entropy": 0.01,
        "network": "impala", "hidden": (256,), "scale_rewards": True, "num_frames": 1,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in published} == published


def test_presets_for_images_refuse_other_environments():
    with pytest.raises(ValueError, match="ppo-published reads images, which cartpole does not"):
        preset("ppo-published", "cartpole")
    with pytest.raises(ValueError, match="n_step = 3 is not allowed; use 1 with an encoder of im"):
        preset("dqn+", "starpilot").validate()


def test_batches_split_by_the_ceiling():
    """ceil(64 / 3) = 22, so 64 becomes 66; ceil(32 / 3) = 11, so 32 becomes 33."""
    config: Any = preset("dqn", "cartpole")
    batches = [dataclasses.replace(config, batch_size=size) for size in (64, 32, 66, 1)]
    assert [3 * batch.batch_per_variation for batch in batches] == [66, 33, 66, 3]


def test_a_single_variation_takes_whole_batches():
    """batch 64 and buffer 100 000 undivided; 2 x 11 steps an iteration."""
    config: Any = dataclasses.replace(preset("dqn", "cartpole"), num_variations=1)
    assert (config.batch_per_variation, config.ring_size) == (64, 100_000)
    assert config.steps_per_iteration == 22


def test_replay_splits_by_the_floor():
    """floor(100 000 / 3) = 33 333."""
    config: Any = preset("dqn", "minigrid")
    assert config.ring_size == 33_333


@pytest.mark.parametrize("cell", SPECIFIED, ids="-".join)
def test_whole_iterations_fit_the_budget(cell):
    """The largest multiple of V x N x T within total_steps; ES counts what it lives through."""
    config = preset(*cell)
    steps = 3 * config.num_envs * config.num_steps
    assert config.steps_per_iteration == steps
    if cell[0] != "es":
        actual = config.num_iterations * steps
        assert actual <= config.total_steps < actual + steps
        assert config.total_steps - actual < 0.01 * config.total_steps


@pytest.mark.parametrize("environment", ["cartpole", "minigrid"])
def test_updates_keep_the_replay_ratio(environment):
    """Sampled transitions per env step, within the 1 % that whole updates allow."""
    config: Any = preset("dqn", environment)
    sampled = config.updates_per_iteration * 3 * config.batch_per_variation
    assert math.isclose(sampled / config.steps_per_iteration, config.replay_ratio, rel_tol=0.01)


def test_a_generation_may_be_as_short_as_one_step_each():
    """The most generations: 100 steps of 3 x 6 members that fail at once, ceil(100 / 18) = 6."""
    config = replace(preset("es", "cartpole"), {"total_steps": 100, "population": 6, "num_envs": 6})
    assert config.num_iterations == 6


def test_variants_differ_by_what_their_name_says():
    onehot: Any = preset("dqn-onehot", "minigrid")
    assert onehot == dataclasses.replace(preset("dqn", "minigrid"), encoding="one_hot")
    matched = preset("es-matched", "minigrid")
    assert matched == dataclasses.replace(preset("es", "minigrid"), total_steps=1_000_000)
    assert preset("es-matched", "cartpole").total_steps == 50_000
    assert base_algorithm("dqn-onehot") == "dqn" and base_algorithm("es-matched") == "es"
    assert algorithm_names() == ("ppo", "dqn", "es", "sac", "td3", "grpo", *VARIANTS)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith("dqn-")])
def test_a_variant_of_dqn_is_dqn_but_for_one_setting(name):
    ours, base = (dataclasses.asdict(preset(own, "minigrid")) for own in (name, "dqn"))
    assert sum(ours[field] != base[field] for field in base) == 1
    preset(name, "minigrid").validate()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown algorithm 'a3c'; allowed: ppo, dqn, es"):
        preset("a3c", "cartpole")
    with pytest.raises(ValueError, match="ppo has no configuration for environment 'pong'"):
        preset("ppo", "pong")


def test_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match="ppo: unknown configuration key 'lr'; allowed: total_"):
        replace(preset("ppo", "cartpole"), {"lr": 1e-3})


@pytest.mark.parametrize(
    "key, value",
    [
        ("learning_rate", "fast"), ("learning_rate", True), ("num_envs", 2.5), ("num_envs", "4"),
        ("total_steps", math.inf), ("total_steps", math.nan), ("hidden", 64), ("hidden", [64, 1.5]),
        ("num_epochs", None),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(key, value):
    with pytest.raises(ValueError, match=f"ppo: {key} = .* is not a"):
        replace(preset("ppo", "cartpole"), {key: value})


def test_numbers_are_converted():
    overrides = {"learning_rate": 1, "total_steps": 1e5, "hidden": [8]}
    config: Any = replace(preset("ppo", "cartpole"), overrides)
    assert (config.learning_rate, config.total_steps, config.hidden) == (1.0, 100_000, (8,))
    assert isinstance(config.learning_rate, float) and isinstance(config.total_steps, int)


SHAPE = {"num_envs": 4, "num_steps": 32}

REFUSED = [
    ("ppo", SHAPE | {"total_steps": 383}, "total_steps = 383 .* one iteration of 384 env steps"),
    ("ppo", {"total_steps": 0}, "total_steps = 0"),
    ("ppo", {"total_steps": -5}, "total_steps = -5"),
    ("ppo", {"num_envs": 0}, "num_envs = 0 .* positive whole number"),
    ("ppo", {"num_steps": -1}, "num_steps = -1"),
    ("ppo", {"hidden": []}, r"hidden = \(\)"),
    ("ppo", {"hidden": [64, 0]}, r"hidden = \(64, 0\) .* positive layer widths"),
    ("ppo", SHAPE | {"num_minibatches": 7}, "num_minibatches = 7 .* num_envs x num_steps = 128"),
    ("ppo", {"num_minibatches": 0}, "num_minibatches = 0 .* positive whole number"),
    ("ppo", {"num_minibatches": -4}, "num_minibatches = -4"),
    ("ppo", {"num_epochs": 0}, "num_epochs = 0"),
    ("ppo", {"learning_rate": -1e-3}, "learning_rate = -0.001 .* finite number, 0 or larger"),
    ("ppo", {"gamma": math.nan}, "gamma = nan"),
    ("ppo", {"clip": math.inf}, "clip = inf"),
    ("dqn", {"num_steps": 10, "num_envs": 1, "replay_ratio": 1}, "replay_ratio = 1 .* change num_"),
    ("dqn", {"replay_ratio": 0}, "replay_ratio = 0"),
    ("dqn", {"batch_size": 0}, "batch_size = 0"),
    ("dqn", SHAPE | {"buffer_size": 60}, "buffer_size = 60 .* a ring of at least num_"),
    ("dqn", {"epsilon_fraction": 0.0}, r"epsilon_fraction = 0.0 .* a share in \(0, 1\]"),
    ("dqn", {"epsilon_fraction": 1.5}, "epsilon_fraction = 1.5 .* a share in"),
    ("ppo", {"gamma": 99.0}, r"gamma = 99.0 is not allowed; use a share in \[0, 1\]"),
    ("dqn", {"gamma": 1.01}, "gamma = 1.01"),
    ("ppo", {"gae_lambda": 5}, "gae_lambda = 5.0 .* a share in"),
    ("ppo", {"clip": 50}, "clip = 50.0 .* a share in"),
    ("dqn", {"epsilon_start": 3}, "epsilon_start = 3.0 .* a share in"),
    ("dqn", {"epsilon_end": 1.1}, "epsilon_end = 1.1 .* a share in"),
    ("ppo", {"max_grad_norm": 0}, "max_grad_norm = 0.0 .* a positive number"),
    ("dqn", {"max_grad_norm": 0}, "max_grad_norm = 0.0 .* a positive number"),
    ("dqn", {"reward_scale": 0}, "reward_scale = 0.0 .* a positive number"),
    ("ppo", {"total_steps": 5e9}, "total_steps = 5000000000 .* use at most 2147483263"),
    ("dqn", {"total_steps": 2**31 - 1}, "total_steps = 2147483647 .* use at most 2147483581"),
    ("es", {"total_steps": 3_000_000_000}, "total_steps = 3000000000 .* use at most 2147408647"),
    ("ppo", {"num_envs": 2**20, "num_steps": 2**12}, "total_steps = 50000 .* at least one iter"),
    ("dqn", {"target_interval": 2**31}, "target_interval = 2147483648 .* at most 2147483647"),
    ("es", {"curve_interval": 10**12}, "curve_interval = 1000000000000 .* at most 2147483647"),
    ("dqn", {"total_steps": 990}, "learning_starts = 1000 .* use 0 to 990, the env steps of this"),
    ("dqn", {"total_steps": 1015}, "learning_starts = 1000 .* use 0 to 990"),
    ("dqn", {"learning_starts": -1}, "learning_starts = -1"),
    ("dqn", {"encoding": "rgb"}, "encoding = 'rgb' .* raw, unit or one_hot"),
    ("dqn", {"activation": "softmax"}, "activation = 'softmax' .* relu, tanh, elu, gelu, silu"),
    ("dqn", {"target_interval": 0}, "target_interval = 0"),
    ("es", {"population": 7, "num_envs": 7}, "population = 7 .* even number"),
    ("es", {"population": 0, "num_envs": 0}, "num_envs = 0"),
    ("es", {"num_envs": 40, "population": 50}, "num_envs = 40 .* population x episodes_per_mem"),
    ("es", {"sigma": 0.0}, "sigma = 0.0 .* positive number"),
    ("es", {"curve_interval": 0}, "curve_interval = 0"),
    ("es", {"total_steps": 0}, "total_steps = 0"),
]


@pytest.mark.parametrize("algorithm, overrides, message", REFUSED)
def test_bad_values_are_refused_before_any_compute(algorithm, overrides, message):
    with pytest.raises(ValueError, match=f"{algorithm}: {message}"):
        replace(preset(algorithm, "cartpole"), overrides).validate()


def test_the_largest_budget_is_one_that_int32_counts():
    """A population overshoots its budget by less than a generation."""
    for algorithm in ("ppo", "dqn", "es"):
        config = preset(algorithm, "cartpole")
        largest = 2**31 - 1 - config.steps_per_iteration
        replace(config, {"total_steps": largest}).validate()
        with pytest.raises(ValueError, match=f"use at most {largest}"):
            replace(config, {"total_steps": largest + 1}).validate()


@pytest.mark.parametrize("name", VARIANTS)
def test_presets_are_allowed(name):
    """All of them, those of other environments in `test_study`."""
    for environment in ("cartpole", "starpilot", "halfcheetah"):
        try:
            config = preset(name, environment)
        except ValueError:
            continue
        return config.validate()
    pytest.fail(f"{name} has no configuration")


def test_every_share_has_ends():
    """A number of a preset that lies in [0, 1] by its meaning is in no other class a weight."""
    for algorithm in ("ppo", "dqn", "es"):
        config = preset(algorithm, "cartpole")
        for name in config.shares:
            assert name in float_fields(type(config))
            replace(config, {name: 1.0}).validate()
            with pytest.raises(ValueError, match=f"{algorithm}: {name} = 1.5 is not allowed"):
                replace(config, {name: 1.5}).validate()


NUMBERS = [np.int64(7), np.float32(7), np.array(7), np.uint8(7), 7.0, np.float64(7)]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_of_any_type_are_those_of_python(number):
    overrides = {"total_steps": number, "learning_rate": number, "hidden": np.array([7, 7])}
    config: Any = replace(preset("ppo", "cartpole"), overrides)
    assert (config.total_steps, config.learning_rate, config.hidden) == (7, 7.0, (7, 7))
    assert [type(x) for x in (config.total_steps, config.learning_rate, config.hidden[0])] == [
        int, float, int,
    ]  # fmt: skip
    json.dumps(to_dict(config))


def test_texts_and_truth_values_of_numpy_are_those_of_python():
    config: Any = replace(preset("dqn", "cartpole"), {"activation": np.str_("relu")})
    assert type(config.activation) is str
    config = replace(config, {"true_successors": np.bool_(False)})
    assert config.true_successors is False


def test_a_saved_configuration_names_what_it_lacks():
    values = to_dict(preset("dqn", "minigrid"))
    del values["encoding"], values["num_steps"], values["hidden"]
    with pytest.raises(ValueError, match="dqn: a configuration lacks hidden, num_steps"):
        from_dict(DQNConfig, values)


def test_plans_import_no_jax():
    """Study, configuration, techniques and store list a plan at once; JAX takes seconds."""
    code = (
        "import sys; import jaxgen.study.product, jaxgen.techniques, jaxgen.results.store; "
        "print([name for name in ('jax', 'jaxlib', 'flax', 'optax', 'orbax', 'matplotlib') "
        "if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_field_that_came_later_is_written_only_where_it_is_not_its_default():
    """So that names of runs, and agents, of before stay as they were."""
    plain, lecun = preset("es", "cartpole"), preset("es-lecun", "cartpole")
    assert "initialisation" not in to_dict(plain)
    assert to_dict(lecun) == to_dict(plain) | {"initialisation": "lecun"}
    for config in (plain, lecun):
        assert from_dict(type(config), to_dict(config)) == config


@pytest.mark.parametrize(
    ("environment", "changes", "allowed"),
    [
        ("cartpole", {"initialisation": "zeros"}, "orthogonal or lecun"),
        ("starpilot", {"initialisation": "lecun"}, "use orthogonal"),
    ],
)
def test_an_initialisation_that_a_network_has_not_is_refused(environment, changes, allowed):
    with pytest.raises(ValueError, match=f"initialisation = .* is not allowed; .*{allowed}"):
        replace(preset("es", environment), changes).validate()
