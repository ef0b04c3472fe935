"""Train the generalisation matrix: algorithms x techniques x environments x seeds.

    python experiments/matrix.py --vmap-seeds

Results lie in --out; the same command goes on where it was interrupted.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from envs_jax import make_task
from experiments.command_line import left_out, parse, study_of
from jaxgen.running.command import Command, run
from jaxgen.running.kinds.matrix import KIND
from jaxgen.system.streams import lasting_streams


@lasting_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; for the exit code see `jaxgen.running.command`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    script = Path(__file__).resolve()
    return run(Command(script, argv, parse(argv), study_of, KIND, make_task, left_out))


if __name__ == "__main__":
    sys.exit(main())
