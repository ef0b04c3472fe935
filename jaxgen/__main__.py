"""Train, report, look at an installation, at environments and at agents.

    jaxgen doctor
    jaxgen matrix --quick --env cartpole
    jaxgen report results-quick
    jaxgen levels starpilot --levels 0 0.5 1
    jaxgen watch results/best_models/ppo_cartpole_best.npz

``python -m jaxgen`` is the same; ``matrix`` and ``report`` are the scripts in experiments/.
"""

# Nothing is imported at the start that doctor may find missing, JAX and NumPy included.

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import envs_jax
from jaxgen.study import cards
from jaxgen.study.cards.base import Listing, resolve
from jaxgen.study.plugins import load_plugin
from jaxgen.system import doctor, platform
from jaxgen.system.options import computing
from jaxgen.system.streams import lasting_streams

if TYPE_CHECKING:
    from jaxgen.evaluation.agent import Agent
    from jaxgen.types import HostTask, Task

SCRIPTS = {"matrix": "train the generalisation matrix", "report": "report what results say"}
"""Commands that are scripts below ``experiments``, with flags of their own."""
MAX_PICTURES = 32
"""Levels and columns of a contact sheet, at most."""
MAX_EPISODES = 10
"""Episodes of one animation: five minutes of CartPole, and half a gigabyte of memory."""
PICKED, MAX_PICKED = 20, 100
"""Episodes that some are picked from, unless it is said; and the most of them."""
PLAY_STEPS = 20
"""Steps of each game of procgen in a check."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; argparse names what is allowed."""
    parser = argparse.ArgumentParser(
        prog="jaxgen", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, what in SCRIPTS.items():
        # For the list of commands alone: `main` has taken the words that begin so.
        commands.add_parser(name, help=what)
    _add_doctor(commands.add_parser("doctor", help="check whether this machine can run jaxgen"))
    _add_levels(commands.add_parser("levels", help="draw what episodes of some levels begin with"))
    _add_watch(commands.add_parser("watch", help="let an agent play and write an animation"))
    return parser.parse_args(argv)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_doctor)
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR",
                        help="where results would go (default: results)")


def _add_levels(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_levels)
    names = ", ".join(cards.environment_names(Listing.DEFAULT, Listing.ON_REQUEST))
    others = ", ".join(cards.environment_names(Listing.BY_NAME))
    parser.add_argument("env", metavar="ENV", help=f"{names}, or of the others {others}")
    parser.add_argument("--levels", nargs="+", type=float, default=[0.0, 0.5, 1.0], metavar="V",
                        help="variation levels in [0, 1], a row each (default: 0 0.5 1)")
    parser.add_argument("--count", type=int, default=8, metavar="N",
                        help="episodes of each level, a column each (default: 8)")
    parser.add_argument("--out", type=Path, metavar="FILE.png",
                        help="default: levels_<ENV>.png in this folder")
    _add_common(parser)


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_watch)
    parser.add_argument("agent", type=Path, metavar="AGENT",
                        help="e.g. results/best_models/ppo_cartpole_best.npz, or the folder of a "
                             "seed in results/runs")
    parser.add_argument("--level", type=float, default=0.0, metavar="V",
                        help="variation level in [0, 1] (default: 0)")
    parser.add_argument("--episodes", type=int, metavar="N",
                        help=f"default: 1, with --pick {PICKED}")
    parser.add_argument("--pick", nargs="+", choices=("best", "median", "worst"), default=[],
                        help="film these of the episodes alone, by their returns")
    parser.add_argument("--out", type=Path, metavar="FILE.gif",
                        help="default: watch_<AGENT's name>.gif in this folder; an .mp4 of the "
                             "same name lies beside it where imageio-ffmpeg is installed")
    parser.add_argument("--sampled", action="store_true",
                        help="draw actions from the policy instead of taking the best one")
    _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="of the evaluation episodes; 0: those of every study (default: 0)")
    parser.add_argument("--plugin", action="append", type=Path, default=[], metavar="FILE.py",
                        help="a Python file with environments or algorithms of your own; again "
                             "for more")
    parser.add_argument("--allow-known-bad", action="store_true",
                        help="start on a CPU with a jaxlib that is known to be wrong there")


def _script(name: str) -> Path:
    """A script of the checkout that this package was installed from."""
    path = Path(__file__).resolve().parents[1] / "experiments" / f"{name}.py"
    if not path.exists():
        raise ValueError(
            f"{name} needs the checkout of jaxgen, which is not around {Path(__file__).parent}; "
            "clone it and install it with pip install -e ."
        )
    return path


def _run_script(name: str, argv: Sequence[str]) -> int:
    """Do what the script of this name does."""
    root = str(_script(name).parents[1])
    if root not in sys.path:
        sys.path.insert(0, root)
    return import_module(f"experiments.{name}").main(argv)


@lasting_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 for a PROBLEM, 2 for bad input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        if argv[:1] and argv[0] in SCRIPTS:
            return _run_script(argv[0], argv[1:])
        args = parse(argv)
        if getattr(args, "plugin", None):
            # One of them may start JAX.
            platform.configure(allow_known_bad=args.allow_known_bad)
            for path in args.plugin:
                load_plugin(path)
        return args.run(args)
    except (ValueError, OSError) as error:
        print(f"jaxgen: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxgen: stopped", file=sys.stderr)
        return 130


# doctor


def _doctor(args: argparse.Namespace) -> int:
    findings = []
    checks = doctor.all_checks(args.out, procgen_to_check, missing_engine)
    for finding in doctor.examine(checks):
        print(finding, flush=True)
        findings.append(finding)
    print(doctor.summarise(findings))
    return int(any(finding.status == "PROBLEM" for finding in findings))


def procgen_to_check() -> doctor.Games:
    """The questions of doctor about procgen."""
    from envs_jax import procgen_games

    code = "from jaxgen.__main__ import {0}; {0}()"
    return doctor.Games(
        names=procgen_games.GAMES,
        missing=procgen_games.missing,
        play=code.format(play_games.__name__),
        show=code.format(show_levels.__name__),
    )


def missing_engine() -> str | None:
    """The lack of MuJoCo, for doctor."""
    from envs_jax.mujoco.engine import missing

    return missing()


def play_games() -> None:
    """Step the games that the command line names; a child of doctor does this."""
    import numpy as np

    from envs_jax import procgen_games

    for game in sys.argv[1:]:
        slots = procgen_games.Slots(game, 2, num_threads=0)
        for step in range(PLAY_STEPS):
            slots.step(np.full(2, step % procgen_games.NUM_ACTIONS, np.int32))
        print(game, flush=True)


def show_levels() -> None:
    """Print two hashes of each level's first image; a child of doctor does this."""
    from envs_jax.procgen_games import Block, Levels, Slots, make_states

    num_levels = int(sys.argv[1])
    hashes = []
    # Two vectors that differ in all but their levels.
    for rand_seed in range(2):
        blocks = [Block(Levels("easy", level, 1), rand_seed, 1) for level in range(num_levels)]
        slots = Slots("starpilot", num_levels, num_threads=0)
        slots.set(range(num_levels), make_states("starpilot", blocks)[0])
        hashes.append([hashlib.sha256(image.tobytes()).hexdigest() for image in slots.images()])
    for first, again in zip(*hashes, strict=True):
        print(first, again)


# levels


def _levels(args: argparse.Namespace) -> int:
    _check_environment(args.env)
    for level in args.levels:
        _check_level(level)
    _check_count("--levels", len(args.levels), MAX_PICTURES)
    _check_count("--count", args.count, MAX_PICTURES)
    _check_seed(args.seed)
    path = _path(args.out, f"levels_{args.env}.png")
    _start(args)

    from jaxgen.report.practice import films
    from jaxgen.system.files import write_bytes
    from jaxgen.training.keys import evaluation_key

    with computing():
        task = _make_task(args.env)
        images = films.first_images(
            task, evaluation_key(args.seed), tuple(args.levels), args.count
        )
        labels = [describe_level(task, level, args.count) for level in args.levels]
    title = f"{cards.figure_title(args.env)}: what evaluation episodes begin with"
    rows = [films.Row(*row) for row in zip(labels, images, strict=True)]
    write_bytes(path, films.to_png(films.contact_sheet(title, rows)))
    print(path)
    return 0


def describe_level(task: "Task | HostTask", level: float, count: int) -> str:
    """The games of a level, e.g. ``v = 0.75: easy unseen x 4, hard unseen x 4``."""
    describe = cards.environment_card(task.spec.name).task.describe
    text = f"v = {level:g}"
    return f"{text}: {resolve(describe)(task, level, count)}" if describe else text


# watch


def _watch(args: argparse.Namespace) -> int:
    _check_level(args.level)
    count = args.episodes
    if count is None:
        count = PICKED if args.pick else 1
    _check_count("--episodes", count, MAX_PICKED if args.pick else MAX_EPISODES)
    _check_seed(args.seed)
    path = _path(args.out, f"watch_{_agent_name(args.agent)}.gif")
    _start(args)

    from jaxgen.report.practice import films
    from jaxgen.training.keys import evaluation_key

    agent = _load(args.agent)
    name = agent.spec.name
    _check_environment(name)
    with computing():
        task = _make_task(name, agent.task_options)
        clips = films.film(
            agent, task, evaluation_key(args.seed), args.level, count, args.sampled, args.pick
        )
    mode = "sampled" if args.sampled else "greedy"
    level = describe_level(task, args.level, count)
    print(f"{agent.algorithm} {agent.technique} on {name} ({mode}), {level}")
    for title, clip in clips.items():
        print(f"{title}: return {clip.total:.4g}, length {clip.length}")
    for written in films.write_film(path, [*clips.values()]):
        print(written)
    return 0


def _load(path: Path) -> "Agent":
    from jaxgen.evaluation.saving import load_agent
    from jaxgen.system.files import DamagedFile

    try:
        return load_agent(path)
    except DamagedFile as damage:
        raise ValueError(
            f"{damage}; give the file of an agent, which a study keeps in RESULTS/best_models and "
            "in the folder of each seed, RESULTS/runs/RUN/seed_0000"
        ) from damage


def _agent_name(path: Path) -> str:
    """A name for files about an agent: that of its own file, or its run's with the seed."""
    from jaxgen.results.store import AGENT

    path = path.resolve()
    seed = path.parent if path.name == AGENT else path
    if (seed / AGENT).is_file():
        return f"{seed.parent.name}_{seed.name}"
    return path.name.removesuffix(".npz")


# Parts


def _start(args: argparse.Namespace) -> None:
    platform.configure(allow_known_bad=args.allow_known_bad)
    platform.confirm_backend(allow_known_bad=args.allow_known_bad)


def _make_task(name: str, options: Mapping[str, Any] | None = None) -> "Task | HostTask":
    """The task as an agent had it, or as studies have it."""
    usual = cards.environment_card(name).task.options
    return envs_jax.make_task(name, **(usual if options is None else options))


def _check_environment(name: str) -> None:
    remedy = cards.environment_card(name).task.missing()
    if remedy:
        raise ValueError(f"environment {name!r} cannot be played: {remedy}")


def _check_seed(seed: int) -> None:
    from jaxgen.study.product import check_seeds

    check_seeds([seed])


def _check_level(level: float) -> None:
    if not 0 <= level <= 1:
        raise ValueError(f"variation level {level:g} is not allowed; use one in [0, 1]")


def _check_count(name: str, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise ValueError(f"{name}: {count} of them are not allowed; use 1 to {most}")


def _path(given: Path | None, default: str) -> Path:
    """The path of a file to be written; ValueError, before any work: it cannot be written there."""
    path = given or Path(default)
    suffix = Path(default).suffix
    if path.suffix.lower() != suffix or path.is_dir():
        raise ValueError(f"--out {path} is not allowed; name a {suffix} file")
    fault = doctor.write_fault(path.parent)
    if fault:
        raise ValueError(f"{path} cannot be written ({fault}); name another file with --out")
    return path


if __name__ == "__main__":
    sys.exit(main())
