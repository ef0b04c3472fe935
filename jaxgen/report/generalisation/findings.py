"""The findings of a report: records, comparisons and predictions, computed once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxgen.report.documents.document import Block
from jaxgen.report.generalisation import words
from jaxgen.report.generalisation.evidence import Comparison, arms_of, choose, compare
from jaxgen.report.generalisation.prediction import Prediction, Transfer, predictions, transfers
from jaxgen.report.generalisation.settings import compare_settings, in_order, own
from jaxgen.results.records import Cell, Record

RANKING = "A"
"""The score of rankings: defined for every run, at all levels."""


class Findings(NamedTuple):
    """All that the sections of a report are written from."""

    records: list[Record]
    cells: list[Cell]
    """Arms that are evidence."""
    settings: list[tuple[str, Comparison]]
    """Presets and settings beside the algorithm that they change, see `compare_settings`."""
    aside: list[str]
    """Settings that were left aside."""
    answers: Mapping[words.Question, list[Comparison]]
    predictions: list[Prediction]
    transfers: list[Transfer]
    making: Mapping[str, Any] | None
    """How the results were made, see `jaxgen.report.source.making_of`."""


def findings_of(records: Sequence[Record], making: Mapping[str, Any] | None = None) -> Findings:
    """Compute all comparisons and predictions of the records."""
    chosen, aside = choose(records)
    cells = in_order(arms_of(chosen), (making or {}).get("folders", ()))
    answers = {question: compare(cells, question.pairs) for question in words.QUESTIONS}
    predicted = predictions(own(cells))
    return Findings(
        chosen, cells, compare_settings(cells), aside, answers, predicted, transfers(predicted),
        making,
    )  # fmt: skip


Illustrate = Callable[[str, Callable[[], Any], str], Block]
"""(name, function that draws the figure, caption) -> a picture, or what stands for it."""


def have_curves(cells: Sequence[Cell]) -> bool:
    """Whether any finished run of the cells has a learning curve."""
    return any(record.load_history() for cell in cells for record in cell.finished)
