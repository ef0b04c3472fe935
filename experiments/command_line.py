"""The flags of matrix.py, and the study that they ask for."""

import argparse
from collections.abc import Sequence

from envs_jax import DEFAULT, ENVIRONMENTS, OTHERS, unavailable
from jaxgen.running.workers.settings import LAUNCHERS, Launch, read_settings
from jaxgen.study.config import PRESETS, algorithm_names
from jaxgen.study.product import Study, make_study
from jaxgen.study.spec import Evaluation
from jaxgen.system import platform
from jaxgen.system.errors import BadInput
from jaxgen.techniques import SUITES

DEFAULT_SEEDS = (0, 1, 2)
NUM_WORKERS = 2
DESCRIPTION = """Train the generalisation matrix: algorithms x techniques x environments x seeds.

    python experiments/matrix.py --vmap-seeds

Results lie in --out; the same command goes on where it was interrupted.
"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; argparse names what is allowed."""
    parser = argparse.ArgumentParser(
        prog="matrix.py", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    what = parser.add_argument_group("what to run (default: CartPole and the grid, everything)")
    what.add_argument("--suite", choices=tuple(SUITES), default="controls",
                      help="arms: controls = six with the control arms; specified = four; "
                           "rigorous = controls and the offered arms")
    what.add_argument("--algo", "--algo-only", nargs="+", default=list(PRESETS), metavar="NAME",
                      help=f"algorithms: {', '.join(algorithm_names())}")
    what.add_argument("--technique", nargs="+", metavar="NAME",
                      help="arms instead of a suite's, composed with + (gar+reg)")
    what.add_argument("--env", "--env-only", nargs="+", metavar="NAME",
                      help=f"environments: {', '.join(ENVIRONMENTS)} (default: "
                      f"{', '.join(DEFAULT)}), or another game of procgen")
    what.add_argument("--all", action="store_true", help="all three environments (starpilot needs "
                      "procgen, and hours on a CPU)")
    seeds = what.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", nargs="+", type=int, metavar="S", help="default: 0 1 2")
    seeds.add_argument("--num-seeds", type=int, metavar="N", help="seeds 0 .. N-1")
    what.add_argument("--total-steps", type=int, metavar="N",
                      help="budget of env steps of every run (ES: of its whole population)")
    what.add_argument("--eval-episodes", type=int, default=1000, metavar="N",
                      help="evaluation episodes per level (default 1000)")
    what.add_argument("--probe", action="store_true",
                      help="measure in every arm whether the variations' gradients agree (GAS); "
                           "runs with and without it are different ones")
    what.add_argument("--quick", action="store_true",
                      help="seconds of training to see everything work; not a result")
    how = parser.add_argument_group("how to run (changes no result)")
    how.add_argument("--vmap-seeds", action=argparse.BooleanOptionalAction, default=True,
                     help="all seeds in one program, or the same program seed by seed")
    how.add_argument("--lanes-per-program", type=_lanes, metavar="N",
                     help="runs (arm x seed) that train together; more are trained in turn "
                          "(default auto: as many as memory holds, on a CPU at most 9 a device)")
    how.add_argument("--bridge", choices=("callback", "loop"), default="callback",
                     help="how starpilot's games are stepped: from inside of the compiled program, "
                          "or by a Python loop")
    how.add_argument("--device", choices=platform.DEVICES, default="auto")
    how.add_argument("--devices", type=_positive, metavar="N",
                     help="split over so many devices (default: all; on a CPU one for each "
                             "core, at most 8)")
    how.add_argument("--out", default="results", metavar="DIR", help="results folder")
    how.add_argument("--fresh", action="store_true", help="discard the study's runs in --out first")
    how.add_argument("--checkpoint-seconds", type=float, default=30.0, metavar="S",
                     help="time between checkpoints (default 30)")
    how.add_argument("--no-plots", action="store_true", help="write no figures")
    how.add_argument("--tensorboard", action="store_true",
                     help="write event files for TensorBoard into DIR/tensorboard, a run per seed")
    how.add_argument("--wandb", nargs="?", const="offline", choices=("offline", "online"),
                     help="write Weights & Biases runs, a group per cell, into DIR/wandb (offline "
                          "unless online is given)")
    how.add_argument("--quiet", action="store_true", help="print notes and the summary only")
    how.add_argument("--allow-known-bad", action="store_true",
                     help="start on a CPU with a jaxlib that is known to be wrong there")
    _add_workers(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print the plan and stop")
    instead.add_argument("--analyze", action="store_true",
                         help="write all tables and figures from the files in --out; never train")
    instead.add_argument("--status", metavar="RESULTS",
                         help="print what is done, running, failed and missing in a results folder")
    return parser.parse_args(argv)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    workers = parser.add_argument_group("several processes (changes no result)")
    workers.add_argument("--launcher", choices=LAUNCHERS, default="inline",
                         help="train in this process, in workers on this machine, or in an array "
                              "of SLURM jobs; again: add workers to those that run")
    workers.add_argument("--workers", type=_positive, metavar="N",
                         help=f"how many workers local or slurm starts (default {NUM_WORKERS})")
    workers.add_argument("--isolated", action="store_true",
                         help="each compiled program in a process of its own, one after the other: "
                              "a crash or a lack of memory costs that one only")
    workers.add_argument("--submit", nargs="+", default=[], metavar="NAME=VALUE",
                         help="what submitit is to ask the cluster for, e.g. timeout_min=600 "
                              "slurm_partition=gpu gpus_per_node=1 cpus_per_task=8")
    workers.add_argument("--stale-seconds", type=float, default=120.0, metavar="S",
                         help="a worker that shows no sign of life for so long counts as dead, and "
                              "another takes its work (default 120)")
    workers.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    workers.add_argument("--unit", metavar="NAME", help=argparse.SUPPRESS)


def _lanes(text: str) -> int | None:
    """A number of lanes, or None for auto."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use 1 or more, or auto")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use 1 or more")
    return int(text)


def study_of(args: argparse.Namespace) -> Study:
    """The study that the command line asks for; ValueError says what is not allowed."""
    if args.env and args.all:
        raise BadInput("--env and --all exclude each other; give one")
    environments = _environments(args)
    if args.num_seeds is not None and args.num_seeds < 1:
        raise BadInput(f"--num-seeds {args.num_seeds} is not allowed; use 1 or more")
    seeds = range(args.num_seeds) if args.num_seeds else args.seeds or DEFAULT_SEEDS
    episodes = min(args.eval_episodes, 50) if args.quick else args.eval_episodes
    return make_study(
        environments, args.algo, args.technique or SUITES[args.suite], list(seeds),
        evaluation=Evaluation(episodes=episodes, curve_episodes=20 if args.quick else 100,
                              probe=args.probe),
        total_steps=args.total_steps, quick=args.quick,
    )


def _environments(args: argparse.Namespace) -> list[str]:
    """Those that are asked for; what cannot be trained here is left out of ``--all`` only."""
    if not args.env:
        return [name for name in ENVIRONMENTS if name not in unavailable()] if args.all else [
            *DEFAULT
        ]  # fmt: skip
    for name in args.env:
        if name not in ENVIRONMENTS and name not in OTHERS:
            raise BadInput(
                f"environment {name!r} is unknown; use one of {', '.join(ENVIRONMENTS)}, or of "
                f"procgen's other games {', '.join(OTHERS)}"
            )
        if name in unavailable() and not (args.list or args.analyze):
            raise BadInput(f"environment {name!r} cannot be played: {unavailable()[name]}")
    return list(args.env)


def launch_of(args: argparse.Namespace) -> Launch:
    """How its processes are to be started; ValueError says what is not allowed."""
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


def left_out(args: argparse.Namespace) -> str | None:
    """What --all leaves out on this machine, and why."""
    if args.all and "starpilot" in unavailable():
        return f"starpilot is left out: {unavailable()['starpilot']}"
    return None
