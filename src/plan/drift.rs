//! Drift: whether what is live is what was written.
//!
//! What was written is compared as a subset: the API server and admission add fields, and additions
//! that nobody else owns are not drift.
//!
//! Paths, in what is found and in what others own alike, are written as [`path`] says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

pub use self::{
    foreign::{FOREIGN_MAX, foreign_paths},
    quantity::nanos,
};

pub(in crate::plan) use path::is_quantity;
use path::{Place, keys, text};

mod foreign;
mod path;
mod quantity;

/// Numbers and flags that the API server does not tell from absent ones: it drops their zero, or
/// puts its default there.
const ZERO_IS_ABSENT: [&str; 14] = [
    "failureThreshold",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "partition",
    "periodSeconds",
    "readOnly",
    "stdin",
    "stdinOnce",
    "successThreshold",
    "timeoutSeconds",
    "tty",
];

/// Ends of paths with what the API server puts there when nothing is written; who restores a backup
/// owns these too.
const DEFAULTS: [(&str, &str); 16] = [
    ("].imagePullPolicy", "IfNotPresent"),
    ("].protocol", "TCP"),
    ("].terminationMessagePath", "/dev/termination-log"),
    ("].terminationMessagePolicy", "File"),
    (".defaultMode", "420"),
    (".fieldRef.apiVersion", "v1"),
    (".httpGet.scheme", "HTTP"),
    (".resourceFieldRef.divisor", "0"),
    ("Probe.failureThreshold", "3"),
    ("Probe.periodSeconds", "10"),
    ("Probe.successThreshold", "1"),
    ("Probe.timeoutSeconds", "1"),
    // Not those of containers and probes, which mean something else.
    ("spec.dnsPolicy", "ClusterFirst"),
    ("spec.restartPolicy", "Always"),
    ("spec.schedulerName", "default-scheduler"),
    ("spec.terminationGracePeriodSeconds", "30"),
];

/// Paths where `live` is not what `want` says, or has what a manager of `foreign` paths added, in
/// the order of the fields.
#[must_use]
pub fn differences(want: &Value, live: &Value, foreign: &[String]) -> Vec<String> {
    let mut walk =
        Walk { foreign: foreign.iter().map(String::as_str).collect(), found: Vec::new() };
    walk.value(&Place::default(), want, live);
    walk.found
}

struct Walk<'a> {
    foreign: BTreeSet<&'a str>,
    found: Vec<String>,
}

impl Walk<'_> {
    fn value(&mut self, at: &Place, want: &Value, live: &Value) {
        if silent(&at.field, want) {
            return self.extra(at, live);
        }
        let at = &Place { owned: self.owned(at), ..at.clone() };
        match (want, live) {
            (Value::Object(want), Value::Object(live)) => self.fields(at, want, live),
            (Value::Array(want), Value::Array(live)) => self.items(at, want, live),
            _ if same(want, live, at.quantity) => {}
            _ => self.found.push(at.path.clone()),
        }
    }

    fn fields(&mut self, at: &Place, want: &Map<String, Value>, live: &Map<String, Value>) {
        for (name, value) in want {
            self.value(&at.field(name), value, live.get(name).unwrap_or(&Value::Null));
        }
        for (name, value) in live.iter().filter(|(name, _)| !want.contains_key(*name)) {
            self.extra(&at.field(name), value);
        }
    }

    fn items(&mut self, at: &Place, want: &[Value], live: &[Value]) {
        let (Some(wanted), Some(there)) = (keys(&at.field, want), keys(&at.field, live)) else {
            return self.indexed(at, want, live);
        };
        let place: BTreeMap<&str, usize> =
            there.iter().enumerate().map(|(index, key)| (key.as_str(), index)).collect();
        let mut order = Vec::new();
        for (key, item) in wanted.iter().zip(want) {
            let found = place.get(key.as_str()).copied();
            order.extend(found);
            self.value(
                &at.item(key),
                item,
                found.and_then(|index| live.get(index)).unwrap_or(&Value::Null),
            );
        }
        // Init containers run in their order, and a variable sees those before it.
        if !order.is_sorted() {
            self.found.push(at.path.clone());
        }
        let wanted: BTreeSet<&String> = wanted.iter().collect();
        for (key, item) in there.iter().zip(live).filter(|(key, _)| !wanted.contains(key)) {
            self.extra_item(&at.item(key), item);
        }
    }

    fn indexed(&mut self, at: &Place, want: &[Value], live: &[Value]) {
        if want.len() != live.len() {
            return self.found.push(at.path.clone());
        }
        for (index, (want, live)) in want.iter().zip(live).enumerate() {
            self.value(&at.item(&format!("[{index}]")), want, live);
        }
    }

    /// What is only live: drift where another manager put it there.
    fn extra(&mut self, at: &Place, live: &Value) {
        if empty(live) || default(&at.path, live) {
            return;
        }
        if self.owned(at) {
            return self.found.push(at.path.clone());
        }
        match live {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| self.extra(&at.field(name), value))
            }
            Value::Array(items) => {
                let keys = keys(&at.field, items).unwrap_or_default();
                keys.iter().zip(items).for_each(|(key, item)| self.extra_item(&at.item(key), item));
            }
            _ => {}
        }
    }

    /// An item is named once, not field by field.
    fn extra_item(&mut self, at: &Place, live: &Value) {
        if !empty(live) && (at.owned || self.foreign.iter().any(|path| path.starts_with(&at.path)))
        {
            self.found.push(at.path.clone());
        }
    }

    fn owned(&self, at: &Place) -> bool {
        at.owned || self.foreign.contains(at.path.as_str())
    }
}

/// Whether a value says nothing: null and what is empty are as good as absent.
#[must_use]
pub fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn silent(field: &str, want: &Value) -> bool {
    let zero = *want == Value::Bool(false) || want.as_f64() == Some(0.0);
    empty(want) || (zero && ZERO_IS_ABSENT.contains(&field))
}

fn default(path: &str, live: &Value) -> bool {
    // The deprecated serviceAccount mirrors serviceAccountName, which wins.
    let is = |(end, value): &(&str, &str)| {
        path.ends_with(end) && text(live).is_some_and(|live| live == *value)
    };
    path.ends_with("spec.serviceAccount") || DEFAULTS.iter().any(is)
}

fn same(want: &Value, live: &Value, quantity: bool) -> bool {
    let (Some(a), Some(b)) = (text(want), text(live)) else { return want == live };
    // One text is one value: a field's type is fixed, but for IntOrString and quantities, which may
    // be a number or a string.
    a == b || (quantity && nanos(&a).is_some() && nanos(&a) == nanos(&b)) || numerically(want, live)
}

fn numerically(want: &Value, live: &Value) -> bool {
    // As floats only where one is a float: large integers differ that are one float.
    let floats = want.is_f64() || live.is_f64();
    floats && want.as_f64().is_some() && want.as_f64() == live.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::deployment::{DeliveryMode, Protocol},
        plan::{
            delivery::Delivered,
            render::{Source, render},
        },
    };
    use proptest::prelude::*;
    use serde_json::json;

    fn found(want: Value, live: Value, foreign: &[&str]) -> Vec<String> {
        differences(&want, &live, &foreign.iter().map(|p| String::from(*p)).collect::<Vec<_>>())
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
            (
                json!({"emptyDir": {"sizeLimit": "1Gi"}}),
                json!({"emptyDir": {"sizeLimit": "1024Mi"}}),
            ),
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
            (
                &["spec.containers[name=a].env[name=A].value"],
                &["spec.containers[name=a].env[name=A]"],
            ),
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
        let source = Source {
            deployment: "d",
            model: "m",
            version: "1",
            hash: "v1:sha256:0",
            protocol,
            image: Some("a:1"),
            artifact: None,
            delivered: Delivered { mode: DeliveryMode::InImage, digest: None },
            delivery: None,
            policy: None,
            fetch_image: None,
            before: None,
            template: Some(written),
        };
        render(&source).unwrap()
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
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(i, item)| leaves(item, &format!("{at}/{i}"), out)),
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
                assert_eq!(differences(&want, &live, &[]).len(), 1, "{pointer}");
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z]{0,2}".prop_map(Value::from)
        ];
        let name = "name|ports|containerPort|env|limits|resources|[a-c]";
        leaf.prop_recursive(5, 48, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..4).prop_map(|m| json!(m))
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_does_not_differ_from_itself(value in any_json()) {
            prop_assert_eq!(differences(&value, &value, &[]), [""; 0]);
        }

        #[test]
        fn any_two_values_are_compared(want in any_json(), live in any_json(), foreign in prop::collection::vec("[a-c.]{0,3}", 0..3)) {
            let silent = empty(&want) && foreign.is_empty();
            prop_assert!(!silent || differences(&want, &live, &foreign).is_empty());
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
            prop_assert_eq!(differences(&want, &live, &foreign), [""; 0]);
        }
    }
}
