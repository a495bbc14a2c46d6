"""Simulated order books: what a clean market keeps to, what is planted, and that nothing else tells the
future.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from components.contracts.documents.tick_truth import TRUTH, TickTruth
from components.contracts.tables import check_table
from components.contracts.tick_schemas import BUY, DEPTH, QUOTE, RAW_TICKS, SELL, SNAPSHOT, TRADE
from components.settings import ConfigError, validate_settings
from components.ticks.config import Settings
from components.ticks.errors import TicksError
from components.ticks.run import IngestOutputs, run_ingest
from components.ticks.sources import simulator, simulator_alpha, simulator_flow
from components.ticks.sources.simulator_config import SimulatorSettings

DAY = "2026-01-05"
QUIET = {"silences_an_hour": 0.0}


def market(**values) -> SimulatorSettings:
    return validate_settings(SimulatorSettings, values, source="test")


def made(seed: int = 1, symbol: str = "S1", **values) -> simulator.Made:
    return simulator.simulate_session(market(**values), seed, symbol, DAY)


def rebuilt(ticks: pl.DataFrame) -> tuple[dict[int, int], dict[int, int]]:
    """The oracle: a book kept in dictionaries, price to quantity for bid and ask."""
    book: tuple[dict[int, int], dict[int, int]] = ({}, {})
    last = None
    depth = ticks.filter(pl.col("kind").is_in([SNAPSHOT, DEPTH]))
    for kind, side, price, quantity, message in depth.select(
        "kind", "side", "price", "quantity", "message"
    ).iter_rows():
        if kind == SNAPSHOT and message != last:
            book[0].clear()
            book[1].clear()
        last = message
        levels = book[0] if side == BUY else book[1]
        levels.pop(price, None)
        if quantity:
            levels[price] = quantity
    return book


@pytest.fixture(scope="module")
def clean() -> simulator.Made:
    return made(session_minutes=20, symbols=2)


def test_the_book_rebuilt_from_updates_is_the_simulators_own(clean):
    bids, asks = rebuilt(clean.ticks)
    levels = range(simulator_flow.LEVELS)
    assert bids == {int(clean.touch[0]) - level: clean.book[0, level] for level in levels}
    assert asks == {int(clean.touch[1]) + level: clean.book[1, level] for level in levels}


def test_quotes_are_never_crossed_and_agree_with_the_book_at_every_message(clean):
    quotes = clean.ticks.filter(pl.col("kind") == QUOTE)
    bid, ask = quotes.filter(pl.col("side") == BUY), quotes.filter(pl.col("side") == SELL)
    assert len(bid) == len(ask) > 1_000
    spread = (ask["price"] - bid["price"]).to_numpy()
    assert set(spread) == {1, 3}
    assert (quotes["quantity"] > 0).all()
    # After the depth message of an event the touch of the levels is that of the quote before it.
    part = clean.ticks.head(20_000)
    ends = part.filter(pl.col("kind") == DEPTH)["sequence"].to_list()[5_000]
    part = clean.ticks.filter(pl.col("message") <= clean.ticks["message"][ends])
    bids, asks = rebuilt(part)
    quoted = part.filter(pl.col("kind") == QUOTE)
    assert max(bids) == quoted.filter(pl.col("side") == BUY)["price"][-1]
    assert min(asks) == quoted.filter(pl.col("side") == SELL)["price"][-1]


def test_updates_are_chained_from_the_snapshot_on(clean):
    assert clean.ticks["kind"][0] == SNAPSHOT
    messages = clean.ticks.filter(pl.col("kind") == DEPTH).unique("message", maintain_order=True)
    before = [clean.ticks["update_id"][0], *messages["update_id"][:-1]]
    assert messages["previous_update_id"].to_list() == before


def test_trades_happen_at_the_touch_and_leave_it_a_lot(clean):
    quoted = pl.col("kind") == QUOTE
    ticks = clean.ticks.with_columns(
        pl.when(quoted & (pl.col("side") == side)).then(column).alias(f"{name}_{column}")
        for side, name in ((BUY, "bid"), (SELL, "ask"))
        for column in ("price", "quantity")
    )
    # An event's quotes come before its trade. One that moved the mid paid the touch of the quotes before.
    ticks = ticks.with_columns(pl.col("^(bid|ask)_.*$").forward_fill())
    ticks = ticks.with_columns(pl.col("^(bid|ask)_price$").shift(3).name.prefix("before_"))
    trades = ticks.filter(pl.col("kind") == TRADE)
    assert len(trades) > 1_000
    for side, name in ((BUY, "ask"), (SELL, "bid")):
        own = trades.filter(pl.col("side") == side)
        stays = own[f"{name}_price"] == own[f"before_{name}_price"]
        assert (own["price"] == own[f"before_{name}_price"]).all()
        assert 0.6 < stays.mean() < 0.95
        assert (own.filter(stays)[f"{name}_quantity"] >= 1).all()


def test_ticks_satisfy_their_contract_and_both_clocks_go_forwards(clean):
    check_table(clean.ticks, RAW_TICKS)
    assert clean.ticks["exchange_ts"].is_sorted()
    assert clean.ticks["ingest_ts"].is_sorted()
    arrived = clean.ticks.unique("message", maintain_order=True)
    assert arrived["ingest_ts"].is_unique().all()
    assert clean.ticks["exchange_ts"][0] == int(datetime(2026, 1, 5, 14, tzinfo=UTC).timestamp()) * 10**9


def test_delays_have_a_floor_the_asked_median_and_a_heavy_tail_once_the_clock_is_known():
    one = made(session_minutes=60, collector=QUIET)
    ticks, clock = one.ticks, one.truth.clock
    passed = ticks["exchange_ts"] - clock.at_ts
    offset = clock.offset_ns + (passed * (clock.drift_ns_per_s / 1e9)).cast(pl.Int64)
    delay_ms = (ticks["ingest_ts"] - ticks["exchange_ts"] - offset).to_numpy() / 1e6
    assert clock.offset_ns == -1_269_000_000
    assert -0.001 < delay_ms.min() < 0.3
    # One connection: what is behind a late message is late too, so that the median lies above the draw's.
    assert 2.0 < np.median(delay_ms) < 6.0
    assert np.quantile(delay_ms, 0.999) > 20 * np.median(delay_ms)


def test_a_silence_is_followed_by_all_that_it_held_back():
    collector = {"silences_an_hour": 60.0, "silence_s": 3.0, "tail_share": 0.0}
    ticks = made(session_minutes=20, collector=collector).ticks
    gaps = ticks["ingest_ts"].diff().to_numpy()[1:] / 1e9
    assert np.sum(gaps > 1.5) >= 5
    exchange = ticks["exchange_ts"].diff().to_numpy()[1:] / 1e9
    assert np.sum(exchange > 1.5) == 0


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    first, second, other = (made(seed, session_minutes=2) for seed in (5, 5, 6))
    assert first.ticks.equals(second.ticks)
    assert first.truth == second.truth
    assert not first.ticks.equals(other.ticks)


def test_a_fault_switch_leaves_the_market_as_it_is():
    clean, faulty = made(session_minutes=5), made(session_minutes=5, faults=["duplicates"])
    assert len(faulty.ticks) > len(clean.ticks)
    apart = faulty.ticks.join(clean.ticks, on=["ingest_ts", "kind", "side", "price", "quantity"], how="anti")
    assert 3 <= len(apart) == sum(fault.rows for fault in faulty.truth.faults)


def test_a_source_gives_what_is_asked_for_and_the_truth_about_it():
    settings = validate_settings(
        Settings,
        {"symbols": ["S2"], "simulator": {"symbols": 3, "sessions": 2, "session_minutes": 2}},
        source="test",
    )
    recording = simulator.read(settings, Path("."), seed=4)
    days = list(recording.days)
    assert [(day.symbol, day.session) for day in days] == [("S2", DAY), ("S2", "2026-01-06")]
    assert set(recording.instruments.symbols) == {"S2"}
    alone = simulator.simulate_session(settings.simulator, 4, "S2", "2026-01-06")
    assert days[1].ticks.equals(alone.ticks)
    truth = recording.truth()
    assert [one.session for one in truth.sessions] == [DAY, "2026-01-06"]
    assert [one.horizon_ms for one in truth.attainable] == [250, 1_000, 5_000, 30_000]


def test_a_symbol_that_is_not_made_is_refused():
    with pytest.raises(TicksError, match=r"'BTC'.*S1 to S4"):
        simulator.read(Settings(symbols=("BTC",)), Path("."), seed=1)


def test_settings_that_can_not_be_done_are_refused():
    with pytest.raises(ConfigError, match="over midnight"):
        market(faults=["numbering_reset"])
    with pytest.raises(ConfigError, match=r"moves_per_s=30 must be at most 0\.8"):
        market(moves_per_s=30)


def _states(seed: int, settings: SimulatorSettings) -> tuple[simulator_flow.Flow, np.ndarray, np.ndarray]:
    planted = simulator_alpha.planted_flow(settings)
    _, plan = simulator._plan(settings, np.random.default_rng([seed, 0]), {})
    rows, states, _, _ = simulator_flow.simulate_flow(
        np.random.default_rng(seed), planted, plan, settings.price_ticks, simulator_alpha.GRID_S
    )
    return planted, rows, states


def _quoted(rows: np.ndarray, moments: int) -> tuple[np.ndarray, np.ndarray]:
    """Twice the mid, and the imbalance at the touch, as quoted at each moment of the grid."""
    quotes = rows[rows[:, simulator_flow.KIND] == QUOTE]
    bid, ask = quotes[::2], quotes[1::2]
    grid = np.arange(moments) * int(simulator_alpha.GRID_S * 1e9)
    last = np.maximum(np.searchsorted(bid[:, simulator_flow.TIME], grid, side="right") - 1, 0)
    lots = [side[last, simulator_flow.QUANTITY].astype(float) for side in (bid, ask)]
    mid = bid[last, simulator_flow.PRICE] + ask[last, simulator_flow.PRICE]
    return mid, (lots[0] - lots[1]) / (lots[0] + lots[1])


@pytest.mark.parametrize("planted", [0.15, 0.4])
def test_the_planted_rank_correlation_is_reached_over_seeds(planted):
    settings = market(regimes=["calm"], session_minutes=60, alpha={"planted": planted})
    reached = []
    for seed in range(12):
        flow, _, states = _states(seed, settings)
        found = simulator_alpha.attainable(states, flow, 300.0)
        reached.append([found[1].rank_correlation, found[1].linear, found[1].nonlinear])
    mean, error = np.mean(reached, axis=0), np.std(reached, axis=0) / np.sqrt(len(reached))
    assert abs(mean[0] - planted) < 3 * error[0] + 0.03 * planted
    # Neither part alone reaches it.
    assert 0.4 * planted < mean[2] < mean[1] < 0.85 * planted


def test_nothing_but_the_linear_part_is_planted_where_the_other_has_no_share():
    settings = market(session_minutes=30, alpha={"nonlinear_share": 0.0, "trend": 0.0})
    flow, _, states = _states(3, settings)
    found = simulator_alpha.attainable(states, flow, 300.0)[1]
    assert flow.product == flow.trend == 0.0
    assert found.nonlinear is None
    assert found.rank_correlation == found.linear


def _rank_correlations(planted: float, seeds: int) -> np.ndarray:
    """Of imbalance, and of the move over the last second, with the move over the next one, by seed."""
    settings = market(session_minutes=60, alpha={"planted": planted})
    found = []
    for seed in range(seeds):
        _, rows, states = _states(100 + seed, settings)
        mid, imbalance = _quoted(rows, len(states))
        moved, past = mid[8:] - mid[4:-4], mid[4:-4] - mid[:-8]
        found.append([spearmanr(one, moved).statistic for one in (imbalance[4:-4], past)])
    return np.array(found)


def test_imbalance_tells_the_future_where_it_is_planted():
    found = _rank_correlations(0.3, 4)
    assert found[:, 0].min() > 0.12


def test_nothing_seen_tells_the_future_of_a_null_market():
    found = _rank_correlations(0.0, 20)
    error = found.std(axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0)) < 3.5 * error)
    assert np.all(error < 0.008)


def test_a_null_market_has_nothing_to_attain():
    truth = made(session_minutes=2, alpha={"planted": 0.0}).truth
    assert [one.rank_correlation for one in truth.attainable] == [None] * 4


def test_moves_come_as_often_as_asked_and_cluster():
    calm = market(regimes=["calm"], session_minutes=60)
    volatile = market(regimes=["volatile"], session_minutes=60)
    even = market(regimes=["calm"], session_minutes=60, clustering=0.0)
    seconds = {}
    for name, settings in (("calm", calm), ("volatile", volatile), ("even", even)):
        _, rows, _ = _states(7, settings)
        times = rows[np.diff(rows[:, simulator_flow.EVENT], prepend=-1) != 0, simulator_flow.TIME]
        seconds[name] = np.bincount(times // 10**9, minlength=3_600)
    assert seconds["calm"].mean() == pytest.approx(24, rel=0.05)
    assert seconds["volatile"].mean() == pytest.approx(48, rel=0.05)
    # Dispersion of counts by second: 1 for Poisson's process, more where events excite each other.
    dispersion = {name: counts.var() / counts.mean() for name, counts in seconds.items()}
    assert dispersion["even"] == pytest.approx(1.0, abs=0.15)
    assert dispersion["calm"] > 2.0


def test_a_trending_regime_drifts_the_way_that_the_truth_says():
    settings = market(regimes=["trending"], regime_minutes=1_440, session_minutes=60, alpha={"trend": 1.0})
    ends = [_states(seed, settings)[2] for seed in range(6)]
    went = [np.sign(states[-1, 4] - states[0, 4]) == states[0, simulator_flow.TREND] for states in ends]
    assert all(went)


def test_the_truth_lies_beside_the_raw_ticks_and_nowhere_else(tmp_path):
    settings = Settings.model_validate({"simulator": {"symbols": 1, "session_minutes": 2}})
    outputs = IngestOutputs(tmp_path / "raw", tmp_path / "report.json")
    run_ingest(outputs, settings=settings.model_dump_json(), seed=4, code="c")
    truth = TickTruth.read(tmp_path / "raw" / TRUTH)
    assert (truth.seed, truth.planted, len(truth.sessions)) == (4, 0.4, 1)
    assert "truth" not in (tmp_path / "report.json").read_text()
