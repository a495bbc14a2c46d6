"""Which columns a table of tick features has, and what each of them is."""

from dataclasses import replace

from components.contracts import REGIME_COLUMN, CatalogEntry
from components.tick_features.config import Settings
from components.tick_features.declare import Feature
from components.tick_features.library import ALWAYS, CONTEXT, FEATURES, RISK, TREND
from components.tick_features.regime import HIGH_VOLATILITY_QUANTILE, PERSIST_SAMPLES


def wanted_features(settings: Settings) -> tuple[Feature, ...]:
    """The features of the wanted groups in the library's order; what the context needs stays, unscaled."""
    wanted = []
    for feature in FEATURES:
        if feature.group in settings.groups and feature.name not in settings.exclude:
            wanted.append(feature)
        elif feature.name in ALWAYS:
            wanted.append(replace(feature, normalisation="none"))
    return tuple(wanted)


def scaled_column(feature: Feature) -> str:
    """What the models' input of a scaled feature is called."""
    return f"{feature.name}_{feature.normalisation}"


def catalog(settings: Settings) -> list[CatalogEntry]:
    """One entry a column, in the order in which the kernel writes them: the features, those that are scaled,
    the regime.
    """
    features = wanted_features(settings)
    past = settings.normalisation
    looked_at = past.values * past.every_samples
    own = [_entry(feature, feature.name, _role(feature, settings), 0) for feature in features]
    scaled = [
        _entry(feature, scaled_column(feature), "input", looked_at)
        for feature in features
        if feature.normalisation != "none"
    ]
    risk = next(feature for feature in features if feature.name == RISK)
    regime = CatalogEntry(
        column=REGIME_COLUMN,
        factor=REGIME_COLUMN,
        group="volatility",
        role="context",
        normalisation="none",
        warm_up_bars=risk.warm_up_samples + looked_at + PERSIST_SAMPLES,
        expression=(
            f"high_volatility: {RISK} above the {HIGH_VOLATILITY_QUANTILE} quantile of its past; bull, bear:"
            f" {TREND} beyond 0 and its past median; neutral; held for {PERSIST_SAMPLES} samples"
        ),
        source="Ang and Timmermann 2012, by trailing thresholds",
    )
    return [*own, *scaled, regime]


def _role(feature: Feature, settings: Settings) -> str:
    if feature.name in CONTEXT:
        return "context"
    left_out = feature.group not in settings.groups or feature.name in settings.exclude
    return "raw" if left_out or feature.normalisation != "none" else "input"


def _entry(feature: Feature, column: str, role: str, past_samples: int) -> CatalogEntry:
    return CatalogEntry(
        column=column,
        factor=feature.name,
        group=feature.group,
        role=role,
        normalisation=feature.normalisation if past_samples else "none",
        warm_up_bars=feature.warm_up_samples + past_samples,
        expression=feature.expression,
        source=feature.source,
    )
