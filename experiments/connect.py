"""Ask when two copies of an agent stay connected: fork, train on, walk the line between the ends.

    python experiments/connect.py
    python experiments/connect.py --algo sac ddpg --buffers copy fresh split shared --num-seeds 10
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
from experiments.command_line import (
    add_study,
    left_out,
    load_plugins,
    parse_by,
    study_of,
    worker_argv,
)
from jaxgen.results.lock import locked
from jaxgen.results.store import open_store
from jaxgen.running.command import BAD_INPUT, INTERRUPTED, Command, configure, run, stop_flag
from jaxgen.running.flags import add_running
from jaxgen.running.kinds.matrix import KIND
from jaxgen.study.kinds.connect import (
    CONTROLS,
    POINTS,
    STRATEGIES,
    Forking,
    Walk,
    forks_of,
    pairs_of,
    parents_of,
)
from jaxgen.study.product import Study
from jaxgen.system.errors import BadInput
from jaxgen.system.streams import lasting_streams

OUT = "results-connect"
PARENTS, FORKS = "parents", "forks"
QUICK_POINTS, QUICK_WALK = (0.25, 0.5), Walk(11, 8)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; argparse names what is allowed.

    Raises:
      BadInput: a file cannot be read as a study.
    """
    parser = argparse.ArgumentParser(
        prog="connect.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    group = parser.add_argument_group("what to run (default: SAC on Pendulum, one arm)")
    seeds = add_study(group)
    seeds.add_argument("--seed", type=int, nargs="?", const=-1, metavar="S",
                       help="one parent; without a number a random one, which is printed")
    group.add_argument("--eval-freq", type=int, metavar="N",
                       help="env steps between points of learning curves")
    group.add_argument("--max-episode-steps", type=int, metavar="N",
                       help="time limit of an environment of Gymnasium")
    _add_forks(parser.add_argument_group("forks"))
    _add_lines(parser.add_argument_group("lines"))
    add_running(parser, evaluates=False)
    parser.add_argument("--phase", choices=(PARENTS, FORKS), help=argparse.SUPPRESS)
    parser.set_defaults(suite=None, eval_episodes=100, print_config=False)
    return parse_by(parser, argv, OUT)


def _add_forks(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--fork-points", type=_points, default=None, metavar="P,P,...",
                       help=f"shares of training (default {','.join(map(str, POINTS))})")
    group.add_argument("--buffers", nargs="+", default=["copy"], metavar="KIND",
                       help=f"what becomes of a replay: {', '.join(STRATEGIES)} (default copy)")
    group.add_argument("--controls", nargs="+", default=[], metavar="NAME",
                       help=f"pairs that say what a barrier is of: {', '.join(CONTROLS)}")
    group.add_argument("--forks", type=int, default=2, metavar="N",
                       help="forks of a parent at a point, in pairs (default 2)")
    group.add_argument("--horizon", type=_horizon, default=0, metavar="end|N",
                       help="env steps that forks train for (default end: as long as parents)")
    group.add_argument("--check", action="store_true",
                       help="train the parents alone, without a fork")


def _add_lines(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--alphas", type=int, metavar="N", help="points of a line (default 101)")
    group.add_argument("--episodes", type=int, metavar="N",
                       help="episodes of each point and level (default 100)")
    group.add_argument("--levels", nargs="+", type=float, default=[0.0], metavar="V",
                       help="levels at which lines are walked (default 0)")
    group.add_argument("--align", action="store_true",
                       help="walk to the second end with its hidden units in another order as well")
    group.add_argument("--layers", action="store_true", help="walk each layer alone as well")
    group.add_argument("--critics", action="store_true",
                       help="measure what judges actions along the line as well")


def _points(text: str) -> tuple[float, ...]:
    """Shares of training in words, for argparse."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; use shares with commas between them, as in 0.1,0.5"
        ) from None


def _horizon(text: str) -> int:
    """Env steps, 0 for the end of training, for argparse."""
    if text == "end":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use end, or 1 or more")
    return int(text)


def forking_of(args: argparse.Namespace) -> Forking:
    """The forks that a command line asks for."""
    if args.forks < 2 or args.forks % 2:
        raise BadInput(f"--forks {args.forks} is not allowed; use 2 or another even number")
    points = args.fork_points or (QUICK_POINTS if args.quick else POINTS)
    return Forking(
        points, tuple(args.buffers), args.forks // 2, tuple(args.controls), args.horizon
    )


def walk_of(args: argparse.Namespace) -> Walk:
    """How a command line asks for lines to be walked."""
    usual = QUICK_WALK if args.quick else Walk()
    walk = Walk(
        usual.num_alphas if args.alphas is None else args.alphas,
        usual.episodes if args.episodes is None else args.episodes,
        tuple(args.levels), args.align, args.layers, args.critics,
    )  # fmt: skip
    walk.validate()
    return walk


def parents(args: argparse.Namespace) -> Study:
    """The study of the parents."""
    asked = argparse.Namespace(**vars(args))
    if not args.env and not args.all:
        asked.env, asked.algo = ["pendulum"], args.algo or ["sac"]
    if not args.technique and args.suite is None:
        asked.technique = ["baseline"]
    if args.seed is not None:
        asked.seeds = [args.seed]
    elif not args.seeds and args.num_seeds is None:
        asked.num_seeds = 2 if args.quick else 5
    if args.eval_freq is not None:
        asked.set = [*args.set, f"curve_steps={args.eval_freq}"]
    if args.max_episode_steps is not None:
        asked.task = [*args.task, f"max_episode_steps={args.max_episode_steps}"]
    return parents_of(study_of(asked), forking_of(args))


def forks(args: argparse.Namespace) -> Study:
    """The study of the forks."""
    return forks_of(parents(args), forking_of(args))


@lasting_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; for the exit code see `jaxgen.running.command`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    script = Path(__file__).resolve()
    try:
        args = parse(argv)
        load_plugins(args)
        if args.seed == -1:
            args.seed = random.SystemRandom().randrange(1, 1_000_000)
            argv = [*argv, "--seed", str(args.seed)]
            print(f"seed {args.seed}")
        walk, forking = walk_of(args), forking_of(args)
        forking.validate()
    except BadInput as error:
        print(f"{script.name}: {error}", file=sys.stderr)
        return BAD_INPUT
    for phase, study in ((PARENTS, parents), (FORKS, forks)):
        if args.phase not in (None, phase) or args.check and phase == FORKS:
            continue
        words = [*worker_argv(argv, args), "--phase", phase]
        code = run(Command(script, words, args, study, KIND.as_step, make_task, left_out))
        if code or args.status:
            return code
    if args.phase is not None or args.list or args.check:
        return 0
    return _conclude(args, walk, script.name)


def _conclude(args: argparse.Namespace, walk: Walk, name: str) -> int:
    """Walk the lines, and write what follows from them."""
    from jaxgen.report.connectivity.outputs import write_connectivity

    store = open_store(args.out, create=False)
    pairs = pairs_of(parents(args), forking_of(args))
    with locked(store), stop_flag() as should_stop:
        if not args.analyze:
            configure(args)
            from jaxgen.running.kinds.connect import walk_lines

            try:
                done = walk_lines(store, pairs, walk, make_task, print, should_stop)
            except BadInput as error:
                print(f"{name}: {error}", file=sys.stderr)
                return BAD_INPUT
            if not done:
                print("stopped; the same command goes on")
                return INTERRUPTED
        print("\n".join(write_connectivity(store, not args.no_plots)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
