"""Which plugins of MLflow a process that asks an MLflow server does without."""

import sys
import warnings

_FEASTS = "feast.infra.data_sources.mlflow.auth"


def leave_out_feast() -> None:
    """MLflow imports its plugins at the first request, and Feast is one of them: itself, torch and typeguard,
    for a header that it sends only where code asks Feast for it, which ours does not. To be called before
    the first request; Feast stays importable.
    """
    if _FEASTS in sys.modules:
        return
    sys.modules[_FEASTS] = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Failure attempting to register request header provider"
            )
            import mlflow.tracking.request_header.registry  # noqa: F401
    finally:
        del sys.modules[_FEASTS]
