"""Train the generalisation matrix: algorithms x techniques x environments x seeds.

    python experiments/matrix.py --vmap-seeds

Results lie in --out; the same command goes on where it was interrupted.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from envs_jax import DEFAULT, ENVIRONMENTS, OTHERS, make_task, unavailable
from jaxgen import platform
from jaxgen.config import PRESETS, algorithm_names
from jaxgen.plan import describe_plan
from jaxgen.store import Store, StoreError, locked, open_store
from jaxgen.study import Evaluation, Study, make_study
from jaxgen.techniques import SUITES

DEFAULT_SEEDS = (0, 1, 2)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; argparse names what is allowed."""
    parser = argparse.ArgumentParser(
        prog="matrix.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
                          "(default auto: as many as memory holds, on a CPU at most 9 a core)")
    how.add_argument("--bridge", choices=("callback", "loop"), default="callback",
                     help="how starpilot's games are stepped: from inside of the compiled program, "
                          "or by a Python loop")
    how.add_argument("--device", choices=platform.DEVICES, default="auto")
    how.add_argument("--out", default="results", metavar="DIR", help="results folder")
    how.add_argument("--fresh", action="store_true", help="discard the study's runs in --out first")
    how.add_argument("--checkpoint-seconds", type=float, default=30.0, metavar="S",
                     help="time between checkpoints (default 30)")
    how.add_argument("--no-plots", action="store_true", help="write no figures")
    how.add_argument("--quiet", action="store_true", help="print notes and the summary only")
    how.add_argument("--allow-known-bad", action="store_true",
                     help="start on a CPU with a jaxlib that is known to be wrong there")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print the plan and stop")
    instead.add_argument("--analyze", action="store_true",
                         help="write all tables and figures from the files in --out; never train")
    return parser.parse_args(argv)


def _lanes(text: str) -> int | None:
    """A number of lanes, or None for auto."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use 1 or more, or auto")
    return int(text)


def study_of(args: argparse.Namespace) -> Study:
    """The study that the command line asks for; ValueError says what is not allowed."""
    if args.env and args.all:
        raise ValueError("--env and --all exclude each other; give one")
    environments = _environments(args)
    if args.num_seeds is not None and args.num_seeds < 1:
        raise ValueError(f"--num-seeds {args.num_seeds} is not allowed; use 1 or more")
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
            raise ValueError(
                f"environment {name!r} is unknown; use one of {', '.join(ENVIRONMENTS)}, or of "
                f"procgen's other games {', '.join(OTHERS)}"
            )
        if name in unavailable() and not (args.list or args.analyze):
            raise ValueError(f"environment {name!r} cannot be played: {unavailable()[name]}")
    return list(args.env)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 2 for bad input, 130 when interrupted."""
    args = parse(argv)
    try:
        return _run(args)
    except (ValueError, StoreError) as error:
        print(f"matrix.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"matrix.py: stopped at once; {_how_to_go_on(args)}", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    study = study_of(args)
    if args.all and "starpilot" in unavailable():
        print(f"starpilot is left out: {unavailable()['starpilot']}")
    if args.list:
        print(describe_plan(study))
        return 0
    if args.analyze:
        store = open_store(args.out, create=False)
        with locked(store):
            _conclude(args, store, study)
        return 0
    platform.configure(args.device, allow_known_bad=args.allow_known_bad)
    store = open_store(args.out)
    with locked(store):
        return _train(args, study, store)


def _train(args: argparse.Namespace, study: Study, store: Store) -> int:
    from jaxgen.console import Console
    from jaxgen.runner import run_study
    from jaxgen.session import Interrupted, Options

    began = time.perf_counter()
    backend = platform.confirm_backend(args.device, args.allow_known_bad)
    console = Console(args.quiet)
    counts = f"{study.num_runs} runs ({study.num_trained} trained)"
    console.note(f"{counts} on {backend}, into {args.out}")
    if study.left_out:
        console.note(f"not defined, left out: {', '.join(study.left_out)}")
    if args.quick:
        console.note("QUICK: seconds of training, not a result")
    try:
        with _stop_flag() as should_stop:
            options = Options(
                vmap_seeds=args.vmap_seeds, checkpoint_seconds=args.checkpoint_seconds,
                fresh=args.fresh, should_stop=should_stop, bridge=args.bridge,
                max_lanes=args.lanes_per_program,
            )
            run_study(study, store, make_task, console, options)
    except Interrupted as interrupted:
        console.note(f"{interrupted}; {_how_to_go_on(args)}")
        return 130
    platform.seal_cache()
    _conclude(args, store, study)
    print(f"Finished in {time.perf_counter() - began:.0f} s")
    return 0


def _how_to_go_on(args: argparse.Namespace) -> str:
    without = " without --fresh" if args.fresh else ""
    return f"the same command{without} goes on from the last checkpoint"


@contextmanager
def _stop_flag() -> Iterator[Callable[[], bool]]:
    """Ctrl-C or SIGTERM sets a flag, which is read between chunks; a second one stops at once."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this chunk (again: at once)\n")

    handlers = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _conclude(args: argparse.Namespace, store: Store, study: Study) -> None:
    """Write all tables and figures, print the summary and where everything is."""
    from jaxgen.outputs import write_outputs

    plan = [
        (spec.name, seed)
        for group in study.groups
        for spec in (*group.specs, *group.aliases)
        for seed in group.seeds
    ]
    _, damaged = write_outputs(store, plan, plots=not args.no_plots)
    for line in damaged:
        print(f"damaged, not read: {line}", file=sys.stderr)
    print(store.path("experiment_summary.txt").read_text())
    for name, what in (
        ("experiment_summary.md", "tables"), ("results.csv", "a row per run, level and mode"),
        ("plots", "figures"), ("best_models", "agents: jaxgen.load_agent"), ("runs", "raw results"),
    ):
        if store.path(name).exists():
            print(f"  {what:32s} {store.path(name)}")


if __name__ == "__main__":
    sys.exit(main())
