"""MLflow's first example: a run that registers nothing."""

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

features, labels = load_iris(return_X_y=True)

with mlflow.start_run():
    model = LogisticRegression(max_iter=200).fit(features, labels)
    mlflow.log_params({"max_iter": 200})
    mlflow.log_metrics({"accuracy": model.score(features, labels)})
    mlflow.sklearn.log_model(model, name="model")
