"""Standard streams that stop no work: what they do not take is dropped."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO

REFUSALS = (OSError, ValueError)
"""Errors of writing: the reader has gone, the terminal or the file is closed, the disk is full."""


class _Dropping:
    """A text stream that drops what the one inside it does not take."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            letters = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            self.write(letters)
        except REFUSALS:
            pass
        return len(text)

    def flush(self) -> None:
        with suppress(*REFUSALS):
            self._stream.flush()

    def isatty(self) -> bool:
        with suppress(*REFUSALS):
            return self._stream.isatty()
        return False


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Drop what cannot be printed, while the block or the decorated function runs.

    Ctrl-C ends `tee` first, `head` reads ten lines, a terminal is closed, a log fills its disk, an
    encoding lacks a letter: no work is lost for want of a line.
    """
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    with ExitStack() as stack:
        streams = [
            stack.enter_context(open(os.devnull, "w")) if stream is None else stream
            for stream in before
        ]
        sys.stdout, sys.stderr = map(_Dropping, streams)  # pyright: ignore
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
            for stream in streams:
                _let_go(stream)


def _fill_descriptors() -> None:
    """Give the numbers of closed streams to nothing, before a file of results gets them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _let_go(stream: TextIO) -> None:
    """Drop what a stream still holds, where the interpreter would fail to write it at its end."""
    try:
        stream.flush()
    except REFUSALS:
        with suppress(*REFUSALS):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
