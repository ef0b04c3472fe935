"""The callback bridge: compiled programs step an environment that lives on the host.

One ordered callback per step serves all lanes, variations and environments, because `custom_vmap`
hands the widest array of actions to the host as it is. Only actions go in: with several virtual
CPU devices an argument of 100 KB or more would wait forever. jax is never called inside of a
callback; an exception there is kept and raised by `CallbackBridge.run`, as XLA's own says little,
and the environment has advanced by then, so that the run goes on from its last checkpoint only.

The protocols are `jaxgen.types.HostVecEnv` and `jaxgen.types.HostTask`.
"""

import math
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback

from jaxgen.types import Array, EnvSpec, HostVecEnv

MAX_ARGUMENT_BYTES = 100_000
"""Most bytes that a callback takes; from 102 400 on the CPU backend waits forever."""

Fields = tuple[Array, Array, Array, Array, Array]
"""Those of a `HostStep`."""


class CallbackBridge:
    """Implements `jaxgen.types.Bridge` by an ordered callback, on a single device."""

    def __init__(self, spec: EnvSpec):
        self._spec = spec
        self._connected = threading.local()
        self._running = threading.Lock()
        self._env: HostVecEnv | None = None
        self._error: BaseException | None = None
        self._step = _over_lanes(self._call)

    @property
    def max_envs(self) -> int:
        """How many environments one step takes, by the bytes of their actions."""
        actions = self._spec.actions
        num_bytes = math.prod(actions.shape) * np.dtype(actions.dtype).itemsize
        return (MAX_ARGUMENT_BYTES - 1) // num_bytes

    def connect(self, env: HostVecEnv) -> None:
        """Step this environment from now on, in what this thread runs."""
        self._connected.env = env

    def step(self, action: Array) -> Fields:
        """Step the environment -> obs, reward, terminated, truncated, true successor.

        Args:
          action: int32 ``[*S]``, or float32 ``[*S, A]`` in [-1, 1], which the environment gets
            within its `jaxgen.types.Box`.

        Raises:
          ValueError: while tracing; too many environments for one callback.
        """
        obs, reward, terminated, *rest = self._step(action)
        truncated, next_obs = rest or (jnp.zeros_like(terminated), obs)
        return obs, reward, terminated, truncated, next_obs

    def run(self, program: Callable, *args: Any) -> Any:
        """Call a program and wait for it; raise what the environment raised.

        Other threads wait: callbacks come from a thread of XLA, and reach one environment.
        """
        with self._running:
            self._env, self._error = getattr(self._connected, "env", None), None
            try:
                return jax.block_until_ready(program(*args))
            except jax.errors.JaxRuntimeError:
                if self._error is None:
                    raise
                raise self._error from None

    def _call(self, action: Array) -> tuple[Array, ...]:
        shape = action.shape[: action.ndim - len(self._spec.actions.shape)]
        num_envs, num_bytes = math.prod(shape), action.size * action.dtype.itemsize
        if num_bytes >= MAX_ARGUMENT_BYTES:
            raise ValueError(
                f"{num_envs} environments of {self._spec.name} are too many for one callback "
                f"({num_bytes} bytes of actions); at most {self.max_envs} are "
                "allowed: train fewer lanes at a time, or lower num_envs"
            )
        shapes = self._shapes(shape)
        return io_callback(self._host_step, shapes, action, ordered=True)

    def _shapes(self, shape: tuple[int, ...]) -> tuple[jax.ShapeDtypeStruct, ...]:
        obs = jax.ShapeDtypeStruct((*shape, *self._spec.obs_shape), self._spec.obs_dtype)
        flag = jax.ShapeDtypeStruct(shape, bool)
        ends = (flag, flag, obs) if self._spec.truncates else (flag,)
        return obs, jax.ShapeDtypeStruct(shape, np.float32), *ends

    def _host_step(self, action: Array) -> tuple[np.ndarray, ...]:
        try:
            assert self._env is not None, "no environment is connected"
            # Scaled in numpy, as a loop in Python does it: compiled, it might round otherwise.
            fields = self._env.step(self._spec.actions.scale(np.asarray(action)))
        except BaseException as error:
            self._error = error
            raise
        return fields if self._spec.truncates else fields[:3]


def _over_lanes(call: Callable[[Array], tuple[Array, ...]]) -> Callable[[Array], Any]:
    """Make vmap widen the argument of a single call, over any number of axes."""

    @custom_vmap
    def widened(action: Array) -> tuple[Array, ...]:
        return call(action)

    @widened.def_vmap
    def _(axis_size: int, batched: list[bool], action: Array):
        del axis_size
        assert batched[0], "the only argument is what vmap runs over"
        results = widened(action)
        return results, tuple(True for _ in results)

    return widened

