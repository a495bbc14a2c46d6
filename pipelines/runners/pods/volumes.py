"""The claims of a cluster, played by folders of this machine: that of the run by the run folder, that of the
data by the data folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.runners.pods.declared import Claim, PodError
from pipelines.runners.pods.machine import mount

# Of the run folder no task sees what the runner keeps there.
RUNNERS_FOLDERS = ("artifacts", "tmp")
RUNNERS_FILES = (".lock", "events.jsonl", "kfp.log", "plan.json")


@dataclass(frozen=True)
class Volumes:
    """`folders` plays claims by name; `readable` are further files and folders that tasks see under their own
    paths and can't write; `store` the folder that run.store names, which they write under its own path.
    """

    run_folder: Path
    folders: Mapping[str, Path]
    readable: Mapping[str, Path]
    store: Path | None = None

    def mounts(self, claims: Sequence[Claim]) -> list[dict]:
        """Mounts, for the plan of a pod, of a task's claims.

        Raises
        ------
        PodError
            If nothing here plays one of them.
        """
        found = [mount(place, target) for target, place in self.readable.items()]
        if self.store:
            self.store.mkdir(parents=True, exist_ok=True)
            found.append(mount(self.store, str(self.store), writable=True))
        for claim in claims:
            if claim.name not in self.folders:
                raise PodError(
                    f"A task mounts the claim {claim.name}, which no folder of this machine plays. Take it"
                    " out of cluster, or run on a cluster."
                )
            folder = self.folders[claim.name] / claim.sub_path
            own = folder == self.run_folder
            found.append(mount(folder, claim.mount_path, writable=own))
            found += self._covers(claim.mount_path) if own else []
        return found

    def _covers(self, mount_path: str) -> list[dict]:
        folders = [
            {"kind": "empty", "target": f"{mount_path}/{name}"}
            for name in RUNNERS_FOLDERS
            if (self.run_folder / name).is_dir()
        ]
        files = [
            mount(Path("/dev/null"), f"{mount_path}/{name}")
            for name in RUNNERS_FILES
            if (self.run_folder / name).is_file()
        ]
        return folders + files
