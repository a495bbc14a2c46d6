"""Settings for all tests: no telemetry, no network by accident, bytecode as installed."""

import os

# Threads that spin while they wait make networks many times slower on shared cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.update(
    DO_NOT_TRACK="true", MLFLOW_DISABLE_TELEMETRY="true", FEAST_USAGE="False", GX_ANALYTICS_ENABLED="false"
)
