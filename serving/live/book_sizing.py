"""How the book of a served model is sized: by the settings that it was judged with."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from components.contracts import ContractError
from components.settings import values_hash


@dataclass(frozen=True)
class BookSizing:
    """How one new long-short book is sized: the fields of `components.sizing.Book`; the `usual` uncertainty
    of its model, infinite where the bundle does not hold it; and of the model the bars of its `horizon` and
    of a year. `rules` is the hash of the universe that it was judged in, empty where that was every name.

    Fields with a default are younger than some bundles: without them a book had no such limit.
    """

    quantile: float
    top_k: int
    top_k_max_share: float
    gross_exposure: float
    max_weight: float
    sizing: str
    skip_share: float
    kelly_fraction: float = 0.5
    size_steps: tuple[tuple[float, float], ...] = ()
    max_sector_weight: float | None = None
    max_beta: float | None = None
    volatility_target: float | None = None
    usual: float = field(default=float("inf"), metadata={"of": "model"})
    horizon: int = field(default=1, metadata={"of": "model"})
    bars_per_year: float = field(default=252.0, metadata={"of": "model"})
    rules: str = field(default="", metadata={"of": "model"})

    @classmethod
    def of(cls, manifest: Mapping[str, Any], usual: float = float("inf")) -> "BookSizing":
        """The book that the model was judged with."""
        try:
            settings = manifest["config"]["backtest"]
            named = {
                name: settings[name] for name, needed in _settings(cls).items() if needed or name in settings
            }
            if named.get("volatility_target") is not None:
                named["bars_per_year"] = float(manifest["bars_per_year"])
            return cls(**named, usual=usual, horizon=int(manifest.get("horizon", 1)), rules=_rules(manifest))
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(
                f"The bundle's manifest does not say how its book is sized (config.backtest: {error}). Train"
                " the model again."
            ) from error


def lacking(manifest: Mapping[str, Any]) -> list[str]:
    """The settings of a book that the bundle is too old to hold."""
    settings = manifest["config"]["backtest"]
    return [name for name, needed in _settings(BookSizing).items() if not needed and name not in settings]


def _settings(sizing: type[BookSizing]) -> dict[str, bool]:
    """The fields that are settings of the backtest, and whether every bundle has them."""
    return {one.name: one.default is MISSING for one in fields(sizing) if one.metadata.get("of") != "model"}


def _rules(manifest: Mapping[str, Any]) -> str:
    """Bundles from before there was a universe have none."""
    values = manifest["config"].get("market", {}).get("universe", {})
    asks = any(value is not None for name, value in values.items() if name != "bars")
    return values_hash(values) if asks else ""
