"""What models of a tracking server predict by themselves: `ask.py URI…` prints the question, and each model's answers by its address."""

import json
import sys

import mlflow
from sklearn.datasets import load_iris

if __name__ == "__main__":
    question = load_iris().data[::15]
    answers = {uri: mlflow.pyfunc.load_model(uri).predict(question).tolist() for uri in sys.argv[1:]}
    print(json.dumps({"question": question.tolist(), "answers": answers}))
