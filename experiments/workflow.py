"""Train one algorithm on one environment from start to end, with checkpoints, curve and films.

    python experiments/workflow.py halfcheetah sac
    python experiments/workflow.py halfcheetah sac --total-steps 60000 --seeds 0 1 2
    python experiments/workflow.py halfcheetah sac --total-steps 120000 --resume
    python experiments/workflow.py cartpole ppo --hparams-from results-tuning/.../results.json

Results lie in --out, below ALGO_ENV/NAME; the same command goes on where it was interrupted.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from envs_jax import make_task
from experiments.command_line import (
    add_place,
    add_study,
    checked_name,
    left_out,
    load_plugins,
    parse_placed,
    study_of,
    worker_argv,
)
from jaxgen.results.lock import locked
from jaxgen.results.store import Store, open_store
from jaxgen.running.command import BAD_INPUT, Command, configure, run
from jaxgen.running.flags import add_running
from jaxgen.running.kinds.matrix import KIND
from jaxgen.study.kinds.search import best_settings
from jaxgen.study.kinds.workflow import CHECKPOINTS, continued, followed
from jaxgen.study.product import Study
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile
from jaxgen.system.streams import lasting_streams

OUT = "results-workflow"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; argparse names what is allowed.

    Raises:
      BadInput: a file cannot be read, or a name is given in two ways.
    """
    parser = argparse.ArgumentParser(
        prog="workflow.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_place(parser)
    add_study(parser.add_argument_group("what to run (default: the arm baseline, seed 0)"))
    group = parser.add_argument_group("its course")
    group.add_argument("--checkpoints", nargs="+", type=float, default=list(CHECKPOINTS),
                       metavar="SHARE",
                       help="shares of training after which the agent is evaluated and filmed "
                            "(default .25 .5 1)")
    group.add_argument("--eval-freq", type=int, default=0, metavar="N",
                       help="env steps between points of the learning curve, all environments "
                            "together (default: a twentieth of the budget)")
    group.add_argument("--hparams-from", type=Path, metavar="FILE",
                       help="hyper-parameters of a results.json by tune.py, those of --set count "
                            "more")
    group.add_argument("--resume", action="store_true",
                       help="go on from the end of the same run with a smaller budget")
    group.add_argument("--no-state", action="store_true",
                       help="keep no state at the end (with a replay of a million transitions "
                            "some 200 MB a seed), so that --resume cannot go on from it")
    group.add_argument("--name", default="", help="the folder's name (default: the run's hash)")
    add_running(parser, evaluates=False)
    args = parse_placed(parser, argv, OUT)
    if args.seeds is None and args.num_seeds is None:
        args.seeds = [0]
    args.name = checked_name(args.name)
    if args.hparams_from:
        args.set = [*best_settings(args.hparams_from, args.set), *args.set]
    return args


def course_of(args: argparse.Namespace) -> Study:
    """The study of the one arm that is followed.

    Raises:
      BadInput: it is not allowed, or there is nothing to go on from.
    """
    study = followed(
        study_of(args), tuple(args.checkpoints), args.eval_freq, not args.no_state
    )
    if not args.resume:
        return study
    (group,) = study.groups
    (spec,) = group.specs
    going_on = continued(spec, _known(args.out, group.seeds))
    if going_on is None:
        raise BadInput(
            f"{args.out} holds no run of {spec.experiment} with the same settings, a smaller "
            f"budget than {spec.config.total_steps} and its state for all of these seeds; "
            "leave out --resume"
        )
    return Study((dataclasses.replace(group, specs=(going_on,)),), study.left_out)


def _known(out: str, seeds: Sequence[int]) -> dict[str, dict]:
    """The specs, by name, of the runs in a folder whose ends are kept for all seeds; those that
    are damaged are left aside."""
    store, known = open_store(out, create=False), {}
    folder = store.path("runs")
    for run_folder in sorted(folder.iterdir()) if folder.is_dir() else ():
        ends = (store.seed_dir(run_folder.name, seed) / "snapshots" / "1" for seed in seeds)
        if not all(end.is_dir() for end in ends):
            continue
        try:
            known[run_folder.name] = store.read_spec(run_folder.name)
        except DamagedFile as damage:
            print(f"left aside: {damage}", file=sys.stderr)
    return known


@lasting_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; for the exit code see `jaxgen.running.command`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    script = Path(__file__).resolve()
    try:
        args = parse(argv)
        load_plugins(args)
        study = None if args.status else course_of(args)
        if study is not None and not args.list:
            _check_folder(args, study)
    except BadInput as error:
        print(f"{script.name}: {error}", file=sys.stderr)
        return BAD_INPUT
    words = worker_argv(argv, args)
    made = course_of if study is None else lambda _: study
    code = run(Command(script, words, args, made, KIND.as_step, make_task, left_out))
    if code or study is None or args.worker or args.list:
        return code
    return _conclude(args, study)


def _course(args: argparse.Namespace, study: Study):
    from jaxgen.report.practice.course import Course

    (group,) = study.groups
    return Course(group.specs[0], group.seeds, tuple(args.checkpoints), args.name)


def _check_folder(args: argparse.Namespace, study: Study) -> None:
    from jaxgen.report.practice.course import check_folder

    if Path(args.out).is_dir():
        check_folder(open_store(args.out), _course(args, study))


def _conclude(args: argparse.Namespace, study: Study) -> int:
    """Write the course's files."""
    configure(args)
    from jaxgen.report.practice.course import write_course

    store: Store = open_store(args.out, create=False)
    with locked(store):
        lines = write_course(store, _course(args, study), make_task, not args.no_plots)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
