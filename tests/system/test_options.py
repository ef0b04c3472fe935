"""Options of JAX: a user's own change no number; a fork computes nothing."""

import os
import time
import warnings

import jax
import numpy as np
import pytest
from jax._src.config import config_states

from envs_jax import make_task
from jaxgen import evaluate, train
from jaxgen.evaluation.agent import Agent
from jaxgen.running.runner import run_lanes
from jaxgen.system import options
from jaxgen.system.errors import BadInput
from jaxgen.system.options import STANDARD, computing
from probe_envs import PROBES, ProbeTask, tiny_config
from small_runs import run, small_study

OTHERS = {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_default_matmul_precision": "bfloat16",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
    "jax_use_direct_linearize": False,
    "jax_optimization_level": "O1",
    "jax_exec_time_optimization_effort": 1.0,
    "jax_disable_jit": True,
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_debug_key_reuse": True,
    "jax_raise_persistent_cache_errors": True,
}
"""Another value of each option."""
PROBE = ProbeTask(*PROBES.values())


@pytest.fixture
def option(request):
    """An option of JAX, set as a notebook sets it."""
    name = request.param
    before = config_states[name].get_global()
    jax.config.update(name, OTHERS[name])
    yield name
    jax.config.update(name, before)


def numbers() -> list[np.ndarray]:
    """What training, evaluation and acting give, by the Python API."""
    (agent,) = train(PROBE, "es", config=tiny_config("es"))
    returns = evaluate(agent, PROBE, [0.0, 1.0], episodes=4, mode="sampled")
    obs = np.zeros(agent.spec.obs_shape, np.float64)
    with computing():
        # A user's own key is made with the user's own options.
        key = jax.random.key(5)
    return [*map(np.asarray, (agent.params, returns, agent.act(obs), agent.act(obs, key)))]


@pytest.fixture(scope="module")
def undisturbed():
    return numbers()


def test_every_option_that_decides_numbers_has_another_value():
    assert OTHERS.keys() == STANDARD.keys() <= config_states.keys()
    assert all(OTHERS[name] != value for name, value in STANDARD.items())
    # The suite computes under them, but for its strictness.
    assert {name: config_states[name].value for name in STANDARD} == STANDARD


@pytest.mark.parametrize("option", OTHERS, indirect=True)
def test_no_number_depends_on_an_option_of_jax(undisturbed, option):
    for ours, expected in zip(numbers(), undisturbed, strict=True):
        np.testing.assert_array_equal(ours, expected, strict=True)
    assert config_states[option].value == OTHERS[option]


@pytest.mark.parametrize("option", ["jax_enable_x64"], indirect=True)
def test_no_program_is_compiled_again_for_an_option(undisturbed, option):
    with computing():
        assert not jax.config.jax_enable_x64  # pyright: ignore
        assert jax.numpy.zeros(1).dtype == np.float32
    assert jax.numpy.zeros(1).dtype == np.float64


def test_the_options_come_back_after_an_error():
    with jax.debug_nans(True), pytest.raises(LookupError):
        with computing():
            assert not config_states["jax_debug_nans"].value
            raise LookupError
        assert config_states["jax_debug_nans"].value


@pytest.mark.parametrize(
    "flag",
    [
        "--xla_cpu_enable_fast_math=true", "--xla_cpu_enable_fast_math",
        "--xla_cpu_enable_fast_min_max=1", "--xla_backend_optimization_level=0",
        "--xla_disable_hlo_passes=fusion,algsimp", "--xla_llvm_disable_expensive_passes=true",
    ],
)  # fmt: skip
def test_flags_that_let_xla_round_otherwise_are_refused(monkeypatch, flag, tmp_path):
    kept = "--xla_force_host_platform_device_count=2"
    monkeypatch.setenv("XLA_FLAGS", f"{kept} {flag} --xla_dump_to=/nowhere")
    for refused in (
        lambda: train(PROBE, "ppo", config=tiny_config("ppo")),
        lambda: run(small_study(), tmp_path),
    ):
        with pytest.raises(BadInput, match="others under the same name; take it out") as error:
            refused()
        assert f"XLA_FLAGS holds {flag}, " in str(error.value)


@pytest.mark.parametrize("flag", ["--xla_cpu_enable_fast_math=false", "--xla_gpu_autotune_level=4"])
def test_other_flags_are_left_alone(monkeypatch, flag):
    monkeypatch.setenv("XLA_FLAGS", flag)
    options.check_process()


def test_an_option_that_no_block_can_change_is_refused():
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with pytest.raises(BadInput, match="unset JAX_DISABLE_MOST_OPTIMIZATIONS"):
            train(make_task("cartpole"), "ppo")
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


# Forks


def in_a_fork(check) -> int:
    """Call a check in a fork of this process; its exit code."""
    with warnings.catch_warnings():
        # JAX warns of each fork.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = check()
        finally:
            os._exit(code)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def doors() -> list:
    agent = Agent("ppo", "baseline", tiny_config("ppo"), PROBE.spec, np.zeros(1, np.float32))
    return [
        lambda: train(PROBE, "ppo", config=tiny_config("ppo")),
        lambda: evaluate(agent, PROBE, [0.0], episodes=2),
        lambda: agent.act(np.zeros(agent.spec.obs_shape, np.float32)),
        lambda: agent.preferences(np.zeros(agent.spec.obs_shape, np.float32)),
        lambda: run_lanes(None, None, ()),  # pyright: ignore
    ]


def test_a_fork_of_a_process_in_which_jax_ran_is_refused_at_once():
    jax.block_until_ready(jax.numpy.zeros(1))

    def check() -> int:
        refusals = 0
        for door in doors():
            try:
                door()
            except BadInput as error:
                refusals += "start it by spawn" in str(error)
        return 10 + refusals

    assert in_a_fork(check) == 10 + len(doors())


def test_a_fork_of_a_fork_is_refused_too():
    jax.block_until_ready(jax.numpy.zeros(1))
    assert in_a_fork(lambda: in_a_fork(lambda: 10 + options._forked)) == 11


def test_a_fork_before_jax_has_started_may_compute(monkeypatch):
    monkeypatch.setattr(options, "jax_started", lambda: False)
    assert in_a_fork(lambda: 10 + options._forked) == 10
    assert not options._forked
