"""MLflow's own scoring server on the model that Rollmodel brought, as `mlflow models serve --env-manager local` runs it."""

import os

import uvicorn


def main():
    os.environ["__pyfunc_model_path__"] = os.environ["MODEL_DIR"]
    uvicorn.run("mlflow.pyfunc.scoring_server.app:app", host="0.0.0.0", port=8080, workers=1)


if __name__ == "__main__":
    main()
