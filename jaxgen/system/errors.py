"""The error that tells a refusal from a failure."""


class BadInput(ValueError):
    """A refusal: what was asked for cannot be done; the message says why, and what is allowed.

    A command line shows the message alone. Any other error is a failure of the program, and comes
    with its traceback.
    """
