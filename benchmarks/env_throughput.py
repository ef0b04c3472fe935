"""Environment steps per second: CartPole and the grid against gymnax, XLand-MiniGrid, NAVIX,
envpool, Gymnasium and minigrid, with random actions and all outputs written.

JAX environments run a scan; on one device as a user of vmap would, and with the batch split over
all devices, peers as well. Gymnasium, minigrid and envpool are stepped from Python.
"""

import sys

from harness import Case, Contender, parse, parser, run_benchmark
from jaxgen import platform

SIZES = (1, 64, 1024, 8192)


def contenders(environment: str, num_envs: int) -> list[Contender]:
    """Who has an environment of this kind, jaxgen first."""
    devices = [1, platform.num_cores()] if num_envs > 1 else [1]
    own = {"environment": environment}
    cartpole = environment == "cartpole"
    python_peers = ["gymnasium"] if cartpole else ["minigrid"]
    module = "contenders.jax_environments"
    jax_peers = [Contender("gymnax", f"{module}:gymnax")] if cartpole else [
        Contender("xminigrid", f"{module}:xminigrid", True),
        Contender("navix", f"{module}:navix", True, {"view": "symbolic_first_person"}),
        Contender("navix, whole grid", f"{module}:navix", True, {"view": "symbolic"}),
    ]
    found = [_on(Contender("jaxgen", f"{module}:jaxgen", args=own), devices[-1])]
    for peer in jax_peers:
        found += [_on(peer, number) for number in devices]
    if num_envs <= 1024:
        numpy_module = "contenders.numpy_environments"
        found += [Contender(name, f"{numpy_module}:{name}") for name in python_peers]
        task = "CartPole-v1" if cartpole else "MiniGrid-Empty-8x8-v0"
        found.append(Contender("envpool", f"{numpy_module}:envpool", True, {"task": task}))
    return found


def _on(contender: Contender, num_devices: int) -> Contender:
    name = contender.name
    if name != "jaxgen" and num_devices > 1:
        name = f"{name}, {num_devices} devices"
    return contender._replace(name=name, args=contender.args | {"num_devices": num_devices})


def main() -> int:
    """Measure all sizes of both environments."""
    options = parse(parser(__doc__, "env_throughput"))
    sizes = SIZES[1:3] if options.quick else SIZES
    cases = [
        Case(f"{environment} n={size}", {"num_envs": size}, contenders(environment, size))
        for environment in ("cartpole", "minigrid") for size in sizes
    ]
    title = "Environment steps, random actions, outputs written"
    return run_benchmark(cases, "env_throughput", title, options)


if __name__ == "__main__":
    sys.exit(main())
