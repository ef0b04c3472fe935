"""Training on a host environment: the functions of a `Program` around its steps.

The same algorithms, keys and metrics as there; only the collector differs. A rollout and an update
are two programs, so that the cache of compilations can hold the update, which has no callback. An
environment of shape ``[L, V, N]`` is stepped for all lanes in one call, by a callback from inside
of the rollout or by a Python loop around compiled actions; both give the same bits. One device: on
several there would be a call for each.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap

from jaxgen.algorithms.base import Algorithm
from jaxgen.evaluation.host_episodes import HostSuite, host_words, play
from jaxgen.evaluation.policy import Acting, acting
from jaxgen.nn import frames
from jaxgen.study.spec import MODES
from jaxgen.system import platform
from jaxgen.training.host_rollout import (
    Recording,
    assemble,
    collect_bridged,
    collect_host,
    host_metrics,
)
from jaxgen.training.keys import IterationKeys, iteration_keys, stream_key
from jaxgen.training.memory import SHARED_BYTES, Memory, num_bytes
from jaxgen.training.program import Carry, Lanes, MakeAlgorithm, Program, learn
from jaxgen.training.rollout import Ended, Episodes, action_words
from jaxgen.types import Array, EnvSpec, HostTask, HostVecEnv, Metrics, PyTree

BridgeKind = Literal["callback", "loop"]
BRIDGES: tuple[BridgeKind, ...] = ("callback", "loop")
"""How a rollout steps its environment; changes no bit."""

LANE_AXES: Any = Recording(0, 0, 1, 1, 1, 1, 1, 1)  # pyright: ignore
"""Where the lanes of a recording are."""

STEPS_PER_CALL = 1024
"""Env steps of a lane in one call of ``train``, which take seconds, or a whole iteration."""
BYTES_PER_GAME = 200_000
"""Of procgen: the game itself, its images on both sides of the bridge, and its saved state."""


class HostFunctions(NamedTuple):
    """The compiled parts of an iteration, of one lane but for rollouts, where lanes are in front.

    The state of each lane lies in buffers of its own, a tuple in `Carry`: a replay of a gigabyte is
    then written in place, and a program that is compiled once serves any number of lanes.
    """

    init: Callable[[Lanes, np.ndarray], tuple[PyTree, Episodes, Array]]
    """(lane, first observations ``[V, N, ...]``) -> state, episodes, env steps."""
    prepare: Callable[[Lanes, PyTree, Array, int], tuple[PyTree, Array]]
    """(lane, state, running sums of rewards ``[V, N]``, iteration) -> actor, words
    ``[T, V, N, W]``."""
    rollout: Callable[[Lanes, PyTree, Episodes, Array, Any], tuple[Episodes, Recording, Ended]]
    """(lanes, actor, episodes, words, images) -> episodes, recording, returns and ends of its
    episodes ``[T, L, V, N]``; consumes the images, the buffer that it writes into."""
    act: Callable[[Lanes, PyTree, np.ndarray, np.ndarray], tuple[Array, PyTree]]
    """(lanes, actor, obs ``[L, V, N, ...]``, words ``[L, V, N, W]``) -> actions, extras."""
    assemble: Callable[[Lanes, Recording], PyTree]
    """(lane, recording) -> what the algorithm keeps of its transitions."""
    update: Callable[[Lanes, PyTree, Array, PyTree, Recording, int], tuple[PyTree, Array, Metrics]]
    """(lane, state, env steps, actor, recording, iteration) -> state, env steps, metrics; consumes
    the state."""
    params: Callable[[Lanes, PyTree], Array]
    """(lane, state) -> flat parameters ``[D]``."""
    choose: Callable[[Lanes, Array, bool, np.ndarray, np.ndarray], Array]
    """(lane, parameters ``[D]``, sampled or greedy, obs ``[slots, ...]``, words ``[slots, W]``) ->
    actions ``[slots, *action shape]``; W is ``num_words``."""
    num_words: int
    keeps_obs: bool
    spare: list[Any]
    """The images of the last recording, to write the next one into: memory that is new has to be
    filled with zeros by the system first."""
    fresh: bool
    """Restart every episode before each iteration."""
    num_starts: int


def make_host_functions(
    task: HostTask, make_algorithm: MakeAlgorithm, example: Lanes, *, study_seed: int = 0
) -> HostFunctions:
    """Build the parts of an iteration; nothing compiles before the first call.

    Args:
      task: gives specification and bridge.
      make_algorithm: (config, technique, spec) -> Algorithm, called while tracing.
      example: lanes like those to come, for what is the same in all of them.
      study_seed: root of all keys.
    """
    platform.keep_freed_memory()
    own = _LaneFunctions(task, make_algorithm, study_seed)
    shown = own.algorithm(_lane(example, 0))
    return HostFunctions(
        init=jax.jit(own.init),
        prepare=jax.jit(own.prepare),
        # Axes as the steps write them: others would copy the whole recording.
        rollout=jax.jit(jax.vmap(own.rollout, out_axes=(0, LANE_AXES, 1)), donate_argnums=4),
        act=jax.jit(jax.vmap(own.act)),
        assemble=own.assemble,
        update=jax.jit(own.update, donate_argnums=1),
        params=jax.jit(own.params),
        choose=jax.jit(own.choose),
        num_words=shown.policy.num_words,
        keeps_obs=shown.keeps_obs,
        spare=[],
        fresh=shown.fresh,
        num_starts=shown.num_starts or shown.num_envs,
    )


def init_host_carry(functions: HostFunctions, lanes: Lanes, obs: np.ndarray) -> Carry:
    """The carry before the first iteration; first observations ``[L, V, N, ...]``."""
    parts = [functions.init(_lane(lanes, i), own) for i, own in enumerate(obs)]
    states, episodes, env_steps = zip(*parts, strict=True)
    return Carry(states, _stacked(episodes), np.stack(env_steps))  # pyright: ignore


def train_host_iteration(
    task: HostTask, functions: HostFunctions, lanes: Lanes, carry: Carry, env: HostVecEnv,
    iteration: int, bridge: BridgeKind = "callback",
) -> tuple[Carry, Metrics]:
    """Collect a rollout of the host's environment, then update all lanes.

    Args:
      task: the environment's.
      functions: from `make_host_functions`.
      lanes: as in `jaxgen.training.device`.
      carry: from `init_host_carry`, then from the last iteration; it is consumed.
      env: of shape ``[L, V, N]``; it goes on where the last iteration left it.
      iteration: its number, from 0.
      bridge: how the environment is stepped.

    Returns:
      The carry and the metrics ``[L]`` by name, those of `jaxgen.training.device`.
    """
    each = [_lane(lanes, index) for index in range(len(lanes.seed))]
    prepared = [
        functions.prepare(lane, state, total, iteration)
        for lane, state, total in zip(each, carry.state, carry.episodes.total, strict=True)
    ]
    actors = [actor for actor, _ in prepared]
    actor, words = _stacked(prepared)
    episodes = carry.episodes
    if functions.fresh:
        obs = frames.begin(env.reset(iteration), lanes.config.num_frames)
        episodes = Episodes(obs, (), np.zeros(episodes.total.shape, np.float32))  # pyright: ignore
    if bridge == "loop":
        episodes, recording, ended = collect_host(
            env, task.spec, lambda *args: functions.act(lanes, actor, *args), functions.keeps_obs,
            episodes, np.asarray(words),
        )
    else:
        task.bridge.connect(env)
        images = room_for_images(task.spec, functions, episodes, words)
        episodes, recording, ended = task.bridge.run(
            functions.rollout, lanes, actor, episodes, words, images
        )
        functions.spare[:] = [recording.obs]
    updated = [
        functions.update(lane, state, steps, actor, lane_of(recording, index), iteration)
        for index, (lane, state, steps, actor) in enumerate(
            zip(each, carry.state, carry.env_steps, actors, strict=True)
        )
    ]
    states, env_steps, metrics = zip(*updated, strict=True)
    carry = Carry(states, episodes, jnp.stack(env_steps))
    return carry, host_metrics(*ended) | _stacked(metrics)


def room_for_images(
    spec: EnvSpec, functions: HostFunctions, episodes: Episodes, words: Array
) -> Any:
    """A buffer ``[L, T + 1, V, N, ...]`` for the images of a recording; the spare one, if it fits.

    Args:
      spec: of the environment.
      functions: what they hold to spare is theirs no longer.
      episodes: where the rollout starts.
      words: ``[L, T, V, N, W]``.
    """
    if not functions.keeps_obs:
        return ()
    wanted = _image_shapes(spec, functions.keeps_obs, episodes, words)
    spare = functions.spare.pop() if functions.spare else None
    if spare is not None and spare.shape == wanted.shape:
        return spare
    return jnp.zeros(wanted.shape, wanted.dtype)


def _image_shapes(spec: EnvSpec, keeps_obs: bool, episodes: Episodes, words: Array) -> Any:
    if not keeps_obs:
        return ()
    num_lanes, num_steps, *_ = words.shape
    newest = jax.eval_shape(partial(frames.newest, spec), episodes.obs)
    return jax.ShapeDtypeStruct((num_lanes, num_steps + 1, *newest.shape[1:]), newest.dtype)


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
        freeze=lambda carry, env: (carry._replace(state=_on_host(carry.state)), env.get_state()),
        place=_place,
        thaw=lambda env, state: env.set_state(state),
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
        own = Carry(*jax.eval_shape(self.functions.init, _lane(lanes, 0), first))
        return _with_lanes(own, len(lanes.seed))

    def params(self, lanes: Lanes, carry: Carry) -> Array:
        each = enumerate(carry.state)
        return jnp.stack([self.functions.params(_lane(lanes, i), state) for i, state in each])

    def evaluate(self, lanes: Lanes, params: Array, suite: HostSuite) -> Any:
        return np.stack([
            _evaluate(self.task, self.functions, _lane(lanes, index), own, suite)
            for index, own in enumerate(params)
        ])

    def no_probe(self, *_: Any) -> Array:
        name = self.task.spec.name
        raise ValueError(f"{name} lives on the host, where gradients are not probed")


def estimate_memory(task: HostTask, functions: HostFunctions, lanes: Lanes) -> Memory:
    """Estimate, before anything is allocated, from the shapes of the first of these lanes."""
    one, lane = np.int32(0), _lane(lanes, 0)
    first = _first_observations(task, lanes)
    state, episodes, _ = jax.eval_shape(functions.init, lane, first)
    actor, words = jax.eval_shape(functions.prepare, lane, state, episodes.total, one)
    inputs = _with_lanes((actor, episodes, words), 1)
    images = _image_shapes(task.spec, functions.keeps_obs, *inputs[1:])
    recording = jax.eval_shape(functions.rollout, _with_lanes(lane, 1), *inputs, images)[1]
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


def _place(carry: Carry) -> Carry:
    each = range(len(carry.env_steps))
    states = tuple(jax.tree.map(jnp.asarray, _lane(carry.state, index)) for index in each)
    return carry._replace(state=states)


def _compiled(
    spec: EnvSpec, functions: HostFunctions, lanes: Lanes, carry: Carry, bridge: BridgeKind
) -> HostFunctions:
    """Compile what takes long, before it is called."""
    one, lane, num = np.int32(0), _lane(lanes, 0), len(lanes.seed)
    state, steps = carry.state[0], carry.env_steps[0]
    shapes = jax.eval_shape(functions.prepare, lane, state, carry.episodes.total[0], one)
    actor, words = _with_lanes(shapes, num)
    if bridge == "loop":
        return functions
    rollout: Any = functions.rollout
    images = _image_shapes(spec, functions.keeps_obs, carry.episodes, words)
    lowered = rollout.lower(lanes, actor, carry.episodes, words, images)
    kept = jax.eval_shape(partial(lane_of, index=0), lowered.out_info[1])
    update: Any = functions.update
    compiled_update = update.lower(lane, state, steps, shapes[0], kept, one).compile()
    return functions._replace(rollout=lowered.compile(), update=compiled_update)


def _evaluate(
    task: HostTask, functions: HostFunctions, lane: Lanes, params: Array, suite: HostSuite
) -> np.ndarray:
    """Returns ``[modes, K, E]`` of one lane."""

    def returns(sampled: bool) -> np.ndarray:
        chosen = Acting(partial(functions.choose, lane, params, sampled), functions.num_words)
        return play(task.spec, suite, chosen, lane.config.num_frames)

    return np.stack([returns(mode == "sampled") for mode in MODES])


class _LaneFunctions(NamedTuple):
    """What a program does for a single lane."""

    task: HostTask
    make_algorithm: MakeAlgorithm
    study_seed: int

    def algorithm(self, lane: Lanes) -> Algorithm:
        spec = self.task.spec.stacked(lane.config.num_frames)
        algorithm = self.make_algorithm(lane.config, lane.technique, spec)
        if algorithm.in_turn:
            algorithm = algorithm._replace(act=sequential_vmap(algorithm.act))
        return algorithm

    def key(self, lane: Lanes, stream: str) -> Array:
        return stream_key(self.study_seed, lane.seed, stream)

    def keys(self, lane: Lanes, iteration: Array) -> IterationKeys:
        return iteration_keys(self.key(lane, "train"), iteration)

    def init(self, lane: Lanes, obs: Array) -> tuple[PyTree, Episodes, Array]:
        state = self.algorithm(lane).init(self.key(lane, "init"))
        obs = frames.begin(obs, lane.config.num_frames)
        return state, Episodes(obs, (), jnp.zeros(obs.shape[:2], jnp.float32)), jnp.int32(0)

    def prepare(
        self, lane: Lanes, state: PyTree, total: Array, iteration: Array
    ) -> tuple[PyTree, Array]:
        algorithm, keys = self.algorithm(lane), self.keys(lane, iteration)
        actor = algorithm.prepare(state, iteration, keys.prepare)
        return actor, action_words(algorithm, total, keys.collect)[0]

    def rollout(
        self, lane: Lanes, actor: PyTree, episodes: Episodes, words: Array, images: Any
    ) -> tuple[Episodes, Recording, Ended]:
        algorithm, task = self.algorithm(lane), self.task
        return collect_bridged(task.bridge, task.spec, algorithm, actor, episodes, words, images)

    def assemble(self, lane: Lanes, recording: Recording) -> PyTree:
        return assemble(self.task.spec, self.algorithm(lane), recording)

    def act(self, lane: Lanes, actor: PyTree, obs: Array, words: Array) -> tuple[Array, PyTree]:
        return self.algorithm(lane).act(actor, obs, words)

    def update(
        self, lane: Lanes, state: PyTree, env_steps: Array, actor: PyTree, recording: Recording,
        iteration: Array,
    ) -> tuple[PyTree, Array, Metrics]:
        rollout = self.assemble(lane, recording)
        # Where the episodes stand is the host's business, and the same whether a lane rests.
        carry = Carry(state, Episodes((), (), ()), env_steps)  # pyright: ignore
        num_steps = lane.config.steps_per_iteration
        after, metrics = learn(
            self.algorithm(lane), lane.config.total_steps, num_steps, carry, actor, carry.episodes,
            rollout, iteration, self.keys(lane, iteration).update,
        )
        return after.state, after.env_steps, metrics

    def params(self, lane: Lanes, state: PyTree) -> Array:
        return self.algorithm(lane).params(state)

    def choose(
        self, lane: Lanes, params: Array, sampled: Array, obs: Array, words: Array
    ) -> Array:
        return acting(self.algorithm(lane).policy, params, sampled).choose(obs, words)


def _lane(tree: PyTree, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def lane_of(recording: Recording, index: int) -> Recording:
    """The part of one lane."""
    return jax.tree.map(
        lambda axis, part: jax.tree.map(lambda leaf: leaf[(slice(None),) * axis + (index,)], part),
        LANE_AXES, recording,
    )  # fmt: skip


def _with_lanes(shapes: PyTree, num_lanes: int) -> Any:
    struct = jax.ShapeDtypeStruct
    return jax.tree.map(lambda leaf: struct((num_lanes, *leaf.shape), leaf.dtype), shapes)


def _stacked(lanes: Sequence[PyTree]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)


def _on_host(lanes: Sequence[PyTree]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)
