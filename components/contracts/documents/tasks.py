"""A task as documents name it."""

from components.contracts.documents import Part

__all__ = ["PredictedTask"]


class PredictedTask(Part):
    """A label column that is predicted, over so many bars."""

    target: str
    horizon: int
