"""The errors that a person sees. Each message names the place, what was found and how to mend it."""


class AlphaloopError(Exception):
    """A problem that the user can mend.

    The command line prints it below `title`, without a traceback, and exits with `exit_code`.
    """

    exit_code = 2
    title = "Error"


class ContractError(AlphaloopError):
    """A table or artifact does not have the form that the next stage relies on."""
