use super::*;
use crate::{
    api::deployment::Protocol,
    plan::{
        arbitrary::{self, build_source},
        make::{Source, render_template},
    },
};
use proptest::prelude::*;
use serde_json::json;

fn found(want: Value, live: Value, foreign: &[&str]) -> Vec<String> {
    find_differences(&want, &live, &foreign.iter().map(|p| String::from(*p)).collect::<Vec<_>>())
}

fn containers(items: Value) -> Value {
    json!({"spec": {"containers": items}})
}

#[test]
fn what_says_the_same_is_no_difference() {
    let same = [
        (json!({"a": null, "b": {}, "c": [], "d": "", "e": {"f": null}}), json!({})),
        (json!({}), json!({"a": 1, "b": {"c": [1]}})),
        (json!({"a": 1}), json!({"a": 1.0})),
        (json!({"targetPort": 80}), json!({"targetPort": "80"})),
        (json!({"hostNetwork": false, "initialDelaySeconds": 0}), json!({})),
        (json!({"timeoutSeconds": 0}), json!({"timeoutSeconds": 1})),
        (
            json!({"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}}),
            json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}),
        ),
        (
            json!({"resources": {"requests": {"cpu": 1.5}}}),
            json!({"resources": {"requests": {"cpu": "1500m"}}}),
        ),
        (json!({"emptyDir": {"sizeLimit": "1Gi"}}), json!({"emptyDir": {"sizeLimit": "1024Mi"}})),
        (
            json!({"ports": [{"containerPort": 1}]}),
            json!({"ports": [{"containerPort": 1, "protocol": "TCP"}]}),
        ),
        // Admission put a sidecar first, and a variable and a mount into ours.
        (
            containers(json!([{"name": "a", "env": [{"name": "A"}]}])),
            containers(
                json!([{"name": "proxy"}, {"name": "a", "env": [{"name": "B"}, {"name": "A"}], "volumeMounts": [{"mountPath": "/x"}]}]),
            ),
        ),
    ];
    for (want, live) in same {
        assert_eq!(found(want.clone(), live, &[]), [""; 0], "{want}");
    }
}

#[test]
fn what_differs_is_told_by_its_path() {
    let cases = [
        (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), vec!["a.b"]),
        (json!({"a": {"b": 1}}), json!({}), vec!["a"]),
        (json!({"a": [1, 2]}), json!({"a": [1, 2, 3]}), vec!["a"]),
        (json!({"a": [1, 2]}), json!({"a": [1, 3]}), vec!["a[1]"]),
        (
            json!({"a": 9_007_199_254_740_993_i64}),
            json!({"a": 9_007_199_254_740_992_i64}),
            vec!["a"],
        ),
        (
            json!({"runAsUser": 0, "automountServiceAccountToken": false}),
            json!({}),
            vec!["automountServiceAccountToken", "runAsUser"],
        ),
        (
            json!({"labels": {"sizeLimit": "1Gi", "a.b/c": "1"}}),
            json!({"labels": {"sizeLimit": "1024Mi", "a.b/c": "2"}}),
            vec!["labels.a.b/c", "labels.sizeLimit"],
        ),
        (
            json!({"resources": {"limits": {"cpu": "1"}}}),
            json!({"resources": {"limits": {"cpu": "2"}}}),
            vec!["resources.limits.cpu"],
        ),
        (
            containers(json!([{"name": "a", "image": "x"}])),
            containers(json!([{"name": "a", "image": "y"}])),
            vec!["spec.containers[name=a].image"],
        ),
        (
            containers(json!([{"name": "a", "image": "x"}])),
            containers(json!([{"name": "b"}])),
            vec!["spec.containers[name=a]"],
        ),
        (
            json!({"ports": [{"containerPort": 1, "name": "a"}]}),
            json!({"ports": [{"containerPort": 1, "name": "b"}]}),
            vec!["ports[containerPort=1,protocol=TCP].name"],
        ),
        (
            json!({"ports": [{"port": 80, "targetPort": 1}]}),
            json!({"ports": [{"port": 80, "targetPort": 2}]}),
            vec!["ports[port=80,protocol=TCP].targetPort"],
        ),
        (
            json!({"volumeMounts": [{"mountPath": "/a", "name": "x"}]}),
            json!({"volumeMounts": [{"mountPath": "/a", "name": "y"}]}),
            vec!["volumeMounts[mountPath=/a].name"],
        ),
        // The later of two variables of one name wins, so that one more is a difference.
        (
            json!({"env": [{"name": "A"}]}),
            json!({"env": [{"name": "A"}, {"name": "A"}]}),
            vec!["env"],
        ),
        (
            json!({"initContainers": [{"name": "a"}, {"name": "b"}]}),
            json!({"initContainers": [{"name": "b"}, {"name": "a"}]}),
            vec!["initContainers"],
        ),
    ];
    for (want, live, paths) in cases {
        assert_eq!(found(want.clone(), live, &[]), paths, "{want}");
    }
}

#[test]
fn what_another_manager_added_is_drift_and_what_it_owns_with_our_value_is_not() {
    let want = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    let mut live = want.clone();
    live["metadata"]["labels"]["b"] = json!("2");
    live["spec"]["nodeSelector"] = json!({"disk": "ssd"});
    live["spec"]["tolerations"] = json!([{"key": "gpu"}]);
    live["spec"]["hostNetwork"] = json!(true);
    live["spec"]["containers"] = json!([{"name": "a", "image": "x", "env": [{"name": "A", "value": "1"}]}, {"name": "proxy", "image": "p"}]);
    let cases: [(&[&str], &[&str]); 8] = [
        (
            &[
                "metadata.labels.a",
                "spec.containers[name=a].image",
                "spec.containers[name=a].name",
                "spec.gone",
            ],
            &[],
        ),
        (&["metadata.labels.b"], &["metadata.labels.b"]),
        (&["spec.nodeSelector"], &["spec.nodeSelector"]),
        (&["spec.tolerations"], &["spec.tolerations"]),
        (&["spec.hostNetwork"], &["spec.hostNetwork"]),
        (
            &["spec.containers[name=proxy].image", "spec.containers[name=proxy].name"],
            &["spec.containers[name=proxy]"],
        ),
        (&["spec.containers[name=a].env[name=A].value"], &["spec.containers[name=a].env[name=A]"]),
        (&["spec.containers[name=proxyx].image"], &[]),
    ];
    for (foreign, paths) in cases {
        assert_eq!(found(want.clone(), live.clone(), foreign), paths, "{foreign:?}");
    }
}

#[test]
fn an_addition_to_what_another_manager_owns_whole_is_its() {
    let (want, live) =
        (json!({"nodeSelector": {"a": "1"}}), json!({"nodeSelector": {"a": "1", "b": "2"}}));
    assert_eq!(found(want.clone(), live.clone(), &["nodeSelector"]), ["nodeSelector.b"]);
    assert_eq!(found(want, live, &["nodeSelector.a"]), [""; 0]);
}

#[test]
fn a_flag_that_we_leave_off_and_another_sets_is_drift() {
    assert_eq!(
        found(json!({"hostNetwork": false}), json!({"hostNetwork": true}), &["hostNetwork"]),
        ["hostNetwork"]
    );
}

fn rendering(written: &Value, protocol: Protocol) -> Value {
    render_template(&Source { protocol, ..build_source(Some(written)) }).unwrap()
}

/// What the API server makes of a rendering: its defaults, the usual forms of quantities,
/// nothing that is empty.
fn stored(mut template: Value) -> Value {
    let spec = template["spec"].as_object_mut().unwrap();
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
    ] {
        spec.insert(field.into(), value);
    }
    spec.remove("hostNetwork");
    spec.insert("terminationGracePeriodSeconds".into(), json!(30));
    spec.insert("securityContext".into(), json!({}));
    for container in spec["containers"].as_array_mut().unwrap() {
        container["imagePullPolicy"] = json!("IfNotPresent");
        container["terminationMessagePath"] = json!("/dev/termination-log");
        container
            .as_object_mut()
            .unwrap()
            .entry("terminationMessagePolicy")
            .or_insert(json!("File"));
        container["ports"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .for_each(|port| port["protocol"] = json!("TCP"));
        container["env"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter(|e| e["value"] == "")
            .for_each(|e| *e = json!({"name": e["name"]}));
        if container["readinessProbe"].is_object() {
            let probe = &mut container["readinessProbe"];
            (probe["timeoutSeconds"], probe["successThreshold"]) = (json!(1), json!(1));
            probe
                .as_object_mut()
                .unwrap()
                .get_mut("httpGet")
                .into_iter()
                .for_each(|get| get["scheme"] = json!("HTTP"));
        }
        if container["resources"].is_object() {
            container["resources"] =
                json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "2Gi"}});
        }
    }
    template
}

/// JSON pointers to every string and number.
fn leaves(value: &Value, at: &str, out: &mut Vec<String>) {
    let escape = |name: &String| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| leaves(value, &format!("{at}/{}", escape(name)), out)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| leaves(item, &format!("{at}/{i}"), out))
        }
        Value::String(text) if text.is_empty() => {}
        Value::String(_) | Value::Number(_) => out.push(at.to_owned()),
        _ => {}
    }
}

#[test]
fn whatever_of_a_rendering_is_changed_or_removed_is_found() {
    let written = json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"containers": [{"name": "model", "resources": {"limits": {"cpu": 1}}}], "tolerations": [{"key": "gpu"}]}});
    let want = rendering(&written, Protocol::OpenInferenceV2);
    let mut all = Vec::new();
    leaves(&want, "", &mut all);
    assert!(all.len() > 20);
    for pointer in all {
        for other in [json!("other"), json!(77), json!(null)] {
            let mut live = stored(want.clone());
            *live.pointer_mut(&pointer).unwrap() = other;
            assert_eq!(find_differences(&want, &live, &[]).len(), 1, "{pointer}");
        }
    }
}

const NAMES: &str = "name|ports|containerPort|env|limits|resources|[a-c]";

fn any_json() -> impl Strategy<Value = Value> {
    arbitrary::any_json("[a-z]{0,2}", NAMES)
}

proptest! {
    #[test]
    fn a_value_does_not_differ_from_itself(value in any_json()) {
        prop_assert_eq!(find_differences(&value, &value, &[]), [""; 0]);
    }

    #[test]
    fn any_two_values_are_compared(want in any_json(), live in any_json(), foreign in prop::collection::vec("[a-c.]{0,3}", 0..3)) {
        let silent = is_empty_value(&want) && foreign.is_empty();
        prop_assert!(!silent || find_differences(&want, &live, &foreign).is_empty());
    }

    #[test]
    fn a_rendering_does_not_differ_from_what_is_stored_of_it(sidecar in any::<bool>(), resources in any::<bool>(), network in any::<bool>(), grpc in any::<bool>(), owned in any::<bool>()) {
        let mut model = json!({"name": "model", "env": [{"name": "EMPTY", "value": ""}]});
        if resources {
            model["resources"] = json!({"requests": {"cpu": 0.5}, "limits": {"cpu": 1, "memory": "2048Mi"}});
        }
        let mut spec = json!({"containers": [model], "hostNetwork": false});
        if sidecar {
            spec["containers"].as_array_mut().unwrap().push(json!({"name": "proxy", "image": "p:1"}));
        }
        if network {
            spec["dnsPolicy"] = json!("ClusterFirst");
        }
        let protocol = if grpc { Protocol::GRPC } else { Protocol::OpenInferenceV2 };
        let written = json!({"spec": spec});
        let want = rendering(&written, protocol);
        let live = stored(want.clone());
        // Even where a backup was restored by a manager that then owns it all.
        let foreign = if owned { vec!["metadata".to_owned(), "spec".to_owned()] } else { Vec::new() };
        prop_assert_eq!(find_differences(&want, &live, &foreign), [""; 0]);
    }
}
