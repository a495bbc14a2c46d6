"""Statuses of experts as other stages' tests need them."""

from components.contracts.documents.experts import ExpertStatus, FailedExpert, Fit, TrainedExpert


def status_of(expert: str, status: str = "trained", reason: str = "out of memory") -> ExpertStatus:
    """A status of one fit, or of a failure."""
    if status == "failed":
        return FailedExpert(expert=expert, reason=reason, trace_file="failure.txt")
    window = "2020-01-01..2020-12-31"
    fit = Fit(
        fold="final", train_window=window, inputs=1, train_rows=9, warm=False, predicted_rows=0, seconds=0.5
    )
    return TrainedExpert(
        expert=expert,
        period="1d",
        modality="base",
        horizon=5,
        target="log_return",
        inputs=1,
        rows=1,
        train_window=window,
        predicted="2021-01-01..2021-01-01",
        folds=(fit,),
        resumed_folds=0,
        constant_folds=(),
        seconds=0.5,
    )
