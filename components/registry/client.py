"""A client of the MLflow registry, and what it says in words that tell a person what to do."""

import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.contracts import AlphaloopError
from components.registry.config import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("alphaloop.registry")

ABSENT = "RESOURCE_DOES_NOT_EXIST"
# What a server says that is gone, starting or overloaded: nothing to look into.
DOWN = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
AnswerT = TypeVar("AnswerT")


class RegistryError(AlphaloopError):
    """The registry can't be reached or does not hold what was asked for."""


def open_registry(settings: Settings, folder: Path) -> "MlflowClient":
    """An MLflow client on the configured server, or on SQLite and a folder inside `folder`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return MlflowClient(tracking_uri=settings.tracking_uri or f"sqlite:///{folder / 'mlflow.db'}")
    except (MlflowException, SQLAlchemyError) as error:
        place = (
            "The database of registry.tracking_uri" if settings.tracking_uri else f"{folder / 'mlflow.db'}"
        )
        raise RegistryError(
            f"{place} can't be opened as a registry ({type(error).__name__}: {_short(error)}). Bring it back"
            " from a copy, or correct registry.tracking_uri."
        ) from error


def open_existing(settings: Settings, folder: Path) -> "MlflowClient":
    """As `open_registry`, for those who only read or promote: refuses a run folder in which nothing was ever
    registered.
    """
    if not settings.tracking_uri and not (folder / "mlflow.db").is_file():
        raise RegistryError(
            f"There is no registry in {folder} (mlflow.db is missing). Run `alphaloop run` first, or set"
            " registry.tracking_uri to your MLflow server."
        )
    # Somebody waits for the answer: MLflow would try a server that is gone for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return open_registry(settings, folder)


def found_or_none(ask: Callable[[], AnswerT]) -> AnswerT | None:
    """The registry's answer, or None where it says that there is no such model or version.

    Raises
    ------
    RegistryError
        For every other failure; one that no registry should have is logged with its trace.
    """
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        if error.error_code == ABSENT:
            return None
        if error.error_code not in DOWN:
            log.error(without_secrets("".join(traceback.format_exception(error))))
        raise RegistryError(
            f"The registry did not answer: {without_secrets(error.message)}. Check registry.tracking_uri and"
            " that the server runs."
        ) from error


def every_page(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """All that a search finds, page after page; `search` is asked with the token of the next page."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def without_secrets(text: str) -> str:
    """The text without user and password of the addresses in it:

    MLflow quotes registry.tracking_uri in what it says.
    """
    return re.sub(r"(?<=://)[^/\s]+@", "***@", text)


def _short(error: Exception) -> str:
    return without_secrets(str(error).strip().splitlines()[0])[:200]
