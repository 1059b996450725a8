//! Backups as tools take them, and restores in the orders that they have: new uids, no status, no
//! owner references, and gaps between the kinds.

use std::sync::Arc;

use rollmodel::{
    api::ModelDeploymentSpec,
    plan::observed::{Meta, Record, Request, Service, StoredRevision, Version},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    cluster::{Cluster, ModelDeploymentObject},
    operator::{keep_restored_metadata, timestamp},
    rejections::Rejections,
};

/// What a backup holds.
#[derive(Clone, Debug)]
pub struct Backup {
    spec: Option<ModelDeploymentSpec>,
    versions: Vec<Version>,
    records: Vec<Record>,
    pub revisions: Vec<StoredRevision>,
    requests: Vec<Request>,
    deployment: Option<Arc<Value>>,
    service: Option<Service>,
    /// What the records of the backup reject.
    rejections: Rejections,
}

impl Backup {
    /// Whether a promoted record of the backup needs a stored revision.
    pub fn needs(&self, revision: &str) -> bool {
        self.records.iter().any(|r| r.spec.is_promoted() && r.spec.revision_name == revision)
    }
}

/// The order in which kinds come back, each a few ticks after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Core kinds, then custom resources by name: ModelDeployments, ModelRollouts, ModelVersions.
    ByName,
    /// ModelVersions before the ModelDeployment, the records last.
    VersionsFirst,
    /// The records before the ModelDeployment.
    RecordsFirst,
}

#[derive(Clone, Copy)]
enum Part {
    Revisions,
    Children,
    ModelDeployment,
    Records,
    Versions,
    Requests,
}

impl Order {
    fn parts(self) -> [Part; 6] {
        use Part::{Children, ModelDeployment, Records, Requests, Revisions, Versions};
        match self {
            Self::ByName => [Revisions, Children, ModelDeployment, Records, Versions, Requests],
            Self::VersionsFirst => {
                [Revisions, Children, Versions, ModelDeployment, Requests, Records]
            }
            Self::RecordsFirst => {
                [Records, Revisions, Versions, Children, Requests, ModelDeployment]
            }
        }
    }
}

/// Ticks between two kinds of a restore.
const GAP: u8 = 3;

impl Cluster {
    pub fn take_backup(&mut self) {
        self.backup = Some(Box::new(Backup {
            spec: self.spec().cloned(),
            versions: self.versions.clone(),
            records: self.records.clone(),
            revisions: self.revisions.clone(),
            requests: self.requests.clone(),
            deployment: self.deployment.clone(),
            service: self.service.clone(),
            rejections: self.truth.rejections.clone(),
        }));
    }

    /// The namespace is lost and comes back kind by kind.
    pub fn restore_backup(&mut self, order: Order) {
        let Some(backup) = self.backup.clone() else { return };
        self.model_deployment = None;
        self.remove_children();
        self.records.clear();
        self.revisions.clear();
        self.requests.clear();
        self.versions.clear();
        self.truth.rejections.clone_from(&backup.rejections);
        self.truth.were_records_lost = false;
        self.witness_restore(true);
        if let Some(spec) = &backup.spec {
            self.witness_named(&spec.version);
        }
        for part in order.parts() {
            self.restore_part(&backup, part);
            self.operator.wake();
            (0..GAP).for_each(|_| self.tick());
        }
        self.settle();
        self.witness_restore(false);
    }

    fn restore_part(&mut self, backup: &Backup, part: Part) {
        match part {
            Part::Revisions => {
                for revision in backup.revisions.clone() {
                    let (uid, resource_version) = (self.give_uid(), self.give_resource_version());
                    self.revisions.push(StoredRevision { uid, resource_version, ..revision });
                }
            }
            Part::Records => {
                for record in backup.records.clone() {
                    let (uid, resource_version) = (self.give_uid(), self.give_resource_version());
                    let restored = Some(timestamp(self.now));
                    self.records.push(Record { uid, resource_version, restored, ..record });
                }
            }
            Part::Requests => {
                for request in backup.requests.clone() {
                    let (uid, resource_version) = (self.give_uid(), self.give_resource_version());
                    self.requests.push(Request { uid, resource_version, status: None, ..request });
                }
            }
            Part::Versions => self.versions.clone_from(&backup.versions),
            Part::ModelDeployment => {
                let uid = self.give_uid();
                self.model_deployment = backup.spec.clone().map(|spec| ModelDeploymentObject {
                    uid,
                    generation: 1,
                    spec,
                    status: None,
                });
            }
            Part::Children => self.restore_children(backup),
        }
    }

    fn restore_children(&mut self, backup: &Backup) {
        if let Some(body) = &backup.deployment {
            let mut body = (**body).clone();
            keep_restored_metadata(&mut body, self.give_uid());
            body["metadata"]["generation"] = json!(0);
            self.put_deployment(body);
        }
        let (uid, resource_version) = (self.give_uid(), self.give_resource_version());
        self.service = backup.service.clone().map(|service| Service {
            meta: Meta { uid, resource_version, controller: None, ..service.meta },
            ..service
        });
    }
}
