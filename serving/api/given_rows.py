"""Rows of features that a client gives, and the rules that hold for them whatever form they came in.

Shapes: B rows, F inputs, C context columns, L bars of a window.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.api.refusal import Refusal
from serving.api.request_types import CrossSection
from serving.config import Settings

# How far a given row's timestamp may lie ahead of this machine's clock.
FUTURE_TOLERANCE_S = 60.0


@dataclass(frozen=True)
class Shape:
    """What the champion needs of a row."""

    columns: tuple[str, ...]
    context: tuple[str, ...]
    lookback_bars: int
    whole_bars: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.columns, *self.context)


@dataclass(frozen=True)
class GivenRows:
    """Rows to score:

    `symbols` and int64 `timestamps_us` [B], float32 `values` [B, F + C] and `window` [B, L, F] or None.
    `prices`: whether the answer is to carry price forms.
    """

    symbols: list[str]
    timestamps_us: np.ndarray
    values: np.ndarray
    window: np.ndarray | None
    cross_section: CrossSection
    prices: bool = False


def require_cross_section(given: str | None) -> None:
    """Refuse a `cross_section` in the address that is neither `market` nor `batch`."""
    if given not in (None, "market", "batch"):
        raise Refusal(
            422,
            "wrong_value",
            f"cross_section={given[:100]!r} is neither market nor batch.",
            field="cross_section",
        )


def read_prices(given: str | None) -> bool | None:
    """What `prices` in the address says; None where it is not there, a Refusal for what is no yes or no."""
    if given not in (None, "true", "false"):
        raise Refusal(
            422, "wrong_value", f"prices={given[:100]!r} is neither true nor false.", field="prices"
        )
    return None if given is None else given == "true"


def require_size(rows: int, settings: Settings) -> None:
    """Refuse more rows than one request may hold."""
    if rows > settings.max_rows:
        raise Refusal(
            413,
            "oversized_batch",
            f"{rows:,} rows are more than the {settings.max_rows:,} that one request may hold. Split them.",
            field="rows",
        )


def require_once(values: Sequence[Any], what: str, name: Callable[[int], str]) -> None:
    """Refuse a value that occurs twice; `name` says of a place how the field is called."""
    if len(set(values)) == len(values):
        return
    seen: set[Any] = set()
    for place, value in enumerate(values):
        if value in seen:
            raise Refusal(
                422,
                "duplicate_symbol",
                f"{value!r} occurs twice in {what}. Name each once.",
                field=name(place),
            )
        seen.add(value)


def require_columns(given: Collection[str], shape: Shape, where: str) -> None:
    """Refuse a column that is missing, or one that the model does not take."""
    names = set(shape.names)
    missing = [name for name in shape.names if name not in given]
    if missing:
        raise Refusal(
            422,
            "missing_feature",
            f"{where} lacks {missing[0]!r} ({len(missing)} of {len(names)} are missing). GET /model lists"
            " all; send null for an unknown value.",
            field=f"{where}.{missing[0]}",
        )
    extra = sorted(name for name in given if name not in names)
    if extra:
        raise Refusal(
            422,
            "extra_feature",
            f"{where} holds {extra[0][:100]!r}, which the model does not take ({len(extra)} are surplus)."
            " Remove it.",
            field=f"{where}.{extra[0]}"[:200],
        )


def checked(rows: GivenRows, shape: Shape, now_us: int) -> GivenRows:
    """Refuse a part of a bar where the model needs the whole, moments of the future or before 1970, and a
    symbol that occurs twice at one moment.
    """
    if shape.whole_bars and rows.cross_section == "market":
        raise Refusal(
            422,
            "whole_bars_needed",
            "The model that is served looks across the symbols of a bar, so rows can't be scored one by one"
            " against the market. Send whole bars (all symbols of a timestamp) with cross_section batch; POST"
            " /signals gives the scores of the market's newest bar.",
            field="cross_section",
        )
    late = rows.timestamps_us > now_us + FUTURE_TOLERANCE_S * 1e6
    if late.any():
        place = int(late.argmax())
        raise Refusal(
            422,
            "future_timestamp",
            f"rows[{place}].timestamp lies in the future. A bar is scored once it is complete.",
            field=f"rows[{place}].timestamp",
        )
    if (rows.timestamps_us < 0).any():
        place = int((rows.timestamps_us < 0).argmax())
        raise Refusal(
            422, "wrong_value", f"rows[{place}].timestamp lies before 1970.", field=f"rows[{place}].timestamp"
        )
    require_once(
        list(zip(rows.symbols, rows.timestamps_us.tolist(), strict=True)),
        "rows",
        lambda place: f"rows[{place}].symbol",
    )
    return rows


def missing_window(place: int, shape: Shape) -> Refusal:
    """What a row without a window is answered where the model needs one."""
    return Refusal(
        422,
        "missing_window",
        f"rows[{place}] has no window, but the model that is served needs {window_words(shape)}.",
        field=f"rows[{place}].window",
    )


def window_words(shape: Shape) -> str:
    """What a window must hold, for people."""
    return (
        f"{shape.lookback_bars} bars of {len(shape.columns)} inputs each, oldest first, the newest bar last"
    )
