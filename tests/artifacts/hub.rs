//! `hf://`, on a hub whose answers are held to the `huggingface_hub` client.

use crate::{
    fetcher::{Fetcher, noise, sha256, tree},
    servers::hub::{Access, Hub, OTHER_TOKEN, TOKEN},
};

const MIB: usize = 1024 * 1024;

fn fetcher(hub: &Hub) -> Fetcher {
    Fetcher::new().env([("HF_ENDPOINT", hub.endpoint())])
}

#[test]
fn a_repository_is_fetched_at_a_commit_whatever_moves_meanwhile() {
    let (hub, weights) = (Hub::start(), noise(1, 6 * MIB));
    hub.set_page(2);
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("deep/er/vocab.txt", b"a"),
        ("model.safetensors", &weights),
        ("ünïcode name.txt", b"b"),
        (".gitattributes", b"c"),
    ];
    let commit = hub.commit("acme/fraud", &files);
    hub.tag("acme/fraud", "v1", &commit);
    hub.commit("acme/fraud", &[("config.json", b"another")]);
    for revision in ["v1", &commit] {
        let fetcher = fetcher(&hub);
        fetcher.fetch(&format!("hf://acme/fraud@{revision}"), &[]).verified();
        let mut want: Vec<_> =
            files[..4].iter().map(|(name, bytes)| (name.into(), bytes.to_vec())).collect();
        want.sort();
        assert_eq!(tree(&fetcher.model()), want);
    }
    let one = fetcher(&hub);
    one.fetch("hf://acme/fraud@v1/model.safetensors", &["--digest", &sha256(&weights)]).verified();
    let part = fetcher(&hub);
    part.fetch("hf://acme/fraud@v1/deep", &[]).verified();
    assert_eq!(tree(&part.model()), [("er/vocab.txt".into(), b"a".to_vec())]);
}

#[test]
fn a_gated_repository_needs_a_token_that_is_never_sent_to_the_network() {
    let hub = Hub::start();
    hub.commit("acme/fraud", &[("model.bin", &noise(2, MIB))]);
    hub.set_access("acme/fraud", Access::Gated);
    let with = |token: &str| fetcher(&hub).env([("HF_TOKEN", token)]);
    let ran = fetcher(&hub).fetch("hf://acme/fraud@main", &[]);
    ran.troubled("Unauthorized");
    let ran = with(OTHER_TOKEN).fetch("hf://acme/fraud@main", &[]);
    assert!(
        ran.troubled("Unauthorized").contains("the credentials given do not allow it"),
        "{ran:?}"
    );
    assert!(!format!("{ran:?}").contains(OTHER_TOKEN));
    // The network of the tests refuses whoever sends a token.
    with(TOKEN).fetch("hf://acme/fraud@main", &[]).verified();
    let ran = with(TOKEN).fetch("hf://acme/none@main", &[]);
    assert_eq!(ran.failed("NotFound"), "There is nothing at hf://acme/none@main (404).");
}
