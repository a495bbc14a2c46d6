"""Gates of models of ticks: a good replay passes, a null one is rejected, and each gate alone can fail."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from components.contracts import ALL_PREDICTIONS, LABELS, ContractError, write_table
from components.contracts.documents.tick_replay import Kept
from components.contracts.documents.verdict import Verdict
from components.contracts.tick_schemas import CURVE
from components.gates.judge_ticks import Inputs, run
from components.gates.tick_config import Settings
from components.gates.tick_gates import Replayed, tick_gates
from components.metrics.paying_moves import PayingMoves, lucky_lift, moves_apart, paying_moves
from tests.gates.tick_replays import STAMP, START, curve, profit, replay, samples


@pytest.fixture
def judged(tmp_path):
    """Judges a good candidate but for what is changed."""

    def judge(*, gain: float = 0.5, skill: float = 1.5, settings: dict | None = None, **changed) -> Verdict:
        replay(**changed).write(tmp_path / "found.json")
        write_table(curve(gain), tmp_path / "curve.parquet", CURVE, **STAMP)
        predictions, labels = samples(skill)
        write_table(predictions, tmp_path / "predictions.parquet", ALL_PREDICTIONS, **STAMP)
        write_table(labels, tmp_path / "labels.parquet", LABELS, **STAMP)
        names = ("found.json", "curve.parquet", "predictions.parquet", "labels.parquet")
        parsed = Settings(**(settings or {}))
        inputs = Inputs(*(str(tmp_path / name) for name in names))
        made = run(inputs, str(tmp_path / "verdict.json"), settings=parsed.model_dump_json(), code="c")
        assert made == Verdict.read(tmp_path / "verdict.json")
        return made

    return judge


def failed(verdict: Verdict) -> list[str]:
    return [gate.name for gate in verdict.gates if not gate.passed]


def test_a_good_candidate_passes_every_gate_and_each_gives_its_number(judged):
    verdict = judged()
    assert failed(verdict) == []
    assert verdict.approved
    assert verdict.reason == "all 10 gates passed"
    assert all(gate.value is not None and gate.reason for gate in verdict.gates)


@pytest.mark.parametrize(
    ("changed", "gates"),
    [
        ({"skill": 0.0}, ["precision_over_base_rate"]),
        ({"gain": 0.0}, ["better_than_touch_imbalance"]),
        ({"paper": profit(100.0, 200.0)}, ["paper_profit"]),
        ({"implementable": Kept(share=0.2, interval=(0.1, 0.3))}, ["implementable_rate"]),
        ({"net": profit(100.0, 200.0)}, ["net_profit"]),
        ({"information_ratio": 0.5}, ["information_ratio"]),
        ({"max_drawdown": 0.2}, ["drawdown"]),
        ({"fill_ratio": 0.1}, ["fill_ratio"]),
        ({"settings": {"min_independent_moves": 1_000}}, ["independent_moves"]),
        # A figure that is missing never passes.
        ({"fill_ratio": None}, ["fill_ratio"]),
        ({"information_ratio": float("nan")}, ["information_ratio"]),
        ({"settings": {"baselines": {"ridge": 0.0}}}, ["better_than_ridge"]),
    ],
)
def test_each_gate_alone_can_fail(judged, changed, gates):
    verdict = judged(**changed)
    assert failed(verdict) == gates
    assert not verdict.approved
    assert verdict.reason == f"1 of 10 gates failed: {gates[0]}"


def test_few_trades_prove_nothing_whatever_they_earned(judged):
    verdict = judged(trades=29)
    assert "trades" in failed(verdict)
    assert not {"independent_moves", "precision_over_base_rate"} & set(failed(verdict))
    assert len(failed(verdict)) == 8
    net = next(gate for gate in verdict.gates if gate.name == "net_profit")
    assert net.value is None
    assert "only 29 trades, 30 needed" in net.reason


def test_no_trade_at_all_is_told_as_such(judged):
    nothing = Kept(share=None, interval=(None, None))
    verdict = judged(trades=0, paper=profit(0.0, 0.0), net=profit(0.0, 0.0), implementable=nothing)
    assert not verdict.approved
    told = {gate.name: gate.reason for gate in verdict.gates}
    for name in ("paper_profit", "implementable_rate", "net_profit"):
        assert "no trade: 400 of 1,000 forecasts expected more than a round trip costs" in told[name]


def test_the_rate_is_undefined_where_the_interval_of_paper_holds_nothing(judged):
    nothing = Kept(share=None, interval=(None, None))
    verdict = judged(paper=profit(59.0, 90.0), net=profit(-1_212.0, 90.0), implementable=nothing)
    rate = next(gate for gate in verdict.gates if gate.name == "implementable_rate")
    assert "undefined, for paper is not surely above 0: 59 [-31, 149], and net -1,212" in rate.reason


def test_where_paper_did_not_earn_the_rate_is_undefined_and_both_figures_are_told(judged):
    nothing = Kept(share=None, interval=(None, None))
    verdict = judged(paper=profit(-50.0, 20.0), net=profit(-80.0, 30.0), implementable=nothing)
    rate = next(gate for gate in verdict.gates if gate.name == "implementable_rate")
    assert not rate.passed
    assert rate.value is None
    assert "undefined" in rate.reason
    assert "-50 [-70, -30]" in rate.reason
    assert "-80 [-110, -50]" in rate.reason


AT_LIMITS = {
    "trades": 30,
    "information_ratio": 1.0,
    "max_drawdown": 0.1,
    "fill_ratio": 0.3,
    "implementable": Kept(share=0.3, interval=(0.1, 0.5)),
}
TWICE = PayingMoves(rows=1_000, moves=30, base_rate=0.1, precision=0.2, rank_correlation=0.0)


def failed_at_limits(moves: PayingMoves = TWICE, lucky: float = 2.0, **changed) -> list[str]:
    """Gates that fail where every figure stands at its limit but for what is changed."""
    found = replay(**{**AT_LIMITS, **changed})
    replayed = Replayed(found, found.strategies[0], curve(0.5), moves, lucky)
    return [gate.name for gate in tick_gates(replayed, Settings()) if not gate.passed]


def test_a_figure_at_its_limit_passes():
    assert failed_at_limits() == []


@pytest.mark.parametrize(
    ("changed", "gate"),
    [
        ({"information_ratio": 0.999}, "information_ratio"),
        ({"max_drawdown": 0.1001}, "drawdown"),
        ({"fill_ratio": 0.299}, "fill_ratio"),
        ({"implementable": Kept(share=0.299, interval=(0.1, 0.5))}, "implementable_rate"),
        ({"moves": replace(TWICE, moves=29)}, "independent_moves"),
        ({"lucky": 2.001}, "precision_over_base_rate"),
        ({"moves": replace(TWICE, precision=0.109), "lucky": 1.0}, "precision_over_base_rate"),
        ({"lucky": float("nan")}, "precision_over_base_rate"),
        # A profit whose lower limit is nothing may be none.
        ({"paper": profit(200.0, 200.0)}, "paper_profit"),
        ({"net": profit(200.0, 200.0)}, "net_profit"),
    ],
)
def test_a_figure_just_beyond_its_limit_fails(changed, gate):
    assert failed_at_limits(**changed) == [gate]


def test_a_share_of_a_paper_profit_of_nothing_is_undefined():
    nothing = Kept(share=None, interval=(None, None))
    failed = failed_at_limits(paper=profit(0.0, 200.0), implementable=nothing)
    assert failed == ["paper_profit", "implementable_rate"]


def test_a_null_market_is_rejected(judged):
    nothing = Kept(share=None, interval=(None, None))
    verdict = judged(
        skill=0.0,
        gain=0.0,
        paper=profit(-5.0, 100.0),
        net=profit(-300.0, 100.0),
        implementable=nothing,
        information_ratio=-20.0,
    )
    assert len(failed(verdict)) == 6
    assert not verdict.approved


def test_a_candidate_that_was_not_replayed_is_refused(judged):
    with pytest.raises(ContractError, match=r"no replay of gru, taker, measured; it has causal_cnn, touch"):
        judged(settings={"candidate": "gru"})
    with pytest.raises(ContractError, match="no replay of causal_cnn, taker, 50ms"):
        judged(settings={"latency": "50ms"})


def test_precision_of_a_known_order_by_hand():
    """Two ups among five: ranked 1st and 3rd, precision 1 and 2/3; the one down ranked 2nd: 1/2."""
    moments = [START + timedelta(seconds=number) for number in range(5)]
    rows = pl.DataFrame(
        {
            "timestamp": moments,
            "symbol": "S1",
            "score": [0.9, 0.1, 0.5, 0.6, -0.2],
            "trade_class": pl.Series([1, -1, 1, 0, 0], dtype=pl.Int8),
            "label_end": [moment + timedelta(seconds=2) for moment in moments],
            "log_return": [4.0, 1.0, 2.0, 3.0, 0.0],
        }
    )
    found = paying_moves(rows)
    assert found.base_rate == pytest.approx((0.4 + 0.2) / 2)
    assert found.precision == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert found.rank_correlation == pytest.approx(1.0)
    # Rows 0 and 2 pay and do not overlap; row 1 lies within row 0.
    assert found.moves == 2


def test_moves_that_share_a_moment_are_counted_once():
    moments = [START + timedelta(seconds=second) for second in (0, 1, 2, 3, 10)]
    ends = [moment + timedelta(seconds=2) for moment in moments]
    assert moves_apart(pl.DataFrame({"timestamp": moments, "label_end": ends})) == 3
    assert moves_apart(pl.DataFrame({"timestamp": moments, "label_end": moments})) == 5


def test_a_move_that_begins_as_another_ends_is_one_of_its_own():
    moments = [START + timedelta(seconds=second) for second in (0, 2, 4)]
    ends = [moment + timedelta(seconds=2) for moment in moments]
    later = [moment + timedelta(seconds=2, microseconds=1) for moment in moments]
    assert moves_apart(pl.DataFrame({"timestamp": moments, "label_end": ends})) == 3
    assert moves_apart(pl.DataFrame({"timestamp": moments, "label_end": later})) == 2


def test_what_has_no_label_or_no_score_is_not_judged_and_symbols_are_counted_apart():
    """Symbols move at the same moments; chances of which some are missing give way to the score."""
    rows = pl.DataFrame(
        {
            "timestamp": [START + timedelta(seconds=second) for second in (0, 1, 2, 3)] * 2,
            "symbol": ["S1"] * 4 + ["S2"] * 4,
            "score": [0.9, -0.9, 0.1, 0.2] * 2,
            "p_up": [None, 0.0, 1.0, 1.0] * 2,
            "p_down": [0.0, None, 1.0, 1.0] * 2,
            "trade_class": pl.Series([1, -1, 0, 0] * 2, dtype=pl.Int8),
            "label_end": [START + timedelta(seconds=second + 1) for second in (0, 1, 2, 3)] * 2,
            "log_return": [2.0, -2.0, 0.0, 1.0] * 2,
        }
    )
    found = paying_moves(rows)
    assert (found.rows, found.moves, found.base_rate, found.precision) == (8, 4, 0.25, 1.0)
    unknown = rows.with_columns(trade_class=pl.lit(None, pl.Int8)), rows.with_columns(score=float("nan"))
    assert paying_moves(pl.concat([rows, *unknown])) == found


def test_nothing_that_pays_gives_no_precision():
    predictions, labels = samples(1.0, rows=100, share=0.0)
    rows = predictions.join(labels.drop("horizon"), on=["timestamp", "symbol"])
    found = paying_moves(rows)
    assert (found.moves, found.base_rate) == (0, 0.0)
    assert np.isnan(found.lift)
    assert paying_moves(rows.clear()).rows == 0


def persistent(seed: int, skill: float, moments: int = 4_000) -> pl.DataFrame:
    """Scores that hang together over some 200 samples; ten runs of ups and two of downs, of 20 samples."""
    rng = np.random.default_rng(seed)
    paid = np.zeros(moments, np.int8)
    for side, runs in ((1, 10), (-1, 2)):
        for start in rng.integers(0, moments - 20, runs):
            paid[start : start + 20] = side
    steps = pl.Series(rng.standard_normal(moments)).ewm_mean(half_life=140, adjust=False).to_numpy()
    return pl.DataFrame(
        {
            "timestamp": [START + timedelta(milliseconds=250 * number) for number in range(moments)],
            "symbol": "S1",
            "score": steps / steps.std() + skill * paid,
            "trade_class": paid,
            "label_end": [START + timedelta(milliseconds=250 * number + 5_000) for number in range(moments)],
            "log_return": rng.standard_normal(moments),
        }
    )


def passes(rows: pl.DataFrame) -> tuple[bool, bool]:
    """Whether a precision is 1.1 times the base rate, and whether it is more than luck's."""
    lift = paying_moves(rows).lift
    return lift >= 1.1, lift >= max(1.1, lucky_lift(rows, level=0.95, seed=0))


def test_persistent_scores_without_skill_pass_by_their_number_and_not_beyond_luck():
    found = np.array([passes(persistent(seed, skill=0.0)) for seed in range(40)])
    by_number, beyond_luck = found.sum(axis=0)
    assert by_number >= 10
    assert beyond_luck <= 6
    assert all(beyond for _, beyond in (passes(persistent(seed, skill=2.0)) for seed in range(10)))


def test_luck_is_that_of_all_symbols_and_unknown_where_a_side_never_pays():
    rows = persistent(1, skill=2.0)
    both = pl.concat([rows, rows.with_columns(pl.lit("S2").alias("symbol"))])
    assert lucky_lift(both, level=0.95, seed=0) == pytest.approx(lucky_lift(rows, level=0.95, seed=0))
    ups = rows.with_columns(pl.col("trade_class").clip(0, 1))
    assert np.isnan(lucky_lift(ups, level=0.95, seed=0))
    assert np.isnan(lucky_lift(rows.clear(), level=0.95, seed=0))
