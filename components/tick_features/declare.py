"""How a feature of ticks is declared: an operation on counts or values, over a window of samples."""

from dataclasses import dataclass
from typing import Literal

Normalisation = Literal["none", "robust", "rank"]
# What the operations do; s(a) is the sum of the count a over the window, m the mid of the sample in half
# ticks. The kernel (sampling.py) knows them by their place here.
OPERATIONS = {
    "value": "{a}",
    "log": "log(1 + {a})",
    "log_total": "log(1 + s({a}))",
    "per": "s({a}) / s({b}), 0 where nothing was",
    "balance": "(s({a}) - s({b})) / (s({a}) + s({b})), 0 where nothing was",
    "log_ratio": "log((1 + max(s({a}), 0)) / (1 + max(s({b}), 0)))",
    "return": "log(m / (m - s({a})))",
    "root": "sqrt(s({a})) / m",
    "deviation": "standard deviation of {a} / m, from the sums of it and of {b}, not below half a tick once",
    "gap": "log(m) - log(2 * s({a}) / s({b})), the last known where nothing was traded",
    "change": "{a} - {a} a window before",
}
VALUE, LOG, LOG_TOTAL, PER, BALANCE, LOG_RATIO, RETURN, ROOT, DEVIATION, GAP, CHANGE = range(len(OPERATIONS))
BPS = 1e4


@dataclass(frozen=True)
class Feature:
    """One feature: `operation` on what `of` names, times `scale`; of values where there is no window, else of
    counts (`change`: of a value).

    `normalisation` says what the models' input is made of it: `none` hands over the value itself.
    """

    name: str
    group: str
    operation: str
    of: tuple[str, ...]
    source: str
    window: int = 0
    scale: float = 1.0
    normalisation: Normalisation = "none"

    @property
    def code(self) -> int:
        """The operation's number."""
        return list(OPERATIONS).index(self.operation)

    @property
    def counts(self) -> tuple[str, ...]:
        """The counts whose sums over the window it reads."""
        return self.of if self.operation not in ("value", "log", "change") else ()

    @property
    def warm_up_samples(self) -> int:
        """Samples from the first whole book on, that with the first value included."""
        return self.window + 1

    @property
    def expression(self) -> str:
        """What it is, in words."""
        text = OPERATIONS[self.operation].format(**dict(zip("ab", self.of, strict=False)))
        window = f" over {self.window} samples" if self.window else ""
        return f"{text}{window}" + (f", times {self.scale:g}" if self.scale != 1 else "")
