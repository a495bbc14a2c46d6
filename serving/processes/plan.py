"""How the service's processes learn what to serve: one small file in the run's folder, named by an
environment variable.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from components.contracts import AlphaloopError, ContractError, atomic_write_text, require_json
from components.feature_store.config import Settings as FeatureStoreSettings
from components.lasting.folder import is_address
from components.registry.config import Settings as RegistrySettings
from components.settings import validate_settings
from serving.config import Settings

PLAN_VARIABLE = "ALPHALOOP_SERVING_PLAN"
# Process number of `alphaloop serve`, for the workers of the service that it starts.
LAUNCHER_VARIABLE = "ALPHALOOP_SERVE_PROCESS"


class PlanError(AlphaloopError):
    """The service was started without a plan, or with one that says nothing usable."""


@dataclass(frozen=True)
class ServingPlan:
    """What to serve. `folder` is the absolute run folder, `name` the registered model.

    `store` is where what lasts lies, a path or an address, where that is not the run folder. What lies at an
    address is kept in step with the run folder (`serving.processes.store_mirror`), which all others use.
    """

    folder: Path
    name: str
    serving: Settings
    feature_store: FeatureStoreSettings
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    code_version: str = ""
    # Newest bars of a champion's answers that drift looks at.
    drift_bars: int = 60
    # Tells the service that one `alphaloop serve` started from every other one.
    instance: str = ""
    store: str = ""

    @property
    def mirrored(self) -> bool:
        """Whether what lasts lies at an address."""
        return is_address(self.store)

    @property
    def _lasting(self) -> Path:
        return Path(self.store) if self.store and not self.mirrored else self.folder

    @property
    def store_folder(self) -> Path:
        return self._lasting / "feature_store"

    @property
    def served_folder(self) -> Path:
        return self._lasting / "served"

    @property
    def serving_folder(self) -> Path:
        return self.folder / "serving"

    @property
    def champion_file(self) -> Path:
        return self.serving_folder / "champion.json"

    @property
    def review_folder(self) -> Path:
        return self._lasting / "review"


def write_plan(plan: ServingPlan) -> Path:
    """Write the plan into its run's folder, atomically, and return the file's path, the value of
    ALPHALOOP_SERVING_PLAN.
    """
    path = plan.serving_folder / "plan.json"
    values = {
        "folder": str(plan.folder),
        "name": plan.name,
        "serving": plan.serving.model_dump(mode="json"),
        "feature_store": plan.feature_store.model_dump(mode="json"),
        "registry": plan.registry.model_dump(mode="json"),
        "code_version": plan.code_version,
        "drift_bars": plan.drift_bars,
        "instance": plan.instance,
        "store": plan.store,
    }
    atomic_write_text(path, json.dumps(values, indent=1))
    # registry.tracking_uri may hold a password.
    path.chmod(0o600)
    return path


def read_plan(path: str | os.PathLike | None = None) -> ServingPlan:
    """The plan at `path`, by default the one that ALPHALOOP_SERVING_PLAN names.

    Raises
    ------
    PlanError, ConfigError
        If there is none, it is unreadable, or a setting in it is unknown or out of range.
    """
    path = path or os.environ.get(PLAN_VARIABLE)
    if not path:
        raise PlanError(
            f"{PLAN_VARIABLE} names no plan, so there is nothing to serve. Start the service with `alphaloop"
            " serve`, which writes one."
        )
    remedy = "Start the service with `alphaloop serve`, which writes it anew."
    try:
        values = require_json(path, remedy=remedy)
        folder, name, sections = (
            Path(values["folder"]),
            str(values["name"]),
            (values["serving"], values["feature_store"]),
        )
    except ContractError as error:
        raise PlanError(f"{path} is not a serving plan: {error}") from error
    except (KeyError, TypeError) as error:
        raise PlanError(f"{path} is not a serving plan ({error}). {remedy}") from error
    return ServingPlan(
        folder=folder,
        name=name,
        serving=validate_settings(Settings, sections[0], source=str(path)),
        feature_store=validate_settings(FeatureStoreSettings, sections[1], source=str(path)),
        registry=validate_settings(RegistrySettings, values.get("registry", {}), source=str(path)),
        code_version=str(values.get("code_version", "")),
        drift_bars=int(values.get("drift_bars", 60)),
        instance=str(values.get("instance", "")),
        store=str(values.get("store", "")),
    )
