"""Combiners over the experts' scores, compared and applied walk-forward.

Inputs of a combiner at a row are known at that row: each expert's score standardised over the symbols of the
bar, its relative uncertainty, and the regime. A combiner that predicts a fold learned only from rows whose
label was known before that fold began. Which combiner is used is decided on the validation rows whose label
was known before the test window.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.contracts import ALL_PREDICTIONS, REGIMES, atomic_path, check_table
from components.contracts.documents.comparison import Comparison
from components.metrics import information_coefficient
from components.scoring.form import SERVED_FORMAT
from components.scoring.trees import lightgbm_graph
from components.stacking.config import Settings
from components.timeline import Windows

Z90 = 1.2815515655446004
GRAPH = "stacker.onnx"
SMALLEST_WIDTH = 1e-9
EQUAL, BEST, PERFORMANCE, STACK = "equal_weights", "best_single", "performance_weights", "stack"


@dataclass(frozen=True)
class Stacked:
    """Result of `stack_experts`.

    `predictions`: ALL_PREDICTIONS with the experts, every combiner and the chosen one as `stack`.
    `comparison`: validation and choice. `model`: what serving needs, files by name; `stacker.json`
    names the experts that must be served, in the order in which the combiner sees them.
    """

    predictions: pl.DataFrame
    comparison: Comparison
    model: dict[str, str | bytes]


def stack_experts(
    oof: pl.DataFrame,
    predictions: pl.DataFrame,
    settings: Settings,
    windows: Windows,
    calendar: pl.Series,
    *,
    embargo_bars: int,
    seed: int,
) -> Stacked:
    """Compare the combiners on the validation window, choose one, and apply all of them through the test
    window.

    Parameters
    ----------
    oof : OOF frame
    predictions : ALL_PREDICTIONS frame of the same experts
    windows, calendar : the four windows as bar positions, and the sorted distinct timestamps they count in
    embargo_bars : bars left out before a predicted fold, beyond the rule that a label must be known
    """
    experts = [name.removeprefix("score_") for name in oof.columns if name.startswith("score_")]
    table = _inputs(oof, experts)
    blocks = _blocks(oof, windows, calendar)
    first_test = calendar[windows.test[0]]
    chosen_experts = _informative(experts, oof.filter(pl.col("timestamp") < first_test))
    methods = [EQUAL, PERFORMANCE, BEST, *settings.combiners]
    columns: dict[str, list[pl.DataFrame]] = {name: [] for name in methods}
    for start, end in blocks:
        block = table.filter(pl.col("timestamp").is_between(calendar[start], calendar[end - 1]))
        cut = calendar[max(start - embargo_bars, 0)]
        known = table.filter((pl.col("label_end") < cut) & pl.col("label").is_not_null())
        for name in methods:
            model = fit_combiner(name, known, chosen_experts, settings, seed)
            columns[name].append(
                _predict_block(model, block, known, _head(name, model, known, chosen_experts, settings, seed))
            )
    scored = {name: pl.concat(parts) for name, parts in columns.items()}
    judged = oof.filter(pl.col("label_end") < calendar[max(windows.test[0] - embargo_bars, 0)])
    validation = {name: _rank_ic(frame, judged) for name, frame in scored.items()}
    chosen, reason = choose(validation, settings)
    names = {_public(name): frame for name, frame in scored.items()} | {STACK: scored[chosen]}
    everything = pl.concat(
        [
            predictions.select(ALL_PREDICTIONS.columns.keys()),
            *(_as_predictions(frame, oof, name) for name, frame in names.items()),
        ]
    )
    final_known = table.filter(pl.col("label").is_not_null())
    final = fit_combiner(chosen, final_known, chosen_experts, settings, seed)
    head = _head(chosen, final, final_known, chosen_experts, settings, seed)
    comparison = Comparison(
        chosen=chosen,
        reason=reason,
        validation_rank_ic=validation,
        validation_start=str(calendar[blocks[0][0]]),
        validation_end=str(calendar[windows.validation[1] - 1]),
        experts=chosen_experts,
        weights=final.get("weights", {}),
    )
    return Stacked(
        check_table(everything.sort(ALL_PREDICTIONS.key), ALL_PREDICTIONS),
        comparison,
        served_files(chosen, final, chosen_experts, head),
    )


def choose(validation: dict[str, float], settings: Settings) -> tuple[str, str]:
    """The combiner to use and why, from validation RankICs: the best fitted combiner if it beats equal
    weights by `min_gain`, else performance weights if they do, else equal weights."""
    base = _or_low(validation[EQUAL])
    fitted = {name: _or_low(validation[name]) for name in settings.combiners}
    best = max(fitted, key=fitted.get, default=None)
    if best is not None and fitted[best] > base + settings.min_gain:
        return best, f"validation RankIC {fitted[best]:.4f} against {base:.4f} with equal weights"
    if _or_low(validation[PERFORMANCE]) > base + settings.min_gain:
        return (
            PERFORMANCE,
            (
                f"no fitted combiner beats equal weights on validation (RankIC {base:.4f}); performance"
                f" weights do ({validation[PERFORMANCE]:.4f})"
            ),
        )
    return EQUAL, f"nothing beats equal weights on validation (RankIC {base:.4f})"


def fit_combiner(
    method: str, known: pl.DataFrame, experts: list[str], settings: Settings, seed: int
) -> dict[str, Any]:
    """Fit one combiner on rows with known labels.

    Below `min_train_bars` bars every method is equal weights.
    """
    if method == EQUAL or known["timestamp"].n_unique() < settings.min_train_bars:
        return {"method": EQUAL, "weights": dict.fromkeys(experts, 1.0 / len(experts))}
    if method in (BEST, PERFORMANCE):
        merits = {
            name: max(
                _rank_ic(known.select("timestamp", "symbol", pl.col(f"z_{name}").alias("score")), known), 0.0
            )
            for name in experts
        }
        return {"method": method, "weights": _best_weights(merits) if method == BEST else _shares(merits)}
    if method == "elasticnet":
        return _fit_elasticnet(known, experts, settings)
    return _fit_lightgbm(known, experts, settings, seed)


def served_files(
    method: str, model: dict[str, Any], experts: list[str], head: tuple[float, float, float, float]
) -> dict[str, str | bytes]:
    """Files by name that hold a fitted combiner with its head:

    `stacker.json`, and for trees `stacker.onnx` and LightGBM's text.

    Parameters
    ----------
    method : the combiner that was chosen; where too little was known to fit it, `model` holds equal weights
    experts : all that it could have listened to
    head : scale, bias, and how many widths p10 and p90 lie away
    """
    trees = model.get("booster")
    values = {
        "format": SERVED_FORMAT,
        "method": method,
        "experts": experts,
        "served_experts": _weighed(model),
        "regimes": list(REGIMES),
        "graph": GRAPH if trees else None,
        **dict(zip(("head_scale", "head_bias", "band_low", "band_high"), head, strict=True)),
        **{name: value for name, value in model.items() if name not in ("booster", "method")},
    }
    files: dict[str, str | bytes] = {"stacker.json": json.dumps(values, indent=1)}
    if trees:
        files |= {"stacker_lightgbm.txt": trees, GRAPH: _graph(trees)}
    return files


def _fit_elasticnet(known: pl.DataFrame, experts: list[str], settings: Settings) -> dict[str, Any]:
    """Non-negative elastic net (Breiman 1996: stacked weights are kept non-negative) with weights that move
    with the regime.
    """
    from sklearn.linear_model import ElasticNet

    inputs, target = _design(known, experts), known["label_z"].to_numpy()
    names = [*experts, *(f"{name}|{regime}" for regime in REGIMES for name in experts)]
    inner, later = _earlier_and_later(known)
    errors = []
    for alpha in settings.elasticnet_alphas:
        model = ElasticNet(
            alpha=alpha,
            l1_ratio=settings.elasticnet_l1_share,
            positive=True,
            fit_intercept=False,
            precompute=True,
        )
        model.fit(inputs[inner], target[inner])
        errors.append(np.mean((target[later] - model.predict(inputs[later])) ** 2))
    alpha = settings.elasticnet_alphas[int(np.argmin(errors))]
    model = ElasticNet(
        alpha=alpha,
        l1_ratio=settings.elasticnet_l1_share,
        positive=True,
        fit_intercept=False,
        precompute=True,
    ).fit(inputs, target)
    weights = dict(zip(names, (float(w) for w in model.coef_), strict=True))
    if not any(weights.values()):
        return {"method": EQUAL, "weights": dict.fromkeys(experts, 1.0 / len(experts))}
    return {"method": "elasticnet", "weights": weights, "alpha": alpha}


def _fit_lightgbm(known: pl.DataFrame, experts: list[str], settings: Settings, seed: int) -> dict[str, Any]:
    import lightgbm

    parameters = {
        "objective": "regression",
        "num_leaves": settings.lightgbm_leaves,
        "learning_rate": settings.lightgbm_learning_rate,
        "min_data_in_leaf": max(int(len(known) * settings.lightgbm_min_leaf_share), 20),
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 10.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 2,
        "verbosity": -1,
    }
    names = _tree_columns(experts)
    data = lightgbm.Dataset(_tree_inputs(known, names), known["label_z"].to_numpy(), feature_name=names)
    booster = lightgbm.train(parameters, data, settings.lightgbm_rounds)
    gain = booster.feature_importance("gain")
    return {
        "method": "lightgbm",
        "booster": booster.model_to_string(),
        "columns": names,
        "weights": dict(zip(names, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True)),
    }


def _raw(model: dict[str, Any], rows: pl.DataFrame) -> np.ndarray:
    """The combiner's output before calibration; shape (rows,)."""
    if model["method"] == "lightgbm":
        import lightgbm

        return lightgbm.Booster(model_str=model["booster"]).predict(
            _tree_inputs(rows, model["columns"]), num_threads=2
        )
    experts = [name for name in model["weights"] if "|" not in name]
    design = (
        _design(rows, experts)
        if model["method"] == "elasticnet"
        else rows.select(f"z_{name}" for name in experts).to_numpy()
    )
    return design @ np.fromiter(model["weights"].values(), dtype=np.float64)


def _weighed(model: dict[str, Any]) -> list[str]:
    """Experts that the combiner listens to: those with a weight in any regime; trees see all."""
    if model["method"] == "lightgbm":
        return [name.removeprefix("z_") for name in model["columns"] if name.startswith("z_")]
    weights = model["weights"]
    return [
        name
        for name in weights
        if "|" not in name and any(weight for key, weight in weights.items() if key.partition("|")[0] == name)
    ]


def _width(model: dict[str, Any], rows: pl.DataFrame) -> np.ndarray:
    """Unit of the band, shape (rows,): the mean uncertainty of the experts that the combiner listens to, so
    that the others need not be served.
    """
    return np.maximum(
        rows.select(f"uncertainty_{name}" for name in _weighed(model)).to_numpy().mean(axis=1), SMALLEST_WIDTH
    )


def _graph(booster: str) -> bytes:
    import lightgbm

    return lightgbm_graph(lightgbm.Booster(model_str=booster).dump_model())


def _earlier_and_later(known: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the newest 30 % of bars (second) and of the rows whose label was known before
    these (first).
    """
    moments = known["timestamp"].unique().sort()
    split = moments[int(0.7 * len(moments))]
    return (known["label_end"] < split).to_numpy(), (known["timestamp"] >= split).to_numpy()


def _head(
    name: str, model: dict[str, Any], known: pl.DataFrame, experts: list[str], settings: Settings, seed: int
) -> tuple[float, float, float, float]:
    """Scale, bias and band of a combiner, on known rows that it was not fitted on: a combiner with
    coefficients or trees is fitted once more without the newest 30 % of bars, and calibrated on these. On its
    own training rows it would look better than it is.
    """
    if known.is_empty():
        return 1e-6, 0.0, Z90, Z90
    if model["method"] in settings.combiners:
        earlier, later = (known.filter(pl.Series(mask)) for mask in _earlier_and_later(known))
        past = (
            fit_combiner(name, earlier, experts, settings.model_copy(update={"min_train_bars": 1}), seed)
            if earlier["timestamp"].n_unique() > 1
            else model
        )
        if past["method"] == model["method"]:
            return _calibrate(_raw(past, later), later, _width(model, later))
    return _calibrate(_raw(model, known), known, _width(model, known))


def _predict_block(
    model: dict[str, Any], block: pl.DataFrame, known: pl.DataFrame, head: tuple[float, float, float, float]
) -> pl.DataFrame:
    """Calibrated score and bands of a block; `head` is scale, bias and band from rows known before it."""
    raw = _raw(model, block)
    scale, bias, low, high = head
    score = scale * raw + bias
    width = _width(model, block)
    p10, p90 = score - low * width, score + high * width
    return block.select("timestamp", "symbol").with_columns(
        score=pl.Series(score),
        uncertainty=pl.Series((p90 - p10) / (2 * Z90)),
        p10=pl.Series(p10),
        p50=pl.Series(score),
        p90=pl.Series(p90),
        head_scale=pl.lit(scale),
        head_bias=pl.lit(bias),
        train_window=pl.lit(
            f"{known['timestamp'].min():%Y-%m-%d}..{known['timestamp'].max():%Y-%m-%d}"
            if len(known)
            else "none"
        ),
    )


def _calibrate(raw: np.ndarray, known: pl.DataFrame, width: np.ndarray) -> tuple[float, float, float, float]:
    """Scale and bias from raw output to return, and how many widths p10 and p90 lie away (80 % of known rows
    inside).
    """
    label = known["label"].to_numpy()
    deviation = raw - raw.mean()
    variance = float(deviation @ deviation)
    scale = max(float(deviation @ (label - label.mean())) / variance, 1e-6) if variance > 0 else 1e-6
    bias = float(label.mean() - scale * raw.mean())
    residual = (label - scale * raw - bias) / width
    low, high = np.quantile(residual, [0.1, 0.9])
    return scale, bias, max(-float(low), 1e-9), max(float(high), 1e-9)


def _inputs(oof: pl.DataFrame, experts: list[str]) -> pl.DataFrame:
    """The combiner's inputs at each row: standardised scores, relative uncertainties, regime; the
    uncertainties as they are; and the standardised label.
    """
    by_bar = ["timestamp"]

    def standard(column: str) -> pl.Expr:
        centred = pl.col(column) - pl.col(column).mean().over(by_bar)
        spread = pl.col(column).std().over(by_bar)
        return pl.when(spread > 1e-12).then(centred / spread).otherwise(0.0).clip(-5, 5).fill_null(0.0)

    return oof.select(
        "timestamp",
        "symbol",
        "label",
        "label_end",
        *(standard(f"score_{name}").alias(f"z_{name}") for name in experts),
        *(standard(f"uncertainty_{name}").alias(f"u_{name}") for name in experts),
        *((pl.col("regime") == regime).cast(pl.Float64).alias(f"regime_{regime}") for regime in REGIMES),
        standard("label").alias("label_z"),
        *(f"uncertainty_{name}" for name in experts),
    )


def _design(rows: pl.DataFrame, experts: list[str]) -> np.ndarray:
    """Scores, then scores within each regime; shape (rows, experts * (1 + regimes))."""
    scores = rows.select(f"z_{name}" for name in experts).to_numpy()
    states = rows.select(f"regime_{regime}" for regime in REGIMES).to_numpy()
    return np.concatenate([scores, *(scores * states[:, [k]] for k in range(len(REGIMES)))], axis=1)


def _tree_columns(experts: list[str]) -> list[str]:
    return [
        *(f"z_{name}" for name in experts),
        *(f"u_{name}" for name in experts),
        *(f"regime_{regime}" for regime in REGIMES),
    ]


def _tree_inputs(rows: pl.DataFrame, columns: list[str]) -> np.ndarray:
    """Float32, as the served graph takes them."""
    return rows.select(pl.col(columns).cast(pl.Float32)).to_numpy()


def _informative(experts: list[str], oof: pl.DataFrame) -> list[str]:
    """Experts whose score differs between the symbols of a bar; a constant (the median) can't be weighed."""
    spread = (
        oof.group_by("timestamp")
        .agg(pl.col(f"score_{name}").std() for name in experts)
        .select(pl.col("^score_.*$").max())
        .row(0)
    )
    return [
        name for name, value in zip(experts, spread, strict=True) if value is not None and value > 1e-12
    ] or experts


def _blocks(oof: pl.DataFrame, windows: Windows, calendar: pl.Series) -> list[tuple[int, int]]:
    """Blocks to predict: the folds of the table, except that a first validation fold is cut in halves, the
    earlier only learned from.
    """
    starts = calendar.search_sorted(
        oof.group_by("fold").agg(pl.col("timestamp").min()).sort("timestamp")["timestamp"]
    ).to_list()
    edges = sorted({*starts, windows.test[1]})
    blocks = list(pairwise(edges))
    validation = [block for block in blocks if block[0] < windows.test[0]]
    if len(validation) == 1:
        start, end = validation[0]
        return [((start + end) // 2, end), *blocks[1:]]
    return blocks[1:]


def _as_predictions(frame: pl.DataFrame, oof: pl.DataFrame, name: str) -> pl.DataFrame:
    about = oof.select("timestamp", "symbol", "period", "horizon", "target", "fold")
    return (
        about.join(frame, on=("timestamp", "symbol"), how="inner")
        .with_columns(expert=pl.lit(name))
        .select(ALL_PREDICTIONS.columns.keys())
    )


def _rank_ic(scored: pl.DataFrame, labels: pl.DataFrame) -> float:
    """Mean over bars of the rank correlation of score and label; 0 where no bar has one."""
    value = information_coefficient(
        scored.select("timestamp", "symbol", "score"),
        labels.select("timestamp", "symbol", "label"),
        rank=True,
    )["ic"].mean()
    return float(value) if value is not None else 0.0


def _best_weights(merits: dict[str, float]) -> dict[str, float]:
    best = max(merits, key=merits.get)
    return {name: float(name == best) for name in merits}


def _shares(merits: dict[str, float]) -> dict[str, float]:
    total = sum(merits.values())
    return {name: merit / total if total > 0 else 1.0 / len(merits) for name, merit in merits.items()}


def _or_low(value: float) -> float:
    return value if np.isfinite(value) else -1.0


def _public(method: str) -> str:
    return method if method in (EQUAL, BEST, PERFORMANCE) else f"z_{method}"


def write_model(files: dict[str, str | bytes], folder: Path) -> None:
    """Write the stacker's files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic_path(folder / name) as path:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
