"""The flags that say how a study is run, alike for every kind of study; none changes a result."""

import argparse

from jaxgen.running.workers.settings import LAUNCHERS, Launch, read_settings
from jaxgen.system import platform
from jaxgen.system.errors import BadInput

NUM_WORKERS = 2
"""Workers unless ``--workers`` says how many."""


INSTEAD = ("list", "analyze", "status", "evaluate", "levels", "episodes", "per_episode")
"""Flags that ask for something else than a run, or say what of it."""


def add_running(parser: argparse.ArgumentParser, evaluates: bool = True) -> None:
    """Add the flags of this module to a parser; those of ``--evaluate`` where a command has it."""
    programs = parser.add_argument_group("how to run (changes no result)")
    _add_programs(programs)
    _add_machine(programs)
    _add_output(programs)
    _add_workers(parser.add_argument_group("several processes (changes no result)"))
    instead = parser.add_argument_group("something else than a run")
    either = instead.add_mutually_exclusive_group()
    _add_instead(either)
    if not evaluates:
        parser.set_defaults(evaluate=None)
        return
    either.add_argument("--evaluate", metavar="RESULTS",
                        help="let all agents of a results folder play --levels again; never train")
    instead.add_argument("--levels", nargs="+", type=float, metavar="V",
                         default=[0.0, 0.25, 0.5, 0.75, 1.0],
                         help="of --evaluate, in [0, 1] (default 0 .25 .5 .75 1)")
    instead.add_argument("--episodes", type=_positive, default=1000, metavar="N",
                         help="of --evaluate, for each level (default 1000)")
    instead.add_argument("--per-episode", action="store_true",
                         help="with --evaluate: write the return of every episode, too")


def _add_programs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--vmap-seeds", action=argparse.BooleanOptionalAction, default=True,
                       help="all seeds in one program, or the same program seed by seed")
    group.add_argument("--lanes-per-program", type=_lanes, metavar="N",
                       help="runs (arm x seed) that train together; more are trained in turn "
                            "(default auto: as many as memory holds, on a CPU at most 9 a device)")
    group.add_argument("--bridge", choices=("callback", "loop", "steps"),
                       help="how starpilot's games are stepped: from inside of the compiled "
                            "program, or by a Python loop")


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", choices=platform.DEVICES, default="auto")
    group.add_argument("--devices", type=_positive, metavar="N",
                       help="split over so many devices (default: all; on a CPU one for each "
                            "core, at most 8)")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", metavar="DIR",
                       help="results folder (default: results, with --quick results-quick)")
    group.add_argument("--fresh", action="store_true",
                       help="discard the study's runs in --out first")
    group.add_argument("--accept", action="store_true",
                       help="train on where code has changed since the first seeds of a run")
    group.add_argument("--checkpoint-seconds", type=_seconds, default=30.0, metavar="S",
                       help="time between checkpoints (default 30)")
    group.add_argument("--agents", action=argparse.BooleanOptionalAction, default=True,
                       help="keep what every run trained, in its folder's agent.npz; or, of "
                            "hundreds of runs, the best agents only")
    group.add_argument("--no-plots", action="store_true", help="write no figures")
    group.add_argument("--tensorboard", action="store_true",
                       help="write event files for TensorBoard into DIR/tensorboard, a run per "
                            "seed")
    group.add_argument("--wandb", nargs="?", const="offline", choices=("offline", "online"),
                       help="write Weights & Biases runs, a group per cell, into DIR/wandb "
                            "(offline unless online is given)")
    group.add_argument("--quiet", action="store_true", help="print notes and results only")
    group.add_argument("--verbose", action="store_true",
                       help="print reward, loss and agreement of every arm as it trains")
    group.add_argument("--allow-known-bad", action="store_true",
                       help="start on a CPU with a jaxlib that is known to be wrong there")


def _add_workers(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--launcher", choices=LAUNCHERS, default="inline",
                       help="train in this process, in workers on this machine, or in an array "
                            "of SLURM jobs; again: add workers to those that run")
    group.add_argument("--workers", type=_positive, metavar="N",
                       help=f"how many workers local or slurm starts (default {NUM_WORKERS})")
    group.add_argument("--isolated", action="store_true",
                       help="each compiled program in a process of its own, one after the other: "
                            "a crash or a lack of memory costs that one only")
    group.add_argument("--submit", nargs="+", default=[], metavar="NAME=VALUE",
                       help="what submitit is to ask the cluster for, e.g. timeout_min=600 "
                            "slurm_partition=gpu gpus_per_node=1 cpus_per_task=8")
    group.add_argument("--stale-seconds", type=float, default=120.0, metavar="S",
                       help="a worker that shows no sign of life for so long counts as dead, and "
                            "another takes its work (default 120)")
    group.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    group.add_argument("--unit", metavar="NAME", help=argparse.SUPPRESS)


def _add_instead(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument("--list", action="store_true", help="print the plan and stop")
    group.add_argument("--analyze", action="store_true",
                       help="write all tables and figures from the files in --out; never train")
    group.add_argument("--status", metavar="RESULTS",
                       help="print what is done, running, failed and missing in a results folder")


def _lanes(text: str) -> int | None:
    """A number of lanes, or None for auto."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use 1 or more, or auto")
    return int(text)


def _seconds(text: str) -> float:
    """A time of 0 or longer, for argparse."""
    if not (value := float(text)) >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use 0 or more seconds")
    return value


def _positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use 1 or more")
    return int(text)


def launch_of(args: argparse.Namespace) -> Launch:
    """Read how processes are to be started.

    Raises:
      BadInput: flags exclude each other, or a value is not allowed.
    """
    if args.isolated and args.launcher != "inline":
        raise BadInput(f"--isolated and --launcher {args.launcher} exclude each other; give one")
    if args.submit and args.launcher == "inline":
        raise BadInput("--submit asks a cluster for something; give --launcher slurm with it")
    if args.workers is not None and args.launcher == "inline":
        raise BadInput(
            f"--workers {args.workers} is not allowed with --launcher inline or --isolated, which "
            "have no workers side by side; give --launcher local or slurm with it"
        )
    how = Launch(args.launcher, args.workers or NUM_WORKERS, args.isolated, args.stale_seconds,
                 read_settings(args.submit))
    how.validate()
    return how
