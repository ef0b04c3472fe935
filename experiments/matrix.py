"""Train the generalisation matrix: algorithms x techniques x environments x seeds.

    python experiments/matrix.py --vmap-seeds

Results lie in --out; the same command goes on where it was interrupted.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from envs_jax import make_task
from experiments.command_line import (
    config_text,
    left_out,
    load_plugins,
    parse,
    study_of,
    worker_argv,
)
from jaxgen.running.command import BAD_INPUT, Command, run
from jaxgen.running.kinds.matrix import KIND
from jaxgen.system.errors import BadInput
from jaxgen.system.streams import lasting_streams


@lasting_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; for the exit code see `jaxgen.running.command`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    script = Path(__file__).resolve()
    try:
        args = parse(argv)
        load_plugins(args)
    except BadInput as error:
        print(f"{script.name}: {error}", file=sys.stderr)
        return BAD_INPUT
    if args.print_config:
        print(config_text(args))
        return 0
    words = worker_argv(argv, args)
    return run(Command(script, words, args, study_of, KIND, make_task, left_out))


if __name__ == "__main__":
    sys.exit(main())
