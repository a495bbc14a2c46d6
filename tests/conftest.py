"""Settings for all tests: no telemetry, no network by accident, bytecode as installed; and a closing line
that says what was not tested.
"""

import os
from collections import Counter

import pytest

# Real servers, and a container engine, for whoever asks for one.
pytest_plugins = ["tests.stores", "tests.pipelines.docker_engine"]
# Threads that spin while they wait make networks many times slower on shared cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.update(
    DO_NOT_TRACK="true",
    MLFLOW_DISABLE_TELEMETRY="true",
    FEAST_USAGE="False",
    GX_ANALYTICS_ENABLED="false",
    ORT_DISABLE_TELEMETRY="1",
)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """One line below everything else: what this machine could not test, and why."""
    result = yield
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        said = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"Not tested here: {said}.", yellow=True)
    return result
