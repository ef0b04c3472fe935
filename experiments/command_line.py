"""The flags of matrix.py, and the study that they ask for."""

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envs_jax import unavailable
from envs_jax.cards import gymnasium, gymnax, mujoco
from envs_jax.mujoco.robots import checked
from jaxgen.results.kept import keep_start
from jaxgen.results.store import open_store
from jaxgen.running.command import configure
from jaxgen.running.flags import INSTEAD, add_running
from jaxgen.study.cards import (
    ALGORITHM_CARDS,
    environment_card,
    environment_names,
    register_environment,
    registry_name,
)
from jaxgen.study.cards.base import EnvironmentCard, Listing, resolve
from jaxgen.study.config import SHIFT_LEVELS
from jaxgen.study.plugins import load_plugin
from jaxgen.study.presets import algorithm_names, setups_of
from jaxgen.study.product import Study, make_study
from jaxgen.study.settings import parse_settings, with_settings
from jaxgen.study.spec import Evaluation
from jaxgen.system.config_file import flags_of, text_of, words_of
from jaxgen.system.errors import BadInput
from jaxgen.system.files import check_name
from jaxgen.system.values import whole
from jaxgen.techniques import SUITES

DEFAULT_SEEDS = (0, 1, 2)
DESCRIPTION = """Train the generalisation matrix: algorithms x techniques x environments x seeds.

    python experiments/matrix.py --vmap-seeds

Results lie in --out; the same command goes on where it was interrupted.
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; argparse names what is allowed.

    The words of ``--config`` come before those of the command line, which count where both say
    something.

    Raises:
      BadInput: a file cannot be read as a study.
    """
    return parse_by(_parser(), argv, "results")


def parse_by(
    parser: argparse.ArgumentParser, argv: Sequence[str], out: str
) -> argparse.Namespace:
    """Read words by a parser that has the flags of `add_study`, with a folder for results.

    Raises:
      BadInput: a file cannot be read as a study.
    """
    early, _ = _early().parse_known_args(argv)
    if early.config:
        others = {"seeds", "num_seeds"} if early.seeds or early.num_seeds else ()
        argv = [*words_of(early.config, file_flags(parser), without=others), *argv]
    args = parser.parse_args(argv)
    args.out = args.out or (f"{out}-quick" if args.quick else out)
    args.plugin = [path.resolve() for path in args.plugin]
    args.config = args.config and args.config.resolve()
    return args


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the words that name the one environment and algorithm of a command."""
    parser.add_argument("environment", metavar="ENV")
    parser.add_argument("algorithm", metavar="ALGO")


def parse_placed(
    parser: argparse.ArgumentParser, argv: Sequence[str], out: str
) -> argparse.Namespace:
    """Read words as `parse_by` does, of a command with those of `add_place`; its usual arm is the
    baseline.

    Raises:
      BadInput: a file cannot be read, or environment or algorithm are named by flags as well.
    """
    parser.set_defaults(suite=None, eval_episodes=10, print_config=False)
    args = parse_by(parser, argv, out)
    if args.env or args.algo or args.all:
        raise BadInput("environment and algorithm come first, without --env, --algo or --all")
    args.env, args.algo = [args.environment], [args.algorithm]
    args.technique = args.technique or ["baseline"]
    return args


def load_plugins(args: argparse.Namespace) -> None:
    """Load the plug-ins of a command line, so that their names are known.

    Raises:
      BadInput: one of them cannot be loaded.
    """
    if args.plugin and not (args.list or args.analyze or args.status or args.print_config):
        # One of them may start JAX.
        configure(args)
    for path in args.plugin:
        load_plugin(path)


def worker_argv(argv: Sequence[str], args: argparse.Namespace) -> list[str]:
    """The words of a command line for another process, which may start in another folder."""
    plugins = ["--plugin", *map(str, args.plugin)] if args.plugin else []
    config = [f"--config={args.config}"] if args.config else []
    return [*argv, *plugins, *config]


def config_text(args: argparse.Namespace) -> str:
    """The file that asks for what a command line asks for."""
    values = vars(args) | {"config": None}
    if args.num_seeds is None:
        values["seeds"] = list(args.seeds or DEFAULT_SEEDS)
    return text_of(argparse.Namespace(**values), file_flags(_parser()))


def file_flags(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The flags that a file may set: all that say what to run, and how."""
    return flags_of(parser._action_groups[2:], without=("config", "print_config", *INSTEAD))


def _early() -> argparse.ArgumentParser:
    """A parser of what decides which words a file adds."""
    parser = argparse.ArgumentParser("matrix.py", add_help=False, allow_abbrev=False)
    _add_files(parser)
    _add_seeds(parser)
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="matrix.py", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    group = parser.add_argument_group("what to run (default: CartPole and the grid, everything)")
    add_study(group)
    group.add_argument("--print-config", action="store_true",
                       help="print the file for --config that asks for the same, and stop")
    add_running(parser)
    return parser


def _add_seeds(group: argparse._ActionsContainer) -> argparse._MutuallyExclusiveGroup:
    seeds = group.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", nargs="+", type=int, metavar="S",
                       help="default: 0 1 2, in quick runs of procgen's games 0")
    seeds.add_argument("--num-seeds", type=int, metavar="N", help="seeds 0 .. N-1")
    return seeds


def _add_files(group: argparse._ActionsContainer) -> None:
    group.add_argument("--plugin", nargs="+", type=Path, default=[], metavar="FILE.py",
                       help="Python files with environments, algorithms or techniques of your own")
    group.add_argument("--config", type=Path, metavar="FILE",
                       help="flags as a file of JSON or YAML, e.g. num_seeds: 5; those of the "
                            "command line count more")


def add_study(group: argparse._ArgumentGroup) -> argparse._MutuallyExclusiveGroup:
    """Add the flags that say what is trained; return those of seeds, which exclude each other."""
    group.add_argument("--suite", choices=tuple(SUITES), default="controls",
                       help="arms: controls = six with the control arms; specified = four; "
                            "rigorous = controls and the offered arms")
    group.add_argument("--algo", "--algo-only", nargs="+", metavar="NAME",
                       help=f"algorithms: {', '.join(algorithm_names())} (default: those that the "
                            f"environments have of {', '.join(_usual_algorithms())})")
    group.add_argument("--technique", nargs="+", metavar="NAME",
                       help="arms instead of a suite's, composed with + (gar+reg); behind an @, a "
                            "hyper-parameter of its own (gar@learning_rate=0.001@hidden=32x32)")
    group.add_argument("--env", "--env-only", nargs="+", metavar="NAME",
                       help=f"environments: {', '.join(_listed_names())} (default: "
                       f"{', '.join(environment_names(Listing.DEFAULT))}), or of the others "
                       f"{', '.join(environment_names(Listing.BY_NAME))}, gymnax:ID, gymnasium:ID")
    group.add_argument("--vary", nargs="+", default=[], metavar="NAME=LOW:HIGH",
                       help="of environments of gymnax (--env gymnax:Acrobot-v1) parameters, of "
                            "Gymnasium (--env gymnasium:LunarLander-v3) attributes, and their "
                            "values at levels 0 and 1; of MuJoCo (--env halfcheetah), the "
                            f"factor that is shifted: {', '.join(mujoco.VARY)} (default: "
                            f"{mujoco.VARY[0]})")
    group.add_argument("--task", nargs="+", default=[], metavar="NAME=VALUE",
                       help="options of MuJoCo's environments, e.g. reset_noise_scale=0.15 "
                            "eval_reset_noise_scale=0.1: "
                            f"{', '.join(mujoco.option_names(mujoco.NAMES))}; of Gymnasium's, "
                            "max_episode_steps and all that gymnasium.make takes")
    group.add_argument("--reference", type=_number, metavar="R",
                       help="of gymnax's and Gymnasium's, the return that counts as 1 where none "
                            "is known")
    group.add_argument("--all", action="store_true",
                       help=f"{', '.join(_listed_names())}, but for those that need something "
                            "that is not installed (some take hours on a CPU)")
    group.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE",
                       help="hyper-parameters of every arm, e.g. learning_rate=1e-3 "
                            "hidden=128x128; alternatives are arms side by side: "
                            "learning_rate=1e-3,3e-4")
    group.add_argument("--start", type=Path, metavar="AGENT",
                       help="the file of an agent whose policy every run begins with: its learning "
                            "curve is adaptation, and its arms' names say so")
    seeds = _add_seeds(group)
    group.add_argument("--total-steps", type=_whole, metavar="N",
                       help="budget of env steps of every run (ES: of its whole population)")
    group.add_argument("--eval-episodes", type=_whole, default=1000, metavar="N",
                       help="evaluation episodes per level (default 1000)")
    group.add_argument("--curve-levels", action="store_true",
                       help="evaluate at all levels, not at 0 alone, at each point of the learning "
                            "curves: A_ood during training; such runs are different ones")
    group.add_argument("--probe", action="store_true",
                       help="measure in every arm whether the variations' gradients agree (GAS); "
                            "runs with and without it are different ones")
    group.add_argument("--quick", action="store_true",
                       help="seconds of training to see everything work; not a result")
    _add_files(group)
    return seeds


def _whole(text: str) -> int:
    """A whole number, 1e5 among them, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = _from_float(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use a whole number")
    return number


def _number(text: str) -> float:
    """A finite number, for argparse."""
    if not math.isfinite(value := float(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; use a finite number")
    return value


def _from_float(text: str) -> int | None:
    try:
        return whole(float(text))
    except ValueError:
        return None


def checked_name(name: str) -> str:
    """A folder's name as it was given, "" where it was not; BadInput: it is no name."""
    try:
        return check_name(name) if name else ""
    except ValueError as error:
        raise BadInput(f"--name: {error}") from error


def study_of(args: argparse.Namespace) -> Study:
    """Build the study that the command line asks for; BadInput says what is not allowed."""
    if args.env and args.all:
        raise BadInput("--env and --all exclude each other; give one")
    environments = _environments(args)
    if args.num_seeds is not None and args.num_seeds < 1:
        raise BadInput(f"--num-seeds {args.num_seeds} is not allowed; use 1 or more")
    seeds = range(args.num_seeds) if args.num_seeds else args.seeds
    if seeds is None:
        limits = [environment_card(name).limits.quick_seeds for name in environments]
        seeds = DEFAULT_SEEDS[: max(limits) if args.quick else None]
    episodes = min(args.eval_episodes, 50) if args.quick else args.eval_episodes
    arms = with_settings(args.technique or SUITES[args.suite], parse_settings(args.set))
    study = make_study(
        environments, args.algo or _algorithms_of(environments), arms, list(seeds),
        evaluation=Evaluation(episodes=episodes, curve_episodes=20 if args.quick else 100,
                              probe=args.probe,
                              curve_levels=SHIFT_LEVELS if args.curve_levels else (0.0,)),
        total_steps=args.total_steps, quick=args.quick,
    )
    return study if args.start is None else _begun(study, args)


def _begun(study: Study, args: argparse.Namespace) -> Study:
    """A study whose runs begin with an agent, of which the folder of results keeps a copy."""
    if not args.start.is_file():
        raise BadInput(f"there is no agent {args.start}; give the file of one")
    digest = keep_start(open_store(args.out), args.start)
    groups = []
    for group in study.groups:
        specs, aliases = (
            tuple(dataclasses.replace(spec, agent=digest) for spec in specs)
            for specs in (group.specs, group.aliases)
        )
        names = {old.name: new.name for old, new in zip(group.specs, specs, strict=True)}
        aliases = tuple(
            dataclasses.replace(spec, alias_of=names.get(spec.alias_of or "", spec.alias_of))
            for spec in aliases
        )
        groups.append(dataclasses.replace(group, specs=specs, aliases=aliases))
    return Study(tuple(groups), study.left_out)


def _algorithms_of(environments: Sequence[str]) -> list[str]:
    """The usual algorithms that have a configuration for one of the environments; of none, all."""
    usual = _usual_algorithms()
    configured = [name for name in usual if any(each in setups_of(name) for each in environments)]
    return configured or usual


def _usual_algorithms() -> list[str]:
    return [name for name, card in ALGORITHM_CARDS.items() if card.listing is Listing.DEFAULT]


def _environments(args: argparse.Namespace) -> list[str]:
    """Name those that are asked for; ``--all`` leaves out what cannot be trained here."""
    if not args.env:
        if args.vary or args.task:
            raise BadInput("--vary and --task say something of an environment: name it by --env")
        if not args.all:
            return environment_names(Listing.DEFAULT)
        return [name for name in _listed_names() if name not in unavailable()]
    names = _named(args)
    for name in names:
        remedy = environment_card(name).task.missing()
        if remedy and not (args.list or args.analyze):
            raise BadInput(f"environment {name!r} cannot be played: {remedy}")
    return names


def _named(args: argparse.Namespace) -> list[str]:
    """The environments that are named; what varies in them is registered with their cards."""
    robots = [name for name in args.env if registry_name(name) in mujoco.NAMES]
    worlds = [name for name in args.env if name.startswith((gymnax.WORD, gymnax.PREFIX))]
    others = [name for name in args.env if name.startswith((gymnasium.WORD, gymnasium.PREFIX))]
    # Beside robots, words with values are of the others.
    factors = [word for word in args.vary if robots and not (worlds + others and "=" in word)]
    vary = dict(_ends(word) for word in args.vary if word not in factors)
    if vary and not worlds + others or worlds and not vary:
        raise BadInput(
            "--vary says what grows with the level in an environment of gymnax or Gymnasium: give "
            "both, as in --env gymnax:Acrobot-v1 --vary link_mass_1=1:1.5"
        )
    if args.reference is not None and not worlds + others:
        raise BadInput(
            f"--reference {args.reference:g} is of environments of gymnax or Gymnasium, whose best "
            f"returns are not known; leave it out for {', '.join(args.env)}"
        )
    of_robots, of_others = _task_options(args.task, robots, others)
    if worlds or others:
        # Their libraries import JAX.
        configure(args)
    cards = {name: gymnax.varied(name, vary, args.reference) for name in worlds}
    limit = of_others.pop("max_episode_steps", None)
    cards |= {
        name: gymnasium.varied(name, vary, args.reference, limit, of_others) for name in others
    }
    for card in cards.values():
        _try_out(card)
    options = {"vary": _factor(factors, robots)} | of_robots
    cards |= {name: mujoco.changed(environment_card(name), options) for name in robots}
    for card in cards.values():
        register_environment(card, replace=True)
    return [cards[name].name if name in cards else registry_name(name) for name in args.env]


def _try_out(card: EnvironmentCard) -> None:
    """Make the task of a library's environment, if it can be made here, before anything is done."""
    if card.task.missing() is None:
        try:
            resolve(card.task.make)(**card.task.fixed, **card.task.options)
        except ValueError as error:
            raise BadInput(str(error)) from None


def _factor(words: Sequence[str], robots: Sequence[str]) -> str:
    """Factor that the level shifts in a robot of MuJoCo; without words, all of them."""
    word, *others = words or mujoco.VARY[:1]
    if others or word not in mujoco.VARY:
        raise BadInput(
            f"--vary {' '.join(words)} is not allowed for {', '.join(robots)}; use one of "
            f"{', '.join(mujoco.VARY)}"
        )
    return word


def _task_options(
    words: Sequence[str], robots: Sequence[str], others: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a task by name, of words ``NAME=VALUE``: of robots, and of Gymnasium's others."""
    if words and not robots and not others:
        raise BadInput(
            f"--task {words[0]} needs an environment of Gymnasium, or of {', '.join(mujoco.NAMES)}"
        )
    allowed = mujoco.option_names([registry_name(robot) for robot in robots])
    of_robots, of_others = {}, {}
    for word in words:
        name, is_given, text = word.partition("=")
        if name in of_robots or name in of_others:
            raise BadInput(f"--task {name} is given twice; give it once")
        if not is_given or name not in allowed and not others:
            raise BadInput(
                f"--task {word!r} is not allowed; use NAME=VALUE, with one of {', '.join(allowed)}"
            )
        of_any = of_robots if name in allowed else of_others
        try:
            of_any[name] = json.loads(text.lower())
        except ValueError:
            of_any[name] = text
    try:
        for name in robots:
            checked(registry_name(name), mujoco.OPTIONS[registry_name(name)], of_robots)
    except ValueError as error:
        raise BadInput(str(error)) from None
    return of_robots, of_others


def _ends(word: str) -> tuple[str, tuple[float, float]]:
    """A parameter and its values at levels 0 and 1, of ``NAME=LOW:HIGH``."""
    name, _, text = word.partition("=")
    low, _, high = text.partition(":")
    try:
        return name, (float(low), float(high))
    except ValueError:
        raise BadInput(
            f"--vary {word!r} is not allowed; write PARAMETER=LOW:HIGH, as in link_mass_1=1:1.5"
        ) from None


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
