"""Which inputs a model may see in each fold: what the selection stage hands to the experts."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.contracts.errors import ContractError
from components.contracts.files import atomic_write_text, read_json


@dataclass(frozen=True)
class ChosenInputs:
    """Inputs by fold name, each list chosen on that fold's training window alone; `training_set` is the
    content hash of what they were chosen on.
    """

    training_set: str
    by_fold: Mapping[str, Sequence[str]]

    def of(self, fold: str) -> tuple[str, ...]:
        """The inputs of one fold; ContractError where the selection does not know the fold."""
        if fold not in self.by_fold:
            raise ContractError(
                f"The selection holds no inputs for {fold} (found: {', '.join(self.by_fold)}). Run selection"
                " again with the timeline of this run."
            )
        return tuple(self.by_fold[fold])


def write_chosen(chosen: ChosenInputs, path: str | os.PathLike) -> None:
    """Write as JSON, atomically."""
    atomic_write_text(
        path,
        json.dumps(
            {
                "training_set": chosen.training_set,
                "by_fold": {fold: list(names) for fold, names in chosen.by_fold.items()},
            },
            indent=1,
        ),
    )


def read_chosen(path: str | os.PathLike) -> ChosenInputs:
    """Read what `write_chosen` wrote; ContractError where it is not that."""
    values = read_json(Path(path))
    if not values or not isinstance(values.get("by_fold"), dict) or not values["by_fold"]:
        raise ContractError(f"{path} is not a list of chosen inputs. Run the selection stage again.")
    return ChosenInputs(
        str(values.get("training_set", "")), {fold: tuple(names) for fold, names in values["by_fold"].items()}
    )
