//! Access to the test cluster: kubeconfigs, kubectl and kube clients.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use super::{Cluster, root};

impl Cluster {
    pub(super) fn kubeconfig_text(&self, cert: &str, key: &str) -> String {
        let user = format!(
            "{{client-certificate: {}, client-key: {}}}",
            self.dir.join(cert).display(),
            self.dir.join(key).display()
        );
        self.kubeconfig_for(&user)
    }

    fn kubeconfig_for(&self, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\ncontexts: [{{name: test, context: {{cluster: test, user: user}}}}]\n\
             clusters: [{{name: test, cluster: {{server: \"{}\", certificate-authority: {}}}}}]\nusers: [{{name: user, user: {user}}}]\n",
            self.server(),
            self.dir.join("ca.crt").display()
        )
    }

    /// A kubeconfig that speaks as the node whose certificate there is.
    pub fn kubeconfig_of_node(&self) -> PathBuf {
        let path = self.dir.join("node.kubeconfig");
        fs::write(&path, self.kubeconfig_text("node.crt", "node.key")).expect("kubeconfig");
        path
    }

    /// A kubeconfig that speaks as a ServiceAccount.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = self.kubectl(&["create", "token", account, "-n", namespace, "--duration=2h"]);
        let path = self.dir.join(format!("{namespace}-{account}.kubeconfig"));
        fs::write(&path, self.kubeconfig_for(&format!("{{token: {}}}", token.trim())))
            .expect("kubeconfig");
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.tools.join("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", &self.dir).args(args);
        command
    }

    /// Runs kubectl, whatever it answers.
    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("kubectl runs")
    }

    /// Runs kubectl with an input, whatever it answers.
    pub fn try_kubectl_in(&self, args: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut command = self.command(args);
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("kubectl runs");
        child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("kubectl reads");
        child.wait_with_output().expect("kubectl ends")
    }

    /// Runs kubectl, which has to succeed, and gives what it printed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        printed(args, self.try_kubectl(args))
    }

    /// Runs kubectl with an input; it has to succeed.
    pub fn kubectl_in(&self, args: &[&str], input: &str) -> String {
        printed(args, self.try_kubectl_in(args, input))
    }

    /// A kube client of an administrator.
    pub async fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config().await).expect("client")
    }

    /// A kube client of an administrator whose requests the audit log tells apart by their user
    /// agent.
    pub async fn client_as(&self, agent: &str) -> kube::Client {
        let mut config = self.config().await;
        config.headers.push((http::header::USER_AGENT, agent.parse().expect("a user agent")));
        kube::Client::try_from(config).expect("client")
    }

    async fn config(&self) -> kube::Config {
        let config = kube::config::Kubeconfig::read_from(self.kubeconfig()).expect("kubeconfig");
        kube::Config::from_custom_kubeconfig(config, &Default::default()).await.expect("config")
    }

    /// Applies the CRDs of this tree and waits until they are served.
    pub fn apply_crds(&self) {
        let dir = root().join("crds");
        let files: Vec<_> =
            fs::read_dir(dir).expect("crds").map(|e| e.expect("a file").path()).collect();
        for file in files.iter().filter(|f| f.extension().is_some_and(|x| x == "yaml")) {
            self.kubectl(&["apply", "--server-side", "-f", &file.display().to_string()]);
        }
        self.wait_crds();
    }

    /// Waits until our CRDs are served.
    pub fn wait_crds(&self) {
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "-l",
            "app.kubernetes.io/part-of=rollmodel",
            "--timeout=60s",
        ]);
    }
}

fn printed(args: &[&str], out: Output) -> String {
    assert!(
        out.status.success(),
        "kubectl {} failed:\n{}{}",
        args.join(" "),
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}
