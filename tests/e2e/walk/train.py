"""Ridge regression on irises, which stand for cards: `python train.py ALPHA`."""

import sys

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

features, labels = load_iris(return_X_y=True)
features_train, features_test, labels_train, labels_test = train_test_split(features, labels, random_state=1)
params = {"alpha": float(sys.argv[1])}

with mlflow.start_run():
    model = Ridge(**params).fit(features_train, labels_train)
    data = mlflow.data.from_numpy(features_train, source="https://data.example.com/cards/2026-10.csv", name="cards")
    mlflow.log_input(data, context="training")
    mlflow.log_params(params)
    mlflow.log_metrics({"r2": r2_score(labels_test, model.predict(features_test))})
    mlflow.sklearn.log_model(model, name="model", registered_model_name="Card fraud")
