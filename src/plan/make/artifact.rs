//! Delivery of the artifact to the pod: an init container that fetches it, or an image that the
//! kubelet mounts.

use serde_json::{Map, Value, json};

use super::{Error, Source, template::take_list};
use crate::{
    api::{
        deployment::{Cache, DeliveryMode},
        names,
        version::Artifact,
    },
    plan::{
        drift::is_empty_value,
        make::fetch_container::{self, ARTIFACT_VOLUME, CACHE_VOLUME, Fetcher},
    },
};

/// Path at which the container `model` finds the artifact.
pub(super) const MODELS: &str = "/mnt/models";
/// Path to which the init container writes an artifact for this pod alone.
const ARTIFACT: &str = "/mnt/rollmodel";
/// Path at which the init container has the cache.
const CACHE: &str = "/mnt/rollmodel-cache";

/// Adds the volumes, mounts and init container that deliver the artifact.
pub(super) fn deliver_artifact(
    source: &Source<'_>,
    spec: &mut Map<String, Value>,
) -> Result<(), Error> {
    let Some((artifact, digest)) = source.artifact.zip(source.delivered.digest) else {
        return Ok(());
    };
    let (mount, volumes) = match source.delivered.mode {
        DeliveryMode::InImage => return Ok(()),
        DeliveryMode::ImageVolume => mount_image(source, artifact, digest),
        DeliveryMode::Init => mount_fetched(source, spec, artifact, digest)?,
    };
    add_volumes(spec, volumes)?;
    mount_models(spec, mount)
}

/// The mount of the container `model`, and volumes for it and for the init container.
type Mounted = (Value, Vec<Value>);

fn mount_image(source: &Source<'_>, artifact: &Artifact, digest: &str) -> Mounted {
    let reference =
        fetch_container::build_image_reference(&artifact.uri, digest).unwrap_or_default();
    let mut mount = json!({"name": ARTIFACT_VOLUME, "mountPath": MODELS, "readOnly": true});
    if let Some(path) = source.delivery.and_then(|d| d.sub_path.as_deref()) {
        mount["subPath"] = json!(path);
    }
    (
        mount,
        vec![json!({
            "name": ARTIFACT_VOLUME,
            "image": {"reference": reference, "pullPolicy": "IfNotPresent"},
        })],
    )
}

fn mount_fetched(
    source: &Source<'_>,
    spec: &mut Map<String, Value>,
    artifact: &Artifact,
    digest: &str,
) -> Result<Mounted, Error> {
    let version = || names::version_name(source.model, source.version);
    if let Some(claim) = fetch_container::find_claim_name(&artifact.uri)
        .filter(|claim| !fetch_container::is_claim_name(claim))
    {
        return Err(Error::NoClaim(version(), claim.to_owned()));
    }
    let written = source.delivery.and_then(|d| d.credentials_secret.as_ref());
    let usual =
        source.policy.and_then(|p| p.delivery.as_ref()).and_then(|d| d.credentials_secret.as_ref());
    let credentials = written.or(usual).map(|secret| secret.name.as_str());
    let fetcher = Fetcher { artifact, digest: Some(digest), credentials, policy: source.policy };
    let (place, mut volumes, store) = match source.delivery.and_then(|d| d.cache.as_ref()) {
        None => build_pod_volume(),
        Some(cache) => build_cache_volume(artifact, digest, source.before, cache)?,
    };
    volumes.extend(fetcher.build_volumes());
    let mut args = vec!["fetch".to_owned(), artifact.uri.clone()];
    args.extend(place.args);
    args.extend(fetcher.build_args());
    args.extend((artifact.unpack == Some(true)).then(|| "--unpack".to_owned()));
    let mut mounts = vec![place.mount];
    mounts.extend(fetcher.build_mounts());
    let image = source.fetch_image.unwrap_or_default();
    let ours = fetch_container::build_container(image, &args, &fetcher.build_env(), &mounts);
    if !put_init_container(spec, ours) {
        return Err(Error::NoFetchImage(version()));
    }
    Ok((store, volumes))
}

/// The destination of the init container.
struct Place {
    args: Vec<String>,
    mount: Value,
}

/// Builds a volume of the pod's own.
fn build_pod_volume() -> (Place, Vec<Value>, Value) {
    let args = vec!["--to".to_owned(), format!("{ARTIFACT}/model")];
    let place = Place { args, mount: json!({"name": ARTIFACT_VOLUME, "mountPath": ARTIFACT}) };
    let mount =
        json!({"name": ARTIFACT_VOLUME, "mountPath": MODELS, "subPath": "model", "readOnly": true});
    (place, vec![json!({"name": ARTIFACT_VOLUME, "emptyDir": {}})], mount)
}

/// Builds the volume of the cache, in which every artifact has a directory named by its digest.
fn build_cache_volume(
    artifact: &Artifact,
    digest: &str,
    before: Option<&str>,
    cache: &Cache,
) -> Result<(Place, Vec<Value>, Value), Error> {
    let (claim, limit) = (&cache.claim_name, cache.size_limit.as_deref());
    let mut args = vec!["--cache".to_owned(), CACHE.to_owned()];
    if let Some(limit) = limit {
        let bytes = fetch_container::parse_size_bytes(limit)
            .ok_or_else(|| Error::NoSize(limit.to_owned()))?;
        args.extend(["--cache-size-limit".to_owned(), bytes.to_string()]);
        // The serving artifact is the rollback target, and must not be evicted to make room.
        args.extend(
            before
                .filter(|before| *before != digest)
                .map(|before| format!("--cache-keep={before}")),
        );
    }
    let place = Place { args, mount: json!({"name": CACHE_VOLUME, "mountPath": CACHE}) };
    let unpacked = if artifact.unpack == Some(true) { "-unpacked" } else { "" };
    let path = format!("models/{}{unpacked}", digest.replace(':', "-"));
    let mount =
        json!({"name": CACHE_VOLUME, "mountPath": MODELS, "subPath": path, "readOnly": true});
    Ok((
        place,
        vec![json!({"name": CACHE_VOLUME, "persistentVolumeClaim": {"claimName": claim}})],
        mount,
    ))
}

/// Puts our init container first, or completes the one that the user wrote, in its place. Returns
/// false if nobody names an image.
fn put_init_container(spec: &mut Map<String, Value>, ours: Value) -> bool {
    let mut containers = take_list(spec, "initContainers");
    let at = containers.iter().position(|c| c["name"] == names::FETCH);
    let whole = match at.and_then(|at| containers.get(at)).and_then(Value::as_object) {
        Some(theirs) => complete_init_container(theirs.clone(), ours),
        None => ours,
    };
    let named = !is_empty_value(&whole["image"]);
    match at.and_then(|at| containers.get_mut(at)) {
        Some(slot) => *slot = whole,
        None => containers.insert(0, whole),
    }
    spec.insert("initContainers".into(), Value::Array(containers));
    named
}

/// Completes the init container that the user wrote: its fields stay, except those that the
/// operator needs.
fn complete_init_container(mut theirs: Map<String, Value>, mut ours: Value) -> Value {
    // It has to finish before the server starts, and its termination message has to be found.
    for field in [
        "restartPolicy",
        "restartPolicyRules",
        "lifecycle",
        "terminationMessagePath",
        "terminationMessagePolicy",
    ] {
        theirs.remove(field);
    }
    for field in ["image", "resources", "securityContext"] {
        if theirs.get(field).is_some_and(|value| !is_empty_value(value)) {
            ours[field] = theirs.remove(field).unwrap_or_default();
        }
    }
    for (field, key) in [("env", "name"), ("volumeMounts", "mountPath")] {
        let mut all = take_list(&mut theirs, field);
        let mine = ours[field].as_array().cloned().unwrap_or_default();
        all.retain(|item| !mine.iter().any(|m| m[key] == item[key]));
        all.extend(mine);
        ours[field] = Value::Array(all);
    }
    if let Value::Object(ours) = ours {
        theirs.extend(ours);
    }
    Value::Object(theirs)
}

fn add_volumes(spec: &mut Map<String, Value>, ours: Vec<Value>) -> Result<(), Error> {
    let mut volumes = take_list(spec, "volumes");
    for (index, volume) in volumes.iter().enumerate() {
        if let Some(name) =
            volume["name"].as_str().filter(|name| fetch_container::VOLUMES.contains(name))
        {
            return Err(Error::VolumeTaken {
                path: format!("spec.template.spec.volumes[{index}].name"),
                name: name.to_owned(),
            });
        }
    }
    volumes.extend(ours);
    spec.insert("volumes".into(), Value::Array(volumes));
    Ok(())
}

/// Mounts the artifact into the container `model`, and sets the variables with its path.
fn mount_models(spec: &mut Map<String, Value>, mount: Value) -> Result<(), Error> {
    let mut containers = take_list(spec, "containers");
    let index = containers.iter().position(|c| c["name"] == names::CONTAINER).unwrap_or_default();
    let Some(model) = containers.get_mut(index).and_then(Value::as_object_mut) else {
        return Ok(());
    };
    let mut mounts = take_list(model, "volumeMounts");
    let below = |path: &str| {
        path.strip_prefix(MODELS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(taken) = mounts.iter().position(|m| m["mountPath"].as_str().is_some_and(below)) {
        return Err(Error::MountTaken(format!(
            "spec.template.spec.containers[{index}].volumeMounts[{taken}].mountPath"
        )));
    }
    mounts.push(mount);
    model.insert("volumeMounts".into(), Value::Array(mounts));
    let mut env = take_list(model, "env");
    if !env.iter().any(|e| e["name"] == "MODEL_DIR") {
        env.push(json!({"name": "MODEL_DIR", "value": MODELS}));
    }
    model.insert("env".into(), Value::Array(env));
    spec.insert("containers".into(), Value::Array(containers));
    Ok(())
}

#[cfg(test)]
mod tests;
