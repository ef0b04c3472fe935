"""Output for a person while a study runs: a live progress line, log lines, notes."""

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

import numpy as np

from jaxgen.running.reporter import History, Lane
from jaxgen.study.spec import RunSpec

PLAIN_SECONDS, LONG_SECONDS = 15.0, 600.0
"""Where there is no terminal to redraw a progress line on: the least time between two lines, which
say what begins or that half of the work is done, and the time after which there is one anyway."""


class Console:
    """A `jaxgen.running.reporter.Reporter`.

    Args:
      quiet: keep notes and drop the rest.
      verbose: print a line for each arm at each point of the learning curves, too.
      stream: where to; None: the standard output.
    """

    def __init__(
        self, quiet: bool = False, verbose: bool = False, stream: TextIO | None = None
    ):
        self._quiet, self._verbose = quiet, verbose
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        self._pending = 0
        """Lines on the screen that the next ones replace."""
        self._last = time.monotonic()
        self._headline = ""
        self._said: tuple[str, int] | None = None
        """What the last plain line was of; None: before the first."""

    def note(self, text: str) -> None:
        """Print a line."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def progress(self, label: str, env_steps: float, total: float, rate: float) -> None:
        """Redraw the progress line, or print one now and then."""
        line = progress_line(label, env_steps, total, rate)
        self._redraw(line, (label, 1) if 2 * env_steps >= total else None)

    def stage(self, text: str) -> None:
        """Redraw the progress line, or print one if the last was a while ago; the first always."""
        if self._said is None:
            self._last -= PLAIN_SECONDS
        self._redraw(text, (text, 0))

    def _redraw(self, line: str, part: tuple[str, int] | None) -> None:
        """Replace the line, or print it where it is due; ``part`` None: after a long time alone."""
        if self._quiet:
            return
        if self._live:
            self._pending = max(1, self._pending)
            self._clear()
            print(line, end="", file=self._stream, flush=True)
            self._pending = 1
        elif self._is_due(part):
            print(line, file=self._stream, flush=True)

    def _is_due(self, part: tuple[str, int] | None) -> bool:
        """Whether a plain line is to be printed; if so, it is remembered."""
        seconds = time.monotonic() - self._last
        is_new = part is not None and part != self._said
        if (is_new and seconds >= PLAIN_SECONDS) or seconds >= LONG_SECONDS:
            self._last, self._said = time.monotonic(), part or self._said
            return True
        return False

    def curve(self, label: str, lanes: list[Lane], history: History) -> None:
        """Print a log line for each arm, if that was asked for."""
        if self._verbose and not self._quiet:
            for line in log_lines(lanes, history):
                self.note(line)

    def view(self, lines: list[str]) -> None:
        """Redraw a few lines, or print them now and then, and whenever the first one changes."""
        if self._quiet or not lines:
            return
        if self._live:
            self._clear()
            width = shutil.get_terminal_size().columns
            print("\n".join(line[: width - 1] for line in lines), end="", file=self._stream,
                  flush=True)
            self._pending = len(lines)
        elif lines[0] != self._headline or time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last, self._headline = time.monotonic(), lines[0]
            print("\n".join(lines), file=self._stream, flush=True)

    def _clear(self) -> None:
        if self._pending:
            print("\r\x1b[2K" + "\x1b[1A\x1b[2K" * (self._pending - 1), end="", file=self._stream)
            self._pending = 0


def progress_line(label: str, env_steps: float, total: float, rate: float) -> str:
    """``ppo cartpole   45 %  1.2 M steps/s  ETA 0:13``; steps are those of all lanes."""
    share, eta = min(1.0, env_steps / total), _eta(env_steps, total, rate)
    return f"{label}  {100 * share:3.0f} %  {speed(rate)}  ETA {eta}"


def speed(rate: float) -> str:
    """``1.25 M steps/s``, and ``199 steps/s`` of what learns with every step."""
    return f"{rate:.0f} steps/s" if 0 < rate < 1e4 else f"{rate / 1e6:.3g} M steps/s"


def _eta(env_steps: float, total: float, rate: float) -> str:
    if rate <= 0:
        return "?"
    # A population may step beyond its budget.
    return duration(max(0.0, total - env_steps) / rate)


def duration(seconds: float) -> str:
    """``0:13``, or ``2:46:40`` from an hour on."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def log_lines(lanes: Sequence[Lane], history: History) -> list[str]:
    """One line per arm: means over its seeds since the last point of the learning curve.

    Args:
      lanes: (arm, seed) of each row.
      history: metrics ``[L, I]`` and learning-curve points ``[L, C]``.
    """
    arms = {spec.name: spec for spec, _ in lanes}
    rows = {name: [i for i, (spec, _) in enumerate(lanes) if spec.name == name] for name in arms}
    return [_log_line(arms[name], np.asarray(rows[name]), history) for name in arms]


def _log_line(spec: RunSpec, rows: np.ndarray, history: History) -> str:
    window = slice(-spec.config.curve_iterations, None)

    def mean(name: str) -> float | None:
        values = history[name][rows, window]
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if len(finite) else None

    steps = int(history["env_steps"][rows, -1].mean())
    parts = [
        f"{spec.algorithm} {spec.environment} {spec.arm} (n={len(rows)}): Step {steps}",
        f"Reward: {_number(mean('reward'), '.4g')}",
        f"Loss: {_number(mean('loss'), '.3g')}",
    ]
    agreement = mean("agree_pair")
    if spec.technique_values.compares_variations and agreement is not None:
        parts.append(f"GAR Agree: {max(0.0, agreement):.3f}")
    parts.append(f"Eval: {history['eval_return'][rows, -1].mean():.4g}")
    updated = history["updates"][rows, window] > 0
    num_diverged = (updated & np.isnan(history["loss"][rows, window])).any(1).sum()
    if num_diverged:
        parts.append(f"Diverged: {num_diverged}")
    return " | ".join(parts)


def _number(value: float | None, form: str) -> str:
    """A number, or a dash where nothing was measured: no episode ended, no update was made."""
    return "-" if value is None else format(value, form)
