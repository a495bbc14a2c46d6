"""The service sizes as the backtest does: at the last bar of a panel its book is the backtest's new one, for
every sizing and limit, and names outside the universe are in neither.
"""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import polars as pl
import pytest

from components.backtest.config import Settings
from components.backtest.prices import market_prices
from components.backtest.sized_by import new_books, with_names
from components.backtest.terms import Terms
from components.contracts import UNIVERSE, tradable_rows, write_table
from components.feature_store.online_universe import newest_universe
from components.market.universe_config import UniverseSettings
from components.metrics import bars_per_year
from components.scoring import Model, Scores, score_table
from components.settings import config_hash
from serving.api.given_rows import GivenRows
from serving.live.answer_body import answer_body
from serving.live.book_rows import BookRows, weights
from serving.live.book_sizing import BookSizing
from serving.live.checks import schema_problem
from serving.live.market_snapshot import read_market
from serving.live.online import OnlineReader
from serving.live.positions import batch_weights
from serving.live.signals import Scorer
from serving.live.state import ServedModel, State
from tests.serving.small_champion import PERIOD, SERVING, STORE, SmallRun, notice_of, put_online

BOOK = Settings(quantile=0.3)
RULES = UniverseSettings(most_traded_share=0.7)
BOOKS = {
    "equal": {},
    "confidence": {"sizing": "confidence"},
    "kelly": {"sizing": "kelly", "kelly_fraction": 0.004},
    "steps": {"sizing": "steps", "size_steps": [(0.5, 0.3), (0.65, 0.9)]},
    "sector": {"max_sector_weight": 0.002},
    "beta": {"max_beta": 0.0005},
    "volatility": {"volatility_target": 0.02},
    "all": {"sizing": "kelly", "max_sector_weight": 0.002, "max_beta": 0.0005, "volatility_target": 0.02},
}


@pytest.fixture(scope="module")
def run(small_run, tmp_path_factory) -> SmallRun:
    """The small run with a universe beside its rows, which leaves every third symbol out."""
    folder = tmp_path_factory.mktemp("sized") / "run"
    shutil.copytree(small_run.folder, folder)
    put_online(small_run.market, folder, universe=newest_universe(written(small_run, folder)))
    return replace(
        small_run, folder=folder, bundles=[folder / "bundles" / path.name for path in small_run.bundles]
    )


def universe_of(run: SmallRun) -> pl.DataFrame:
    outside = run.market.symbols[::3]
    return run.market.factors.select(
        "timestamp",
        "symbol",
        pl.lit(None, pl.Float64).alias("traded_value"),
        ~pl.col("symbol").is_in(outside).alias("tradable"),
    )


def written(run: SmallRun, folder: Path) -> Path:
    path = folder / "universe.parquet"
    write_table(universe_of(run), path, UNIVERSE, code_version="c", config_hash=config_hash(RULES))
    return path


def judged_with(bundle: Path, folder: Path, *, rules: UniverseSettings | None = None, **book) -> Model:
    """The model of a bundle that was judged with these settings: they stand in its manifest alone."""
    copy = folder / "bundle"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["config"]["backtest"] = BOOK.model_copy(update=book).model_dump(mode="json")
    if rules is not None:
        manifest["config"]["market"] = {"universe": rules.model_dump(mode="json")}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return Model.load(copy)


def serve(run: SmallRun, model: Model) -> State:
    served = ServedModel.of(notice_of(run.bundles[0], 1), model)
    reader = OnlineReader(STORE, run.folder / "feature_store")
    return State(served, read_market(reader, model, served.book), reader)


def backtests_book(run: SmallRun, model: Model, *, universe: bool, **book) -> dict[str, float]:
    """Weights of the backtest's new book at the newest bar, by symbol; none of those that ended before."""
    factors = run.market.factors.sort("timestamp", "symbol")
    calendar = factors["timestamp"].unique().sort()
    scored = score_table(model, factors, bars=[calendar[-1]]).with_columns(
        usual_uncertainty=pl.lit(model.stacker.head.usual)
    )
    terms = Terms(BOOK.model_copy(update=book), model.horizon, bars_per_year(PERIOD, calendar))
    panel = factors.select("timestamp", "symbol", open=pl.lit(1.0), close=pl.lit(1.0))
    prices = with_names(
        market_prices(panel.filter(pl.col("timestamp") >= calendar[-5])), run.market.training_set, terms
    )
    scored = tradable_rows(scored, universe_of(run)) if universe else scored
    found, _ = new_books(scored, prices, terms, "long_short")
    return dict(zip(prices.symbols.to_list(), found.weights[-1].tolist(), strict=True))


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("universe", [False, True])
def test_the_services_book_is_the_backtests(run, tmp_path, name, universe):
    rules = RULES if universe else None
    model = judged_with(run.bundles[0], tmp_path, rules=rules, **BOOKS[name])
    state = serve(run, model)
    market, wanted = state.market, backtests_book(run, model, universe=universe, **BOOKS[name])
    np.testing.assert_allclose(
        market.weights, [wanted.get(symbol, 0.0) for symbol in market.symbols], atol=1e-7
    )
    gross = np.abs(market.weights).sum()
    assert gross > 0.005
    assert gross < 0.99 or name in ("equal", "confidence"), "else the setting took nothing away"
    outside = np.isin(market.symbols, run.market.symbols[::3])
    assert market.weights[outside].any() == (not universe)

    signals = Scorer(SERVING, MagicMock()).stored(state, market.symbols, np.arange(len(market.symbols)))
    np.testing.assert_array_equal(signals.position, market.weights)
    body = json.loads(answer_body(signals, state.served, "r", 0))
    assert [entry["tradable"] for entry in body["signals"]] == (~(outside & universe)).tolist()


@pytest.mark.parametrize("name", ["kelly", "all"])
def test_given_rows_are_sized_alike(run, tmp_path, name):
    """The market's own rows, given back: each alone in the market, and all as a batch, which is a universe of
    its own.
    """
    scorer = Scorer(SERVING, MagicMock())
    for rules, cross_section in ((RULES, "market"), (None, "market"), (None, "batch")):
        place = tmp_path / f"{cross_section}-{rules is None}"
        state = serve(run, judged_with(run.bundles[0], place, rules=rules, **BOOKS[name]))
        market = state.market
        current = np.flatnonzero(~market.behind)
        symbols = [market.symbols[place] for place in current]
        moments, values = market.rows.timestamps_us[current], market.rows.values[current]
        given = GivenRows(symbols, moments, values, None, cross_section)
        found = scorer.given(state, given, market.newest_us)
        np.testing.assert_allclose(found.position, market.weights[current], atol=1e-12)
        assert found.position.any()
        assert found.outside.any() == (rules is not None)


@pytest.mark.parametrize("name", BOOKS)
def test_rows_that_are_newer_than_the_market_are_sized_by_what_they_bring(run, tmp_path, name):
    """A publication is being written: of the third symbol that is asked for and of the last one the store
    holds what another symbol brought, a day later.
    """
    state = serve(run, judged_with(run.bundles[0], tmp_path, rules=RULES, **BOOKS[name]))
    market = state.market
    order = np.argsort(market.weights)
    inside = np.flatnonzero(~market.behind & ~market.outside & (market.weights == 0))
    places = np.array([order[0], order[-1], inside[0], order[1], inside[-1]])
    given = state.reader.read(places.tolist())
    source = np.array([0, 1, 1, 3, 0])
    newer = replace(
        given,
        timestamps_us=given.timestamps_us + 86_400_000_000 * (source != np.arange(5)),
        values=given.values[source],
        past=given.past[source],
    )
    reader = MagicMock(
        columns=state.reader.columns, context=state.reader.context, read=lambda *_, **__: newer
    )
    symbols = [market.symbols[place] for place in places]
    signals = Scorer(SERVING, MagicMock()).stored(replace(state, reader=reader), symbols, places)
    wanted = market.weights[places].copy()
    for row in (2, 4):

        def instead(values: np.ndarray, row: int = row) -> np.ndarray:
            """The market's rows, that of the asked symbol as the other one's."""
            every = values.copy()
            every[places[row]] = values[places[source[row]]]
            return every[None]

        wanted[row] = weights(market.book.changed(instead), state.served.book)[0, places[row]]
    np.testing.assert_allclose(signals.position, wanted, atol=1e-12)
    assert wanted[2] > 0 > wanted[4]


def test_a_symbol_that_the_store_lacks_is_outside_of_a_universe(run, tmp_path):
    for name, rules in (("every", None), ("some", RULES)):
        state = serve(run, judged_with(run.bundles[0], tmp_path / name, rules=rules))
        market = state.market
        best = int(market.weights.argmax())
        stranger = GivenRows(
            ["NEW"], market.rows.timestamps_us[[best]], market.rows.values[[best]] * 1.0, None, "market"
        )
        signals = Scorer(SERVING, MagicMock()).given(state, stranger, market.newest_us)
        assert (signals.position[0] > 0) == (rules is None)
        assert signals.outside[0] == (rules is not None)


def test_a_store_that_does_not_say_its_universe_sizes_all_and_says_so(small_run, run, tmp_path, caplog):
    model = judged_with(run.bundles[0], tmp_path, rules=RULES)
    market = serve(small_run, model).market
    assert market.outside is None
    assert "does not say which symbols are in it" in caplog.text
    caplog.clear()
    other = judged_with(run.bundles[0], tmp_path / "other", rules=UniverseSettings(min_price=1.0))
    assert serve(run, other).market.outside.any()
    assert "made by other rules" in caplog.text
    caplog.clear()
    assert not serve(run, judged_with(run.bundles[0], tmp_path / "none")).market.outside.any()
    assert "universe" not in caplog.text


def test_past_returns_of_another_bar_are_unknown_so_a_batch_of_it_has_no_book(run, tmp_path):
    state = serve(run, judged_with(run.bundles[0], tmp_path, **BOOKS["volatility"]))
    market = state.market
    current = np.flatnonzero(~market.behind)
    older = GivenRows(
        [market.symbols[place] for place in current],
        market.rows.timestamps_us[current] - 86_400_000_000,
        market.rows.values[current],
        None,
        "batch",
    )
    scorer = Scorer(SERVING, MagicMock())
    assert not scorer.given(state, older, market.newest_us).position.any()
    newest = replace(older, timestamps_us=market.rows.timestamps_us[current])
    assert scorer.given(state, newest, market.newest_us).position.any()


def test_a_book_that_aims_at_a_volatility_needs_past_returns_online(run, tmp_path):
    model = judged_with(run.bundles[0], tmp_path, **BOOKS["volatility"])
    reader = OnlineReader(STORE, run.folder / "feature_store")
    assert schema_problem(model, reader) is None
    reader.current = {**reader.current, "past_return_bars": 0}
    assert "no past returns are online" in schema_problem(model, reader)


def test_a_volatility_is_annual_by_the_bars_that_the_models_market_has_in_a_year(run, tmp_path):
    model = judged_with(run.bundles[0], tmp_path, **BOOKS["volatility"])
    often = replace(
        model, manifest={**model.manifest, "bars_per_year": 4 * float(model.manifest["bars_per_year"])}
    )
    usual, halved = (serve(run, one).market.weights for one in (model, often))
    assert usual.any()
    np.testing.assert_allclose(halved, usual / 2, atol=1e-12)


def test_a_bundle_from_before_these_settings_has_no_limits_and_says_so(run, tmp_path, caplog):
    model = judged_with(run.bundles[0], tmp_path)
    young = ("kelly_fraction", "size_steps", "max_sector_weight", "max_beta", "volatility_target")
    settings = {
        name: value for name, value in model.manifest["config"]["backtest"].items() if name not in young
    }
    old = replace(
        model, manifest={**model.manifest, "config": {**model.manifest["config"], "backtest": settings}}
    )
    with caplog.at_level("INFO"):
        served = ServedModel.of(notice_of(run.bundles[0], 1), old)
    assert "before its bundle could say kelly_fraction" in caplog.text
    assert (served.book.max_sector_weight, served.book.max_beta, served.book.volatility_target) == (None,) * 3
    np.testing.assert_array_equal(serve(run, old).market.weights, serve(run, model).market.weights)


def test_chances_of_a_class_are_bet_on_alike():
    """The small run's target is a number; here the same book is asked for of chances."""
    rng = np.random.default_rng(0)
    up, count = rng.uniform(0.2, 0.6, 30), 30
    score, uncertainty, volatility = 2 * up - 0.9, np.full(count, 0.9), rng.uniform(0.01, 0.04, count)
    config = BOOK.model_copy(update={"sizing": "kelly", "kelly_fraction": 0.01})
    manifest = {"config": {"backtest": config.model_dump(mode="json")}, "horizon": 5}
    names = ("regime_state", "volatility_20")
    context = np.column_stack([np.zeros(count), volatility])
    scores = Scores(score, uncertainty, score, score, score, 0.9 - up, np.full(count, 0.1), up)
    book = BookSizing.of(manifest)
    rows = BookRows.of(scores, context, names, None, book)
    found = batch_weights(rows, np.zeros(count, dtype=int), book)
    day = datetime(2024, 1, 2, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "timestamp": pl.Series([day] * count).cast(pl.Datetime("us", "UTC")),
            "symbol": [f"S{n:02d}" for n in range(count)],
            "score": score,
            "uncertainty": uncertainty,
            "p_up": up,
            "p_down": 0.9 - up,
            "volatility_20": volatility,
            "open": 1.0,
            "close": 1.0,
        }
    )
    terms = Terms(config, 5, 252.0)
    prices = with_names(market_prices(frame), frame, terms)
    np.testing.assert_allclose(new_books(frame, prices, terms, "long_short")[0].weights[0], found)
    assert 0 < np.abs(found).sum() < 1
