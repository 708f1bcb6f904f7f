"""Test a trained classifier on rows that it has not seen."""

import argparse
from pathlib import Path

import joblib
import mlflow
import pandas as pd

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", required=True)
parser.add_argument("--model", type=Path, required=True)
options = parser.parse_args()

X = pd.read_csv(options.data)
y = X.pop("target")
accuracy = joblib.load(options.model / "model.joblib").score(X, y)
mlflow.log_metric("test_accuracy", accuracy)
print(f"test accuracy {accuracy:.4f} on {len(X)} rows")
