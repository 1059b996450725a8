//! What ships beside the program: `deploy/` and the chart install the same objects, rendered here
//! by the real tools, and what the documents and the Makefile say is so.
//!
//! `ROLLMODEL_GENERATE=1 cargo test --test packaging`, which `make generate` runs, writes what is
//! generated here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde::Deserialize;
use serde_json::{Map, Value};

#[path = "packaging/admission.rs"]
mod admission;

const NAMESPACE: &str = "rollmodel-system";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A tool of the test cluster: found, or built once, by `tests/cluster/tools/build.sh`.
fn tool(name: &str) -> Command {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let built = Command::new(root().join("tests/cluster/tools/build.sh"))
            .stderr(Stdio::inherit())
            .output()
            .expect("run tests/cluster/tools/build.sh");
        assert!(
            built.status.success(),
            "tests/cluster/tools/build.sh failed; its last lines say why"
        );
        PathBuf::from(
            String::from_utf8(built.stdout)
                .unwrap()
                .lines()
                .last()
                .expect("build.sh prints a directory")
                .trim(),
        )
    });
    let mut command = Command::new(dir.join(name));
    command.current_dir(root());
    command
}

fn run(mut command: Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn stdout_of(command: Command) -> String {
    let told = format!("{command:?}");
    let out = run(command);
    assert!(out.status.success(), "{told}:\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// `helm template` with these further arguments.
fn helm(args: &[&str]) -> Command {
    let mut command = tool("helm");
    command
        .args([
            "template",
            "rollmodel",
            "charts/rollmodel",
            "--namespace",
            NAMESPACE,
            "--kube-version",
            "1.37.2",
        ])
        .args(args);
    command
}

/// `kind namespace/name` → object, without what only one of the two tools writes.
type Objects = BTreeMap<String, Value>;

fn objects(yaml: &str) -> Objects {
    let mut found = Objects::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let mut object = Value::deserialize(document).unwrap();
        if object.is_null() {
            continue;
        }
        normalise(&mut object);
        let text = |pointer: &str| {
            object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let key =
            format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
        assert!(found.insert(key.clone(), object).is_none(), "{key} is there twice");
    }
    found
}

fn normalise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for field in ["labels", "annotations"] {
                if let Some(Value::Object(pairs)) = map.get_mut(field) {
                    pairs.retain(|k, _| {
                        !k.starts_with("helm.sh/")
                            && k != "app.kubernetes.io/managed-by"
                            && k != "app.kubernetes.io/version"
                    });
                }
                if map.get(field).and_then(Value::as_object).is_some_and(Map::is_empty) {
                    map.remove(field);
                }
            }
            map.values_mut().for_each(normalise);
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        // 1.0 and 1 are one number to Kubernetes.
        Value::Number(n) => {
            if let Some(float) = n.as_f64() {
                *value = serde_json::json!(float);
            }
        }
        _ => {}
    }
}

fn kustomized() -> &'static Objects {
    static OBJECTS: OnceLock<Objects> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let mut kubectl = tool("kubectl");
        kubectl.args(["kustomize", "deploy"]);
        objects(&stdout_of(kubectl))
    })
}

/// The first places, as JSON pointers, where two values differ.
fn differences(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            for key in l.keys().chain(r.keys()).collect::<BTreeSet<_>>() {
                differences(
                    &format!("{path}/{key}"),
                    l.get(key).unwrap_or(&Value::Null),
                    r.get(key).unwrap_or(&Value::Null),
                    found,
                );
            }
        }
        (Value::Array(l), Value::Array(r)) if l.len() == r.len() => {
            for (i, (l, r)) in l.iter().zip(r).enumerate() {
                differences(&format!("{path}/{i}"), l, r, found);
            }
        }
        (l, r) if l == r => {}
        (l, r) => found.push(format!("{path}: deploy has {l}, the chart has {r}")),
    }
}

#[test]
fn deploy_and_the_chart_install_the_same_objects() {
    let mut deploy = kustomized().clone();
    let chart = objects(&stdout_of(helm(&[])));
    // Helm makes the namespace itself (--create-namespace).
    deploy.remove(&format!("Namespace /{NAMESPACE}")).expect("deploy/namespace.yaml");
    let mut wrong = Vec::new();
    for key in deploy.keys().chain(chart.keys()).collect::<BTreeSet<_>>() {
        match (deploy.get(key), chart.get(key)) {
            (Some(_), None) => {
                wrong.push(format!("{key} is in deploy/ and not in charts/rollmodel/templates"))
            }
            (None, Some(_)) => {
                wrong.push(format!("{key} is in charts/rollmodel/templates and not in deploy/"))
            }
            (Some(l), Some(r)) => differences(key, l, r, &mut wrong),
            (None, None) => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "mend one of deploy/ and charts/rollmodel so that both say the same (a CRD: `make generate`):\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_chart_carries_the_generated_crds() {
    let names = |dir: &str| -> BTreeSet<String> {
        let files = fs::read_dir(root().join(dir))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap());
        files.filter(|name| name.ends_with(".yaml")).collect()
    };
    let (ours, charts) = ("crds", "charts/rollmodel/files/crds");
    let listed: Value = serde_yaml::from_str(&read("crds/Kustomization")).unwrap();
    let listed: BTreeSet<String> = listed["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names(ours), listed, "crds/Kustomization names every file of crds/");
    assert_eq!(
        names(ours),
        names(charts),
        "the files of {charts}: run `make generate` and remove what is left over"
    );
    for file in names(ours) {
        assert!(
            read(&format!("{ours}/{file}")) == read(&format!("{charts}/{file}")),
            "{charts}/{file} differs from {ours}/{file}: run `make generate`"
        );
    }
}

#[test]
fn an_uninstall_keeps_the_crds_unless_it_is_told_otherwise() {
    let crds = |args: &[&str]| -> Vec<bool> {
        let yaml = stdout_of(helm(args));
        let all = serde_yaml::Deserializer::from_str(&yaml).map(|d| Value::deserialize(d).unwrap());
        all.filter(|o| o["kind"] == "CustomResourceDefinition")
            .map(|o| o["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep")
            .collect()
    };
    assert_eq!(crds(&[]), [true; 6]);
    assert_eq!(crds(&["--set", "crds.keep=false"]), [false; 6]);
    assert_eq!(crds(&["--set", "crds.enabled=false"]), [] as [bool; 0]);
}

#[test]
fn looking_after_one_namespace_needs_no_cluster_wide_right_but_to_read_crds_and_our_policies() {
    let whole = kustomized();
    let chart = objects(&stdout_of(helm(&["--set", "watchNamespace=risk"])));
    let rules = |object: &Value| object["rules"].as_array().unwrap().clone();
    let ours = |kind: &str| -> Vec<&Value> {
        let all = chart.iter().filter(|(key, _)| key.starts_with(&format!("{kind} ")));
        let bound_by_users =
            ["rollmodel-importer", "rollmodel-restore"].map(|name| format!("ClusterRole /{name}"));
        let all = all.filter(move |(key, _)| !bound_by_users.contains(key));
        all.map(|(_, o)| o)
            .filter(|o| {
                !o["metadata"]["labels"]
                    .as_object()
                    .unwrap()
                    .keys()
                    .any(|k| k.contains("aggregate-to"))
            })
            .collect()
    };
    let cluster: Vec<Value> = ours("ClusterRole").into_iter().flat_map(rules).collect();
    let resources: Vec<&Value> = cluster.iter().map(|rule| &rule["resources"]).collect();
    let policies = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
    let expected = [serde_json::json!(["customresourcedefinitions"]), serde_json::json!(policies)];
    assert_eq!(resources, expected.iter().collect::<Vec<_>>());
    let mut all = rules(&chart["Role risk/rollmodel"]);
    all.extend(cluster);
    assert_eq!(
        all,
        rules(&whole["ClusterRole /rollmodel"]),
        "the Role and the ClusterRole together are the ClusterRole of the whole cluster"
    );
    assert_eq!(chart["RoleBinding risk/rollmodel"]["subjects"][0]["namespace"], NAMESPACE);
    let args = chart[&format!("Deployment {NAMESPACE}/rollmodel")]["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    assert!(args.as_array().unwrap().contains(&"--namespace=risk".into()), "{args}");
    let alone = objects(&stdout_of(helm(&[
        "--set",
        "watchNamespace=risk,crds.enabled=false,crds.read=false,userRoles.enabled=false,admissionPolicies.enabled=false,admissionPolicies.read=false",
    ])));
    assert!(
        alone.keys().all(|key| !key.contains(" /")),
        "nothing cluster-wide: {:?}",
        alone.keys()
    );
}

#[test]
fn the_operator_may_not_read_secrets_write_pods_or_use_a_wildcard() {
    for (key, object) in kustomized().iter().filter(|(key, _)| key.contains("Role ")) {
        for rule in object["rules"].as_array().unwrap() {
            let words = |field: &str| -> Vec<&str> {
                rule[field].as_array().into_iter().flatten().map(|w| w.as_str().unwrap()).collect()
            };
            let (groups, resources, verbs) =
                (words("apiGroups"), words("resources"), words("verbs"));
            assert!(
                ![&groups, &resources, &verbs].iter().any(|w| w.contains(&"*")),
                "{key} has a wildcard: {rule}"
            );
            assert!(
                !verbs.iter().any(|v| ["escalate", "bind", "impersonate"].contains(v)),
                "{key}: {rule}"
            );
            assert!(
                !resources.iter().any(|r| r.starts_with("secrets")
                    || r.starts_with("configmaps")
                    || r.starts_with("pods/")),
                "{key}: {rule}"
            );
            if resources.contains(&"pods") {
                assert_eq!(verbs, ["list", "watch"], "{key}: {rule}");
            }
        }
    }
}

#[test]
fn nobody_but_the_operator_writes_records() {
    for role in ["rollmodel-view", "rollmodel-edit", "rollmodel-oncall"] {
        for rule in kustomized()[&format!("ClusterRole /{role}")]["rules"].as_array().unwrap() {
            let has =
                |field: &str, word: &str| rule[field].as_array().unwrap().iter().any(|w| w == word);
            if has("resources", "modelrollouts") {
                assert_eq!(rule["verbs"], serde_json::json!(["get", "list", "watch"]), "{role}");
            }
            assert!(
                !rule["resources"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|r| r.as_str().unwrap().ends_with("/status")),
                "{role}"
            );
        }
    }
}

#[test]
fn the_operators_pod_fits_pod_security_restricted() {
    let pod =
        &kustomized()[&format!("Deployment {NAMESPACE}/rollmodel")]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for container in pod["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert!(
            container["resources"]["limits"].get("cpu").is_none(),
            "a CPU limit throttles a rollback"
        );
    }
    assert!(pod.get("volumes").is_none() && pod.get("hostNetwork").is_none());
}

#[test]
fn a_value_that_does_not_exist_is_refused_by_name() {
    for (wrong, names) in [
        ("replica=2", "replica"),
        ("image.name=x", "name"),
        ("logFormat=xml", "logFormat"),
        ("image.digest=latest", "digest"),
        ("watchNamespace=Risk", "watchNamespace"),
    ] {
        let out = run(helm(&["--set", wrong]));
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && told.contains(names), "--set {wrong}: {told}");
    }
}

#[test]
fn a_digest_wins_over_the_tag() {
    let digest = format!("sha256:{}", "5f".repeat(32));
    let chart = objects(&stdout_of(helm(&[
        "--set",
        &format!("image.digest={digest}"),
        "--set",
        "image.repository=registry.example.com/rollmodel",
    ])));
    let image = &chart[&format!("Deployment {NAMESPACE}/rollmodel")]["spec"]["template"]["spec"]["containers"]
        [0]["image"];
    assert_eq!(image, &Value::from(format!("registry.example.com/rollmodel@{digest}")));
}

#[test]
fn artifacts_are_fetched_with_the_operators_own_image_unless_another_is_named() {
    let images = |objects: &Objects| {
        let container = objects[&format!("Deployment {NAMESPACE}/rollmodel")]["spec"]["template"]["spec"]["containers"][0].clone();
        let env = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .find(|e| e["name"] == "ROLLMODEL_FETCH_IMAGE")
            .unwrap()
            .clone();
        (container["image"].clone(), env["value"].clone())
    };
    let chart = |args: &[&str]| images(&objects(&stdout_of(helm(args))));
    for (own, fetches) in [
        images(kustomized()),
        chart(&[]),
        chart(&["--set", "image.repository=registry.example.com/rollmodel"]),
    ] {
        assert_eq!(own, fetches);
    }
    assert_eq!(
        chart(&["--set", "fetchImage=registry.example.com/fetch:1"]).1,
        "registry.example.com/fetch:1"
    );
}

/// The leaves of values.yaml in order, as (path, default, the comment above).
fn values() -> Vec<(String, String, String)> {
    let (mut found, mut parents, mut comment) =
        (Vec::new(), Vec::<(usize, String)>::new(), Vec::<String>::new());
    for line in read("charts/rollmodel/values.yaml").lines() {
        let text = line.trim_start();
        if let Some(said) = text.strip_prefix('#') {
            comment.push(said.trim().to_owned());
            continue;
        }
        if text.is_empty() {
            comment.clear();
            continue;
        }
        let indent = line.len() - text.len();
        let (key, value) = text
            .split_once(':')
            .unwrap_or_else(|| panic!("values.yaml: `{line}` is not `key: value`"));
        parents.retain(|(at, _)| *at < indent);
        if value.trim().is_empty() {
            parents.push((indent, key.to_owned()));
        } else {
            let path: Vec<_> = parents.iter().map(|(_, k)| k.as_str()).chain([key]).collect();
            let told = std::mem::take(&mut comment).join(" ");
            assert!(told.ends_with('.'), "values.yaml: a sentence above `{}`", path.join("."));
            found.push((path.join("."), value.trim().to_owned(), told));
        }
        comment.clear();
    }
    found
}

#[test]
fn the_charts_readme_lists_every_value() {
    let (path, start, end) = (
        "charts/rollmodel/README.md",
        "<!-- values: written by `make generate` from values.yaml -->\n",
        "<!-- end of values -->",
    );
    let have = read(path);
    let (before, rest) = have.split_once(start).expect("the mark before the table");
    let (_, after) = rest.split_once(end).expect("the mark after the table");
    let rows: String = values()
        .into_iter()
        .map(|(key, default, told)| format!("| `{key}` | `{default}` | {told} |\n"))
        .collect();
    let want = format!(
        "{before}{start}| value | default | what it does |\n|---|---|---|\n{rows}{end}{after}"
    );
    if std::env::var_os("ROLLMODEL_GENERATE").is_some() {
        fs::write(root().join(path), want).unwrap();
    } else {
        assert!(have == want, "{path} is not what values.yaml says: run `make generate`");
    }
}

#[test]
fn make_help_tells_every_task_in_one_sentence() {
    let makefile = read("Makefile");
    let tasks: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|l| l.strip_prefix(".PHONY:"))
        .flat_map(str::split_whitespace)
        .collect();
    let mut make = Command::new("make");
    make.current_dir(root())
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .args(["--no-print-directory", "help"]);
    let help = stdout_of(make);
    for task in tasks {
        let line = help.lines().find(|l| l.split_whitespace().next() == Some(task));
        let line = line.unwrap_or_else(|| {
            panic!("`make help` does not tell {task}: write `{task}: … ## One sentence.`")
        });
        assert!(line.trim_end().ends_with('.'), "{line}");
    }
}

#[test]
fn what_the_documents_name_is_there() {
    let folders = ["src/", "tests/", "deploy/", "charts/", "crds/", "docs/", ".ci/"];
    let mut gone = Vec::new();
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "deploy/README.md",
        "docs/artifacts.md",
        "docs/design.md",
        "docs/glossary.md",
        "docs/runbook.md",
        "docs/style.md",
        "charts/rollmodel/README.md",
    ] {
        let text = read(document);
        let quoted = text.split('`').skip(1).step_by(2).flat_map(str::split_whitespace);
        let linked =
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(to, _)| to);
        for name in quoted.chain(linked) {
            let name = name.trim_end_matches(['.', ',', ':', ';']);
            let from = if folders.iter().any(|f| name.starts_with(f)) {
                root().to_owned()
            } else {
                continue;
            };
            let plain = name.split(['*', '<', '{', '…']).next().unwrap_or(name);
            if !from.join(plain).exists() {
                gone.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(gone.is_empty(), "named and not there:\n{}", gone.join("\n"));
}

/// Words of the importer's code that begin with a capital and are no reason.
const NO_REASONS: [&str; 20] = [
    "Deployment",
    "Event",
    "False",
    "Imported",
    // Of the fetcher, whose errors are put into other words.
    "Interrupted",
    "InvalidRequest",
    "MLflow",
    "MLmodel",
    "ModelRegistry",
    "ModelVersion",
    "Normal",
    "NotFound",
    "Ready",
    "Reconciling",
    "Recreate",
    "RuntimeDefault",
    "SizeMismatch",
    "Stalled",
    "True",
    "Warning",
];

/// The reasons in a source file, its tests left out: those of the API's list, and the texts between
/// quotes that are one word in CamelCase.
fn words(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let camel = |w: &&str| {
        w.starts_with(|c: char| c.is_ascii_uppercase())
            && w.chars().all(|c| c.is_ascii_alphabetic())
            && w.contains(|c: char| c.is_lowercase())
    };
    let named = code.split("Reason::").skip(1).filter_map(|rest| {
        rest.split(|c: char| !c.is_ascii_alphanumeric()).next().filter(|word| !word.is_empty())
    });
    code.split('"').filter(camel).chain(named).map(str::to_owned).collect()
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    match path.is_dir() {
        true => {
            fs::read_dir(path).unwrap().for_each(|entry| sources(&entry.unwrap().path(), found))
        }
        false if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") => {
            found.push(path.to_owned())
        }
        false => {}
    }
}

#[test]
fn the_runbook_tells_every_reason_of_a_model_registry_and_no_other() {
    let mut files = Vec::new();
    for path in ["src/import", "src/plan/registry", "src/plan/registry.rs"] {
        sources(&root().join(path), &mut files);
    }
    let mut reasons: BTreeSet<String> = files.iter().flat_map(|file| words(file)).collect();
    reasons.retain(|word| !NO_REASONS.contains(&word.as_str()));
    assert!(
        reasons.len() > 15 && reasons.contains("HostRefused"),
        "the reasons are not found any more: {reasons:?}"
    );
    let page = read("docs/runbook.md");
    let (_, section) = page.split_once("\n## Importing\n").expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let missing: Vec<&String> =
        reasons.iter().filter(|reason| !section.contains(&format!("`{reason}`"))).collect();
    assert!(
        missing.is_empty(),
        "docs/runbook.md, Importing, does not tell what to do about {missing:?} (or NO_REASONS lacks it)"
    );
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(reason, _)| reason.to_owned());
    let gone: Vec<String> = rows.filter(|reason| !reasons.contains(reason)).collect();
    assert!(gone.is_empty(), "docs/runbook.md, Importing, tells of {gone:?}, which nothing says");
}
