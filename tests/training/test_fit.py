"""Devices and memory: no more devices than lanes need, refusals whose remedy helps."""

from types import SimpleNamespace
from typing import Any

import jax
import pytest

from jaxgen.training import fit as fitting
from jaxgen.training.fit import fit, needed_devices
from jaxgen.training.memory import LEAST_BYTES, SHARED_BYTES, Memory
from jaxgen.training.program import Capacity

MB = 2**20


@pytest.mark.parametrize(
    ("num_lanes", "most", "expected"),
    [(1, None, 1), (2, None, 1), (3, None, 2), (16, None, 8), (128, None, 64), (999, None, 64),
     (128, 4, 4), (2, 4, 1)],
)  # fmt: skip
def test_no_device_has_padded_lanes_alone(monkeypatch, num_lanes, most, expected):
    """Of 64, such as XLA_FLAGS can ask for."""
    monkeypatch.setattr(jax, "local_devices", lambda: [*range(64)])
    assert needed_devices(num_lanes, most) == [*range(expected)]


def fit_in(monkeypatch, num_bytes: int, memory: Memory, num_devices: int = 1, asked: int = 4):
    monkeypatch.setattr(fitting.platform, "available_memory", lambda: num_bytes)
    capacity = Capacity(lambda lanes: memory, num_devices, 2, None, 64)
    example: Any = SimpleNamespace()
    return fit(capacity, example, asked)


SMALL = Memory(SHARED_BYTES, MB)


def test_a_small_machine_trains_the_fewest_lanes_rather_than_none(monkeypatch):
    """The shared part is an upper bound, of which a running process has some already."""
    result = fit_in(monkeypatch, 800 * MB, SMALL, asked=10)
    assert (result.fits, result.asked) == (2, 10)
    assert fit_in(monkeypatch, 800 * MB, SMALL, num_devices=3).fits == 6
    assert fit_in(monkeypatch, SHARED_BYTES + 5 * MB, SMALL).fits == 5


@pytest.mark.parametrize(
    ("num_bytes", "memory", "num_devices", "remedy"),
    [
        (100 * MB, SMALL, 1, "close other programs, raise the limit of this one's memory, or use"),
        (100 * MB, SMALL, 8, "close other programs, raise the limit of this one's memory, or use"),
        (LEAST_BYTES, SMALL, 1, "lower num_envs, num_steps or buffer_size, or use a larger"),
        (800 * MB, Memory(SHARED_BYTES, 400 * MB), 1, "lower num_envs, num_steps or buffer"),
        (800 * MB, Memory(SHARED_BYTES, 100 * MB), 8, "use fewer --devices, lower num_envs"),
    ],
)
def test_the_remedy_helps(monkeypatch, num_bytes, memory, num_devices, remedy):
    result = fit_in(monkeypatch, num_bytes, memory, num_devices)
    assert result.fits == 0
    assert result.remedy().startswith(remedy)


def test_a_remedy_of_fewer_devices_is_enough_for_it(monkeypatch):
    memory = Memory(SHARED_BYTES, 100 * MB)
    assert fit_in(monkeypatch, 800 * MB, memory, num_devices=1).fits == 2
