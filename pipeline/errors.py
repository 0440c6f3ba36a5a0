"""What a user can get wrong or may be told: every one is printed as one sentence, without a traceback."""


class UserError(Exception):
    """Input that cannot be used. The message says what was given, what would do, and which key to change."""


class FailedRunsError(UserError):
    """A sweep ended with failed runs; the table of them has been printed already."""
