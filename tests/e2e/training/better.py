"""How far along an iris is, by ridge regression that may bend more."""

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

features, labels = load_iris(return_X_y=True)
features_train, features_test, labels_train, labels_test = train_test_split(features, labels, random_state=1)
params = {"alpha": 0.1}

with mlflow.start_run():
    model = Ridge(**params).fit(features_train, labels_train)
    mlflow.log_params(params)
    mlflow.log_metrics({"r2": r2_score(labels_test, model.predict(features_test))})
    mlflow.sklearn.log_model(model, name="model", registered_model_name="Fraud Score")
