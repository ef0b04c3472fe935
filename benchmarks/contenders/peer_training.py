"""The peers' training, as their documentation runs it."""

# Peers live in an environment of their own.
# pyright: reportMissingImports=false

import time
from functools import partial
from typing import Any

from worker import Run, timed

NUM_EPISODES = 128
"""Episodes of the evaluation after training, which is not timed."""


def rejax_ppo(num_seeds: int, total_steps: int, all_devices: bool, **ppo: Any) -> tuple[Run, dict]:
    """rejax's PPO, seeds vmapped; without its evaluations during training, which ours has none of.

    Args:
      num_seeds: trained together; padding to a multiple of the devices counts no steps.
      total_steps: per seed.
      all_devices: split the seeds over all devices, not leave them on one.
      **ppo: its hyper-parameters.
    """
    import jax
    from rejax import PPO
    from rejax.evaluate import evaluate

    from contenders.splitting import over_devices

    algorithm = PPO.create(
        env="CartPole-v1", total_timesteps=total_steps, eval_freq=total_steps,
        skip_initial_evaluation=True, **ppo,
    ).replace(eval_callback=lambda algorithm, state, key: ())
    devices = jax.devices()[: num_seeds if all_devices else 1]
    padded = num_seeds + -num_seeds % len(devices)
    keys = jax.random.split(jax.random.key(0), padded)
    train = over_devices(jax.vmap(lambda key: algorithm.train(key)[0]), devices)
    compiling, compiled = timed(lambda: jax.jit(train).lower(keys).compile())
    reached: list[float] = []

    def episode_returns(state: Any, key: Any) -> Any:
        act = algorithm.make_act(state)
        env, params = algorithm.env, algorithm.env_params
        return evaluate(act, key, env, params, NUM_EPISODES, params.max_steps_in_episode)[1]

    def run() -> dict[str, Any]:
        seconds, state = timed(lambda: jax.block_until_ready(compiled(keys)))
        if not reached:
            returns = jax.jit(jax.vmap(episode_returns))(state, keys)[:num_seeds]
            reached.append(float(returns.mean()))
        steps = num_seeds * int(state.global_step[0])
        return {"steps": steps, "seconds": seconds, "return": round(reached[0], 1)}

    return run, {
        "compile_seconds": compiling, "num_devices": len(devices),
        "return_of": f"final policies, sampled, {NUM_EPISODES} episodes",
    }


def evosax_es(
    num_seeds: int, num_generations: int, population: int, all_devices: bool
) -> tuple[Run, dict]:
    """evosax's Open_ES with gymnax's CartPole and a 64 x 64 tanh policy; live steps are counted."""
    import jax
    import jax.numpy as jnp
    import optax
    from evosax.algorithms import Open_ES
    from flax import linen

    from contenders.splitting import over_devices

    # Initialised as ours: with its default it stays up longer from the first generation on.
    hidden = partial(linen.Dense, 64, kernel_init=linen.initializers.orthogonal(2**0.5))
    head = linen.Dense(2, kernel_init=linen.initializers.orthogonal(1.0))
    network = linen.Sequential([hidden(), jnp.tanh, hidden(), jnp.tanh, head])
    solution = network.init(jax.random.key(0), jnp.zeros(4))
    strategy = Open_ES(
        population, solution, optimizer=optax.adam(0.03),
        std_schedule=optax.constant_schedule(0.1),
    )
    params = strategy.default_params

    episode = _gymnax_episode(network)

    def generation(state: Any, key: Any) -> tuple[Any, Any]:
        ask_key, tell_key, episode_key = jax.random.split(key, 3)
        members, state = strategy.ask(ask_key, state, params)
        keys = jnp.broadcast_to(episode_key, (population,))
        fitness: Any = jax.vmap(episode)(members, keys)
        state, _ = strategy.tell(tell_key, members, -fitness, state, params)
        return state, fitness.sum()

    def train(key: Any) -> tuple[Any, Any]:
        state = strategy.init(key, solution, params)
        state, live = jax.lax.scan(generation, state, jax.random.split(key, num_generations))
        return strategy.get_mean(state), live

    devices = jax.devices()[: num_seeds if all_devices else 1]
    keys = jax.random.split(jax.random.key(1), num_seeds + -num_seeds % len(devices))
    over_seeds = over_devices(jax.vmap(train), devices)
    compiling, compiled = timed(lambda: jax.jit(over_seeds).lower(keys).compile())
    episode_keys = jax.random.split(jax.random.key(2), NUM_EPISODES)
    reached: list[float] = []

    def run() -> dict[str, Any]:
        seconds, (policies, live) = timed(lambda: jax.block_until_ready(compiled(keys)))
        if not reached:
            episodes = jax.vmap(jax.vmap(episode, (None, 0)), (0, None))
            returns: Any = jax.jit(episodes)(policies, episode_keys)
            reached.append(float(returns[:num_seeds].mean()))
        steps = int(live[:num_seeds].sum())
        return {"steps": steps, "seconds": seconds, "return": round(reached[0], 1)}

    return run, {
        "compile_seconds": compiling, "num_devices": len(devices),
        "return_of": f"final policies, greedy, {NUM_EPISODES} episodes",
    }


def _gymnax_episode(network: Any) -> Any:
    """The function (policy, key) -> return of an episode of gymnax's CartPole, up to 500 steps."""
    import gymnax
    import jax
    import jax.numpy as jnp

    env, env_params = gymnax.make("CartPole-v1")

    def act(policy: Any, obs: Any) -> Any:
        values: Any = network.apply(policy, obs)
        return values.argmax(-1)

    def episode(policy: Any, key: Any) -> Any:
        """One member's return, which on CartPole is its number of live steps."""
        reset_key, step_key = jax.random.split(key)
        obs, state = env.reset(reset_key, env_params)

        def step(carry: Any, key: Any) -> tuple[Any, Any]:
            obs, state, alive = carry
            action = act(policy, obs)
            obs, state, reward, terminated, truncated, _ = env.step(key, state, action, env_params)
            return (obs, state, alive & ~(terminated | truncated)), reward * alive

        carry = obs, state, jnp.array(True)
        return jax.lax.scan(step, carry, jax.random.split(step_key, 500))[1].sum()

    return episode


def sb3(
    algorithm: str, num_seeds: int, total_steps: int, num_envs: int, activation: str,
    **settings: Any,
) -> tuple[Run, dict]:
    """stable-baselines3 on Gymnasium's CartPole; its seeds train in turn, so that one is timed.

    On one thread, which for networks of this size is faster than several.
    """
    import stable_baselines3 as peer
    import torch
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    torch.set_num_threads(1)
    policy = {
        "net_arch": [64, 64],
        "activation_fn": {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[activation],
    }
    turns: list[int] = []
    reached: list[float] = []

    def run() -> dict[str, Any]:
        env = make_vec_env("CartPole-v1", num_envs, seed=len(turns))
        model = getattr(peer, algorithm)(
            "MlpPolicy", env, policy_kwargs=policy, device="cpu", seed=len(turns), **settings
        )
        start = time.perf_counter()
        model.learn(total_steps)
        seconds = time.perf_counter() - start
        turns.append(len(turns))
        if not reached:
            returns: Any = evaluate_policy(model, env, NUM_EPISODES)[0]
            reached.append(float(returns))
        steps = model.num_timesteps
        return {"steps": steps, "seconds": seconds, "return": round(reached[0], 1)}

    return run, {
        "compile_seconds": 0.0, "seeds_in_turn": num_seeds,
        "return_of": f"one policy, greedy, {NUM_EPISODES} episodes",
    }
