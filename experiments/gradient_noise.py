"""Noise of policy gradients without a critic and with one, at the same policies.

    python experiments/gradient_noise.py            the table of the rows that are kept
    python experiments/gradient_noise.py --measure  measure again: about 20 minutes on two cores

PPO is trained on CartPole and Pendulum, with seeds of its own, for shares of its budget. At each of
its policies every estimator sees batches of 64 episodes. Measured is, over independent batches, the
noise (the trace of the covariance) over the signal (the squared length of the mean, without what
noise adds to it), and the cosine of the mean with that of the undiscounted return's gradient, from
other batches. CRITIC_FREE.md has the table.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import envs_jax
from experiments.tables import markdown, read_rows, with_table, write_rows
from jaxgen.algorithms.base import Algorithm, RolloutShape
from jaxgen.algorithms.grpo import group_advantages
from jaxgen.algorithms.ppo import make_ppo
from jaxgen.api import train
from jaxgen.nn import networks, ops
from jaxgen.nn.distributions import policy_head
from jaxgen.study.cards import figure_title
from jaxgen.study.config import PPOConfig, replace
from jaxgen.study.presets import preset
from jaxgen.system.files import write_bytes
from jaxgen.techniques import make_technique
from jaxgen.training.rollout import collect, start_episodes
from jaxgen.types import Array, Task, Transition

HERE = Path(__file__).parent
ROWS, PAGE = HERE / "continuous" / "gradient_noise.csv", HERE / "CRITIC_FREE.md"
ENVIRONMENTS = {"cartpole": 0.98, "pendulum": 0.9}
"""Discount by environment: that of PPO's preset."""
SHARES, SEEDS = (0.0, 0.2, 1.0), (200, 201)
"""Shares of PPO's budget, and its seeds."""
NUM_EPISODES, NUM_BATCHES = 64, 64
GROUPS = (4, 16, 64)
FIELDS: tuple[str, ...] = (
    "environment", "share", "seed", "estimator", "start", "group_size", "noise_to_signal", "cosine",
)  # fmt: skip


class Policy(NamedTuple):
    """A policy of PPO and what it is trained on."""

    task: Task
    config: PPOConfig
    params: Array
    gamma: float

    def algorithm(self, num_starts: int) -> Algorithm:
        """PPO that plays one episode in each of 64 environments of one variation."""
        made = make_ppo(self.config, make_technique("baseline").over(1), self.task.spec)
        steps = self.task.spec.max_episode_steps
        return made._replace(shape=RolloutShape(NUM_EPISODES, steps, num_starts, fresh=True))

    def outputs(self, params: Array, obs: Array) -> tuple[Array, Array]:
        """Outputs of the policy's network and values."""
        head = policy_head(self.task.spec.actions, self.config.policy)
        network = networks.actor_critic(
            self.task.spec, head.num_outputs, self.config.hidden, encoding="one_hot",
            num_free=head.num_free,
        )
        return network.apply(network.unravel(params), obs)

    def log_prob(self, params: Array, rollout: Transition) -> Array:
        """Log-probability of a rollout's actions."""
        head = policy_head(self.task.spec.actions, self.config.policy)
        return head.of(self.outputs(params, rollout.obs)[0]).log_prob(rollout.action)


Advantages = Callable[[Policy, Transition, Array, int], Array]
"""(policy, rollout ``[T, 1, N]``, live ``[T, 1, N]``, G) -> advantages ``[T, 1, N]``."""


def _compared(
    policy: Policy, rollout: Transition, live: Array, size: int, *, credit: str,
    discounted: bool = False, scaled: bool = False,
) -> Array:
    groups = (*live.shape[:2], size, live.shape[2] // size)
    reward = (rollout.reward * live).reshape(groups)
    gamma = policy.gamma if discounted else 1.0
    return group_advantages(
        reward, gamma, credit=credit, baseline="group", scale_by_deviation=scaled
    ).reshape(live.shape)


def _judged(
    policy: Policy, rollout: Transition, live: Array, size: int, *, gae_lambda: float
) -> Array:
    del size
    value = policy.outputs(policy.params, rollout.obs)[1]
    following = policy.outputs(policy.params, rollout.next_obs)[1]
    done = rollout.terminated | rollout.truncated
    delta = rollout.reward + policy.gamma * (1.0 - rollout.terminated) * following - value
    return ops.generalized_advantages(delta * live, done, policy.gamma, gae_lambda)


EPISODE, STEP, DISCOUNTED = "episode", "step", "step, discounted"
COMPARED: dict[str, Advantages] = {
    EPISODE: partial(_compared, credit="episode"),
    f"{EPISODE}, / deviation": partial(_compared, credit="episode", scaled=True),
    STEP: partial(_compared, credit="step"),
    f"{STEP}, / deviation": partial(_compared, credit="step", scaled=True),
    DISCOUNTED: partial(_compared, credit="step", discounted=True),
}
JUDGED: dict[str, Advantages] = {
    "return less value": partial(_judged, gae_lambda=1.0),
    "GAE (.95)": partial(_judged, gae_lambda=0.95),
}


def gradients(policy: Policy, start: str, sizes: Sequence[int], seed: int) -> dict[Any, np.ndarray]:
    """Gradients of batches ``[M, D]`` by estimator and group size.

    Args:
      policy: at which they are taken.
      start: ``same`` within each group, of one size, or ``any``.
      sizes: G, of groups.
      seed: of the episodes.
    """
    chosen = COMPARED if start == "same" else COMPARED | JUDGED
    columns = [
        (name, size) for name in chosen
        for size in (sizes if name in COMPARED else (NUM_EPISODES,))
    ]  # fmt: skip
    num_starts = NUM_EPISODES // sizes[0] if start == "same" else NUM_EPISODES
    task = policy.task

    def batch(key: Array) -> Array:
        algorithm, keys = policy.algorithm(num_starts), jax.random.split(key, 3)
        params = task.training_params(keys[0], jnp.zeros(1))
        episodes = start_episodes(task.environment, params, algorithm, keys[1])
        network_state = algorithm.init(keys[0])
        state = network_state._replace(
            optimizer=network_state.optimizer._replace(params=policy.params)
        )
        actor = algorithm.prepare(state, jnp.int32(0), keys[0])
        _, rollout, _ = collect(task.environment, params, algorithm, actor, episodes, keys[2])
        assert isinstance(rollout, Transition)
        live = ops.first_episode(rollout.terminated | rollout.truncated)
        weights = jnp.stack([
            chosen[name](policy, rollout, live, size) * live / NUM_EPISODES
            for name, size in columns
        ])
        _, pull = jax.vjp(lambda params: policy.log_prob(params, rollout), policy.params)
        return jax.vmap(lambda weight: pull(weight)[0])(weights)

    keys = jax.random.split(jax.random.key(seed), NUM_BATCHES)
    found = np.asarray(jax.jit(lambda keys: jax.lax.map(batch, keys))(keys), np.float64)
    return {column: found[:, number] for number, column in enumerate(columns)}


def noise_to_signal(found: np.ndarray) -> tuple[float, float]:
    """The trace of the covariance of gradients ``[M, D]`` over the squared length of their mean,
    and that square; both are without bias from the number of batches."""
    mean = found.mean(0)
    noise = found.var(0, ddof=1).sum()
    signal = mean @ mean - noise / len(found)
    return noise / signal, signal


def measure() -> list[dict[str, str]]:
    """Train, and measure at every policy."""
    rows = []
    for environment, gamma in ENVIRONMENTS.items():
        task = envs_jax.make_task(environment)
        usual = replace(preset("ppo", environment), {"num_variations": 1, "num_envs": 12})
        assert isinstance(usual, PPOConfig)
        for share in SHARES:
            steps = max(usual.steps_per_iteration, round(share * usual.total_steps))
            config = replace(usual, {"total_steps": steps})
            agents: Any = train(task, "ppo", config=config, seeds=SEEDS)  # pyright: ignore
            for seed, agent in zip(SEEDS, agents, strict=True):
                policy = Policy(task, usual, jnp.asarray(agent.params), gamma)  # pyright: ignore
                for row in _measured(policy):
                    rows.append({
                        "environment": environment, "share": str(share), "seed": str(seed), **row
                    })
                print(f"{environment}, {share:.0%} of the budget, seed {seed}", flush=True)
    return rows


def _measured(policy: Policy) -> list[dict[str, str]]:
    """Rows of all estimators at a policy."""
    reference = gradients(policy, "any", (NUM_EPISODES,), 1)[STEP, NUM_EPISODES]
    _, of_reference = noise_to_signal(reference)
    found = {("any", key): value for key, value in gradients(policy, "any", GROUPS, 2).items()}
    for number, size in enumerate(GROUPS):
        alike = gradients(policy, "same", (size,), 3 + number)
        found |= {("same", key): value for key, value in alike.items()}
    rows = []
    for (start, (name, size)), value in found.items():
        ratio, signal = noise_to_signal(value)
        product = value.mean(0) @ reference.mean(0)
        # Without a signal that stands out of the noise there is no direction to compare.
        known = signal > 0 and of_reference > 0
        cosine = product / np.sqrt(signal * of_reference) if known else np.nan
        rows.append({
            "estimator": name, "start": start, "group_size": str(size),
            "noise_to_signal": f"{ratio:.4g}" if signal > 0 else "nan", "cosine": f"{cosine:.3f}",
        })
    return rows


def table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown: a line for each estimator, start and group size, a column for each policy."""
    if not rows:
        return "Not measured yet."
    kinds = list(dict.fromkeys((row["environment"], row["share"]) for row in rows))
    header = ["credit", "start", "G", *(f"{figure_title(e)}, {float(s):.0%}" for e, s in kinds)]
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        lines.setdefault((row["estimator"], row["start"], row["group_size"]), [])
    for key, cells in lines.items():
        for kind in kinds:
            cells.append(_cell([
                row for row in rows
                if (row["environment"], row["share"]) == kind
                and (row["estimator"], row["start"], row["group_size"]) == key
            ]))
    return markdown(header, [(*key, *cells) for key, cells in lines.items()])


def _cell(rows: Sequence[dict[str, str]]) -> str:
    """Noise over signal by seed, and the mean cosine in brackets; - where there is no signal."""
    if not rows:
        return ""
    ratios = [float(row["noise_to_signal"]) for row in rows]
    cosine = float(np.mean([float(row["cosine"]) for row in rows]))
    words = ["-" if np.isnan(ratio) else f"{ratio:.3g}" for ratio in ratios]
    return " ".join(words) + ("" if np.isnan(cosine) else f" ({cosine:.2f})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        "gradient_noise.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--measure", action="store_true", help="measure again")
    if parser.parse_args(argv).measure:
        write_rows(ROWS, FIELDS, measure())
    text = table(read_rows(ROWS))
    write_bytes(PAGE, with_table(PAGE.read_text(), "gradient noise", text).encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
