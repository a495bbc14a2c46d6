"""What each part of an expert adds: variants of its settings, trained on the same folds and judged on the
same days, over several seeds.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from components.contracts import TIME, ContractError, atomic_path, of_task
from components.contracts.documents.experts import (
    EXPLAIN,
    Ablation,
    ClassVariant,
    Difference,
    Explanation,
    FailedVariant,
    Figure,
    Variant,
    read_left,
)
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf, expert_module, merged
from components.experts.studies.elsewhere import fit_on_ray
from components.experts.studies.judging import (
    StudyInputs,
    Tables,
    class_worth,
    daily_ic,
    measure_of,
    read_tables,
    stored_numbers,
)
from components.experts.training.train import train_expert
from components.metrics import ic_summary, standard_error, t_value
from components.progress import report, warn
from components.settings import ConfigError, read_yaml, validate_settings

FULL = "full"
# What each variant foresaw day by day: `timestamp`, `variant`, `ic`, `rank_ic`, and, where it was traded, its
# `net_return`.
DAILY = "daily.parquet"
SERIES = ("ic", "rank_ic", "net_return")
Traded = Callable[[pl.DataFrame], pl.DataFrame]
Window = Literal["validation", "test"]
NOT_TRADED = pl.DataFrame(schema={"timestamp": TIME, "net_return": pl.Float64})


def read_variants(path: str | Path, leaf: Leaf) -> dict[str, Leaf]:
    """The leaf of each variant in `ablations.yaml`: name -> settings that differ from the leaf's own.

    `full` is what the others are compared with.

    Raises
    ------
    ConfigError
        If the file is missing or broken, names no `full`, a variant's name can't be that of a folder, or a
        variant holds a setting that the expert refuses.
    """
    if not Path(path).exists():
        raise ConfigError(
            f"There is no file of variants {path}. Write it: `full: {{}}`, then a line for each variant, such"
            " as `small: {width: 8}`."
        )
    values, lines = read_yaml(path)
    if FULL not in values or len(values) < 2:
        raise ConfigError(
            f"{path} holds {', '.join(map(str, values)) or 'nothing'}; it must hold `{FULL}`, what the others"
            " are compared with, and at least one more."
        )
    variants, model = {}, expert_module(leaf).Settings
    for name, settings in values.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]+", str(name)) or str(name) in (".", ".."):
            raise ConfigError(
                f"{lines.get((name,), path)}: the variant's name {name!r} can't be that of a folder. Use"
                " letters, digits, dots, dashes and underscores."
            )
        if not isinstance(settings or {}, dict):
            raise ConfigError(
                f"{lines.get((name,), path)}: the variant {name} is {settings!r}, expected settings such as"
                " {width: 8}."
            )
        below = {place[1:]: line for place, line in lines.items() if place[0] == name and len(place) > 1}
        whole = validate_settings(
            model,
            merged(leaf.settings, settings or {}),
            source=f"{lines.get((name,), path)} ({name})",
            lines=below,
        )
        variants[str(name)] = leaf.model_copy(update={"settings": whole.model_dump(mode="json")})
    return variants


def ablate(
    inputs: StudyInputs,
    variants: Mapping[str, Leaf],
    *,
    seeds: int,
    window: Window,
    folder: Path,
    traded: Traded | None = None,
) -> Ablation:
    """Train every variant with `seeds` seeds in the same walk-forward folds and compare each with `full`.

    Finished folds stay in `folder`, so that a killed ablation goes on where it was; DAILY is written there.
    `window` are the judged days; `test` only where the result no longer decides anything. `traded` says what
    predictions earn: `timestamp` and `net_return`.

    Returns
    -------
    Figures are by day (ICIR of RankIC), seconds of one seed; the difference from `full`, in RankIC or, where
    the target is a class, in Brier skill, is paired by day after averaging over seeds. A variant that failed
    holds its reason instead.

    Raises
    ------
    ExpertError
        If `full` itself fails.
    """
    tables, leaf = read_tables(inputs, window), variants[FULL]
    numbers = tuple(inputs.seed + number for number in range(seeds))
    stage = f"ablate {leaf.expert}"

    def trained(name: str) -> list[_Run]:
        places = {seed: folder / name / f"seed_{seed}" for seed in numbers}
        fit_on_ray(inputs, tables, variants[name], places, window)
        return [
            _run(inputs, tables, variants[name], seed, window, place, traded)
            for seed, place in places.items()
        ]

    full = trained(FULL)
    daily = [_daily(FULL, full)]
    found: list[Variant | FailedVariant] = [_variant(FULL, full, None, inputs.horizon)]
    report(stage, _told(found[0], seeds, inputs.target))
    for name in (name for name in variants if name != FULL):
        try:
            runs = trained(name)
            found.append(_variant(name, runs, full, inputs.horizon))
            daily.append(_daily(name, runs))
            report(stage, _told(found[-1], seeds, inputs.target))
        except ExpertError as error:
            warn(stage, f"{name} failed: {error}")
            found.append(FailedVariant(name=name, failed=str(error)))
    with atomic_path(folder / DAILY) as temporary:
        pl.concat(daily).write_parquet(temporary, compression="zstd")
    return Ablation(
        leaf=f"{leaf.expert}/{leaf.period}/{leaf.modality}",
        window=window,
        first=str(tables.wanted["timestamp"].min()),
        last=str(tables.wanted["timestamp"].max()),
        days=len(full[0].rank_ic),
        target=inputs.target,
        horizon=inputs.horizon,
        judged_by=measure_of(inputs.target),
        seeds=numbers,
        settings={name: one.settings for name, one in variants.items()},
        variants=tuple(found),
    )


@dataclass(frozen=True)
class _Run:
    """One variant with one seed: RankIC, IC and what it is judged by (`Tables.quality`) of each judged day,
    its net returns where it was traded, parameters of a network, seconds; of classes the average precision
    and the calibration error.
    """

    days: pl.Series
    rank_ic: np.ndarray
    ic: np.ndarray
    quality: np.ndarray
    returns: pl.DataFrame
    parameters: int | None
    seconds: float
    classes: tuple[float, float] | None


def _run(
    inputs: StudyInputs,
    tables: Tables,
    leaf: Leaf,
    seed: int,
    window: Window,
    work: Path,
    traded: Traded | None,
) -> _Run:
    own = inputs.assignment(leaf, seed)
    trained = train_expert(tables.given, own, work, until=window)
    predictions = of_task(trained.predictions, own.target, own.horizon)
    unjudged = tables.wanted.join(predictions, on=("timestamp", "symbol"), how="anti")
    if len(unjudged):
        raise ContractError(
            f"{len(unjudged):,} labelled rows of the {window} window got no prediction, first"
            f" {unjudged.select('timestamp', 'symbol').row(0)}. Train again."
        )
    ranked, plain = (daily_ic(predictions, tables.wanted, rank=rank) for rank in (True, False))
    rank_ic, ic = (daily["ic"].to_numpy() for daily in (ranked, plain))
    if not len(rank_ic):
        raise ContractError(
            f"No day of the {window} window has three symbols with a label, so nothing can be judged there."
            f" Lengthen timeline.{window}."
        )
    seconds = sum(fit.seconds for fit in trained.status.folds)
    return _Run(
        ranked["timestamp"],
        rank_ic,
        ic,
        tables.quality(predictions)["quality"].to_numpy(),
        traded(predictions) if traded else NOT_TRADED,
        _parameters(trained.model_folder),
        seconds,
        class_worth(predictions, tables.wanted, tables.classes) if tables.classes else None,
    )


def _daily(name: str, runs: Sequence[_Run]) -> pl.DataFrame:
    """Means over the seeds, as DAILY holds them: what a capital that is shared among them earns."""
    means = {key: np.mean([getattr(run, key) for run in runs], axis=0) for key in ("ic", "rank_ic")}
    returns = pl.concat([run.returns for run in runs]).group_by("timestamp").agg(pl.col("net_return").mean())
    return (
        pl.DataFrame({"timestamp": runs[0].days, **means})
        .join(returns, on="timestamp", how="full", coalesce=True)
        .sort("timestamp")
        .select("timestamp", pl.lit(name).alias("variant"), *SERIES)
    )


def _parameters(model: Path) -> int | None:
    """Parameters of a network as it counted them itself, else the numbers that its files hold."""
    try:
        counted = read_left(Explanation, model / EXPLAIN).parameters
    except ContractError:
        # There is none, or an expert of a user's own wrote one of its own shape.
        counted = None
    return counted or stored_numbers(model)


def _variant(name: str, runs: Sequence[_Run], full: Sequence[_Run] | None, horizon: int) -> Variant:
    daily = np.mean([run.quality for run in runs], axis=0)
    classes = None
    if runs[0].classes is not None:
        precision, error = ([run.classes[place] for run in runs] for place in range(2))
        classes = ClassVariant(
            brier_skill=_figure([float(run.quality.mean()) for run in runs]),
            average_precision=_figure(precision),
            calibration_error=_figure(error),
        )
    return Variant(
        name=name,
        rank_ic=_figure([float(run.rank_ic.mean()) for run in runs]),
        ic=_figure([float(run.ic.mean()) for run in runs]),
        icir=_figure([ic_summary(run.rank_ic, horizon=horizon)["icir"] for run in runs]),
        parameters=runs[0].parameters,
        seconds=round(float(np.mean([run.seconds for run in runs])), 2),
        difference=(
            None
            if full is None
            else _difference(daily, np.mean([run.quality for run in full], axis=0), horizon)
        ),
        classes=classes,
    )


def _figure(values: Sequence[float]) -> Figure:
    return Figure(
        mean=_known(np.mean(values)),
        spread=_known(np.std(values, ddof=1)) if len(values) > 1 else None,
        by_seed=tuple(map(_known, values)),
    )


def _difference(variant: np.ndarray, full: np.ndarray, horizon: int) -> Difference:
    daily = variant - full
    return Difference(
        mean=float(daily.mean()),
        error=_known(standard_error(daily, horizon=horizon)),
        t=_known(t_value(daily, horizon=horizon)),
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def judged(variant: Variant) -> Figure:
    """What the variant is compared by."""
    return variant.rank_ic if variant.classes is None else variant.classes.brier_skill


def _told(variant: Variant, seeds: int, target: str) -> str:
    return f"{variant.name}: {measure_of(target)} {judged(variant).mean:.4f}, {seeds} seeds"


def table_rows(
    result: Ablation, write: Callable[[float | None, int], str]
) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the result for people; `write` writes a number with so many digits."""
    of_classes = ["Brier skill", "PR-AUC", "ECE"] if result.judged_by == "Brier skill" else []
    header = ["variant", *of_classes, "RankIC", "IC", "ICIR", "against full", "t", "parameters", "seconds"]

    def cell(figure: Figure, digits: int) -> str:
        spread = "" if figure.spread is None else f" ± {write(figure.spread, digits)}"
        return write(figure.mean, digits) + spread

    def cells(one: Variant | FailedVariant) -> list[str]:
        if isinstance(one, FailedVariant):
            return [one.name, f"failed: {one.failed}", *[""] * (len(header) - 2)]
        away = one.difference
        against = ["", ""]
        if away is not None:
            against = [f"{away.mean:+.4f} ± {write(away.error, 4)}", write(away.t, 1)]
        figures = [cell(one.rank_ic, 4), cell(one.ic, 4), cell(one.icir, 3)]
        if one.classes is not None:
            found = one.classes
            worth = (found.brier_skill, found.average_precision, found.calibration_error)
            figures = [*(cell(figure, 4) for figure in worth), *figures]
        return [one.name, *figures, *against, write(one.parameters, 0), write(one.seconds, 1)]

    return header, [cells(one) for one in result.variants]
