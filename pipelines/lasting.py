"""What of a run must outlast the machine that its tasks ran on: where it lies, and whether a cluster would
lose it.
"""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from components.contracts import AlphaloopError
from components.fusion.at_hand import wanted_files
from components.lasting.file_systems import path_of
from components.lasting.folder import fetched, is_address
from components.ticks.at_hand import files_of
from pipelines.config import Config

# What a person reads, and what those pages lead to.
PAGES = ("report.html", "failure.html", "data_docs/", "evidence/", "review/")
# Tracking addresses of servers, which keep artifacts themselves; a database holds records alone.
SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")


class WouldVanish(AlphaloopError):
    """A cluster run would lose what it made together with its pods."""


def lasting_folder(config: Config, folder: str) -> str:
    """Where feature store, served answers, audit trail and report lie, as a path or an address: run.store, or
    without one the run's `folder`.
    """
    store = config.run.store
    return store if is_address(store) else str(Path(folder, store))


def lasting_here(config: Config) -> str:
    """`lasting_folder` as this machine sees it."""
    return lasting_folder(config, str(Path(config.run.folder).absolute()))


def folder_of_store(config: Config) -> Path | None:
    """The folder of this machine that run.store names, by address or absolute path; None where it lies on S3
    or in the run folder.
    """
    store = config.run.store
    if is_address(store):
        return None if store.startswith("s3://") else Path(path_of(store))
    return Path(store) if Path(store).is_absolute() else None


def page_at_hand(config: Config, page: str) -> Path:
    """A page of what lasts, such as report.html, as a file of this machine: from an address it is brought
    into run.folder, with the pages that it leads to.
    """
    kept = lasting_here(config)
    if not is_address(kept):
        return Path(kept) / page
    target = Path(config.run.folder).absolute()
    with fetched(kept, lambda name: name.startswith(PAGES)) as folder:
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name.startswith(PAGES):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / name)
    return target / page


def require_lasting(config: Config) -> None:
    """Refuse a configuration whose run on a cluster would lose its model, its features or its audit trail.

    Raises
    ------
    WouldVanish
        With everything that would be lost, and what to set.
    """
    if lost := lost_by_pods(config):
        listed = "\n".join(f"- {one}" for one in lost)
        raise WouldVanish(
            "A task on a cluster finds an empty folder and leaves nothing behind but its artifacts. With this"
            f" config a run would lose, or could not find:\n{listed}"
        )


def lost_by_pods(config: Config) -> list[str]:
    """What a run on a cluster would lose or not find, the data that it reads included."""
    return [*vanishing(config), *unseen_data(config)]


def vanishing(config: Config) -> list[str]:
    """What a run on a cluster makes and would lose, and what to set; nothing where all of it lasts."""
    if config.ticks is not None:  # their features are in no store
        return [*_models(config), *_files(config, "the report")]
    what = "the feature store, the answers that were served, the audit trail and the report"
    return [*_models(config), *_online_values(config), *_files(config, what)]


def _models(config: Config) -> list[str]:
    uri = config.registry.tracking_uri
    if urlsplit(uri).scheme in SERVERS or uri in SERVERS:
        return []
    found = "is empty, which means SQLite in run.folder" if not uri else "names no server"
    return [
        f"the model: registry.tracking_uri {found}. Set it to the address of an MLflow server that keeps"
        " artifacts itself (mlflow server --artifacts-destination s3://...), such as"
        " http://mlflow.alphaloop:5000."
    ]


def _online_values(config: Config) -> list[str]:
    settings, cluster = config.feature_store, config.cluster
    if settings.online != "redis":
        return [
            f"the online features: feature_store.online is {settings.online}, a file that no other pod may"
            f" share. Set it to redis, and {settings.redis_variable} in cluster.secrets or"
            " cluster.environment."
        ]
    if settings.redis_variable not in {**cluster.environment, **cluster.secrets}:
        return [
            f"the online features: no task is told where Redis is. Name {settings.redis_variable} in"
            f" cluster.secrets, such as {{{settings.redis_variable}: {{secret: redis, key: address}}}}, or in"
            " cluster.environment."
        ]
    return []


def _files(config: Config, what: str) -> list[str]:
    store, cluster = config.run.store, config.cluster
    if store.startswith("s3://"):
        return []
    where = "run.store" if store else "run.folder"
    to_set = "Set run.store to an address such as s3://bucket/prefix"
    if not cluster.volume_claim:
        return [
            f"{what}: {where} is a folder of one pod. {to_set}, or cluster.volume_claim to a volume for it."
        ]
    mount = Path(cluster.mount_path)
    place = folder_of_store(config) or mount / config.run.folder / store
    if mount not in (place, *place.parents):
        return [
            f"{what}: {where}={store or config.run.folder} lies outside cluster.mount_path={mount}. {to_set}."
        ]
    return []


def unseen_data(config: Config) -> list[str]:
    """Files of the market, of slow tables or of ticks that no task would find."""
    cluster = config.cluster
    mounted = [cluster.data_path] if cluster.data_claim else []
    mounted += [cluster.mount_path] if cluster.volume_claim else []
    named = files_of(config.ticks) if config.ticks is not None else _files_of_bars(config)
    return [
        f"{what}, {Path(cluster.data_path, path)}: no volume is mounted there. Set its path to an address"
        " such as s3://bucket/key, or cluster.data_claim to the claim that holds the data."
        for path, what in named.items()
        if not path.startswith("s3://")
        and not any(Path(cluster.data_path, path).is_relative_to(place) for place in mounted)
    ]


def _files_of_bars(config: Config) -> dict[str, str]:
    """What each file of a run on bars is, by its path."""
    named = dict(wanted_files(config.fusion))
    if config.market.source != "simulator":
        named[config.market.path or "fetched"] = f"the bars of market.source={config.market.source}"
    if config.market.sectors:
        named[config.market.sectors.path] = "market.sectors.path"
    return named
