"""The algorithms learn: returns at level 0, baseline arm, greedy. Minutes, so they are marked slow.

Bounds are below what the full budgets reach in the mean of 10 seeds, so that a mean of a few
seeds passes and an algorithm that is broken does not: random play returns 22 on CartPole
and .33 on the grid.
"""

from typing import Any

import pytest

from envs_jax import make_task
from jaxgen import evaluate, train

pytestmark = pytest.mark.slow


def mean_return(environment: str, algorithm: str, num_seeds: int, **overrides: Any) -> float:
    """Mean of greedy returns at level 0 over 500 episodes of each seed."""
    task = make_task(environment)
    agents = train(task, algorithm, seeds=range(num_seeds), **overrides)
    returns = [evaluate(agent, task, [0], episodes=500).mean() for agent in agents]
    return sum(returns) / num_seeds


def test_ppo_balances_the_pole():
    """50 000 steps; 500 when this bound was set."""
    assert mean_return("cartpole", "ppo", 4) >= 400


def test_dqn_balances_the_pole():
    """50 000 steps; single seeds are far apart (385 to 461), 10 are expected to reach 300."""
    assert mean_return("cartpole", "dqn", 4) >= 250


def test_es_balances_the_pole():
    """1 M population steps; 500 when this bound was set."""
    assert mean_return("cartpole", "es", 4) >= 200


def test_grpo_balances_the_pole():
    """200 000 steps; 500 when this bound was set."""
    assert mean_return("cartpole", "grpo", 4, total_steps=200_000) >= 400


def test_ppo_walks_to_the_goal():
    """A fifth of its 1 M steps; .94 when this bound was set."""
    assert mean_return("minigrid", "ppo", 2, total_steps=200_000) >= 0.80


def test_es_walks_to_the_goal():
    """4 M population steps, half of its budget; .72 when this bound was set."""
    assert mean_return("minigrid", "es", 2, total_steps=4_000_000) >= 0.50
