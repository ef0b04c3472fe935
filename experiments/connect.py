"""Ask when two copies of an agent stay connected: fork, train on, walk the line between the ends.

    python experiments/connect.py
    python experiments/connect.py --env pendulum --algo sac ddpg --buffers copy fresh shared split
    python experiments/connect.py --quick --env cartpole --algo ppo

Parents are ordinary runs, kept at the fork points; forks are runs that go on from there. Results
lie in --out; the same command goes on where it was interrupted.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from envs_jax import make_task
from jaxgen.results.lock import locked
from jaxgen.results.store import open_store
from jaxgen.running.command import BAD_INPUT, INTERRUPTED, Command, configure, run, stop_flag
from jaxgen.running.flags import add_running
from jaxgen.running.kinds.base import Derived, Kind
from jaxgen.running.kinds.matrix import KIND
from jaxgen.study.cards import ALGORITHM_CARDS, registry_name
from jaxgen.study.connect import POINTS, Forking, Walk, forks_of, pairs_of, parents_of
from jaxgen.study.product import Study, make_study
from jaxgen.study.settings import parse_settings, with_settings
from jaxgen.study.spec import Evaluation
from jaxgen.system.errors import BadInput
from jaxgen.system.streams import lasting_streams

OUT = "results-connect"
PARENTS, FORKS = "parents", "forks"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; argparse names what is allowed."""
    parser = argparse.ArgumentParser(
        prog="connect.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_study(parser.add_argument_group("what to run (default: SAC on Pendulum)"))
    _add_lines(parser.add_argument_group("forks and lines"))
    add_running(parser)
    parser.add_argument("--phase", choices=(PARENTS, FORKS), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.out = args.out or (f"{OUT}-quick" if args.quick else OUT)
    return args


def _add_study(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--env", nargs="+", default=["pendulum"], metavar="NAME")
    group.add_argument("--algo", nargs="+", default=["sac"], metavar="NAME",
                       help=f"algorithms and their presets: {', '.join(ALGORITHM_CARDS)}, ...")
    group.add_argument("--technique", nargs="+", default=["baseline"], metavar="NAME",
                       help="arms (default baseline)")
    group.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE",
                       help="hyper-parameters of every arm")
    seeds = group.add_mutually_exclusive_group()
    seeds.add_argument("--num-seeds", type=int, metavar="N", help="parents 0 .. N-1 (default 5)")
    seeds.add_argument("--seeds", nargs="+", type=int, metavar="S")
    seeds.add_argument("--seed", type=int, nargs="?", const=-1, metavar="S",
                       help="one parent; without a number a random one, which is printed")
    group.add_argument("--total-steps", type=int, metavar="N", help="budget of env steps")
    group.add_argument("--quick", action="store_true",
                       help="a minute, to see everything work; not a result")


def _add_lines(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--fork-points", type=_points, default=None, metavar="P,P,...",
                       help=f"shares of training (default {','.join(map(str, POINTS))})")
    group.add_argument("--buffers", nargs="+", default=["copy"], metavar="KIND",
                       help="what becomes of a replay: copy, fresh, fresh-batch, split, shared")
    group.add_argument("--forks", type=int, default=2, metavar="N",
                       help="forks of a parent at a point, in pairs (default 2)")
    group.add_argument("--alphas", type=int, default=None, metavar="N",
                       help="points of a line (default 101)")
    group.add_argument("--line-episodes", type=int, default=None, metavar="N",
                       help="episodes of each point and level (default 100)")
    group.add_argument("--line-levels", nargs="+", type=float, default=[0.0], metavar="V",
                       help="levels at which lines are walked (default 0)")


def _points(text: str) -> tuple[float, ...]:
    """Shares of training in words, for argparse."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; use shares with commas between them, as in 0.1,0.5"
        ) from None


def forking_of(args: argparse.Namespace) -> Forking:
    """The forks that a command line asks for."""
    if args.forks < 2 or args.forks % 2:
        raise BadInput(f"--forks {args.forks} is not allowed; use 2 or another even number")
    points = args.fork_points or ((0.25, 0.5) if args.quick else POINTS)
    return Forking(points, tuple(args.buffers), args.forks // 2)


def parents(args: argparse.Namespace) -> Study:
    """The study of the parents."""
    episodes = 20 if args.quick else 100
    study = make_study(
        [registry_name(name) for name in args.env], args.algo,
        with_settings(args.technique, parse_settings(args.set)), _seeds(args),
        evaluation=Evaluation(episodes=episodes, curve_episodes=10),
        total_steps=args.total_steps, quick=args.quick,
    )
    return parents_of(study, forking_of(args))


def _seeds(args: argparse.Namespace) -> list[int]:
    if args.seed is not None:
        return [args.seed]
    if args.seeds is not None:
        return args.seeds
    number = args.num_seeds or (2 if args.quick else 5)
    if number < 1:
        raise BadInput(f"--num-seeds {number} is not allowed; use 1 or more")
    return list(range(number))


def forks(args: argparse.Namespace) -> Study:
    """The study of the forks."""
    return forks_of(parents(args), forking_of(args))


def _derive_nothing(*_: object) -> Derived:
    return Derived([], [])


FORKED = Kind(KIND.finish, KIND.lost, _derive_nothing)
"""Forks and parents are evaluated as runs of the matrix are; tables are of lines."""


@lasting_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; for the exit code see `jaxgen.running.command`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    script = Path(__file__).resolve()
    try:
        args = parse(argv)
        if args.seed == -1:
            args.seed = random.SystemRandom().randrange(1, 1_000_000)
            argv = [*argv, "--seed", str(args.seed)]
            print(f"seed {args.seed}")
        walk = walk_of(args)
        forking = forking_of(args)
        forking.validate()
    except BadInput as error:
        print(f"{script.name}: {error}", file=sys.stderr)
        return BAD_INPUT
    for phase, study in ((PARENTS, parents), (FORKS, forks)):
        if args.phase in (None, phase):
            words = [*argv, "--phase", phase]
            code = run(Command(script, words, args, study, FORKED, make_task, lambda _: None))
            if code or args.status or args.evaluate:
                return code
    if args.phase is not None or args.list:
        return 0
    return _conclude(args, walk)


def walk_of(args: argparse.Namespace) -> Walk:
    """How a command line asks for lines to be walked."""
    walk = Walk(
        args.alphas or (11 if args.quick else 101),
        args.line_episodes or (8 if args.quick else 100), tuple(args.line_levels),
    )  # fmt: skip
    walk.validate()
    return walk


def _conclude(args: argparse.Namespace, walk: Walk) -> int:
    """Walk the lines, and write what follows from them."""
    from jaxgen.report.connectivity.outputs import write_connectivity

    store = open_store(args.out, create=False)
    pairs = pairs_of(parents(args), forking_of(args))
    with locked(store), stop_flag() as should_stop:
        if not args.analyze:
            configure(args)
            from jaxgen.running.kinds.connect import walk_lines

            if not walk_lines(store, pairs, walk, make_task, print, should_stop):
                print("stopped; the same command goes on")
                return INTERRUPTED
        print("\n".join(write_connectivity(store, not args.no_plots)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
