"""Algorithms by name: a view of their cards."""

from collections.abc import Callable, Iterator, Mapping

from jaxgen.algorithms.base import Algorithm, register_config
from jaxgen.study.cards import ALGORITHM_CARDS
from jaxgen.study.cards.base import resolve


class _Makers(Mapping[str, Callable[..., Algorithm]]):
    """Looks up the cards, so that it holds what is registered at run time."""

    def __getitem__(self, name: str) -> Callable[..., Algorithm]:
        card = ALGORITHM_CARDS[name]
        register_config(card.config)
        return resolve(card.make)

    def __iter__(self) -> Iterator[str]:
        return iter(ALGORITHM_CARDS)

    def __len__(self) -> int:
        return len(ALGORITHM_CARDS)


ALGORITHMS: Mapping[str, Callable[..., Algorithm]] = _Makers()
"""Name -> constructor (config, technique, spec) -> Algorithm."""
