"""The environment that every task has, wherever it runs."""

# What every task's environment holds: libraries that phone home by default are told not to.
TASK_ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "false",
    # Threads that wait must not spin: on shared cores that made training many times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
}
# Names the folder in which relative market paths lie.
DATA_VARIABLE = "ALPHALOOP_DATA"
