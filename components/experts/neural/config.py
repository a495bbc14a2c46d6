"""Settings that every neural expert has, beside those of its network."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.contracts import REGIMES
from components.settings import Section

Monitor = Literal["rank_correlation", "rank_correlation_over_time", "rmse", "average_precision"]
NormalisedInputs = Literal["none", "bars", "all"]


class Training(Section):
    """How long and on what a network learns."""

    epochs: int = Field(4, ge=1, description="passes; each draws max_train_windows windows anew")
    patience_epochs: int = Field(
        2,
        ge=0,
        description=(
            "epochs without a better monitor that are borne before training stops; 0: it stops at the first"
        ),
    )
    monitor: Monitor = Field(
        "rank_correlation",
        description=(
            "what early stopping watches on the early-stopping rows: rank_correlation within timestamps,"
            " rank_correlation_over_time within symbols, where they are too few for the first;"
            " average_precision needs losses.focal"
        ),
    )
    batch: Literal["rows", "days"] = Field(
        "rows",
        description=(
            "random windows, or whole timestamps; networks that look across symbols always get whole"
            " timestamps"
        ),
    )
    batch_windows: int = Field(
        512, ge=2, description="windows a batch; whole timestamps are added until there are as many"
    )
    accumulate_batches: int = Field(1, ge=1, description="batches whose gradients are summed before a step")
    max_train_windows: int = Field(50_000, ge=1, description="windows drawn an epoch, anew each time")
    band_epochs: int = Field(
        10,
        ge=0,
        description=(
            "epochs, after all else, in which the bands alone learn which rows are noisy; scores stay; 0: off"
        ),
    )
    max_monitor_windows: int = Field(
        15_000, ge=1, description="early-stopping rows that are looked at, in whole timestamps"
    )
    predict_windows: int = Field(1024, ge=1, description="windows a prediction batch")
    checkpoint_steps: int = Field(
        0, ge=0, description="steps from one checkpoint to the next; 0: at the end of each epoch"
    )
    keep_best: int = Field(
        2, ge=1, description="checkpoints of the best epochs that are kept beside the last one"
    )
    deterministic: bool = Field(
        True,
        description="algorithms that give the same bits each time; on a GPU torch warns where there is none",
    )


class Optimiser(Section):
    """From gradients to steps."""

    name: Literal["adamw", "adabelief", "shampoo"] = Field("adamw", description="how gradients become steps")
    learning_rate: float = Field(2e-3, gt=0, description="largest learning rate, after the warm-up")
    weight_decay: float = Field(0.05, ge=0, description="of matrices; never of biases, gates and positions")
    warm_up_share: float = Field(
        0.1, ge=0, le=1, description="share of all steps in which the learning rate rises"
    )
    cycles: int = Field(
        1, ge=1, description="cosine cycles after the warm-up; each restarts at the full rate"
    )
    cycle_growth: float = Field(
        1.0,
        ge=1,
        le=10,
        description=(
            "how many times as long as the one before each cycle is, T_mult of Loshchilov and Hutter 2017; 1:"
            " all the same"
        ),
    )
    floor_share: float = Field(
        0.02, ge=0, le=1, description="share of the learning rate that the cosine never goes below"
    )
    clip_norm: float = Field(1.0, gt=0, description="largest norm of all gradients together")
    clip_rms: float | None = Field(
        None,
        gt=0,
        description=(
            "largest root mean square of a tensor's step, in learning rates (Shazeer and Stern 2018);"
            " none: off"
        ),
    )
    average_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay a step of the exponential average of weights that predicts; 0: off",
    )
    bfloat16: Literal["gpu", "always", "never"] = Field(
        "gpu", description="where forward passes run in bfloat16"
    )


class Losses(Section):
    """Weights of the parts of the loss; 0 leaves a part out.

    The target is the day's standardised label, quantiles are in units of volatility.
    """

    correlation: float = Field(
        1.0,
        ge=0,
        description=(
            "1 - correlation of score and target within a segment (a day, or the batch where it mixes days)"
        ),
    )
    soft_spearman: float = Field(
        0.0,
        ge=0,
        description=(
            "1 - correlation of soft ranks (Blondel et al. 2020 measure, sigmoid ranks) with the target's"
            " ranks"
        ),
    )
    huber: float = Field(0.0, ge=0, description="Huber loss of score against target")
    cost_penalty: float = Field(
        0.0,
        ge=0,
        description=(
            "within huber: weight of the size of the score beyond what pays for a trade while its sign is"
            " wrong"
        ),
    )
    pinball: float = Field(0.5, ge=0, description="pinball loss of the 10 %, 50 % and 90 % quantiles")
    focal: float = Field(0.0, ge=0, description="focal loss of the direction head: down, flat, up")
    focal_gamma: float = Field(2.0, ge=0, description="how much easy rows count less; 1.5 to 2 is usual")
    flat_share: float = Field(
        0.33, gt=0, lt=1, description="share of the rows of a day that count as flat, around its median"
    )
    also: float = Field(
        0.5,
        ge=0,
        description="all of the above for the further targets and horizons of the leaf's `also`, together",
    )
    regimes: dict[Literal[REGIMES], Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="weight of rows by name of their regime, such as {high_volatility: 0.5}; others 1",
    )
    distillation: float = Field(
        1.0, ge=0, description="squared distance of a student's score from its teacher's"
    )

    @model_validator(mode="after")
    def _something_is_learned(self) -> Self:
        if not (self.correlation or self.soft_spearman or self.huber):
            raise ValueError(
                "correlation, soft_spearman and huber are all 0, so the score learns nothing; give one of"
                " them a weight"
            )
        return self


class Regularisation(Section):
    """What keeps a network from learning its training rows by heart."""

    dropout: float = Field(0.1, ge=0, lt=1, description="share of activations set to zero in training")
    stochastic_depth: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "chance that a residual block is skipped for a window, rising linearly to the last block (Huang"
            " et al. 2016)"
        ),
    )
    depth_by_turnover: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "how far stochastic_depth follows the turnover that a window foretells, which is how much its"
            " inputs move from bar to bar, as scores then do: at 1 the calmest window of a batch skips"
            " nothing and the most restless one twice as often as the mean; 0: all alike"
        ),
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "share of each target that is replaced by the day's mean (felt by huber, not by correlations) or"
            " by equal chances (classes)"
        ),
    )
    mixup: float = Field(
        0.0,
        ge=0,
        description=(
            "alpha of mixup's Beta distribution, between windows of the same day where batches are days"
            " (Zhang et al. 2018); 0: off"
        ),
    )
    cutout_bars: int = Field(
        0,
        ge=0,
        description="longest stretch of bars that is blanked in a training window; the newest bar never is",
    )
    cutout_chance: float = Field(0.5, ge=0, le=1, description="chance that a window loses such a stretch")
    volatile_quantile: float = Field(
        0.8,
        gt=0,
        lt=1,
        description=(
            "rows above this quantile of their volatility unit, in the training window, count as"
            " high-volatility"
        ),
    )
    volatile_share: float = Field(
        0.4,
        gt=0,
        le=1,
        description="largest share of the weight of a batch that high-volatility rows have together",
    )

    @model_validator(mode="after")
    def _depth_is_a_chance(self) -> Self:
        most = self.stochastic_depth * (1 + self.depth_by_turnover)
        if self.depth_by_turnover and not 0 < most < 1:
            raise ValueError(
                f"depth_by_turnover={self.depth_by_turnover} lets the most restless window skip the last"
                f" block with a chance of {most:g}, which must lie between 0 and 1; set stochastic_depth to a"
                f" value above 0 and below {1 / (1 + self.depth_by_turnover):.3g}"
            )
        return self


class DropoutSampling(Section):
    """Monte-Carlo dropout (Gal and Ghahramani 2016) on the last embedding, with masks that are drawn once, so
    that it is repeatable and can be served.

    In simulated markets the masks told neither noisy rows (training.band_epochs does) nor rows with inputs
    unlike all that were learned from.
    """

    masks: int = Field(
        0,
        ge=0,
        description=(
            "masks whose scores are averaged; the band is wider where they disagree, about the row's score"
            " and nothing else; 0: off"
        ),
    )
    rate: float = Field(0.2, gt=0, lt=1, description="share of activations that a mask sets to zero")


class Continual(Section):
    """A student goes on from the teacher of the whole training window with its newest bars; loss = task +
    losses.distillation * distance from the teacher.
    """

    student_bars: int = Field(
        0,
        ge=0,
        description=(
            "newest bars of the training window that the student learns from, such as 63; 0: no student"
        ),
    )
    epochs: int = Field(4, ge=1, description="passes; each draws max_train_windows windows anew")
    learning_rate_share: float = Field(1.0, gt=0, description="of the optimiser's learning rate")


class Pretraining(Section):
    """Before any label is seen: rebuild masked symbols of a day, and tell windows apart (InfoNCE, van den
    Oord et al. 2018).

    It helps where few rows have labels and enough steps follow to fine-tune; rebuilding alone, without the
    contrastive part, did not help on the simulator.
    """

    epochs: int = Field(0, ge=0, description="0: off")
    masked_share: float = Field(
        0.15, gt=0, lt=1, description="share of a day's symbols whose newest bars are masked and rebuilt"
    )
    masked_bars: int = Field(5, ge=1, description="newest bars of a masked symbol that are hidden")
    masked: float = Field(1.0, ge=0, description="weight of rebuilding")
    contrastive: float = Field(
        0.5, ge=0, description="weight of InfoNCE between two distorted views of a window"
    )
    apart_bars: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        description=(
            "the other view is of the same symbol one of so many bars later, such as [5, 10, 20]; of the"
            " training window alone, earlier where it holds no later one; none: of the same bar"
        ),
    )
    temperature: float = Field(0.07, gt=0, description="temperature of the contrastive softmax")
    noise: float = Field(
        0.1, ge=0, description="standard deviation of a view's noise, in deviations of the inputs"
    )


class Neural(Section):
    """The sections that a neural expert's `Settings` holds beside its network's own fields."""

    lookback_bars: int = Field(60, ge=2, description="bars in a window, the predicted row's own included")
    training: Training = Training()
    optimiser: Optimiser = Optimiser()
    losses: Losses = Losses()
    regularisation: Regularisation = Regularisation()
    dropout_sampling: DropoutSampling = DropoutSampling()
    continual: Continual = Continual()
    pretraining: Pretraining = Pretraining()
    window_normalisation: NormalisedInputs = Field(
        "none",
        description=(
            "inputs that come less their mean over the window, over their deviation (RevIN of Kim et al."
            " 2022), while both are told to what predicts: the raw bars, or all but those of calendar and"
            " regime, which are common to all symbols"
        ),
    )

    @model_validator(mode="after")
    def _monitor_has_its_head(self) -> Self:
        if self.training.monitor == "average_precision" and not self.losses.focal:
            raise ValueError(
                "training.monitor is average_precision, but losses.focal is 0, so there is no direction head"
                " to watch; set losses.focal, or another monitor"
            )
        return self
