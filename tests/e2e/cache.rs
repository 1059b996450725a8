//! A cache on a claim: a large artifact is downloaded once, whatever pods and rollbacks come after.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use serde_json::{Value, json};

use crate::{
    corner::{Corner, spec},
    harness::root,
    models::{BETTER, GOOD},
    node::MLSERVER,
};

/// How large the artifact is, in bytes.
const SIZE: u64 = 2 << 30;

/// A claim on a directory of the node, bound as a provisioner would; gives the directory.
fn claim(corner: &Corner, name: &str) -> PathBuf {
    let directory = root().join("target/tmp/claims").join(name);
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    let (story, volume) = (&corner.story, format!("{}-{name}", corner.story.namespace));
    let (modes, room) = (json!(["ReadWriteMany"]), json!({"storage": "10Gi"}));
    story.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"accessModes": modes, "storageClassName": "", "volumeName": volume, "resources": {"requests": room}}}));
    let uid = story.get("pvc", name)["metadata"]["uid"].clone();
    story.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": {"capacity": room, "accessModes": modes,
        "hostPath": {"path": directory}, "claimRef": {"namespace": story.namespace, "name": name, "uid": uid}}}));
    story.set_bound(&volume, name);
    directory
}

/// What the fetching containers of the pods of a version said at their end.
fn fetches(corner: &Corner, version: &str) -> Vec<String> {
    let of = |pod: &Value| {
        pod["metadata"]["labels"]["rollmodel.dev/version"] == version
            && pod["metadata"].get("deletionTimestamp").is_none()
    };
    let said = |pod: &Value| {
        pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    corner.story.list("pods").iter().filter(|pod| of(pod)).map(said).collect()
}

#[test]
#[ignore = "needs root and a machine of its own: make e2e"]
fn a_large_artifact_is_downloaded_once_and_second_pods_and_rollbacks_download_nothing() {
    let corner = Corner::begin("cache");
    let claimed = claim(&corner, "model-cache");
    let weights = root().join("target/tmp/weights.bin");
    fs::write(&weights, "weights").unwrap();
    corner.models.add(GOOD, &weights);
    // It grows where it is: what is not written takes no room on this disk.
    let stored = corner.models.file(GOOD, "weights.bin");
    File::options().write(true).open(stored).unwrap().set_len(SIZE).unwrap();
    corner.import(MLSERVER);
    let mut wanted = spec(GOOD, 1);
    wanted["delivery"]["cache"] = json!({"claimName": "model-cache", "sizeLimit": "8Gi"});
    corner.deploy(wanted);
    corner.story.serves(GOOD);
    let first = fetches(&corner, GOOD);
    assert!(
        first.len() == 1 && first[0].starts_with("Verified: ") && !first[0].contains("cached"),
        "{first:?}"
    );
    // From now on the bucket has nothing to download, and is not asked for it.
    corner.models.remove(GOOD, &weights);
    let asked = corner.models.fetched(GOOD).len();
    assert!(asked > 0);
    corner.story.patch(&json!({"replicas": 2}));
    corner.story.until("two serve", |o| o["status"]["serving"]["ready"] == 2);
    assert_eq!(
        fetches(&corner, GOOD).iter().filter(|said| said.contains("cached=true")).count(),
        1
    );
    corner.story.want(BETTER);
    corner.story.serves(BETTER);
    assert_eq!(corner.story.ask("Undo")["status"]["result"], "Done");
    corner.story.settles("Held", GOOD);
    let again = fetches(&corner, GOOD);
    assert!(
        again.len() == 2 && again.iter().all(|said| said.ends_with("cached=true")),
        "{again:?}"
    );
    assert_eq!(
        corner.models.fetched(GOOD).len(),
        asked,
        "{:#?}",
        &corner.models.fetched(GOOD)[asked..]
    );
    fs::remove_dir_all(claimed).unwrap();
}
