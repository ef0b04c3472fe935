"""Environment steps per second: CartPole, Pendulum and the grid against gymnax, XLand-MiniGrid,
NAVIX, envpool, Gymnasium and minigrid, and HalfCheetah against Gymnasium, with random actions and
all outputs written.

JAX environments, ours and the peers', run a scan on one device, as a user of vmap would, and with
the batch split over all devices. Gymnasium, minigrid and envpool are stepped from Python; minigrid
and envpool's grid, which take minutes there, not with 8192. Pendulum is measured against gymnax
alone, with 1024 and 8192.

HalfCheetah lives on the host: ours steps all of them in one call of MuJoCo, Gymnasium each in turn.
"""

import sys

from harness import ALL, ONE, OWN, Case, Contender, parse, parser, run_benchmark

SIZES = {"cartpole": (1, 64, 1024, 8192), "minigrid": (1, 64, 1024, 8192), "pendulum": (1024, 8192)}
QUICK_SIZES = 64, 1024
FIRST_PERSON = "symbolic_first_person"


def contenders(environment: str, num_envs: int) -> list[Contender]:
    """Contenders with an environment of this kind, jaxgen first."""
    module, numpy_module = "contenders.jax_environments", "contenders.numpy_environments"
    own_contender = Contender(OWN, f"{module}:jaxgen", args={"environment": environment})
    if environment == "cartpole":
        peers = [Contender("gymnax", f"{module}:gymnax", args={"id": "CartPole-v1"})]
        stepped = [
            Contender("gymnasium", f"{numpy_module}:gymnasium"),
            Contender("envpool", f"{numpy_module}:envpool", True, {"task": "CartPole-v1"}),
        ]
    elif environment == "pendulum":
        peers = [Contender("gymnax", f"{module}:gymnax", args={"id": "Pendulum-v1"})]
        stepped = []
    else:
        peers = [
            Contender("xminigrid", f"{module}:xminigrid", True),
            Contender("navix, 7x7 view", f"{module}:navix", True, {"view": FIRST_PERSON}),
            Contender("navix, whole grid", f"{module}:navix", True, {"view": "symbolic"}),
        ]
        task = {"task": "MiniGrid-Empty-8x8-v0"}
        stepped = [] if num_envs > 1024 else [
            Contender("minigrid", f"{numpy_module}:minigrid"),
            Contender("envpool", f"{numpy_module}:envpool", True, task),
        ]
    jax_contenders = [_on(own_contender, OWN, all_devices=num_envs > 1)]
    if num_envs > 1:
        jax_contenders.append(_on(own_contender, f"{OWN}, {ONE}", all_devices=False))
    for peer in peers:
        jax_contenders.append(_on(peer, f"{peer.name}, {ONE}", all_devices=False))
        if num_envs > 1:
            jax_contenders.append(_on(peer, f"{peer.name}, {ALL}", all_devices=True))
    return jax_contenders + stepped


def _on(contender: Contender, name: str, all_devices: bool) -> Contender:
    args = contender.args | {"all_devices": all_devices}
    return contender._replace(name=name, args=args)


def half_cheetah(num_envs: int) -> Case:
    """Contenders with HalfCheetah."""
    module = "contenders.numpy_environments"
    return Case(f"halfcheetah n={num_envs}", {"num_envs": num_envs}, [
        Contender(OWN, f"{module}:half_cheetah"),
        Contender("gymnasium", f"{module}:gymnasium_half_cheetah"),
    ])  # fmt: skip


def main() -> int:
    """Measure all sizes of every environment."""
    options = parse(parser(__doc__, "env_throughput"))
    cases = [
        Case(f"{environment} n={size}", {"num_envs": size}, contenders(environment, size))
        for environment, sizes in SIZES.items() for size in sizes
        if size in QUICK_SIZES or not options.quick
    ]
    cases.append(half_cheetah(64))
    title = "Environment steps, random actions, outputs written"
    return run_benchmark(cases, "env_throughput", title, options)


if __name__ == "__main__":
    sys.exit(main())
