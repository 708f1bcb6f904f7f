"""Train a classifier on a CSV with a ``target`` column, log its accuracy and keep it as a file."""

import argparse
from pathlib import Path

import joblib
import mlflow
import pandas as pd
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", required=True)
parser.add_argument("--C", type=float, default=1.0)
parser.add_argument("--gamma", type=float, default=0.001)
parser.add_argument("--model", type=Path, required=True)
options = parser.parse_args()

X = pd.read_csv(options.data)
y = X.pop("target")
classifier = SVC(C=options.C, gamma=options.gamma)
accuracy = cross_val_score(classifier, X, y, cv=3).mean()
mlflow.log_params({"C": options.C, "gamma": options.gamma})
mlflow.log_metric("accuracy", accuracy)
joblib.dump(classifier.fit(X, y), options.model / "model.joblib")
print(f"accuracy {accuracy:.4f} with C={options.C:.3g}, gamma={options.gamma:.3g}")
