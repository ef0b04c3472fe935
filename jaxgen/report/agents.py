"""Figures of agents that were trained from Python, by the name of the arm that they are of."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.evaluation.agent import Agent
from jaxgen.report.style import (
    arm_styles,
    default_look,
    level_axis,
    mean_curve,
    smooth,
    steps_axis,
    subplots,
)
from jaxgen.system.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = 6.0, 3.8
"""Width and height in inches."""
SMOOTHED = 50
"""A training return is the mean over the last iterations, this part of all of them."""


@default_look()
def plot_degradation(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> "Figure":
    """Returns under growing shift: the mean over the agents of each arm, and its range.

    Args:
      scores: name of an arm -> what `jaxgen.compute_grs` gave of each agent, at the same levels.

    Raises:
      BadInput: there is nothing to draw, or levels differ.
    """
    _check_given(scores)
    levels = {tuple(score["levels"]) for arm in scores.values() for score in arm}
    if len(levels) > 1:
        raise BadInput(f"levels differ: {sorted(levels)}; compute all scores at the same ones")
    at = np.asarray(levels.pop())
    figure, axes = subplots(1, 1, *SIZE)
    axis, styles = axes[0, 0], arm_styles(scores)
    many = any(len(arm) > 1 for arm in scores.values())
    for name in scores:
        style = styles[name]
        returns = np.array([score["returns"] for score in scores[name]])
        mean = returns.mean(0)
        spread = np.maximum(0, [mean - returns.min(0), returns.max(0) - mean])
        axis.errorbar(
            at, mean, spread if len(returns) > 1 else None, color=style.color,
            marker=style.marker, linestyle=style.line, label=f"{name} (n={len(returns)})",
        )  # fmt: skip
    first = next(iter(scores.values()))[0]
    axis.plot(at, first["floor"], ":", color="grey", label="random play")
    axis.plot(at, first["ceiling"], "--", color="grey", label="ceiling")
    level_axis(axis, ())
    axis.set_ylabel("mean return (greedy)")
    figure.legend(frameon=False, loc="outside right center",
                  title="mean and range\nof the agents" if many else None)  # fmt: skip
    return figure


@default_look()
def plot_learning_curves(agents: Mapping[str, Sequence[Agent]]) -> "Figure":
    """Training returns against env steps: the mean over the agents of each arm, and each of them.

    Args:
      agents: name of an arm -> agents of `jaxgen.train`.

    Raises:
      BadInput: there is nothing to draw, or an agent that was loaded has no history.
    """
    _check_given(agents)
    figure, axes = subplots(1, 1, *SIZE)
    axis, styles = axes[0, 0], arm_styles(agents)
    for name in agents:
        style = styles[name]
        curves = [_curve(agent) for agent in agents[name]]
        for steps, returns in curves:
            axis.plot(steps, returns, color=style.color, linewidth=0.6, alpha=0.4)
        label = f"{name} (n={len(curves)})"
        axis.plot(*mean_curve(curves), color=style.color, linestyle=style.line, label=label)
    steps_axis(axis)
    axis.set_ylabel("mean return of the episodes that ended")
    figure.legend(frameon=False, loc="outside right center", title="mean, and each agent")
    return figure


def _curve(agent: Agent) -> tuple[np.ndarray, np.ndarray]:
    if "reward" not in agent.history:
        raise BadInput(
            f"the agent of {agent.technique} with seed {agent.seed} has no history; give agents "
            "as jaxgen.train returns them"
        )
    names = ("env_steps", "reward")
    steps, reward = (np.asarray(agent.history[name], np.float64) for name in names)
    return steps, smooth(reward, max(1, len(reward) // SMOOTHED))


def _check_given(arms: Mapping[str, Sequence[Any]]) -> None:
    if not arms or not all(len(arm) for arm in arms.values()):
        raise BadInput("there is nothing to draw; give a list for the name of each arm")
