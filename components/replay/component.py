"""KFP doors of the replay."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def replay(
    bundle: Input[Artifact],
    champion: Input[Artifact],
    live: Input[Dataset],
    factors: Input[Dataset],
    answered: Input[Dataset],
    settings: str,
    folder: str,
    found: Output[Artifact],
    page: Output[HTML],
):
    """Score the newest bars as the service does and hold them against the backtest and what was answered."""
    from pathlib import Path

    from components.replay.run import Replayed, run_replay

    inputs = Replayed(*(Path(one.path) for one in (bundle, champion, live, factors, answered)))
    run_replay(inputs, Path(found.path), Path(page.path), settings=settings, folder=folder)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def require_same(found: Input[Artifact]):
    """Fail where the replay found that the two sides differ."""
    from pathlib import Path

    from components.replay.run import run_require_same

    run_require_same(Path(found.path))
