//! Versions that ask for devices, of which there are few, as those that need a GPU do.

use serde_json::{Value, json};

use crate::{
    corner::{Corner, spec},
    harness::certs::NODE,
    models::{BETTER, GOOD},
    node::MLSERVER,
};

const DEVICE: &str = "example.com/gpu";

/// As many devices on the node as a plugin would tell the kubelet of.
fn give_devices(corner: &Corner, count: u32) {
    let path = format!("/status/capacity/{}", DEVICE.replace('/', "~1"));
    let patch = json!([{"op": "add", "path": path, "value": count.to_string()}]).to_string();
    corner.story.kubectl(&[
        "patch",
        "node",
        NODE,
        "--subresource=status",
        "--type=json",
        "-p",
        &patch,
    ]);
    let offered = || {
        corner.story.get("node", NODE)["status"]["allocatable"][DEVICE] == json!(count.to_string())
    };
    corner.story.until_true("the kubelet offers the devices", offered);
}

/// A server that is there and gone at once, where MLServer takes ten seconds a pod to load what it
/// is made of: ready as long as it has the model.
const SERVER: &str = "
from http.server import BaseHTTPRequestHandler, HTTPServer
from os.path import exists
from signal import SIGTERM, signal

class Ping(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if exists('/mnt/models/MLmodel') else 503)
        self.end_headers()

signal(SIGTERM, lambda *_: exit())
HTTPServer(('', 8080), Ping).serve_forever()
";

/// Four pods with a device each.
fn with_devices(version: &str, surge: u32, unavailable: u32) -> Value {
    let mut spec = spec(version, 4);
    spec["protocol"] = json!("HTTP");
    // A pod that drains keeps its device, and the next one waits for it.
    spec["template"]["spec"]["terminationGracePeriodSeconds"] = json!(2);
    let container = &mut spec["template"]["spec"]["containers"][0];
    container["resources"]["limits"] = json!({DEVICE: "1"});
    container["command"] = json!(["/usr/local/bin/python3", "-c", SERVER]);
    spec["strategy"] = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
    spec
}

#[test]
#[ignore = "needs root and a machine of its own: make e2e"]
fn a_rolling_update_of_four_fits_into_five_devices_and_what_does_not_fit_is_told() {
    let corner = Corner::begin("devices");
    give_devices(&corner, 5);
    corner.import(MLSERVER);
    corner.deploy(with_devices(GOOD, 1, 0));
    corner.story.serves(GOOD);
    corner.deploy(with_devices(BETTER, 1, 0));
    corner.story.serves(BETTER);
    // A device fewer leaves none for a surge.
    give_devices(&corner, 4);
    corner.deploy(with_devices(GOOD, 1, 0));
    let short = format!("1 Insufficient {DEVICE}");
    let mdep = corner.story.until("it says what is short", |o| {
        o["status"]["message"].as_str().is_some_and(|m| m.contains(&short))
    });
    assert_eq!(mdep["status"]["serving"]["version"], BETTER);
    corner.deploy(with_devices(GOOD, 0, 1));
    corner.story.serves(GOOD);
}
