//! Workspaces of a tracking server: each has models, runs and a directory of its own.

use super::*;

fn rules(server: &Mlflow, workspace: Option<&str>) -> ModelRegistrySpec {
    let mut rules = spec(&server.url(), json!([{"name": "fraud", "registeredModel": "Fraud"}]));
    rules.mlflow.as_mut().unwrap().workspace = workspace.map(str::to_owned);
    rules
}

#[test]
fn a_workspace_is_looked_at_where_the_spec_names_it_and_pods_fetch_from_it() {
    let server = Mlflow::with_workspace("team-a");
    let logged = server.trained("work");
    server.register("Fraud", &logged);
    let record = View::with(rules(&server, Some("team-a")), &[]).record();
    let (artifact, run) = (record.artifact.unwrap(), record.run.unwrap());
    let experiment = server.experiment("work");
    let path = format!("workspaces/team-a/{experiment}/models/{}/artifacts", logged.id);
    assert_eq!(artifact.uri, format!("mlflow-artifacts+{}/{path}", server.url()));
    assert_eq!(
        run.url.unwrap(),
        format!("{}/#/experiments/{experiment}/runs/{}?workspace=team-a", server.url(), logged.run)
    );
    assert_eq!(
        Fetcher::new().run(&["digest", &artifact.uri]).stdout.trim(),
        artifact.digest.unwrap()
    );
    // In the default workspace there is nothing of that name.
    assert_eq!(View::with(rules(&server, None), &[]).look().candidates, []);
    assert_eq!(View::with(rules(&server, Some("default")), &[]).look().candidates, []);
    let told = |server: &Mlflow, workspace| {
        View::with(rules(server, Some(workspace)), &[]).survey(true).unwrap_err()
    };
    let none = told(&server, "team-b");
    assert!(
        none.kind == Kind::Misconfigured
            && none.sentence.ends_with("has no such workspace: correct spec.mlflow.workspace."),
        "{none}"
    );
    let plain = told(Mlflow::shared(), "team-a");
    assert!(
        plain.kind == Kind::Misconfigured
            && plain.sentence.contains("has no workspaces: leave spec.mlflow.workspace out"),
        "{plain}"
    );
}
