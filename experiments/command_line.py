"""The flags of matrix.py, and the study that they ask for."""

import argparse
from collections.abc import Sequence

from envs_jax import unavailable
from jaxgen.running.flags import add_running
from jaxgen.study.cards import ALGORITHM_CARDS, environment_card, environment_names
from jaxgen.study.cards.base import Listing
from jaxgen.study.presets import algorithm_names
from jaxgen.study.product import Study, make_study
from jaxgen.study.spec import Evaluation
from jaxgen.system.errors import BadInput
from jaxgen.system.values import whole
from jaxgen.techniques import SUITES

DEFAULT_SEEDS = (0, 1, 2)
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
    _add_study(parser.add_argument_group(
        "what to run (default: CartPole and the grid, everything)"
    ))  # fmt: skip
    add_running(parser)
    return parser.parse_args(argv)


def _add_study(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--suite", choices=tuple(SUITES), default="controls",
                       help="arms: controls = six with the control arms; specified = four; "
                            "rigorous = controls and the offered arms")
    group.add_argument("--algo", "--algo-only", nargs="+", metavar="NAME",
                       default=list(ALGORITHM_CARDS),
                       help=f"algorithms: {', '.join(algorithm_names())}")
    group.add_argument("--technique", nargs="+", metavar="NAME",
                       help="arms instead of a suite's, composed with + (gar+reg); behind an @, a "
                            "hyper-parameter of its own (gar@learning_rate=0.001@hidden=32x32)")
    group.add_argument("--env", "--env-only", nargs="+", metavar="NAME",
                       help=f"environments: {', '.join(_listed_names())} (default: "
                       f"{', '.join(environment_names(Listing.DEFAULT))}), or of the others "
                       f"{', '.join(environment_names(Listing.BY_NAME))}")
    group.add_argument("--all", action="store_true",
                       help=f"{', '.join(_listed_names())}, but for those that need something "
                            "that is not installed (some take hours on a CPU)")
    seeds = group.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", nargs="+", type=int, metavar="S", help="default: 0 1 2")
    seeds.add_argument("--num-seeds", type=int, metavar="N", help="seeds 0 .. N-1")
    group.add_argument("--total-steps", type=_whole, metavar="N",
                       help="budget of env steps of every run (ES: of its whole population)")
    group.add_argument("--eval-episodes", type=_whole, default=1000, metavar="N",
                       help="evaluation episodes per level (default 1000)")
    group.add_argument("--probe", action="store_true",
                       help="measure in every arm whether the variations' gradients agree (GAS); "
                            "runs with and without it are different ones")
    group.add_argument("--quick", action="store_true",
                       help="seconds of training to see everything work; not a result")


def _whole(text: str) -> int:
    """A whole number, 1e5 among them, for argparse."""
    try:
        number = whole(float(text)) if "e" in text.lower() else int(text)
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use a whole number")
    return number


def study_of(args: argparse.Namespace) -> Study:
    """Build the study that the command line asks for; BadInput says what is not allowed."""
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
    """Name those that are asked for; ``--all`` leaves out what cannot be trained here."""
    if not args.env:
        if not args.all:
            return environment_names(Listing.DEFAULT)
        return [name for name in _listed_names() if name not in unavailable()]
    for name in args.env:
        remedy = environment_card(name).task.missing()
        if remedy and not (args.list or args.analyze):
            raise BadInput(f"environment {name!r} cannot be played: {remedy}")
    return list(args.env)


def _listed_names() -> list[str]:
    """Names that ``--all`` asks for."""
    return environment_names(Listing.DEFAULT, Listing.ON_REQUEST)


def left_out(args: argparse.Namespace) -> str | None:
    """Say what --all leaves out on this machine, and why."""
    if not args.all:
        return None
    missing = unavailable()
    lines = [f"{name} is left out: {missing[name]}" for name in _listed_names() if name in missing]
    return "\n".join(lines) or None
