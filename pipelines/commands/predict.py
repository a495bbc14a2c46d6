"""The service's signals on the terminal: one row a symbol."""

import os
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from serving.client import Client

KEY_VARIABLE = "ALPHALOOP_API_KEY"


def predict_table(
    symbols: Sequence[str], url: str, *, key: str | None = None, timeout_s: float = 5.0
) -> Table:
    """Ask the service at `url` for the symbols' signals and lay them out.

    `key` defaults to the first one in ALPHALOOP_API_KEY. Raises `serving.client.ServiceError` with the
    service's own message.
    """
    key = key or os.environ.get(KEY_VARIABLE, "").split(",")[0].strip() or None
    with Client(url, key, timeout_s) as client:
        return lay_out(client.signals(list(dict.fromkeys(symbols))))


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
            _percent(signal[name], digits)
            for name, digits in (
                ("score", 3),
                ("p10", 2),
                ("p50", 2),
                ("p90", 2),
                ("uncertainty", 2),
                ("position", 2),
            )
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


def _percent(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _minute(moment: str | None) -> str:
    return moment[:16].replace("T", " ") if moment else "–"
