"""An expert that fails, or is killed, in the fold fold_01."""

import os
import signal

from components.settings import Section
from tests.experts.training import fragile


class Settings(Section):
    die: bool = False


class Expert(fragile.Expert):
    def __init__(self, settings: Settings):
        super().__init__(fragile.Settings())
        self.die = settings.die

    def fit(self, frame, task, *, advance, warm_start=None) -> None:
        if "fold_01" in task.key:
            if self.die:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("odd fold")
        super().fit(frame, task, advance=advance, warm_start=warm_start)
