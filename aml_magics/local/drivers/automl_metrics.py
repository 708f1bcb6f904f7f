"""The metrics of automated machine learning under the names that Azure ML gives them.

Source: "Evaluate automated machine learning experiment results" of Azure's documentation:
normalised errors are divided by the range of the target.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import metrics

Scores = dict[str, float]
AVERAGES = ("macro", "micro", "weighted")
LOWER_IS_BETTER = ("error", "log_loss")  # what is in the names of those


def plain(name: str) -> str:
    """A name without what its spellings differ in: `AUCWeighted`, `AUC_weighted`."""
    return name.replace("_", "").replace("-", "").lower()


def named(asked: str, known: Scores) -> str:
    """The metric that `asked` spells in some way.

    Raises: KeyError: there is none.
    """
    return {plain(name): name for name in known}[plain(asked)]


def loss(name: str, value: float) -> float:
    """The value turned so that less is better; infinite when there is none."""
    if np.isnan(value):
        return float("inf")
    return value if any(part in name for part in LOWER_IS_BETTER) else 1.0 - value


def classification(true: Any, predicted: Any, probabilities: Any) -> Scores:
    """Args: true, predicted: numbers of classes, shape (n,); probabilities: (n, classes)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fold may lack a class
        recall = metrics.recall_score(true, predicted, average="macro", zero_division=0)
        chance = 1 / probabilities.shape[1]
        found = {
            "accuracy": metrics.accuracy_score(true, predicted),
            "balanced_accuracy": metrics.balanced_accuracy_score(true, predicted),
            "matthews_correlation": metrics.matthews_corrcoef(true, predicted),
            "norm_macro_recall": max(0.0, (recall - chance) / (1 - chance)),
            "log_loss": metrics.log_loss(
                true, probabilities, labels=np.arange(probabilities.shape[1])
            ),
        }
        for average in AVERAGES:
            found |= _averaged(true, predicted, average)
            found |= _ranked(true, probabilities, average)
    return {name: float(value) for name, value in found.items()}


def _averaged(true: Any, predicted: Any, average: str) -> Scores:
    kinds: dict[str, Callable[..., float]] = {
        "f1_score": metrics.f1_score,
        "precision_score": metrics.precision_score,
        "recall_score": metrics.recall_score,
    }
    options = {"average": average, "zero_division": 0}
    return {f"{kind}_{average}": score(true, predicted, **options) for kind, score in kinds.items()}


def _ranked(true: Any, probabilities: Any, average: str) -> Scores:
    """Of the classes that are there; of none there is no area."""
    there = [k for k in range(probabilities.shape[1]) if 0 < np.sum(true == k) < len(true)]
    if not there:
        return {f"AUC_{average}": np.nan, f"average_precision_score_{average}": np.nan}
    one_hot, scores = np.stack([true == k for k in there], axis=1), probabilities[:, there]
    return {
        f"AUC_{average}": metrics.roc_auc_score(one_hot, scores, average=average),
        f"average_precision_score_{average}": metrics.average_precision_score(
            one_hot, scores, average=average
        ),
    }


def regression(true: Any, predicted: Any, low: float, high: float) -> Scores:
    """Args: low, high: the range of the target, what errors are normalised by."""
    span = (high - low) or 1.0
    log_span = (np.log1p(high) - np.log1p(low) if low > -1 else 0.0) or 1.0
    errors = {
        "mean_absolute_error": metrics.mean_absolute_error(true, predicted),
        "median_absolute_error": metrics.median_absolute_error(true, predicted),
        "root_mean_squared_error": np.sqrt(metrics.mean_squared_error(true, predicted)),
        "root_mean_squared_log_error": _log_error(true, predicted),
    }
    found = {
        **errors,
        **{
            f"normalized_{name}": value / (log_span if "log" in name else span)
            for name, value in errors.items()
        },
        "explained_variance": metrics.explained_variance_score(true, predicted),
        "mean_absolute_percentage_error": 100 * _percentage(true, predicted),
        "r2_score": metrics.r2_score(true, predicted) if len(true) > 1 else np.nan,
        "spearman_correlation": _rank_correlation(true, predicted),
    }
    return {name: float(value) for name, value in found.items()}


def _percentage(true: Any, predicted: Any) -> float:
    there = true != 0  # no part of nothing
    return float(np.mean(np.abs(1 - predicted[there] / true[there]))) if there.any() else np.nan


def _log_error(true: Any, predicted: Any) -> float:
    if np.min(true) <= -1 or np.min(predicted) <= -1:
        return np.nan
    return float(np.sqrt(np.mean((np.log1p(true) - np.log1p(predicted)) ** 2)))


def _rank_correlation(true: Any, predicted: Any) -> float:
    from scipy.stats import spearmanr

    if len(true) < 2 or np.ptp(true) == 0 or np.ptp(predicted) == 0:
        return np.nan
    return float(spearmanr(true, predicted).statistic)
