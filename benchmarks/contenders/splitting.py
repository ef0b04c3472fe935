"""Work split over devices, in the same way for our programs and for the peers'.

Peers run in an interpreter that has no jaxgen, so that nothing of it is used here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def split_over(devices: Sequence[Any]) -> NamedSharding:
    """How arrays lie whose first axis is split evenly over the devices."""
    mesh = Mesh(np.asarray(devices), ("devices",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("devices"))


def over_devices(function: Callable, devices: Sequence[Any]) -> Callable:
    """Run ``function`` on every device's part of its arguments, all at once.

    Args:
      function: of trees whose leaves are ``[N, ...]``, to such trees.
      devices: their number divides N; a single one runs ``function`` as it is.
    """
    if len(devices) == 1:
        return function
    split = split_over(devices)
    return jax.shard_map(
        function, mesh=split.mesh, in_specs=split.spec, out_specs=split.spec, check_vma=False
    )
