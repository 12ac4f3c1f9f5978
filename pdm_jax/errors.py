"""The one error that is shown to a user as a single line."""


class UserError(ValueError):
    """A user's mistake: the message says what was wrong, what was expected and what to do.

    The commands print it without a traceback and exit with status 2.
    """
