"""The start of a run from another run's snapshot, as data."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from jaxgen.study.config import Config, OffPolicyConfig
from jaxgen.system.errors import BadInput

Replay = Literal["copy", "fresh", "fresh-batch", "split", "shared", "tandem"]
"""The replay that a fork begins with: all of it; nothing, and updates wait as long as they did at
the start of training, or until it holds a batch; the half of it that the other fork of its pair has
not; all of it, together with the other fork, which writes into it as well; or the same, and only
the first of them writes. Forks 1 and 2 are a pair, 3 and 4 the next."""
PAIRED: tuple[Replay, ...] = ("shared", "tandem")
"""Replays with which the forks of a pair train in lockstep."""
Noise = Literal["all", "data", "order", "none"]
"""Of what a fork draws random numbers of its own: of everything; of actions and environments; of
updates (minibatches, noise of losses); or of nothing. The rest are its parent's."""
MAX_FORK = 2**31 - 1


@dataclass(frozen=True)
class Fork:
    """A start from another run's snapshot, of the same seed."""

    run: str
    """The parent's run name."""
    share: float
    """The snapshot, as a share of the parent's training; 0: the start, where nothing is trained."""
    number: int
    """Enters the randomness of training from there on; 0 goes on exactly as the parent did (CrossQ,
    whose statistics XLA rounds otherwise in the program of forks: but for that)."""
    replay: Replay = "copy"
    noise: Noise = "all"
    perturbation: float = 0.0
    """Length of a random vector that is added to the parameters of the policy, as a share of
    theirs; its direction is the number's."""
    horizon: int = 0
    """Env steps that it trains for; 0: as long as its own budget says."""
    budget: int = 0
    """The parent's ``total_steps``, of which the share is; 0: the fork's own."""

    def validate(self) -> None:
        """Raise BadInput for a share outside of [0, 1], a negative number, another replay or noise,
        or a change that a start does not take."""
        if not 0 <= self.share <= 1:
            raise BadInput(f"share = {self.share!r} is not allowed; use one in [0, 1]")
        least = int(self.replay in PAIRED)
        if not least <= self.number <= MAX_FORK:
            raise BadInput(f"number = {self.number!r} is not allowed; use {least} to {MAX_FORK}")
        for name, kinds in (("replay", Replay), ("noise", Noise)):
            value = getattr(self, name)
            if value not in get_args(kinds):
                names = ", ".join(get_args(kinds))
                raise BadInput(f"{name} = {value!r} is not allowed; use one of {names}")
        if not 0 <= self.perturbation < math.inf:
            raise BadInput(
                f"perturbation = {self.perturbation!r} is not allowed; use a finite number, 0 or "
                "larger"
            )
        if self.perturbation and (self.share == 0 or self.replay != "copy"):
            raise BadInput(
                f"perturbation = {self.perturbation!r} is not allowed at the start of training or "
                "with another replay than a copy; use a share above 0, or none"
            )
        for name in ("horizon", "budget"):
            if getattr(self, name) < 0:
                raise BadInput(
                    f"{name} = {getattr(self, name)!r} is not allowed; use 0 or more env steps"
                )

    @property
    def member(self) -> int:
        """The number in its pair, 0 or 1."""
        return (self.number + 1) % 2

    @property
    def stream(self) -> int:
        """The number that enters its randomness: of forks in lockstep that of the first."""
        return self.number - self.member if self.replay in PAIRED else self.number

    def iteration(self, config: Config) -> int:
        """The number of its first iteration, by its own configuration."""
        return self._parents(config).iteration_at(self.share)

    def steps(self, config: Config) -> int:
        """Env steps that are done where it begins."""
        return self._parents(config).steps_at(self.share)

    def _parents(self, config: Config) -> Config:
        return dataclasses.replace(config, total_steps=self.budget or config.total_steps)

    def begun(self, config: Config) -> Config:
        """The configuration that goes on from here: it says what a replay holds, since when, and
        where training ends."""
        steps = self.steps(config)
        if self.horizon:
            config = dataclasses.replace(config, stop_steps=steps + self.horizon)
        if self.replay in ("copy", *PAIRED) or not isinstance(config, OffPolicyConfig):
            return config
        num = config.num_variations
        begins, warmup = steps, 0
        if self.replay == "fresh":
            warmup = config.learning_starts
        elif self.replay == "fresh-batch":
            warmup = num * config.batch_per_variation
        else:
            begins = steps - num * (min(steps // num, config.ring_size) // 2)
        return dataclasses.replace(config, replay_begins=begins, replay_warmup=warmup)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content; what came later is not there where it changes nothing."""
        values = dataclasses.asdict(self)
        later = {"noise": "all", "perturbation": 0.0, "horizon": 0, "budget": 0}
        return {name: value for name, value in values.items() if later.get(name, ()) != value}
