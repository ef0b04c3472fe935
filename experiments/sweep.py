"""Write configuration files of a product, and run a folder of them by several workers.

    python experiments/sweep.py --make-configs configs --env halfcheetah hopper --algo ppo-mujoco
    python experiments/sweep.py --make-configs configs --env cartpole --algo grpo \\
        --set group_size=4,16 num_envs=16 --num-seeds 3
    python experiments/sweep.py --config-dir configs --workers 2
    python experiments/sweep.py --config-dir configs --analyze --total-steps 500000

A file asks for one environment, algorithm and combination of values; matrix.py --config reads it
too. Runs of equal shape are lanes of one program, whatever file they are from. Results lie in
--out; the same command goes on where it was interrupted, and --analyze shows what is done so far.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from envs_jax import make_task
from experiments import command_line
from jaxgen.results.lock import locked
from jaxgen.results.store import StoreError, open_store
from jaxgen.running.command import BAD_INPUT, INTERRUPTED, Command, configure, run
from jaxgen.running.flags import add_running
from jaxgen.running.kinds.matrix import KIND
from jaxgen.study.kinds.sweep import check_folders, folder_of, joined
from jaxgen.study.product import Study
from jaxgen.system.errors import BadInput
from jaxgen.system.files import DamagedFile, load_json, write_bytes
from jaxgen.system.streams import lasting_streams

OUT = "results-sweep"
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
SUFFIXES = (".json", ".yaml", ".yml")


def make_configs(folder: Path, argv: Sequence[str]) -> list[Path]:
    """Write one file for each environment, algorithm, arm and combination of values.

    Args:
      folder: where they lie; files that are there already are replaced.
      argv: flags of matrix.py, whose product it is.

    Raises:
      BadInput: what they ask for is not allowed.
    """
    args = command_line.parse(argv)
    command_line.load_plugins(args)
    study = command_line.study_of(args)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is no folder; name one for --make-configs")
    files, kept = {}, _study_names()
    for group in study.groups:
        for spec in group.specs:
            one = argparse.Namespace(**vars(args))
            one.env, one.algo, one.set = [spec.environment], [spec.algorithm], []
            one.technique = [spec.arm]
            name = f"{spec.environment}_{spec.algorithm}_{spec.arm}".replace(":", "-")
            files[folder / f"{name}.json"] = command_line.config_text(one)
    for path, text in files.items():
        content = {key: value for key, value in json.loads(text).items() if key in kept}
        write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
    return list(files)


def _study_names() -> set[str]:
    """The names of flags that say what is run, not how; arms are named one by one."""
    group = argparse.ArgumentParser().add_argument_group()
    command_line.add_study(group)
    return {action.dest for action in group._group_actions} - {"suite"}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line of a sweep that runs; argparse names what is allowed."""
    parser = argparse.ArgumentParser(
        prog="sweep.py", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    group = parser.add_argument_group("what to run")
    group.add_argument("--config-dir", "-cd", type=Path, metavar="DIR",
                       help="a folder of files, .json or .yaml, each a study as of matrix.py")
    group.add_argument("--make-configs", type=Path, metavar="DIR",
                       help="write such files in place of running any; all other flags are those "
                            "of matrix.py")
    group = parser.add_argument_group("figures")
    group.add_argument("--skip-plots", action="store_true", help="draw no figures and no films")
    group.add_argument("--skip-films", action="store_true", help="draw no films")
    group.add_argument("--field", default="group_size", metavar="FIELD",
                       help="whose values are compared in a figure of their own (default "
                            "group_size)")
    group.add_argument("--output-dir", "-o", type=Path, metavar="DIR",
                       help="where figures lie (default: in --out)")
    group.add_argument("--total-steps", "-t", type=float, metavar="N",
                       help="env steps where the figures end; changes no run")
    parser.add_argument("--deterministic", action="store_true",
                        help="let XLA use deterministic operations alone on a GPU, which may be "
                             "slower; CPUs always do")
    add_running(parser, evaluates=False)
    parser.set_defaults(quick=False, plugin=[])
    args = parser.parse_args(argv)
    args.out = args.out or OUT
    if args.total_steps is not None and not 0 < args.total_steps < float("inf"):
        raise BadInput(f"--total-steps {args.total_steps} is not allowed; use a positive number")
    if args.workers and args.launcher == "inline" and not args.isolated:
        args.launcher = "local"
    if args.deterministic:
        # Before JAX starts, and for workers as well.
        flags = os.environ.get("XLA_FLAGS", "")
        if DETERMINISTIC not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()
    if args.config_dir is None:
        raise BadInput("give --config-dir DIR, or write one by --make-configs DIR")
    return args


def studies_of(args: argparse.Namespace) -> dict[str, Study]:
    """The studies of a folder of configurations by the names of their files.

    Raises:
      BadInput: there is no such folder, or a file asks for what is not allowed.
    """
    if not args.config_dir.is_dir():
        raise BadInput(f"there is no folder {args.config_dir}; write one by --make-configs")
    studies = {}
    for path in sorted(args.config_dir.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            asked = command_line.parse(["--config", str(path)])
            asked.out = args.out
            for plugin in asked.plugin:
                if plugin not in args.plugin:
                    args.plugin.append(plugin)
            command_line.load_plugins(asked)
            try:
                studies[path.name] = command_line.study_of(asked)
            except BadInput as error:
                raise BadInput(f"{path}: {error}") from error
    return studies


def study_of(args: argparse.Namespace) -> Study:
    """All runs of a folder of configurations."""
    study = joined(studies_of(args))
    check_folders(study)
    return study


def _check_results(args: argparse.Namespace, study: Study) -> None:
    """Raise BadInput where a run's folder holds another run, or nothing is there to be shown."""
    if args.analyze:
        open_store(args.out, create=False)
    for spec, seed in study.lanes:
        path = Path(args.out) / folder_of(spec, seed) / "metrics.json"
        with suppress(DamagedFile):
            other = load_json(path).get("run")
            if other != spec.name:
                raise BadInput(
                    f"{path.parent} is of run {other}, not of {spec.name}; give another --out"
                )


def _say_nothing(_: argparse.Namespace) -> None:
    return None


@lasting_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; for the exit code see `jaxgen.running.command`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    script = Path(__file__).resolve()
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--make-configs", type=Path)
    making, others = early.parse_known_args(argv)
    try:
        if making.make_configs is not None:
            files = make_configs(making.make_configs, others)
            print(f"{len(files)} configurations in {making.make_configs}")
            return 0
        args = parse(argv)
        study = None if args.status else study_of(args)
        if study is not None:
            _check_results(args, study)
    except (BadInput, StoreError) as error:
        print(f"{script.name}: {error}", file=sys.stderr)
        return BAD_INPUT
    code = 0
    if not args.analyze:
        made = study_of if study is None else lambda _: study
        command = Command(script, argv, args, made, KIND.as_step, make_task, _say_nothing)
        code = run(command)
    if study is None or args.worker or args.list or code == INTERRUPTED:
        return code
    _conclude(args, study)
    return code


def _conclude(args: argparse.Namespace, study: Study) -> None:
    """Write the folders and figures of what is done, even where something is missing."""
    configure(args)
    from jaxgen.report.practice.sweeps import Drawing, write_sweep

    store = open_store(args.out, create=False)
    figures = not (args.skip_plots or args.no_plots)
    drawing = Drawing(
        args.output_dir, args.total_steps, args.field, figures and not args.skip_films, figures
    )
    with locked(store):
        print("\n".join(write_sweep(store, study, make_task, drawing)))


if __name__ == "__main__":
    sys.exit(main())
