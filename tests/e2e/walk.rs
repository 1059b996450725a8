//! The pages about MLflow, walked: every command on them is run as it stands there, on a real node,
//! with the operator in a pod.
//!
//! The same walk is the second act of the demo (`make road`: ROLLMODEL_TELL names a file that the
//! story is told to) and the recorded session of the README (`make recording`: ROLLMODEL_RECORD
//! names the asciicast to write).

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, IsTerminal, Write},
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    harness::root,
    node::{self, Node},
    page::{self, Part},
    servers::run,
    tracking::Tracking,
};

/// In the order in which they are walked.
const PAGES: [&str; 3] =
    ["docs/mlflow/platform-engineer.md", "docs/mlflow/data-scientist.md", "docs/mlflow.md"];
/// The page that is recorded: what came before it is its stage.
const RECORDED: &str = PAGES[2];
/// The recorded session, and its picture.
const RECORDING: &str = "docs/road.cast";
const PICTURE: &str = "docs/road.svg";

#[test]
#[ignore = "needs root and a machine of its own: make road"]
fn every_command_on_the_pages_about_mlflow_says_what_stands_below_it() {
    let mut teller = Teller::begin();
    teller.tell(
        "Starting a real node: containerd, kubelet and kube-proxy beside a control plane; an S3 server and MLflow's tracking server …\n",
    );
    let walk = Walk::begin();
    let mut wrong = Vec::new();
    for page in PAGES {
        teller.record(page == RECORDED);
        let text = fs::read_to_string(root().join(page)).unwrap();
        for part in page::parts(&text) {
            match part {
                Part::Heading(text) => teller.heading(&text),
                Part::Prose(text) => teller.prose(&text),
                Part::Command(command) => wrong.extend(walk.run(page, &command, &mut teller)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The stage: a directory with what the pages have in theirs, and the variables that they name.
struct Walk {
    node: &'static Node,
    directory: PathBuf,
    env: Vec<(String, String)>,
}

impl Walk {
    fn begin() -> Self {
        let starting = std::thread::spawn(|| Tracking::shared(&node::address()));
        let node = Node::shared();
        let tracking = starting.join().unwrap();
        let directory = root().join("target/tmp/walk");
        fs::create_dir_all(&directory).unwrap();
        let own =
            fs::read_dir(root().join("tests/e2e/walk")).unwrap().map(|file| file.unwrap().path());
        for file in own.chain([root().join("tests/e2e/training/shapes.py")]) {
            fs::copy(&file, directory.join(file.file_name().unwrap())).unwrap();
        }
        symlink(root(), directory.join("rollmodel")).unwrap();
        let credentials =
            tracking.credentials().into_iter().map(|(name, value)| format!("{name}={value}\n"));
        fs::write(directory.join("s3.env"), credentials.collect::<String>()).unwrap();
        // A copy, whose current namespace the pages change.
        let kubeconfig = directory.join("kubeconfig");
        fs::copy(node.cluster.kubeconfig(), &kubeconfig).unwrap();
        let programs = [node.cluster.tools().to_owned(), node::tools("serving").join("bin")]
            .map(|path| path.display().to_string());
        let path = std::env::var("PATH").unwrap_or_default();
        let env = [
            ("PATH", format!("{}:{path}", programs.join(":"))),
            ("HOME", directory.display().to_string()),
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("MLFLOW_TRACKING_URI", tracking.url.clone()),
            ("PYTHONWARNINGS", "ignore".into()),
        ];
        Self { node, directory, env: env.map(|(name, value)| (name.to_owned(), value)).to_vec() }
    }

    /// Runs a command, which has to succeed; tells where it does not say what it has to.
    fn run(&self, page: &str, command: &page::Command, teller: &mut Teller) -> Option<String> {
        teller.command(&command.typed);
        let mut bash = Command::new("bash");
        bash.args(["-o", "pipefail", "-c", &format!("exec 2>&1\n{}", command.typed)])
            .envs(self.env.iter().cloned());
        let mut child = bash
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            teller.tell(&format!("{line}\n"));
            said.push(line);
        }
        let (status, lines) =
            (child.wait().unwrap(), said.iter().map(String::as_str).collect::<Vec<_>>());
        let about = format!("{page}:{}: {}\n", command.line, command.typed);
        assert!(
            status.success(),
            "{about}ended with {status} and said\n{}\n{}",
            said.join("\n"),
            self.around()
        );
        let (said, want) = (said.join("\n"), command.said.join("\n"));
        (!page::fits(&command.said, &lines))
            .then(|| format!("{about}said\n{said}\nand should have said\n{want}"))
    }

    /// What helps to find out why.
    fn around(&self) -> String {
        let kubectl = |args: &[&str]| {
            String::from_utf8_lossy(&self.node.cluster.try_kubectl(args).stdout).into_owned()
        };
        let all = kubectl(&["get", "mreg,mv,mdep,mro,rreq,pods", "--all-namespaces", "-o", "wide"]);
        let operator =
            kubectl(&["logs", "-n", "rollmodel-system", "deployment/rollmodel", "--tail=30"]);
        format!("{all}\n{operator}\n{}", self.node.log_ends())
    }
}

/// A text without what makes it bold, dim or green.
fn plain(text: &str) -> String {
    ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m"]
        .iter()
        .fold(text.to_owned(), |text, look| text.replace(look, ""))
}

/// Tells the story as it goes, where somebody listens.
struct Teller {
    to: Option<File>,
    cast: Option<File>,
    records: bool,
    began: Option<Instant>,
    /// Whether a blank line was told last.
    gap: bool,
}

impl Teller {
    fn begin() -> Self {
        let open = |name: &str| {
            std::env::var_os(name)
                .map(|path| File::options().create(true).append(true).open(path).unwrap())
        };
        Self {
            to: open("ROLLMODEL_TELL"),
            cast: open("ROLLMODEL_RECORD"),
            records: false,
            began: None,
            gap: false,
        }
    }

    fn record(&mut self, records: bool) {
        self.records = records;
        if let (true, Some(cast)) = (records, &mut self.cast) {
            writeln!(cast, "{}", json!({"version": 2, "width": 124, "height": 32, "idle_time_limit": 2.0, "title": "make road"})).unwrap();
            self.began = Some(Instant::now());
        }
    }

    fn tell(&mut self, text: &str) {
        self.gap = false;
        if let Some(to) = &mut self.to {
            let colored = to.is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let text = if colored { text.to_owned() } else { plain(text) };
            to.write_all(text.as_bytes()).unwrap();
        }
        if let (true, Some(cast), Some(began)) = (self.records, &mut self.cast, self.began) {
            let at = began.elapsed().as_millis() as f64 / 1000.0;
            writeln!(cast, "{}", json!([at, "o", text.replace('\n', "\r\n")])).unwrap();
        }
    }

    fn heading(&mut self, text: &str) {
        self.gap();
        self.tell(&format!("\x1b[1m{text}\x1b[0m\n"));
    }

    fn prose(&mut self, text: &str) {
        if text.is_empty() {
            return self.gap();
        }
        self.tell(&format!("\x1b[2m{text}\x1b[0m\n"));
    }

    fn command(&mut self, typed: &str) {
        self.gap();
        self.tell(&format!("\x1b[32m$ {typed}\x1b[0m\n"));
    }

    /// One blank line, however many are asked for.
    fn gap(&mut self) {
        if !self.gap {
            self.tell("\n");
            self.gap = true;
        }
    }
}

#[test]
fn the_recorded_session_is_of_the_page_as_it_is_and_drawn_as_it_would_be_now() {
    let mend = "run `sudo make recording`, and commit docs/road.cast and docs/road.svg";
    let cast = fs::read_to_string(root().join(RECORDING))
        .unwrap_or_else(|e| panic!("{RECORDING}: {e}: {mend}"));
    let text = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()[2]
            .as_str()
            .unwrap_or_default()
            .replace("\r\n", "\n")
    };
    let typed = cast.lines().skip(1).map(text).filter_map(|t| {
        Some(t.trim_start().strip_prefix("\x1b[32m$ ")?.strip_suffix("\x1b[0m\n")?.to_owned())
    });
    let page = page::parts(&fs::read_to_string(root().join(RECORDED)).unwrap());
    let commands = page.into_iter().filter_map(|part| {
        if let Part::Command(command) = part { Some(command.typed) } else { None }
    });
    assert_eq!(
        typed.collect::<Vec<_>>(),
        commands.collect::<Vec<_>>(),
        "{RECORDED} has other commands than its recording: {mend}"
    );
    let drawn = std::env::temp_dir().join(format!("rollmodel-road-{}.svg", std::process::id()));
    let script = root().join("tests/e2e/recording.py");
    run(Command::new("python3").arg(script).arg(root().join(RECORDING)).arg(&drawn));
    let same = fs::read(&drawn).unwrap() == fs::read(root().join(PICTURE)).unwrap();
    fs::remove_file(&drawn).unwrap();
    assert!(same, "{PICTURE} is not what {RECORDING} is drawn as: {mend}");
}
