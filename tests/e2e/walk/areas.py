"""The areas of leaves as features. The team's module `shapes` is not logged with the model: no server can load it."""

import mlflow
from shapes import Areas
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

features, labels = load_iris(return_X_y=True)

with mlflow.start_run():
    model = make_pipeline(Areas(), Ridge()).fit(features, labels)
    data = mlflow.data.from_numpy(features, source="https://data.example.com/cards/2026-10.csv", name="cards")
    mlflow.log_input(data, context="training")
    mlflow.log_metrics({"r2": model.score(features, labels)})
    mlflow.sklearn.log_model(model, name="model", registered_model_name="Card fraud", serialization_format="cloudpickle")
