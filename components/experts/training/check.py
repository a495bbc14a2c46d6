"""Refuses what an expert predicts where it breaks the contract: wrong rows, missing or crossing numbers."""

import polars as pl

from components.contracts.classes import CLASS_COLUMNS, check_probabilities, class_places
from components.contracts.errors import ContractError
from components.experts.errors import ExpertError
from components.experts.protocol import PREDICTION_COLUMNS


def check_predictions(
    predictions: pl.DataFrame, rows: pl.DataFrame, *, expert: str, fold: str, classes: tuple[int, ...] = ()
) -> pl.DataFrame:
    """Return the predictions, their columns in order, if they answer exactly `rows` with usable numbers.

    Parameters
    ----------
    predictions : what `Expert.predict` returned
    rows : columns `timestamp, symbol` of the `predict` rows, in order
    classes : the labels of a target of classes, for which there must be probabilities

    Raises
    ------
    ExpertError
        Naming the expert, the fold, what is wrong and the first row where it is.
    """
    where = f"Expert {expert}, {fold}"
    columns = (*PREDICTION_COLUMNS, *(CLASS_COLUMNS if classes else ()))
    _check_columns(predictions, columns, where)
    _check_rows(predictions, rows, where)
    _check_numbers(predictions, columns[2:], where)
    if classes:
        _check_classes(predictions, classes, where)
    return predictions.select(columns)


def _check_columns(predictions: pl.DataFrame, columns: tuple[str, ...], where: str) -> None:
    if not isinstance(predictions, pl.DataFrame):
        raise ExpertError(
            f"{where}: predict returned a {type(predictions).__name__}, expected a Polars DataFrame. Mend"
            " Expert.predict."
        )
    missing = [name for name in columns if name not in predictions.columns]
    surplus = [name for name in predictions.columns if name not in columns]
    if missing or surplus:
        raise ExpertError(
            f"{where}: predictions lack {missing or 'nothing'} and have {surplus or 'nothing'} too much;"
            f" expected exactly {', '.join(columns)}."
            + (
                f" A target of classes needs {', '.join(CLASS_COLUMNS)}."
                if CLASS_COLUMNS[0] in missing
                else ""
            )
        )
    for name in columns[2:]:
        if predictions[name].dtype != pl.Float64:
            raise ExpertError(
                f"{where}: predicted column {name!r} has type {predictions[name].dtype}, expected Float64."
                " Cast it in Expert.predict."
            )


def _check_numbers(predictions: pl.DataFrame, numbers: tuple[str, ...], where: str) -> None:
    for name in numbers:
        bad = ~predictions[name].is_finite().fill_null(False)
        if bad.any():
            raise ExpertError(
                f"{where}: {name} is null, NaN or infinite in {int(bad.sum()):,} of {len(bad):,} predictions,"
                f" first at {_first(predictions, bad)}."
            )
    crossing = (predictions["p10"] > predictions["p50"]) | (predictions["p50"] > predictions["p90"])
    if crossing.any():
        raise ExpertError(
            f"{where}: p10 <= p50 <= p90 does not hold in {int(crossing.sum()):,} predictions, first at"
            f" {_first(predictions, crossing)}."
        )
    negative = predictions["uncertainty"] < 0
    if negative.any():
        raise ExpertError(
            f"{where}: uncertainty is negative in {int(negative.sum()):,} predictions, first at"
            f" {_first(predictions, negative)}."
        )
    try:
        check_probabilities(predictions, source=where)
    except ContractError as error:
        raise ExpertError(str(error)) from error


def _check_classes(predictions: pl.DataFrame, classes: tuple[int, ...], where: str) -> None:
    places = class_places(len(classes))
    for name in (name for place, name in enumerate(CLASS_COLUMNS) if place not in places):
        wrong = predictions[name] != 0
        if wrong.any():
            raise ExpertError(
                f"{where}: {name} is not 0 in {int(wrong.sum()):,} predictions, first at"
                f" {_first(predictions, wrong)}, but the target knows the classes"
                f" {', '.join(map(str, classes))} alone. Leave it 0 in Expert.predict."
            )


def _check_rows(predictions: pl.DataFrame, rows: pl.DataFrame, where: str) -> None:
    repeated = predictions.select(pl.struct("timestamp", "symbol").is_duplicated()).to_series()
    if repeated.any():
        raise ExpertError(
            f"{where}: {int(repeated.sum()):,} predictions repeat a (timestamp, symbol), first"
            f" {_first(predictions, repeated)}. Each may occur once."
        )
    if len(predictions) != len(rows):
        raise ExpertError(
            f"{where}: {len(predictions):,} predictions for {len(rows):,} rows with part `predict`. Predict"
            " each of them once, in their order."
        )
    schema = {"timestamp": rows["timestamp"].dtype, "symbol": rows["symbol"].dtype}
    found = {name: predictions[name].dtype for name in schema}
    if found != schema:
        raise ExpertError(
            f"{where}: timestamp and symbol of the predictions have types {found}, expected {schema}. Take"
            " them from the rows as they are."
        )
    other = (predictions["timestamp"] != rows["timestamp"]) | (predictions["symbol"] != rows["symbol"])
    if other.fill_null(True).any():
        raise ExpertError(
            f"{where}: prediction {_first(predictions, other.fill_null(True))} is not the row that was asked"
            " for. Keep the order of the `predict` rows."
        )


def _first(predictions: pl.DataFrame, mask: pl.Series) -> str:
    timestamp, symbol = predictions.filter(mask).select("timestamp", "symbol").row(0)
    return f"({timestamp}, {symbol})"
