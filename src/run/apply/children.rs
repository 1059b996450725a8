//! Writes of the Deployment and the Service, and what their answers mean.

use kube::core::response::Status;
use serde_json::Value;

use super::{Answer, Applied, Error, Hand, taken::is_name_taken};
use crate::{
    plan::{
        Action, Lookup, Observed,
        action::{Purpose, identify_patch},
        patch::guard_generation,
    },
    run::kinds::Kind,
};

/// The state of the Deployment that a patch left.
pub(super) struct Patched {
    generation: i64,
    resource_version: String,
}

impl Patched {
    fn read(answer: &Answer) -> Self {
        let metadata = &answer.0.metadata;
        Self {
            generation: metadata.generation.unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// The name of a patch in metrics and logs.
fn name_patch(purpose: Purpose, reverts: &[String], in_vain: bool) -> &'static str {
    match (purpose, reverts.is_empty()) {
        (_, false) if in_vain => "revert_ineffective",
        (Purpose::Decision(_), false) => "revert_drift",
        (Purpose::Settings, _) => "patch_settings",
        (Purpose::Decision(_), true) => "patch_workload",
    }
}

impl Hand<'_, Observed> {
    pub(super) async fn create_workload(&self, name: &str, body: &Value) -> Result<Applied, Error> {
        match self.post(Kind::Deployment, body).await {
            Ok(_) => {
                self.count("create_workload", Kind::Deployment, name);
                Ok(Applied::Done)
            }
            Err(error) if is_name_taken(&error) => {
                Ok(self.ask(Lookup::Deployment(name.to_owned())))
            }
            Err(source) => Err(self.error("create Deployment", name, source)),
        }
    }

    pub(super) async fn create_service(&self, name: &str, body: &Value) -> Result<Applied, Error> {
        match self.post(Kind::Service, body).await {
            Ok(_) => {
                self.count("create_service", Kind::Service, name);
                Ok(Applied::Done)
            }
            Err(error) if is_name_taken(&error) => Ok(self.ask(Lookup::Service(name.to_owned()))),
            Err(source) => Err(self.error("create Service", name, source)),
        }
    }

    /// The next pass does a live read first.
    fn ask(&self, lookup: Lookup) -> Applied {
        let mut memo = self.memo();
        if !memo.asked.contains(&lookup) {
            memo.asked.push(lookup);
        }
        Applied::Again
    }

    /// Patches the Deployment that was seen, in the state that was seen or that the patch before
    /// left.
    pub(super) async fn patch_workload(
        &self,
        action: &Action,
        patched: &mut Option<Patched>,
    ) -> Result<Applied, Error> {
        let Action::PatchDeployment { name, purpose, uid, generation, reverts, ops } = action
        else {
            return Ok(Applied::Done);
        };
        let seen = self.seen.find_deployment(name);
        let before = patched.take().unwrap_or_else(|| Patched {
            generation: *generation,
            resource_version: seen.map(|w| w.meta.resource_version.clone()).unwrap_or_default(),
        });
        let guarded = guard_generation(uid, before.generation, ops.clone());
        match self.send_patch(Kind::Deployment, name, &guarded).await? {
            Ok(answer) => {
                let after = Patched::read(&answer);
                let unchanged = after.resource_version == before.resource_version;
                let mut memo = self.memo();
                // It may be known from a live read only; that read is over.
                memo.workload = None;
                // A status may have been written meanwhile: only the generation tells.
                let in_vain = !reverts.is_empty() && after.generation == before.generation;
                if in_vain {
                    memo.came_back.extend(reverts.iter().cloned());
                } else if *purpose == Purpose::Settings {
                    // A template that nobody decided is never left for a while.
                    memo.note_reverts(reverts);
                }
                drop(memo);
                self.count(name_patch(*purpose, reverts, in_vain), Kind::Deployment, name);
                let decision = matches!(purpose, Purpose::Decision(_));
                let by_label_alone = decision && after.generation == before.generation;
                *patched = Some(after);
                if in_vain {
                    // The Events of this plan would tell that the values were reverted.
                    return Ok(Applied::Again);
                }
                // Kubernetes has nothing to do for a label, and no watch will tell.
                Ok(if by_label_alone && !unchanged { Applied::Unanswered } else { Applied::Done })
            }
            Err(error) if self.is_moved_on(&error, name, &guarded) => {
                Ok(self.moved_on(Kind::Deployment))
            }
            Err(source) => Err(self.error("patch Deployment", name, source)),
        }
    }

    pub(super) async fn patch(
        &self,
        kind: Kind,
        name: &str,
        ops: &[Value],
        reverts: &[String],
    ) -> Result<Applied, Error> {
        match self.send_patch(kind, name, ops).await? {
            Ok(answer) => {
                if kind == Kind::Service {
                    let seen = self.seen.service.as_ref();
                    let before = seen.map(|s| s.meta.resource_version.as_str());
                    let mut memo = self.memo();
                    memo.service = None;
                    if answer.0.metadata.resource_version.as_deref() == before {
                        memo.came_back.extend(reverts.iter().cloned());
                    }
                }
                self.count("patch", kind, name);
                Ok(Applied::Done)
            }
            Err(error) if self.is_moved_on(&error, name, ops) => Ok(self.moved_on(kind)),
            Err(source) => {
                let verb = match kind {
                    Kind::Service => "patch Service",
                    Kind::ModelRollout => "patch ModelRollout",
                    _ => "patch",
                };
                Err(self.error(verb, name, source))
            }
        }
    }

    /// Whether a precondition of a patch no longer holds. A 422 without causes may also be a
    /// webhook's: it is one where the same patch of the same state was answered so before.
    fn is_moved_on(&self, error: &kube::Error, name: &str, ops: &[Value]) -> bool {
        let unclear = matches!(error, kube::Error::Api(status) if status.code == 422);
        moved_on(error) && !(unclear && self.memo().is_answered_again(&(name, identify_patch(ops))))
    }

    /// The object is not what it was when it was observed; what was read live is forgotten.
    fn moved_on(&self, kind: Kind) -> Applied {
        let mut memo = self.memo();
        match kind {
            Kind::Deployment => memo.workload = None,
            Kind::Service => memo.service = None,
            _ => {}
        }
        Applied::Behind
    }
}

/// A patch whose preconditions do not hold any more: 404, 409, or a 422 that names no field.
pub(super) fn moved_on(error: &kube::Error) -> bool {
    let causes = |status: &Status| status.details.as_ref().is_some_and(|d| !d.causes.is_empty());
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409) || (status.code == 422 && !causes(status)))
}
