"""Report what the results say: rankings, differences, predictions, with their intervals.

    python experiments/report.py results

    python experiments/report.py results-old results-new --names old new

The second compares the folders too: the same arm, by seed. From files alone; partial results are
allowed. Writes report.md, a self-contained report.html, figures, tables of all arms (CSV and
LaTeX), and results.csv.gz with making.json, from which the same command makes the same report
again. Of the results of connect.py: its lines, as tables.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import envs_jax  # noqa: F401  (registers what tables call the environments)
from jaxgen.report.connectivity import report as connectivity
from jaxgen.report.generalisation.reference import BEST_ARM, SPECIALISTS
from jaxgen.report.practice import comparison
from jaxgen.report.source import is_report, read_source, together, write_report
from jaxgen.study.plugins import load_plugin
from jaxgen.system.errors import BadInput
from jaxgen.system.streams import lasting_streams


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="report.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", default=["results"], metavar="RESULTS",
                        help="results folders, a results.csv or .csv.gz, or the folder of a "
                             "report (default: results)")
    parser.add_argument("--names", nargs="+", metavar="NAME",
                        help="what several of them are called (default: the names of the folders)")
    parser.add_argument("--reference", choices=["ceiling", BEST_ARM, SPECIALISTS],
                        default="ceiling",
                        help="what counts as 1: the ceiling of each environment, or, where nobody "
                             "knows it, at each level the mean return of the best arm, or of the "
                             "arm that was trained there alone (baseline, at25, at50, at75, "
                             "at100)")
    parser.add_argument("--plugin", action="append", type=Path, default=[], metavar="FILE.py",
                        help="a Python file that says what environments of your own are called; "
                             "again for more")
    parser.add_argument("-o", "--out", metavar="DIR",
                        help="where the report goes (default: report/ in the results folder, of "
                             "several report-NAME-NAME/ in the first one)")
    parser.add_argument("--curves", action="store_true",
                        help="only put learning curves beside each other, with those in files "
                             "evaluations.npz of workflow.py or stable-baselines3, which may be "
                             "among RESULTS")
    parser.add_argument("--page", metavar="FILE",
                        help="write the markdown there, in place of DIR/report.md")
    return parser.parse_args(argv)


@lasting_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 for bad input."""
    args = parse(argv)
    paths = [Path(path) for path in args.results]
    try:
        for plugin in args.plugin:
            load_plugin(plugin)
        if connectivity.is_source(paths[0]):
            return _report_connectivity(paths, args)
        if args.curves or any(map(comparison.is_source, paths)):
            return _compare_curves(paths, args)
        names = _names(paths, args.names)
        reference = None if args.reference == "ceiling" else args.reference
        if reference and names:
            raise BadInput(f"--reference {reference} takes one folder, as each has arms of its own")
        sources = [read_source(path, reference) for path in paths]
        source = together(dict(zip(names, sources, strict=True))) if names else sources[0]
        files = write_report(source, args.out or _folder_of(paths[0], names), args.page)
    except (ValueError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    for line in source.damaged:
        print(f"left aside: {line}", file=sys.stderr)
    for file in files:
        print(file)
    return 0


def _compare_curves(paths: Sequence[Path], args: argparse.Namespace) -> int:
    """Put learning curves from anywhere beside each other."""
    if args.reference != "ceiling" or args.page:
        raise BadInput("--reference and --page are not of learning curves; leave them out")
    usual = [path.resolve().name if path.is_dir() else path.resolve().parent.name for path in paths]
    names = _names(paths, args.names or (usual if len(paths) > 1 else None)) or usual
    curves = [
        each for path, name in zip(paths, names, strict=True)
        for each in comparison.read_curves(path, name)
    ]  # fmt: skip
    folder = Path(args.out) if args.out else _folder_of(paths[0], names).with_name("comparison")
    print("\n".join("  ".join(row) for row in comparison.table_of(curves)))
    for file in comparison.write_comparison(curves, folder):
        print(file)
    return 0


def _report_connectivity(paths: Sequence[Path], args: argparse.Namespace) -> int:
    """Make the report of lines."""
    if args.names or args.reference != "ceiling":
        raise BadInput("--names and --reference are not of lines; leave them out")
    text = connectivity.read_source(paths)
    folder = args.out or (
        paths[0] if connectivity.is_report(paths[0]) else _folder_of(paths[0], [])
    )
    for file in connectivity.write_report(text, folder, args.page):
        print(file)
    return 0


def _names(paths: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    """The names of several sources; none where there is one."""
    if len(paths) == 1 and not names:
        return []
    names = list(names or (path.resolve().name for path in paths))
    if len(names) != len(paths):
        raise BadInput(f"--names has {len(names)} names for {len(paths)} results; give each one")
    if len(set(names)) < len(names):
        raise BadInput(f"names {', '.join(names)} are not different; tell them apart by --names")
    return names


def _folder_of(path: Path, names: Sequence[str]) -> Path:
    """The default folder of a report: beside what it is made of, or over the last one."""
    if is_report(path) and not names:
        return path
    return (path if path.is_dir() else path.parent) / "-".join(["report", *names])


if __name__ == "__main__":
    sys.exit(main())
