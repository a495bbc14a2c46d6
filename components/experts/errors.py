"""The error of an expert that failed: the trainer leaves that expert out and goes on with the others."""

from components.contracts import AlphaloopError


class ExpertError(AlphaloopError):
    """An expert raised, or gave predictions that break the contract.

    The message names the expert and the fold.
    """


class Stopped(Exception):
    """Whoever watches a training wants no more of it.

    The trainer lets it through as it is; finished folds stay.
    """
