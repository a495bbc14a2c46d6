"""The Feast side of the store: registering a publication, writing its online values, and the training set."""

import contextlib
import io
import json
import logging
import os
import sqlite3
import string
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from components.contracts import (
    FACTORS,
    CatalogEntry,
    ContractError,
    atomic_path,
    atomic_write_text,
    map_table,
    read_json,
    read_stamp,
)
from components.contracts.parts import write_part
from components.contracts.tables import ROW_GROUP_ROWS
from components.feature_store.closes import CLOSES, Closes
from components.feature_store.config import Settings
from components.feature_store.feast_import import import_feast
from components.feature_store.online_state import mark_online
from components.feature_store.online_universe import KEY as UNIVERSE
from components.feature_store.online_universe import OnlineUniverse
from components.feature_store.publication import (
    CURRENT,
    PUBLICATION,
    FactorTable,
    FeatureStoreError,
    damaged_file,
    read_current,
    verify_publication,
    write_publication,
)
from components.feature_store.redis_address import parse_redis_address
from components.lasting.folder import below

if TYPE_CHECKING:
    from feast import FeatureStore

REGISTRY, FEAST_CONFIG, FEAST_OBJECTS = "registry.db", "feature_store.yaml", "published_here"
# Feast reads a place like this from the folder in which feature_store.yaml lies: it moves with the folder.
OWN_FOLDER = "."
# Rows of a training set that are joined together.
JOINED_AT_ONCE = ROW_GROUP_ROWS
# Without objects of its own, `feast -c FOLDER apply` would take all of them out of the registry.
_FEAST_OBJECTS = '''"""What `feast apply` finds here: the objects of what this folder has published."""

from pathlib import Path

from feature_repo.definitions import published

globals().update(published(Path(__file__).parent, {place!r}))
'''
_YAML = {"sqlite": "feature_store.yaml", "redis": "feature_store_redis.yaml"}


def open_store(settings: Settings, folder: str | os.PathLike) -> "FeatureStore":
    """Feast's view of what is online in `folder`. Takes seconds at the first call: feast is slow to import.

    Raises
    ------
    FeatureStoreError
        If nothing was materialised there, or the Redis connection is not set.
    """
    read_current(folder)
    registry = Path(folder) / REGISTRY
    if not registry.is_file():
        raise FeatureStoreError(
            f"{registry} is missing, so the feature store can't be opened. Run `alphaloop materialise`; it"
            " writes the file anew."
        )
    return _feast_store(settings, Path(folder), registry)


def publish_factors(
    table: FactorTable, settings: Settings, folder: str | os.PathLike, *, cut: datetime | None = None
) -> dict[str, Any]:
    """Write the files of a publication (see `write_publication`) and check that Feast accepts its
    definitions.

    The online values and `open_store` stay what they were until `put_online`.
    """
    publication = write_publication(table, settings, folder, cut=cut)
    with publication_store(publication, folder):
        return publication


def put_online(
    publication: Mapping[str, Any],
    settings: Settings,
    folder: str | os.PathLike,
    *,
    address: str = "",
    closes: Closes | None = None,
    universe: OnlineUniverse | None = None,
) -> int:
    """Put the newest known row of each symbol online and make the publication the current one.

    Returns the number of symbols. `address` is where `folder` will lie for others, where that is not its own
    place: then the registry lies beside the publication's files and names them by that address. `closes`, of
    the bars that go online, and the `universe`, of which of them can be traded, stand in `current.json`: they
    are no factors, and no part of what is published.

    Feast's own materialisation does the writing; rows known after the publication's cut stay out. The
    registry and `current.json` are replaced at the very end, so a run that was killed leaves the store as it
    was, and the next one repairs what it wrote online: writing again is harmless.
    """
    folder = Path(folder)
    verify_publication(publication, folder)
    if settings.online == "sqlite":
        _drop_broken_database(folder / "online.db")
    registry_name = f"data/{publication['publication']}/{REGISTRY}" if address else REGISTRY
    # Feast knows no file://, but places in the folder of its configuration.
    named = "" if address.startswith("file://") else address
    with atomic_path(folder / registry_name) as registry:
        store = _feast_store(settings, folder, registry)
        with _quiet(), online_errors(settings, folder):
            _apply(store, publication, OWN_FOLDER)
            store.materialize(
                start_date=datetime.fromisoformat(publication["first"]) - timedelta(days=1),
                end_date=datetime.fromisoformat(publication["cut"]),
            )
            mark_online(publication, settings)
            if named:
                _apply(store, publication, named)
    registry_at = below(named, registry_name) if named else registry_name
    atomic_write_text(folder / FEAST_CONFIG, _own_yaml(settings, registry_at))
    objects = _FEAST_OBJECTS.format(place=named or OWN_FOLDER)
    atomic_write_text(folder / f"{FEAST_OBJECTS}.py", objects)
    beside = {
        name: found.as_json() for name, found in ((CLOSES, closes), (UNIVERSE, universe)) if found is not None
    }
    atomic_write_text(folder / CURRENT, json.dumps({**publication, **beside}, indent=1))
    return len(publication["symbols"])


def training_parts(store: "FeatureStore", service: str, rows: pl.LazyFrame, folder: Path) -> list[Path]:
    """`training_set` in Arrow files of at most JOINED_AT_ONCE rows each, so that no more are held."""
    files = []
    for start in range(0, max(rows.select(pl.len()).collect().item(), 1), JOINED_AT_ONCE):
        part = training_set(store, service, rows.slice(start, JOINED_AT_ONCE).collect())
        files.append(write_part(part, folder / f"part_{len(files):05d}"))
        # Or it would stand beside the next one.
        del part
    return files


def training_set(store: "FeatureStore", service: str, rows: pl.DataFrame) -> pl.DataFrame:
    """What the model may have known at each row, by Feast's point-in-time join.

    Parameters
    ----------
    service : name of a feature service; its tag `columns` gives the order of the columns
    rows : `timestamp`, `symbol`, `sector`

    Returns
    -------
    `timestamp`, `symbol`, `sector` and the service's columns as Float32, in the order of `rows`; null where
    nothing was known.
    """
    definition = store.get_feature_service(service)
    entities = rows.select(pl.col("timestamp").alias("event_timestamp"), "symbol", "sector")
    # An Arrow table spares the way through pandas; Feast hands it to the offline store as it is.
    joined = pl.from_arrow(
        store.get_historical_features(
            entities.to_arrow(compat_level=pl.CompatLevel.oldest()), definition
        ).to_arrow()
    )
    columns = json.loads(definition.tags["columns"])
    return joined.select(
        pl.col("event_timestamp").cast(rows.schema["timestamp"]).alias("timestamp"),
        "symbol",
        "sector",
        *columns,
    )


def restore(
    publication: str,
    factors_path: str | os.PathLike,
    catalog: Sequence[CatalogEntry],
    period: str,
    *,
    settings: Settings,
    folder: str | os.PathLike,
) -> Mapping[str, Any]:
    """The description of a publication, once it is sure that its files are there and came from the factors
    table at `factors_path`.

    Files that another run pruned or damaged are written again from that table.

    Raises
    ------
    ContractError
        If the publication is of another factors table or another catalog than the ones given.
    """
    sha256 = read_stamp(factors_path).content_sha256
    if not publication.startswith(sha256[:12]):
        raise ContractError(
            f"The feature store was published from factors {publication[:12]}, but {factors_path} holds"
            f" factors {sha256[:12]}. A training set must not mix them: run the materialise stage again on"
            " these factors."
        )
    described = read_json(Path(folder) / "data" / publication / PUBLICATION)
    if described is None or damaged_file(described, folder) is not None:
        table = FactorTable(map_table(factors_path, FACTORS), catalog, period, sha256)
        described = write_publication(table, settings, folder)
    inputs = [entry.column for entry in catalog if entry.role == "input"]
    if described["columns"] != inputs:
        raise ContractError(
            f"The feature store serves {len(described['columns'])} inputs of schema {described['schema']};"
            f" the catalog names {len(inputs)} others. Run the materialise stage again."
        )
    if described["publication"] != publication:
        raise ContractError(
            f"The files of publication {publication} are gone from {folder}, and these settings make"
            f" {described['publication']} instead. Run the materialise stage again."
        )
    return described


@contextlib.contextmanager
def publication_store(publication: Mapping[str, Any], folder: str | os.PathLike) -> Iterator["FeatureStore"]:
    """A store over exactly this publication, with a registry of its own: what is current in `folder` plays no
    part.
    """
    with tempfile.TemporaryDirectory(prefix="alphaloop-registry-") as scratch:
        store = _feast_store(Settings(), Path(scratch), Path(scratch) / "registry.db")
        with _quiet():
            _apply(store, publication, str(Path(folder).absolute()))
        yield store


def _feast_store(settings: Settings, folder: Path, registry: Path) -> "FeatureStore":
    import_feast()
    from feast import FeatureStore, RepoConfig

    values = yaml.safe_load(_expand(settings, folder.absolute()))
    values.update(
        project=settings.project,
        registry={"registry_type": "file", "path": str(registry.absolute()), "cache_ttl_seconds": 0},
    )
    return FeatureStore(config=RepoConfig(**values, repo_path=str(folder.absolute())))


def _own_yaml(settings: Settings, registry: str) -> str:
    """What Feast's own tools read in the store's folder (`feast -c FOLDER ...`, `FeatureStore(FOLDER)`):
    places relative to it, so that it may be moved, but for a `registry` at an address, and the Redis
    connection by the name of its variable.
    """
    values = yaml.safe_load(_template(settings).replace("${ALPHALOOP_FEATURE_STORE}/", ""))
    values["project"] = settings.project
    values["registry"] = registry
    if settings.online == "redis":
        values["online_store"]["connection_string"] = f"${{{settings.redis_variable}}}"
    return yaml.safe_dump(values, sort_keys=False)


def _template(settings: Settings) -> str:
    import feature_repo

    return (Path(feature_repo.__file__).parent / _YAML[settings.online]).read_text(encoding="utf-8")


def _expand(settings: Settings, folder: Path) -> str:
    variables = {"ALPHALOOP_FEATURE_STORE": str(folder)}
    if settings.online == "redis":
        connection = os.environ.get(settings.redis_variable)
        if not connection:
            raise FeatureStoreError(
                f"feature_store.online is redis, but the environment variable {settings.redis_variable} is"
                " not set. Set it, for example to localhost:6379,db=0."
            )
        parse_redis_address(connection, settings.redis_variable)
        variables["ALPHALOOP_REDIS"] = connection
    return string.Template(_template(settings)).substitute(
        {name: json.dumps(value)[1:-1] for name, value in variables.items()}
    )


def _apply(store: "FeatureStore", publication: Mapping[str, Any], place: str) -> None:
    from feature_repo.definitions import define

    store.apply(define(publication, place))


def _drop_broken_database(path: Path) -> None:
    """Remove an online database that a crash left unreadable: all it holds is written again from the
    published files.
    """
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            whole = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        whole = False
    if not whole:
        path.unlink()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Feast's progress prints off the terminal; its errors come as exceptions."""
    level = logging.getLogger("feast").level
    logging.getLogger("feast").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.getLogger("feast").setLevel(level)


@contextlib.contextmanager
def online_errors(settings: Settings, folder: str | os.PathLike) -> Iterator[None]:
    """Turn an online store that does not answer into a message that says what to do about it."""
    redis_error = ()
    if settings.online == "redis":
        from redis.exceptions import RedisError as redis_error
    try:
        yield
    except sqlite3.Error as error:
        raise FeatureStoreError(
            f"The online values in {Path(folder) / 'online.db'} can't be used: {error}. Run `alphaloop"
            " materialise`; it writes them anew."
        ) from error
    except redis_error as error:
        raise FeatureStoreError(
            f"The Redis server that {settings.redis_variable} names did not answer as expected: {error}."
            " Start it, or correct the variable."
        ) from error
