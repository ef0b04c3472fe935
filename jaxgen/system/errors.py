"""The error that tells a refusal from a failure."""


class BadInput(ValueError):
    """What was asked for cannot be done as asked; the message says why, and what is allowed.

    A command line shows the message alone. Any other error is a failure of the program, and comes
    with its traceback.
    """
