"""How many lanes train together, by what the devices and their memory hold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jax

from jaxgen.system import platform

if TYPE_CHECKING:
    from jaxgen.training.program import Capacity, Lanes

T = TypeVar("T")

MIN_LANES = 2
"""Lanes on each device. XLA sums the products of a single lane in another order than those of
several, of which 2 to 9 give the same bits: so that a lane never depends on its company, none is
alone."""

MAX_LANES_ON_CPU = 9
"""Lanes on each CPU device: a group of 18 on one device sums in yet another order (PPO on the
grid). Two devices with 9 lanes each and one with 9 and 9 in turn give the same bits."""


def needed_devices(num_lanes: int, most: int | None = None) -> list[Any]:
    """The devices over which so many lanes are split: none that had padded lanes alone.

    Args:
      num_lanes: 1 or more.
      most: devices at most; None: all that there are.

    Returns:
      Objects of type ``jax.Device``.
    """
    return jax.local_devices()[:most][: -(-num_lanes // MIN_LANES)]


def num_padded(num_lanes: int, num_devices: int, min_lanes: int = MIN_LANES) -> int:
    """Lanes of a program that trains ``num_lanes``: as many, and at least so many, on each device.

    Results of those in excess are dropped.
    """
    return num_devices * max(min_lanes, -(-num_lanes // num_devices))


def padded(items: Sequence[T], capacity: "Capacity") -> list[T]:
    """An item for each lane of a program that trains these, the last one repeated."""
    num_lanes = num_padded(len(items), capacity.num_devices, capacity.min_lanes)
    return [*items, *[items[-1]] * (num_lanes - len(items))]


def in_turns(items: Sequence[T], most: int) -> list[list[T]]:
    """Parts that train one after the other, of equal size but for the last, so that one or two
    compiled programs serve them all."""
    num_turns = -(-len(items) // most)
    size = -(-len(items) // num_turns)
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


class Fit(NamedTuple):
    """Lanes that are asked for, and what there is for them."""

    asked: int
    """Lanes that are asked for, as many of them as the devices take at a time."""
    fits: int
    """Lanes that memory holds, as many on each device; 0: not even the fewest."""
    needed: int
    """Bytes for those that are asked for, padded: of each device, or of the machine."""
    free: int
    """Bytes, likewise."""
    num_places: int
    """1: all devices share one memory."""
    num_devices: int
    hopeless: bool = False
    """Whether memory does not hold a program without any lane."""

    @property
    def tight(self) -> bool:
        """Whether the lanes take more than a quarter of what is free."""
        return 4 * self.needed > self.free

    def __str__(self) -> str:
        needed, free = (f"{number / 2**30:.1f} GB" for number in (self.needed, self.free))
        of_each = "" if self.num_places == 1 else " of each device"
        lanes = "1 lane needs" if self.asked == 1 else f"{self.asked} lanes need"
        return f"{lanes} about {needed} of memory{of_each}, {free} are free"

    def remedy(self) -> str:
        """A remedy, in words, where memory does not hold even the fewest."""
        larger = "use a larger machine"
        if self.hopeless:
            return f"close other programs, raise the limit of this one's memory, or {larger}"
        fewer = "use fewer --devices, " if self.num_devices > 1 else ""
        return f"{fewer}lower num_envs, num_steps or buffer_size, or {larger}"


def fit(capacity: "Capacity", example: "Lanes", asked: int, memory_share: float = 1.0) -> Fit:
    """How many of the lanes that are asked for can train together.

    Args:
      capacity: of the program that trains them.
      example: lanes of which the first is like all of them.
      asked: 1 or more.
      memory_share: of what is free, the part that this process may take.
    """
    asked = min(asked, capacity.max_lanes or asked)
    num_devices = capacity.num_devices
    # Devices of a CPU share one memory, others have one each.
    places = 1 if jax.default_backend() == "cpu" else num_devices
    memory, available = capacity.memory(example), platform.available_memory()
    padded = num_padded(asked, num_devices, capacity.min_lanes)
    needed = memory.of(padded // places)
    if available is None:
        return Fit(asked, asked, needed, needed, places, num_devices)
    free = int(available * memory_share)
    of_each = memory.lanes_within(free) * places // num_devices
    fewest = capacity.min_lanes * num_devices
    fits = num_devices * of_each if of_each >= capacity.min_lanes else 0
    if not fits and memory.least_of(fewest // places) <= free:
        fits = fewest
    hopeless = memory.least_of(0) > free
    return Fit(asked, fits, needed, free, places, num_devices, hopeless)
