"""Automated machine learning on a table: a search by FLAML, and the best model as MLflow's.

Usage: automl.py SETTINGS TRIALS MODEL NAME=FOLDER…, SETTINGS being the `taskDetails` of the job as
JSON and the folders its MLTables (`training`, `validation`, `test`). Every trial is a line of the
file TRIALS, as FLAML logs it; the last line is `{"best": …}`. The model is put into the folder
MODEL and into `outputs/mlflow-model`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# Azure's algorithms, in their plain spelling → FLAML's learners.
_BOTH = {
    "lightgbm": "lgbm",
    "randomforest": "rf",
    "extremerandomtrees": "extra_tree",
    "gradientboosting": "histgb",
    "knn": "kneighbor",
}
_NUMBERS = {
    **_BOTH,
    "xgboostregressor": "xgboost",
    "elasticnet": "enet",
    "lassolars": "lassolars",
    "sgd": "sgd",
}
ALGORITHMS = {
    "classification": {
        **_BOTH,
        "xgboostclassifier": "xgboost",
        "logisticregression": "lrl2",
        "linearsvm": "svc",
        "sgd": "sgd",
    },
    "regression": _NUMBERS,
    "forecasting": _NUMBERS,
}
# How they are called in the result.
NAMES = {
    "lgbm": "LightGBM",
    "rf": "RandomForest",
    "extra_tree": "ExtremeRandomTrees",
    "histgb": "GradientBoosting",
    "kneighbor": "KNN",
    "enet": "ElasticNet",
    "lassolars": "LassoLars",
    "sgd": "SGD",
    "lrl2": "LogisticRegression",
    "svc": "LinearSVM",
    "xgboost": "XGBoost",
}


def main(arguments: list[str]) -> None:
    from automl_search import Search  # type: ignore[import-not-found]  # it lies beside this

    settings, log, model, *places = arguments
    search = Search(json.loads(settings), dict(place.split("=", 1) for place in places), Path(log))
    search.run()
    search.keep(Path(model))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))
    main(sys.argv[1:])
