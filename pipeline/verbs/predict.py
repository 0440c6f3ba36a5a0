"""What `seedbed predict` does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import UserError
from pipeline.key_values import check_keys, key_values

if TYPE_CHECKING:
    from pipeline.results.predict import Predictor


PREDICTING = ("run", "experiment", "model")
PREDICT_KEYS = (*PREDICTING, "rows", "tracking.uri")


def print_predictions(words: Sequence[str], file: str | None) -> None:
    """Predicts rows and prints them as CSV, with a warning on standard error for each that extrapolates."""
    from pipeline.results.predict import columns_of, extrapolations, inline_rows, named_row, prediction_csv, read_rows

    values = key_values(words)
    predictor = chosen_predictor(values)
    features, columns = predictor.features, columns_of(predictor.features)
    named = {key: value for key, value in values.items() if key not in PREDICT_KEYS}
    check_keys(named, (*PREDICT_KEYS, *columns))
    if (file is not None) + ("rows" in values) + bool(named) != 1:
        raise UserError(f"Say what to predict: --input FILE.csv, or rows=[[...]], or each of {', '.join(columns)}=.")
    if file is not None:
        names, rows = read_rows(Path(file), features, predictor.unused, predictor.fills)
    else:
        missing = [name for name in columns if name not in named]
        if named and missing:
            raise UserError(f"The row lacks {', '.join(missing)}: give each of {', '.join(columns)}.")
        rows = named_row(named, features) if named else inline_rows(values["rows"], features)
        names = [""] * len(rows)
    for warning in extrapolations(names, rows, predictor):
        click.echo(f"warning: {warning}", err=True)
    click.echo(prediction_csv(names, rows, predictor), nl=False)


def chosen_predictor(values: Mapping[str, Any]) -> "Predictor":
    """What predicts: the run, the best run of the experiment, or the registered model that the words name."""
    from pipeline.results.predict import run_predictor
    from pipeline.store.reader import open_reader

    if sum(key in values for key in PREDICTING) != 1:
        raise UserError("Say which network predicts: run=RUN_ID, experiment=NAME or model=NAME@champion, one of them.")
    reader = open_reader(values.get("tracking.uri"))
    if "model" in values:
        from pipeline.model.load import registered_predictor

        return registered_predictor(reader, values["model"])
    return run_predictor(reader.run(values["run"]) if "run" in values else reader.best(values["experiment"]))
