"""What each part of an expert adds: variants of its settings, trained on the same folds and judged on the
same days, over several seeds.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from components.contracts import ContractError, read_json
from components.experts.errors import ExpertError
from components.experts.leaves import Leaf, expert_module, merged
from components.experts.studies.judging import (
    StudyInputs,
    Tables,
    daily_ic,
    read_tables,
    standard_error,
    stored_numbers,
)
from components.experts.training.train import RESULT, train_expert
from components.metrics import ic_summary
from components.progress import report, warn
from components.settings import ConfigError, read_yaml, validate_settings

FULL = "full"
EXPLAIN = "explain.json"
Window = Literal["validation", "test"]


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
    inputs: StudyInputs, variants: Mapping[str, Leaf], *, seeds: int, window: Window, folder: Path
) -> dict[str, Any]:
    """Train every variant with `seeds` seeds in the same walk-forward folds and compare each with `full`.

    Finished folds stay in `folder`, so that a killed ablation goes on where it was.

    Parameters
    ----------
    window : judged days; `test` only where the result no longer decides anything

    Returns
    -------
    A table for JSON: `variants` holds for each its name, RankIC, IC and ICIR (of RankIC, by day) as mean,
    spread over seeds (sample standard deviation) and by seed, the parameters of a network, seconds of one
    seed, and the daily difference from `full` with its standard error, paired by day after averaging over
    seeds. A variant that failed holds its reason instead.

    Raises
    ------
    ExpertError
        If `full` itself fails.
    """
    tables = read_tables(inputs, window)
    stage = f"ablate {variants[FULL].expert}"
    rows, daily = [], {}
    for name in (FULL, *(name for name in variants if name != FULL)):
        try:
            runs = [
                _run(
                    inputs,
                    tables,
                    variants[name],
                    inputs.seed + number,
                    window,
                    folder / name / f"seed_{inputs.seed + number}",
                )
                for number in range(seeds)
            ]
        except ExpertError as error:
            if name == FULL:
                raise
            warn(stage, f"{name} failed: {error}")
            rows.append({"name": name, "failed": str(error)})
            continue
        daily[name] = np.mean([run["rank_ic"] for run in runs], axis=0)
        rows.append(
            {
                "name": name,
                **_figures(runs, inputs.horizon),
                "difference": None if name == FULL else _difference(daily[name], daily[FULL], inputs.horizon),
            }
        )
        report(stage, f"{name}: RankIC {rows[-1]['rank_ic']['mean']:.4f}, {seeds} seeds")
    leaf = variants[FULL]
    return {
        "leaf": f"{leaf.expert}/{leaf.period}/{leaf.modality}",
        "window": window,
        "first": str(tables.wanted["timestamp"].min()),
        "last": str(tables.wanted["timestamp"].max()),
        "days": len(daily[FULL]),
        "target": inputs.target,
        "horizon": inputs.horizon,
        "seeds": [inputs.seed + number for number in range(seeds)],
        "settings": {name: one.settings for name, one in variants.items()},
        "variants": rows,
    }


def _run(
    inputs: StudyInputs, tables: Tables, leaf: Leaf, seed: int, window: Window, work: Path
) -> dict[str, Any]:
    """One variant with one seed: its daily RankIC and IC, parameters and seconds."""
    predictions = train_expert(
        **tables.arguments(),
        leaf=leaf,
        timeline=inputs.timeline,
        period=inputs.period,
        horizon=inputs.horizon,
        target=inputs.target,
        seed=seed,
        work_folder=work,
        code=inputs.code,
        data_key=inputs.data_key,
        until=window,
    ).predictions
    unjudged = tables.wanted.join(predictions, on=("timestamp", "symbol"), how="anti")
    if len(unjudged):
        raise ContractError(
            f"{len(unjudged):,} labelled rows of the {window} window got no prediction, first"
            f" {unjudged.select('timestamp', 'symbol').row(0)}. Train again."
        )
    rank_ic, ic = (daily_ic(predictions, tables.wanted, rank=rank)["ic"].to_numpy() for rank in (True, False))
    if not len(rank_ic):
        raise ContractError(
            f"No day of the {window} window has three symbols with a label, so nothing can be judged there."
            f" Lengthen timeline.{window}."
        )
    names = predictions["fold"].unique().sort().to_list()
    folds = [json.loads((work / name / RESULT).read_text(encoding="utf-8")) for name in names]
    newest = work / names[-1] / "model"
    return {
        "rank_ic": rank_ic,
        "ic": ic,
        "parameters": _parameters(newest),
        "seconds": sum(fold["seconds"] for fold in folds),
    }


def _parameters(model: Path) -> int | None:
    """Parameters of a network as it counted them itself, else the numbers that its files hold."""
    return (read_json(model / EXPLAIN) or {}).get("parameters") or stored_numbers(model)


def _figures(runs: list[dict[str, Any]], horizon: int) -> dict[str, Any]:
    by_seed = {
        "rank_ic": [float(run["rank_ic"].mean()) for run in runs],
        "ic": [float(run["ic"].mean()) for run in runs],
        "icir": [ic_summary(run["rank_ic"], horizon=horizon)["icir"] for run in runs],
    }
    figures = {
        name: {
            "mean": _known(np.mean(values)),
            "spread": _known(np.std(values, ddof=1)) if len(values) > 1 else None,
            "by_seed": list(map(_known, values)),
        }
        for name, values in by_seed.items()
    }
    return {
        **figures,
        "parameters": runs[0]["parameters"],
        "seconds": round(float(np.mean([run["seconds"] for run in runs])), 2),
    }


def _difference(variant: np.ndarray, full: np.ndarray, horizon: int) -> dict[str, float | None]:
    """Mean daily RankIC of a variant less that of the full model, its standard error (Newey and West) and
    their ratio.
    """
    daily = variant - full
    mean, error = float(daily.mean()), standard_error(daily, horizon)
    return {"mean": mean, "error": _known(error), "t": _known(mean / error) if error > 0 else None}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def table_rows(
    result: Mapping[str, Any], write: Callable[[float | None, int], str]
) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the result for people; `write` writes a number with so many digits."""
    header = ["variant", "RankIC", "IC", "ICIR", "against full", "t", "parameters", "seconds"]

    def cell(figure: Mapping[str, Any], digits: int) -> str:
        spread = "" if figure["spread"] is None else f" ± {write(figure['spread'], digits)}"
        return write(figure["mean"], digits) + spread

    rows = []
    for one in result["variants"]:
        if "failed" in one:
            rows.append([one["name"], f"failed: {one['failed']}", *[""] * (len(header) - 2)])
            continue
        away = one["difference"]
        against = (
            ["", ""]
            if away is None
            else [f"{away['mean']:+.4f} ± {write(away['error'], 4)}", write(away["t"], 1)]
        )
        rows.append(
            [
                one["name"],
                cell(one["rank_ic"], 4),
                cell(one["ic"], 4),
                cell(one["icir"], 3),
                *against,
                write(one["parameters"], 0),
                write(one["seconds"], 1),
            ]
        )
    return header, rows
