"""A search by FLAML over the learners and their settings, and what is kept of it."""

from __future__ import annotations

import copy
import json
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import automl_features  # type: ignore[import-not-found]  # these lie beside this file
import automl_metrics  # type: ignore[import-not-found]
import cloudpickle
import mlflow
import numpy as np
from automl import ALGORITHMS, NAMES  # type: ignore[import-not-found]
from automl_features import Forecaster, Model
from automl_tables import Tables, say  # type: ignore[import-not-found]
from sklearn.pipeline import make_pipeline

sys.modules["pyspark"] = None  # type: ignore[assignment]  # FLAML imports it, and may fail at that
from flaml import AutoML  # noqa: E402

DEFAULT_METRICS = {
    "classification": "accuracy",
    "regression": "normalized_root_mean_squared_error",
    "forecasting": "normalized_root_mean_squared_error",
}
TIMEOUT = 6 * 3600.0  # seconds that a search may take when it is not said, as on Azure
TRIALS = 20  # how many there are when it is not said


class Search:
    """One experiment: its data, the trials, and the best model."""

    def __init__(self, task: dict[str, Any], places: dict[str, str], log: Path) -> None:
        self.task, self.data = task, Tables(task, places)
        self.kind, self.log = self.data.kind, log
        self.metric = self._chosen_metric()

    def run(self) -> None:
        limits = self.task.get("limitSettings") or {}
        learners = self._learners()
        trials = int(limits.get("maxTrials") or TRIALS)
        searched = AutoML()
        folds = self.data.folds()
        say(f"Trains {', '.join(NAMES[name] for name in learners)} on {len(folds)} folds")
        for line in _not_done(self.task):
            say(line)
        weights = {} if self.data.weights is None else {"sample_weight": self.data.weights}
        searched.fit(
            self.data.numbers,
            self.data.target,
            task="classification" if self.kind == "classification" else "regression",
            metric=self._score,
            estimator_list=learners,
            eval_method="cv",
            split_type=Folds(folds),
            max_iter=trials,
            # With few trials each algorithm has its turn; else the most promising have more.
            learner_selector="roundrobin" if trials < 5 * len(learners) else "sample",
            time_budget=_seconds(limits.get("timeout")) or TIMEOUT,
            train_time_limit=_seconds(limits.get("trialTimeout")),
            early_stop=bool(limits.get("enableEarlyTermination")),
            log_file_name=str(self.log),
            log_type="all",
            mlflow_logging=False,
            model_history=False,
            keep_search_state=True,
            seed=0,
            verbose=3,
            **weights,
        )
        self.best = searched.model
        if self.best is None or searched.best_config is None:
            sys.exit("No trial ended in time; see limits.timeout_minutes.")
        if trials == 1:  # which FLAML trains without a look at how good it is
            self._log_one(searched.best_estimator, searched.best_config, folds)

    def _log_one(self, learner: str, config: dict[str, Any], folds: list[tuple[Any, Any]]) -> None:
        """Score the best model as FLAML does, and log it as FLAML does."""
        found: list[Any] = []
        for train, held_out in folds:
            model = copy.deepcopy(self.best)
            model.fit(self.data.numbers[train], self.data.target[train])
            found.append(
                self._metrics(self.data.numbers[held_out], self.data.target[held_out], model)
            )
        scores = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        line = {"record_id": 0, "learner": learner, "config": config, "logged_metric": scores}
        lines = [json.dumps(line), json.dumps({"curr_best_record_id": 0}), ""]
        self.log.write_text("\n".join(lines))

    def _learners(self) -> list[str]:
        known, training = ALGORITHMS[self.kind], self.task.get("trainingSettings") or {}
        allowed = _plain(training.get("allowedTrainingAlgorithms")) or list(known)
        blocked = _plain(training.get("blockedTrainingAlgorithms"))
        missing = [name for name in allowed if name not in known]
        if missing:
            say(f"Not here, left out: {', '.join(missing)}")
        found = [known[name] for name in allowed if name in known and name not in blocked]
        if not found:
            sys.exit(f"No algorithm is left to train; there are {', '.join(known)}.")
        return list(dict.fromkeys(found))

    def _chosen_metric(self) -> str:
        """The primary metric under its own name."""
        two = np.array([0, 1])
        if self.kind == "classification":
            known = automl_metrics.classification(two, two, np.eye(2))
        else:
            known = automl_metrics.regression(two, two, 0.0, 1.0)
        asked = self.task.get("primaryMetric") or DEFAULT_METRICS[self.kind]
        try:
            return str(automl_metrics.named(asked, known))
        except KeyError:
            sys.exit(f"There is no metric {asked}; there are {', '.join(sorted(known))}.")

    def _metrics(self, rows: Any, true: Any, estimator: Any) -> Any:
        if self.kind != "classification":
            ends = float(np.min(self.data.target)), float(np.max(self.data.target))
            return automl_metrics.regression(true, np.asarray(estimator.predict(rows)), *ends)
        predicted = np.asarray(estimator.predict(rows), dtype=int)
        probabilities = _probabilities(estimator, rows, predicted, len(self.data.classes))
        return automl_metrics.classification(np.asarray(true, dtype=int), predicted, probabilities)

    def _score(self, rows: Any, true: Any, estimator: Any, *rest: Any) -> tuple[float, Any]:
        """What FLAML asks for: the loss, and all that is logged."""
        found = self._metrics(rows, true, estimator)
        return automl_metrics.loss(self.metric, found[self.metric]), found

    # The result

    def keep(self, place: Path) -> None:
        """Save the best model, and score it on the test data."""
        logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)  # warns of cloudpickle
        model = self._model()
        cloudpickle.register_pickle_by_value(automl_features)
        example = self.data.frames["training"].drop(columns=self.data.column).head(5)
        signature = mlflow.models.infer_signature(example, model.predict(example))
        outputs = Path("outputs")
        with (outputs / "model.pkl").open("wb") as file:
            cloudpickle.dump(model, file)
        folder = outputs / "mlflow-model"
        shutil.rmtree(folder, ignore_errors=True)
        mlflow.sklearn.save_model(
            model,
            folder,
            signature=signature,
            pip_requirements=_requirements(model.estimator),
            serialization_format="cloudpickle",
        )
        shutil.copytree(folder, place, dirs_exist_ok=True)
        test = self._tested(model, outputs)
        best = {"best": self._best(), "metric": self.metric, "kind": self.kind, "test": test}
        with self.log.open("a") as file:
            file.write(json.dumps(best) + "\n")
        say(f"Best is trial {best['best']}")

    def _best(self) -> int:
        """The number of the best trial: FLAML says it in the lines after the trials."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return int(
            [line for line in lines if "curr_best_record_id" in line][-1]["curr_best_record_id"]
        )

    def _model(self) -> Any:
        estimator = self._plain_estimator()
        if self.data.calendar:
            return Forecaster(self.data.features, estimator, self.data.calendar)
        return Model(self.data.features, estimator, self.data.classes)

    def _plain_estimator(self) -> Any:
        """The library's own object where it predicts the same, so that FLAML is not needed."""
        wrapped = self.best
        plain = wrapped.estimator
        if getattr(wrapped, "normalizer", None) is not None:
            plain = make_pipeline(wrapped.normalizer, plain)
        same = np.array_equal(wrapped.predict(self.data.numbers), plain.predict(self.data.numbers))
        return plain if same else wrapped

    def _tested(self, model: Any, outputs: Path) -> dict[str, float]:
        frame = self.data.frames.get("test")
        if frame is None:
            return {}
        predicted = frame.assign(**{f"{self.data.column} predicted": model.predict(frame)})
        predicted.to_csv(outputs / "predictions.csv", index=False)
        if self.data.column not in frame:
            return {}
        is_there = frame[self.data.column].notna()
        known = self.data.calendar.lagged(frame) if self.data.calendar else frame
        rows, true = (
            self.data.features.transform(known)[is_there],
            frame[self.data.column][is_there].to_numpy(),
        )
        if self.data.classes is not None:
            true = true.astype(self.data.classes.dtype)
            is_known = np.isin(true, self.data.classes)
            rows, true = rows[is_known], np.searchsorted(self.data.classes, true[is_known])
        found: dict[str, float] = self._metrics(rows, true, self.best)
        say(f"On the test data: {self.metric} {found[self.metric]:.4f}")
        return found


class Folds:
    """Splits made beforehand, in the form of scikit-learn's splitters."""

    shuffle = False

    def __init__(self, found: list[tuple[Any, Any]]) -> None:
        self.found = found

    def split(self, *rows: Any) -> list[tuple[Any, Any]]:
        return self.found

    def get_n_splits(self, *rows: Any) -> int:
        return len(self.found)


def _probabilities(estimator: Any, rows: Any, predicted: Any, count: int) -> Any:
    """Shape (n, count); of a learner that has none, certain ones."""
    try:
        found = np.asarray(estimator.predict_proba(rows))
    except (AttributeError, NotImplementedError, AssertionError):
        return np.eye(count)[predicted]
    if found.ndim == 1 or found.shape[1] != count:
        return np.eye(count)[predicted]
    return found


def _not_done(task: dict[str, Any]) -> Iterator[str]:
    """What the job asks for, or Azure would do unasked, and is not done here."""
    limits, training = task.get("limitSettings") or {}, task.get("trainingSettings") or {}
    featurization = task.get("featurizationSettings") or {}
    if (limits.get("maxConcurrentTrials") or 1) > 1:
        yield "Trials run one after the other; each has all cores"
    if False not in (training.get("enableStackEnsemble"), training.get("enableVoteEnsemble")):
        yield "No ensembles are made of the models here"
    if str(featurization.get("mode")).lower() == "off":
        yield "Gaps and texts become numbers even without featurization: models need them"
    asked = {
        "limits.exit_score": limits.get("exitScore"),
        "featurization.blocked_transformers": featurization.get("blockedTransformers"),
        "cv_split_column_names": task.get("cvSplitColumnNames"),
        "training.enable_dnn_training": training.get("enableDnnTraining"),
        "country_or_region_for_holidays": (task.get("forecastingSettings") or {}).get(
            "countryOrRegionForHolidays"
        ),
    }
    if unused := [name for name, value in asked.items() if value]:
        yield f"Not used here: {', '.join(unused)}"


def _plain(names: list[str] | None) -> list[str]:
    return [name.replace("_", "").lower() for name in names or []]


def _seconds(duration: str | None) -> float | None:
    """`PT1H5M` → 3900."""
    match = re.fullmatch(
        r"P(?:(\d+)D)?T?(?:([\d.]+)H)?(?:([\d.]+)M)?(?:([\d.]+)S)?", duration or ""
    )
    if match is None:
        return None
    return sum(
        float(n or 0) * unit for n, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True)
    )


def _requirements(estimator: Any) -> list[str]:
    found = packages_distributions()
    own = type(estimator).__module__.partition(".")[0]
    wrapped = ("lightgbm", "xgboost") if own == "flaml" else ()  # which FLAML imports
    modules = {"mlflow", "sklearn", "pandas", "numpy", "cloudpickle", own, *wrapped}
    names = [name if name in found[name] else found[name][0] for name in sorted(modules)]
    return [f"{name}=={version(name)}" for name in names]
