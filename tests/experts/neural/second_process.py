"""An expert whose second process fails where its settings say so, while the first one waits for it."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Literal

from components.experts.errors import ExpertError
from components.experts.neural import distributed
from components.settings import Section
from tests.experts.training import fragile


class Settings(Section):
    """What the second process does in a fit, and the file that all wait for to be gone."""

    harm: Literal["", "expert_error", "bug", "killed"] = ""
    until_gone: str = ""


class Expert:
    """The fragile expert, which also keeps how many processes fitted it."""

    lookback_bars = 0

    def __init__(self, settings):
        self.settings, self.inner = settings, fragile.Expert(fragile.Settings())

    def fit(self, frame, task, *, advance, warm_start=None):
        self.inner.fit(frame, task, advance=advance)
        while self.settings.until_gone and Path(self.settings.until_gone).exists():
            time.sleep(0.05)
        if distributed.world().rank == 1 and self.settings.harm:
            if self.settings.harm == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise (
                ExpertError("the second one is out of luck")
                if self.settings.harm == "expert_error"
                else ZeroDivisionError("the second one divided")
            )
        distributed.wait()

    def predict(self, frame):
        return self.inner.predict(frame)

    def save(self, folder):
        self.inner.save(folder)
        (folder / "processes.json").write_text(json.dumps(distributed.world().size))
