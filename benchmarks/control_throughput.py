"""Training steps per second of continuous control at equal work: SAC on HalfCheetah against SBX and
stable-baselines3, SAC on Pendulum against rejax, PPO on HalfCheetah against stable-baselines3.

Equal work: the peers' settings are made of our presets ``sac-published`` and ``ppo-mujoco``, in 32
bits. Each turn goes on from where the last one ended, so that all of its steps are steps that are
learned from: compilation, random actions and the first updates come before. Nothing is evaluated
meanwhile. PPO's learning rate does not fall, as no end is known to a peer that goes on.

Cases of 1 core keep each contender, ours too, to the same core, before it starts a thread.
stable-baselines3 and SBX train seeds in turn, so that one is timed. rejax draws its batches without
replacement, which takes the longer the larger the replay is: it is the preset's for both.
"""

import sys
from typing import Any, NamedTuple

import envs_jax
from harness import OWN, Case, Contender, by_case, parse, parser, readable, run_benchmark
from jaxgen.study.config import Config, PPOConfig, SACConfig, replace
from jaxgen.study.presets import preset

assert envs_jax.cards, "importing registers the environments"

TRAIN = "contenders.own_control:train"
SB3, REJAX = "contenders.peer_control:sb3", "contenders.peer_control:rejax_sac"
SBX, STABLE_BASELINES = "sbx-rl", "stable-baselines3"
MODULES = {SBX: "sbx", STABLE_BASELINES: "stable_baselines3"}
GYMNASIUM_NAME = "HalfCheetah-v5"

ALONE, TOGETHER = "sac halfcheetah, 1 seed, 1 core", "sac halfcheetah, 10 seeds, all cores"


class Lengths(NamedTuple):
    """Environment steps of a seed: random ones, all before the first turn, those of a turn."""

    learning_starts: int
    """Fewer than the presets' to save time, for all contenders."""
    begin: int
    turn: int
    """Of one seed alone; as many for five seeds that train together."""
    ppo_turn: int

    def turn_of(self, num_seeds: int) -> int:
        """Steps of a turn of each of the seeds that train together."""
        return self.turn // min(num_seeds, 5)


FULL, QUICK = Lengths(1_000, 1_100, 2_000, 16_384), Lengths(300, 320, 100, 2_048)


def cases(lengths: Lengths) -> list[Case]:
    """All cases."""
    ppo_turn = lengths.ppo_turn
    return [
        sac_case(1, 1, [SBX, STABLE_BASELINES], lengths),
        sac_case(5, 1, [SBX], lengths),
        sac_case(10, None, [SBX], lengths),
        pendulum_case(1, lengths),
        pendulum_case(5, lengths),
        ppo_case((1, 2048), 1, ppo_turn, ppo_turn),
        # Ours would be done in less than a second.
        ppo_case((64, 32), 1, ppo_turn, 4 * ppo_turn),
        ppo_case((1, 2048), 5, ppo_turn, ppo_turn),
    ]


def sac_case(num_seeds: int, cores: int | None, peers: list[str], lengths: Lengths) -> Case:
    """SAC on HalfCheetah: batch 256, 256 x 256, an update for each step of one environment."""
    overrides = {"learning_starts": lengths.learning_starts}
    turn_steps = lengths.turn_of(num_seeds)
    contender, config = _ours("sac-published", "halfcheetah", turn_steps, overrides)
    assert isinstance(config, SACConfig)
    settings = {
        "algorithm": "SAC", "environment": GYMNASIUM_NAME, "num_envs": 1, "normalize": False,
        "policy_kwargs": {"net_arch": list(config.hidden)}, "train_freq": 1,
        "gradient_steps": config.updates_per_iteration, "turn_steps": lengths.turn,
        **_fields(config, "learning_rate", "batch_size", "buffer_size", "learning_starts", "gamma",
                  "tau"),
    }  # fmt: skip
    contenders = [contender, *(
        Contender(name, SB3, True, {"package": MODULES[name]} | settings) for name in peers
    )]  # fmt: skip
    args = {"num_seeds": num_seeds, "begin_steps": lengths.begin}
    return Case(_label("sac halfcheetah", num_seeds, cores), args, contenders, cores=cores)


def pendulum_case(num_seeds: int, lengths: Lengths) -> Case:
    """SAC on Pendulum in JAX, seeds trained together on 1 core: as above, 256 x 256."""
    overrides = {"learning_starts": lengths.learning_starts, "hidden": [256, 256]}
    turn_steps = lengths.turn_of(num_seeds)
    contender, config = _ours("sac-published", "pendulum", turn_steps, overrides)
    assert isinstance(config, SACConfig)
    settings = {
        "environment": "Pendulum-v1", "num_envs": 1, "num_epochs": config.updates_per_iteration,
        # Among rejax's agent_kwargs it would change nothing.
        "hidden_layer_sizes": list(config.hidden), "fill_buffer": config.learning_starts,
        "polyak": 1 - config.tau, "turn_steps": turn_steps,
        **_fields(config, "learning_rate", "batch_size", "buffer_size", "gamma"),
    }
    args = {"num_seeds": num_seeds, "begin_steps": lengths.begin}
    peer = Contender("rejax", REJAX, True, settings)
    return Case(_label("sac pendulum", num_seeds, 1), args, [contender, peer], cores=1)


def ppo_case(
    rollout: tuple[int, int], num_seeds: int, peer_steps: int, turn_steps: int
) -> Case:
    """PPO on HalfCheetah on 1 core: 64 x 64, 10 epochs of 32 minibatches, normalised.

    Args:
      rollout: environments of a seed, and steps of each.
      num_seeds: our lanes.
      peer_steps: steps of a peer's turn.
      turn_steps: those of each of our lanes.
    """
    num_envs, num_steps = rollout
    overrides = {"num_envs": num_envs, "num_steps": num_steps, "anneal_learning_rate": False}
    contender, config = _ours("ppo-mujoco", "halfcheetah", turn_steps, overrides)
    assert isinstance(config, PPOConfig)
    settings = {
        "package": MODULES[STABLE_BASELINES], "algorithm": "PPO", "environment": GYMNASIUM_NAME,
        "num_envs": num_envs, "normalize": config.normalize_observations, "n_steps": num_steps,
        "n_epochs": config.num_epochs,
        "batch_size": config.steps_per_iteration // config.num_minibatches,
        "clip_range": config.clip, "clip_range_vf": config.clip, "ent_coef": config.entropy,
        "vf_coef": config.value_weight, "policy_kwargs": {"net_arch": list(config.hidden)},
        "turn_steps": peer_steps,
        **_fields(config, "learning_rate", "gamma", "gae_lambda", "max_grad_norm"),
    }
    args = {"num_seeds": num_seeds, "begin_steps": config.steps_per_iteration}
    peer = Contender(STABLE_BASELINES, SB3, True, settings)
    label = _label(f"ppo halfcheetah {num_envs} x {num_steps}", num_seeds, 1)
    return Case(label, args, [contender, peer], cores=1)


def _ours(
    algorithm: str, environment: str, turn_steps: int, overrides: dict[str, Any]
) -> tuple[Contender, Config]:
    """Our contender and its configuration."""
    args = {
        "algorithm": algorithm, "environment": environment, "turn_steps": turn_steps,
        "overrides": overrides,
    }
    config = replace(preset(algorithm, environment), overrides)
    return Contender(OWN, TRAIN, args=args), config


def _fields(config: Config, *names: str) -> dict[str, Any]:
    """Values of fields that peers call by the same name."""
    return {name: getattr(config, name) for name in names}


def _label(what: str, num_seeds: int, cores: int | None) -> str:
    seeds = "1 seed" if num_seeds == 1 else f"{num_seeds} seeds"
    return f"{what}, {seeds}, {'1 core' if cores == 1 else 'all cores'}"


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table: jaxgen's steps/s of all seeds, each peer's, and how many times each peer
    jaxgen is."""
    lines = [
        "| case | cores | jaxgen | peers (jaxgen is so many times as fast) |", "|---|---|---|---|"
    ]
    for label, group in by_case(records).items():
        rates = {record["contender"]: record["steps_per_second"] for record in group}
        own_rate = rates.pop(OWN)
        peers = ", ".join(
            f"{name} {readable(rate)} (**{own_rate / rate:.3g}**)" for name, rate in rates.items()
        )
        lines.append(f"| {label} | {group[0]['cores']} | {readable(own_rate)} | {peers} |")
    return "\n".join(lines)


def summary(records: list[dict[str, Any]]) -> str:
    """The table, and how its rows of several seeds are to be read."""
    parts = [
        table(records),
        f"Steps of all seeds together. {STABLE_BASELINES} and SBX train seeds in turn, so that "
        "theirs are those of one.",
    ]
    groups = by_case(records)
    alone, together = (
        {record["contender"]: record for record in groups.get(label, [])}
        for label in (ALONE, TOGETHER)
    )
    if SBX in alone and OWN in together:
        cores = together[OWN]["cores"]
        most = cores * alone[SBX]["steps_per_second"]
        ratio = together[OWN]["steps_per_second"] / most
        parts.append(
            f"By its rate on 1 core, of other minutes, SBX in {cores} processes takes "
            f"{readable(most)} steps/s at most: jaxgen's 10 seeds **{ratio:.3g}** times that."
        )
    return "\n\n".join(parts)


def main() -> int:
    """Measure all cases."""
    options = parse(parser(__doc__, "control_throughput"))
    chosen = cases(QUICK if options.quick else FULL)
    title = "Training of continuous control at equal work"
    return run_benchmark(chosen, "control_throughput", title, options, summary)


if __name__ == "__main__":
    sys.exit(main())
