"""The few numbers of a run that the terminal and the report's head show."""

from collections.abc import Mapping
from typing import Any

ORDER = ("stack", "equal_weights", "performance_weights", "best_single", "z_elasticnet", "z_lightgbm")


def ordered_models(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of all models with test results: the stack, then other combinations, then experts."""
    tested = [name for name, blocks in evaluation["experts"].items() if blocks.get("test")]
    return [
        *(name for name in ORDER if name in tested),
        *sorted(name for name in tested if name not in ORDER),
    ]


def summarise(
    evaluation: Mapping[str, Any],
    verdict: Mapping[str, Any],
    registration: Mapping[str, Any],
    config: Mapping[str, Any],
    truth: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """JSON-able: test window, one row of figures a model, gates, registration, and the share of attainable IC
    where it is known.
    """
    test = evaluation["windows"]["test"]
    return {
        "name": config["run"]["name"],
        "seed": config["run"]["seed"],
        "test_window": f"{test['start'][:10]} to {test['end'][:10]} ({test['bars']} bars)",
        "horizon": evaluation["horizon"],
        "target": evaluation["target"],
        "cost_bps": evaluation["cost_bps_per_side"],
        "models": [_row(name, evaluation["experts"][name]["test"]) for name in ordered_models(evaluation)],
        "approved": verdict["approved"],
        "reason": verdict["reason"],
        "gates": verdict["gates"],
        "registration": dict(registration),
        "truth": truth,
    }


def _row(name: str, block: Mapping[str, Any]) -> dict[str, Any]:
    portfolio = block["portfolio"]["long_short"]
    return {
        "name": name,
        "ic": block["ic"]["mean"],
        "rank_ic": block["rank_ic"]["mean"],
        "icir": block["ic"]["icir"],
        "t": block["rank_ic"]["t_hac"],
        "sharpe_gross": portfolio["sharpe_gross"],
        "sharpe_net": portfolio["sharpe_net"],
        "sharpe_net_interval": portfolio["sharpe_net_interval"],
        "max_drawdown": portfolio["max_drawdown"],
        "annual_turnover": portfolio["annual_turnover"],
    }
