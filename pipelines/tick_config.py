"""What the sections of a run on order books say of each other: horizons are counted in samples of the
features, and purging covers them.
"""

from datetime import timedelta
from typing import Any

from components.gates.tick_config import Settings as TickGatesSettings
from components.tick_features.config import Settings as TickFeaturesSettings
from components.tick_labels.config import Settings as TickLabelsSettings
from components.tick_replay.config import Settings as TickReplaySettings
from components.timeline.entry import ENTRY_LAG_BARS
from components.timeline.periods import TICK_LENGTHS

MILLISECOND = timedelta(milliseconds=1)


def with_sample_ms(values: Any) -> Any:
    """A config as it was read, in which the labels of ticks know how far apart the samples are, so that it
    need not be said twice.
    """
    if not isinstance(values, dict) or not isinstance(labels := values.get("tick_labels", {}), dict):
        return values
    features = values.get("tick_features", {})
    default = TickFeaturesSettings.model_fields["sample"].default
    sample = features.get("sample", default) if isinstance(features, dict) else None
    if "sample_ms" in labels or sample not in TICK_LENGTHS:
        return values
    return {**values, "tick_labels": {**labels, "sample_ms": TICK_LENGTHS[sample] // MILLISECOND}}


def refuse_other_distance(features: TickFeaturesSettings, labels: TickLabelsSettings) -> None:
    """ValueError where labels count in other samples than the features have."""
    if labels.sample_ms * MILLISECOND != TICK_LENGTHS[features.sample]:
        raise ValueError(
            f"tick_labels.sample_ms={labels.sample_ms} but tick_features.sample={features.sample}: take"
            " tick_labels.sample_ms out, it follows"
        )


def refuse_unknown_models(gates: TickGatesSettings, trained: list[str]) -> None:
    """ValueError where the gates ask for an expert that is not trained: it would be missed at the end of a
    run.
    """
    for key, names in (("candidate", [gates.candidate]), ("baselines", list(gates.baselines))):
        unknown = [name for name in names if name not in trained]
        if unknown:
            raise ValueError(
                f"tick_gates.{key} names {unknown[0]!r}, which is no expert of this run; choose from"
                f" {', '.join(trained)}, or add its leaf to experts.leaves"
            )


def refuse_unreplayed(gates: TickGatesSettings, replay: TickReplaySettings) -> None:
    """ValueError where the gates judge a policy or latency that is not replayed."""
    from components.tick_replay.delays import names

    if gates.policy not in replay.policies:
        raise ValueError(
            f"tick_gates.policy={gates.policy} is none of tick_replay.policies={list(replay.policies)}; add"
            " it there, or choose one of them"
        )
    latencies = names(replay.latency)[1:]
    if gates.latency not in latencies:
        raise ValueError(
            f"tick_gates.latency={gates.latency} is not replayed; choose from"
            f" {', '.join(latencies) or 'none'}, or add it to tick_replay.latency"
        )


def refuse_samples_by_event(features: TickFeaturesSettings) -> None:
    """ValueError where samples come with messages: horizons, folds, purge and embargo count moments of the
    clock.
    """
    if features.sampling == "event":
        raise ValueError(
            "tick_features.sampling=event: horizons, folds, purge and embargo of a run count samples of the"
            " clock; set it to clock"
        )


def refuse_other_costs(labels: TickLabelsSettings, replay: TickReplaySettings) -> None:
    """ValueError where the experts would learn what pays at another fee than the replay takes."""
    if labels.fee_bps != replay.taker_fee_bps:
        raise ValueError(
            f"tick_labels.fee_bps={labels.fee_bps:g} but tick_replay.taker_fee_bps="
            f"{replay.taker_fee_bps:g}: what is learned to pay would not be what is traded; set both to the"
            " same fee"
        )


def refuse_other_size(labels: TickLabelsSettings, replay: TickReplaySettings) -> None:
    """ValueError where what is learned to pay is an order of another value than a bet."""
    if labels.order_value != replay.capital:
        raise ValueError(
            f"tick_labels.order_value={labels.order_value:g} but tick_replay.capital={replay.capital:g}: the"
            " costs that are learned are of an order as large as a bet; set both to the same value"
        )


def reach(labels: TickLabelsSettings) -> int:
    """The longest horizon in samples, longer where orders are known to arrive after the next sample: the
    timeline counts one sample from a decision to its entry.
    """
    late = int(-(-(labels.entry_latency_ms or 0.0) // labels.sample_ms)) - ENTRY_LAG_BARS
    return max(labels.horizons) + max(late, 0)
