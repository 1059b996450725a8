//! From a base and a change to what was observed.

use std::fs;

use jiff::Timestamp;
use rollmodel::{
    plan::{self, Action, Observed, facts::revision::compute_digest, registry::ObservedRegistry},
    run::case::Case,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_yaml::{Mapping, Value};

/// A file of `bases/`. It gives all that was observed, or changes what another base gives.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Base {
    /// What it is, in a sentence.
    about: String,
    /// Another base.
    given: Option<String>,
    /// What is different from that.
    #[serde(default)]
    change: Value,
    /// The time; the other base's where it is absent.
    now: Option<Timestamp>,
    /// All that was observed about a ModelDeployment.
    observed: Option<Value>,
    /// Or about a ModelRegistry.
    observed_registry: Option<Value>,
}

/// What was observed of one object, not read yet.
#[derive(Clone)]
pub struct Raw {
    is_registry: bool,
    now: Timestamp,
    observed: Value,
}

/// What a base gives. Where it does not say what status the ModelDeployment has, that is the status
/// the planner itself writes about it, and nothing else is left to do.
///
/// # Errors
/// When there is no such base, or it cannot be read.
pub fn base(name: &str) -> Result<Raw, String> {
    let mut raw = raw_base(name)?;
    if raw.is_registry
        || raw.observed.get("modelDeployment").is_none_or(|d| d.get("status").is_some())
    {
        return Ok(raw);
    }
    let mut whole = raw.observed.clone();
    fill_in(&mut whole, raw.now);
    let observed: Observed = read(&whole).map_err(|e| format!("base {name}: {e}"))?;
    let plan = plan::plan(&observed, raw.now);
    if !plan.actions.is_empty() || !plan.lookups.is_empty() {
        return Err(format!("base {name} is not at rest: {} {plan:?}", plan.waiting.sentence));
    }
    let status = serde_yaml::to_value(&plan.status).map_err(|e| e.to_string())?;
    patch(&mut raw.observed["modelDeployment"], &mapping("status", status));
    Ok(raw)
}

fn raw_base(name: &str) -> Result<Raw, String> {
    let path = crate::folder().join(format!("bases/{name}.yaml"));
    let error = |what: String| format!("base {name} ({}): {what}", path.display());
    let text = fs::read_to_string(&path).map_err(|e| error(e.to_string()))?;
    let base: Base =
        serde_yaml::from_str(&fill_numbers(&text)?).map_err(|e| error(e.to_string()))?;
    if !base.about.ends_with('.') {
        return Err(error("`about` is a sentence".into()));
    }
    let mut raw = match (base.given, base.observed, base.observed_registry, base.now) {
        (Some(given), None, None, _) => raw_base(&given)?,
        (None, Some(observed), None, Some(now)) => Raw { is_registry: false, now, observed },
        (None, None, Some(observed), Some(now)) => Raw { is_registry: true, now, observed },
        _ => {
            let keys = "`given`, or `now` with one of `observed` and `observedRegistry`";
            return Err(error(format!("it needs {keys}")));
        }
    };
    patch(&mut raw.observed, &base.change);
    raw.now = base.now.unwrap_or(raw.now);
    Ok(raw)
}

/// What a scenario says that was observed, as the case that `rollmodel plan` reads.
///
/// # Errors
/// When the change names a field that does not exist, or has a value of the wrong type.
pub fn case(
    title: &str,
    mut raw: Raw,
    change: &Value,
    now: Option<Timestamp>,
) -> Result<Case, String> {
    patch(&mut raw.observed, change);
    let now = now.unwrap_or(raw.now);
    let (mut observed, mut registry) = (None, None);
    if raw.is_registry {
        registry = Some(read::<ObservedRegistry>(&raw.observed)?);
    } else {
        fill_in(&mut raw.observed, raw.now);
        let mut read = read::<Observed>(&raw.observed)?;
        name_refused_writes(&mut read, now)?;
        observed = Some(read);
    }
    Ok(Case { title: title.into(), now, observed, registry })
}

/// Fills in what follows from the rest.
fn fill_in(observed: &mut Value, now: Timestamp) {
    let bodies = observed.get("revisions").cloned().unwrap_or_default();
    for record in items_mut(observed, "records") {
        let Some(spec) = record.get_mut("spec") else { continue };
        set_default(spec, "direction", || "Forward".into());
        set_default(spec, "admission", || mapping("asked", "Newly".into()));
        let name = spec.get("revisionName").cloned().unwrap_or_default();
        set_default(spec, "renderingDigest", || digest_rendering(&bodies, &name).into());
    }
    let records = observed.get("records").cloned().unwrap_or_default();
    for pod in items_mut(observed, "pods") {
        let hash = pod.get("hash").map(text).unwrap_or_default();
        let template = hash.get(..8).unwrap_or(&hash).to_owned();
        set_default(pod, "templateHash", || template.clone().into());
        let template = pod.get("templateHash").map(text).unwrap_or_default();
        set_default(pod, "replicaSet", || format!("fraud-{template}").into());
        let created = find_start(&records, &hash).unwrap_or_else(|| now.to_string());
        set_default(pod, "created", || created.into());
    }
}

fn items_mut<'a>(observed: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    observed.get_mut(list).and_then(Value::as_sequence_mut).into_iter().flatten()
}

fn set_default(target: &mut Value, field: &str, make: impl FnOnce() -> Value) {
    if target.get(field).is_none() {
        patch(target, &mapping(field, make()));
    }
}

/// The digest of a stored template; one that no stored template has where there is none.
fn digest_rendering(revisions: &Value, name: &Value) -> String {
    let all = revisions.as_sequence().into_iter().flatten();
    let stored = all.into_iter().find(|c| c.get("name") == Some(name));
    let rendering = stored.and_then(|c| c.get("body")?.get("rendering"));
    match rendering.and_then(|r| serde_json::to_value(r).ok()) {
        Some(rendering) => compute_digest(&rendering),
        None => "sha256:lost".into(),
    }
}

/// The start of the newest rollout of a revision.
fn find_start(records: &Value, hash: &str) -> Option<String> {
    let specs = records.as_sequence().into_iter().flatten().filter_map(|r| r.get("spec"));
    let same = specs.filter(|spec| {
        let revision = spec.get("revisionHash").map(text).unwrap_or_default();
        revision.contains(hash)
    });
    same.filter_map(|spec| spec.get("startTime").map(text)).max()
}

/// Gives each refused write the whole identity of the write that begins as it says.
fn name_refused_writes(observed: &mut Observed, now: Timestamp) -> Result<(), String> {
    let mut refused = std::mem::take(&mut observed.memory.refused);
    let planned: Vec<String> =
        plan::plan(observed, now).actions.iter().filter_map(Action::identify_write).collect();
    for refused in &mut refused {
        let begins = |write: &&String| write.starts_with(&refused.write);
        let whole = planned.iter().find(begins).cloned();
        refused.write = whole.ok_or_else(|| {
            format!("no write begins with {:?}; there are {planned:?}", refused.write)
        })?;
    }
    observed.memory.refused = refused;
    Ok(())
}

/// Puts the numbers of the rules where `{{name}}` stands.
///
/// # Errors
/// When there is no number of that name.
pub fn fill_numbers(text: &str) -> Result<String, String> {
    let mut filled = text.to_owned();
    for (name, value) in crate::numbers() {
        filled = filled.replace(&format!("{{{{{name}}}}}"), &value);
    }
    match filled.split_once("{{") {
        Some((_, rest)) => {
            let names: Vec<&str> = crate::numbers().into_iter().map(|(name, _)| name).collect();
            let name = rest.split("}}").next().unwrap_or_default();
            Err(format!("no number is called {{{{{name}}}}}; there are {}", names.join(", ")))
        }
        None => Ok(filled),
    }
}

/// Reads what was observed, and finds what the types do not know: a misspelt field would make a
/// scenario that shows nothing.
fn read<T: DeserializeOwned + serde::Serialize>(written: &Value) -> Result<T, String> {
    let read: T = serde_yaml::from_value(written.clone()).map_err(|e| e.to_string())?;
    let back = serde_yaml::to_value(&read).map_err(|e| e.to_string())?;
    match unknown_field(written, &back, "") {
        Some(path) => Err(format!("what was observed has no field {path}")),
        None => Ok(read),
    }
}

/// The path of something that was written and not read.
fn unknown_field(written: &Value, read: &Value, path: &str) -> Option<String> {
    match (written, read) {
        (Value::Mapping(fields), _) => fields.iter().find_map(|(name, value)| {
            let name = text(name);
            let path = format!("{path}.{name}");
            match read.get(&name) {
                Some(read) => unknown_field(value, read, &path),
                None => (!is_empty(value)).then_some(path),
            }
        }),
        (Value::Sequence(items), Value::Sequence(read)) => (items.iter().zip(read).enumerate())
            .find_map(|(n, (item, read))| unknown_field(item, read, &format!("{path}[{n}]"))),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(fields) => fields.is_empty(),
        _ => false,
    }
}

/// A merge patch (RFC 7386) that reaches into lists: where the target is a list and the patch a
/// map, each key is the name of an item, which is patched, or is added where it is missing.
pub fn patch(target: &mut Value, change: &Value) {
    let Value::Mapping(fields) = change else {
        if !change.is_null() {
            *target = change.clone();
        }
        return;
    };
    if let Value::Sequence(items) = target {
        for (name, value) in fields {
            patch_item(items, &text(name), value);
        }
        return;
    }
    if !target.is_mapping() {
        *target = Value::Mapping(Mapping::new());
    }
    let Some(map) = target.as_mapping_mut() else { return };
    for (name, value) in fields {
        if value.is_null() {
            map.remove(name);
        } else if let Some(have) = map.get_mut(name) {
            patch(have, value);
        } else {
            let mut added =
                if is_list(&text(name), value) { Value::Sequence(Vec::new()) } else { Value::Null };
            patch(&mut added, value);
            map.insert(name.clone(), added);
        }
    }
}

/// Whether a field that is not there yet is a list of named items.
fn is_list(name: &str, value: &Value) -> bool {
    let lists = ["versions", "records", "revisions", "pods", "requests", "containers", "decisions"];
    lists.contains(&name) && value.is_mapping()
}

fn patch_item(items: &mut Vec<Value>, name: &str, change: &Value) {
    if change.is_null() {
        items.retain(|item| identity(item) != name);
        return;
    }
    let index = items.iter().position(|item| identity(item) == name).unwrap_or_else(|| {
        items.push(new_item(name));
        items.len() - 1
    });
    // Everything that a record says is in its spec.
    match items[index].get_mut("spec").filter(|spec| spec.get("number").is_some()) {
        Some(spec) => patch(spec, change),
        None => patch(&mut items[index], change),
    }
}

/// The name of a list's item: a record's number, a decision's number, else its name or its type.
fn identity(item: &Value) -> String {
    let record = item.get("spec").and_then(|spec| spec.get("number"));
    let keys = ["name", "number", "type"];
    record.or_else(|| keys.iter().find_map(|key| item.get(key))).map(text).unwrap_or_default()
}

/// A new item of a list; one whose name is a number is a record.
fn new_item(name: &str) -> Value {
    let Ok(number) = name.parse::<i64>() else { return mapping("name", name.into()) };
    let mut record = mapping("uid", format!("record-{number}-uid").into());
    patch(&mut record, &mapping("resourceVersion", (100 + number).to_string().into()));
    patch(&mut record, &mapping("spec", mapping("number", number.into())));
    record
}

fn mapping(key: &str, value: Value) -> Value {
    Value::Mapping(Mapping::from_iter([(Value::from(key), value)]))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_yaml::to_string(other).unwrap_or_default().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(target: &str, change: &str) -> Value {
        let mut target: Value = serde_yaml::from_str(target).unwrap();
        patch(&mut target, &serde_yaml::from_str(change).unwrap());
        target
    }

    #[test]
    fn a_change_reaches_items_of_lists_by_name_and_records_by_number() {
        let pods = "pods: [{name: a, ready: true}, {name: b}]";
        assert_eq!(
            patched(pods, "pods: {a: {ready: false}, b: null, c: {ready: true}}"),
            patched("{}", "pods: [{name: a, ready: false}, {name: c, ready: true}]")
        );
        assert_eq!(patched(pods, "pods: []"), patched("{}", "pods: []"));
        let records = "records: [{uid: u, spec: {number: 2, outcome: Failed}}]";
        assert_eq!(
            patched(records, "records: {2: {outcome: null, version: '7'}}"),
            patched("{}", "records: [{uid: u, spec: {number: 2, version: '7'}}]")
        );
    }

    #[test]
    fn a_misspelt_field_is_found() {
        let found = |change: &str| {
            let change = serde_yaml::from_str(change).unwrap();
            case("t", base("serving-6").unwrap(), &change, None).err()
        };
        assert_eq!(found("pods: {fraud-6-a: {ready: false}}"), None);
        let misspelt = found("pods: {fraud-6-a: {containers: {model: {restart: 3}}}}").unwrap();
        assert_eq!(misspelt, "what was observed has no field .pods[0].containers[0].restart");
    }

    #[test]
    fn a_number_that_no_rule_has_is_refused() {
        let limit = rollmodel::api::deployment::RESTART_LIMIT;
        assert_eq!(fill_numbers("at {{restart_limit}}.").unwrap(), format!("at {limit}."));
        assert!(fill_numbers("{{restarts}}").unwrap_err().contains("restart_limit"));
    }
}
