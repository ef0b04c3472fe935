"""Training steps per second at equal work: PPO against rejax and stable-baselines3, DQN against
stable-baselines3, ES against evosax with gymnax, all on CartPole.

Equal work: the same network, batch, epochs and number of steps, one variation. Compile seconds,
peak memory and the return that was reached stand in the records.
"""

import sys
from typing import Any

from harness import Case, Contender, parse, parser, readable, run_benchmark
from jaxgen import platform

OWN = "contenders.own_training:train"
PEERS = "contenders.peer_training"

ROLLOUTS = {"num_envs": 4, "num_steps": 128, "num_epochs": 4, "num_minibatches": 4}
PUREJAXRL_DQN = 116_000
"""Steps/s that were recorded for purejaxrl's DQN, which is no package, at its own configuration."""
RECORDED_CASE = "dqn as purejaxrl, seeds=10"


def ppo_cases(seed_counts: list[int], total_steps: int) -> list[Case]:
    """PPO with 4 environments, rollouts of 128 steps, 4 epochs of 4 minibatches, 64 x 64."""
    return [_ppo_case(num_seeds, total_steps) for num_seeds in seed_counts]


def _ppo_case(num_seeds: int, total_steps: int) -> Case:
    own = {"algorithm": "ppo", "overrides": _one_variation(total_steps, gamma=0.99, **ROLLOUTS)}
    rejax = ROLLOUTS | {
        "total_steps": total_steps, "learning_rate": 3e-4, "max_grad_norm": 0.5,
        "agent_kwargs": {"activation": "tanh"},
    }
    contenders = [Contender("jaxgen", OWN, args=own)]
    for number in {1, min(num_seeds, platform.num_cores())}:
        name = "rejax" if number == 1 else f"rejax, {number} devices"
        args = rejax | {"num_devices": number}
        contenders.append(Contender(name, f"{PEERS}:rejax_ppo", True, args))
    label = f"ppo {readable(total_steps)} steps, seeds={num_seeds}"
    return Case(label, {"num_seeds": num_seeds}, contenders)


def sb3_ppo_case(total_steps: int) -> Case:
    """The same PPO, ten seeds; stable-baselines3 trains them one after the other."""
    own = {"algorithm": "ppo", "overrides": _one_variation(total_steps, gamma=0.99, **ROLLOUTS)}
    sb3 = {
        "algorithm": "PPO", "total_steps": total_steps, "num_envs": 4, "activation": "tanh",
        "n_steps": 128, "batch_size": 128, "n_epochs": 4, "learning_rate": 3e-4,
    }
    contenders = [
        Contender("jaxgen", OWN, args=own),
        Contender("stable-baselines3", f"{PEERS}:sb3", True, sb3),
    ]
    label = f"ppo {readable(total_steps)} steps against sb3, seeds=10"
    return Case(label, {"num_seeds": 10}, contenders)


def dqn_cases(seed_counts: list[int], total_steps: int) -> list[Case]:
    """DQN with 4 environments and a batch of 64 for each of their steps, 64 x 64."""
    own = {"algorithm": "dqn", "overrides": _one_variation(
        total_steps, num_envs=4, num_steps=1, batch_size=64, replay_ratio=16,
    )}
    sb3 = {
        "algorithm": "DQN", "total_steps": total_steps, "num_envs": 4, "activation": "tanh",
        "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000, "train_freq": 1,
        "gradient_steps": 1, "target_update_interval": 500, "learning_rate": 1e-4,
    }
    contenders = [
        Contender("jaxgen", OWN, args=own),
        Contender("stable-baselines3", f"{PEERS}:sb3", True, sb3),
    ]
    return [
        Case(f"dqn {readable(total_steps)} steps, seeds={count}", {"num_seeds": count}, contenders)
        for count in seed_counts
    ]


def recorded_dqn_case(total_steps: int) -> Case:
    """DQN at purejaxrl's configuration; 130 transitions for ten steps, where it takes 128."""
    own = {"algorithm": "dqn", "overrides": _one_variation(
        total_steps, num_envs=10, num_steps=1, batch_size=130, replay_ratio=13,
        buffer_size=10_000, activation="relu",
    )}
    return Case(RECORDED_CASE, {"num_seeds": 10}, [Contender("jaxgen", OWN, args=own)])


def es_cases(seed_counts: list[int], num_generations: int) -> list[Case]:
    """A population of 50, one episode of up to 500 steps each; live steps count."""
    own = {"algorithm": "es", "num_iterations": num_generations,
           "overrides": {"num_variations": 1}}
    evosax = {"num_generations": num_generations, "population": 50}
    contenders = [
        Contender("jaxgen", OWN, args=own),
        Contender("evosax", f"{PEERS}:evosax_es", args=evosax),
    ]
    return [
        Case(f"es {num_generations} generations, seeds={count}", {"num_seeds": count}, contenders)
        for count in seed_counts
    ]


def _one_variation(total_steps: int, **overrides: Any) -> dict[str, Any]:
    return {"num_variations": 1, "total_steps": total_steps} | overrides


def main() -> int:
    """Measure all algorithms and numbers of seeds."""
    options = parse(parser(__doc__, "train_throughput"))
    if options.quick:
        cases = ppo_cases([3], 20_000) + dqn_cases([3], 10_000) + es_cases([3], 5)
    else:
        cases = (
            ppo_cases([1, 3, 10, 30], 500_000) + ppo_cases([100], 100_000)
            + [sb3_ppo_case(50_000)]
            + dqn_cases([1, 10, 100], 50_000) + [recorded_dqn_case(100_000)]
            + es_cases([1, 10, 100], 50)
        )
    return run_benchmark(cases, "train_throughput", "Training on CartPole at equal work", options)


if __name__ == "__main__":
    sys.exit(main())
