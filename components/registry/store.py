"""What others call of the registry: the command line, the service's follower, notebooks."""

from components.registry.aliases import (
    CHALLENGER,
    CHAMPION,
    PresentChampion,
    champion_history,
    present_champion,
    promote,
    rollback,
)
from components.registry.champion import fetch_champion
from components.registry.client import RegistryError, open_existing, open_registry, without_secrets
from components.registry.register import register_model
from components.registry.trials import Trial, read_verdict
from components.registry.versions import fetch_bundle, verify_registered

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "PresentChampion",
    "RegistryError",
    "Trial",
    "champion_history",
    "fetch_bundle",
    "fetch_champion",
    "open_existing",
    "open_registry",
    "present_champion",
    "promote",
    "read_verdict",
    "register_model",
    "rollback",
    "verify_registered",
    "without_secrets",
]
