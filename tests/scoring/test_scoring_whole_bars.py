"""Experts that look across the symbols of a bar, experts that take context, and blends: what they answer, by
hand, and what is refused.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.contracts import REGIMES, write_manifest
from components.scoring import Model, ScoringError, score_table
from components.scoring import table as table_module
from components.scoring.expert import ServedExpert, blend
from components.scoring.form import SERVED_FORMAT, Blend, Form, Linear, Unit, write_form
from tests.scoring.made_graphs import by_hand, window_graph

COLUMNS, LOOKBACK, SYMBOLS, BARS = ("a", "b"), 3, 6, 12
UNIT = Unit(0.02, 0.001)
CODES = ("sector_code", "industry_code")
EVEN = tuple((0.5, 0.5) for _ in range(len(REGIMES) + 1))


def graph_form(kind: str, lookback: int = LOOKBACK, **values) -> Form:
    return Form(kind, COLUMNS, lookback, None, 1.0, 0.0, Unit(0.02, 0.001), None, 1.0, 2.0, **values)


def row_form(weights=(1.0, 0.0)) -> Form:
    return Form("row", COLUMNS, 0, Linear(weights, 0.0, 5.0), 1.0, 0.0, UNIT, 2.0, 1.0, 2.0)


def write_expert(folder: Path, kind: str, *, lookback: int = LOOKBACK, context: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "row":
        write_form(folder, row_form())
    else:
        write_form(
            folder,
            graph_form(kind, lookback, context=context),
            window_graph(lookback, len(COLUMNS), market=kind == "market", context=len(context)),
        )
    return folder


def write_blend(
    folder: Path,
    members: dict[str, dict],
    weights=EVEN,
    *,
    lookback: int = LOOKBACK,
    context: tuple[str, ...] = (),
) -> Path:
    for name, about in members.items():
        write_expert(folder / "members" / name, **about)
    write_form(folder, Blend(COLUMNS, lookback, context, tuple(members), weights))
    return folder


def sealed(
    folder: Path, experts: dict[str, dict], *, context=("regime_state", "volatility_20", *CODES)
) -> Path:
    """A bundle of experts with equal weights."""
    for name, about in experts.items():
        (write_blend if "members" in about else write_expert)(folder / "experts" / name, **about)
    names = list(experts)
    stack = {
        "format": SERVED_FORMAT,
        "method": "equal_weights",
        "experts": names,
        "served_experts": names,
        "regimes": list(REGIMES),
        "graph": None,
    }
    head = {
        "head_scale": 1.0,
        "head_bias": 0.0,
        "band_low": 1.0,
        "band_high": 1.0,
        "weights": dict.fromkeys(names, 1 / len(names)),
    }
    (folder / "stacker").mkdir(parents=True)
    (folder / "stacker" / "stacker.json").write_text(json.dumps({**stack, **head}))
    (folder / "features.json").write_text(json.dumps({"columns": list(COLUMNS), "context": list(context)}))
    write_manifest(folder, {"schema": "s", "period": "1d", "horizon": 1, "target": "log_return"})
    return folder


@pytest.fixture
def rows() -> pl.DataFrame:
    """Rows with holes, whose bars have unlike numbers of symbols."""
    random = np.random.default_rng(3)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    keys = [
        (start + timedelta(days=bar), f"S{symbol}")
        for bar in range(BARS)
        for symbol in range(SYMBOLS)
        if not (symbol == 2 and bar < 5) and not (symbol == 4 and bar % 3 == 1)
    ]
    frame = pl.DataFrame(
        keys, schema={"timestamp": pl.Datetime("us", "UTC"), "symbol": pl.String}, orient="row"
    )
    inputs = {
        name: pl.Series(
            [None if random.random() < 0.1 else value for value in random.normal(size=len(frame))],
            dtype=pl.Float32,
        )
        for name in COLUMNS
    }
    regime = pl.Series(random.integers(0, 5, len(frame)), dtype=pl.Float32)
    sector = pl.col("symbol").str.slice(1).cast(pl.Float32)
    return frame.with_columns(
        **inputs, regime_state=pl.when(regime < 4).then(regime), volatility_20=pl.lit(0.02, pl.Float32)
    ).with_columns(sector_code=pl.when(sector < 4).then(sector), industry_code=pl.lit(None, pl.Float32))


def arrays(rows: pl.DataFrame, model: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, context, windows and bar numbers of all rows, by a loop."""
    window = np.full((len(rows), model.lookback_bars, len(COLUMNS)), np.nan, dtype=np.float32)
    for number, (moment, symbol) in enumerate(rows.select("timestamp", "symbol").rows()):
        past = (
            rows.filter((pl.col("symbol") == symbol) & (pl.col("timestamp") <= moment))
            .select(COLUMNS)
            .tail(model.lookback_bars)
            .to_numpy()
        )
        window[number, model.lookback_bars - len(past) :] = past
    return (
        rows.select(COLUMNS).to_numpy(),
        rows.select(model.context).to_numpy(),
        window,
        rows["timestamp"].rle_id().to_numpy(),
    )


def outputs_of(model: Model, rows: pl.DataFrame, **changed) -> np.ndarray:
    inputs, context, window, bar = arrays(rows, model)
    return model.expert_outputs(inputs, context, window, **{"bar_B": bar, **changed}).score


def test_a_market_expert_sees_the_rows_of_a_bar_together_and_no_others(rows, tmp_path):
    model = Model.load(sealed(tmp_path, {"across": {"kind": "market"}}), threads=1)
    inputs, context, window, bar = arrays(rows, model)
    assert model.whole_bars
    np.testing.assert_allclose(outputs_of(model, rows)[0], by_hand(window, bar), atol=1e-6)
    # The planted fault that this must tell apart: every row in one call, or each by itself.
    assert np.abs(outputs_of(model, rows, bar_B=None)[0] - by_hand(window, bar)).max() > 0.01
    alone = model.expert_outputs(inputs[:1], context[:1], window[:1]).score[0]
    assert abs(alone[0] - by_hand(window, bar)[0]) > 0.01


def test_rows_of_bars_may_stand_in_any_order(rows, tmp_path):
    model = Model.load(sealed(tmp_path, {"across": {"kind": "market"}}), threads=2)
    inputs, context, window, bar = arrays(rows, model)
    order = np.random.default_rng(1).permutation(len(rows))
    turned = model.expert_outputs(inputs[order], context[order], window[order], bar[order] * 7 + 3).score[0]
    np.testing.assert_allclose(turned, by_hand(window, bar)[order], atol=1e-6)


def test_a_table_is_scored_by_whole_bars_whatever_the_size_of_a_chunk(rows, tmp_path, monkeypatch):
    model = Model.load(sealed(tmp_path, {"across": {"kind": "market"}}), threads=1)
    _, _, window, bar = arrays(rows, model)
    raw = pl.col("raw")
    expected = rows.select("timestamp", raw=by_hand(window, bar)).select(
        ((raw - raw.mean()) / raw.std()).over("timestamp")
    )["raw"]
    for size in (1, 4, 1000):
        monkeypatch.setattr(table_module, "CHUNK_WINDOWS", size)
        np.testing.assert_allclose(
            score_table(model, rows)["score"].to_numpy(), expected.to_numpy(), atol=1e-5
        )


def test_context_reaches_the_graph_by_name_and_may_be_unknown(rows, tmp_path):
    model = Model.load(
        sealed(
            tmp_path,
            {
                "coded": {"kind": "window", "context": CODES},
                "turned": {"kind": "window", "context": CODES[::-1]},
            },
        ),
        threads=1,
    )
    assert model.context == ("regime_state", "volatility_20", *CODES)
    model.warm_up()
    _, _, window, _ = arrays(rows, model)
    coded, turned = outputs_of(model, rows)
    np.testing.assert_allclose(coded, by_hand(window, sector_B=rows["sector_code"].to_numpy()), atol=1e-6)
    np.testing.assert_allclose(turned, by_hand(window, sector_B=rows["industry_code"].to_numpy()), atol=1e-6)
    assert np.abs(coded - turned).max() > 0.05


def test_only_the_context_that_an_expert_takes_is_asked_for(tmp_path):
    plain = Model.load(sealed(tmp_path / "plain", {"one": {"kind": "row"}}), threads=1)
    assert plain.context == ("regime_state", "volatility_20")
    coded = Model.load(
        sealed(
            tmp_path / "coded",
            {"one": {"kind": "row"}, "two": {"kind": "window", "context": ("industry_code",)}},
        ),
        threads=1,
    )
    assert coded.context == ("regime_state", "volatility_20", "industry_code")


def test_context_that_the_features_lack_or_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(
        ScoringError,
        match=r"features.json has the context columns .* lack 'sector_code'. Train the model again",
    ):
        Model.load(
            sealed(
                tmp_path / "lacking",
                {"one": {"kind": "window", "context": CODES}},
                context=("regime_state", "volatility_20"),
            ),
            threads=1,
        )
    with pytest.raises(ScoringError, match="context column 'moon'"):
        Model.load(sealed(tmp_path / "unknown", {"one": {"kind": "window", "context": ("moon",)}}), threads=1)


def test_a_graph_without_the_context_that_its_form_names_is_refused(tmp_path):
    folder = write_expert(tmp_path / "one", "window")
    ServedExpert(folder, threads=1)
    write_form(folder, graph_form("window", context=CODES))
    with pytest.raises(
        ScoringError, match=r"input 'context' is None None, expected float rows of shape \[2\]"
    ):
        ServedExpert(folder, threads=1)


def test_a_mixture_by_hand():
    score, uncertainty = blend(np.array([[0.25, 0.75]]), np.array([[0.0, 4.0]]), np.array([[1.0, 2.0]]))
    assert score == [3.0]
    # 0.25 * (1 + 9) + 0.75 * (4 + 1)
    assert uncertainty == [pytest.approx(np.sqrt(6.25))]
    np.testing.assert_array_equal(
        blend(np.array([[1.0, 0.0]]), np.array([[2.0, 99.0]]), np.array([[0.5, 99.0]])), [[2.0], [0.5]]
    )


MIXED = {
    "line": {"kind": "row"},
    "window": {"kind": "window", "lookback": 2},
    "across": {"kind": "market"},
    "coded": {"kind": "window", "context": ("sector_code",)},
}
WEIGHTS = (
    (1.0, 0.0, 0.0, 0.0),
    (0.2, 0.8, 0.0, 0.0),
    (0.0, 0.0, 1.0, 0.0),
    (0.1, 0.2, 0.3, 0.4),
    (0.0, 0.5, 0.5, 0.0),
)


def test_a_blend_of_every_kind_is_the_weighted_sum_of_its_members_by_regime(rows, tmp_path):
    about = {"members": MIXED, "weights": WEIGHTS, "context": ("sector_code",)}
    model = Model.load(sealed(tmp_path / "blend", {"mixed": about}), threads=2)
    model.warm_up()
    assert (model.whole_bars, model.lookback_bars, model.context) == (
        True,
        3,
        ("regime_state", "volatility_20", "sector_code"),
    )
    alone = Model.load(sealed(tmp_path / "alone", MIXED), threads=1)
    inputs, context, window, bar = arrays(rows, alone)
    members = alone.expert_outputs(inputs, context, window, bar)
    regime = np.where(np.isnan(context[:, 0]), len(REGIMES), context[:, 0]).astype(int)
    assert set(regime) == {0, 1, 2, 3, 4}
    weight = np.asarray(WEIGHTS)[regime]
    score, uncertainty = blend(weight, members.score.T, members.uncertainty.T)
    found = model.expert_outputs(inputs, context[:, :3], window, bar)
    np.testing.assert_allclose(found.score[0], score, atol=1e-6)
    np.testing.assert_allclose(found.uncertainty[0], uncertainty, atol=1e-6)


def test_a_market_member_sees_its_whole_bar_also_where_it_has_weight_in_some_rows_only(rows, tmp_path):
    """Planted fault: rows of a bar with unlike regimes, of which the member across symbols has weight in one
    alone.
    """
    weights = ((0.0, 1.0), *([(1.0, 0.0)] * 4))
    model = Model.load(
        sealed(
            tmp_path,
            {
                "mixed": {
                    "members": {"line": {"kind": "row"}, "across": {"kind": "market"}},
                    "weights": weights,
                }
            },
        ),
        threads=1,
    )
    _, context, window, bar = arrays(rows, model)
    mine = context[:, 0] == 0
    assert 0 < mine.sum() < len(mine)
    assert any(0 < mine[bar == number].mean() < 1 for number in set(bar))
    np.testing.assert_allclose(outputs_of(model, rows)[0][mine], by_hand(window, bar)[mine], atol=1e-6)


def corrupt(folder: Path, **values) -> Path:
    path = folder / "served.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


BAD = [
    ({"weights_RM": [[0.5, 0.4]] + [[0.5, 0.5]] * 4}, "sum of 1"),
    ({"weights_RM": [[1.5, -0.5]] + [[0.5, 0.5]] * 4}, "none below 0"),
    ({"weights_RM": [[float("nan"), 0.5]] + [[0.5, 0.5]] * 4}, "sum of 1"),
    ({"weights_RM": [[0.5, 0.5]] * 4}, "expected 5 rows of 2"),
    ({"weights_RM": [[1.0]] * 5}, "expected 5 rows of 2"),
    ({"weights_RM": "none"}, "not a whole served form"),
    ({"members": ["line", "line"]}, "each once"),
    ({"members": ["line", "../line"]}, "plain name"),
    ({"members": []}, "at least one"),
    ({"members": ["line", "gone"]}, "gone has no served form"),
    ({"regimes": ["bear"]}, "it knows the regimes"),
    ({"format": 1}, "has format 1, this version reads 2"),
    ({"lookback_bars": 1}, "member across takes 2 inputs, 3 bars"),
    ({"columns": ["b", "a"]}, "not those of the blend"),
]


@pytest.mark.parametrize(("values", "words"), BAD)
def test_a_blend_that_does_not_add_up_is_refused(values, words, tmp_path):
    folder = write_blend(tmp_path / "mixed", {"line": {"kind": "row"}, "across": {"kind": "market"}})
    ServedExpert(folder, threads=1)
    with pytest.raises(ScoringError, match=words) as found:
        ServedExpert(corrupt(folder, **values), threads=1)
    assert "again" in str(found.value)


def test_a_blend_of_blends_is_refused(tmp_path):
    folder = write_blend(tmp_path / "outer", {"line": {"kind": "row"}, "inner": {"kind": "row"}})
    write_blend(folder / "members" / "inner", {"line": {"kind": "row"}, "again": {"kind": "row"}}, lookback=0)
    with pytest.raises(ScoringError, match="member inner is a blend itself"):
        ServedExpert(folder, threads=1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "row"}, "lookback_bars 3"),
        ({"kind": "market", "lookback_bars": 0}, "lookback_bars 0"),
        ({"raw": 1.0}, "without a graph"),
        ({"kind": "tick"}, "kind 'tick'"),
    ],
)
def test_forms_whose_parts_contradict_are_refused(values, words, tmp_path):
    with pytest.raises(ScoringError, match=words):
        ServedExpert(corrupt(write_expert(tmp_path / "one", "window"), **values), threads=1)


def test_context_of_an_expert_of_single_rows_is_refused(tmp_path):
    with pytest.raises(ScoringError, match="takes no context"):
        ServedExpert(corrupt(write_expert(tmp_path / "one", "row"), context=["sector_code"]), threads=1)
