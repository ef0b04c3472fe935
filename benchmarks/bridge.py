"""Environment steps per second on procgen's starpilot: by callback and by loop, against procgen.

Ours are the rollouts of training with all that they keep, on one device: by ordered callbacks from
inside of a compiled scan, and by a Python loop around a compiled policy. A random policy, which
looks up its actions in numbers that were drawn before, shows what stepping costs; the networks'
policies what it costs beside them. Procgen alone acts and observes, with the same number of
threads on the same levels. Then seeds: in one program, and each in a program of its own, in turn.
"""

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from envs_jax import make_task, procgen_games
from harness import OWN, Case, Contender, by_case, parse, parser, readable, run_benchmark
from jaxgen.study.config import Config, replace
from jaxgen.study.presets import preset
from worker import MIN_SECONDS, Run, timed

if TYPE_CHECKING:
    from jaxgen.algorithms.base import Algorithm
    from jaxgen.techniques import Technique
    from jaxgen.types import EnvSpec

SIZES = (64, 256)
POLICIES: dict[str, tuple[str, int]] = {
    "random": ("ppo", 8192), "nature": ("ppo", 2048), "impala": ("ppo-published", 2048),
}
"""The preset that gives a policy its network and its number of frames, and the environment steps
of a rollout of one seed."""
NUM_SEEDS = 3
RAW = "procgen-mirror, raw"
CALLBACK, LOOP = f"{OWN}, callback", f"{OWN}, loop"
TOGETHER, IN_TURN = f"{OWN}, one program", f"{OWN}, {NUM_SEEDS} programs"
NUM_LEVELS = 200


def cases(sizes: Sequence[int]) -> list[Case]:
    """All policies, then seeds, for each number of environments."""
    all_cases = []
    for size in sizes:
        for policy in POLICIES:
            contenders = [
                Contender(name, "bridge:rollouts", args={"policy": policy, "bridge": bridge})
                for name, bridge in ((CALLBACK, "callback"), (LOOP, "loop"))
            ]
            if policy == "random":
                contenders.append(Contender(RAW, "bridge:raw"))
            all_cases.append(Case(f"{policy} n={size}", {"num_envs": size}, contenders))
        args = {"num_envs": size, "num_seeds": NUM_SEEDS, "policy": "random", "bridge": "callback"}
        all_cases.append(Case(f"random n={size}, {NUM_SEEDS} seeds", args, [
            Contender(name, "bridge:rollouts", args={"together": together})
            for name, together in ((TOGETHER, True), (IN_TURN, False))
        ]))
    return all_cases


def raw(num_envs: int) -> tuple[Run, dict]:
    """Procgen alone."""
    import numpy as np

    # gym, which procgen imports, prints that it is no longer maintained.
    with contextlib.redirect_stderr(io.StringIO()):
        from procgen import ProcgenGym3Env
    vector = ProcgenGym3Env(
        num=num_envs, env_name="starpilot", distribution_mode="easy", start_level=0,
        num_levels=NUM_LEVELS, rand_seed=0, num_threads=min(os.cpu_count() or 1, 8),
    )
    shape = (num_steps("random", num_envs), num_envs)
    actions = np.random.default_rng(0).integers(procgen_games.NUM_ACTIONS, size=shape)

    def work() -> None:
        for action in actions.astype(np.int32):
            vector.act(action)
            vector.observe()

    return repeated(work, actions.size), {"num_threads": vector.options["num_threads"]}


def num_steps(policy: str, num_envs: int) -> int:
    """Time steps of a rollout."""
    return max(1, POLICIES[policy][1] // num_envs)


def repeated(work: Callable[[], Any], steps: int) -> Run:
    """Do the work, of so many steps, for at least half a second."""

    def run() -> dict[str, Any]:
        count, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < MIN_SECONDS:
            work()
            count, elapsed = count + 1, time.perf_counter() - start
        return {"steps": count * steps, "seconds": elapsed}

    return run


def rollouts(
    policy: str, bridge: str, num_envs: int, num_seeds: int = 1, together: bool = True
) -> tuple[Run, dict]:
    """Rollouts of training, one after the other, from where the last one ended.

    Args:
      policy: one of `POLICIES`.
      bridge: ``callback`` or ``loop``.
      num_envs: of each seed.
      num_seeds: lanes.
      together: in one program, not each in its own, in turn.
    """
    seeds = list(range(num_seeds))
    parts = [
        _collector(policy, bridge, num_envs, lanes)
        for lanes in ([seeds] if together else [[seed] for seed in seeds])
    ]
    works, each = zip(*parts)
    facts = each[0] | {"compile_seconds": sum(part["compile_seconds"] for part in each)}
    steps = num_seeds * num_envs * num_steps(policy, num_envs)

    def work_all() -> None:
        for work in works:
            work()

    return repeated(work_all, steps), facts


def _collector(
    policy: str, bridge: str, num_envs: int, seeds: list[int]
) -> tuple[Callable[[], None], dict[str, Any]]:
    """A function that collects a rollout as `jaxgen.training.host` does, and facts about it."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxgen.algorithms import ALGORITHMS
    from jaxgen.techniques import Technique
    from jaxgen.training.host import init_host_carry, make_host_functions, room_for_images
    from jaxgen.training.host_rollout import collect_host
    from jaxgen.training.program import stack_lanes

    task = make_task("starpilot", num_levels=NUM_LEVELS)
    arm = _config(policy, num_envs), Technique(levels=(0.0,))
    lanes = stack_lanes([arm] * len(seeds), seeds)
    make_algorithm = _random_policy if policy == "random" else ALGORITHMS["ppo"]
    functions = make_host_functions(task, make_algorithm, lanes)
    words, levels = np.array(seeds, np.uint32)[:, None], np.zeros((len(seeds), 1), np.float32)
    env: Any = task.training(words, levels, num_envs, functions.acting.shape.num_starts)
    carry = init_host_carry(functions, lanes, env.reset(0))

    def prepared(index: int) -> Any:
        lane, total = jax.tree.map(lambda leaf: leaf[index], (lanes, carry.episodes.total))
        return functions.acting.prepare(lane, carry.state[index], total, 0)

    each = map(prepared, range(len(seeds)))
    actor, words = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    # Procgen keeps its options to itself; raw procgen's threads must be as many.
    facts = {"num_threads": env._slots._vector.options["num_threads"]}
    state = [carry.episodes]
    if bridge == "callback":
        task.bridge.connect(env)
        lower: Any = functions.acting.rollout.lower  # pyright: ignore[reportFunctionMemberAccess]
        images = [room_for_images(task.spec, functions.acting.shape, state[0], words)]
        seconds, compiled = timed(
            lambda: lower(lanes, actor, *state, words, *images).compile()
        )

        def collect() -> None:
            state[0], recording, _ = task.bridge.run(
                compiled, lanes, actor, *state, words, *images
            )
            images[:] = [recording.obs]
    else:
        drawn = np.asarray(words)

        def act(obs: np.ndarray, words_t: np.ndarray) -> Any:
            return functions.acting.act(lanes, actor, obs, words_t)

        seconds, _ = timed(lambda: act(np.asarray(carry.episodes.obs), drawn[:, 0]))

        def collect() -> None:
            episodes = state[0]
            keeps_obs = functions.acting.shape.keeps_obs
            state[0] = collect_host(env, task.spec, act, keeps_obs, episodes, drawn)[0]

    return collect, facts | {"compile_seconds": seconds}


def _config(policy: str, num_envs: int) -> Config:
    config = preset(POLICIES[policy][0], "starpilot")
    changes = {
        "num_variations": 1, "num_envs": num_envs, "num_steps": num_steps(policy, num_envs),
    }
    if policy == "random":
        changes["num_frames"] = 1
    return replace(config, changes)


def _random_policy(config: Config, technique: "Technique", spec: "EnvSpec") -> "Algorithm":
    """Actions from the numbers drawn for them, whatever is observed; it has nothing to learn."""
    from jaxgen.algorithms.base import Algorithm, RolloutShape
    from jaxgen.evaluation.policy import random_play
    from jaxgen.types import Policy

    acting = random_play(spec.actions)

    def nothing(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("it is only acted with")

    return Algorithm(
        init=lambda key: (),
        prepare=lambda state, iteration, key: (),
        act=lambda actor, obs, words: (acting.choose(obs, words), ()),
        policy=Policy(best=nothing, draw=nothing, num_words=acting.num_words), params=nothing,
        record=lambda transition: transition, update=nothing, half_gradients=nothing,
        shape=RolloutShape(config.num_envs, config.num_steps, num_starts=config.num_envs),
    )


def table(records: list[dict[str, Any]]) -> str:
    """Two Markdown tables: callback and loop over procgen and over each other; seeds."""
    stepping = ["| policy | callback | loop | raw procgen | callback over raw | loop over raw "
                "| callback over loop |", "|---|---|---|---|---|---|---|"]
    seeds = [f"| policy | one program | {NUM_SEEDS} programs in turn | one over {NUM_SEEDS} |",
             "|---|---|---|---|"]
    for label, group in by_case(records).items():
        rates = {record["contender"]: record["steps_per_second"] for record in group}
        if TOGETHER in rates:
            seeds.append(f"| {label} {_row(rates, (TOGETHER, IN_TURN), ((TOGETHER, IN_TURN),))} |")
        else:
            ratios = (CALLBACK, RAW), (LOOP, RAW), (CALLBACK, LOOP)
            stepping.append(f"| {label} {_row(rates, (CALLBACK, LOOP, RAW), ratios)} |")
    return "\n\n".join("\n".join(lines) for lines in (stepping, seeds) if len(lines) > 2)


def _row(
    rates: dict[str, float], names: Sequence[str], ratios: Sequence[tuple[str, str]]
) -> str:
    cells = [f"{readable(rates[name])}/s" if name in rates else "" for name in names]
    cells += [
        f"**{rates[contender] / rates[peer]:.2f}**" if peer in rates else ""
        for contender, peer in ratios
    ]
    return "| " + " | ".join(cells)


def main() -> int:
    """Measure all policies and numbers of environments."""
    options = parse(parser(__doc__, "bridge"))
    if not procgen_games.installed():
        print(f"procgen is needed: {procgen_games.missing_remedy()}", file=sys.stderr)
        return 1
    chosen = cases(SIZES[:1] if options.quick else SIZES)
    title = "Steps of starpilot: by callback, by loop, and procgen alone"
    return run_benchmark(chosen, "bridge", title, options, table)


if __name__ == "__main__":
    sys.exit(main())
