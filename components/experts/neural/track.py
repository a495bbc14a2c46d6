"""Figures of a training's steps as metrics of an MLflow run.

MLflow is a witness: when it can't be reached, the training goes on without it.
"""

import os
import re
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from components.mlflow_plugins import leave_out_feast
from components.progress import warn

EXPERIMENT = "alphaloop-training"
# What MLflow takes in one call.
MOST_METRICS = 1000
MOST_PARAMETERS = 100


class Tracker:
    """Collects the figures of steps and sends them to MLflow at the end of each epoch, whenever 1,000 have
    gathered, and on leaving the context.

    Parameters
    ----------
    uri : MLflow's tracking address, such as http://mlflow:5000 or sqlite:///steps.db; empty: everything here
        does nothing, and MLflow is not imported
    run_name : name of the run within the experiment `alphaloop-training`
    parameters : what the run is about

    If MLflow fails, one warning says so, and what is logged from then on is dropped.
    """

    def __init__(self, uri: str, run_name: str, parameters: Mapping[str, Any]):
        self._uri, self._run_name, self._parameters = uri, run_name, dict(parameters)
        self._waiting: list[tuple[str, float, int, int]] = []
        self._client: Any = None
        self._run_id, self._on = "", bool(uri)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the figures of a step; `epoch` among them says that an epoch is over."""
        if not self._on:
            return
        now = int(time.time() * 1000)
        self._waiting += [(name, float(value), now, step) for name, value in values.items()]
        if "epoch" in values or len(self._waiting) >= MOST_METRICS:
            self._attempt(self._send)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waiting or self._run_id:
            self._attempt(self._send)
        if self._run_id:
            self._attempt(
                lambda: self._client.set_terminated(self._run_id, "FINISHED" if kind is None else "FAILED")
            )

    def _attempt(self, call: Any) -> None:
        """Call MLflow.

        Its own errors, those of its database and those of the network end the tracking, all others are
        raised.
        """
        if not self._on:
            return
        self._import()
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            call()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._on, self._waiting = False, []
            reason = _public(str(error).strip().splitlines()[0][:300] if str(error).strip() else "")
            warn(
                "tracking",
                f"The steps of {self._run_name} can't be tracked at {_public(self._uri)}"
                f" ({type(error).__name__}: {reason}). Training goes on without; correct the leaf's"
                " `tracking` or start MLflow to have them next time.",
            )

    def _import(self) -> None:
        """Prepare MLflow to say quickly that a server is gone, and to keep to itself; what the environment
        says comes first.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        import logging

        logging.getLogger("alembic").setLevel(logging.WARNING)
        leave_out_feast()
        import mlflow  # noqa: F401

    def _send(self) -> None:
        from mlflow.entities import Metric

        if not self._run_id:
            self._begin()
        metrics = [Metric(*waiting) for waiting in self._waiting]
        for first in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + MOST_METRICS])
        self._waiting = []

    def _begin(self) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=self._uri)
        self._run_id = self._client.create_run(_experiment(self._client), run_name=self._run_name).info.run_id
        parameters = [Param(name, str(value)) for name, value in self._parameters.items()]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(self._run_id, params=parameters[first : first + MOST_PARAMETERS])


def _experiment(client: Any) -> str:
    """Id of the experiment, which another process may be making at the same moment."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return client.create_experiment(EXPERIMENT)
        except MlflowException:
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    return found.experiment_id


def _public(text: str) -> str:
    """Without user name and password of an address."""
    return re.sub(r"//[^/@\s]*@", "//", text)
