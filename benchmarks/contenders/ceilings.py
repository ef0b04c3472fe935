"""Ceilings of the machine: matrix products of a network's sizes, memory traffic."""

from typing import Any

import jax
import numpy as np

from contenders.splitting import over_devices, split_over
from worker import Run, timed

ROWS = (128, 512, 2048)
WIDTHS = (64, 128)
"""Sizes of the small products: ``[rows, 128] @ [128, width]`` and back."""
MEGABYTES, PASSES = 64, 20


def _on_all_devices(work: Any, *arguments: Any) -> Any:
    devices = jax.devices()
    copies = [
        jax.device_put(np.stack([argument] * len(devices)), split_over(devices))
        for argument in arguments
    ]
    compiled = jax.jit(over_devices(jax.vmap(work), devices)).lower(*copies).compile()
    return lambda: jax.block_until_ready(compiled(*copies))


def small_products() -> tuple[Run, dict]:
    """The fastest small matrix product, on all devices at once; a step is one operation."""
    programs = []
    for rows in ROWS:
        for width in WIDTHS:
            left = np.ones((rows, 128), np.float32)
            right = np.full((128, width), 1 / 128, np.float32)
            back = np.full((width, 128), 1 / width, np.float32)
            count = max(8, int(2e9 / (4 * rows * width * 128)))

            def work(left: Any, right: Any, back: Any, count: int = count) -> Any:
                return jax.lax.fori_loop(0, count, lambda _, x: (x @ right) @ back, left)

            flops = 4 * rows * width * 128 * count * jax.device_count()
            programs.append((flops, _on_all_devices(work, left, right, back)))

    def run() -> dict[str, Any]:
        best = max((flops / timed(program)[0], flops) for flops, program in programs)
        return {"steps": best[1], "seconds": best[1] / best[0]}

    return run, {}


def stream() -> tuple[Run, dict]:
    """Adding large arrays on all devices at once, in place; a step is a byte read or written."""
    size = MEGABYTES * 2**20 // 4

    def add(a: Any, b: Any) -> Any:
        return jax.lax.fori_loop(0, PASSES, lambda _, total: total + 2 * b, a)

    program = _on_all_devices(add, np.zeros(size, np.float32), np.ones(size, np.float32))

    def run() -> dict[str, Any]:
        seconds, _ = timed(program)
        return {"steps": 3 * 4 * size * PASSES * jax.device_count(), "seconds": seconds}

    return run, {}
