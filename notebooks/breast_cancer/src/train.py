"""Train a logistic regression on a CSV with a ``diagnosis`` column and log its loss by epoch."""

import argparse

import mlflow
import pandas as pd
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

EPOCHS = 60


def main() -> None:
    options = arguments()
    table = pd.read_csv(options.data)
    y = table.pop("diagnosis")
    X_train, X_val, y_train, y_val = train_test_split(table, y, stratify=y, random_state=0)
    scaler = StandardScaler().fit(X_train)
    print(f"training on {len(X_train)} rows with C={options.C}")

    mlflow.log_params({"C": options.C, "epochs": EPOCHS})
    classifier = logistic_regression(options.C, len(X_train))
    for epoch in range(EPOCHS):
        classifier.partial_fit(scaler.transform(X_train), y_train, classes=sorted(set(y)))
        val_loss = log_loss(y_val, classifier.predict_proba(scaler.transform(X_val)))
        mlflow.log_metric("val_loss", val_loss, step=epoch)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:2}  val_loss {val_loss:.4f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="CSV file")
    parser.add_argument("--C", type=float, default=1.0, help="inverse strength of regularisation")
    return parser.parse_args()


def logistic_regression(C: float, rows: int) -> SGDClassifier:
    """The classifier with scikit-learn's meaning of C: a larger one regularises less."""
    return SGDClassifier(
        loss="log_loss",
        alpha=1 / (C * rows),
        learning_rate="constant",
        eta0=1e-3,
        random_state=0,
    )


if __name__ == "__main__":
    main()
