"""Split scikit-learn's digits into two CSV files, for training and for testing."""

import argparse
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--test-share", type=float, required=True)
parser.add_argument("--train", type=Path, required=True)
parser.add_argument("--test", type=Path, required=True)
options = parser.parse_args()

digits = load_digits(as_frame=True).frame
train, test = train_test_split(digits, test_size=options.test_share, random_state=0)
train.to_csv(options.train, index=False)
test.to_csv(options.test, index=False)
print(f"{len(train)} rows to train on, {len(test)} to test with")
