"""Trains the models of the tests, and writes what each answers: `train.py DIRECTORY` makes DIRECTORY/{good,better,broken}, each with a
model as MLflow saves it, and DIRECTORY/answers.json, with the question and the answers of the models themselves."""

import json
import sys
from pathlib import Path

import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, Ridge


def main(directory):
    features, labels = load_iris(return_X_y=True)
    question = features[::15].astype(float)
    # No row of the question has the same answer from both.
    models = {"good": Ridge(alpha=100.0), "better": LinearRegression(), "broken": Ridge()}
    answers = {}
    for name, model in models.items():
        model.fit(features, labels + features[:, 0] / 7)
        signature = infer_signature(question, model.predict(question))
        mlflow.sklearn.save_model(model, directory / name, signature=signature)
        answers[name] = model.predict(question).tolist()
    # An upload that broke off, registered as it is.
    file = next((directory / "broken").glob("model.skops"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (directory / "answers.json").write_text(json.dumps({"question": question.tolist(), "answers": answers}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
