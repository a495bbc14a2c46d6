"""Labels made in pieces have the bytes of those made whole, whatever the pieces, and a piece that does not
see as far as its labels do is caught.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from components.contracts import LABELS, PANEL, check_table, write_table
from components.contracts.cut import cut_of
from components.labels import in_pieces
from components.labels.build import build_labels
from components.labels.config import Settings
from components.labels.in_pieces import build_in_pieces, margin_bars
from components.metrics.far_labels import far_labels
from components.settings import config_hash

BARS, SYMBOLS = 160, 9
SETTINGS = Settings(
    horizons=(1, 4, 15),
    primary_horizon=4,
    barriers={"volatility_bars": 11},
    betas={"window_bars": 30},
    costs={"half_spread": "roll", "spread_bars": 25, "order_value": 1e5, "volume_bars": 13},
)
STAMPED = {"code_version": "c", "inputs": {"panel": "p"}}


@pytest.fixture(scope="module")
def panel() -> pl.DataFrame:
    """Random walks with gaps of one bar and of many, a symbol that comes late and one that goes early,
    unknown sectors, bars that can't be traded, steps in price, rows that became known late.
    """
    rng = np.random.default_rng(11)
    shape = (BARS, SYMBOLS)
    close = 40 * np.exp(np.cumsum(rng.normal(0, 0.02, shape), axis=0))
    opened = close * np.exp(rng.normal(0, 0.004, shape))
    there = rng.random(shape) > 0.06
    there[:70, -1] = there[110:, 0] = there[40:75, 1] = False
    bar, name = np.nonzero(there)
    at = pl.Series([datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(BARS)])
    at = at.cast(pl.Datetime("us", "UTC")).gather(bar)
    sectors = [None if s == 4 else ("a", "b")[s % 2] for s in range(SYMBOLS)]
    prices = {
        "open": opened,
        "high": np.maximum(opened, close) * 1.01,
        "low": np.minimum(opened, close) * 0.99,
        "close": close,
        "volume": np.exp(rng.normal(12, 1, shape)),
    }
    late = pl.when(pl.int_range(pl.len()) % 31 == 3).then(pl.duration(days=9)).otherwise(pl.duration(days=0))
    rows = pl.DataFrame(
        {
            "timestamp": at,
            "symbol": pl.Series([f"S{s}" for s in range(SYMBOLS)]).gather(name),
            "sector": pl.Series(sectors).gather(name),
            **{column: values[bar, name] for column, values in prices.items()},
            **{column: rng.random(len(bar)) < 0.02 for column in ("unbuyable", "unsellable", "level_step")},
        }
    )
    rows = rows.with_columns(
        period=pl.lit("1d"), event_time="timestamp", known_time=pl.col("timestamp") + late
    )
    return check_table(rows.sort("timestamp", "symbol"), PANEL)


@pytest.fixture(scope="module")
def whole(panel, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "labels"
    write_table(build_labels(panel, SETTINGS), path, LABELS, config_hash=config_hash(SETTINGS), **STAMPED)
    return path.read_bytes()


def pieces(panel: pl.DataFrame, rows: int, folder, settings: Settings = SETTINGS) -> bytes:
    panel.write_parquet(folder / "panel", row_group_size=200)
    scan = pl.scan_parquet(folder / "panel")
    labelled = build_in_pieces(
        scan, cut_of(scan, rows), settings, folder / "labels", config_hash=config_hash(settings), **STAMPED
    )
    assert labelled == pl.read_parquet(folder / "labels")["log_return"].count()
    assert {path.name for path in folder.iterdir()} == {"panel", "labels"}
    return (folder / "labels").read_bytes()


@pytest.mark.parametrize("rows", [10**9, 500, 60, 1])
def test_pieces_of_any_size_give_the_bytes_of_the_whole(panel, whole, rows, tmp_path):
    assert pieces(panel, rows, tmp_path) == whole


@pytest.mark.parametrize("lost", [(1, 0), (0, 1)])
def test_a_cut_that_loses_a_bar_before_or_after_it_would_show(panel, whole, lost, tmp_path, monkeypatch):
    """The margin is as wide as it must be: the last bar of the longest horizon, the first of the window."""
    before, after = margin_bars(SETTINGS)
    monkeypatch.setattr(in_pieces, "margin_bars", lambda _: (before - lost[0], after - lost[1]))
    assert pieces(panel, 60, tmp_path) != whole


def test_a_panel_without_opens_is_entered_at_closes_in_every_piece(panel, tmp_path, capsys):
    closed = panel.with_columns(open=pl.lit(None, pl.Float64))
    found = pieces(closed, 60, tmp_path)
    assert capsys.readouterr().err.count("no open prices") == 1
    path = tmp_path / "w"
    write_table(build_labels(closed, SETTINGS), path, LABELS, config_hash=config_hash(SETTINGS), **STAMPED)
    assert found == path.read_bytes()


@pytest.mark.parametrize("rows", [10**9, 60])
def test_far_labels_are_those_of_the_whole(panel, rows, tmp_path, monkeypatch):
    jumped = panel.with_columns(
        pl.when((pl.col("symbol") == "S3") & (pl.int_range(pl.len()) > len(panel) // 2))
        .then(pl.col(name) * 9)
        .otherwise(name)
        .alias(name)
        for name in ("open", "high", "low", "close")
    ).with_columns(level_step=pl.lit(False))
    judged = []
    monkeypatch.setattr(in_pieces, "judge", lambda found, settings: judged.append(found))
    pieces(jumped, rows, tmp_path)
    labels = build_labels(jumped, SETTINGS).filter(pl.col("horizon") == SETTINGS.primary_horizon)
    assert len(judged[0]) == 1
    assert_frame_equal(judged[0], far_labels(labels), rel_tol=1e-12)
    pieces(panel.head(20), 10, tmp_path)
    assert judged[-1].is_empty()
