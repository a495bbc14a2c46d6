"""KFP door that gathers artifacts, up to nine at a time, each under a name of its own in one folder."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gather(
    what: str,
    names: list,
    code: str,
    gathered: Output[Artifact],
    item_1: Input[Artifact] = None,
    item_2: Input[Artifact] = None,
    item_3: Input[Artifact] = None,
    item_4: Input[Artifact] = None,
    item_5: Input[Artifact] = None,
    item_6: Input[Artifact] = None,
    item_7: Input[Artifact] = None,
    item_8: Input[Artifact] = None,
    item_9: Input[Artifact] = None,
    before: Input[Artifact] = None,
):
    """Lay artifacts side by side in one folder, under `names` and in their order, after those of the gathered
    folder `before`; `code` is there for the cache alone.
    """
    from components.gather.run import run

    items = (item_1, item_2, item_3, item_4, item_5, item_6, item_7, item_8, item_9)
    paths, earlier = [item.path for item in items if item is not None], before and before.path
    run(names, paths, gathered.path, what=what, before=earlier)
