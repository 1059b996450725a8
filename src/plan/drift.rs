//! Drift: whether what is live is what was written.
//!
//! What was written is compared as a subset: the API server and admission add fields, and additions that nobody else owns are not drift.
//!
//! **Paths** are written the same way in what is found and in what others own, relative to one root (a Deployment's `spec`):
//! fields are joined by dots, whatever their names hold (`template.metadata.labels.rollmodel.dev/hash`); an item of a list of maps
//! carries its keys, sorted (`containers[name=model].ports[containerPort=8080,protocol=TCP]`), an item of a set its value (`[v=a]`),
//! any other item its index (`[0]`).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Map, Value};

/// The most paths of other managers that are kept.
pub const FOREIGN_MAX: usize = 256;

/// Numbers and flags that the API server does not tell from absent ones: it drops their zero, or puts its default there.
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

/// Ends of paths with what the API server puts there when nothing is written; who restores a backup owns these too.
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

/// Paths where `live` is not what `want` says, or has what a manager of `foreign` paths added, in the order of the fields.
#[must_use]
pub fn differences(want: &Value, live: &Value, foreign: &[String]) -> Vec<String> {
    let mut walk = Walk { foreign: foreign.iter().map(String::as_str).collect(), found: Vec::new() };
    walk.value(&Place::root(), want, live);
    walk.found
}

/// A place in the tree: its path, and what has to be known of the way there.
#[derive(Clone, Default)]
struct Place {
    path: String,
    /// The field that holds the value, or the list it is an item of.
    field: String,
    /// Whether the value is a quantity.
    quantity: bool,
    /// Whether another manager owns it as part of something whole.
    owned: bool,
}

impl Place {
    fn root() -> Self {
        Self::default()
    }

    fn field(&self, name: &str) -> Self {
        let quantity = match self.field.as_str() {
            "requests" | "limits" | "overhead" => true,
            "emptyDir" => name == "sizeLimit",
            "resourceFieldRef" => name == "divisor",
            _ => false,
        };
        Self { path: join(&self.path, name), field: name.to_owned(), quantity, owned: self.owned }
    }

    fn item(&self, key: &str) -> Self {
        Self { path: format!("{}{key}", self.path), ..self.clone() }
    }
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
        let place: BTreeMap<&str, usize> = there.iter().enumerate().map(|(index, key)| (key.as_str(), index)).collect();
        let mut order = Vec::new();
        for (key, item) in wanted.iter().zip(want) {
            let found = place.get(key.as_str()).copied();
            order.extend(found);
            self.value(&at.item(key), item, found.and_then(|index| live.get(index)).unwrap_or(&Value::Null));
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
            Value::Object(fields) => fields.iter().for_each(|(name, value)| self.extra(&at.field(name), value)),
            Value::Array(items) => {
                let keys = keys(&at.field, items).unwrap_or_default();
                keys.iter().zip(items).for_each(|(key, item)| self.extra_item(&at.item(key), item));
            }
            _ => {}
        }
    }

    /// An item is named once, not field by field.
    fn extra_item(&mut self, at: &Place, live: &Value) {
        let inside = |path: &&str| path.starts_with(&at.path);
        if !empty(live) && (at.owned || self.foreign.iter().any(|path| inside(&path))) {
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
    let is = |(end, value): &(&str, &str)| path.ends_with(end) && text(live).is_some_and(|live| live == *value);
    path.ends_with("spec.serviceAccount") || DEFAULTS.iter().any(is)
}

fn same(want: &Value, live: &Value, quantity: bool) -> bool {
    let (Some(a), Some(b)) = (text(want), text(live)) else { return want == live };
    // One text is one value: a field's type is fixed, but for IntOrString and quantities, which may be a number or a string.
    a == b || (quantity && nanos(&a).is_some() && nanos(&a) == nanos(&b)) || numerically(want, live)
}

fn numerically(want: &Value, live: &Value) -> bool {
    // As floats only where one is a float: large integers differ that are one float.
    let floats = want.is_f64() || live.is_f64();
    floats && want.as_f64().is_some() && want.as_f64() == live.as_f64()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The keys of a list's items as a path has them; none where an item has no key, or two have the same.
fn keys(field: &str, items: &[Value]) -> Option<Vec<String>> {
    let keys: Vec<String> = items.iter().map(|item| key(field, item)).collect::<Option<_>>()?;
    let distinct: BTreeSet<&String> = keys.iter().collect();
    (distinct.len() == keys.len()).then_some(keys)
}

fn key(field: &str, item: &Value) -> Option<String> {
    let names: &[&str] = match field {
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "hostAliases" => &["ip"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "ports" if item.get("containerPort").is_some() => &["containerPort", "protocol"],
        "ports" => &["port", "protocol"],
        _ => &["name"],
    };
    let pair = |name: &&str| {
        let value = item.get(*name).filter(|value| !empty(value)).and_then(text);
        let value = value.or_else(|| (*name == "protocol").then(|| "TCP".to_owned()))?;
        Some((String::from(*name), value))
    };
    Some(bracket(names.iter().map(pair).collect::<Option<_>>()?))
}

fn bracket(mut pairs: Vec<(String, String)>) -> String {
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("[{}]", pairs.join(","))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Paths under `spec` that managers other than `ours` own, and `ours` does not: leaves only, sorted, at most [`FOREIGN_MAX`].
#[must_use]
pub fn foreign_paths(managed_fields: &[ManagedFieldsEntry], ours: &str) -> Vec<String> {
    let (mut mine, mut theirs) = (BTreeSet::new(), BTreeSet::new());
    // A subresource's entry is a status or a scale, which is nobody's drift.
    for entry in managed_fields.iter().filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty()) {
        let Some(spec) = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec")) else { continue };
        leaves(spec, "", if entry.manager.as_deref() == Some(ours) { &mut mine } else { &mut theirs });
    }
    theirs.difference(&mine).take(FOREIGN_MAX).cloned().collect()
}

fn leaves(node: &Value, path: &str, out: &mut BTreeSet<String>) {
    let children: Vec<_> = node.as_object().into_iter().flatten().filter(|(element, _)| *element != ".").collect();
    if children.is_empty() && !path.is_empty() {
        out.insert(path.to_owned());
    }
    for (element, child) in children {
        leaves(child, &step(path, element), out);
    }
}

/// One step of FieldsV1: `f:name`, `k:{"name":"model"}`, `v:"a"` or `i:0`.
fn step(path: &str, element: &str) -> String {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    match element.split_once(':') {
        Some(("f", name)) => join(path, name),
        Some(("k", keys)) => {
            let keys = json(keys);
            let pairs = keys.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), plain(value))).collect();
            format!("{path}{}", bracket(pairs))
        }
        Some(("v", value)) => format!("{path}[v={}]", plain(&json(value))),
        Some(("i", index)) => format!("{path}[{index}]"),
        _ => join(path, element),
    }
}

fn plain(value: &Value) -> String {
    text(value).unwrap_or_else(|| value.to_string())
}

/// A quantity such as `500m` or `4Gi` in billionths, rounded up and capped as Kubernetes does; none where the text is no quantity.
#[must_use]
pub fn nanos(text: &str) -> Option<i128> {
    const CAP: i128 = i64::MAX as i128 * 1_000_000_000;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (twos, tens) = scale(suffix)?;
    let fraction = fraction.trim_end_matches('0');
    let tens = tens.saturating_add(9).saturating_sub(i32::try_from(fraction.len()).unwrap_or(i32::MAX));
    let amount = format!("0{whole}{fraction}").parse().ok().and_then(|digits| scaled(digits, twos, tens)).unwrap_or(CAP).min(CAP);
    Some(if text.starts_with('-') { -amount } else { amount })
}

/// digits × 2^twos × 10^tens; none where that is too much.
fn scaled(digits: i128, twos: u32, tens: i32) -> Option<i128> {
    let binary = digits.checked_mul(1_i128.checked_shl(twos)?)?;
    match 10_i128.checked_pow(tens.unsigned_abs()) {
        Some(power) if tens < 0 => Some(binary / power + i128::from(binary % power != 0)),
        None if tens < 0 => Some(i128::from(binary != 0)),
        Some(power) => binary.checked_mul(power),
        None => (binary == 0).then_some(0),
    }
}

/// The powers of two and of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}
