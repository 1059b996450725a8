"""Trains as any data scientist would: MLflow's first example, and what its documentation shows beside it."""

import sys

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

features, target = load_iris(return_X_y=True, as_frame=True)


def fit():
    return LogisticRegression(max_iter=200).fit(features, target)


def first(name):
    """The first example, registered with MLflow's own argument."""
    with mlflow.start_run() as run:
        model = fit()
        mlflow.log_params({"C": 1.0, "max_iter": 200})
        mlflow.log_input(mlflow.data.from_pandas(features, source="https://data.example.com/iris.csv", name="iris"), context="training")
        mlflow.log_metric("accuracy", model.score(features, target))
        mlflow.sklearn.log_model(model, name="model", input_example=features[:2], registered_model_name=name)
        # Registering inside of the run comes before its end, and so does this.
        mlflow.log_metric("late", 1.0)
    return run.info.run_id


def steps(name):
    """A metric logged three times, then the model; and two that are no numbers."""
    with mlflow.start_run() as run:
        for step, loss in enumerate([1.0, 0.9, 0.8]):
            mlflow.log_metric("val_loss", loss, step=step)
        mlflow.log_metric("nothing", float("nan"))
        mlflow.log_metric("endless", float("inf"))
        train = mlflow.data.from_pandas(features, name="train")
        holdout = mlflow.data.from_pandas(features[:10], name="holdout")
        logged = mlflow.sklearn.log_model(fit(), name="model", registered_model_name=name)
        mlflow.log_metric("auc", 0.9, dataset=train, model_id=logged.model_id)
        mlflow.log_metric("auc", 0.8, dataset=holdout, model_id=logged.model_id)
    return run.info.run_id


print({"first": first, "steps": steps}[sys.argv[1]](*sys.argv[2:]))
