"""The functions of a `Program` around a host environment."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.evaluation.episodes import Played
from jaxgen.evaluation.host_episodes import QueuedEpisodes, host_words, play
from jaxgen.evaluation.policy import Acting
from jaxgen.study.fork import Replay
from jaxgen.study.spec import MODES
from jaxgen.training.host import (
    BridgeKind,
    HostFunctions,
    HostTrainer,
    image_shapes,
    init_host_carry,
    make_host_functions,
    make_lane_steps,
)
from jaxgen.training.host_rollout import check_starts, lane_of
from jaxgen.training.keys import stream_key
from jaxgen.training.memory import SHARED_BYTES, Memory, num_bytes, once_per_program
from jaxgen.training.program import (
    Capacity,
    Carry,
    HostState,
    LaneLearner,
    Lanes,
    MakeAlgorithm,
    Program,
    World,
    lane_at,
    with_lanes,
)
from jaxgen.training.stepwise import StepTrainer
from jaxgen.types import Array, EnvSpec, HostTask, HostVecEnv, Metrics, PyTree

STEPS_PER_CALL = 1024
"""Env steps of a lane in one call of ``train``, which take seconds, or a whole iteration."""
BYTES_PER_GAME = 200_000
"""A procgen game itself, its images on both sides of the bridge, and its saved state."""


def make_host_program(
    task: HostTask,
    make_algorithm: MakeAlgorithm,
    example: Lanes,
    *,
    study_seed: int = 0,
    bridge: BridgeKind = "callback",
    devices: Sequence[Any] | None = None,
) -> Program:
    """The functions of a `Program` around a host environment; its content is a `HostVecEnv`.

    Arguments as of `make_host_functions` and `HostTrainer`; ``devices`` are those of a
    `StepTrainer`, None: all. There is no probe.
    """
    functions = make_host_functions(task, make_algorithm, example, study_seed=study_seed)
    config, stepper = example.config, None
    if bridge == "steps":
        steps = make_lane_steps(task, make_algorithm, study_seed)
        shape = functions.acting.shape
        stepper = StepTrainer(task.spec, shape, steps, devices or jax.local_devices())
    program = _HostProgram(task, HostTrainer(task, functions, bridge), study_seed, stepper)
    world = World(
        refresh_steps=None,
        content=program.content,
        overlap=program.no_overlap,
        episodes=lambda env, lane: env.episodes(lane),
        save=_saved,
        resume=_resumed,
    )
    learner = LaneLearner(
        program.init, program.train, program.compile, program.shapes, program.params,
        program.critic, program.fork,
    )  # fmt: skip
    # At least 1: a lane that is too large for one call is refused by the bridge, which says why.
    envs_of_lane = config.num_variations * config.num_envs
    most = None if stepper else max(1, task.bridge.max_envs // envs_of_lane)
    chunk = max(1, STEPS_PER_CALL // config.steps_per_iteration)
    memory = once_per_program(partial(estimate_memory, task, functions))
    capacity = Capacity(memory, num_devices=1, min_lanes=1, max_lanes=most, chunk=chunk)
    return Program(world, learner, program.evaluate, program.no_probe, capacity)


class _HostProgram(NamedTuple):
    """The functions of a `Program`, over all lanes."""

    task: HostTask
    trainer: HostTrainer
    study_seed: int
    stepper: StepTrainer | None = None
    """Trains in place of the trainer."""

    def content(self, lanes: Lanes, epoch: int) -> HostVecEnv:
        del epoch  # Levels are drawn by the episodes.
        keys = [stream_key(self.study_seed, seed, "episodes") for seed in lanes.seed]
        words = np.stack([host_words(key) for key in keys])
        levels = np.asarray(lanes.technique.levels)
        num_starts = self.trainer.functions.acting.shape.num_starts
        return self.task.training(words, levels, lanes.config.num_envs, num_starts)

    def init(self, lanes: Lanes, env: HostVecEnv) -> Carry:
        functions, first = self.trainer.functions, env.reset(0)
        check_starts(self.task.spec, functions.acting.shape, first)
        return init_host_carry(functions, lanes, first)

    def train(
        self, lanes: Lanes, carry: Carry, env: HostVecEnv, start: int, stop: int
    ) -> tuple[Carry, Metrics]:
        if self.stepper is not None:
            return self.stepper.train(lanes, carry, env, start, stop)
        rows = []
        for number in range(int(start), int(stop)):
            carry, metrics = self.trainer.iteration(lanes, carry, env, number)
            rows.append(metrics)
        return carry, jax.tree.map(lambda *values: np.stack(values, 1), *rows)

    def compile(self, lanes: Lanes, carry: Carry, env: HostVecEnv) -> Callable:
        if self.stepper is not None:
            self.stepper.warm(lanes, carry)
        del env
        if self.trainer.bridge != "callback":
            return self.train
        functions = _compiled(self.task.spec, self.trainer.functions, lanes, carry)
        trainer = HostTrainer(self.task, functions, self.trainer.bridge)
        return self._replace(trainer=trainer).train

    def shapes(self, lanes: Lanes) -> Carry:
        first = _first_observations(self.task, lanes)
        one = Carry(*jax.eval_shape(self.trainer.functions.learner.init, lane_at(lanes, 0), first))
        return with_lanes(one, len(lanes.seed))

    def fork(self, lanes: Lanes, carry: Carry, iteration: int, replay: Replay) -> Carry:
        each = [lane_at(carry.state, index) for index in range(len(lanes.seed))]
        forked = [
            self.trainer.functions.learner.fork(replay, lane_at(lanes, index), state, iteration)
            for index, state in enumerate(each)
        ]
        return carry._replace(state=_on_host(forked))

    def params(self, lanes: Lanes, carry: Carry) -> Array:
        return _by_lane(self.trainer.functions.learner.params, lanes, carry)

    def critic(self, lanes: Lanes, carry: Carry) -> Array:
        return _by_lane(self.trainer.functions.learner.critic, lanes, carry)

    def evaluate(self, lanes: Lanes, params: Array, episodes: QueuedEpisodes) -> Played:
        return _in_rows([
            self._play(lane_at(lanes, index), vector, episodes)
            for index, vector in enumerate(params)
        ])

    def _play(self, lane: Lanes, params: Array, episodes: QueuedEpisodes) -> Played:
        """Outcomes ``[modes, K, E]`` of one lane."""
        acting = self.trainer.functions.acting

        def played(sampled: bool) -> Played:
            chosen = Acting(partial(acting.choose, lane, params, sampled), acting.num_words)
            return play(self.task.spec, episodes, chosen, lane.config.num_frames)

        return _in_rows([played(mode == "sampled") for mode in MODES])

    def no_probe(self, *_: Any) -> Any:
        name = self.task.spec.name
        raise ValueError(f"{name} lives on the host, where gradients are not probed")

    def no_overlap(self, *_: Any) -> Any:
        name = self.task.spec.name
        raise ValueError(f"{name} has no fingerprints, so that no overlap of its levels is known")


def _in_rows(outcomes: Sequence[Played]) -> Played:
    """Outcomes ``[...]`` one behind the other, in numpy."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *outcomes)


def estimate_memory(task: HostTask, functions: HostFunctions, lanes: Lanes) -> Memory:
    """Estimate, before anything is allocated, from the shapes of the first of these lanes."""
    one, lane = np.int32(0), lane_at(lanes, 0)
    first = _first_observations(task, lanes)
    acting, learner = functions
    state, episodes, _ = jax.eval_shape(learner.init, lane, first)
    actor, words = jax.eval_shape(acting.prepare, lane, state, episodes.total, one)
    inputs = with_lanes((actor, episodes, words), 1)
    images = image_shapes(task.spec, acting.shape, *inputs[1:])
    recording = jax.eval_shape(acting.rollout, with_lanes(lane, 1), *inputs, images)[1]
    one_lane = jax.eval_shape(partial(lane_of, index=0), recording)
    rollout = jax.eval_shape(learner.assemble, lane, one_lane)
    num_games = lane.config.num_variations * lane.config.num_envs
    # A lane's share is copied for the update, which sorts what it makes of it into minibatches.
    update = num_bytes(recording) + 2 * num_bytes(rollout)
    # The state once more, while a checkpoint is written.
    lane_bytes = 2 * num_bytes(state) + 2 * num_bytes(actor) + num_bytes(recording)
    return Memory(SHARED_BYTES + update, lane_bytes + num_games * BYTES_PER_GAME)


def _first_observations(task: HostTask, lanes: Lanes) -> jax.ShapeDtypeStruct:
    shape = (lanes.config.num_variations, lanes.config.num_envs, *task.spec.obs_shape)
    return jax.ShapeDtypeStruct(shape, task.spec.obs_dtype)


def _saved(carry: Carry, env: HostVecEnv, lane: int | None) -> tuple[Carry, HostState]:
    if lane is None:
        return carry._replace(state=_on_host(carry.state)), env.get_state()
    # The other lanes' replays stay where they are.
    state, episodes, env_steps = carry
    rest = jax.tree.map(lambda leaf: np.asarray(leaf)[lane : lane + 1], (episodes, env_steps))
    return Carry(_on_host([state[lane]]), *rest), env.get_state(lane)


def _resumed(
    carry: Carry, env: HostVecEnv, host_states: Sequence[tuple[int | None, HostState]]
) -> Carry:
    for lane, host_state in host_states:
        env.set_state(host_state, lane)
    each = range(len(carry.env_steps))
    states = tuple(jax.tree.map(jnp.asarray, lane_at(carry.state, index)) for index in each)
    return carry._replace(state=states)


def _by_lane(vector_of: Callable[[Lanes, PyTree], Array], lanes: Lanes, carry: Carry) -> Array:
    # Through the host: lanes may lie on several devices.
    each = enumerate(carry.state)
    return jnp.asarray(
        np.stack([np.asarray(vector_of(lane_at(lanes, index), state)) for index, state in each])
    )


def _on_host(lanes: Sequence[PyTree]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)


def _compiled(
    spec: EnvSpec, functions: HostFunctions, lanes: Lanes, carry: Carry
) -> HostFunctions:
    """Compile what takes long, before it is called."""
    one, lane, num = np.int32(0), lane_at(lanes, 0), len(lanes.seed)
    state, steps = carry.state[0], carry.env_steps[0]
    shapes = jax.eval_shape(functions.acting.prepare, lane, state, carry.episodes.total[0], one)
    actor, words = with_lanes(shapes, num)
    acting, learner = functions
    rollout: Any = acting.rollout
    images = image_shapes(spec, acting.shape, carry.episodes, words)
    lowered = rollout.lower(lanes, actor, carry.episodes, words, images)
    lane_recording = jax.eval_shape(partial(lane_of, index=0), lowered.out_info[1])
    update: Any = learner.update
    compiled_update = update.lower(lane, state, steps, shapes[0], lane_recording, one).compile()
    return HostFunctions(
        acting._replace(rollout=lowered.compile()), learner._replace(update=compiled_update)
    )
