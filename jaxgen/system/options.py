"""Options of JAX, alike wherever jaxgen computes: no number depends on a user's own.

Importing this module does not import JAX.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from jaxgen.system.errors import BadInput

STANDARD: dict[str, Any] = {
    # They decide numbers.
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_use_direct_linearize": True,
    "jax_optimization_level": "UNKNOWN",
    "jax_exec_time_optimization_effort": 0.0,
    # They end what is no fault: a loss before the first update is NaN.
    "jax_disable_jit": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_debug_key_reuse": False,
    "jax_raise_persistent_cache_errors": False,
}
"""JAX's defaults of the options that change a study, or end it."""

_LOOSE = re.compile(
    r"--xla_cpu_enable_fast_(?:math|min_max)(?:=(?:true|1))?(?=\s|$)"
    r"|--xla_(?:backend_optimization_level|disable_hlo_passes|disable_all_hlo_passes"
    r"|llvm_disable_expensive_passes)(?:=\S*)?(?=\s|$)"
)
"""Flags by which XLA rounds, or sums, otherwise."""

_forked = False


@contextmanager
def computing() -> Iterator[None]:
    """Compute with the `STANDARD` options, while the block or the decorated function runs.

    They hold in this thread alone; a user's own come back.

    Raises:
        BadInput: XLA is told to round otherwise, or this process is a fork in which JAX would
            wait forever.
    """
    check_process()
    from jax._src.config import config_states

    with ExitStack() as stack:
        for name, value in STANDARD.items():
            # Not every version of JAX has all of them.
            if name in config_states:
                stack.enter_context(config_states[name](value))
        yield


def check_process() -> None:
    """Raise BadInput where JAX cannot compute the same numbers in this process, or none at all."""
    if _forked:
        raise BadInput(
            "this process is a fork of one in which JAX has run, and would wait forever; start it "
            'by spawn, e.g. with multiprocessing.get_context("spawn")'
        )
    from jax import config

    flags = _LOOSE.findall(os.environ.get("XLA_FLAGS", ""))
    if flags:
        raise BadInput(
            f"XLA_FLAGS holds {' '.join(flags)}, with which numbers are others under the same "
            "name; take it out"
        )
    if config.values.get("jax_disable_most_optimizations"):
        raise BadInput(
            "jax_disable_most_optimizations is set, with which numbers are others under the same "
            "name; unset JAX_DISABLE_MOST_OPTIMIZATIONS"
        )


def set_variable(name: str, value: str, needs_start: bool = False) -> None:
    """Set an environment variable of JAX, and the option where JAX is imported already.

    Raises:
        RuntimeError: JAX has started, and the variable counts at its start only.
    """
    if os.environ.get(name) == value:
        return
    if needs_start and jax_started():
        raise RuntimeError(
            f"JAX has started, so {name}={value!r} comes too late; "
            "call jaxgen.system.platform.configure before anything that computes"
        )
    os.environ[name] = value
    if "jax" in sys.modules and name.startswith("JAX_"):
        sys.modules["jax"].config.update(name.lower(), _option(value))


def _option(value: str) -> str | float:
    return float(value) if re.fullmatch(r"[0-9.]+", value) else value


def jax_started() -> bool:
    """Whether JAX has made a backend, with its threads, in this process."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bool(getattr(bridge, "backends_are_initialized", bool)())


def _note_fork() -> None:
    """Remember in a child that its parent's threads are missing."""
    global _forked
    _forked = _forked or jax_started()


os.register_at_fork(after_in_child=_note_fork)
