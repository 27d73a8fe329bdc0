//! The engine as a child process. Only processes started here are ever signalled, by their own id.

use super::broken::{Broken, Column, ensure};
use super::http;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// The bound on a start, a stop or a single request.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// An engine in a folder with a `cannula.toml`, running or not.
#[derive(Debug)]
pub struct Engine {
    /// The program.
    pub binary: PathBuf,
    /// Set for the engine only.
    pub envs: Vec<(String, String)>,
    /// A command in front, such as `prlimit --nofile=64`. It must become the engine (exec), not start it.
    pub wrapper: Vec<String>,
    /// The working directory.
    pub folder: PathBuf,
    /// Where its API listens.
    pub admin: SocketAddr,
    /// The most memory and files seen over all its lives.
    pub peak: Usage,
    child: Option<Child>,
}

/// What a process holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory now, or the most seen.
    pub rss_bytes: u64,
    /// Open files.
    pub open_files: u64,
}

/// How an engine ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// From the signal to the end.
    pub took: Duration,
}

impl Engine {
    /// Not started yet.
    pub fn new(binary: &Path, folder: &Path, admin: SocketAddr) -> Engine {
        Engine {
            binary: binary.to_owned(),
            envs: Vec::new(),
            wrapper: Vec::new(),
            folder: folder.to_owned(),
            admin,
            peak: Usage::default(),
            child: None,
        }
    }

    /// Starts the process and does not wait.
    pub fn spawn(&mut self) -> Result<(), Broken> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let words: Vec<String> = self.wrapper.iter().cloned().chain([self.binary.display().to_string()]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("run").current_dir(&self.folder).env_remove("RUST_LOG");
        command.envs(self.envs.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.kill_on_drop(true).spawn();
        self.child = Some(child.map_err(|fault| Broken::checker(format!("{}: {fault}", words[0])))?);
        Ok(())
    }

    /// Starts and waits until it is ready; how long that took.
    pub async fn start(&mut self) -> Result<Duration, Broken> {
        let begun = Instant::now();
        self.spawn()?;
        self.ready(PATIENCE).await?;
        Ok(begun.elapsed())
    }

    /// Waits until `/health/ready` says so.
    pub async fn ready(&mut self, patience: Duration) -> Result<(), Broken> {
        let until = Instant::now() + patience;
        while !self.is_ready().await {
            if let Some(ended) = self.exited()? {
                return Err(Broken::new(
                    Column::Start,
                    format!("the engine ended with {ended}: {}", self.last_words()),
                ));
            }
            ensure(Instant::now() < until, Column::Start, || format!("not ready after {patience:?}"))?;
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let asked = http::request(self.admin, "GET", "/health/ready", None, PATIENCE).await;
        asked.is_ok_and(|(status, _)| status == 200)
    }

    /// How it ended, where it has ended by itself.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>, Broken> {
        Ok(self.child_mut()?.try_wait()?)
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, patience: Duration) -> Result<ExitStatus, Broken> {
        let ended = timeout(patience, self.child_mut()?.wait()).await;
        let status = ended.map_err(|_| Broken::new(Column::Stop, format!("still running after {patience:?}")))??;
        self.child = None;
        Ok(status)
    }

    /// Whether a process was started and not yet waited for.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it has ended by itself, now or before; then it can be started again.
    pub fn forget_if_dead(&mut self) -> bool {
        let dead = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if dead {
            self.child = None;
        }
        dead
    }

    /// SIGKILL: nothing is told to it.
    pub async fn kill(&mut self) -> Result<(), Broken> {
        self.note_usage();
        let mut child = self.child.take().ok_or_else(not_running)?;
        child.start_kill()?;
        child.wait().await?;
        Ok(())
    }

    /// Sends a signal such as `TERM`, `HUP`, `STOP`, `CONT`.
    pub async fn signal(&self, name: &str) -> Result<(), Broken> {
        let told = Command::new("kill").args([&format!("-{name}"), &self.pid()?.to_string()]).status().await?;
        ensure(told.success(), Column::Checker, || format!("the signal {name} could not be sent"))
    }

    /// SIGTERM, then its end.
    pub async fn terminate(&mut self, patience: Duration) -> Result<Ended, Broken> {
        self.note_usage();
        let begun = Instant::now();
        self.signal("TERM").await?;
        let status = self.wait(patience).await?;
        Ok(Ended { status, took: begun.elapsed() })
    }

    /// SIGTERM; broken unless it ends with 0 in time.
    pub async fn stop(&mut self) -> Result<Duration, Broken> {
        let ended = self.terminate(PATIENCE).await?;
        ensure(ended.status.success(), Column::Stop, || {
            format!("the stop ended with {}: {}", ended.status, self.last_words())
        })?;
        Ok(ended.took)
    }

    /// `GET`, status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, Vec<u8>), Broken> {
        http::request(self.admin, "GET", path, None, PATIENCE).await.map_err(|why| Broken::new(Column::Liveness, why))
    }

    /// `POST` without or with a JSON body, status and body.
    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<(u16, Vec<u8>), Broken> {
        http::request(self.admin, "POST", path, body, PATIENCE).await.map_err(|why| Broken::new(Column::Liveness, why))
    }

    /// `GET` of JSON that must be there.
    pub async fn json(&self, path: &str) -> Result<Value, Broken> {
        let (status, body) = self.get(path).await?;
        ensure(status == 200, Column::Liveness, || format!("{path} is answered with {status}"))?;
        serde_json::from_slice(&body).map_err(|fault| Broken::checker(format!("{path}: {fault}")))
    }

    /// Every item of a paged list, `path` with its query if it has one.
    pub async fn items(&self, path: &str) -> Result<Vec<Value>, Broken> {
        let join = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut page = self.json(&format!("{path}{join}limit=1000")).await?;
        loop {
            items.extend(page["items"].as_array().into_iter().flatten().cloned());
            let Some(next) = page["next"].as_u64() else { return Ok(items) };
            page = self.json(&format!("{path}{join}limit=1000&cursor={next}")).await?;
        }
    }

    /// The sum of a metric over all its series whose labels contain `labels`; `None` where there is no such metric.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<Option<f64>, Broken> {
        let (_, text) = self.get("/metrics").await?;
        Ok(metric_in(&String::from_utf8_lossy(&text), name, labels))
    }

    /// Runs `cannula ARGUMENTS` in the folder to its end.
    pub async fn command(&self, arguments: &[&str]) -> Result<Output, Broken> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(&self.folder).env_remove("RUST_LOG").stdin(Stdio::null());
        let output = timeout(10 * PATIENCE, command.kill_on_drop(true).output()).await;
        Ok(output.map_err(|_| Broken::checker(format!("cannula {} does not end", arguments.join(" "))))??)
    }

    /// Memory and open files now, also noted in [`Engine::peak`]; nothing where it does not run.
    pub fn usage(&mut self) -> Usage {
        self.note_usage();
        let Ok(pid) = self.pid() else { return Usage::default() };
        Usage { rss_bytes: status_bytes(pid, "VmRSS:"), open_files: open_files(pid) }
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32, Broken> {
        self.child.as_ref().and_then(Child::id).ok_or_else(not_running)
    }

    /// All it has logged, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read(self.folder.join("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }

    fn note_usage(&mut self) {
        let Ok(pid) = self.pid() else { return };
        self.peak.rss_bytes = self.peak.rss_bytes.max(status_bytes(pid, "VmHWM:"));
        self.peak.open_files = self.peak.open_files.max(open_files(pid));
    }

    fn child_mut(&mut self) -> Result<&mut Child, Broken> {
        self.child.as_mut().ok_or_else(not_running)
    }
}

fn not_running() -> Broken {
    Broken::checker("the engine does not run")
}

fn status_bytes(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn open_files(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |files| files.filter(io::Result::is_ok).count() as u64)
}

fn metric_in(text: &str, name: &str, labels: &str) -> Option<f64> {
    let series = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (key, value) = rest.rsplit_once(' ')?;
        let ours = key.is_empty() || key.starts_with('{');
        if ours && key.contains(labels) { value.parse::<f64>().ok() } else { None }
    });
    series.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_its_own_series_only() {
        let text = "# HELP x y\nx{a=\"1\",b=\"2\"} 3\nx{a=\"2\",b=\"2\"} 4\nx_total{a=\"1\"} 9\nplain 5\n";
        assert_eq!(metric_in(text, "x", ""), Some(7.0));
        assert_eq!(metric_in(text, "x", "a=\"1\""), Some(3.0));
        assert_eq!(metric_in(text, "plain", ""), Some(5.0));
        assert_eq!(metric_in(text, "y", ""), None);
    }

    #[test]
    fn memory_and_files_of_this_process_are_seen() {
        let pid = std::process::id();
        assert!(status_bytes(pid, "VmHWM:") > 1 << 20);
        assert!(open_files(pid) >= 3);
    }
}
