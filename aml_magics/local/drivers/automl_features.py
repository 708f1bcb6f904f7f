"""Tables as numbers, and the models of automated machine learning, which take tables.

The classes are pickled by value into the models: who loads one needs no file of this package.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

NUMERIC, CATEGORICAL, DATE, TEXT, IGNORED = "numeric", "categorical", "datetime", "text", "ignore"
MOST_CATEGORIES, MOST_WORDS = 20, 100
DATE_PARTS = ("year", "month", "day", "dayofweek", "dayofyear", "hour")
STRATEGIES = ("mean", "median", "most_frequent", "constant")
SEASONS = {"h": 24, "D": 7, "B": 5, "W": 52, "M": 12, "ME": 12, "MS": 12, "QE": 4, "QS": 4}
# Names of frequencies that pandas does not know any more.
RENAMED = {"H": "h", "T": "min", "S": "s", "M": "ME", "Q": "QE", "Y": "YE", "A": "YE"}


class Features(BaseEstimator):  # type: ignore[misc]
    """Columns of a table as a float64 array without gaps.

    `kinds`: column → what it is, found out by `fit` where it is not said; `fills`: column →
    parameters of the imputer of numeric columns.
    """

    def __init__(self, kinds: dict[str, str], fills: dict[str, dict[str, Any]]) -> None:
        self.kinds, self.fills = kinds, fills

    def fit(self, frame: pd.DataFrame) -> Features:
        found = {name: _kind(frame[name]) for name in map(str, frame.columns)}
        self.kinds_ = {name: self.kinds.get(name, kind) for name, kind in found.items()}
        steps: list[tuple[str, Any, Any]] = []
        for name, kind in self.kinds_.items():
            steps += self._steps(name, kind)
        self.transformer_ = ColumnTransformer(steps, sparse_threshold=0)
        self.transformer_.fit(self._typed(frame))
        return self

    def transform(self, frame: pd.DataFrame) -> Any:
        return np.asarray(self.transformer_.transform(self._typed(frame)), dtype=float)

    def _steps(self, name: str, kind: str) -> list[tuple[str, Any, Any]]:
        if kind == NUMERIC:
            options = {"strategy": "mean", "keep_empty_features": True, **self.fills.get(name, {})}
            return [(name, SimpleImputer(**options), [name])]
        if kind == CATEGORICAL:
            options = {"sparse_output": False, "max_categories": MOST_CATEGORIES}
            return [(name, OneHotEncoder(handle_unknown="infrequent_if_exist", **options), [name])]
        if kind == DATE:
            parts = [f"{name} {part}" for part in DATE_PARTS]
            return [(name, SimpleImputer(keep_empty_features=True), parts)]
        return [(name, TfidfVectorizer(max_features=MOST_WORDS), name)] if kind == TEXT else []

    def _typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        columns: dict[str, Any] = {}
        for name, kind in self.kinds_.items():
            values = frame[name]
            if kind == NUMERIC:
                columns[name] = pd.to_numeric(values, errors="coerce").astype(float)
            elif kind in (CATEGORICAL, TEXT):
                columns[name] = values.astype("string").fillna("").astype(object)
            elif kind == DATE:
                dates = dates_of(values)
                columns |= {f"{name} {p}": getattr(dates.dt, p).astype(float) for p in DATE_PARTS}
        return pd.DataFrame(columns, index=frame.index)


def dates_of(values: pd.Series) -> pd.Series:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mixture of formats
        found = pd.to_datetime(values, errors="coerce", utc=True, format="mixed")
    return found.dt.tz_localize(None)


def _kind(values: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
        return NUMERIC
    if pd.api.types.is_datetime64_any_dtype(values):
        return DATE
    there = values.dropna().astype(str)
    if there.empty:
        return IGNORED
    if there.str.contains(r"\d[-/:]\d").mean() > 0.9 and dates_of(there).notna().mean() > 0.9:
        return DATE
    different = there.nunique() / len(there)
    if different > 0.5 and there.str.count(" ").mean() >= 2:
        return TEXT
    return IGNORED if different > 0.9 and len(there) > MOST_CATEGORIES else CATEGORICAL


class Model(BaseEstimator):  # type: ignore[misc]
    """Features and what predicts from them; `classes_` are the labels, None for numbers."""

    def __init__(self, features: Features, estimator: Any, classes: Any = None) -> None:
        self.features, self.estimator, self.classes = features, estimator, classes
        if classes is not None:
            self.classes_ = classes

    def predict(self, frame: pd.DataFrame) -> Any:
        found = self.estimator.predict(self.features.transform(frame))
        return found if self.classes is None else self.classes[np.asarray(found, dtype=int)]

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        """Shape (n, classes), in the order of `classes_`."""
        return self.estimator.predict_proba(self.features.transform(frame))


class Calendar(BaseEstimator):  # type: ignore[misc]
    """What is known of a time series before the time that is forecast.

    A lag is counted from the last time before the whole horizon, so that no forecast needs
    another one.
    """

    def __init__(self, time: str, ids: list[str], target: str, horizon: int) -> None:
        self.time, self.ids, self.target, self.horizon = time, ids, target, horizon

    def fit(self, frame: pd.DataFrame, frequency: str | None, lags: list[int], window: int) -> None:
        frame = self.dated(frame)
        name = frequency or self._inferred(frame)
        self.offset_ = pd.tseries.frequencies.to_offset(RENAMED.get(name, name))
        groups = frame.groupby(self.ids) if self.ids else frame.assign(one=1).groupby("one")
        longest = groups[self.time].nunique().max() // 3
        self.lags_ = sorted(
            {lag if lag >= self.horizon else lag + self.horizon - 1 for lag in lags}
            or {lag for lag in self._usual() if lag <= max(longest, self.horizon)}
        )
        self.window_ = window
        self.history_ = frame[[*self.ids, self.time, self.target]].dropna()

    def dated(self, frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.assign(**{self.time: dates_of(frame[self.time])})
        return frame.assign(**{name: frame[name].astype(str) for name in self.ids})

    def _inferred(self, frame: pd.DataFrame) -> str:
        times = pd.DatetimeIndex(np.sort(frame[self.time].dropna().unique()))
        found = pd.infer_freq(times) if len(times) > 2 else None
        if found:
            return found
        gaps = pd.Series(times).diff().dropna()
        return f"{int(gaps.median().total_seconds()) or 1}s" if len(gaps) else "D"

    def _usual(self) -> set[int]:
        season = SEASONS.get(re.split(r"-", self.offset_.freqstr)[0], 1)
        whole = -(-self.horizon // season) * season
        return {self.horizon, self.horizon + 1, self.horizon + 2, whole, whole + season}

    def lagged(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows with columns of what was known; theirs of the target is left out."""
        frame = self.dated(frame)
        keys, made = [*self.ids, self.time], frame.drop(columns=self.target, errors="ignore")
        past = self.history_.groupby(keys, as_index=False)[self.target].mean()
        rolled = range(self.horizon, self.horizon + self.window_)
        for lag in sorted({*self.lags_, *rolled}):
            shifted = past.assign(**{self.time: past[self.time] + lag * self.offset_})
            column = f"{self.target} lag {lag}"
            shifted = shifted.rename(columns={self.target: column})
            made = made.merge(shifted, on=keys, how="left")
        if self.window_:
            recent = made[[f"{self.target} lag {lag}" for lag in rolled]]
            made[f"{self.target} mean of {self.window_}"] = recent.mean(axis=1)
        return made.set_index(frame.index)


class Forecaster(Model):
    """A model of time series: predicts the times that follow those it was trained on."""

    def __init__(self, features: Features, estimator: Any, calendar: Calendar) -> None:
        super().__init__(features, estimator)
        self.calendar = calendar

    def predict(self, frame: pd.DataFrame) -> Any:
        return super().predict(self.calendar.lagged(frame))

    def forecast(self, frame: pd.DataFrame) -> tuple[Any, pd.DataFrame]:
        """The forecast, shape (n,), and what it was made from."""
        known = self.calendar.lagged(frame)
        return super().predict(known), known
