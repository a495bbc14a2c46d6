"""Bars that had not ended, or been published, when their source was read are marked; simulated ones never
are.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from components.contracts import RAW_PANEL, read_stamp, read_table
from components.market.config import Settings
from components.market.load import load_panel
from components.market.run import Inputs, Outputs, run

DAYS = [date(2024, 7, 1) + timedelta(days=day) for day in range(5)]
NOW = datetime(2024, 7, 5, 18, tzinfo=UTC)


def write(folder: Path, last: date | None = None) -> None:
    dates = [*DAYS[:-1], last or DAYS[-1]]
    prices = {name: [1.0] * len(dates) for name in ("open", "high", "low", "close", "volume")}
    pl.DataFrame({"timestamp": dates, "symbol": "AAA", **prices}).write_parquet(folder / "bars.parquet")


def asked(**changes) -> Settings:
    return Settings(
        **{"source": "parquet", "path": "bars.parquet", "stamp": "session_date", "period": "1d", **changes}
    )


def unfinished(folder: Path, now: datetime, **changes) -> list[date] | None:
    panel = load_panel(asked(**changes), data_folder=folder, seed=0, now=now).panel
    if "unfinished" not in panel.columns:
        return None
    return panel.filter("unfinished")["timestamp"].dt.date().to_list()


def test_a_bar_is_unfinished_until_its_session_has_closed(tmp_path):
    write(tmp_path)
    assert unfinished(tmp_path, NOW) == [DAYS[-1]]
    assert unfinished(tmp_path, datetime(2024, 7, 5, 20, tzinfo=UTC)) is None
    assert unfinished(tmp_path, datetime(2024, 7, 3, 23, tzinfo=UTC)) == DAYS[3:]


def test_a_bar_is_unfinished_until_it_is_published(tmp_path):
    write(tmp_path)
    closed = datetime(2024, 7, 5, 20, tzinfo=UTC)
    assert unfinished(tmp_path, closed + timedelta(minutes=9), publication_lag_s=600) == [DAYS[-1]]
    assert unfinished(tmp_path, closed + timedelta(minutes=10), publication_lag_s=600) is None


def test_a_date_beyond_the_clock_is_marked(tmp_path):
    write(tmp_path, last=date(2062, 3, 1))
    assert unfinished(tmp_path, NOW) == [date(2062, 3, 1)]


def test_a_setting_says_as_of_when_and_wins_over_the_clock(tmp_path):
    write(tmp_path)
    assert unfinished(tmp_path, NOW, as_of="2100-01-01T00:00:00Z") is None
    assert unfinished(tmp_path, NOW, as_of="2024-07-03T12:00:00+02:00") == DAYS[2:]
    with pytest.raises(ValueError, match="timezone"):
        asked(as_of="2024-07-03T12:00:00")


def test_the_clock_is_read_where_nothing_says_when(tmp_path):
    today = datetime.now(UTC).date()
    write(tmp_path, last=today + timedelta(days=2))
    panel = load_panel(asked(), data_folder=tmp_path, seed=0).panel
    assert panel["unfinished"].to_list() == [False] * 4 + [True]


def test_a_simulated_market_may_lie_ahead(tmp_path):
    settings = Settings(simulator={"symbols": 12, "bars": 40, "start": date(2090, 1, 2)})
    assert "unfinished" not in load_panel(settings, data_folder=tmp_path, seed=1, now=NOW).panel.columns


def ingest(folder: Path, name: str, **changes) -> str:
    outputs = Outputs(folder / f"{name}.parquet", folder / f"{name}_truth.parquet")
    run(Inputs(0), outputs, settings=asked(**changes).model_dump_json(), code="c")
    return read_stamp(outputs.panel).content_sha256


def test_the_clock_changes_what_is_ingested_only_where_a_bar_is_unfinished(tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHALOOP_DATA", str(tmp_path))
    write(tmp_path)
    later, much_later = (ingest(tmp_path, str(day), as_of=f"2024-07-{day}T00:00:00Z") for day in (12, 29))
    assert later == much_later
    assert ingest(tmp_path, "early", as_of=NOW.isoformat()) != later
    assert read_table(tmp_path / "early.parquet", RAW_PANEL)["unfinished"].to_list() == [False] * 4 + [True]
