"""Training steps per second at equal work: PPO against rejax and stable-baselines3, DQN against
stable-baselines3, ES against evosax with gymnax, all on CartPole.

Equal work: the same network, batch, epochs and number of steps, one variation. Where seeds are
trained together, JAX contenders run on one device and on all; stable-baselines3 trains seeds in
turn, in one process on one thread. Compile seconds, peak memory and the return that was reached
stand in the records.
"""

import sys
from typing import Any

from harness import ALL, ONE, OWN, Case, Contender, parse, parser, readable, run_benchmark

TRAIN = "contenders.own_training:train"
PEERS = "contenders.peer_training"

ROLLOUTS = {"num_envs": 4, "num_steps": 128, "num_epochs": 4, "num_minibatches": 4}
PEER_SEEDS = 10
PUREJAXRL_DQN = 116_000
"""Steps/s that were recorded for purejaxrl's DQN, which is no package, at its own configuration."""
RECORDED_CASE = "dqn as purejaxrl, seeds=10"


def ppo_cases(seed_counts: list[int], total_steps: int) -> list[Case]:
    """PPO with 4 environments, rollouts of 128 steps, 4 epochs of 4 minibatches, 64 x 64."""
    return [_ppo_case(num_seeds, total_steps) for num_seeds in seed_counts]


def _ppo_case(num_seeds: int, total_steps: int) -> Case:
    args = {"algorithm": "ppo", "overrides": _one_variation(total_steps, gamma=0.99, **ROLLOUTS)}
    rejax = ROLLOUTS | {
        "total_steps": total_steps, "learning_rate": 3e-4, "max_grad_norm": 0.5,
        "agent_kwargs": {"activation": "tanh"},
    }
    peer = Contender("rejax", f"{PEERS}:rejax_ppo", True, rejax)
    contenders = _on_devices(Contender(OWN, TRAIN, args=args), peer, num_seeds)
    label = f"ppo {readable(total_steps)} steps, seeds={num_seeds}"
    return Case(label, {"num_seeds": num_seeds}, contenders)


def _on_devices(own_contender: Contender, peer: Contender, num_seeds: int) -> list[Contender]:
    """Both with their seeds on one device; if there are several seeds, also over all devices."""
    contenders = [own_contender._replace(args=own_contender.args | {"all_devices": True})]
    for contender in (own_contender, peer) if num_seeds > 1 else (peer,):
        args = contender.args | {"all_devices": False}
        contenders.append(contender._replace(name=f"{contender.name}, {ONE}", args=args))
    if num_seeds > 1:
        args = peer.args | {"all_devices": True}
        contenders.append(peer._replace(name=f"{peer.name}, {ALL}", args=args))
    return contenders


def sb3_ppo_case(total_steps: int) -> Case:
    """The same PPO, ten seeds; stable-baselines3 trains them one after the other."""
    args = {"algorithm": "ppo", "overrides": _one_variation(total_steps, gamma=0.99, **ROLLOUTS)}
    sb3 = {
        "algorithm": "PPO", "total_steps": total_steps, "num_envs": 4, "activation": "tanh",
        "n_steps": 128, "batch_size": 128, "n_epochs": 4, "learning_rate": 3e-4,
    }
    contenders = [
        Contender(OWN, TRAIN, args=args),
        Contender("stable-baselines3", f"{PEERS}:sb3", True, sb3),
    ]
    label = f"ppo {readable(total_steps)} steps against sb3, seeds=10"
    return Case(label, {"num_seeds": 10}, contenders)


def dqn_cases(seed_counts: list[int], total_steps: int) -> list[Case]:
    """DQN with 4 environments and a batch of 64 for each of their steps, 64 x 64.

    stable-baselines3 is timed at one number of seeds: it trains them in turn, at one speed.
    """
    args = {"algorithm": "dqn", "overrides": _one_variation(
        total_steps, num_envs=4, num_steps=1, batch_size=64, replay_ratio=16,
    )}
    sb3 = {
        "algorithm": "DQN", "total_steps": total_steps, "num_envs": 4, "activation": "tanh",
        "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000, "train_freq": 1,
        "gradient_steps": 1, "target_update_interval": 500, "learning_rate": 1e-4,
    }
    ours = Contender(OWN, TRAIN, args=args)
    peer = Contender("stable-baselines3", f"{PEERS}:sb3", True, sb3)
    return [
        Case(f"dqn {readable(total_steps)} steps, seeds={count}", {"num_seeds": count},
             [ours, peer] if count == PEER_SEEDS else [ours])
        for count in seed_counts
    ]


def recorded_dqn_case(total_steps: int) -> Case:
    """DQN at purejaxrl's configuration; 130 transitions for ten steps, where it takes 128."""
    args = {"algorithm": "dqn", "overrides": _one_variation(
        total_steps, num_envs=10, num_steps=1, batch_size=130, replay_ratio=13,
        buffer_size=10_000, activation="relu",
    )}
    return Case(RECORDED_CASE, {"num_seeds": 10}, [Contender(OWN, TRAIN, args=args)])


def es_cases(seed_counts: list[int], num_generations: int) -> list[Case]:
    """A population of 50, one episode of up to 500 steps each; live steps count."""
    # A budget that all generations can live through, so that none rests.
    budget = num_generations * 50 * 500
    args = {"algorithm": "es", "num_iterations": num_generations,
            "overrides": _one_variation(budget)}
    evosax = {"num_generations": num_generations, "population": 50}
    peer = Contender("evosax", f"{PEERS}:evosax_es", args=evosax)
    return [
        Case(f"es {num_generations} generations, seeds={count}", {"num_seeds": count},
             _on_devices(Contender(OWN, TRAIN, args=args), peer, count))
        for count in seed_counts
    ]


def _one_variation(total_steps: int, **overrides: Any) -> dict[str, Any]:
    return {"num_variations": 1, "total_steps": total_steps} | overrides


def main() -> int:
    """Measure all algorithms and numbers of seeds."""
    options = parse(parser(__doc__, "train_throughput"))
    if options.quick:
        cases = ppo_cases([3], 20_000) + dqn_cases([PEER_SEEDS], 10_000) + es_cases([3], 5)
    else:
        cases = (
            ppo_cases([1, 3, 10, 30], 500_000) + ppo_cases([100], 100_000)
            + [sb3_ppo_case(50_000)]
            + dqn_cases([1, 3, 10, 30, 100], 50_000) + [recorded_dqn_case(100_000)]
            + es_cases([1, 3, 10, 30, 100], 50)
        )
    return run_benchmark(cases, "train_throughput", "Training on CartPole at equal work", options)


if __name__ == "__main__":
    sys.exit(main())
