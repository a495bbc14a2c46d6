"""What a config asks of a panel, for the check that a run and `alphaloop data check` make of it."""

from components.features.catalog import catalog, own_period
from components.features.config import Settings as FeaturesSettings
from components.features.normalise import MINIMUM_SYMBOLS
from components.labels.cross_section import MIN_CROSS_SECTION
from components.validation.plan import Demands, NeedsSymbols
from pipelines.config import Config, features_json

# Targets that say how a symbol does against the others of the bar; every other is made of one symbol alone.
AGAINST_OTHERS = ("return_quantile", "sector_neutral_return", "beta_neutral_return")


def demands_json(config: Config) -> str:
    """The demands as the JSON text that the door takes."""
    return demands(config).model_dump_json()


def demands(config: Config) -> Demands:
    """What a run of this config needs of its panel."""
    features = FeaturesSettings.model_validate_json(features_json(config))
    warm_up: dict[str, int] = {}
    for entry in catalog(own_period(features), config.market.period):
        warm_up[entry.group] = max(warm_up.get(entry.group, 1), entry.warm_up_bars)
    return Demands(
        origin=origin(config),
        symbols=_symbols(config),
        warm_up_bars=warm_up,
        longest_horizon=max(config.labels.horizons),
        timeline=config.timeline,
    )


def origin(config: Config) -> str:
    """Where the panel of a config comes from, as a person would name it."""
    market = config.market
    return f"market.path={market.path}" if market.path else f"market.source={market.source}"


def _symbols(config: Config) -> tuple[NeedsSymbols, ...]:
    needs = []
    if config.labels.target in AGAINST_OTHERS:
        needs.append(
            NeedsSymbols(
                setting=f"labels.target={config.labels.target}",
                symbols=MIN_CROSS_SECTION,
                why="says how a symbol does against the others",
                remedy="Set labels.target to log_return, direction, trend or another that one symbol has",
            )
        )
    if config.features.normalisation in ("auto", "rank"):
        needs.append(
            NeedsSymbols(
                setting=f"features.normalisation={config.features.normalisation}",
                symbols=MINIMUM_SYMBOLS,
                why="ranks a symbol's factors among the others",
                remedy="Set features.normalisation: zscore",
            )
        )
    return tuple(needs)
