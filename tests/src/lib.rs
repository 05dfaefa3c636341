//! What the end-to-end tests share: nodes as real processes, spoken to as users do, by the command
//! line and HTTP.
//!
//! Every process is ended by its id when its handle is dropped, whatever the test did.

pub mod lab;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How long anything in these tests may take until it counts as stuck.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The program `name` of this workspace, built from the sources as they are. It is the one that
/// `cargo test --workspace --all-targets` builds: another command selects other features and would
/// compile the node a second time. That builds the programs of packages with integration tests.
///
/// # Panics
/// When it does not build.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        // At run time: a target directory may be shared by several clones, and a test compiled in
        // another one of them.
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("`cargo test` says where this is");
        let built = Command::new(env!("CARGO"))
            .args(["test", "--no-run", "--quiet", "--locked", "--workspace", "--all-targets"])
            .current_dir(Path::new(&here).join(".."))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "the programs don't build");
    });
    let own = std::env::current_exe().expect("a test has a path");
    let folder = own.parent().and_then(Path::parent).expect("tests lie in <profile>/deps");
    folder.join(name)
}

/// A port that was free a moment ago.
///
/// # Errors
/// When the machine has none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A node as a process with a home of its own.
#[derive(Debug)]
pub struct Node {
    home: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    pub http: String,
    pub key: String,
    /// The address by which others join.
    pub join: String,
    /// From the start of the process to the line that says it is ready.
    pub ready_in: Duration,
}

impl Node {
    /// Starts `archipelag up` in `home`; `join` is another node's address.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn up(home: &Path, join: Option<&str>, more: &[&str]) -> anyhow::Result<Self> {
        let (http, mesh) = (free_port()?, free_port()?);
        let mut arguments = vec![
            "--home".to_owned(),
            home.display().to_string(),
            "up".to_owned(),
            "--http".to_owned(),
            format!("127.0.0.1:{http}"),
            "--listen".to_owned(),
            format!("/ip4/127.0.0.1/tcp/{mesh}"),
        ];
        if let Some(join) = join {
            arguments.extend(["--join".to_owned(), join.to_owned()]);
        }
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        // Tests look often; how often a key may ask has a test of its own.
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(home)?;
        let settings = home.join("config.toml");
        if !settings.exists() {
            std::fs::write(settings, "[http]\nrequests_per_minute = 100000\n")?;
        }
        let mut node = Self {
            home: home.to_owned(),
            arguments,
            child: None,
            http: format!("http://127.0.0.1:{http}"),
            key: String::new(),
            join: String::new(),
            ready_in: Duration::ZERO,
        };
        node.start()?;
        Ok(node)
    }

    /// Starts the process again after [`Node::kill`].
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let program = program("archipelag");
        let started = Instant::now();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.with_extension("log"))?;
        let mut child = Command::new(program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        self.child = Some(child);
        let (sender, lines) = std::sync::mpsc::sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Reads on when nobody listens: a closed pipe would be an error to the node.
                let _over = sender.send(line);
            }
        });
        loop {
            let left = DEADLINE.saturating_sub(started.elapsed());
            let Ok(line) = lines.recv_timeout(left) else {
                let log = std::fs::read_to_string(self.home.with_extension("log"))?;
                bail!("`archipelag up` did not get ready; it said:\n{log}");
            };
            let after =
                |name: &str| line.trim().strip_prefix(name).map(|value| value.trim().to_owned());
            if let Some(key) = after("API key:") {
                self.key = key;
            }
            if let Some(join) = after("Join:") {
                self.join = join;
            }
            if line.starts_with("Ready") {
                self.ready_in = started.elapsed();
                ensure!(!self.key.is_empty(), "no key was printed before the ready line");
                return Ok(());
            }
        }
    }

    /// The process id.
    ///
    /// # Panics
    /// When the node was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// Ends the process at once, as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// When it can't be signalled.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// The name of the node's home.
    #[must_use]
    pub fn name(&self) -> &str {
        self.home.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The node's id in the mesh.
    ///
    /// # Errors
    /// When the home has none.
    pub fn id(&self) -> anyhow::Result<String> {
        let shown = self.json(&["account", "show"])?;
        Ok(shown["node"].as_str().context("a node id")?.to_owned())
    }

    /// Submits a job by HTTP and gives it as the node acknowledged it.
    ///
    /// # Errors
    /// When it is not taken on.
    pub async fn submit(&self, body: &Value) -> anyhow::Result<Value> {
        let (status, mut answer) =
            self.http(reqwest::Method::POST, "/jobs", Some(body.clone())).await?;
        ensure!(status == 201, "{status}: {answer}");
        Ok(answer["data"].take())
    }

    /// The job as the node shows it now.
    ///
    /// # Errors
    /// When the node does not know it.
    pub async fn shown(&self, job: &Value) -> anyhow::Result<Value> {
        let id = job["id"].as_str().context("a job has an id")?;
        let (status, mut answer) =
            self.http(reqwest::Method::GET, &format!("/jobs/{id}"), None).await?;
        ensure!(status == 200, "{status}: {answer}");
        Ok(answer["data"].take())
    }

    /// The job once it has ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&self, job: &Value) -> anyhow::Result<Value> {
        eventually("the job's end", async || {
            let shown = self.shown(job).await?;
            let over = ["completed", "failed", "cancelled", "timeout"];
            Ok(shown["status"].as_str().is_some_and(|s| over.contains(&s)).then_some(shown))
        })
        .await
    }

    /// All events of a job, to its end.
    ///
    /// # Errors
    /// When the node does not know it, or an event is not JSON.
    pub async fn stream(&self, job: &Value) -> anyhow::Result<Vec<Value>> {
        let id = job["id"].as_str().context("a job has an id")?;
        let client = reqwest::Client::builder().timeout(DEADLINE).build()?;
        let request = client.get(format!("{}/api/v1/jobs/{id}/stream", self.http));
        let text = request.bearer_auth(&self.key).send().await?.error_for_status()?.text().await?;
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        Ok(data.map(|json| serde_json::from_str(json.trim())).collect::<Result<_, _>>()?)
    }

    /// Asks the process to end, as a supervisor does, and gives whether it ended well.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&mut self) -> anyhow::Result<bool> {
        let Some(mut child) = self.child.take() else { return Ok(true) };
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        eventually("the node's end", async || Ok(child.try_wait()?.map(|status| status.success())))
            .await
    }

    /// Waits until this node sees `count` Islands.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn sees_islands(&self, count: usize) -> anyhow::Result<()> {
        let seen = eventually("Islands", async || {
            let islands = self.json(&["islands", "list"])?;
            Ok((islands.as_array().map(Vec::len) == Some(count)).then_some(()))
        });
        seen.await.with_context(|| {
            let log = std::fs::read_to_string(self.home.with_extension("log"));
            format!("{}: {:?}\n{}", self.name(), self.json(&["status"]), log.unwrap_or_default())
        })
    }

    /// What the home's `consumer` or `operator` account is and has, by the ledger.
    ///
    /// # Errors
    /// When no coordinator answers.
    pub fn account(&self, which: &str) -> anyhow::Result<Value> {
        Ok(self.json(&["account", "show"])?[which].take())
    }

    /// Sends credits from this node's consumer account to `home`'s.
    ///
    /// # Errors
    /// When the ledger refuses it.
    pub fn fund(&self, home: &Path, credits: &str) -> anyhow::Result<()> {
        let shown = cli(home, &["--json", "account", "show"])?;
        let account: Value = serde_json::from_slice(&shown.stdout)?;
        let to = account["consumer"]["account"].as_str().context("an account")?.to_owned();
        self.json(&["account", "transfer", &to, credits]).map(|_| ())
    }

    /// Runs the command line against this node and gives what it printed.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        cli(&self.home, arguments)
    }

    /// Runs a command that prints JSON.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.cli(&[&["--json"], arguments].concat())?;
        ensure!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// An HTTP request with this node's key.
    ///
    /// # Errors
    /// When the node does not answer with JSON.
    pub async fn http(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let client = reqwest::Client::builder().timeout(DEADLINE).build()?;
        let mut request =
            client.request(method, format!("{}/api/v1{path}", self.http)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await?))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test that failed half-way must leave nothing running.
        let _ = self.kill();
    }
}

/// Runs the command line with `home`.
///
/// # Errors
/// When it can't be started.
pub fn cli(home: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(program("archipelag"))
        .arg("--home")
        .arg(home)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?)
}

#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The events of a run with `--json`, one a line.
///
/// # Errors
/// When a line is not JSON.
pub fn events(output: &Output) -> anyhow::Result<Vec<Value>> {
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
}

/// The events that the Cargo itself made: without where it ran and how it ended.
#[must_use]
pub fn said(events: &[Value]) -> Vec<Value> {
    let by_cargo = |event: &&Value| {
        event["type"] != "done" && event["type"] != "error" && event.get("host_id").is_none()
    };
    events.iter().filter(by_cargo).cloned().collect()
}

/// Looks again until `check` gives something, or fails at the [`DEADLINE`].
///
/// # Errors
/// What `check` fails with, or that it took too long.
pub async fn eventually<T>(
    what: &str,
    mut check: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = check().await? {
            return Ok(found);
        }
        ensure!(started.elapsed() < DEADLINE, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
