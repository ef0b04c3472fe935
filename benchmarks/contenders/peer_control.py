"""The peers' training of continuous control; every turn goes on from where the last one ended."""

# Peers live in an environment of their own.
# pyright: reportMissingImports=false

import importlib
from typing import Any

from worker import Run, timed

NUM_EPISODES = 128
"""Episodes of rejax's evaluation after a turn, which is not timed."""


def sb3(
    package: str, algorithm: str, environment: str, num_seeds: int, num_envs: int,
    begin_steps: int, turn_steps: int, normalize: bool, **settings: Any,
) -> tuple[Run, dict]:
    """Train by stable-baselines3 or SBX, which has its interface, on a task of Gymnasium.

    Seeds train in turn, so that one is timed. What torch computes is on one thread.

    Args:
      package: ``stable_baselines3`` or ``sbx``.
      algorithm: its class.
      environment: Gymnasium's name.
      num_seeds: how many would be trained.
      num_envs: stepped one after the other, as the packages do by default.
      begin_steps: before the first turn, with those that learn nothing.
      turn_steps: of a turn; both are whole iterations.
      normalize: observations and rewards, by their running statistics.
      **settings: hyper-parameters; activations and optimisers are the package's own.
    """
    import torch
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    peer = importlib.import_module(package)
    torch.set_num_threads(1)
    env = make_vec_env(environment, num_envs, seed=0)
    if normalize:
        env = VecNormalize(env, gamma=settings["gamma"])
    model = getattr(peer, algorithm)("MlpPolicy", env, device="cpu", seed=0, **settings)
    beginning, _ = timed(lambda: model.learn(begin_steps, reset_num_timesteps=False))
    reached: list[float] = []

    def run() -> dict[str, Any]:
        before = model.num_timesteps
        model.ep_info_buffer.clear()
        seconds, _ = timed(lambda: model.learn(turn_steps, reset_num_timesteps=False))
        returns = [float(episode["r"]) for episode in model.ep_info_buffer]
        if returns:
            reached.append(round(sum(returns) / len(returns), 1))
        steps = model.num_timesteps - before
        return {"steps": steps, "seconds": seconds, "return": reached[-1] if reached else None}

    return run, {
        "begin_seconds": beginning, "seeds_in_turn": num_seeds,
        "return_of": "training episodes that ended in the last turn with any, 100 at most",
    }


def rejax_sac(
    environment: str, num_seeds: int, begin_steps: int, turn_steps: int, **settings: Any
) -> tuple[Run, dict]:
    """Train by rejax's SAC, a turn in one program, without its evaluations, on a task of gymnax.

    Vectorised over seeds, it computes updates and throws them away where none is due. So seeds
    begin one after the other, and a single one is never vectorised.

    Args:
      environment: gymnax's name.
      num_seeds: trained together, on one device.
      begin_steps: of a seed before the first turn, with those that learn nothing.
      turn_steps: of a seed in a turn.
      **settings: hyper-parameters.
    """
    import jax
    from rejax import SAC
    from rejax.evaluate import evaluate

    algorithm = SAC.create(
        env=environment, skip_initial_evaluation=True, **settings
    ).replace(eval_callback=lambda algorithm, state, key: ())
    keys = jax.random.split(jax.random.key(0), num_seeds)
    states = jax.jit(jax.vmap(algorithm.init_state))(keys)

    def in_turn(function: Any) -> Any:
        return lambda states: jax.lax.map(function, states)

    over_seeds = jax.vmap if num_seeds > 1 else in_turn

    def compiled(num_steps: int, mapped: Any) -> Any:
        """A program of so many steps: states -> states."""
        chosen = algorithm.replace(total_timesteps=num_steps, eval_freq=num_steps)
        train = mapped(lambda state: chosen.train(train_state=state)[0])
        return jax.jit(train).lower(states).compile()

    def mean_return(state: Any) -> Any:
        env, params = algorithm.env, algorithm.env_params
        limit = params.max_steps_in_episode
        key = jax.random.key(1)
        act = algorithm.make_act(state)
        return evaluate(act, key, env, params, NUM_EPISODES, limit)[1].mean()

    compiling, (begin, go_on) = timed(
        lambda: (compiled(begin_steps, in_turn), compiled(turn_steps, over_seeds))
    )
    evaluated = jax.jit(over_seeds(mean_return))
    beginning, begun = timed(lambda: jax.block_until_ready(begin(states)))
    latest = [begun]

    def run() -> dict[str, Any]:
        seconds, latest[0] = timed(lambda: jax.block_until_ready(go_on(latest[0])))
        reached = float(evaluated(latest[0]).mean())
        return {"steps": num_seeds * turn_steps, "seconds": seconds, "return": round(reached, 1)}

    return run, {
        "begin_seconds": compiling + beginning, "compile_seconds": compiling, "num_devices": 1,
        "return_of": f"policies after the last turn, sampled, {NUM_EPISODES} episodes",
    }
