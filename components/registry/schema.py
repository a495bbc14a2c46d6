"""Whether the installed MLflow may use a database: MLflow itself would bring an older one up to date as soon
as it opens it, so that a mere look would lock out the environment that wrote it.
"""

from pathlib import Path

from components.registry.errors import RegistryError

NO_DATABASE = ("http", "https", "file", "databricks", "databricks-uc", "uc")


def is_database(uri: str) -> bool:
    """Whether a tracking address names a database, and not a server or a folder."""
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme not in NO_DATABASE


def require_our_schema(uri: str, place: str) -> None:
    """Refuse a database whose tables are those of an older or a newer MLflow; an empty one is none yet.

    `place` is what messages call the database. Nothing is written, and a file that is not there is not made.

    Raises
    ------
    RegistryError
        With the revision that was found, and what to do.
    sqlalchemy.exc.SQLAlchemyError, ImportError
        If it can't be read as a database, or its driver is not installed.
    """
    import mlflow
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow.store import db_migrations
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url

    url = make_url(uri)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).is_file()):
        return
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    scripts = ScriptDirectory(str(Path(db_migrations.__file__).parent))
    if found is None or found == scripts.get_current_head():
        return
    try:
        scripts.get_revision(found)
    except CommandError:
        raise RegistryError(
            f"{place} was written by a newer MLflow (its tables are of revision {found}, which MLflow"
            f" {mlflow.__version__} does not know). Nothing was changed. Use the environment that wrote it,"
            " or update this one."
        ) from None
    address = url.render_as_string(hide_password=True)
    raise RegistryError(
        f"{place} was written by an older MLflow (its tables are of revision {found}). Nothing was changed."
        f" Make a copy of it, then bring it up to date: mlflow db upgrade {address}"
    )
