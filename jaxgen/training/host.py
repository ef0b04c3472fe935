"""An iteration of training on a host environment: its compiled parts, around the steps.

The same algorithms, keys and metrics as in `jaxgen.training.device`; only the collector differs. A
rollout and an update are two programs, so that the cache of compilations can hold the update, which
has no callback. An environment of shape ``[L, V, N]`` is stepped for all lanes in one call, by a
callback from inside of the rollout or by a Python loop around compiled actions; both give the same
bits. One device: on several there would be a call for each.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap

from jaxgen.algorithms.base import Algorithm, RolloutShape
from jaxgen.evaluation.policy import acting
from jaxgen.nn import frames
from jaxgen.study.fork import Replay
from jaxgen.system import platform
from jaxgen.training.fork import forked_state
from jaxgen.training.host_rollout import (
    LANE_AXES,
    Recording,
    assemble,
    begin_iteration,
    collect_bridged,
    collect_host,
    host_metrics,
    lane_of,
)
from jaxgen.training.keys import IterationKeys, iteration_keys, stream_key
from jaxgen.training.program import (
    Carry,
    Collected,
    Lanes,
    MakeAlgorithm,
    critic_vector,
    lane_at,
    learn,
    scheduled,
    stacked,
)
from jaxgen.training.rollout import Ended, Episodes, action_words
from jaxgen.training.stepwise import LaneSteps
from jaxgen.types import Array, EnvSpec, HostTask, HostVecEnv, Metrics, PyTree

BridgeKind = Literal["callback", "loop", "steps"]
BRIDGES: tuple[BridgeKind, ...] = ("callback", "loop")
"""How a rollout of all lanes steps its environment; changes no bit. See `jaxgen.training.stepwise`
for steps, whose updates are of single lanes."""


class HostActing(NamedTuple):
    """How lanes act in an iteration."""

    prepare: Callable[[Lanes, PyTree, Array, int], tuple[PyTree, Array]]
    """(lane, state, running sums of rewards ``[V, N]``, iteration) -> actor, words
    ``[T, V, N, W]``."""
    rollout: Callable[[Lanes, PyTree, Episodes, Array, Any], tuple[Episodes, Recording, Ended]]
    """(lanes, actor, episodes, words, images) -> episodes, recording, ends of episodes
    ``[T, L, V, N]``; consumes the images, the buffer that it writes into."""
    act: Callable[[Lanes, PyTree, np.ndarray, np.ndarray], tuple[Array, PyTree]]
    """(lanes, actor, obs ``[L, V, N, ...]``, words ``[L, V, N, W]``) -> actions, extras."""
    choose: Callable[[Lanes, Array, bool, np.ndarray, np.ndarray], Array]
    """(lane, parameters ``[D]``, sampled or greedy, obs ``[slots, ...]``, words ``[slots, W]``) ->
    actions ``[slots, *action shape]``, of an evaluation; W is ``num_words``."""
    num_words: int
    shape: RolloutShape


class HostLearner(NamedTuple):
    """How a lane learns."""

    init: Callable[[Lanes, np.ndarray], tuple[PyTree, Episodes, Array]]
    """(lane, first observations ``[V, N, ...]``) -> state, episodes, env steps."""
    assemble: Callable[[Lanes, Recording], PyTree]
    """(lane, recording) -> what the algorithm keeps of its transitions."""
    update: Callable[[Lanes, PyTree, Array, PyTree, Recording, int], tuple[PyTree, Array, Metrics]]
    """(lane, state, env steps, actor, recording, iteration) -> state, env steps, metrics; consumes
    the state."""
    params: Callable[[Lanes, PyTree], Array]
    """(lane, state) -> flat parameters ``[D]``."""
    critic: Callable[[Lanes, PyTree], Array]
    """(lane, state) -> the vector of its critic ``[D]``, ``[0]`` without one."""
    fork: Callable[[Replay, Lanes, PyTree, int], PyTree]
    """(replay, lane, state, iteration) -> the state that a fork begins with."""


class HostFunctions(NamedTuple):
    """The compiled parts of an iteration, of one lane but for rollouts, where lanes are in front.

    The state of each lane lies in buffers of its own, a tuple in `Carry`: a replay of a gigabyte is
    then written in place, and a program that is compiled once serves any number of lanes.
    """

    acting: HostActing
    learner: HostLearner


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
    functions = _LaneFunctions(task, make_algorithm, study_seed)
    algorithm = functions.algorithm(lane_at(example, 0))
    acting = HostActing(
        jax.jit(functions.prepare),
        # Axes as the steps write them: others would copy the whole recording.
        rollout=jax.jit(jax.vmap(functions.rollout, out_axes=(0, LANE_AXES, 1)), donate_argnums=4),
        act=jax.jit(jax.vmap(functions.act)),
        choose=jax.jit(functions.choose),
        num_words=algorithm.policy.num_words,
        shape=algorithm.shape,
    )
    learner = HostLearner(
        jax.jit(functions.init),
        functions.assemble,
        update=jax.jit(functions.update, donate_argnums=1),
        params=jax.jit(functions.params),
        critic=jax.jit(functions.critic),
        fork=jax.jit(functions.fork, static_argnums=0),
    )
    return HostFunctions(acting, learner)


def make_lane_steps(
    task: HostTask, make_algorithm: MakeAlgorithm, study_seed: int = 0
) -> LaneSteps:
    """Build the functions that a `StepTrainer` compiles; arguments as of `make_host_functions`."""
    functions = _LaneFunctions(task, make_algorithm, study_seed)
    return LaneSteps(functions.prepare, functions.act, functions.update)


def init_host_carry(functions: HostFunctions, lanes: Lanes, obs: np.ndarray) -> Carry:
    """The carry before the first iteration; first observations ``[L, V, N, ...]``."""
    parts = [functions.learner.init(lane_at(lanes, i), first) for i, first in enumerate(obs)]
    states, episodes, env_steps = zip(*parts, strict=True)
    return Carry(states, stacked(episodes), np.stack(env_steps))  # pyright: ignore


class HostTrainer:
    """Iterations of lanes on a host environment.

    While an environment is open, the images of its last recording are kept, to write the next one
    into: memory that is new has to be filled with zeros by the system first.

    Args:
      task: the environment's.
      functions: from `make_host_functions`.
      bridge: how the environment is stepped.
    """

    def __init__(self, task: HostTask, functions: HostFunctions, bridge: BridgeKind = "callback"):
        self.functions = functions
        self.bridge: BridgeKind = bridge
        self._task = task
        self._spare: WeakKeyDictionary[HostVecEnv, Array] = WeakKeyDictionary()

    def iteration(
        self, lanes: Lanes, carry: Carry, env: HostVecEnv, number: int
    ) -> tuple[Carry, Metrics]:
        """Collect a rollout of the host's environment, then update all lanes.

        Args:
          lanes: as in `jaxgen.training.device`.
          carry: from `init_host_carry`, then from the last iteration; it is consumed.
          env: of shape ``[L, V, N]``; it goes on where the last iteration left it.
          number: of the iteration, from 0.

        Returns:
          The carry and the metrics ``[L]`` by name, those of `jaxgen.training.device`.
        """
        each = [lane_at(lanes, index) for index in range(len(lanes.seed))]
        prepared = [
            self.functions.acting.prepare(lane, state, total, number)
            for lane, state, total in zip(each, carry.state, carry.episodes.total, strict=True)
        ]
        shape = self.functions.acting.shape
        episodes = begin_iteration(shape, lanes, carry.episodes, env, number)
        actor, words = stacked(prepared)
        episodes, recording, ended = self._collect(lanes, actor, episodes, words, env)
        updated = [
            self.functions.learner.update(
                lane, state, steps, prepared[index][0], lane_of(recording, index), number
            )
            for index, (lane, state, steps) in enumerate(
                zip(each, carry.state, carry.env_steps, strict=True)
            )
        ]
        states, env_steps, metrics = zip(*updated, strict=True)
        carry = Carry(states, episodes, jnp.stack(env_steps))
        return carry, host_metrics(ended) | stacked(metrics)

    def _collect(
        self, lanes: Lanes, actor: PyTree, episodes: Episodes, words: Array, env: HostVecEnv
    ) -> tuple[Episodes, Recording, Ended]:
        acting, task = self.functions.acting, self._task
        if self.bridge == "loop":
            return collect_host(
                env, task.spec, lambda *args: acting.act(lanes, actor, *args),
                acting.shape.keeps_obs, episodes, np.asarray(words),
            )
        task.bridge.connect(env)
        # A rollout consumes its buffer, so that the spare one is given away.
        images = self._spare.pop(env, None)
        if images is None:
            images = room_for_images(task.spec, acting.shape, episodes, words)
        collected = task.bridge.run(acting.rollout, lanes, actor, episodes, words, images)
        self._spare[env] = collected[1].obs
        return collected


def room_for_images(spec: EnvSpec, shape: RolloutShape, episodes: Episodes, words: Array) -> Any:
    """A new buffer for the images of a recording.

    Args:
      spec: of the environment.
      shape: of the rollout.
      episodes: where it starts.
      words: ``[L, T, V, N, W]``.
    """
    shapes = image_shapes(spec, shape, episodes, words)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def image_shapes(spec: EnvSpec, shape: RolloutShape, episodes: Episodes, words: Array) -> Any:
    """Shape and dtype of a recording's images ``[L, T + 1, V, N, ...]``; an empty tuple where the
    algorithm keeps none."""
    if not shape.keeps_obs:
        return ()
    num_lanes, num_steps, *_ = words.shape
    newest = jax.eval_shape(partial(frames.newest, spec), episodes.obs)
    return jax.ShapeDtypeStruct((num_lanes, num_steps + 1, *newest.shape[1:]), newest.dtype)


class _LaneFunctions(NamedTuple):
    """The parts of a program for a single lane."""

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
        return iteration_keys(self.study_seed, lane.seed, iteration, lane.fork)

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
        return collect_bridged(self.task, self.algorithm(lane), actor, episodes, words, images)

    def assemble(self, lane: Lanes, recording: Recording) -> PyTree:
        return assemble(self.task.spec, self.algorithm(lane), recording)

    def act(self, lane: Lanes, actor: PyTree, obs: Array, words: Array) -> tuple[Array, PyTree]:
        return self.algorithm(lane).act(actor, obs, words)

    def update(
        self, lane: Lanes, state: PyTree, env_steps: Array, actor: PyTree, recording: Recording,
        iteration: Array,
    ) -> tuple[PyTree, Array, Metrics]:
        rollout = self.assemble(lane, recording)
        # No episodes: the environment keeps them, and they go on where a lane rests.
        carry = Carry(state, Episodes((), (), ()), env_steps)  # pyright: ignore
        collected = Collected(actor, carry.episodes, rollout)
        after, metrics = learn(
            self.algorithm(scheduled(lane, env_steps)), lane.config, carry, collected, iteration,
            self.keys(lane, iteration).update,
        )
        return after.state, after.env_steps, metrics

    def fork(self, replay: Replay, lane: Lanes, state: PyTree, iteration: Array) -> PyTree:
        key = self.key(lane, "train")
        assert lane.fork is not None
        return forked_state(self.algorithm(lane), replay, state, iteration, key, lane.fork)

    def params(self, lane: Lanes, state: PyTree) -> Array:
        return self.algorithm(lane).params(state)

    def critic(self, lane: Lanes, state: PyTree) -> Array:
        return critic_vector(self.algorithm(lane), lane, state)

    def choose(
        self, lane: Lanes, params: Array, sampled: Array, obs: Array, words: Array
    ) -> Array:
        return acting(self.algorithm(lane).policy, params, sampled).choose(obs, words)
