"""The check of a task, by shapes, before anything is compiled for it."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from jaxgen.system.errors import BadInput
from jaxgen.system.values import at_least
from jaxgen.types import EnvSpec, HostTask, PyTree, Task, is_host

PARTS = {
    "Task": (
        "spec", "environment", "refresh_steps", "training_params", "evaluation", "ceiling",
        "fingerprints",
    ),
    "HostTask": ("spec", "bridge", "training", "evaluation", "kinds"),
    "Environment": ("spec", "reset_words", "reset_from", "advance"),
}  # fmt: skip
"""Attributes of the protocols of `jaxgen.types`."""
V, N, E = 3, 2, 4
"""Lengths of the axes with which functions are traced."""


def check_task(task: Task | HostTask) -> None:
    """Raise BadInput where a task is not as `jaxgen.types.Task` or `HostTask` says."""
    if isinstance(task, str):
        raise BadInput(f"task = {task!r} is not allowed; use envs_jax.make_task({task!r})")
    kind = type(task).__name__
    _check_parts(f"task {kind}", task, "HostTask" if is_host(task) else "Task")
    if not isinstance(task.spec, EnvSpec):
        raise BadInput(f"task {kind}: spec = {task.spec!r} is not allowed; use an EnvSpec")
    try:
        hash(task)
    except TypeError:
        raise BadInput(
            f"task {kind} has no hash, by which its compiled programs are kept; if it is a "
            "dataclass, write @dataclass(eq=False)"
        ) from None
    if not is_host(task):
        _check_shapes(task)


def _check_parts(what: str, whole: Any, protocol: str) -> None:
    missing = [part for part in PARTS[protocol] if not hasattr(whole, part)]
    if missing:
        raise BadInput(
            f"{what} has no {', '.join(missing)}; jaxgen.types.{protocol} says what it needs"
        )


@lru_cache(maxsize=8)
def _check_shapes(task: Task) -> None:
    """Trace what a task and its environment are asked for."""
    spec, environment, name = task.spec, task.environment, task.spec.name
    _check_parts(f"{name}: its environment", environment, "Environment")
    if environment.spec != spec:
        raise BadInput(f"{name}: the spec of the task is another one than its environment's")
    if task.refresh_steps is not None:
        at_least(1, f"{name}: refresh_steps", task.refresh_steps)
    num_words = at_least(0, f"{name}: reset_words", environment.reset_words)
    key, levels = jax.eval_shape(jax.random.key, 0), _array(np.float32, V)
    words = _array(np.uint32, V, N, num_words)

    params = _trace(name, "training_params", task.training_params, key, levels)
    _check_lead(f"{name}: a parameter from training_params", params, "V", V)
    # Mapped over the variations, so that the functions see S = [N].
    begun = _trace(name, "reset_from", jax.vmap(environment.reset_from), words, params)
    obs, state = _parted(f"{name}: reset_from", begun, "obs", "state")
    seen = _array(spec.obs_dtype, V, N, *spec.obs_shape)
    _check_array(f"{name}: the observation of reset_from", obs, seen)
    for leaf in jax.tree.leaves(state):
        if leaf.shape[:2] != (V, N):
            raise BadInput(f"{name}: the state of reset_from holds {_words(_inside(leaf))} where "
                           f"S = {[N]}; make all of its arrays [*S, ...]")  # fmt: skip
    action = _array(spec.actions.dtype, V, N, *spec.actions.shape)
    stepped = _trace(name, "advance", jax.vmap(environment.advance), state, action, params)
    names = ("obs", "state", "reward", "terminated", "truncated")
    obs, following, reward, *flags = _parted(f"{name}: advance", stepped, *names)
    _check_array(f"{name}: the observation of advance", obs, seen)
    _check_state(name, state, following)
    _check_array(f"{name}: the reward", reward, _array(np.float32, V, N))
    for flag, made in zip(names[3:], flags, strict=True):
        _check_array(f"{name}: {flag}", made, _array(bool, V, N))

    lay_out = lambda key, levels: task.evaluation(key, levels, E)  # noqa: E731
    laid = _trace(name, "evaluation", lay_out, key, levels)
    params, words = _parted(f"{name}: evaluation", laid, "params", "words")
    _check_lead(f"{name}: a parameter from evaluation", params, "K", V)
    if words.shape != (V, E, num_words) or words.dtype != np.uint32:
        raise BadInput(f"{name}: evaluation gave words {_words(words)}; use uint32 [K, E, "
                       f"reset_words], here {[V, E, num_words]}")  # fmt: skip


def _array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _trace(name: str, part: str, function: Callable, *args: PyTree) -> Any:
    """The types of what a function returns; BadInput: it is not traceable."""
    try:
        return jax.eval_shape(function, *args)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        first = str(error).partition("\n")[0]
        raise BadInput(
            f"{name}: {part} cannot be traced ({first}); write it with jax.numpy, without a "
            "Python if or loop over values"
        ) from error


def _parted(what: str, returned: Any, *names: str) -> Any:
    """The parts of what a function returned; BadInput: it has others."""
    if not isinstance(returned, tuple) or len(returned) != len(names):
        number = len(returned) if isinstance(returned, tuple) else 1
        raise BadInput(f"{what} returned {number} values; return {', '.join(names)}")
    return returned


def _check_lead(what: str, params: PyTree, axis: str, length: int) -> None:
    """Check that every parameter has the variations in front."""
    leaves = jax.tree.leaves(params)
    bad = [leaf for leaf in leaves if leaf.shape[:1] != (length,)]
    if bad or not leaves:
        made = _words(bad[0]) if bad else "missing"
        raise BadInput(
            f"{what} is {made}; give arrays [{axis}, ...], one number for each level, also where "
            "nothing varies: jnp.full(levels.shape, 9.8)"
        )


def _check_array(what: str, made: Any, expected: jax.ShapeDtypeStruct) -> None:
    """Check an array ``[V, *S, ...]``; words leave out V, which the functions do not see."""
    if not hasattr(made, "shape") or (made.shape, made.dtype) != (expected.shape, expected.dtype):
        given = _words(_inside(made)) if hasattr(made, "shape") else type(made).__name__
        raise BadInput(f"{what} is {given} where S = {[N]}; make it {_words(_inside(expected))}")


def _check_state(name: str, state: PyTree, following: PyTree) -> None:
    """Check that a step keeps the types of a state."""
    if jax.tree.structure(state) != jax.tree.structure(following):
        raise BadInput(f"{name}: advance returned a state of another structure than reset_from's")
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(following), strict=True):
        _check_array(f"{name}: an array in the state of advance", after, before)


def _inside(array: Any) -> jax.ShapeDtypeStruct:
    return _array(array.dtype, *array.shape[1:])


def _words(array: Any) -> str:
    return f"{array.dtype} {list(array.shape)}"
