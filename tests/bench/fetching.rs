//! `cargo bench --bench fetching`: what fetching and verifying costs beside what people would do by
//! hand, and beside KServe's storage initializer, which verifies nothing, all from one S3 server on
//! loopback.
//!
//! It measures and never fails for a figure: each is the median of the runs, and beside it stands
//! the bar that it should hold. Ratios are of times within one run.
//!
//! | variable | default | |
//! |---|---|---|
//! | `BENCH_RUNS` | 3 | runs |
//! | `BENCH_MIB` | 4096 | size of the large object |
//! | `BENCH_FILES` | 2000 | small files, of 20 KiB each |
//! | `BENCH_FETCH` | the one built with it | another rollmodel-fetch |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod figures;
#[path = "../artifacts/servers/mod.rs"]
mod servers;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use figures::Figure;
use serde_json::{Map, Value, json};
use servers::{Dir, s3::S3, tools};

const FIGURES: [Figure; 10] = [
    Figure::at_most("fetch_over_curl_and_sha256sum", 1.0, "x"),
    Figure::at_most("fetch_memory", 64.0, "MiB"),
    Figure::at_most("small_files_memory", 64.0, "MiB"),
    Figure::at_most("hit_over_hashing", 1.1, "x"),
    Figure::at_most("hit_over_sha256sum", 1.0, "x"),
    Figure::told("fetch_rate", "MiB/s"),
    Figure::told("verify_over_fetch", "x"),
    Figure::told("fetch_over_kserve", "x"),
    Figure::told("small_files_over_kserve", "x"),
    Figure::told("kserve_memory", "MiB"),
];

struct Ground {
    s3: S3,
    dir: Dir,
    fetch: PathBuf,
    kserve: PathBuf,
    mib: usize,
}

/// How long a command took, and the most memory it had.
struct Took {
    time: f64,
    memory: f64,
}

fn main() {
    let (runs, mib, files) = (
        figures::size("BENCH_RUNS", 3).max(1),
        figures::size("BENCH_MIB", 4096),
        figures::size("BENCH_FILES", 2000),
    );
    let fetch = std::env::var_os("BENCH_FETCH")
        .map_or_else(|| env!("CARGO_BIN_EXE_rollmodel-fetch").into(), PathBuf::from);
    let ground = Ground {
        s3: S3::start(),
        dir: Dir::fresh("fetching"),
        fetch,
        kserve: tools("kserve").join("bin/python"),
        mib,
    };
    figures::say(&format!("putting {mib} MiB and {files} files into a bucket"));
    ground.fill(files);
    let mut all = Vec::new();
    for number in 1..=runs {
        figures::say(&format!("run {number} of {runs}"));
        all.push(ground.run());
    }
    let rows = figures::rows(&FIGURES, &all);
    let out = servers::root().join("target/bench");
    fs::create_dir_all(&out).unwrap();
    fs::write(
        out.join("fetching.json"),
        serde_json::to_vec_pretty(&json!({"figures": rows, "runs": all})).unwrap(),
    )
    .unwrap();
    print!("{}", figures::table(&rows));
}

impl Ground {
    fn fill(&self, files: usize) {
        self.s3.make_bucket("models");
        let path = self.dir.join("large");
        let mut file = File::create(&path).unwrap();
        let mut state = 1_u64;
        let mut block = vec![0; 1024 * 1024];
        for _ in 0..self.mib {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all(&block).unwrap();
        }
        self.s3.put_file("models", "large/model.bin", &path);
        fs::remove_file(path).unwrap();
        let small = self.s3.file("models", "small");
        fs::create_dir(&small).unwrap();
        for number in 0..files {
            fs::write(small.join(format!("{number:05}.json")), format!("{number:020480}")).unwrap();
        }
    }

    fn run(&self) -> Map<String, Value> {
        let mut figures = Map::new();
        let mut figure = |name: &str, value: f64| figures.insert(name.into(), json!(value));
        let curl = self.by_hand();
        let fetch = self.fetch(&["fetch", "s3://models/large/model.bin", "--to"], Some("large"));
        let digest = self.digest();
        let hashing = self.fetch(&["digest", "./large/model.bin"], None);
        let hit = self.fetch(
            &["fetch", "s3://models/large/model.bin", "--digest", &digest, "--to"],
            Some("large"),
        );
        let sha256sum = self.timed(
            Command::new("sha256sum").arg(self.dir.join("large/model.bin")).stdout(Stdio::null()),
        );
        self.clean("large");
        let verify = self.fetch(&["verify", "s3://models/large/model.bin"], None);
        let kserve = self.kserve("s3://models/large/model.bin");
        let small = self.fetch(&["fetch", "s3://models/small/", "--to"], Some("small"));
        self.clean("small");
        let kserve_small = self.kserve("s3://models/small/");
        figure("fetch_over_curl_and_sha256sum", fetch.time / curl.time);
        figure("fetch_rate", self.mib as f64 / fetch.time);
        figure("fetch_memory", fetch.memory.max(hit.memory).max(verify.memory));
        figure("small_files_memory", small.memory);
        figure("hit_over_hashing", hit.time / hashing.time);
        figure("hit_over_sha256sum", hit.time / sha256sum.time);
        figure("verify_over_fetch", verify.time / fetch.time);
        figure("fetch_over_kserve", fetch.time / kserve.time);
        figure("small_files_over_kserve", small.time / kserve_small.time);
        figure("kserve_memory", kserve.memory);
        for (name, took) in [
            ("curl", curl),
            ("fetch", fetch),
            ("hit", hit),
            ("sha256sum", sha256sum),
            ("verify", verify),
            ("hashing", hashing),
        ] {
            figure(&format!("seconds_{name}"), took.time);
        }
        for (name, took) in [("kserve", kserve), ("small", small), ("kserve_small", kserve_small)] {
            figure(&format!("seconds_{name}"), took.time);
        }
        figures
    }

    /// `curl | tee file | sha256sum`.
    fn by_hand(&self) -> Took {
        let curl = self.s3.curl();
        let mut line = vec![curl.get_program().to_string_lossy().into_owned()];
        line.extend(curl.get_args().map(|a| a.to_string_lossy().into_owned()));
        let quoted: Vec<String> = line.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "{} '{}' | tee '{}' | sha256sum",
            quoted.join(" "),
            self.s3.url("models", "large/model.bin"),
            self.dir.join("by-hand").display()
        );
        let took = self.timed(
            Command::new("bash").args(["-o", "pipefail", "-ec", &script]).stdout(Stdio::null()),
        );
        fs::remove_file(self.dir.join("by-hand")).unwrap();
        took
    }

    fn fetch(&self, args: &[&str], to: Option<&str>) -> Took {
        let mut command = Command::new(&self.fetch);
        command
            .args(args)
            .args(to.map(|name| self.dir.join(name)))
            .args(["--allow-host", "127.0.0.0/8"]);
        self.timed(
            command
                .current_dir(self.dir.path())
                .env_clear()
                .envs(S3::env())
                .env("AWS_ENDPOINT_URL", self.s3.endpoint()),
        )
    }

    fn digest(&self) -> String {
        let out = Command::new(&self.fetch)
            .arg("digest")
            .arg(self.dir.join("large/model.bin"))
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    fn kserve(&self, uri: &str) -> Took {
        let to = self.dir.join("kserve");
        let script = "import sys; from kserve_storage import Storage; Storage.download(sys.argv[1], sys.argv[2])";
        let mut command = Command::new(&self.kserve);
        command
            .args(["-c", script, uri])
            .arg(&to)
            .envs(S3::env())
            .env("AWS_ENDPOINT_URL", self.s3.endpoint())
            .env("S3_VERIFY_SSL", "0");
        let took = self.timed(command.stdout(Stdio::null()).stderr(Stdio::null()));
        assert!(
            fs::read_dir(&to).unwrap().next().is_some(),
            "KServe's initializer fetched nothing"
        );
        self.clean("kserve");
        took
    }

    fn clean(&self, name: &str) {
        fs::remove_dir_all(self.dir.join(name)).unwrap();
        // What was written is not to be written back while the next is measured.
        rustix::fs::sync();
    }

    /// Runs a command that has to succeed.
    fn timed(&self, command: &mut Command) -> Took {
        rustix::fs::sync();
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut memory: f64 = 0.0;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            memory = memory.max(peak(child.id()));
            std::thread::park_timeout(Duration::from_millis(5));
        };
        assert!(status.success(), "{command:?} ended with {status}");
        Took { time: began.elapsed().as_secs_f64(), memory }
    }
}

/// The most memory that a process had so far, in MiB.
fn peak(pid: u32) -> f64 {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))
        .unwrap_or_default();
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    });
    kib.unwrap_or_default() / 1024.0
}
