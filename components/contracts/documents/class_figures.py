"""What the probabilities of a model that tells classes apart were worth in one window."""

from components.contracts.documents import Part
from components.contracts.documents.fields import Figure

__all__ = ["ClassBin", "ClassFigures", "ClassGroup", "ClassRow"]


class ClassBin(Part):
    """One of equally filled bins of the probability, lowest first."""

    bin: int
    predicted: Figure  # mean probability
    realised: Figure  # share that happened
    rows: int


class ClassRow(Part):
    """One class against the others."""

    name: str  # down, none, up
    share: Figure  # of the rows that were of the class
    predicted: Figure  # mean probability
    average_precision: Figure  # area under precision and recall; without skill the share
    brier: Figure  # mean squared distance of probability and what happened
    calibration_error: Figure  # mean distance of probability and frequency, by bins
    reliability: list[ClassBin]


class ClassGroup(Part):
    """All classes in the rows of one symbol or one period: means over the classes that the target has."""

    name: str  # the symbol, or the month as YYYY-MM
    rows: int
    average_precision: Figure  # over the classes that occurred
    brier: Figure
    calibration_error: Figure


class ClassFigures(Part):
    """The classes, and all of them together by symbol and by month."""

    rows: int
    average_precision: Figure  # mean over the classes that occurred
    brier: Figure  # sum over the classes of the squared distance, mean over the rows
    brier_of_shares: Figure  # the same of who always says the window's own shares
    calibration_error: Figure  # mean over the classes
    classes: list[ClassRow]
    by_symbol: list[ClassGroup]
    by_month: list[ClassGroup]
