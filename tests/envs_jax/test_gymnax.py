"""Environments of gymnax as jaxgen's: the same episodes, with parameters that vary by level."""

import re

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax import make_task
from envs_jax.cards.gymnax import PREFIX, varied
from envs_jax.gymnax_envs import DERIVED, GymnaxTask
from envs_jax.varying import describe_level
from experiments import matrix
from experiments.command_line import parse, study_of
from jaxgen.evaluation.saving import load_agent
from jaxgen.evaluation.tasks import check_task
from jaxgen.study.cards import ENVIRONMENT_CARDS, environment_card
from jaxgen.types import Box
from small_runs import refused, run

VARIED = {
    "Acrobot-v1": {"link_mass_1": (1.0, 2.0), "dt": (0.2, 0.1)},
    "MountainCarContinuous-v0": {"power": (0.0015, 0.001)},
    "Pendulum-v1": {"l": (1.0, 1.5)},
    "CartPole-v1": {"gravity": (9.8, 14.7)},
}


@pytest.fixture(autouse=True)
def forgotten():
    """Cards that are made here are gone afterwards."""
    before = dict(ENVIRONMENT_CARDS)
    yield
    ENVIRONMENT_CARDS.clear()
    ENVIRONMENT_CARDS.update(before)


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize(
    "id",
    [
        pytest.param(id, marks=pytest.mark.slow) if id in ("Pendulum-v1", "CartPole-v1") else id
        for id in VARIED
    ],
)
def test_an_episode_is_that_of_gymnax(id, level):
    task = GymnaxTask(id, VARIED[id])
    own, params = gymnax.make(id)
    params = params.replace(**{name: ends[int(level)] for name, ends in VARIED[id].items()})
    both = task.training_params(jax.random.key(0), jnp.array([level]))
    ours = jax.tree.map(lambda leaf: leaf[0], both)
    for name, value in vars(params).items():
        np.testing.assert_allclose(getattr(ours, name), value, rtol=1e-6)
    words = jnp.array([3, 4], jnp.uint32)
    key, run_key = jax.random.split(jax.random.wrap_key_data(words))
    expected, inner = jax.jit(own.reset_env)(key, params)
    obs, state = jax.jit(task.environment.reset_from)(words, ours)
    advance, step = jax.jit(task.environment.advance), jax.jit(own.step_env)
    for number in range(30):
        np.testing.assert_allclose(obs, np.ravel(expected), rtol=1e-5, atol=1e-6)
        actions = own.action_space(params)
        action = actions.sample(jax.random.key(number))
        step_key, run_key = jax.random.split(run_key)
        expected, inner, reward, terminated, _ = step(step_key, inner, action, params)
        obs, state, our_reward, our_end, cut = advance(state, action, ours)
        np.testing.assert_allclose(our_reward, np.ravel(reward)[0], rtol=1e-5, atol=1e-6)
        assert bool(our_end) == bool(np.ravel(terminated)[0])
        assert bool(cut) == bool(own.is_truncated(inner, params))


COSTLY = ("Asterix-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar", "DeepSea-bsuite",
          "MemoryChain-bsuite", "FourRooms-misc", "MetaMaze-misc")  # fmt: skip
"""Of each suite others stay."""


@pytest.mark.parametrize(
    "id",
    [
        pytest.param(id, marks=pytest.mark.slow) if id in COSTLY else id
        for id in gymnax.registered_envs if "MNIST" not in id
    ],
)  # fmt: skip
def test_every_environment_is_one_of_ours(id):
    """By shapes alone; but for one that loads its images from the network."""
    with jax.numpy_rank_promotion("allow"):
        check_task(GymnaxTask(id, reference=0.0))


def test_levels_of_any_shape_and_what_is_played_there():
    task = GymnaxTask("Acrobot-v1", VARIED["Acrobot-v1"])
    params, words = task.evaluation(jax.random.key(0), jnp.array([0.0, 0.5, 1.0]), 4)
    np.testing.assert_allclose(params.link_mass_1, [1, 1.5, 2])
    np.testing.assert_allclose(params.dt, [0.2, 0.15, 0.1], rtol=1e-6)
    assert params.available_torque.shape == (3, 3) and words.shape == (3, 4, 2)
    assert describe_level(task, 0.5, 4) == "link_mass_1 1.5, dt 0.15"
    assert task.ceiling(params, words).tolist() == [[-60.0] * 4] * 3


REFUSED = [
    ("CartPole-v1", {"masscart": (1, 2)}, None,
     "masscart is not allowed to vary, as gymnax keeps total_mass, which follows from it, as it"),
    ("Acrobot-v1", {"mass": (1, 2)}, None, "Acrobot-v1 has no parameter 'mass' to vary"),
    ("Acrobot-v1", {"max_steps_in_episode": (1, 2)}, None, "no parameter 'max_steps_in_episode'"),
    ("Acrobot-v1", {"dt": (0.2, 0.2)}, None, "dt = 0.2:0.2 varies nothing; use two finite numbers"),
    ("Acrobot-v2", {}, None, "gymnax has no environment 'Acrobot-v2'; allowed: CartPole-v1, "),
    ("Swimmer-misc", {}, None, "the best return of Swimmer-misc is not known; give --reference R"),
]  # fmt: skip


@pytest.mark.parametrize(("id", "vary", "reference", "message"), REFUSED)
def test_what_cannot_vary_is_refused(id, vary, reference, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        GymnaxTask(id, vary, reference)


def test_derived_parameters_are_those_of_gymnax():
    """Each is the product, or the sum, of others at the defaults."""
    params = gymnax.make("CartPole-v1")[1]
    assert params.total_mass == pytest.approx(params.masscart + params.masspole)
    assert params.polemass_length == pytest.approx(params.masspole * params.length)
    assert DERIVED["CartPole-v1"].keys() == {"masscart", "masspole", "length"}


WORDS = ["--env", "gymnax:Acrobot-v1", "--algo", "ppo", "--technique", "dr", "--seeds", "0"]


@pytest.mark.slow
def test_a_study_on_one_needs_no_code(tmp_path):
    words = [*WORDS, "--vary", "link_mass_1=1:2", "--total-steps", "4000", "--eval-episodes", "5"]
    study = study_of(parse(words))
    run(study, tmp_path)
    (spec,) = study.groups[0].specs
    assert spec.environment == f"{PREFIX}Acrobot-v1"
    assert spec.task_options == {"vary": {"link_mass_1": [1.0, 2.0]}, "reference": None}
    agent = load_agent(next(tmp_path.glob("runs/*/seed_0000")))
    # Without what registered it here.
    del ENVIRONMENT_CARDS[spec.environment]
    task = make_task(agent.spec.name, **agent.task_options or {})
    assert task.vary == {"link_mass_1": (1.0, 2.0)} and task.spec == agent.spec


def test_names_make_cards():
    assert environment_card(f"{PREFIX}Pendulum-v1").title.figure == "Pendulum-v1"
    card = varied("gymnax:Pendulum-v1", {"l": (1, 1.5)}, -100)
    assert card.task.options == {"vary": {"l": [1.0, 1.5]}, "reference": -100}
    task = make_task(f"{PREFIX}Pendulum-v1", **card.task.options)
    assert type(task.spec.actions) is Box


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (WORDS, "--vary says what grows with the level in an environment of gymnax or"),
        (["--vary", "dt=1:2", "--env", "cartpole"], "--vary says what grows with the level"),
        ([*WORDS, "--vary", "dt=fast"], "--vary 'dt=fast' is not allowed; write PARAMETER=LOW"),
    ],
)
def test_bad_words_are_refused_in_one_line(capsys, words, message):
    refused(matrix.main, "matrix.py", [*words, "--list"], capsys, message)


def test_what_the_task_refuses_is_one_line_too(capsys, tmp_path):
    words = [*WORDS, "--vary", "mass=1:2", "--out", str(tmp_path)]
    assert matrix.main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("matrix.py: Acrobot-v1 has no parameter 'mass'") and err.count("\n") == 1
