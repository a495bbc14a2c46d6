"""The service's signals on the terminal: one row a symbol, and tables of further tasks and of prices where
there are any.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from serving.client import Client

KEY_VARIABLE = "ALPHALOOP_API_KEY"
BAND = (("score", 3), ("p10", 2), ("p50", 2), ("p90", 2))


def predict_tables(
    symbols: Sequence[str], url: str, *, prices: bool = False, key: str | None = None, timeout_s: float = 5.0
) -> list[Table]:
    """Ask the service at `url` for the symbols' signals, with price forms where `prices` are asked for, and
    lay them out.

    `key` defaults to the first one in ALPHALOOP_API_KEY. Raises `serving.client.ServiceError` with the
    service's own message.
    """
    key = key or os.environ.get(KEY_VARIABLE, "").split(",")[0].strip() or None
    with Client(url, key, timeout_s) as client:
        answer = client.signals(list(dict.fromkeys(symbols)), prices=prices)
    return [lay_out(answer), *_of_tasks(answer), *_of_prices(answer)]


def lay_out(answer: dict[str, Any]) -> Table:
    """An answer of POST /signals or POST /score as a table; scores and bands in percent, stale
    rows marked.
    """
    model, features = answer["model"], answer["features"]
    table = Table(
        title=(
            f"{escape(str(model['name']))} version {model['version']}: {escape(str(answer['target']))} over"
            f" {answer['horizon_bars']} bars ({escape(str(answer['period']))})"
        ),
        caption=(
            f"features of {features['newest']} from the {features['source']}; bundle"
            f" {str(model['bundle_sha256'])[:12]}; request {escape(str(answer['request_id']))}"
        ),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("symbol", style="bold")
    for name in ("score %", "p10 %", "p50 %", "p90 %", "uncertainty %", "position %"):
        table.add_column(name, justify="right")
    table.add_column("bar (UTC)")
    table.add_column("known (UTC)")
    table.add_column("")
    for signal in answer["signals"]:
        numbers = [
            _percent(signal[name], digits) for name, digits in (*BAND, ("uncertainty", 2), ("position", 2))
        ]
        marks = [
            f"[yellow]{word}[/]"
            for word, on in (("stale", signal["stale"]), ("behind others", signal["behind"]))
            if on
        ]
        table.add_row(
            escape(signal["symbol"]),
            *numbers,
            _minute(signal["feature_time"]),
            _minute(signal["known_time"]),
            " ".join(marks),
        )
    return table


def _of_tasks(answer: dict[str, Any]) -> Iterator[Table]:
    """A table of what is predicted beside the judged task; none where nothing is."""
    signals = [signal for signal in answer["signals"] if signal.get("tasks")]
    if not signals:
        return
    table = Table(title="further tasks: predicted beside it, not judged", title_justify="left")
    table.add_column("symbol", style="bold")
    table.add_column("task")
    for name in ("score %", "p10 %", "p50 %", "p90 %", "uncertainty %"):
        table.add_column(name, justify="right")
    for signal in signals:
        for task in signal["tasks"]:
            numbers = [_percent(task[name], digits) for name, digits in (*BAND, ("uncertainty", 2))]
            table.add_row(escape(signal["symbol"]), _task(task["target"], task["horizon"]), *numbers)
    yield table


def _of_prices(answer: dict[str, Any]) -> Iterator[Table]:
    """A table of price forms, of the judged task and of further ones; none where none were asked for."""
    if not any("prices" in signal for signal in answer["signals"]):
        return
    table = Table(
        title="as returns and prices",
        caption="return and price: the middle of what may come, below its mean; p10 and p90 are exact",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("symbol", style="bold")
    table.add_column("task")
    for name in ("close", "return %", "p10 %", "p90 %", "price", "p10", "p90"):
        table.add_column(name, justify="right")
    table.add_column("")
    for signal in answer["signals"]:
        own = {"target": answer["target"], "horizon": answer["horizon_bars"], "prices": signal["prices"]}
        for task in (own, *signal.get("tasks", ())):
            table.add_row(escape(signal["symbol"]), _task(task["target"], task["horizon"]), *_priced(task))
    yield table


def _priced(task: dict[str, Any]) -> list[str]:
    """Close, return and price with their bands, and why some are missing."""
    prices, none = task["prices"], dict.fromkeys(("score", "p10", "p90"))
    plain, later = prices["antilog_return"] or none, prices["future_price"] or none
    return [
        _price(prices["close"]),
        *(_percent(plain[name], 2) for name in none),
        *(_price(later[name]) for name in none),
        escape(prices["missing"] or ""),
    ]


def _task(target: str, horizon: int) -> str:
    return escape(f"{target} over {horizon} {'bar' if horizon == 1 else 'bars'}")


def _price(value: float | None) -> str:
    return "–" if value is None else f"{value:,.6g}"


def _percent(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _minute(moment: str | None) -> str:
    return moment[:16].replace("T", " ") if moment else "–"
