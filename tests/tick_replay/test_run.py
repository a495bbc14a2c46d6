"""The whole stage on a market of its own: tables and document fit each other, planted signals show, and what
must be refused is.
"""

import json
import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import ContractError, read_table, write_table
from components.contracts.documents.instruments import Instruments
from components.contracts.documents.tick_replay import TickReplay
from components.contracts.schemas import ALL_PREDICTIONS, FACTORS, LABELS
from components.contracts.tables import read_stamp
from components.contracts.tick_days import INSTRUMENTS
from components.contracts.tick_schemas import CURVE, DELAYS, FILLS, HALT, RESUME
from components.memory import need
from components.memory.limits import Limit
from components.sizing.known import SizingError
from components.spread import local, piece
from components.tick_replay.config import Settings
from components.tick_replay.day import ages_ns, spreads
from components.tick_replay.decisions import joined
from components.tick_replay.figures import NET, PAPER, _kept
from components.tick_replay.run import Inputs, Outputs, run
from tests.tick_replay.small_market import CENTS, MS, START, events, quote
from tests.tick_replay.walk import ABOUT, HORIZON, SAMPLE_MS, walk, write_run

SIZING = {"rule": "whole", "jitter_weight": 0.0}
FREE = {"maker_fee_bps": 0.0, "taker_fee_bps": 0.0, "bootstrap_draws": 200, "sizing": SIZING}
LATENCY = {"fixed_ms": (0, 100, 300, 1_000)}
FEW = {"policies": ("taker",), "latency": {"fixed_ms": (100,), "measured": False}}


def go(inputs: Inputs, folder, seed: int = 1, **given) -> TickReplay:
    settings = Settings(**{"policies": ("none", "taker"), "latency": LATENCY, **FREE, **given})
    outputs = Outputs(
        folder / "fills.parquet", folder / "curve.parquet", folder / "found.json", folder / "work"
    )
    about = {"target": "trade_class", "horizon": HORIZON, "seed": seed, "code": "test"}
    found = run(inputs, outputs, settings=settings.model_dump_json(), **about)
    assert TickReplay.read(outputs.found) == found
    return found


@pytest.fixture(autouse=True, scope="module")
def here():
    """Both symbols in this process: others would import for longer than they work."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local, "slots", lambda needs: 1)
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    """Two symbols of two minutes; one expert knows the future and says so every two seconds, which is longer
    than trades last, one says the opposite, one knows nothing.
    """
    walks = {"AAA": walk(120, 1), "BBB": walk(120, 2)}
    generator = np.random.default_rng(3)
    ahead = {
        symbol: np.where(np.arange(len(market.at)) % 8 == 0, 0.9 * np.sign(market.moves()), 0.0)
        for symbol, market in walks.items()
    }
    scores = {
        "oracle": ahead,
        "reversed": {symbol: -values for symbol, values in ahead.items()},
        "noise": {symbol: generator.choice([-0.9, 0.9], len(values)) for symbol, values in ahead.items()},
    }
    return write_run(tmp_path_factory.mktemp("run"), walks, scores)


@pytest.fixture(scope="module")
def found(inputs, tmp_path_factory) -> tuple[TickReplay, pl.DataFrame, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("out")
    report = go(inputs, folder)
    return report, read_table(folder / "fills.parquet", FILLS), read_table(folder / "curve.parquet", CURVE)


def of(report: TickReplay, expert: str, latency: str, policy: str = "taker"):
    return next(
        one for one in report.strategies if (one.expert, one.policy, one.latency) == (expert, policy, latency)
    )


def test_who_knows_the_future_keeps_less_the_later_orders_come(found):
    report = found[0]
    kept = [of(report, "oracle", latency).whole for latency in ("0ms", "100ms", "300ms", "1000ms")]
    assert kept[0].paper.total > 0
    assert all(one.paper == kept[0].paper for one in kept)
    for shares in ([one.kept_at_mid.share for one in kept], [one.implementable.share for one in kept]):
        assert shares == sorted(shares, reverse=True)
    assert kept[0].kept_at_mid.share == pytest.approx(1.0)
    low, high = kept[3].implementable.interval
    assert low < kept[3].implementable.share < high < 1.0
    # A move of less than the spread is known, and still does not pay.
    assert 0.8 < kept[0].hit_rate < 1.0


def test_the_share_of_a_loss_is_undefined_and_both_figures_are_there(found):
    whole = of(found[0], "reversed", "100ms").whole
    assert whole.paper.total < 0
    assert (whole.implementable.share, whole.implementable.interval) == (None, (None, None))
    assert whole.paper.interval[0] < whole.paper.total < whole.paper.interval[1]
    assert whole.net.interval[0] < whole.net.total < whole.net.interval[1]


def test_no_order_is_a_strategy_that_earns_nothing(found):
    one = of(found[0], "oracle", "100ms", "none")
    assert (one.whole.net.total, one.whole.trades, one.orders.orders) == (0.0, 0, 0)
    assert one.whole.implementable.share == 0.0


def test_document_and_tables_say_the_same(found):
    report, fills, curve = found
    for one in report.strategies:
        name = (pl.col("expert") == one.expert) & (pl.col("policy") == one.policy)
        own = curve.filter(name & (pl.col("latency") == one.latency))
        assert one.whole.gross.total == pytest.approx(own["gross"].sum(), abs=1e-9)
        assert one.whole.net.total == pytest.approx((own["gross"] - own["fees"]).sum(), abs=1e-9)
        for cut, parts in one.by.items():
            assert sum(part.net.total for part in parts) == pytest.approx(one.whole.net.total, abs=1e-9), cut
            assert sum(part.trades for part in parts) == one.whole.trades
        lots = fills.filter(name & (pl.col("latency") == one.latency))["lots"].sum()
        assert lots == one.orders.filled_lots
        orders = one.orders
        assert orders.sent_lots == orders.filled_lots + orders.cancelled_lots + orders.open_lots
    assert [part.part for part in report.strategies[0].by["symbol"]] == ["AAA", "BBB"]
    assert {part.part for part in report.strategies[0].by["regime"]} <= {"bear", "bull", "unknown"}
    latencies = [one.latency for one in report.strategies if one.policy == "none" and one.expert == "noise"]
    assert latencies == report.latencies == ["0ms", "100ms", "300ms", "1000ms", "measured"]
    assert report.acted["noise"] == report.decisions["noise"] > report.acted["oracle"] > 0


def test_the_same_seed_gives_the_same_and_another_one_other_draws(inputs, tmp_path, found):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    again, other = go(inputs, tmp_path / "a"), go(inputs, tmp_path / "b", seed=2)
    stamps = [read_stamp(tmp_path / name / "fills.parquet").content_sha256 for name in ("a", "b")]
    assert again == found[0]
    assert stamps[0] != stamps[1]
    assert of(other, "oracle", "100ms").whole.net.total == of(again, "oracle", "100ms").whole.net.total
    assert of(other, "oracle", "measured").whole.net.total != of(again, "oracle", "measured").whole.net.total


def test_luck_earns_nothing_on_paper_and_loses_the_costs(tmp_path):
    paper, net = [], []
    for seed in range(12):
        market = walk(30, 100 + seed)
        generator = np.random.default_rng(seed)
        scores = {"noise": {"AAA": generator.choice([-0.9, 0.9], len(market.at))}}
        folder = tmp_path / str(seed)
        whole = (
            go(write_run(folder, {"AAA": market}, scores), folder, maker_fee_bps=2.0, taker_fee_bps=2.0)
            .strategies[-1]
            .whole
        )
        paper.append(whole.paper.total)
        net.append(whole.net.total)
    error = np.std(paper, ddof=1) / np.sqrt(len(paper))
    assert abs(np.mean(paper)) < 3 * error
    assert max(net) < 0


def test_predictions_before_their_known_time_are_refused(inputs, tmp_path):
    early = read_table(inputs.features, FACTORS).with_columns(
        pl.col("known_time") + pl.duration(milliseconds=250)
    )
    path = tmp_path / "features.parquet"
    write_table(early, path, FACTORS, **ABOUT)
    with pytest.raises(ContractError, match="stand before what they are made of was known"):
        go(Inputs(inputs.ticks, inputs.predictions, inputs.labels, path, inputs.delays), tmp_path)
    assert not (tmp_path / "fills.parquet").exists()


def test_predictions_shifted_off_the_samples_are_refused(inputs, tmp_path):
    stamp = read_stamp(inputs.predictions)
    shifted = read_table(inputs.predictions, ALL_PREDICTIONS)
    shifted = shifted.with_columns(pl.col("timestamp") - pl.duration(milliseconds=100))
    path = tmp_path / "predictions.parquet"
    write_table(shifted, path, ALL_PREDICTIONS, inputs=stamp.inputs, **ABOUT)
    with pytest.raises(ContractError, match="no samples"):
        go(Inputs(inputs.ticks, path, inputs.labels, inputs.features, inputs.delays), tmp_path)


def test_what_has_no_label_is_traded_all_the_same(inputs, tmp_path, found):
    """A label is missing where the book is halted or thin a horizon later, which no trader knew."""
    values = [name for name in LABELS.columns if name not in LABELS.key]
    labels = read_table(inputs.labels, LABELS).with_columns(
        pl.when(pl.int_range(pl.len()) % 3 > 0).then(name).alias(name) for name in [*values, "trade_class"]
    )
    places = tmp_path / "labels.parquet", tmp_path / "predictions.parquet"
    made_from = {"labels": write_table(labels, places[0], LABELS, **ABOUT).content_sha256}
    rows = read_table(inputs.predictions, ALL_PREDICTIONS)
    write_table(rows, places[1], ALL_PREDICTIONS, inputs=made_from, **ABOUT)
    again = go(Inputs(inputs.ticks, places[1], places[0], inputs.features, inputs.delays), tmp_path)
    assert again.decisions == found[0].decisions
    assert again.strategies == found[0].strategies


def test_horizons_that_end_after_the_last_event_are_not_begun(inputs):
    rows = read_table(inputs.predictions, ALL_PREDICTIONS).filter(pl.col("symbol") == "AAA")
    features, last = read_table(inputs.features, FACTORS), rows["timestamp"].max()
    over = pl.Series([last]).dt.epoch("ns")[0] + HORIZON * SAMPLE_MS * MS
    assert joined(rows, features, HORIZON, over)["timestamp"].max() == last
    early = joined(rows, features, HORIZON, over - 1)["timestamp"].max()
    assert early == last - timedelta(milliseconds=SAMPLE_MS)


def test_predictions_of_other_labels_are_refused(inputs, tmp_path):
    path = tmp_path / "predictions.parquet"
    frame = read_table(inputs.predictions, ALL_PREDICTIONS)
    write_table(frame, path, ALL_PREDICTIONS, inputs={"labels": "other"}, **ABOUT)
    with pytest.raises(ContractError, match="was made from labels other"):
        go(Inputs(inputs.ticks, path, inputs.labels, inputs.features, inputs.delays), tmp_path)


def test_a_task_that_nobody_predicts_is_refused(inputs, tmp_path):
    outputs = Outputs(tmp_path / "a", tmp_path / "b", tmp_path / "c", tmp_path / "work")
    with pytest.raises(ContractError, match="no rows predict log_return over 4"):
        run(
            inputs,
            outputs,
            settings=Settings().model_dump_json(),
            target="log_return",
            horizon=4,
            seed=1,
            code="t",
        )


def test_a_symbol_without_delays_is_refused(inputs, tmp_path):
    delays = pl.read_parquet(inputs.delays).filter(pl.col("symbol") == "AAA")
    path = tmp_path / "delays.parquet"
    write_table(delays, path, DELAYS, **ABOUT)
    with pytest.raises(ContractError, match="The delays hold nothing of BBB"):
        go(Inputs(inputs.ticks, inputs.predictions, inputs.labels, inputs.features, path), tmp_path)


def test_without_measured_latency_no_delays_are_needed(inputs, tmp_path):
    path = tmp_path / "delays.parquet"
    write_table(pl.read_parquet(inputs.delays).clear(), path, DELAYS, **ABOUT)
    given = Inputs(inputs.ticks, inputs.predictions, inputs.labels, inputs.features, path)
    with pytest.raises(ContractError, match=r"nothing of AAA \(found: none\)"):
        go(given, tmp_path)
    sizing = {"rule": "whole", "jitter_weight": 1.0}
    told = go(given, tmp_path, latency={"fixed_ms": (100,), "measured": False}, sizing=sizing)
    assert told.latencies == ["100ms"]
    assert of(told, "oracle", "100ms").whole.trades > 0


def test_sizes_by_kelly_need_volatility(inputs, tmp_path):
    bare = read_table(inputs.features, FACTORS).drop("volatility_20")
    path = tmp_path / "features.parquet"
    write_table(bare, path, FACTORS, **ABOUT)
    given = Inputs(inputs.ticks, inputs.predictions, inputs.labels, path, inputs.delays)
    with pytest.raises(SizingError, match="volatility"):
        go(given, tmp_path, sizing={"rule": "kelly"})


def test_bets_too_large_to_be_counted_are_refused(inputs, tmp_path):
    with pytest.raises(SizingError, match=r"tick_replay.capital=1e\+17 .* half ticks times lots of AAA"):
        go(inputs, tmp_path, capital=1e17)
    assert not list(tmp_path.iterdir())


def test_a_capital_that_buys_no_lot_is_refused_before_anything_is_replayed(inputs, tmp_path):
    with pytest.raises(
        SizingError, match=r"capital=50 .* buys no lot of AAA \d+.*, BBB \d+.*order_value to more than 100\."
    ):
        go(inputs, tmp_path, capital=50.0)
    assert not list(tmp_path.iterdir())


def test_symbols_of_which_no_lot_can_be_bought_are_told_where_others_trade(inputs, tmp_path, capsys):
    ticks = tmp_path / "ticks"
    shutil.copytree(inputs.ticks, ticks)
    dear = {"AAA": CENTS, "BBB": CENTS.model_copy(update={"lot_size": 1_000.0})}
    Instruments(symbols=dear).write(ticks / INSTRUMENTS)
    found = go(replace(inputs, ticks=ticks), tmp_path, **FEW)
    told = capsys.readouterr()
    assert "buys no lot of BBB" in told.out + told.err
    trades = {part.part: part.trades for part in of(found, "oracle", "100ms").by["symbol"]}
    assert trades["AAA"] > 0 == trades["BBB"]


def test_strong_alpha_is_traded_and_alpha_below_its_costs_is_not(tmp_path):
    """Who knows the future is worth trading at a fee of 0, and of 2; at 50 bps nothing is worth it."""
    market = walk(60, 5)
    known = np.where(np.arange(len(market.at)) % 8 == 0, 0.9 * np.sign(market.moves()), 0.0)
    made = write_run(tmp_path / "in", {"AAA": market}, {"oracle": {"AAA": known}})
    trades = []
    for bps in (0.0, 2.0, 50.0):
        folder = tmp_path / str(bps)
        folder.mkdir()
        fees = {"maker_fee_bps": bps, "taker_fee_bps": bps, "sizing": {"rule": "kelly"}}
        found = go(made, folder, **{**FEW, **fees})
        whole = of(found, "oracle", "100ms").whole
        trades.append(whole.trades)
        assert (found.acted["oracle"] > 0) == (whole.trades > 0)
    assert trades[0] >= trades[1] > 0 == trades[2]
    assert (whole.net.total, whole.net.interval, whole.implementable.share) == (0.0, (0.0, 0.0), None)
    assert of(found, "oracle", "100ms").orders.orders == 0


def test_a_stale_book_is_not_traded_on_and_counted(inputs, tmp_path, found):
    # Quotes come up to 100 ms apart.
    told = go(inputs, tmp_path, stale_ms=20.0)
    assert 0 < told.stale["noise"] < told.decisions["noise"]
    assert told.acted["noise"] == told.decisions["noise"] - told.stale["noise"]
    assert set(found[0].stale.values()) == {0}


def test_a_share_of_a_paper_profit_that_may_be_none_is_undefined():
    draws = np.zeros((100, 5))
    draws[:, PAPER], draws[:, NET] = np.linspace(-1.0, 9.0, 100), 1.0
    totals = np.array([4.0, 0, 0, 1.0, 0])
    assert _kept(totals, draws, NET, 0.9).share is None
    assert _kept(totals, draws, NET, 0.9).interval == (None, None)
    draws[:, PAPER] += 1.0
    assert _kept(totals, draws, NET, 0.9).share == 0.25


def test_spreads_and_ages_are_of_what_was_known_then():
    rows = events(
        (0, quote(10_000, 5, 10_002, 5)),
        (100, quote(10_000, 5, 10_001, 5)),
        (200, [(HALT, 0, 0, 0)]),
        (300, [(RESUME, 0, 0, 0), *quote(10_003, 5, 10_002, 5)]),
        (400, quote(9_999, 5, 10_001, 5)),
    )
    at = START + np.array([-1, 0, 99, 100, 250, 350, 400, 900]) * MS
    found = spreads(rows, at)
    wide, narrow = 2 / 10_001, 1 / 10_000.5
    expected = [np.nan, wide, wide, narrow, np.nan, np.nan, 2 / 10_000, 2 / 10_000]
    assert found == pytest.approx(expected, nan_ok=True)
    ages = ages_ns(rows.time, at)
    assert ages[1:].tolist() == [age * MS for age in (0, 99, 0, 50, 50, 0, 500)]
    assert ages[0] > 1e18
    # What comes later changes nothing.
    changed = rows._replace(price=np.where(rows.time > at[3], rows.price + 7, rows.price))
    assert spreads(changed, at)[:4] == pytest.approx(expected[:4], nan_ok=True)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="interval_level"):
        Settings(interval_level=0.6)
    with pytest.raises(ValueError, match="size_steps"):
        Settings.model_validate_json(json.dumps({"sizing": {"size_steps": [[0.6, 0.5], [0.5, 1.0]]}}))
    with pytest.raises(ValueError, match=r"multiple of 0\.01"):
        Settings(taker_fee_bps=0.005)


def test_a_replay_that_is_killed_keeps_its_sessions(inputs, found, tmp_path, monkeypatch):
    honest, made = piece._named, []

    def killed_at_the_second(function):
        made.append(function)
        if len(made) == 2:
            raise KeyboardInterrupt
        return honest(function)

    monkeypatch.setattr(piece, "_named", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        go(inputs, tmp_path)
    assert go(inputs, tmp_path) == found[0]
    assert len(made) == 3, "the first session was replayed once, the second twice"
    assert not (tmp_path / "work").exists()


def test_curves_that_can_never_fit_are_refused_before_anything_is_replayed(
    inputs, found, tmp_path, monkeypatch
):
    """By as many rows as there are."""
    monkeypatch.setattr(need, "end", lambda root: Limit("planted", 20 * need.MIB, 0))
    said = rf"For {len(found[2]):,} rows .*planted.*not begun.*tick_replay\.step_seconds"
    with pytest.raises(need.TooLittleMemory, match=said):
        go(inputs, tmp_path)
    assert not list(tmp_path.iterdir())
