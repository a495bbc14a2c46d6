"""Mining as a whole: it finds what is planted, accepts nothing where there is nothing, and reads nothing it
should not know.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import yaml

from components.contracts import (
    ALL_PREDICTIONS,
    LABELS,
    TRAINING_SET,
    ContractError,
    content_sha256,
    write_catalog,
    write_table,
)
from components.features.formulas import parse_formula
from components.mining.component import mine
from components.mining.config import Settings
from components.mining.mine import factor_name, mine_formulas, signed
from components.mining.page import PAGE, page_values
from components.mining.ranks import unit_ranks
from components.mining.result import declared, figures, write_formulas
from components.mining.search import search_formulas
from components.mining.tables import RunTables
from components.page import render
from tests.mining.mined_market import HORIZON, TARGET, TIMELINE, TRUE_FORMULA, mined_market

QUICK = Settings(population=200, generations=4, seeds_per_fold=1)
SMALLEST = Settings(population=60, generations=2, seeds_per_fold=1)


def mined(tables: RunTables, settings: Settings = QUICK, seed: int = 0):
    return mine_formulas(
        tables,
        settings,
        TIMELINE,
        horizon=HORIZON,
        target=TARGET,
        seed=seed,
    )


@pytest.fixture(scope="module")
def planted():
    tables = mined_market(0.25, 4, symbols=100, bars=800)
    return tables, mined(tables)


@pytest.fixture(scope="module")
def small():
    return mined_market(0.0, 1, symbols=40, bars=500)


def test_a_planted_interaction_is_found_again(planted):
    tables, result = planted
    assert len(result.accepted) == 1
    found = result.accepted[0]
    known = tables.training_set.drop_nulls()
    values = known.select(
        "timestamp", a=parse_formula(signed(found)).expression, b=parse_formula(TRUE_FORMULA).expression
    )
    agreement = (
        values.group_by("timestamp")
        .agg(pl.corr("a", "b", method="spearman").alias("agreement"))["agreement"]
        .mean()
    )
    assert agreement > 0.8
    assert found.lower > 0
    assert found.gain_holdout > 0.03


@pytest.mark.parametrize("seed", [11, 12])
def test_nothing_is_accepted_in_the_null_market(seed):
    result = mined(mined_market(0.0, seed, symbols=60, bars=600), seed=seed)
    assert result.tries > 0
    assert result.accepted == []


def test_the_formula_that_is_declared_has_the_values_that_were_judged(planted):
    tables, result = planted
    sample = result.sample
    found, _ = search_formulas(sample, SMALLEST, 5, 3)
    rows = tables.training_set.join(
        pl.DataFrame({"timestamp": sample.holdout.timestamps}), on="timestamp", how="semi"
    ).sort("timestamp", "symbol")
    keys = rows.with_row_index("row").filter(pl.col("timestamp").is_in(sample.holdout.timestamps.implode()))
    judged_symbols = pl.DataFrame(
        {
            "timestamp": sample.holdout.timestamps.gather(
                np.repeat(np.arange(sample.holdout.bars), np.diff(sample.holdout.starts))
            ),
            "symbol": sample.holdout.symbols,
        }
    )
    rows = keys.join(judged_symbols, on=["timestamp", "symbol"]).sort("timestamp", "symbol")
    assert len(found) > 50
    for one in found:
        built = (
            rows.select(parse_formula(one.formula, sample.columns).expression.alias("value"))["value"]
            .fill_null(np.nan)
            .to_numpy()
        )
        values = one.values(sample.holdout.inputs)
        np.testing.assert_allclose(
            np.where(np.isfinite(values), values, np.nan), built, rtol=1e-12, atol=1e-15, err_msg=one.formula
        )


def after(tables: RunTables, bar: int, generator: np.random.Generator) -> RunTables:
    """The tables with other inputs, labels and scores from that bar of the calendar on."""
    moment = tables.training_set["timestamp"].unique().sort()[bar]

    def changed(frame: pl.DataFrame, since: str) -> pl.DataFrame:
        numbers = [name for name, dtype in frame.schema.items() if dtype in (pl.Float32, pl.Float64)]
        noise = pl.Series(generator.standard_normal(len(frame)))
        return frame.with_columns(
            pl.when(pl.col(since) >= moment)
            .then(noise.cast(frame.schema[name]))
            .otherwise(pl.col(name))
            .alias(name)
            for name in numbers
        )

    return RunTables(
        changed(tables.training_set, "timestamp"),
        changed(tables.labels, "label_end"),
        tables.catalog,
        changed(tables.predictions, "timestamp"),
    )


def test_the_test_window_is_never_read(small):
    """Inputs, scores and every label that is known only in the test window (bar 400) may be anything."""
    kept = figures(mined(small, SMALLEST))
    assert figures(mined(after(small, 400, np.random.default_rng(0)), SMALLEST)) == kept


def test_a_change_just_before_the_test_window_is_seen(small):
    """The test above can fail: what lies in the hold-out does change the figures."""
    assert figures(mined(after(small, 380, np.random.default_rng(0)), SMALLEST)) != figures(
        mined(small, SMALLEST)
    )


def test_formulas_weights_and_order_of_trial_come_from_the_mining_part(small):
    """The hold-out begins at bar 317, its first labels were entered at 318."""
    kept, other = mined(small, SMALLEST), mined(after(small, 317, np.random.default_rng(1)), SMALLEST)
    tried = [
        [(one.formula, one.sign, one.weight, one.ic_mining, one.gain_mining) for one in result.judged]
        for result in (kept, other)
    ]
    assert tried[0] == tried[1]
    assert kept.sample.weights == other.sample.weights
    assert [one.gain_holdout for one in kept.judged] != [one.gain_holdout for one in other.judged]


def with_product(tables: RunTables, until: int, later: float = 0.0) -> RunTables:
    """Two inputs of pure noise whose product is the label, but for noise, up to a bar of the calendar; after
    it `later` times the label.
    """
    generator = np.random.default_rng(5)
    calendar = tables.training_set["timestamp"].unique().sort()
    label = tables.labels.filter(pl.col("horizon") == HORIZON).select(
        "timestamp", "symbol", pl.col(TARGET).alias("label")
    )
    rows = tables.training_set.join(label, on=["timestamp", "symbol"], how="left").sort("timestamp", "symbol")
    first = generator.choice([-1.0, 1.0], len(rows)) * generator.uniform(0.5, 1, len(rows))
    known = rows["label"].fill_null(0.0).to_numpy() / rows["label"].std()
    noise = 3 * generator.standard_normal((2, len(rows)))
    second = (
        np.where((rows["timestamp"] < calendar[until]).to_numpy(), known + noise[0], later * known + noise[1])
        / first
    )
    inputs = {
        name: pl.Series(values.astype(np.float32))
        for name, values in (("reversal_1_rank", first), ("reversal_5_rank", second))
    }
    return RunTables(
        rows.drop("label").with_columns(**inputs), tables.labels, tables.catalog, tables.predictions
    )


def test_what_holds_only_while_it_is_searched_is_refused(small):
    """The same product is accepted where it goes on to hold."""
    vanishing, lasting = (mined(with_product(small, until), QUICK) for until in (317, 499))
    assert any(
        {"reversal_1_rank", "reversal_5_rank"} <= set(parse_formula(one.formula).columns)
        and one.ic_mining > 0.15
        for one in vanishing.judged
        if one.tried
    )
    assert vanishing.accepted == []
    assert any(
        {"reversal_1_rank", "reversal_5_rank"} <= set(parse_formula(one.formula).columns)
        for one in lasting.accepted
    )


def test_what_turns_round_in_the_hold_out_is_refused_with_the_sign_of_the_mining_part(small):
    result = mined(with_product(small, 317, later=-1.0), QUICK)
    turned = [
        one
        for one in result.judged
        if one.tried
        and {"reversal_1_rank", "reversal_5_rank"} <= set(parse_formula(one.formula).columns)
        and one.ic_mining > 0.15
    ]
    assert turned
    assert all(one.ic_holdout < -0.1 and one.gain_holdout < 0 for one in turned)
    assert result.accepted == []


def test_an_input_is_not_found_again(small):
    """An input that knows the label by itself is the job of the experts: what resembles it is no
    new formula.
    """
    label = small.labels.filter(pl.col("horizon") == HORIZON).select(
        "timestamp", "symbol", pl.col(TARGET).rank().over("timestamp").cast(pl.Float32).alias("gap_rank")
    )
    knowing = (
        small.training_set.drop("gap_rank")
        .join(label, on=["timestamp", "symbol"], how="left")
        .sort("timestamp", "symbol")
    )
    result = mined(RunTables(knowing, small.labels, small.catalog, small.predictions), SMALLEST)
    again = [one for one in result.judged if one.resembles == "gap_rank" and abs(one.input_correlation) > 0.7]
    assert again
    assert all(not one.tried and "is the input gap_rank again" in one.reason for one in again)


def test_same_seed_same_formulas_and_earlier_tries_raise_the_bar(small):
    first, second = mined(small, SMALLEST), mined(small, SMALLEST)
    assert figures(first) == figures(second)
    other = mined(small, SMALLEST, seed=1)
    assert [one.formula for one in other.judged] != [one.formula for one in first.judged]
    repeated = mined(small, SMALLEST.model_copy(update={"earlier_tries": 50}))
    assert all(
        late.lower < early.lower
        for late, early in zip(repeated.judged, first.judged, strict=True)
        if early.tried
    )


def test_the_file_can_be_put_into_a_config(planted, tmp_path):
    _, result = planted
    path = tmp_path / "formulas.yaml"
    write_formulas(result, path)
    written = yaml.safe_load(path.read_text())
    entries, kept = written["formulas"], written["figures"]
    assert entries == declared(result)
    assert set(entries[0]) == {"name", "formula", "group", "normalisation", "source"}
    assert entries[0]["name"] == factor_name(entries[0]["formula"])
    assert "ridge" in entries[0]["source"]
    assert kept["tried_on_holdout"] == len(kept["tried"]) == result.tries
    assert kept["evaluated_in_mining"] == 3 * QUICK.population * QUICK.generations


def page_of(result, target: str = TARGET) -> str:
    return render(PAGE, **page_values(result, target=target, horizon=HORIZON, significance=0.01))


def test_the_page_names_every_try_and_escapes(planted, small):
    _, result = planted
    page = page_of(result)
    assert all(signed(one) in page for one in result.judged if one.tried)
    assert "1 accepted" in page
    short = mined(small, Settings(min_holdout_bars=100))
    assert "not mined" in page_of(short, target="<b>")


def test_deciles_of_the_accepted_formula_rise(planted):
    _, result = planted
    curves = result.curves[result.accepted[0].formula]
    assert len(curves.gains) == result.sample.holdout.bars
    assert (
        unit_ranks(curves.deciles, np.array([0, 10])) @ unit_ranks(np.arange(10.0), np.array([0, 10])) > 0.7
    )


@pytest.fixture
def written(small, tmp_path):
    """The tables as a run leaves them, as artifacts of the door."""
    paths = {name: tmp_path / f"{name}.parquet" for name in ("training_set", "labels", "predictions")}
    about = {"code_version": "c", "config_hash": "h"}
    write_table(small.training_set, paths["training_set"], TRAINING_SET, inputs={"panel": "p"}, **about)
    write_table(small.labels, paths["labels"], LABELS, inputs={"panel": "p"}, **about)
    origins = {name: content_sha256(getattr(small, name)) for name in ("training_set", "labels")}
    write_table(small.predictions, paths["predictions"], ALL_PREDICTIONS, inputs=origins, **about)
    write_catalog(small.catalog, tmp_path / "catalog.json")
    artifacts = {
        name: SimpleNamespace(path=str(path))
        for name, path in {**paths, "catalog": tmp_path / "catalog.json"}.items()
    }
    outputs = {name: SimpleNamespace(path=str(tmp_path / name), metadata={}) for name in ("formulas", "page")}
    return {
        **artifacts,
        **outputs,
        "settings": SMALLEST.model_dump_json(),
        "timeline": TIMELINE.model_dump_json(),
        "horizon": HORIZON,
        "target": TARGET,
        "seed": 0,
        "code": "c",
    }


def test_the_door_writes_formulas_and_page(written, small, capsys):
    mine.python_func(**written)
    found = yaml.safe_load(Path(written["formulas"].path).read_text())
    assert found["formulas"] == declared(mined(small, SMALLEST))
    assert written["formulas"].metadata["tried"] > 0
    assert "formulas accepted" in capsys.readouterr().err


def test_predictions_of_another_run_are_refused(written, small):
    path = written["predictions"].path
    write_table(
        small.predictions,
        path,
        ALL_PREDICTIONS,
        code_version="c",
        config_hash="h",
        inputs={"labels": "other", "training_set": "other"},
    )
    with pytest.raises(ContractError, match=r"was not made from .*labels\.parquet"):
        mine.python_func(**written)
