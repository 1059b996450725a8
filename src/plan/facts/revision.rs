//! The revision that one ModelDeployment makes of a version, with its revisionHash and contentHash.
//!
//! A hash is `v1:sha256:<hex>` over RFC 8785 JSON of what the user wrote, absent fields kept
//! absent: nothing that this operator or its libraries add can change it, so an upgrade rolls
//! nothing.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{delivery, problem::Problem, version::find_pinned_digest};
use crate::{
    api::{ModelDeploymentSpec, names, reason::Reason, rollout::ModelRolloutSpec},
    plan::{
        drift::{is_quantity, parse_quantity},
        make::{self, Source},
        observed::{Observed, Revision, Version},
    },
};

/// Finds the revision that the spec names, by the version's record. If the version is gone, the
/// record that this ModelDeployment rolled out is used.
///
/// # Errors
/// There is no such version, or its name is taken by another.
pub fn find_desired_revision(
    observed: &Observed,
    spec: &ModelDeploymentSpec,
) -> Result<Revision, Problem> {
    let digest = match find_version(observed, spec)? {
        Some(version) => version.record_digest.clone(),
        None => find_bound_digest(observed, spec).ok_or_else(|| report_missing_version(spec))?,
    };
    // Hashing costs more than everything else in a pass that changes nothing.
    if let Some(known) =
        observed.memory.desired.as_ref().filter(|known| known.is_of(observed, &digest))
    {
        return Ok(known.content.clone());
    }
    Ok(compute_revision(spec, &digest))
}

/// Computes the revision that `spec` makes of the record with that digest.
#[must_use]
pub fn compute_revision(spec: &ModelDeploymentSpec, record_digest: &str) -> Revision {
    let written = write_revision(spec, record_digest);
    let (bare, whole) = (without_labels(written.clone()), compute_hash(&written));
    let content_hash = if bare == written { whole.clone() } else { compute_hash(&bare) };
    Revision {
        version: spec.version.clone(),
        record_digest: record_digest.to_owned(),
        revision_hash: whole,
        content_hash,
    }
}

/// Builds the JSON of a revision that is hashed and stored: everything that the user wrote.
#[must_use]
pub fn write_revision(spec: &ModelDeploymentSpec, record_digest: &str) -> Value {
    let mut written = Map::new();
    written.insert("recordDigest".into(), json!(record_digest));
    let mut template = json!(spec.template);
    canonicalize_quantities("", &mut template);
    for (field, value) in [
        ("protocol", json!(spec.protocol)),
        ("delivery", json!(spec.delivery)),
        ("template", template),
    ] {
        if !value.is_null() {
            written.insert(field.into(), value);
        }
    }
    Value::Object(written)
}

/// Writes every quantity of a template in one form, so that `1000m` and `1` are the same revision.
fn canonicalize_quantities(parent: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let text = match &*value {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                };
                let amount =
                    text.filter(|_| is_quantity(parent, name)).and_then(|t| parse_quantity(&t));
                match amount {
                    Some(amount) => *value = json!(format_nanos(amount)),
                    None => canonicalize_quantities(name, value),
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| canonicalize_quantities(parent, item));
        }
        _ => {}
    }
}

/// Formats a number of billionths with the largest suffix that leaves it whole.
fn format_nanos(nanos: i128) -> String {
    const SUFFIXES: [(i128, &str); 3] = [(1_000_000_000, ""), (1_000_000, "m"), (1_000, "u")];
    let whole = SUFFIXES.iter().find(|(unit, _)| nanos % unit == 0);
    whole.map_or_else(|| format!("{nanos}n"), |(unit, suffix)| format!("{}{suffix}", nanos / unit))
}

/// Finds the ModelVersion that the spec names, and checks its model and version, because (fraud,
/// 1-2) and (fraud-1, 2) share a name.
///
/// # Errors
/// The name is taken by another version.
pub fn find_version<'a>(
    observed: &'a Observed,
    spec: &ModelDeploymentSpec,
) -> Result<Option<&'a Version>, Problem> {
    let name = names::version_name(&spec.model, &spec.version);
    let Some(version) = observed.versions.iter().find(|v| v.name == name) else { return Ok(None) };
    if version.model == spec.model && version.version == spec.version {
        return Ok(Some(version));
    }
    Err(Problem::Invalid(
        Reason::NameTaken,
        format!(
            "ModelVersion {name} is version {} of model {}, not version {} of {}: give one of them \
             another version string.",
            version.version, version.model, spec.version, spec.model
        ),
    ))
}

/// Finds the recordDigest that the records of this ModelDeployment bind the version to.
fn find_bound_digest(observed: &Observed, spec: &ModelDeploymentSpec) -> Option<String> {
    let of_version = |r: &&ModelRolloutSpec| r.model == spec.model && r.version == spec.version;
    observed
        .records
        .iter()
        .map(|r| &*r.spec)
        .filter(of_version)
        .max_by_key(|r| r.number)
        .map(|r| r.record_digest.clone())
}

/// Builds the problem of a version that does not exist yet.
#[must_use]
pub fn report_missing_version(spec: &ModelDeploymentSpec) -> Problem {
    let name = names::version_name(&spec.model, &spec.version);
    Problem::Pending(
        Reason::VersionNotFound,
        format!(
            "ModelVersion {name} (version {} of {}) is not there yet: register it, or name another \
             version. It is rolled out when it appears.",
            spec.version, spec.model
        ),
    )
}

/// Renders a revision.
///
/// # Errors
/// The version does not exist or may not be delivered, or the template is invalid.
pub fn render_revision(
    observed: &Observed,
    spec: &ModelDeploymentSpec,
    content: &Revision,
) -> Result<Value, Problem> {
    let version = find_version(observed, spec)?.ok_or_else(|| report_missing_version(spec))?;
    let delivered = delivery::resolve_delivery(observed, spec, version)?;
    let rendering = make::render_template(&Source {
        deployment: &observed.name,
        model: &spec.model,
        version: &content.version,
        hash: &content.revision_hash,
        protocol: spec.protocol.unwrap_or_default(),
        image: version.image.as_deref(),
        artifact: version.artifact.as_ref(),
        delivered,
        delivery: spec.delivery.as_ref(),
        policy: observed.policy.as_ref().map(|p| &p.spec),
        fetch_image: observed.memory.fetch_image.as_deref(),
        before: find_previous_digest(observed, content),
        template: spec.template.as_ref(),
    })
    .map_err(|error| Problem::Invalid(error.reason(), error.to_string()))?;
    delivery::require_image_digest(observed, version, &rendering)?;
    Ok(rendering)
}

/// Finds the digest of the artifact that serves while this revision is fetched, and that a rollback
/// may need. It is the same when the revision is rendered again.
fn find_previous_digest<'a>(observed: &'a Observed, content: &Revision) -> Option<&'a str> {
    let mut newest_first: Vec<&ModelRolloutSpec> =
        observed.records.iter().map(|r| &*r.spec).collect();
    newest_first.sort_by_key(|r| std::cmp::Reverse(r.number));
    let newest = newest_first.first()?;
    let own = if newest.revision_hash == content.revision_hash { newest.number } else { i64::MAX };
    let record = newest_first.into_iter().find(|r| r.number < own && r.served_from.is_some())?;
    find_pinned_digest(observed.find_version_of(record)?)
}

/// Computes `v1:sha256:<hex>` of a value's canonical JSON.
#[must_use]
pub fn compute_hash(value: &Value) -> String {
    format!("v1:{}", compute_digest(value))
}

/// Computes `sha256:<hex>` of a value's canonical JSON (RFC 8785).
#[must_use]
pub fn compute_digest(value: &Value) -> String {
    // A JSON value always has a canonical form. If the library reports an error, the plain text
    // identifies the value.
    let canonical =
        serde_json_canonicalizer::to_vec(value).unwrap_or_else(|_| value.to_string().into_bytes());
    let mut hex = String::with_capacity(71);
    hex.push_str("sha256:");
    for byte in Sha256::digest(canonical) {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

/// Removes the labels and annotations of the template. Objects that are empty then are removed as
/// if they were never written.
fn without_labels(mut written: Value) -> Value {
    let Some(template) = written.get_mut("template").and_then(Value::as_object_mut) else {
        return written;
    };
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("labels");
        metadata.remove("annotations");
    }
    template
        .retain(|key, value| key != "metadata" || value.as_object().is_some_and(|m| !m.is_empty()));
    if template.is_empty()
        && let Some(all) = written.as_object_mut()
    {
        all.remove("template");
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::arbitrary::{observed, promoted, record};

    fn spec(template: Value) -> ModelDeploymentSpec {
        serde_json::from_value(json!({"model": "fraud", "version": "7", "template": template}))
            .unwrap()
    }

    #[test]
    fn replicas_and_strategy_are_not_content() {
        let mut b = spec(json!({}));
        b.replicas = 9;
        b.paused = true;
        b.progress_deadline_seconds = Some(7);
        assert_eq!(
            compute_revision(&spec(json!({})), "sha256:1").revision_hash,
            compute_revision(&b, "sha256:1").revision_hash
        );
    }

    #[test]
    fn equal_quantities_are_one_revision_and_others_are_not() {
        let hash = |cpu: Value| {
            let resources = json!({"limits": {"cpu": cpu}});
            let containers = json!([{"name": "model", "resources": resources}]);
            compute_revision(&spec(json!({"spec": {"containers": containers}})), "sha256:1")
                .revision_hash
        };
        assert_eq!(hash(json!("1000m")), hash(json!(1)));
        assert_eq!(hash(json!("1.5")), hash(json!("1500m")));
        assert_ne!(hash(json!("1001m")), hash(json!("1")));
    }

    #[test]
    fn a_new_label_is_another_revision_hash_and_the_same_content_hash() {
        let a = compute_revision(&spec(json!({"spec": {"containers": []}})), "sha256:1");
        let b = compute_revision(
            &spec(json!({"metadata": {"labels": {"commit": "1"}}, "spec": {"containers": []}})),
            "sha256:1",
        );
        assert_ne!(a.revision_hash, b.revision_hash);
        assert_eq!(a.content_hash, b.content_hash);
    }

    #[test]
    fn what_the_user_did_not_write_of_the_delivery_is_no_content() {
        let written = |delivery: Value| {
            let spec = serde_json::from_value(
                json!({"model": "fraud", "version": "7", "delivery": delivery}),
            )
            .unwrap();
            write_revision(&spec, "sha256:1")
        };
        let in_image = json!({"mode": "InImage"});
        assert_eq!(
            written(in_image.clone()),
            json!({"recordDigest": "sha256:1", "delivery": in_image})
        );
        assert_eq!(written(Value::Null), json!({"recordDigest": "sha256:1"}));
    }

    #[test]
    fn a_quantity_is_written_with_the_largest_suffix_that_leaves_it_whole() {
        for (nanos, written) in
            [(2_000_000_000, "2"), (1_500_000_000, "1500m"), (2_000, "2u"), (1_500, "1500n")]
        {
            assert_eq!(format_nanos(nanos), written);
        }
    }

    #[test]
    fn labels_are_no_part_of_the_content_and_everything_else_of_the_template_is() {
        let hash = |template| compute_revision(&spec(template), "sha256:1").content_hash;
        let image = |image| json!({"spec": {"containers": [{"name": "model", "image": image}]}});
        assert_ne!(hash(image("a")), hash(image("b")));
        let named = json!({"metadata": {"name": "x", "labels": {"commit": "1"}}});
        assert_eq!(hash(named), hash(json!({"metadata": {"name": "x"}})));
        assert_ne!(hash(json!({"metadata": {"name": "x"}})), hash(json!({})));
        assert_eq!(hash(json!({"metadata": {"labels": {"commit": "1"}}})), hash(json!({})));
    }

    #[test]
    fn a_name_that_another_version_of_the_model_has_is_taken() {
        let mut seen = observed("1-2", Vec::new());
        let spec = seen.model_deployment.clone().unwrap().spec;
        seen.versions[0].name = "fraud-1-2".into();
        for (model, version) in [("fraud", "1_2"), ("fraud-1", "1-2"), ("fraud-1", "2")] {
            seen.versions[0].model = model.into();
            seen.versions[0].version = version.into();
            let taken =
                matches!(find_version(&seen, &spec), Err(Problem::Invalid(Reason::NameTaken, _)));
            assert!(taken, "{model} {version}");
        }
    }

    #[test]
    fn the_digest_before_is_that_of_the_newest_rollout_that_served_earlier() {
        let before = |records| {
            let mut seen = observed("7", records);
            for version in &mut seen.versions {
                version.artifact = serde_json::from_value(json!({"uri": "s3://models/a"})).ok();
                version.pin = Some(format!("sha256:{}", version.version.repeat(64)));
            }
            let revision_hash = record(0, "7").revision_hash;
            let spec = &seen.model_deployment.as_ref().unwrap().spec;
            let content = Revision { revision_hash, ..compute_revision(spec, "sha256:7") };
            find_previous_digest(&seen, &content).map(str::to_owned)
        };
        let six = Some(format!("sha256:{}", "6".repeat(64)));
        assert_eq!(before(vec![promoted(1, "6"), record(2, "7")]), six);
        assert_eq!(before(vec![promoted(1, "6"), promoted(2, "7")]), six, "rendered again");
        assert_eq!(before(vec![promoted(1, "6"), record(2, "8"), record(3, "7")]), six);
        assert_eq!(before(vec![promoted(1, "7")]), None);
    }

    #[test]
    fn another_record_is_another_content_hash() {
        assert_ne!(
            compute_revision(&spec(json!({})), "sha256:1").content_hash,
            compute_revision(&spec(json!({})), "sha256:2").content_hash
        );
    }

    #[test]
    fn the_revision_hash_of_a_content_never_changes() {
        let content = compute_revision(
            &spec(json!({"spec": {"containers": [{"name": "model", "image": "a"}]}})),
            "sha256:1",
        );
        assert_eq!(
            content.revision_hash,
            "v1:sha256:f13c82f6cd652c6dafcb2cd88a1b7f2d46e3977db4cec611a809909b4cc21f82"
        );
    }
}
