//! `artifactsDestination`: pods read there, and the importer through the server.

use super::*;

/// The outcome of the only version there, with such a destination and such an environment.
fn outcome(server: &Mlflow, destination: &str, env: &[(&str, &str)]) -> Outcome {
    let mut rules = spec(&server.url(), json!([{"name": "fraud", "registeredModel": "Fraud"}]));
    rules.mlflow.as_mut().unwrap().artifacts_destination = Some(destination.into());
    let mut view = View::with(rules, env);
    let candidate = view.look().candidates.remove(0);
    view.describe(&candidate)
}

fn mismatch(outcome: Outcome) -> String {
    match outcome {
        Outcome::Problem { reason: "DestinationMismatch", message } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_destination_that_is_not_the_servers_is_told_and_nothing_is_written_down() {
    let s3 = S3::start();
    ["models", "other"].iter().for_each(|bucket| s3.make_bucket(bucket));
    let server = Mlflow::before(&s3, "s3://models/art");
    let logged = server.trained("destination");
    server.register("Fraud", &logged);
    let path = format!("{}/models/{}/artifacts", server.experiment("destination"), logged.id);
    let endpoint = s3.endpoint();
    let mut env = S3::env().to_vec();
    env.push(("AWS_ENDPOINT_URL", endpoint.as_str()));
    recorded(outcome(&server, "s3://models/art", &env));
    for wrong in ["s3://models", "s3://other/art", "s3://missing/art"] {
        let want = format!(
            "spec.mlflow.artifactsDestination is not where this server keeps artifacts (its --artifacts-destination): with the importer's own credentials, there is nothing at {wrong}/{path}."
        );
        assert_eq!(mismatch(outcome(&server, wrong, &env)), want);
    }
    s3.put("other", &format!("art/{path}/MLmodel"), MLMODEL);
    let told = mismatch(outcome(&server, "s3://other/art", &env));
    assert!(
        told.ends_with(&format!("and there are {} at s3://other/art/{path}.", MLMODEL.len())),
        "{told}"
    );
    // Without rights there, or a way, it is believed.
    for env in [
        vec![("AWS_ENDPOINT_URL", endpoint.as_str())],
        vec![env[0], ("AWS_SECRET_ACCESS_KEY", "hunter2"), env[2], env[4]],
    ] {
        recorded(outcome(&server, "s3://other/art", &env));
    }
    let elsewhere = Serving::start(axum::Router::new());
    recorded(outcome(&server, "s3://other/art", &[("AWS_ENDPOINT_URL", elsewhere.url().as_str())]));
    recorded(outcome(
        &server,
        "s3://other/art",
        &[env[0], env[1], env[2], ("AWS_ENDPOINT_URL", "http://127.0.0.1:9")],
    ));
}
