"""The functions of a `Program` around a host environment."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.evaluation.host_episodes import QueuedEpisodes, host_words, play
from jaxgen.evaluation.policy import Acting
from jaxgen.study.spec import MODES, Replay
from jaxgen.training.host import (
    BridgeKind,
    HostFunctions,
    image_shapes,
    init_host_carry,
    lane_of,
    make_host_functions,
    train_host_iteration,
)
from jaxgen.training.keys import stream_key
from jaxgen.training.memory import SHARED_BYTES, Memory, num_bytes
from jaxgen.training.program import Carry, Lanes, MakeAlgorithm, Program, World
from jaxgen.training.trees import lane_at, with_lanes
from jaxgen.types import Array, EnvSpec, HostTask, HostVecEnv, Metrics, PyTree

STEPS_PER_CALL = 1024
"""Env steps of a lane in one call of ``train``, which take seconds, or a whole iteration."""
BYTES_PER_GAME = 200_000
"""Of procgen: the game itself, its images on both sides of the bridge, and its saved state."""


def make_host_program(
    task: HostTask,
    make_algorithm: MakeAlgorithm,
    example: Lanes,
    *,
    study_seed: int = 0,
    bridge: BridgeKind = "callback",
) -> Program:
    """The functions of a `Program` around a host environment; its content is a `HostVecEnv`.

    Arguments as of `make_host_functions` and `train_host_iteration`. There is no probe.
    """
    functions = make_host_functions(task, make_algorithm, example, study_seed=study_seed)
    config = example.config
    program = _HostProgram(task, functions, study_seed, bridge)
    return Program(
        refresh_steps=None,
        content=program.content,
        init=program.init,
        train=program.train,
        compile=program.compile,
        memory=partial(estimate_memory, task, functions),
        shapes=program.shapes,
        freeze=_freeze,
        place=_place,
        thaw=lambda env, state, lane: env.set_state(state, lane),
        fork=program.fork,
        episodes=lambda env, lane: env.episodes(lane),
        probe=program.no_probe,
        evaluate=program.evaluate,
        params=program.params,
        overlap=program.no_probe,
        num_devices=1,
        min_lanes=1,
        # What is too much for a single lane, the bridge names.
        max_lanes=max(1, task.bridge.max_envs // (config.num_variations * config.num_envs)),
        chunk=max(1, STEPS_PER_CALL // config.steps_per_iteration),
    )


class _HostProgram(NamedTuple):
    """What `Program` asks for, of all lanes."""

    task: HostTask
    functions: HostFunctions
    study_seed: int
    bridge: BridgeKind

    def content(self, lanes: Lanes, epoch: int) -> HostVecEnv:
        del epoch  # Levels are drawn by the episodes.
        keys = [stream_key(self.study_seed, seed, "episodes") for seed in lanes.seed]
        words = np.stack([host_words(key) for key in keys])
        levels = np.asarray(lanes.technique.levels)
        return self.task.training(words, levels, lanes.config.num_envs, self.functions.num_starts)

    def init(self, lanes: Lanes, env: HostVecEnv) -> Carry:
        return init_host_carry(self.functions, lanes, env.reset(0))

    def train(
        self, lanes: Lanes, carry: Carry, env: HostVecEnv, start: int, stop: int
    ) -> tuple[Carry, Metrics]:
        rows = []
        for iteration in range(int(start), int(stop)):
            carry, metrics = train_host_iteration(
                self.task, self.functions, lanes, carry, env, iteration, self.bridge
            )
            rows.append(metrics)
        return carry, jax.tree.map(lambda *values: np.stack(values, 1), *rows)

    def compile(self, lanes: Lanes, carry: Carry, env: HostVecEnv) -> Callable:
        del env
        functions = _compiled(self.task.spec, self.functions, lanes, carry, self.bridge)
        return self._replace(functions=functions).train

    def shapes(self, lanes: Lanes) -> Carry:
        first = _first_observations(self.task, lanes)
        own = Carry(*jax.eval_shape(self.functions.init, lane_at(lanes, 0), first))
        return with_lanes(own, len(lanes.seed))

    def fork(self, lanes: Lanes, carry: Carry, iteration: int, replay: Replay) -> Carry:
        each = [lane_at(carry.state, index) for index in range(len(lanes.seed))]
        forked = [
            self.functions.fork(replay, lane_at(lanes, index), state, iteration)
            for index, state in enumerate(each)
        ]
        return carry._replace(state=_on_host(forked))

    def params(self, lanes: Lanes, carry: Carry) -> Array:
        each = enumerate(carry.state)
        return jnp.stack([self.functions.params(lane_at(lanes, i), state) for i, state in each])

    def evaluate(self, lanes: Lanes, params: Array, episodes: QueuedEpisodes) -> Any:
        return np.stack([
            _evaluate(self.task, self.functions, lane_at(lanes, index), own, episodes)
            for index, own in enumerate(params)
        ])

    def no_probe(self, *_: Any) -> Any:
        name = self.task.spec.name
        raise ValueError(f"{name} lives on the host, where gradients are not probed")


def estimate_memory(task: HostTask, functions: HostFunctions, lanes: Lanes) -> Memory:
    """Estimate, before anything is allocated, from the shapes of the first of these lanes."""
    one, lane = np.int32(0), lane_at(lanes, 0)
    first = _first_observations(task, lanes)
    state, episodes, _ = jax.eval_shape(functions.init, lane, first)
    actor, words = jax.eval_shape(functions.prepare, lane, state, episodes.total, one)
    inputs = with_lanes((actor, episodes, words), 1)
    images = image_shapes(task.spec, functions.keeps_obs, *inputs[1:])
    recording = jax.eval_shape(functions.rollout, with_lanes(lane, 1), *inputs, images)[1]
    one_lane = jax.eval_shape(partial(lane_of, index=0), recording)
    rollout = jax.eval_shape(functions.assemble, lane, one_lane)
    num_games = lane.config.num_variations * lane.config.num_envs
    # A lane's share is copied for the update, which sorts what it makes of it into minibatches.
    update = num_bytes(recording) + 2 * num_bytes(rollout)
    # The state once more, while a checkpoint is written.
    own = 2 * num_bytes(state) + 2 * num_bytes(actor) + num_bytes(recording)
    return Memory(SHARED_BYTES + update, own + num_games * BYTES_PER_GAME)


def _first_observations(task: HostTask, lanes: Lanes) -> jax.ShapeDtypeStruct:
    shape = (lanes.config.num_variations, lanes.config.num_envs, *task.spec.obs_shape)
    return jax.ShapeDtypeStruct(shape, task.spec.obs_dtype)


def _freeze(carry: Carry, env: HostVecEnv, lane: int | None) -> tuple[Carry, World]:
    if lane is None:
        return carry._replace(state=_on_host(carry.state)), env.get_state()
    # The other lanes' replays stay where they are.
    state, episodes, env_steps = carry
    rest = jax.tree.map(lambda leaf: np.asarray(leaf)[lane : lane + 1], (episodes, env_steps))
    return Carry(_on_host([state[lane]]), *rest), env.get_state(lane)


def _on_host(lanes: Sequence[PyTree]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)


def _place(carry: Carry) -> Carry:
    each = range(len(carry.env_steps))
    states = tuple(jax.tree.map(jnp.asarray, lane_at(carry.state, index)) for index in each)
    return carry._replace(state=states)


def _compiled(
    spec: EnvSpec, functions: HostFunctions, lanes: Lanes, carry: Carry, bridge: BridgeKind
) -> HostFunctions:
    """Compile what takes long, before it is called."""
    one, lane, num = np.int32(0), lane_at(lanes, 0), len(lanes.seed)
    state, steps = carry.state[0], carry.env_steps[0]
    shapes = jax.eval_shape(functions.prepare, lane, state, carry.episodes.total[0], one)
    actor, words = with_lanes(shapes, num)
    if bridge == "loop":
        return functions
    rollout: Any = functions.rollout
    images = image_shapes(spec, functions.keeps_obs, carry.episodes, words)
    lowered = rollout.lower(lanes, actor, carry.episodes, words, images)
    kept = jax.eval_shape(partial(lane_of, index=0), lowered.out_info[1])
    update: Any = functions.update
    compiled_update = update.lower(lane, state, steps, shapes[0], kept, one).compile()
    return functions._replace(rollout=lowered.compile(), update=compiled_update)


def _evaluate(
    task: HostTask, functions: HostFunctions, lane: Lanes, params: Array,
    episodes: QueuedEpisodes,
) -> np.ndarray:
    """Returns ``[modes, K, E]`` of one lane."""

    def returns(sampled: bool) -> np.ndarray:
        chosen = Acting(partial(functions.choose, lane, params, sampled), functions.num_words)
        return play(task.spec, episodes, chosen, lane.config.num_frames)

    return np.stack([returns(mode == "sampled") for mode in MODES])
