"""How close one training iteration comes to what the machine can do.

Counts the floating-point operations of the networks' matrix products and the least memory
traffic of optimiser and agreement, measures the ceilings of both on all cores, and prints the
share that is reached and which part of an iteration is the largest.
"""

import math
import sys
from typing import Any, NamedTuple

from envs_jax import make_task
from gar_overhead import UPDATES, update_args
from harness import Case, Contender, parse, parser, run_benchmark
from jaxgen.study.config import DQNConfig, PPOConfig
from jaxgen.study.presets import preset
from jaxgen.types import Codes, Discrete

CEILINGS = {"small products": "small_products", "stream": "stream"}


class Work(NamedTuple):
    """The least work of one iteration of one lane."""

    collect_flops: float
    update_flops: float
    update_bytes: float
    """The least traffic: gradients written and read, parameters and moments read and written."""


def work_of(algorithm: str, environment: str) -> Work:
    """Count by the configuration's sizes; a multiplication with its addition are two operations."""
    config = preset(algorithm, environment)
    spec = make_task(environment).spec
    one_hot = config.algorithm == "ppo" or getattr(config, "encoding", "") == "one_hot"
    observation, actions = spec.observation, spec.actions
    assert isinstance(actions, Discrete)
    coded = one_hot and isinstance(observation, Codes)
    codes = observation.num - observation.first if coded else 1
    elements = math.prod(spec.obs_shape)
    # Of one-hot inputs the first code's take no part in a product.
    inputs = max(1, codes - 1) * elements
    unused = (codes * elements - inputs) * config.hidden[0]
    policy = _products(inputs, config.hidden, actions.num)
    first = inputs * config.hidden[0]
    samples = config.steps_per_iteration
    if isinstance(config, PPOConfig):
        value = _products(inputs, config.hidden, 1)
        # Probabilities come from the rollout, successors' values are those of observations.
        prepare = samples * value
        # Forwards, weights' and inputs' gradients; the first layer's inputs need none.
        learn = config.num_epochs * samples * (3 * (policy + value) - 2 * first)
        size, updates = policy + value + 2 * unused, config.num_epochs * config.num_minibatches
        products = prepare + learn
    else:
        assert isinstance(config, DQNConfig)
        updates = config.updates_per_iteration
        batch = config.num_variations * config.batch_per_variation
        size = policy + unused
        # The frozen and the current network on the next observation, then a gradient.
        products = updates * batch * (5 * policy - first)
    traffic = 4 * size * updates * (6 + 2 * config.num_variations)
    return Work(2.0 * samples * policy, 2.0 * products, float(traffic))


def _products(inputs: int, hidden: tuple[int, ...], outputs: int) -> int:
    sizes = (inputs, *hidden, outputs)
    return sum(a * b for a, b in zip(sizes, sizes[1:], strict=False))


def cases(quick: bool) -> list[Case]:
    """The ceilings, then whole iterations and their updates."""
    module = "contenders.own_training"
    all_cases = [Case(label, {}, [Contender(label, f"contenders.ceilings:{function}")])
                 for label, function in CEILINGS.items()]
    for label in UPDATES:
        parts = [
            Contender("iteration", f"{module}:iterate"),
            Contender("update", f"{module}:update", args={"pooled": False}),
        ]
        all_cases.append(Case(label, update_args(label, quick), parts))
    return all_cases


def summary(records: list[dict[str, Any]]) -> str:
    """A Markdown table: time, operations, the share of the ceiling, the largest term."""
    rates = {(record["case"], record["contender"]): record["steps_per_second"]
             for record in records}
    ceiling, stream = (rates[label, label] for label in CEILINGS)
    lines = [
        f"Ceilings: small products {ceiling / 1e9:.0f} GFLOP/s, stream {stream / 1e9:.1f} GB/s.\n",
        "| program | iteration ms | update ms | update GFLOP/s | share of the products' ceiling "
        "| least traffic GB/s | largest term |",
        "|---|---|---|---|---|---|---|",
    ]
    for label in UPDATES:
        if (label, "update") not in rates:
            continue
        work = work_of(*label.split())
        iteration, update = (1 / rates[label, part] for part in ("iteration", "update"))
        products = work.update_flops / ceiling
        terms = {
            "the update's products": products,
            "the rest of the update": update - products,
            "collecting": iteration - update,
        }
        largest = max(terms, key=terms.__getitem__)
        lines.append(
            f"| {label} | {1e3 * iteration:.3g} | {1e3 * update:.3g} "
            f"| {work.update_flops / update / 1e9:.0f} | {products / update:.0%} "
            f"| {work.update_bytes / update / 1e9:.1f} "
            f"| {largest}, {terms[largest] / iteration:.0%} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure, print the shares; times are of one lane with all lanes running."""
    options = parse(parser(__doc__, "roofline"))
    if options.only:
        # Shares are of the ceilings of the same run.
        options.only = "|".join((options.only, *CEILINGS))
    title = "Iterations and updates of a lane, and the machine's ceilings, per second"
    return run_benchmark(cases(options.quick), "roofline", title, options, summary)


if __name__ == "__main__":
    sys.exit(main())
