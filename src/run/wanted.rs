//! What is kept of a ModelDeployment.

use std::sync::Arc;

use super::{
    kinds::{Kind, Packed, Watched},
    object::Object,
    recent::{Recent, Shareable},
};
use crate::{
    api::{
        ModelDeploymentSpec, ModelDeploymentStatus,
        condition::Time,
        deployment::{RevisionStatus, State},
        names,
    },
    plan::observed::ObservedModelDeployment,
};

/// A ModelDeployment, in two parts: its status changes often, and its spec seldom.
pub struct WantedEntry {
    /// What its status says serves, for `usedBy`.
    pub serving: Option<RevisionStatus>,
    /// One word of its status, for metrics.
    pub state: Option<State>,
    uid: String,
    generation: i64,
    deleting: bool,
    spec: Arc<WantedSpec>,
    status: Option<Packed<ModelDeploymentStatus>>,
}

struct WantedSpec {
    model: String,
    version: String,
    spec: Shareable<ModelDeploymentSpec>,
}

impl WantedEntry {
    /// Its model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.spec.model
    }

    /// All of it.
    ///
    /// # Errors
    /// When what was packed does not come out again.
    pub fn unpack(
        &self,
        recent: &Recent<ModelDeploymentSpec>,
    ) -> Result<ObservedModelDeployment, serde_json::Error> {
        Ok(ObservedModelDeployment {
            uid: self.uid.clone(),
            generation: self.generation,
            deleting: self.deleting,
            spec: recent.unpack(&self.spec.spec)?,
            status: self.status.as_ref().map(Packed::unpack).transpose()?,
        })
    }
}

fn read_spec(object: &Object) -> Result<WantedSpec, serde_json::Error> {
    let spec: ModelDeploymentSpec = object.spec.needed()?;
    let packed = Shareable::pack(&spec)?;
    Ok(WantedSpec { model: spec.model, version: spec.version, spec: packed })
}

impl Watched for WantedEntry {
    const KIND: Kind = Kind::ModelDeployment;

    fn read(mut object: Object, old: Option<&Self>) -> Result<Self, serde_json::Error> {
        let uid = object.metadata.uid.take().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        // The generation counts every change of the spec.
        let unchanged = old.filter(|old| (&old.uid, old.generation) == (&uid, generation));
        let spec = match unchanged {
            Some(old) => old.spec.clone(),
            None => Arc::new(read_spec(&object)?),
        };
        let status: Option<ModelDeploymentStatus> = object.status.read()?;
        let packed = status.as_ref().map(Packed::pack).transpose()?;
        Ok(Self {
            state: status.as_ref().and_then(|s| s.state),
            serving: status.and_then(|s| s.serving),
            uid,
            generation,
            deleting: object.metadata.deletion_timestamp.is_some(),
            spec,
            status: packed,
        })
    }

    fn owners(object: &Object) -> Vec<String> {
        object.metadata.name.clone().into_iter().collect()
    }

    fn versions(&self) -> Vec<String> {
        let WantedSpec { model, version, .. } = &*self.spec;
        let asked = names::version_name(model, version);
        let serving = self.serving.as_ref().map(|s| names::version_name(model, &s.version));
        let mut all: Vec<String> = std::iter::once(asked).chain(serving).collect();
        all.dedup();
        all
    }

    fn news_to_versions(old: &Self, new: &Self) -> bool {
        fn used(entry: &WantedEntry) -> Option<(&str, i64, &Time)> {
            entry.serving.as_ref().map(|s| (s.version.as_str(), s.rollout, &s.since))
        }
        used(old) != used(new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::object::sent;

    #[test]
    fn a_spec_is_read_again_only_where_the_generation_or_the_object_is_another() {
        let read = |uid: &str, generation: i64, version: &str, old: Option<&WantedEntry>| {
            let object = sent(&json!({"metadata": {"uid": uid, "generation": generation},
                "spec": {"model": "fraud", "version": version},
                "status": {"decision": generation.to_string()}}));
            WantedEntry::read(object, old).unwrap()
        };
        let recent = Recent::default();
        let unpack = |entry: &WantedEntry| entry.unpack(&recent).unwrap();
        let old = read("u", 1, "7", None);
        let same = read("u", 1, "7", Some(&old));
        assert!(Arc::ptr_eq(&old.spec, &same.spec));
        assert!(Arc::ptr_eq(&unpack(&old).spec, &unpack(&same).spec), "it is unpacked once");
        for (uid, generation) in [("u", 2), ("another", 1)] {
            let new = unpack(&read(uid, generation, "8", Some(&old)));
            assert_eq!((new.spec.version.as_str(), new.uid.as_str()), ("8", uid));
            assert_eq!(new.status.unwrap().decision, Some(generation.to_string()));
        }
    }
}
