"""Settings of drift: when a column, the predictions or the labels count as moved, and how much is
looked at.
"""

from pydantic import Field

from components.settings import Section


class Settings(Section):
    """A rule fires when its threshold is passed, what training itself saw between windows is passed, and
    chance is ruled out.
    """

    ks_p: float = Field(
        0.01,
        gt=0,
        lt=1,
        description=(
            "Kolmogorov-Smirnov p-value after correction for all columns, below which a column moved; the"
            " level of every other test as well"
        ),
    )
    psi: float = Field(0.25, gt=0, description="population stability index above which a column moved")
    auc: float = Field(
        0.7,
        gt=0.5,
        lt=1,
        description="area under the curve of a classifier that tells reference from current rows",
    )
    label_shift: float = Field(
        0.10,
        gt=0,
        lt=1,
        description=(
            "share of labels that change class within a regime; classes are terciles of the reference"
        ),
    )
    information_ratio_drop: float = Field(
        0.30,
        gt=0,
        le=1,
        description=(
            "fall of the information ratio of served scores against the reference's out-of-sample one"
        ),
    )
    tail_ratio: float = Field(
        5.0,
        gt=1,
        description=(
            "share of rows beyond the reference's 0.1 % and 99.9 % quantiles, as a multiple of the"
            " reference's own"
        ),
    )
    missing_rise: float = Field(
        0.10, gt=0, lt=1, description="rise of the share of missing values, as a share of all rows"
    )
    window_bars: int = Field(
        60, ge=5, description="newest bars of served rows that are held against the reference"
    )
    min_bars: int = Field(20, ge=2, description="bars below which nothing is decided")
    min_rows: int = Field(500, ge=10, description="rows below which nothing is decided")
    sample_rows: int = Field(
        20_000,
        ge=500,
        le=1_000_000,
        description=(
            "rows kept of the reference, and looked at in current, for the classifier and Evidently's"
            " pictures"
        ),
    )
    auc_windows: int = Field(
        8,
        ge=0,
        le=50,
        description=(
            "windows of the reference on which the classifier's usual AUC is measured; 0 switches the"
            " classifier off"
        ),
    )
    page_columns: int = Field(
        12, ge=1, le=200, description="columns in Evidently's report, those that moved most first"
    )
    threads: int = Field(
        1,
        ge=1,
        le=64,
        description=(
            "threads of sketches and classifier; the classifier sees so few rows that more hardly help"
        ),
    )
    seed: int = Field(0, ge=0, description="seed of the samples and the classifier")
