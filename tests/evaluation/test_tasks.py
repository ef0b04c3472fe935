"""The door of tasks: one check by shapes, in the words of `jaxgen.types.Task`."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from box_envs import BoxHostTask, BoxTask
from envs_jax import make_task
from envs_jax.base import Environment
from jaxgen import evaluate, preset, train, types
from jaxgen.evaluation.agent import Agent
from jaxgen.evaluation.suite import make_suite
from jaxgen.evaluation.tasks import check_task
from jaxgen.study.config import replace
from jaxgen.system.errors import BadInput
from jaxgen.training.build import make_program
from jaxgen.training.keys import evaluation_key
from jaxgen.types import EnvSpec
from probe_envs import PROBES, ProbeTask

SPACES: tuple[Any, ...] = (types.Box, types.Codes, types.Discrete, types.Image, types.Numbers)
Box, Codes, Discrete, Image, Numbers = SPACES
"""With arguments of any type."""
LIMIT = 4
SCALAR = Numbers((0.0,), (1.0,))


class State(NamedTuple):
    time: Any


class Toy:
    """An environment and its task in one: every observation holds the time, action 0 pays 1."""

    reset_words, refresh_steps = 1, None

    def __init__(self, observation: Any = SCALAR):
        self.spec = EnvSpec("toy", observation, Discrete(2), LIMIT)
        self.environment = self

    def observe(self, time):
        seen = time.astype(self.spec.obs_dtype)
        shape = self.spec.obs_shape
        return jnp.broadcast_to(seen.reshape(seen.shape + (1,) * len(shape)), seen.shape + shape)

    def reset_from(self, words, params):
        time = jnp.zeros(words.shape[:-1], jnp.int32)
        return self.observe(time), State(time)

    def advance(self, state, action, params):
        time = state.time + 1
        reward, ended = (action == 0).astype(jnp.float32), time >= LIMIT
        return self.observe(time), State(time), reward, ended, jnp.zeros_like(ended)

    def training_params(self, key, levels):
        return {"gravity": levels}

    def evaluation(self, key, levels, num_episodes):
        words = jnp.zeros((levels.shape[0], num_episodes, 1), jnp.uint32)
        return self.training_params(key, levels), words

    def ceiling(self, params, words):
        return jnp.full(words.shape[:-1], 4.0)

    def fingerprints(self, params):
        return None


def toy(**methods: Any) -> Toy:
    """A toy with other methods."""
    return type("Toy", (Toy,), methods)()


def stepping(**changes: Any) -> Toy:
    """A toy of whose steps some part is another one, as a function of it."""
    names = ("obs", "state", "reward", "terminated", "truncated")

    def advance(self, *args):
        parts = zip(names, Toy.advance(self, *args), strict=True)
        return tuple(changes[name](part) if name in changes else part for name, part in parts)

    return toy(advance=advance)


@pytest.mark.parametrize(
    "task",
    [
        Toy(), BoxTask(), BoxHostTask(), ProbeTask(*PROBES.values()), make_task("cartpole"),
        make_task("minigrid", bank_size=4), Toy(Codes((), 16)), Toy(Codes([2, 3], 5)),
        Toy(Numbers(np.zeros(3), np.ones(3, np.float32))),
    ],
    ids=lambda task: task.spec.name,
)
def test_tasks_are_taken(task):
    check_task(task)


@dataclasses.dataclass
class Unhashable(Toy):
    gain: float = 1.0

    def __post_init__(self):
        Toy.__init__(self)


NO_TASKS = [
    ("cartpole", r"task = 'cartpole' is not allowed; use envs_jax.make_task\('cartpole'\)"),
    (Toy, "task type: spec = |task type has no"),
    (object(), "task object has no spec, environment, refresh_steps, training_params, evaluation"),
    (Unhashable(), r"task Unhashable has no hash.* write @dataclass\(eq=False\)"),
    (toy(ceiling=property()), "task Toy has no ceiling; jaxgen.types.Task says what it needs"),
    (toy(reset_words=property()), "its environment has no reset_words; jaxgen.types.Environment"),
    (toy(refresh_steps=0), "refresh_steps = 0 is not allowed; use a whole number, 1 or larger"),
    (toy(reset_words=1.5), "reset_words = 1.5 is not allowed; use a whole number, 0 or larger"),
    (toy(training_params=lambda self, key, levels: ()), "a parameter .* missing; give arrays"),
    (
        toy(training_params=lambda self, key, levels: {"a": levels, "g": 9.8}),
        r"training_params is float32 \[\]; give arrays \[V, ...\], one number for each level, also",
    ),
    (
        toy(training_params=lambda self, key, levels: {"a": levels.sum()[None]}),
        r"training_params is float32 \[1\]; give arrays",
    ),
    (
        toy(training_params=lambda self, key, levels: levels if levels[0] > 0 else -levels),
        "training_params cannot be traced .* write it with jax.numpy",
    ),
    (toy(reset_from=lambda self, words, params: words), "reset_from returned 1 values; return obs"),
    (
        toy(reset_from=lambda self, words, params: (jnp.zeros(1), State(jnp.int32(0)))),
        r"observation of reset_from is float32 \[1\] where S = \[2\]; make it float32 \[2, 1\]",
    ),
    (
        toy(reset_from=lambda self, words, params: (jnp.zeros((*words.shape[:-1], 1)), State(0))),
        r"the state of reset_from holds int32 \[\] where S = \[2\]; make all of its arrays \[\*S",
    ),
    (stepping(obs=lambda x: x[..., None]), r"observation of advance is float32 \[2, 1, 1\]"),
    (stepping(obs=lambda x: x.astype(int)), r"is int32 \[2, 1\] .*; make it float32 \[2, 1\]"),
    (stepping(reward=lambda x: x.astype(int)), r"the reward is int32 \[2\] .* make it float32"),
    (stepping(reward=lambda x: 1.0), r"the reward is float32 \[\] where S = \[2\]"),
    (stepping(terminated=lambda x: x * 1.0), r"terminated is float32 \[2\] .*; make it bool \[2\]"),
    (stepping(truncated=lambda x: False), r"truncated is bool \[\] where S = \[2\]; make it bool"),
    (stepping(state=lambda x: x.time), "a state of another structure than reset_from's"),
    (stepping(state=lambda x: State(x.time / 2)), r"the state of advance is float32 \[2\]"),
    (
        toy(advance=lambda self, *args: Toy.advance(self, *args)[:4]),
        "advance returned 4 values; return obs, state, reward, terminated, truncated",
    ),
    (
        toy(evaluation=lambda self, key, levels, n: (levels, jnp.zeros((n, 1), jnp.uint32))),
        r"evaluation gave words uint32 \[4, 1\]; use uint32 \[K, E, reset_words\], here \[3, 4",
    ),
]


@pytest.mark.parametrize("task, message", NO_TASKS, ids=[message[:40] for _, message in NO_TASKS])
def test_what_is_no_task_is_refused_in_one_line(task, message):
    with pytest.raises(BadInput, match=message) as refused:
        check_task(task)
    assert "\n" not in str(refused.value)


def test_a_task_and_its_environment_have_one_specification():
    task = ProbeTask(*PROBES.values())
    task.spec = dataclasses.replace(task.spec, max_episode_steps=9)
    with pytest.raises(BadInput, match="spec of the task is another one than its environment's"):
        check_task(task)


@pytest.mark.parametrize("function", [train, evaluate])
def test_the_door_is_before_any_compute(function, monkeypatch):
    """Of training and of evaluation, whatever else is wrong."""
    monkeypatch.setattr("jaxgen.running.together._program", None)
    monkeypatch.setattr("jaxgen.api.make_suite", None)
    task: Any = stepping(truncated=lambda x: False)
    agent = Agent("ppo", "dr", preset("ppo", "cartpole"), task.spec, np.zeros(1, np.float32))
    args = (task, "ppo") if function is train else (agent, task)
    with pytest.raises(BadInput, match="toy: truncated is bool"):
        function(*args)


def test_the_door_is_that_of_the_matrix_too():
    unused: Any = None
    with pytest.raises(BadInput, match="toy: the reward is int32"):
        make_program(stepping(reward=lambda x: x.astype(int)), unused, unused)


def test_a_ceiling_is_of_each_episode():
    task: Any = toy(ceiling=lambda self, params, words: 4.0)
    suite = make_suite(task, evaluation_key(0), (0.0, 1.0), 3)
    with pytest.raises(BadInput, match=r"ceiling is of shape \[\]; make it \[K, E\], here \[2, 3"):
        suite.known()


# Specifications


def spec(**fields: Any) -> EnvSpec:
    """That of the toy, with other fields."""
    plain = {"observation": SCALAR, "actions": Discrete(2), "max_episode_steps": 4}
    return EnvSpec("toy", **(plain | fields))


@pytest.mark.parametrize(
    "field, given, plain",
    [
        ("observation", Numbers(np.zeros(2), np.ones(2)), Numbers((0.0, 0.0), (1.0, 1.0))),
        ("observation", Numbers([0], [1]), Numbers((0.0,), (1.0,))),
        ("observation", Codes([2, 2], np.int64(5)), Codes((2, 2), 5)),
        ("observation", Image(np.int32(8), 8.0, 3), Image(8, 8, 3)),
        ("actions", Discrete(jnp.int32(2)), Discrete(2)),
        ("actions", Box(jnp.zeros(2), [1, 2]), Box((0.0, 0.0), (1.0, 2.0))),
        ("max_episode_steps", np.float32(4), 4),
        ("truncates", np.bool_(True), True),
    ],
)
def test_a_specification_holds_numbers_of_python(field, given, plain):
    made, expected = spec(**{field: given}), spec(**{field: plain})
    assert made == expected and hash(made) == hash(expected) and repr(made) == repr(expected)


REFUSED_SPECS = [
    ({"observation": (3,)}, r"observation = \(3,\) is not allowed; use Image or Codes or Numbers"),
    ({"actions": 2}, "actions = 2 is not allowed; use Discrete or Box"),
    ({"actions": Discrete(0)}, "toy: Discrete.num = 0 is not allowed; use a whole number, 1 or"),
    ({"actions": Discrete(2.5)}, "Discrete.num = 2.5"),  # pyright: ignore
    ({"actions": Box((-np.inf,), (1.0,))}, "Box.* is not allowed; .* all finite"),
    ({"actions": Box((-3e38,), (3e38,))}, "Box.* is not allowed; .* all finite"),
    ({"observation": Numbers((), ())}, r"Numbers\(low=\(\), high=\(\)\) is not allowed"),
    ({"observation": Numbers((0.0, 0.0), (1.0,))}, "use as many lower as upper ends"),
    ({"observation": Numbers((1.0,), (0.0,))}, "low <= high"),
    ({"observation": Numbers((np.nan,), (0.0,))}, r"low=\(nan,\)"),
    ({"observation": Numbers(-1.0, 1.0)}, "Numbers = -1.0 is not allowed; give a list"),
    ({"observation": Numbers(np.zeros((2, 2)), np.ones((2, 2)))}, "use a list of numbers"),
    ({"observation": Image(0, 8, 3)}, "toy: Image = 0 is not allowed"),
    ({"observation": Codes((3,), 500)}, "use first < num <= 256, for uint8"),
    ({"observation": Codes((3,), 5, first=5)}, "use first < num <= 256"),
    ({"observation": Codes((0,), 5)}, "toy: Codes = 0 is not allowed"),
    ({"max_episode_steps": None}, "max_episode_steps = None is not allowed; use a whole number"),
    ({"max_episode_steps": 0}, "max_episode_steps = 0"),
]


@pytest.mark.parametrize("changes, message", REFUSED_SPECS)
def test_a_specification_is_refused_where_it_is_made(changes, message):
    with pytest.raises(BadInput, match=message):
        spec(**changes)


def test_es_asks_for_whole_episodes_where_nobody_chose_a_part(monkeypatch):
    monkeypatch.setattr("jaxgen.running.together._program", None)
    config = replace(preset("es", "cartpole"), {"num_steps": LIMIT - 1})
    with pytest.raises(BadInput, match="es: num_steps = 3 is not allowed on toy; use 4, a whole"):
        train(Toy(), "es", config=config)  # pyright: ignore


class Undrawn(Environment):
    """An environment of the base class that says nothing of drawing."""

    spec, reset_words = Toy().spec, 1
    methods: Any = Toy
    reset_from, advance, observe = methods.reset_from, methods.advance, methods.observe


def test_what_cannot_be_drawn_says_so():
    suite = make_suite(Toy(), evaluation_key(0), (0.0,), 1)  # pyright: ignore
    with pytest.raises(ValueError, match="toy cannot be drawn: its environment has no render"):
        suite.first_images()


def test_a_state_is_drawn_as_its_numbers_where_nothing_else_is_said():
    task: Any = Toy()
    task.environment = Undrawn()
    ((image,),) = make_suite(task, evaluation_key(0), (0.0,), 1).first_images()
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image.min() < 100 < image.max()
