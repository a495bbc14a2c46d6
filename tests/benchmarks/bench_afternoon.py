"""What an afternoon's work reaches on the market of a finished run, and how the run's stack, combiners and
experts compare with it on the same rows.

The afternoon: eleven classic factors of prices and volumes, ranked in their cross-section, and LightGBM with
three seeds whose scores are averaged; nothing is searched. It learns the run's labels from the run's rows in
the run's folds, with their purge and embargo (it stops nothing early, so it learns from the early-stopping
bars too). No factor moves when a symbol's whole history of prices, or of volumes, is multiplied by a
constant, so that none knows the splits and dividends that a back-adjusted price will have; `--levels` takes
dollar volumes instead where prices are raw.

    python -m tests.benchmarks.bench_afternoon runs/us_equities

Windows are bars of any period. The figures are means over bars of the cross-sectional rank correlation with
the label (RankIC); `t` and `t of difference` are `components.metrics.t_value`. Where the run made a table of
the rows that can be traded, the figures of those come second.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from components.contracts import (
    LEARNABLE,
    UNIVERSE,
    ContractError,
    Table,
    read_stamp,
    target_labels,
    tradable_rows,
)
from components.experts.training.frames import LabelledRows, fit_frame, predict_frames, unlabelled_but
from components.metrics import ic_summary, information_coefficient, t_value
from components.timeline import Fold, Settings, Windows, bar_index, resolve_windows, walk_forward

KEY = ["timestamp", "symbol"]
SEEDS = (1, 2, 3)
# What one writes down without a search; ranks need few bins.
ROUNDS = 200
PARAMETERS = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 63,
    "verbose": -1,
    "num_threads": 1,
    "deterministic": True,
    "force_col_wise": True,
}
YEAR, QUARTER, MONTH, WEEK = 252, 63, 21, 5
BASELINE = "afternoon"


@dataclass(frozen=True)
class FinishedRun:
    """Paths of the tables that a run's predictions were made of, and its timeline."""

    predictions: Path
    training_set: Path
    labels: Path
    panel: Path
    learnable: Path | None
    universe: Path | None
    timeline: Settings


def find_run(folder: Path) -> FinishedRun:
    """The newest stack of a run's folder, and by their content the tables that went into it."""
    stacks = sorted(folder.glob("artifacts/*/stack/all_predictions"), key=lambda path: path.stat().st_mtime)
    if not stacks:
        raise SystemExit(f"{folder} holds no artifacts/*/stack/all_predictions: let the run finish first.")
    predictions = stacks[-1]
    by_content = _tables(folder)
    made_of = read_stamp(predictions).inputs
    training_set = by_content[made_of["training_set"]]
    panel = read_stamp(training_set).inputs["panel"]
    timeline = json.loads((folder / "plan.json").read_text())["config"]["timeline"]
    return FinishedRun(
        predictions,
        training_set,
        by_content[made_of["labels"]],
        by_content[panel],
        _made_of(by_content, LEARNABLE, "training_set", made_of["training_set"]),
        _made_of(by_content, UNIVERSE, "panel", panel),
        Settings.model_validate(timeline),
    )


def _made_of(by_content: dict[str, Path], table: Table, name: str, content: str) -> Path | None:
    """A table of that kind that was made of what has the content; None where the run has none."""
    stamped = ((path, read_stamp(path)) for path in by_content.values())
    made = [path for path, stamp in stamped if (stamp.table, stamp.inputs.get(name)) == (table.name, content)]
    return made[0] if made else None


def _tables(folder: Path) -> dict[str, Path]:
    """Every stamped table among the artifacts, by the hash of its content."""
    found = {}
    for path in folder.glob("artifacts/*/*/*"):
        if path.is_file() and path.suffix not in (".json", ".html"):
            try:
                found[read_stamp(path).content_sha256] = path
            except ContractError:
                continue  # a document, not a table
    return found


def classic_factors(panel: pl.DataFrame, *, levels: bool = False) -> pl.DataFrame:
    """`timestamp`, `symbol` and eleven factors, each ranked in its cross-section in (0, 1).

    A window counts from half of its bars on; a year's momentum needs the whole year.
    """
    own = panel.sort("symbol", "timestamp").select(*KEY, "high", "close", "volume")
    own = own.with_columns(pl.col("close").log().diff().over("symbol").alias("r"))
    own = own.with_columns(pl.col("r").mean().over("timestamp").alias("market"))
    own = own.with_columns(
        _mean("volume", YEAR).alias("usual_volume"),
        (pl.col("r") * pl.col("market")).alias("product"),
        (pl.col("market") ** 2).alias("square"),
    )
    traded = pl.col("close") * pl.col("volume") if levels else pl.col("volume") / pl.col("usual_volume")
    own = own.with_columns(traded.alias("traded")).with_columns(
        (pl.col("r").abs() / pl.when(pl.col("traded") > 0).then("traded")).alias("impact")
    )
    factors = {
        "momentum_12_1": _past("close", MONTH).log() - _past("close", YEAR).log(),
        "reversal_21": pl.col("close").log() - _past("close", MONTH).log(),
        "reversal_5": pl.col("close").log() - _past("close", WEEK).log(),
        "volatility": _std("r", MONTH),
        "illiquidity": _mean("impact", MONTH),
        "turnover": _mean("traded", MONTH),
        "beta": (_mean("product", YEAR) - _mean("r", YEAR) * _mean("market", YEAR))
        / (_mean("square", YEAR) - _mean("market", YEAR) ** 2),
        "distance_to_high": pl.col("close")
        / pl.col("high").rolling_max(YEAR, min_samples=YEAR // 2).over("symbol"),
        "skewness": pl.col("r").rolling_skew(QUARTER).over("symbol"),
        "largest": pl.col("r").rolling_max(MONTH, min_samples=MONTH // 2).over("symbol"),
        "volume_trend": _mean("volume", WEEK) / _mean("volume", QUARTER),
    }
    made = own.select(*KEY, *(value.alias(name) for name, value in factors.items()))
    ranked = [_rank(name) for name in factors]
    return made.with_columns(ranked).sort(KEY)


def _past(column: str, bars: int) -> pl.Expr:
    return pl.col(column).shift(bars).over("symbol")


def _mean(column: str, bars: int) -> pl.Expr:
    return pl.col(column).rolling_mean(bars, min_samples=bars // 2).over("symbol")


def _std(column: str, bars: int) -> pl.Expr:
    return pl.col(column).rolling_std(bars, min_samples=bars // 2).over("symbol")


def _rank(name: str) -> pl.Expr:
    known = pl.when(pl.col(name).is_finite()).then(name)
    return ((known.rank() - 0.5) / known.count()).over("timestamp").cast(pl.Float32).alias(name)


def baseline_scores(table: LabelledRows, folds: list[Fold], names: list[str]) -> pl.DataFrame:
    """Scores of each seed (`score_1` ...) and their mean (`score`) for all rows that the folds predict."""
    import lightgbm

    parts = []
    for fold in folds:
        known = fit_frame(table, fold, 0).filter(pl.col("label").is_not_null())
        asked = pl.concat(predict_frames(table, fold, 0))
        inputs, wanted = known.select(names).to_numpy(), asked.select(names).to_numpy()
        scores = []
        for seed in SEEDS:
            data = lightgbm.Dataset(inputs, known["label"].to_numpy())
            model = lightgbm.train({**PARAMETERS, "seed": seed}, data, num_boost_round=ROUNDS)
            scores.append(model.predict(wanted))
        parts.append(
            asked.select(*KEY, pl.lit(fold.name).alias("fold")).with_columns(
                *(pl.Series(f"score_{seed}", one) for seed, one in zip(SEEDS, scores, strict=True)),
                pl.Series("score", np.mean(scores, axis=0)),
            )
        )
        print(f"{fold.name}: learned from {len(known):,} rows, predicted {len(asked):,}", flush=True)
    return pl.concat(parts)


def check_folds(predictions: pl.DataFrame, folds: list[Fold], calendar: pl.Series) -> None:
    """The run's experts predicted the same bars in the folds of the same names."""
    spans = predictions.group_by("fold").agg(
        pl.col("timestamp").min(), pl.col("timestamp").max().alias("last")
    )
    found = {name: (first, last) for name, first, last in spans.iter_rows()}
    for fold in folds:
        wanted = (calendar[int(fold.predict[0])], calendar[int(fold.predict[-1])])
        if fold.name in found and found[fold.name] != wanted:
            raise SystemExit(
                f"{fold.name} of the run predicts {found[fold.name]}, by its timeline it is {wanted}: this"
                " benchmark knows walk-forward folds only, and the code that made the run's."
            )


def compare(
    models: pl.DataFrame, baseline: pl.DataFrame, labels: pl.DataFrame, *, horizon: int
) -> pl.DataFrame:
    """One row a model: its RankIC and the baseline's on the rows that both have, bar by bar.

    `models` has `expert`, `timestamp`, `symbol`, `score`; the others `score` or `label` in place of it.
    """
    rows = []
    for name in [BASELINE, *(m for m in models["expert"].unique(maintain_order=True))]:
        own = baseline.select(*KEY, "score") if name == BASELINE else models.filter(pl.col("expert") == name)
        own = own.filter(pl.col("score").is_finite())
        pairs = own.join(baseline.select(*KEY, pl.col("score").alias("other")), on=KEY).join(labels, on=KEY)
        mine = information_coefficient(pairs.select(*KEY, "score"), labels, rank=True)
        theirs = information_coefficient(
            pairs.select(*KEY, pl.col("other").alias("score")), labels, rank=True
        )
        both = mine.join(theirs, on="timestamp", suffix="_other").drop_nulls(["ic", "ic_other"])
        difference = (both["ic"] - both["ic_other"]).to_numpy()
        summary = ic_summary(both["ic"], horizon=horizon)
        other = float(both["ic_other"].mean()) if len(both) else float("nan")
        rows.append(
            {
                "model": name,
                "bars": len(both),
                "rows": len(pairs),
                "RankIC": summary["mean"],
                "t": summary["t_hac"],
                "baseline": other,
                "times": summary["mean"] / other if other > 0 else float("nan"),
                "difference": float(difference.mean()) if len(both) else float("nan"),
                "t of difference": t_value(difference, horizon=horizon),
            }
        )
    return pl.DataFrame(rows)


def report(title: str, table: pl.DataFrame) -> None:
    print(f"\n{title}")
    with pl.Config(
        tbl_rows=100, tbl_cols=20, float_precision=4, tbl_hide_dataframe_shape=True, tbl_width_chars=160
    ):
        print(table)


def main() -> None:
    """Factors, baseline, and a table for each window and scope."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of a finished run")
    parser.add_argument("--levels", action="store_true", help="dollar volumes; for raw prices only")
    parser.add_argument("--output", type=Path, help="keep the tables as JSON lines too")
    arguments = parser.parse_args()
    run = find_run(arguments.folder)
    models = pl.read_parquet(run.predictions, columns=[*KEY, "expert", "fold", "score", "horizon", "target"])
    horizon, target = models.select("horizon", "target").row(0)
    models = models.filter(pl.col("horizon") == horizon, pl.col("target") == target)
    all_labels = pl.read_parquet(run.labels)
    longest = int(all_labels["horizon"].max())
    labels = target_labels(all_labels, horizon, target)
    panel = pl.read_parquet(run.panel)
    rows = pl.read_parquet(run.training_set, columns=KEY)
    scopes = {"all rows": rows}
    if run.universe:
        scopes["tradable rows"] = tradable_rows(rows, pl.read_parquet(run.universe))
    factors = classic_factors(panel, levels=arguments.levels)
    names = [name for name in factors.columns if name not in KEY]
    table = rows.select(KEY).join(factors, on=KEY, how="left", maintain_order="left")
    table = table.join(labels, on=KEY, how="left", maintain_order="left")
    if run.learnable:
        table = unlabelled_but(table, pl.read_parquet(run.learnable))
    calendar, bars = bar_index(table["timestamp"])
    windows = resolve_windows(calendar, run.timeline)
    folds = [f for f in walk_forward(windows, run.timeline, longest_horizon=longest) if len(f.predict)]
    check_folds(models, folds, calendar)
    print(
        f"{arguments.folder}: {len(rows):,} rows, {target} over {horizon} bars, {len(folds)} folds",
        flush=True,
    )
    baseline = baseline_scores(LabelledRows(table, calendar, bars, windows.test[1]), folds, names)
    tables = judge(models, baseline, labels.select(*KEY, "label"), scopes, windows, calendar, horizon)
    for title, one in tables.items():
        report(title, one)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        with arguments.output.open("a") as handle:
            for title, one in tables.items():
                handle.write(
                    json.dumps({"run": str(arguments.folder), "rows": title, "table": one.to_dicts()}) + "\n"
                )


def judge(
    models: pl.DataFrame,
    baseline: pl.DataFrame,
    labels: pl.DataFrame,
    scopes: dict[str, pl.DataFrame],
    windows: Windows,
    calendar: pl.Series,
    horizon: int,
) -> dict[str, pl.DataFrame]:
    """Tables by window and scope; those of single seeds beside the baseline's."""
    tables = {}
    labels = labels.drop_nulls("label")
    seeds = [
        baseline.select(*KEY, pl.col(f"score_{seed}").alias("score"), pl.lit(f"seed {seed}").alias("expert"))
        for seed in SEEDS
    ]
    together = pl.concat([*seeds, models.select(*KEY, "score", "expert")])
    for window in ("test", "validation"):
        start, end = getattr(windows, window)
        inside = pl.col("timestamp").is_between(calendar[start], calendar[end - 1])
        for scope, allowed in scopes.items():
            inner = [frame.filter(inside).join(allowed, on=KEY, how="semi") for frame in (together, baseline)]
            if len(inner[0]):
                tables[f"{window}, {scope}"] = compare(*inner, labels, horizon=horizon)
    return tables


if __name__ == "__main__":
    main()
