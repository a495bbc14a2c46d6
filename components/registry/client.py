"""A client of the MLflow registry, and what it says in words that tell a person what to do."""

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.credentials import without_secrets
from components.mlflow_plugins import leave_out_feast
from components.registry.config import Settings
from components.registry.errors import RegistryError
from components.registry.local import DATABASE
from components.registry.schema import is_database, require_our_schema

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("alphaloop.registry")

ABSENT = "RESOURCE_DOES_NOT_EXIST"
# What a server says that is gone, starting or overloaded: nothing to look into.
DOWN = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
DENIED = (401, 403)
_LONGEST = 400
AnswerT = TypeVar("AnswerT")


def open_registry(settings: Settings, folder: Path) -> "MlflowClient":
    """An MLflow client on the configured server, or on SQLite and a folder inside `folder`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow would try a server that is gone for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    leave_out_feast()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if not settings.tracking_uri:
        folder.mkdir(parents=True, exist_ok=True)
    uri = settings.tracking_uri or f"sqlite:///{folder / DATABASE}"
    place = "The database of registry.tracking_uri" if settings.tracking_uri else f"{folder / DATABASE}"
    try:
        if is_database(uri):
            require_our_schema(uri, place)
        return MlflowClient(tracking_uri=uri)
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        raise RegistryError(
            f"{place} can't be opened as a registry ({type(error).__name__}: {_short(error)}). Bring it back"
            " from a copy, or correct registry.tracking_uri."
        ) from error


def open_existing(settings: Settings, folder: Path) -> "MlflowClient":
    """As `open_registry`, for those who only read or promote: refuses a run folder in which nothing was ever
    registered.
    """
    if not settings.tracking_uri and not (folder / DATABASE).is_file():
        raise RegistryError(
            f"There is no registry in {folder} ({DATABASE} is missing). Run `alphaloop run` first, or set"
            " registry.tracking_uri to your MLflow server."
        )
    # Somebody waits for the answer.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return open_registry(settings, folder)


def found_or_none(ask: Callable[[], AnswerT]) -> AnswerT | None:
    """The registry's answer, or None where it says that there is no such model or version.

    Raises
    ------
    RegistryError
        For every other failure; one that no registry should have is logged with its trace.
    """
    from mlflow.exceptions import MlflowException

    with answered():
        try:
            return ask()
        except MlflowException as error:
            if error.error_code == ABSENT:
                return None
            raise


@contextmanager
def answered() -> Iterator[None]:
    """Turn what MLflow raises, where its server does not do as asked, into a RegistryError; what no registry
    should answer is logged with its trace.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except MlflowException as error:
        if error.get_http_status_code() in DENIED and error.error_code not in DOWN:
            raise RegistryError(
                f"The registry refuses: {without_secrets(error.message)}. Set MLFLOW_TRACKING_USERNAME and"
                " MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of somebody who may write there."
            ) from error
        if error.error_code not in DOWN:
            log.error(without_secrets("".join(traceback.format_exception(error))))
        raise RegistryError(_no_answer(error.message)) from error
    except RequestException as error:
        raise RegistryError(_no_answer(str(error))) from error


def _no_answer(said: str) -> str:
    said = without_secrets(" ".join(said.split()))[:_LONGEST].rstrip(".")
    return f"The registry did not answer: {said}. Check registry.tracking_uri and that the server runs."


def every_page(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """All that a search finds, page after page; `search` is asked with the token of the next page."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _short(error: Exception) -> str:
    return without_secrets(str(error).strip().splitlines()[0])[:200]
