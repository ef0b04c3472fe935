"""Environments on the host: the callback bridge, training through it or a loop, evaluation."""

import dataclasses
import faulthandler
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from envs_jax.host import MAX_ARGUMENT_BYTES, CallbackBridge
from envs_jax.starpilot import ProcgenTask
from jaxgen.algorithms import ALGORITHMS
from jaxgen.evaluation.host_episodes import QueuedEpisodes, play
from jaxgen.evaluation.policy import Acting
from jaxgen.nn import frames
from jaxgen.study.config import replace
from jaxgen.study.fork import Fork
from jaxgen.study.presets import preset
from jaxgen.techniques import make_technique
from jaxgen.training.fork import join
from jaxgen.training.host import BRIDGES
from jaxgen.training.host_program import make_host_program
from jaxgen.training.program import Lanes, Program, stack_lanes
from jaxgen.types import Discrete, EnvSpec, HostStep, Image, Numbers
from probe_envs import assert_same_bits, pick, tiny_config

TIME_LIMIT = 300
"""Seconds of a test, many times what it needs: a callback that fails may wait forever."""


@pytest.fixture(autouse=True)
def time_limit(capfd):
    """A test that hangs ends the process, with all stacks on the terminal."""
    with capfd.disabled():
        terminal = os.dup(2)
    faulthandler.dump_traceback_later(TIME_LIMIT, exit=True, file=terminal)
    yield
    faulthandler.cancel_dump_traceback_later()
    os.close(terminal)


# A toy in numpy

NUM_STATES = 16
WALK = EnvSpec("walk", Numbers((0.0,) * 3, (1.0,) * 3), Discrete(3), 6)


class Walk:
    """``x' = 5 x + 3 action + number of the step (mod 16)``; x = 3 ends an episode, or 6 steps.

    A `HostVecEnv` that reuses its arrays. Its rewards, eighths, add up exactly in any order.
    """

    def __init__(self, words: np.ndarray, levels: np.ndarray, num_envs: int):
        self.shape = (*levels.shape, num_envs)
        number = words[:, :1, None] + np.arange(num_envs) + np.uint32(8) * levels[..., None]
        self.offset = number.astype(np.int64)
        self.obs, self.next_obs = (np.zeros((*self.shape, 3), np.float32) for _ in range(2))
        self.actions: list[np.ndarray] = []
        self.error: BaseException | None = None
        self.reset(0)

    def reset(self, number: int) -> np.ndarray:
        self.x = (self.offset + number) % NUM_STATES
        self.time, self.clock = np.zeros(self.shape, int), np.zeros(self.shape, int)
        self.show(self.obs)
        return self.obs

    def show(self, obs: np.ndarray) -> None:
        obs[:] = np.stack([self.x / NUM_STATES, self.time / 6, self.clock % 2], axis=-1)

    def step(self, action: np.ndarray) -> HostStep:
        assert isinstance(action, np.ndarray)
        self.actions.append(action.copy())
        if self.error is not None and len(self.actions) == 3:
            raise self.error
        self.clock += 1
        self.x = (5 * self.x + 3 * action + self.clock) % NUM_STATES
        self.time += 1
        self.show(self.next_obs)
        reward = (self.x / 8).astype(np.float32)
        terminated, truncated = self.x == 3, self.time == 6
        done = terminated | truncated
        self.x = np.where(done, (self.offset + self.clock) % NUM_STATES, self.x)
        self.time = np.where(done, 0, self.time)
        self.show(self.obs)
        return HostStep(self.obs, reward, terminated, truncated, self.next_obs)

    def get_state(self, lane: int | None = None) -> dict[str, np.ndarray]:
        lanes = slice(None) if lane is None else slice(lane, lane + 1)
        return {name: getattr(self, name)[lanes].copy() for name in ("x", "time", "clock")}

    def set_state(self, state: dict[str, np.ndarray], lane: int | None = None) -> None:
        lanes = slice(None) if lane is None else slice(lane, lane + 1)
        for name, values in state.items():
            getattr(self, name)[lanes] = values


class WalkTask:
    """What training asks of a `HostTask`."""

    def __init__(self):
        self.spec = WALK
        self.bridge = CallbackBridge(WALK)

    def training(self, words: Any, levels: Any, num_envs: int, num_starts: int) -> Walk:
        return Walk(words, levels, num_envs)


def walk(*shape: int) -> Any:
    words = np.arange(shape[0], dtype=np.uint32)[:, None]
    return Walk(words, np.zeros(shape[:2], np.float32), shape[2])


# The bridge

NUM_STEPS = 20


def draw_actions(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, size=shape, dtype=np.int32)


def reacting(bridge: CallbackBridge) -> Any:
    """(first observations, draws ``[T, *S]``) -> the fields of all steps; what is done depends on
    what was seen."""

    def step(obs: Any, drawn: Any) -> tuple[Any, Any]:
        fields = bridge.step(react(jnp, obs, drawn))
        return fields[0], fields

    return lambda obs, drawn: jax.lax.scan(step, obs, drawn)[1]


def react(xp: Any, obs: Any, drawn: Any) -> Any:
    return (drawn + (16 * obs[..., 0]).astype(xp.int32)) % 3


def stepped(env: Any, drawn: np.ndarray) -> list[np.ndarray]:
    """The same in numpy: draws ``[T, L, V, N]`` -> fields ``[T, L, V, N, ...]``."""
    obs, rows = env.reset(0).copy(), []
    for drawn_t in drawn:
        rows.append([np.copy(field) for field in env.step(react(np, obs, drawn_t))])
        obs = rows[-1][0]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def over_lanes(function: Any) -> Any:
    """Lanes first in the observations, second in what has the time in front."""
    return jax.vmap(function, (0, 1), 1)


@pytest.mark.parametrize("num_axes", [1, 2])
def test_one_call_of_the_host_serves_all_lanes(num_axes):
    """3 lanes x 2 variations x 4 environments: 20 calls of 24 actions for 20 steps; vmap over
    lanes, and over variations too."""
    bridge, env = CallbackBridge(WALK), walk(3, 2, 4)
    bridge.connect(env)
    drawn = draw_actions(NUM_STEPS, 3, 2, 4)
    program = over_lanes(reacting(bridge))
    if num_axes == 2:
        program = over_lanes(program)
    fields = bridge.run(jax.jit(program), env.reset(0).copy(), drawn)
    expected = stepped(walk(3, 2, 4), drawn)
    assert_same_bits(fields, expected)
    assert [action.shape for action in env.actions] == [(3, 2, 4)] * NUM_STEPS
    assert {action.dtype for action in env.actions} == {np.dtype(np.int32)}
    ends = expected[2] | expected[3]
    assert ends.any(0).all() and (expected[0] != expected[4])[ends].any()


def test_where_nothing_truncates_the_next_observation_is_the_successor():
    """Only three fields come from the host; the others follow."""
    bridge, env = CallbackBridge(dataclasses.replace(WALK, truncates=False)), walk(1, 2, 4)
    bridge.connect(env)
    drawn = draw_actions(NUM_STEPS, 1, 2, 4)
    fields = bridge.run(jax.jit(reacting(bridge)), env.reset(0).copy(), drawn)
    obs, reward, terminated, *_ = stepped(walk(1, 2, 4), drawn)
    assert_same_bits(fields, (obs, reward, terminated, np.zeros_like(terminated), obs))


@pytest.mark.parametrize("shape", [(25_000,), (5, 5_000)])
def test_too_many_environments_are_refused_while_tracing(shape):
    """100 000 bytes; from 102 400 on a callback may wait forever (PLATFORM). With one less of the
    first axis it is traced."""
    bridge = CallbackBridge(WALK)
    step = bridge.step if len(shape) == 1 else jax.vmap(bridge.step)
    with pytest.raises(ValueError, match="25000 environments of walk .*train fewer lanes"):
        jax.jit(step).lower(jax.ShapeDtypeStruct(shape, jnp.int32))
    jax.jit(step).lower(jax.ShapeDtypeStruct((shape[0] - 1, *shape[1:]), jnp.int32))


LARGEST = """
import os
os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:NUM_DEVICES])
import jax, jax.numpy as jnp, numpy as np
from envs_jax.host import CallbackBridge
from jaxgen.types import Discrete, EnvSpec, HostStep, Numbers

class Counter:
    def step(self, action):
        obs = np.repeat(action[..., None].astype(np.float32) + 1, 64, -1)
        flag = np.zeros(action.shape, bool)
        return HostStep(obs, obs[..., 0], flag, flag, obs)

bridge = CallbackBridge(EnvSpec("counter", Numbers((0.0,) * 64, (1.0,) * 64), Discrete(99), 99))
bridge.connect(Counter())
def lane(obs):
    def step(obs, _):
        return bridge.step(obs[..., 0].astype(jnp.int32))[0], None
    return jax.lax.scan(step, obs, length=30)[0]
obs = bridge.run(jax.jit(jax.vmap(lane)), np.zeros((3, NUM_ENVS, 64), np.float32))
print(len(jax.devices()), obs.shape[0] * obs.shape[1], *np.unique(obs))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are not ours to choose")
@pytest.mark.parametrize("num_devices", [1, 2])
def test_the_largest_call_does_not_hang(num_devices):
    """99 996 bytes of actions and 6.4 MB of observations on as many cores as devices; 30 steps
    count to 30. With 102 400 bytes a single core waits forever, which cannot be interrupted:
    so in a process of its own."""
    num_envs = (MAX_ARGUMENT_BYTES // 4 - 1) // 3
    code = LARGEST.replace("NUM_ENVS", str(num_envs)).replace("NUM_DEVICES", str(num_devices))
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}, capture_output=True,
        text=True, timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == [str(num_devices), "24999", "30.0"]


def test_each_thread_steps_the_environment_that_it_has_connected():
    """Of two that share a bridge: one after the other, and at the same time."""
    bridge, envs = CallbackBridge(WALK), [walk(3, 2, 4), walk(2, 2, 4)]
    drawn = [draw_actions(NUM_STEPS, num_lanes, 2, 4) for num_lanes in (3, 2)]
    expected = [stepped(walk(num_lanes, 2, 4), draws) for num_lanes, draws in zip((3, 2), drawn)]
    program = jax.jit(over_lanes(reacting(bridge)))
    starts = [env.reset(0).copy() for env in envs]
    both_connected = threading.Barrier(2)

    def train(index: int) -> Any:
        bridge.connect(envs[index])
        both_connected.wait(60)
        return bridge.run(program, starts[index], drawn[index])

    with ThreadPoolExecutor(2) as threads:
        for fields, ours in zip(threads.map(train, range(2)), expected, strict=True):
            assert_same_bits(fields, ours)
    with pytest.raises(AssertionError, match="no environment is connected"):
        bridge.run(program, starts[0], drawn[0])


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt()])
def test_what_the_environment_raises_comes_out_as_itself(error):
    """In the third of 20 steps; then another environment is stepped as ever by the same program."""
    bridge, broken, env = CallbackBridge(WALK), walk(3, 2, 4), walk(3, 2, 4)
    drawn = draw_actions(NUM_STEPS, 3, 2, 4)
    program = jax.jit(over_lanes(reacting(bridge)))
    broken.error = error
    for _ in range(2):
        bridge.connect(broken)
        broken.actions.clear()
        with pytest.raises(type(error)) as raised:
            bridge.run(program, broken.reset(0).copy(), drawn)
        assert raised.value is error and len(broken.actions) == 3
    bridge.connect(env)
    fields = bridge.run(program, env.reset(0).copy(), drawn)
    assert_same_bits(fields, stepped(walk(3, 2, 4), drawn))
    assert len(env.actions) == NUM_STEPS


def test_what_others_raise_is_not_taken_for_the_environments():
    """A callback of somebody else's fails after the environment has."""
    bridge, broken = CallbackBridge(WALK), walk(3, 2, 4)
    broken.error = ZeroDivisionError("mine")
    bridge.connect(broken)
    drawn = draw_actions(NUM_STEPS, 3, 2, 4)
    with pytest.raises(ZeroDivisionError):
        bridge.run(jax.jit(over_lanes(reacting(bridge))), broken.reset(0).copy(), drawn)

    def fail() -> None:
        raise OSError("theirs")

    with pytest.raises(jax.errors.JaxRuntimeError, match="theirs"):
        bridge.run(jax.jit(lambda x: (x, io_callback(fail, None, ordered=True))), 1.0)


def test_a_bridge_to_nowhere_says_so():
    bridge = CallbackBridge(WALK)
    with pytest.raises(AssertionError, match="no environment is connected"):
        bridge.run(jax.jit(bridge.step), np.zeros((2, 4), np.int32))


# Training

SEEDS = (5, 6, 7)
ARMS: dict[int, str] = dict(zip(SEEDS, ("baseline", "gar", "dr"), strict=True))
ITERATIONS = {"walk": 8, "starpilot": 16}
STARPILOT = {
    "network": "nature", "hidden": [16], "num_frames": 2, "num_envs": 2, "num_steps": 4,
    "num_epochs": 1, "num_minibatches": 2, "learning_rate": 1e-3,
}


def lanes_of(name: str, seeds: tuple[int, ...], starts: Sequence[Fork] = ()) -> Lanes:
    config = tiny_config("ppo") if name == "walk" else replace(preset("ppo", name), STARPILOT)
    arms = [(config, make_technique(ARMS[seed])) for seed in seeds]
    return stack_lanes(arms, list(seeds), starts)


@cache
def program_of(name: str, bridge: Any) -> Program:
    task: Any = WalkTask() if name == "walk" else ProcgenTask()
    return make_host_program(task, ALGORITHMS["ppo"], lanes_of(name, SEEDS), bridge=bridge)


class Run(NamedTuple):
    """What a run leaves; leaves ``[L, ...]``."""

    params: Any
    episodes: Any
    metrics: Any


def train(name: str, bridge: str, seeds: tuple[int, ...], compiled: bool = False) -> tuple:
    """Run from the start; returns the environment and a `Run`."""
    program, lanes = program_of(name, bridge), lanes_of(name, seeds)
    env: Any = program.world.content(lanes, 0)
    carry = program.learner.init(lanes, env)
    step = program.learner.compile(lanes, carry, env) if compiled else program.learner.train
    carry, metrics = step(lanes, carry, env, 0, ITERATIONS[name])
    return env, Run(program.learner.params(lanes, carry), carry.episodes, metrics)


@cache
def trained(name: str, bridge: str, seeds: tuple[int, ...] = SEEDS) -> tuple[Any, Run]:
    env, run = train(name, bridge, seeds)
    return env, jax.tree.map(np.array, run)


names = pytest.mark.parametrize(
    "name", ["walk", pytest.param("starpilot", marks=pytest.mark.slow)]
)


@pytest.fixture
def needed(name: str) -> None:
    if name == "starpilot":
        pytest.importorskip("procgen")


@names
@pytest.mark.usefixtures("needed")
def test_both_bridges_give_the_same_bits(name):
    """Parameters, episodes, metrics and the environment, after 8 or 16 iterations of 3 lanes."""
    (env, callback), (looped_env, loop) = (trained(name, bridge) for bridge in BRIDGES)
    assert_same_bits(callback, loop)
    assert_same_bits(env.get_state(), looped_env.get_state())
    assert callback.metrics["episodes"].sum() > 0 and np.abs(callback.metrics["loss"]).all()
    params = callback.params
    assert not any((params[i] == params[j]).all() for i, j in ((0, 1), (1, 2), (0, 2)))


@names
@pytest.mark.parametrize("bridge", BRIDGES)
@pytest.mark.usefixtures("needed")
def test_a_lane_is_the_same_alone(name, bridge):
    """Each of 3 lanes, of other seeds and arms."""
    for lane, seed in enumerate(SEEDS):
        alone = trained(name, bridge, (seed,))[1]
        assert_same_bits(alone, pick(trained(name, bridge)[1], np.s_[[lane]]))


@pytest.mark.parametrize("bridge", BRIDGES)
def test_training_steps_the_host_once_for_all_lanes(bridge):
    """8 iterations of 4 steps: 32 calls for [L, V, N] = [3, 3, 2]."""
    env, _ = trained("walk", bridge)
    assert [action.shape for action in env.actions] == [(3, 3, 2)] * 32


@pytest.mark.parametrize("bridge", BRIDGES)
def test_compiled_ahead_it_gives_the_same_bits(bridge):
    assert_same_bits(train("walk", bridge, SEEDS, compiled=True)[1], trained("walk", bridge)[1])


@pytest.mark.slow
@names
@pytest.mark.usefixtures("needed")
def test_lanes_are_forked_with_their_games(name):
    """Half of the training, then the last lane twice and the first once, each with its own games:
    number 0 ends as if nothing had been, number 1 with other parameters."""
    bridge, half = BRIDGES[0], ITERATIONS[name] // 2
    program, lanes = program_of(name, bridge), lanes_of(name, SEEDS)
    env: Any = program.world.content(lanes, 0)
    carry, _ = program.learner.train(lanes, program.learner.init(lanes, env), env, 0, half)
    chosen, numbers = [2, 0, 2], [0, 0, 1]
    parts = [program.world.save(carry, env, lane) for lane in chosen]
    starts = [Fork("parent", 0.5, number) for number in numbers]
    forked = lanes_of(name, tuple(SEEDS[lane] for lane in chosen), starts)
    games: Any = program.world.content(forked, 0)
    host_states = [(lane, state) for lane, (_, state) in enumerate(parts)]
    learner, start = program.learner, join([part for part, _ in parts])
    start = learner.fork(forked, start, half, "copy")
    start = program.world.resume(start, games, host_states)
    carry, _ = learner.train(forked, start, games, half, ITERATIONS[name])
    params, expected = np.asarray(learner.params(forked, carry)), trained(name, bridge)[1].params
    np.testing.assert_array_equal(params[:2], expected[[2, 0]])
    assert (params[2] != expected[2]).mean() > 0.5


@pytest.mark.parametrize("bridge", BRIDGES)
def test_training_raises_what_the_environment_raised(bridge):
    """In the first iteration; the next environment trains as if nothing had been."""
    program, lanes = program_of("walk", bridge), lanes_of("walk", SEEDS)
    env: Any = program.world.content(lanes, 0)
    env.error = OSError("the game is gone")
    carry = program.learner.init(lanes, env)
    with pytest.raises(OSError) as raised:
        program.learner.train(lanes, carry, env, 0, 1)
    assert raised.value is env.error
    assert_same_bits(train("walk", bridge, SEEDS)[1], trained("walk", bridge)[1])


# Evaluation

LIMIT, NEVER = 8, 99
LENGTHS = (3, 1, NEVER, 2, 5, 7, 4, 1)
# Episode e pays e + t at its step t = 0, 1, ...: n e + n (n - 1) / 2 over n steps, so
# 0 + 3; 1 + 0; 16 + 28 over the 8 steps of the limit; 6 + 1; 20 + 10; 35 + 21; 24 + 6; 7 + 0.
RETURNS = (3, 1, 44, 7, 30, 56, 30, 7)
CLIP = EnvSpec("clip", Image(2, 2, 1), Discrete(LIMIT), LIMIT)


class Clips:
    """`HostEpisodes` ``[2, 4]`` of images that show ``10 e + t``; ``order`` numbers them anew.

    A slot whose episode has ended pays a million and shows 255. An action is worth itself, so that
    a policy that takes the step from its randomness earns t.
    """

    shape = (2, 4)

    def __init__(self, num_slots: int, order: tuple[int, ...]):
        self.order, self.started = np.array(order), []
        self.episode, self.time = np.zeros((2, num_slots), int)
        self.live = np.zeros(num_slots, bool)

    def images(self) -> np.ndarray:
        shown = np.where(self.live, 10 * self.episode + self.time, 255).astype(np.uint8)
        return np.broadcast_to(shown[:, None, None, None], (len(shown), 2, 2, 1))

    def start(self, slots: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        assert len(slots) == len(episodes)
        self.started += list(episodes)
        self.episode[slots], self.time[slots] = self.order[episodes], 0
        self.live[slots] = True
        return self.images()

    def step(self, action: np.ndarray) -> HostStep:
        assert action.dtype == np.int32
        reward = np.where(self.live, self.episode + action, 1e6).astype(np.float32)
        self.time += 1
        ended = self.live & (self.time == np.array(LENGTHS)[self.episode])
        self.live &= ~ended
        terminated = ended & (self.episode % 2 == 0)
        return HostStep(self.images(), reward, terminated, ended & ~terminated, self.images())


def play_clips(num_slots: int, order: tuple[int, ...], num_frames: int = 1) -> tuple:
    """Returns in the order of `LENGTHS`, how many times each episode began, and all that was
    shown, ``[steps * W, 2, 2, C]``."""
    clips: Any = Clips(num_slots, order)
    seen: list[np.ndarray] = []
    steps = np.tile(np.arange(LIMIT, dtype=np.uint32)[:, None], (len(order), 1, 1))
    suite = QueuedEpisodes(clips, num_slots, lambda num_words: np.tile(steps, num_words))

    def choose(obs: np.ndarray, words: np.ndarray) -> np.ndarray:
        seen.append(obs.copy())
        assert words.shape == (num_slots, 2)
        return words[:, 1].astype(np.int64)

    returns, lengths = play(CLIP, suite, Acting(choose, num_words=2), num_frames)
    expected = np.minimum(LENGTHS, LIMIT)[list(order)]
    np.testing.assert_array_equal(lengths.reshape(-1), expected)
    assert returns.shape == (2, 4) and returns.dtype == np.float32
    in_order = np.zeros(len(order))
    in_order[list(order)] = returns.reshape(-1)
    return in_order, np.bincount(clips.started), np.concatenate(seen)


FORWARDS, MIXED = tuple(range(8)), (2, 5, 0, 7, 1, 6, 4, 3)


@pytest.mark.parametrize("order", [FORWARDS, FORWARDS[::-1], MIXED])
@pytest.mark.parametrize("num_slots", [1, 2, 5, 8])
def test_returns_depend_on_no_slot_and_no_company(num_slots, order):
    """Episode 2 never ends and is cut after 8 steps; what a slot pays after its last is lost."""
    returns, starts, _ = play_clips(num_slots, order)
    np.testing.assert_array_equal(returns, RETURNS)
    np.testing.assert_array_equal(starts, [1] * 8)


@pytest.mark.parametrize("order", [FORWARDS, MIXED])
@pytest.mark.parametrize("num_slots", [2, 5])
def test_a_policy_sees_the_last_frames_of_its_episode_alone(num_slots, order):
    """Three frames at step t of episode e: 10 e plus t - 2, t - 1 and t, or 0 where that is
    before its start; every step of every episode is seen once."""
    _, _, seen = play_clips(num_slots, order, num_frames=3)
    assert (seen == seen[:, :1, :1]).all()
    stacks = {tuple(map(int, stack)) for stack in seen[:, 0, 0] if 255 not in stack}
    assert stacks == {
        tuple(10 * episode + max(0, step - back) for back in (2, 1, 0))
        for episode, length in enumerate(LENGTHS)
        for step in range(min(length, LIMIT))
    }


# Frames


def image(value: int) -> np.ndarray:
    """``[2, 4, 5, 2]``: a batch of two; the second shows 100 more, the second channel 10 more."""
    base = value + np.array([0, 100])[:, None, None, None] + np.array([0, 10])
    return np.broadcast_to(base, (2, 4, 5, 2)).astype(np.uint8)


PICTURE = EnvSpec("picture", Image(4, 5, 2), Discrete(2), 9)


@pytest.mark.parametrize("xp", [np, jnp])
def test_frames_are_pushed_and_begin_anew(xp):
    """Three frames of two channels, oldest first; at a start the image is in every place."""
    stack = frames.begin(xp.asarray(image(1)), 3)
    rows = [np.asarray(stack)[:, 0, 0]]
    for value, first in ((2, [False, False]), (3, [False, True]), (4, [False, False])):
        stack = frames.push(PICTURE, stack, xp.asarray(image(value)), xp.asarray(first))
        assert isinstance(stack, np.ndarray if xp is np else jax.Array)
        assert stack.shape == (2, 4, 5, 6) and stack.dtype == np.uint8
        assert (np.asarray(stack) == np.asarray(stack)[:, :1, :1]).all()
        rows.append(np.asarray(stack)[:, 0, 0])
    np.testing.assert_array_equal(np.stack(rows)[:, 0], [
        [1, 11, 1, 11, 1, 11], [1, 11, 1, 11, 2, 12], [1, 11, 2, 12, 3, 13],
        [2, 12, 3, 13, 4, 14],
    ])
    np.testing.assert_array_equal(np.stack(rows)[:, 1], [
        [101, 111, 101, 111, 101, 111], [101, 111, 101, 111, 102, 112],
        [103, 113, 103, 113, 103, 113], [103, 113, 103, 113, 104, 114],
    ])
    np.testing.assert_array_equal(frames.newest(PICTURE, stack), image(4))


@pytest.mark.parametrize("xp", [np, jnp])
def test_a_single_frame_stays_as_it_is(xp):
    """So do observations that are no images."""
    new, first = xp.asarray(image(2)), xp.asarray([False, True])
    assert frames.push(PICTURE, xp.asarray(image(1)), new, first) is new
    numbers = xp.ones((2, 3))
    assert frames.push(WALK, xp.zeros((2, 3)), numbers, first) is numbers
