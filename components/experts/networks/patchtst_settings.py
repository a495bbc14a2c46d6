"""The settings of one leaf of the PatchTST: its own fields beside those that every neural expert has."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.experts.neural.config import Neural


class Settings(Neural):
    """One leaf of the PatchTST."""

    encoder: Literal["groupwise", "plain"] = Field(
        "groupwise",
        description=(
            "one encoder a factor group over its mixed channels, or one for every input as its own channel"
        ),
    )
    feature_gate: bool = Field(True, description="inputs pass x * sigmoid(W x + b) first")
    regime_gate: bool = Field(
        True, description="the market's regime weighs the groups; off: a plain mean; groupwise only"
    )
    raw_branch: bool = Field(
        True, description="raw bars pass a CNN whose embedding is added; off: they are a group like others"
    )
    patch_bars: int = Field(12, ge=1, description="bars in a patch")
    stride_bars: int = Field(12, ge=1, description="bars from one patch to the next")
    channels: int = Field(
        2, ge=1, description="channels that a group's inputs are mixed into; groupwise only"
    )
    width: int = Field(16, ge=2, description="width of a patch in the encoder")
    heads: int = Field(2, ge=1, description="attention heads; divides width")
    layers: int = Field(1, ge=1, description="encoder layers")
    feed_forward: int = Field(32, ge=2, description="width of the encoder's feed-forward step")
    embedding: int = Field(32, ge=2, description="width of a group's embedding and of the raw branch's")
    convolution: int = Field(16, ge=1, description="width of the CNN over raw bars")
    gate_l1: float = Field(1e-4, ge=0, description="weight of the sum of |W| of the feature gate")
    gate_cost: float = Field(
        2e-4,
        ge=0,
        description="weight of the gates' mean openings, summed; closes gates of inputs that do not pay",
    )

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} can't be split among heads={self.heads}; set width to a multiple of"
                " heads"
            )
        if self.patch_bars > self.lookback_bars:
            raise ValueError(
                f"patch_bars={self.patch_bars} is longer than lookback_bars={self.lookback_bars}; set"
                f" patch_bars to {self.lookback_bars} or less"
            )
        if self.encoder == "plain" and self.regime_gate:
            raise ValueError(
                "encoder=plain has no groups that regime_gate could weigh; set regime_gate to false, or"
                " encoder to groupwise"
            )
        return self
