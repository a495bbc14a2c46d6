"""What Prometheus sees of the service at /metrics, gathered over the worker processes."""

from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

_MS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 25, 50, 100, 250, 500, 1000, 2500)
_SECONDS = tuple(milliseconds / 1000 for milliseconds in _MS)


def _gauge(name: str, about: str, labels: tuple[str, ...] = ()) -> Gauge:
    # Several workers write the same value; the newest one counts.
    return Gauge(f"alphaloop_{name}", about, labels, multiprocess_mode="mostrecent")


def _summed_gauge(name: str, about: str) -> Gauge:
    return Gauge(f"alphaloop_{name}", about, multiprocess_mode="livesum")


def _counter(name: str, about: str, labels: tuple[str, ...] = ()) -> Counter:
    return Counter(f"alphaloop_{name}", about, labels)


def _histogram(name: str, about: str, labels: tuple[str, ...] = ()) -> Histogram:
    return Histogram(f"alphaloop_{name}", about, labels, buckets=_SECONDS)


@dataclass(frozen=True)
class Metrics:
    """The service's metrics. Made once in a process."""

    infer_seconds: Histogram
    request_seconds: Histogram
    requests: Counter
    feature_age_seconds: Gauge
    symbols_behind: Gauge
    swaps: Counter
    champion_version: Gauge
    ready: Gauge
    queue: Gauge
    store_reads: Counter
    snapshot_age_seconds: Gauge
    log_queued: Gauge
    log_dropped: Counter
    log_late: Counter
    log_rows_written: Gauge
    log_writer_up: Gauge
    champion_watch_up: Gauge
    feature_shift_ks: Gauge


def make_metrics() -> Metrics:
    """Register all metrics with prometheus_client."""
    metrics = Metrics(
        infer_seconds=_histogram(
            "infer_seconds",
            "Seconds that the model took for one batch, without reading features",
            ("endpoint",),
        ),
        request_seconds=_histogram(
            "request_seconds", "Seconds from a request's first byte to the end of its answer", ("endpoint",)
        ),
        requests=_counter(
            "requests",
            "Requests by endpoint and result: ok, or the code of the error",
            ("endpoint", "result"),
        ),
        feature_age_seconds=_gauge("feature_age_seconds", "Age of the newest bar in the online store"),
        symbols_behind=_gauge("symbols_behind", "Symbols whose newest bar is older than that of others"),
        swaps=_counter("swaps", "Champions that were taken over or refused", ("result",)),
        champion_version=_gauge(
            "champion_version", "Version of the model that answers, 0 while there is none"
        ),
        ready=_gauge("ready", "1 while the service is ready"),
        queue=_summed_gauge("queue", "Requests that are being worked on"),
        store_reads=_counter("store_reads", "Reads of the online store", ("result",)),
        snapshot_age_seconds=_gauge(
            "snapshot_age_seconds", "Seconds since the whole market was read from the online store"
        ),
        log_queued=_summed_gauge("log_queued", "Answers that wait to be written to the answer log"),
        log_dropped=_counter("log_dropped", "Answers that the answer log could not take"),
        log_late=_counter("log_late", "Answers given before the answer log had confirmed them"),
        log_rows_written=_gauge(
            "log_rows_written", "Rows of the answer log that are in Parquet, as the log writer says"
        ),
        log_writer_up=_gauge("log_writer_up", "1 while the log writer reports"),
        champion_watch_up=_gauge("champion_watch_up", "1 while the champion watcher reports"),
        feature_shift_ks=_gauge(
            "feature_shift_ks",
            "Kolmogorov-Smirnov distance of served features from the training window",
            ("over",),
        ),
    )
    for result in ("swapped", "refused"):
        metrics.swaps.labels(result)
    for result in ("ok", "error", "timeout", "skipped"):
        metrics.store_reads.labels(result)
    return metrics


def exposition(accept: str = "") -> tuple[bytes, str]:
    """The metrics of all worker processes, and their content type: OpenMetrics where the header Accept asks
    for it, else Prometheus' text format. BentoML names the folder in which the processes meet.
    """
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
