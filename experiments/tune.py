"""Search for hyper-parameters: trials as lanes of one program, several seeds each, a verdict.

    python experiments/tune.py cartpole ppo --search learning_rate=log:1e-4..1e-2 --trials 20
    python experiments/tune.py halfcheetah sac --total-steps 30000 --trials 20 \\
        --search learning_rate=log:1e-4..3e-3 batch_size=128,160,192,224,256 gamma=0.99..0.997
    python experiments/tune.py halfcheetah sac --total-steps 30000 --trials 10 \\
        --refine results-tuning/SAC_HalfCheetah/NAME/results.json --only learning_rate

Trials that differ in numbers alone are lanes of one program. At the end the best trial and the
default are trained again on seeds that no trial had, and compared. Results lie in --out, below
ALGO_ENV/NAME; the same command goes on where it was interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from jaxgen.results.store import Store, open_store
from jaxgen.running.command import BAD_INPUT, Command, run
from jaxgen.running.flags import add_running
from jaxgen.running.kinds import tune
from jaxgen.running.kinds.matrix import KIND
from jaxgen.running.kinds.tune import LOG, MakeStudy, Search, State
from jaxgen.study.cards import algorithm_title, figure_title, place_folder
from jaxgen.study.config import OffPolicyConfig
from jaxgen.study.kinds.proposals import SAMPLERS, check_sampler
from jaxgen.study.kinds.search import (
    BEST,
    Plan,
    best_trial,
    narrowed,
    parse_space,
    read_results,
    space_text,
)
from jaxgen.study.product import Study, check_seeds
from jaxgen.study.settings import parse_settings, with_settings
from jaxgen.study.spec import RunSpec
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, content_hash
from jaxgen.system.streams import lasting_streams

OUT = "results-tuning"
FIRST_TEST_SEED = 1000
"""Test seeds follow from here on, as no study begins there."""
NARROW = 0.3
"""Share of a range that ``--refine`` searches."""


class Asked(NamedTuple):
    """A command line as a search, and its folder."""

    search: Search
    make_study: MakeStudy
    identity: dict[str, Any]
    folder: str

    def log_path(self, store_root: Path) -> Path:
        """The search's log."""
        return store_root / self.folder / LOG


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; argparse names what is allowed.

    Raises:
      BadInput: a file cannot be read, or a name is given in two ways.
    """
    parser = argparse.ArgumentParser(
        prog="tune.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_place(parser)
    add_study(parser.add_argument_group("what trials are (default: the arm baseline, seeds 0 1 2)"))
    _add_search(parser.add_argument_group("the search"))
    add_running(parser, evaluates=False)
    args = parse_placed(parser, argv, OUT)
    if len(args.technique) > 1:
        raise BadInput(f"one arm is tuned at a time, not {' and '.join(args.technique)}")
    return args


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--search", nargs="+", default=[], metavar="FIELD=VALUE",
                       help="fields with their ranges (gamma=0.9..0.999, by its logarithm "
                            "learning_rate=log:1e-4..1e-2) or alternatives (batch_size=64,128)")
    group.add_argument("--space", type=Path, metavar="FILE",
                       help="the same, a word a line")
    group.add_argument("--refine", type=Path, metavar="FILE",
                       help="search around the best trial of a results.json")
    group.add_argument("--only", nargs="+", default=[], metavar="FIELD",
                       help="of --refine: what is searched again; the rest is as it was best")
    group.add_argument("--trials", type=int, default=20, metavar="N", help="default 20")
    group.add_argument("--batch", type=int, default=10, metavar="N",
                       help="trials that are chosen, and train, together (default 10)")
    group.add_argument("--sampler", default="tpe", choices=SAMPLERS,
                       help="tpe (by Optuna), random, grid, or pbt: a population whose members "
                            "copy each other while they train (default tpe)")
    group.add_argument("--sampler-seed", type=int, default=0, metavar="S")
    group.add_argument("--pruner", default="none", choices=("none", "median", "halving"),
                       help="gives up trials at the points of their learning curves")
    group.add_argument("--evals-per-trial", type=int, default=2, metavar="N",
                       help="points of a trial's learning curve (default 2)")
    group.add_argument("--value", default="last", choices=("last", "mean"),
                       help="what a trial is worth: the return at the last point, or over all")
    group.add_argument("--test-seeds", type=int, default=10, metavar="N",
                       help="seeds of the verdict, from 1000 on; 0: no verdict (default 10)")
    group.add_argument("--test-episodes", type=int, default=20, metavar="N",
                       help="evaluation episodes of the verdict (default 20)")
    group.add_argument("--name", default="", help="the folder's name (default: a hash)")


def asked_of(args: argparse.Namespace) -> Asked:
    """The search that a command line asks for.

    Raises:
      BadInput: it is not allowed.
    """
    seeds = tuple(range(args.num_seeds)) if args.num_seeds else tuple(args.seeds or (0, 1, 2))
    test_seeds = tuple(range(FIRST_TEST_SEED, FIRST_TEST_SEED + max(0, args.test_seeds)))
    _check_numbers(args, seeds, test_seeds)
    base = _settings(args)
    make_study = _maker(args, base)
    study = make_study(args.technique, seeds, args.eval_episodes)
    specs = [spec for group in study.groups for spec in group.specs]
    if len(specs) != 1:
        raise BadInput(f"one arm is tuned at a time, not {len(specs)}; search alternatives instead")
    config = specs[0].config
    space = _space(args, config)
    for field in parse_settings(args.set):
        if field in space:
            raise BadInput(f"{field} is set and searched; do the one or the other")
    check_sampler(args.sampler, space, config)
    if args.sampler == "pbt" and args.pruner != "none":
        raise BadInput("pbt gives up no member; leave out --pruner")
    plan = Plan(seeds, args.evals_per_trial, args.pruner, args.value)
    batch = args.trials if args.sampler == "pbt" else args.batch
    search = Search(
        args.technique[0], space, plan, args.sampler, args.sampler_seed, args.trials, batch,
        args.eval_episodes, test_seeds, args.test_episodes,
    )  # fmt: skip
    identity = {
        "default": specs[0].name, "space": space_text(space), "seeds": list(seeds),
        "points": plan.num_points, "pruner": plan.pruner, "value": plan.value,
        "sampler": args.sampler, "sampler_seed": args.sampler_seed, "batch": batch,
        "episodes": args.eval_episodes,
    }  # fmt: skip
    place = place_folder(args.algorithm, specs[0].environment)
    name = checked_name(args.name) or content_hash(identity)
    return Asked(search, make_study, identity, f"{place}/{name}")


def _check_numbers(
    args: argparse.Namespace, seeds: tuple[int, ...], test_seeds: tuple[int, ...]
) -> None:
    least = {"trials": 1, "batch": 1, "evals_per_trial": 1, "test_episodes": 2, "eval_episodes": 2}
    for name, number in least.items():
        value = getattr(args, name)
        if value < number:
            flag = name.replace("_", "-")
            raise BadInput(f"--{flag} {value} is not allowed; use {number} or more")
    check_seeds(seeds)
    if len(test_seeds) == 1 or args.test_seeds < 0:
        raise BadInput(
            f"--test-seeds {args.test_seeds} is not allowed; use 2 or more, which a verdict needs, "
            "or 0 for none"
        )
    if shared := set(seeds) & set(test_seeds):
        raise BadInput(
            f"seed {min(shared)} is one of the verdict's; use seeds below {FIRST_TEST_SEED}"
        )


def _settings(args: argparse.Namespace) -> list[str]:
    """Words of ``--set``, with a replay that is no larger than what a trial can fill."""
    asked = argparse.Namespace(**vars(args))
    asked.technique = with_settings(args.technique, parse_settings(args.set))
    asked.set = []
    (group, *_) = study_of(asked).groups
    config = group.config
    fields = parse_settings(args.set)
    if not isinstance(config, OffPolicyConfig) or "buffer_size" in fields:
        return args.set
    most = -(-config.total_steps // config.num_variations) * config.num_variations
    return [*args.set, f"buffer_size={most}"] if config.buffer_size > most else args.set


def _maker(args: argparse.Namespace, settings: list[str]) -> MakeStudy:
    def make_study(arms: Sequence[str], seeds: Sequence[int], episodes: int) -> Study:
        asked = argparse.Namespace(**vars(args))
        asked.technique, asked.set, asked.num_seeds = list(arms), settings, None
        asked.seeds, asked.eval_episodes = list(seeds), episodes
        return study_of(asked)

    return make_study


def _space(args: argparse.Namespace, config: Any) -> Any:
    """The space of ``--search``, of a file, or around what was best before."""
    words = list(args.search)
    if args.space is not None:
        try:
            words += args.space.read_text().split()
        except OSError as error:
            raise BadInput(f"{args.space} cannot be read: {error.strerror}") from error
    if args.refine is None:
        if args.only:
            raise BadInput("--only says what --refine searches again; give both")
        return parse_space(words, config)
    if words:
        raise BadInput("--refine has a space of its own; leave out --search and --space")
    before = read_results(args.refine)
    if not isinstance(before.get("space"), dict):
        raise BadInput(f"{args.refine} has no space; give the results.json of a search by tune.py")
    known = parse_space([f"{field}={text}" for field, text in before["space"].items()], config)
    space = narrowed(known, before[BEST], args.only, NARROW)
    return parse_space([f"{field}={text}" for field, text in space_text(space).items()], config)


@lasting_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; for the exit code see `jaxgen.running.command`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    script = Path(__file__).resolve()
    try:
        args = parse(argv)
        load_plugins(args)
        asked = asked_of(args)
        if args.list or args.status:
            words = worker_argv(argv, args)
            return run(_command(script, words, args, lambda _: _default(asked)))
        return _search(script, worker_argv(argv, args), args, asked)
    except (BadInput, DamagedFile) as error:
        print(f"{script.name}: {error}", file=sys.stderr)
        return BAD_INPUT


def _default(asked: Asked) -> Study:
    search = asked.search
    return asked.make_study([search.technique], search.plan.seeds, search.episodes)


def _command(
    script: Path, words: Sequence[str], args: argparse.Namespace, make_study: Any
) -> Command:
    return Command(script, words, args, make_study, KIND.as_step, make_task, left_out)


def _search(
    script: Path, words: list[str], args: argparse.Namespace, asked: Asked
) -> int:
    """Take the search's steps one after the other; a worker trains the runs of the present one."""
    store = open_store(args.out, create=not args.analyze)
    path, search = asked.log_path(store.root), asked.search
    state = tune.open_log(path, asked.identity)
    while not args.analyze:
        if (step := tune.advance(search, state, path, asked.make_study)) is None:
            break
        study = step.study
        code = run(_command(script, words, args, lambda _, study=study: study))
        if code or args.worker:
            return code
        state = tune.tell(search, tune.reread(path), step, store, path)
        print("\n".join(_progress(asked, state)), flush=True)
    state = tune.reread(path)
    verdict = None
    if best_trial(state.trials, search.plan) is not None and search.test_seeds:
        for study in _test_studies(asked, state):
            if not args.analyze:
                code = run(_command(script, words, args, lambda _, study=study: study))
                if code:
                    return code
        if args.worker:
            return 0
        verdict = _verdict(asked, state, store)
    _write(asked, state, store, verdict, not args.no_plots)
    return 0


def _progress(asked: Asked, state: State) -> list[str]:
    from jaxgen.report.practice.tuning import words_of

    return [f"  {line}" for line in words_of(state.trials, asked.search.plan, None)]


def _test_studies(asked: Asked, state: State) -> list[Study]:
    """Studies that train the default and the winner on the test seeds, in order."""
    search = asked.search
    best = best_trial(state.trials, search.plan)
    assert best is not None
    arms, words = [search.technique], (search.test_seeds, search.test_episodes)
    if not search.num_generations:
        return [asked.make_study([*arms, tune.arm_of(search, best)], *words)]
    default = asked.make_study(arms, *words)
    schedule = tune.lineage(state, best.number)
    return [default, *(_scheduled(asked, schedule[: n + 1]) for n in range(len(schedule)))]


def _scheduled(asked: Asked, schedule: Sequence[dict[str, str]]) -> Study:
    """The winner's schedule of hyper-parameters, trained anew up to its last stretch."""
    search = asked.search

    def make_study(arms: Sequence[str], seeds: Sequence[int], episodes: int) -> Study:
        del seeds, episodes
        return asked.make_study(arms, search.test_seeds, search.test_episodes)

    sources = [[0]] * (len(schedule) - 1)
    return tune.population(search, sources, [[params] for params in schedule], make_study)[0]


def _verdict(asked: Asked, state: State, store: Store) -> Any:
    """Compare what the test seeds returned; None where a run diverged or is not there."""
    from jaxgen.report.practice.tuning import Verdict

    search, studies = asked.search, _test_studies(asked, state)
    runs = [spec for study in studies for group in study.groups for spec in group.specs]
    # The default's settings are the fewest; groups of programs keep no order of arms.
    default = min(runs, key=lambda spec: len(spec.overrides))
    winner = max(runs, key=lambda spec: (len(spec.overrides), runs.index(spec)))
    values = [_returns(spec, search, store) for spec in (default, winner)]
    if None in values:
        print("no verdict: a run of the test seeds is missing, or diverged")
        return None
    return Verdict(search.test_seeds, *values, search.test_episodes)  # pyright: ignore


def _returns(spec: RunSpec, search: Search, store: Store) -> tuple[float, ...] | None:
    """Greedy mean returns at level 0, of each test seed."""
    returns = []
    for seed in search.test_seeds:
        try:
            result = store.read_result(spec.name, seed)
        except DamagedFile:
            return None
        if result["status"] == "diverged":
            return None
        returns.append(float(result["evaluation"]["modes"]["greedy"]["mean"][0]))
    return tuple(returns)


def _write(asked: Asked, state: State, store: Store, verdict: Any, plots: bool) -> None:
    """Write all files of a search, and say what it found."""
    from jaxgen.report.practice import tuning
    from jaxgen.report.practice.pictures import Titled
    from jaxgen.report.style import to_png

    search, trials = asked.search, state.trials
    plan, best = search.plan, best_trial(state.trials, search.plan)
    schedule = tune.lineage(state, best.number) if best and search.num_generations else ()
    content = tuning.content_of(trials, plan, search.space, asked.identity, verdict, schedule)
    store.write_json(f"{asked.folder}/results.json", content)
    store.write_text(f"{asked.folder}/trials.csv", tuning.csv_of(trials, plan, search.space))
    if plots:
        (group,) = _default(asked).groups
        title = f"{algorithm_title(group.algorithm)}, {figure_title(group.environment)}"
        titled = Titled(title, group.specs[0].quick)
        for name, figure in tuning.figures_of(trials, plan, search.space, titled).items():
            store.write_bytes(f"{asked.folder}/{name}.png", to_png(figure))
    print("\n".join(["", *tuning.words_of(trials, plan, verdict)]))
    print(f"\n  all files of the search   {store.path(asked.folder)}")


if __name__ == "__main__":
    sys.exit(main())
