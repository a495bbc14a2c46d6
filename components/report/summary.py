"""The few numbers of a run that the terminal and the report's head show."""

from collections.abc import Mapping
from typing import Any

from components.contracts.documents.champion import Registration
from components.contracts.documents.evaluation import Evaluation, Measurement
from components.contracts.documents.summary import Attainable, ModelFigures, RunSummary
from components.contracts.documents.verdict import Verdict

# Combiners that the stack chose among; `stack` is one of all of them.
CANDIDATES = (
    "performance_weights",
    "z_shrunk",
    "z_regimes",
    "z_elasticnet",
    "z_logistic",
    "z_mlp",
    "z_lightgbm",
)
ORDER = ("stack", "equal_weights", "best_single", *CANDIDATES)


def models_in_test(evaluation: Evaluation, *, without: tuple[str, ...] = ()) -> dict[str, Measurement]:
    """All models with test results by name: the stack, then other combinations, then experts."""
    tested = {name: model.test for name, model in evaluation.experts.items() if model.test is not None}
    names = [name for name in ORDER if name in tested]
    names += sorted(name for name in tested if name not in ORDER)
    return {name: tested[name] for name in names if name not in without}


def summarise(
    evaluation: Evaluation,
    verdict: Verdict,
    registration: Registration,
    run: Mapping[str, Any],
    truth: Attainable | None,
) -> RunSummary:
    """Test window, one row of figures a model, gates, registration, and the share of attainable IC where it
    is known.

    `run` is the section of the configuration with `name` and `seed`.
    """
    test = evaluation.windows.test
    return RunSummary(
        name=run["name"],
        seed=run["seed"],
        test_window=f"{test.start[:10]} to {test.end[:10]} ({test.bars} bars)",
        horizon=evaluation.horizon,
        target=evaluation.target,
        cost_bps=evaluation.cost_bps_per_side,
        models=[_row(name, block) for name, block in models_in_test(evaluation).items()],
        approved=verdict.approved,
        reason=verdict.reason,
        gates=verdict.gates,
        registration=registration,
        truth=truth,
        luck=verdict.luck,
    )


def _row(name: str, block: Measurement) -> ModelFigures:
    portfolio = block.portfolio.long_short
    return ModelFigures(
        name=name,
        ic=block.ic.mean,
        rank_ic=block.rank_ic.mean,
        icir=block.ic.icir,
        t=block.rank_ic.t_hac,
        sharpe_gross=portfolio.sharpe_gross,
        sharpe_net=portfolio.sharpe_net,
        sharpe_net_interval=portfolio.sharpe_net_interval,
        max_drawdown=portfolio.max_drawdown,
        annual_turnover=portfolio.annual_turnover,
    )
