//! A Hugging Face hub in memory: what `huggingface_hub` asks for when it downloads, and a content
//! delivery network on another host. A test holds it to that client.
//!
//! Regular files are served by the hub, their ETag is git's name of them; files of weights are
//! LFS's, served by the network.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{Router, body::Bytes};
use sha1::Sha1;
use sha2::{Digest, Sha256};

mod answers;
mod network;

use super::serve::Serving;

/// A token that may read every repository.
pub const TOKEN: &str = "hf_rollmodelTestGranted";
/// A token that the hub knows, and that was not given access to gated repositories, nor sees
/// private ones.
pub const OTHER_TOKEN: &str = "hf_rollmodelTestOther";

/// A running hub; dropping it ends it.
pub struct Hub {
    shared: Arc<Shared>,
    hub: Serving,
    network: Serving,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    repositories: BTreeMap<String, Repository>,
    /// How many entries of a tree are on a page.
    page: usize,
    /// Where links to the network point.
    network: SocketAddr,
    /// Goes up when the network's links expire.
    generation: u64,
}

#[derive(Default)]
struct Repository {
    access: Access,
    /// Commits by name, and which each branch or tag points to.
    commits: BTreeMap<String, BTreeMap<String, File>>,
    refs: BTreeMap<String, String>,
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    #[default]
    Public,
    /// Everybody sees it; its files are for who was given access.
    Gated,
    /// Only who was given access knows that it exists.
    Private,
}

#[derive(Clone)]
struct File {
    bytes: Bytes,
    /// Git's name of the file: of its pointer, when it is LFS's.
    oid: String,
    lfs: Option<Lfs>,
}

#[derive(Clone)]
struct Lfs {
    sha256: String,
    pointer_size: usize,
}

impl Hub {
    /// Starts one without repositories.
    pub fn start() -> Self {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let state =
            State { repositories: BTreeMap::new(), page: 1000, network: unknown, generation: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let (for_hub, for_network) = (shared.clone(), shared.clone());
        let hub = Serving::start(
            Router::new().fallback(move |request| answers::answer(for_hub.clone(), request)),
        );
        // Another host, not just another port: clients must not send their token there.
        let router =
            Router::new().fallback(move |request| network::answer(for_network.clone(), request));
        let network = Serving::start_on(Ipv4Addr::new(127, 0, 0, 2), router);
        shared.state().network = network.address();
        Self { shared, hub, network }
    }

    /// Its address, for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        self.hub.url()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.hub.address().port()
    }

    /// The address of the network: what a proxy would stand before.
    pub fn network(&self) -> SocketAddr {
        self.network.address()
    }

    /// Commits files to the branch `main` of a repository, which is made when it is not there, and
    /// gives the commit's name. The files are all that the commit has.
    pub fn commit(&self, id: &str, files: &[(&str, &[u8])]) -> String {
        let files: BTreeMap<String, File> =
            files.iter().map(|&(path, bytes)| (path.to_owned(), File::new(path, bytes))).collect();
        let mut state = self.shared.state();
        let repository = state.repositories.entry(id.to_owned()).or_default();
        let mut hash = Sha1::new_with_prefix(repository.commits.len().to_string());
        files.iter().for_each(|(path, file)| hash.update(format!("{path} {}\n", file.oid)));
        let commit = super::hex(hash.finalize());
        repository.commits.insert(commit.clone(), files);
        repository.refs.insert("main".into(), commit.clone());
        commit
    }

    /// Points a branch or tag to a commit.
    pub fn tag(&self, id: &str, name: &str, commit: &str) {
        let mut state = self.shared.state();
        let repository = state.repositories.get_mut(id).expect("a repository");
        repository.refs.insert(name.into(), commit.into());
    }

    /// Says who may read a repository.
    pub fn set_access(&self, id: &str, access: Access) {
        self.shared.state().repositories.get_mut(id).expect("a repository").access = access;
    }

    /// Says how many entries of a tree are on a page; 1000 as long as nothing was said.
    pub fn set_page(&self, entries: usize) {
        self.shared.state().page = entries;
    }

    /// Lets links to the network point elsewhere, to a proxy before it.
    pub fn set_network(&self, address: SocketAddr) {
        self.shared.state().network = address;
    }

    /// Makes the network refuse every link given so far, as it does after an hour.
    pub fn expire_links(&self) {
        self.shared.state().generation += 1;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

impl State {
    /// The signature of a link that has not expired.
    fn signature(&self, sha256: &str) -> String {
        super::hex(Sha256::digest(format!("{sha256} {}", self.generation)))
    }
}

impl File {
    fn new(path: &str, bytes: &[u8]) -> Self {
        // What the hub's .gitattributes of new repositories has, as far as models need it.
        let weights = [".safetensors", ".bin", ".gguf", ".pt", ".onnx", ".h5"]
            .iter()
            .any(|end| path.ends_with(end));
        let (oid, lfs) = if weights {
            let sha256 = super::hex(Sha256::digest(bytes));
            let pointer = format!(
                "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n",
                bytes.len()
            );
            (git_oid("blob", pointer.as_bytes()), Some(Lfs { sha256, pointer_size: pointer.len() }))
        } else {
            (git_oid("blob", bytes), None)
        };
        Self { bytes: Bytes::copy_from_slice(bytes), oid, lfs }
    }
}

/// Git's name of an object.
fn git_oid(kind: &str, bytes: &[u8]) -> String {
    super::hex(
        Sha1::new_with_prefix(format!("{kind} {}\0", bytes.len())).chain_update(bytes).finalize(),
    )
}
