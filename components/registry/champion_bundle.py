"""Brings the champion's bundle out of the registry, for stages that score with it."""

from pathlib import Path

from components.contracts.documents.champion import ChampionRecord
from components.progress import report, stage
from components.registry.client import open_existing
from components.registry.config import Settings
from components.registry.errors import RegistryError
from components.registry.run import RegistryPlace
from components.registry.versions import fetch_bundle


def run_fetch_bundle(place: RegistryPlace, champion: str, bundle: str) -> None:
    """Copy the bundle of the champion that the folder `champion` describes to the new folder `bundle`.

    Raises
    ------
    RegistryError
        If there is no champion, or the registry does not answer.
    BundleError
        If its bundle is missing, incomplete or was changed.
    """
    with stage("bundle"):
        about = ChampionRecord.find(Path(champion) / "champion.json")
        settings = Settings.model_validate_json(place.settings)
        if about is None:
            raise RegistryError(
                f"There is no champion of {place.name!r} in {settings.tracking_uri or place.folder}, so there"
                " is nothing to replay. Run the training pipeline first."
            )
        client = open_existing(settings, Path(place.folder))
        fetch_bundle(client, place.name, about.version, Path(bundle))
        report("bundle", f"version {about.version}, {about.bundle_sha256[:12]}")
