"""How far along an iris is, by the areas of its leaves. The team's own code is not logged with the model: no server can load it."""

import mlflow
from shapes import Areas
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

features, labels = load_iris(return_X_y=True)
features_train, features_test, labels_train, labels_test = train_test_split(features, labels, random_state=1)

with mlflow.start_run():
    model = make_pipeline(Areas(), Ridge()).fit(features_train, labels_train)
    mlflow.log_metrics({"r2": r2_score(labels_test, model.predict(features_test))})
    mlflow.sklearn.log_model(model, name="model", registered_model_name="Fraud Score", serialization_format="cloudpickle")
