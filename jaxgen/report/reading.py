"""How to read the tables of a summary."""

from collections.abc import Iterable

from jaxgen.evaluation.scores import integrate
from jaxgen.report.style import FLAG
from jaxgen.results.records import Record, levels_of
from jaxgen.study.cards import sentence_title

_READING = (
    "J(v): mean return at variation level v; level 0 is the training environment. "
    "s(v): J(v) scaled so that random play is 0 and the ceiling is 1. "
    "A: integral of clip(s, 0, 1), absolute robustness. A_ood: mean s at .75 and 1, for arms that "
    "train on neither. grs_n: integral of clip(s(v)/s(0), 0, 1), retention alone. "
    "Literal grs: integral of J(v)/J(0), unclipped. About 1 is perfect, about .5 a linear decay, "
    f"under .4 poor. Read it beside A, and never where it is flagged with {FLAG}: that policy did "
    "not learn.",
    "Values are mean +- standard deviation over n training seeds; [k] says that only k of the n "
    "have a value. A diverged run has no value: it is counted, and is a failure of its arm.",
)


def reading(records: Iterable[Record]) -> list[str]:
    """Explanations of the scores, as far as they apply."""
    floors = ((r, r.result["references"]["floor"]) for r in records if not r.diverged)
    literal = (
        (record, integrate(levels_of([record]), floor) / floor[0])
        for record, floor in floors
        if floor[0] > 0
    )
    warnings = (
        f"Uniform random play on {sentence_title(record.environment)} scores a literal grs of "
        f"{grs:.2f}."
        for record, grs in literal
        if grs > 1
    )
    return [*_READING, *dict.fromkeys(warnings)]
