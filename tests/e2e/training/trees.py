"""How far along an iris is, by boosted trees."""

import mlflow
from sklearn.datasets import load_iris
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from xgboost import XGBRegressor

features, labels = load_iris(return_X_y=True)
features_train, features_test, labels_train, labels_test = train_test_split(features, labels, random_state=1)
params = {"n_estimators": 20, "max_depth": 3}

with mlflow.start_run():
    model = XGBRegressor(**params).fit(features_train, labels_train)
    mlflow.log_params(params)
    mlflow.log_metrics({"r2": r2_score(labels_test, model.predict(features_test))})
    mlflow.xgboost.log_model(model, name="model", registered_model_name="Flower Age")
