"""The tables of a search as numbers, and the rows that its models are validated on."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from automl_features import IGNORED, Calendar, Features  # type: ignore[import-not-found]
from minibatches import table  # type: ignore[import-not-found]  # these lie beside this file
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split


class Tables:
    """The data of one search.

    `kind`: classification, regression or forecasting; `frames`: its tables by name; `numbers`:
    float64 of shape (n, features); `target`: shape (n,), values or numbers of `classes`;
    `weights`: shape (n,) or None; `calendar`: what a forecast knows of the past, else None.
    """

    def __init__(self, task: dict[str, Any], places: dict[str, str]) -> None:
        self.task, self.kind = task, str(task["taskType"]).lower()
        self.column, self.weight = task["targetColumnName"], task.get("weightColumnName")
        self.frames = {name: table(place) for name, place in places.items()}
        for name, frame in self.frames.items():
            frame.columns = frame.columns.map(str)
            if self.column not in frame and name != "test":
                sys.exit(f"The {name} data has no column {self.column}: {', '.join(frame)}.")
            say(f"{name} data: {len(frame)} rows, {frame.shape[1]} columns")
        self.classes: Any = None
        self._prepare()

    def _prepare(self) -> None:
        parts = [self.frames[name] for name in ("training", "validation") if name in self.frames]
        frame = pd.concat(parts, ignore_index=True)
        there = frame[self.column].notna()
        if not there.all():
            say(f"{(~there).sum()} rows without {self.column} are left out")
        self.first_held_out = int(there[: len(parts[0])].sum())
        frame = frame[there].reset_index(drop=True)
        self.calendar = self._calendar(frame[: self.first_held_out])
        known = frame
        if self.calendar:
            self.calendar.history_ = self.calendar.dated(frame)[list(self.calendar.history_)]
            known = self.calendar.lagged(frame)
        self.times: Any = known[self.calendar.time] if self.calendar else None
        self.features = self._features(known.drop(columns=self.column, errors="ignore"))
        # Fitted once, not for each fold: nothing of it looks at the target.
        self.numbers = self.features.transform(known)
        self.weights = frame[self.weight].to_numpy() if self.weight else None
        self.target = frame[self.column].to_numpy()
        if self.kind == "classification":
            labels = self.target.astype(str if self.target.dtype == object else self.target.dtype)
            self.classes, self.target = np.unique(labels, return_inverse=True)
        else:
            self.target = self.target.astype(float)
        say(f"{self.numbers.shape[1]} features from {self.features.kinds_}")

    def _features(self, frame: Any) -> Any:
        asked = self.task.get("featurizationSettings") or {}
        kinds = {
            name: str(kind).lower()
            for name, kind in (asked.get("columnNameAndTypes") or {}).items()
        }
        kinds |= dict.fromkeys(asked.get("dropColumns") or [], IGNORED)
        if self.weight:
            kinds[self.weight] = IGNORED
        return Features(kinds, _fills(asked)).fit(frame)

    def _calendar(self, frame: Any) -> Any:
        asked = self.task.get("forecastingSettings") or {}
        if self.kind != "forecasting":
            return None
        if asked.get("timeColumnName") not in frame:
            sys.exit(f"The training data has no time column {asked.get('timeColumnName')}.")
        ids = list(asked.get("timeSeriesIdColumnNames") or [])
        horizon = number_of(asked.get("forecastHorizon"))
        calendar = Calendar(asked["timeColumnName"], ids, self.column, horizon or 1)
        lags = asked.get("targetLags")  # `{"mode": …, "values": […]}`, a list or `auto`
        values = lags.get("values") if isinstance(lags, dict) else lags
        values = [int(lag) for lag in values or []] if isinstance(values, list | None) else []
        window = number_of(asked.get("targetRollingWindowSize")) or 0
        calendar.fit(frame, asked.get("frequency"), values, window)
        say(f"Forecasts {calendar.horizon} times ahead, lags of the target: {calendar.lags_}")
        return calendar

    def folds(self) -> list[tuple[Any, Any]]:
        """Rows to train on and rows to score on, as often as the models are to be validated."""
        rows, size = np.arange(len(self.target)), self.task.get("validationDataSize")
        if "validation" in self.frames:
            return [(rows[: self.first_held_out], rows[self.first_held_out :])]
        count = number_of(self.task.get("nCrossValidations"))
        if self.calendar:
            return self._windows(count or 3)
        if not count and not size:  # Azure's rule
            count = 10 if len(rows) < 1000 else 3 if len(rows) < 20000 else None
        labels = self.target if self.kind == "classification" else None
        rarest = np.bincount(labels).min() if labels is not None else len(rows)
        if count:
            kind = StratifiedKFold if labels is not None and rarest >= count else KFold
            return list(kind(count, shuffle=True, random_state=0).split(rows, labels))
        stratify = labels if labels is not None and rarest > 1 else None
        return [
            tuple(train_test_split(rows, test_size=size or 0.1, random_state=0, stratify=stratify))
        ]

    def _windows(self, count: int) -> list[tuple[Any, Any]]:
        """Rolling origins: the last horizons, each with what was before it."""
        times = np.unique(self.times)
        horizon = min(self.calendar.horizon, max(1, len(times) // (count + 2)))
        found = []
        for end in (len(times) - k * horizon for k in range(count)):
            first = times[end - horizon]
            is_scored = (self.times >= first) & (self.times <= times[end - 1])
            found.append((np.flatnonzero(self.times < first), np.flatnonzero(is_scored)))
        return found


def _fills(asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Column → parameters of its imputer."""
    found: dict[str, dict[str, Any]] = {}
    for name, entries in (asked.get("transformerParams") or {}).items():
        for entry in entries if str(name).lower() == "imputer" else []:
            given = entry.get("parameters") or {}
            if given.get("strategy") not in ("mean", "median", "most_frequent", "constant"):
                say(f"Imputer: the strategy {given.get('strategy')} is not here, the mean is taken")
                continue
            kept = {key: given[key] for key in ("strategy", "fill_value") if key in given}
            found |= dict.fromkeys(entry.get("fields") or [], kept)
    return found


def number_of(given: Any) -> int | None:
    """A count that may be `auto`: `{"mode": "Custom", "value": 3}`, 3, "3", "auto", None."""
    text = str(given.get("value") if isinstance(given, dict) else given)
    return int(text) if text.isdigit() else None


def say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)
