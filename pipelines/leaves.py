"""Finds an expert's leaf, and the files beside it: in a folder of the user's own, or among Alphaloop's."""

from pathlib import Path

from components.contracts import AlphaloopError
from components.experts.leaves import Leaf, load_leaf
from components.settings import ConfigError
from pipelines.config import LEAVES, Config

# In an expert's work folder: where the tables that it learns from lie.
INPUTS = "inputs.json"


def find_leaf(name: str, config: Config) -> str:
    """The leaf of `experts.leaves` that `name` means: the leaf itself or its expert."""
    found = [leaf for leaf in config.experts.leaves if name in (leaf, leaf.split("/")[0])]
    if not found:
        raise AlphaloopError(
            f"{name!r} is none of this config's experts: {', '.join(config.experts.leaves)}. Add its leaf to"
            " experts.leaves."
        )
    return found[0]


def resolve_leaf(name: str, config: Config) -> Leaf:
    """An expert's leaf, from `experts.folder` if it stands there, with the run's overrides applied."""
    own = Path(config.experts.folder).absolute() / f"{name}.yaml"
    path = own if config.experts.folder and own.exists() else LEAVES / f"{name}.yaml"
    leaf = load_leaf(path, config.experts.overrides.get(name.split("/")[0], {}))
    found = f"{leaf.expert}/{leaf.period}/{leaf.modality}"
    if found != name:
        raise ConfigError(
            f"{path} stands at {name} but says that it is {found}. Mend its expert, period or modality, or"
            " move it."
        )
    for task in leaf.also:
        if task.horizon not in config.labels.horizons:
            raise ConfigError(
                f"{path}: `also` names horizon {task.horizon}, which is not made. Add it to labels.horizons"
                f" ({', '.join(map(str, config.labels.horizons))}), or take one of those."
            )
    return leaf


def beside_leaves(name: str, expert: str, config: Config) -> Path:
    """The file `name` of an expert: that in `experts.folder` if it stands there, else Alphaloop's own, which
    may be missing.
    """
    own = Path(config.experts.folder).absolute() / expert / name
    return own if config.experts.folder and own.exists() else LEAVES / expert / name
