"""`fetch_data` asks the config's source and keeps the answer where the next check and run read it."""

from datetime import date
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest

from components.market.errors import MarketError
from pipelines.commands.data import check_data, fetch_data

DEMO = Path(__file__).parents[2] / "pipelines" / "configs" / "demo.yaml"


def test_what_is_fetched_is_what_is_checked(tmp_path, monkeypatch):
    days = pd.bdate_range(date(2023, 1, 3), periods=30, tz="America/New_York")
    steps = pd.Series(range(30), index=days, dtype=float)
    answer = pd.DataFrame(
        {
            "Open": 100 + steps,
            "High": 102 + steps,
            "Low": 99 + steps,
            "Close": 101 + steps,
            "Volume": 1e6 + steps,
        }
    )
    module = ModuleType("yfinance")
    module.exceptions = SimpleNamespace(
        YFException=type("YFException", (Exception,), {}),
        YFRateLimitError=type("YFRateLimitError", (Exception,), {}),
    )
    module.Ticker = lambda symbol: SimpleNamespace(history=lambda **asked: answer)
    monkeypatch.setitem(__import__("sys").modules, "yfinance", module)
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    overrides = ["market.source=yahoo", "market.symbols=[AAA, BBB]", "market.start=2023-01-01"]
    said = fetch_data(DEMO, overrides)
    assert said.startswith(f"60 bars of yahoo in {tmp_path}")
    text = check_data(None, DEMO, overrides)
    assert "Bars of yahoo as fetched at" in text
    assert "rows: 60 in, 60 out" in text
    with pytest.raises(MarketError, match="simulator is not fetched"):
        fetch_data(DEMO, [])
