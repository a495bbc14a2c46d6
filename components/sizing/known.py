"""What books are sized by beside a model's scores and their uncertainties, as known at each bar."""

from dataclasses import dataclass, replace

import numpy as np

from components.contracts import BETA_COLUMN, SECTOR_COLUMN, VOLATILITY_COLUMN, AlphaloopError

# A name of whose past returns fewer are known gets no position where the book's volatility is aimed at.
LEAST_SEEN = 0.5


class SizingError(AlphaloopError):
    """What a book is sized by is not there."""


@dataclass(frozen=True)
class Known:
    """Arrays are (bars, symbols), NaN where unknown; None: nobody knows, or nobody asked.

    usual : the uncertainty that a model's predictions rarely exceed while it learns (`usual_uncertainty`),
        one for all or as an array; infinite: nobody knows
    up, down : probabilities that the target's class is up and down; None where the target is a number
    volatility : standard deviation of the name's log returns, a bar; `horizon` counts the bars of a label
    sector : codes of sectors
    beta : slope of the name's returns on the market's
    past : (bars, symbols, PAST_RETURN_BARS), log returns of the bars up to this one, 0 where unknown
    seen : share of `past` that is known
    bars_per_year : annualises the volatility of `past`
    """

    usual: np.ndarray | float = np.inf
    up: np.ndarray | None = None
    down: np.ndarray | None = None
    volatility: np.ndarray | None = None
    horizon: int = 1
    sector: np.ndarray | None = None
    beta: np.ndarray | None = None
    past: np.ndarray | None = None
    seen: np.ndarray | None = None
    bars_per_year: float = 252.0

    def at(self, bars: slice) -> "Known":
        """Of some of the bars."""
        found = {name: values for name, values in vars(self).items() if isinstance(values, np.ndarray)}
        return replace(self, **{name: values[bars] for name, values in found.items()})

    @property
    def move(self) -> np.ndarray:
        """What a class stands for: the standard deviation of the name's log returns over the horizon."""
        return self.asked("volatility", "sizing") * np.sqrt(self.horizon)

    def asked(self, name: str, setting: str) -> np.ndarray:
        """One of the arrays.

        Raises
        ------
        SizingError
            If it is not there; `setting` is what asks for it.
        """
        found = getattr(self, name)
        if found is None:
            raise SizingError(
                f"backtest.{setting} needs {WORDS[name]}, which nobody gave. Run the stages from the features"
                f" on again, or leave backtest.{setting} out."
            )
        return found


NOTHING_KNOWN = Known()
WORDS = {
    "volatility": f"the volatility of each name ({VOLATILITY_COLUMN})",
    "sector": f"the sector of each name ({SECTOR_COLUMN})",
    "beta": f"the beta of each name ({BETA_COLUMN})",
    "past": "the past returns of each name",
    "seen": "the past returns of each name",
}
