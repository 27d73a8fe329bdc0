//! An engine started for a row, in a folder of its own with one channel, and a reference started beside it.

use mllp_test::load::new_run;
use mllp_test::measure::{Load, Outcome, process};
use mllp_test::verify::{Broken, Engine};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::sleep;

/// A build of the engine.
#[derive(Debug, Clone)]
pub struct Build {
    /// What it is called in the table.
    pub name: String,
    /// Its program.
    pub program: PathBuf,
}

/// A running engine with the channel `measured` and its destination `ehr`.
#[derive(Debug)]
pub struct Site {
    /// The engine.
    pub engine: Engine,
    /// Its build's name.
    pub build: String,
    /// Where it takes messages.
    pub listener: SocketAddr,
    /// Messages it answered positively to [`Site::send`] since it was made.
    pub answered: u64,
}

impl Site {
    /// Makes the folder `under/name`, empty, with a channel whose destination is `destination` in TOML; does not start.
    pub fn make(under: &Path, name: &str, build: &Build, destination: &str) -> Result<Site, Broken> {
        let folder = under.join(format!("{name}-{}", build.name));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("channels"))?;
        let [admin, listener] = [free_address()?, free_address()?];
        fs::write(folder.join("cannula.toml"), format!("[admin]\nlisten = \"{admin}\"\n"))?;
        let listening = format!(
            "[listener]\naddress = \"{listener}\"\nmax_connections = 20000\nmax_connections_per_address = 20000\n"
        );
        fs::write(
            folder.join("channels/measured.toml"),
            format!("{listening}\n[[destination]]\nname = \"ehr\"\n{destination}"),
        )?;
        let engine = Engine::new(&build.program, &folder, admin);
        Ok(Site { engine, build: build.name.clone(), listener, answered: 0 })
    }

    /// Appends to its `cannula.toml`.
    pub fn configure(&self, lines: &str) -> Result<(), Broken> {
        let mut file = fs::File::options().append(true).open(self.engine.folder.join("cannula.toml"))?;
        Ok(file.write_all(lines.as_bytes())?)
    }

    /// `pause` or `resume` the destination.
    pub async fn steer(&self, action: &str) -> Result<(), Broken> {
        let (status, _) = self.engine.post(&format!("/api/channels/measured/destinations/ehr/{action}"), None).await?;
        if status == 204 { Ok(()) } else { Err(Broken::checker(format!("{action} is answered with {status}"))) }
    }

    /// Messages that wait for the destination.
    pub async fn waiting(&self) -> Result<u64, Broken> {
        let channel = self.engine.json("/api/channels/measured").await?;
        channel["destinations"][0]["waiting"]
            .as_u64()
            .ok_or_else(|| Broken::checker("the API tells no number that waits"))
    }

    /// Sends and notes what was answered.
    pub async fn send(&mut self, load: Load) -> Result<Sample, Broken> {
        let sample = sample(load, self.engine.pid()?, new_run()).await;
        self.answered += sample.outcome.answered;
        Ok(sample)
    }

    /// How many of the answered messages do not wait, or wait without an answer, where nothing is delivered.
    pub async fn missing(&self) -> Result<u64, Broken> {
        Ok(self.waiting().await?.abs_diff(self.answered))
    }

    /// Stops it with what it began ended, and removes its folder.
    pub async fn stop(mut self) -> Result<(), Broken> {
        self.engine.stop().await?;
        Ok(fs::remove_dir_all(&self.engine.folder)?)
    }
}

/// What a load met, and the CPU time its server took in the measured time.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What the load met.
    pub outcome: Outcome,
    /// CPU time of the server.
    pub cpu: Duration,
    /// Messages that reached the receiver in the measured time.
    pub delivered: u64,
}

impl Sample {
    /// Answered messages a second.
    pub fn rate(&self) -> f64 {
        self.outcome.rate()
    }

    /// The 99th percentile of the time to the answer, in milliseconds.
    pub fn p99(&self) -> f64 {
        self.outcome.latency.percentile(0.99).as_secs_f64() * 1e3
    }

    /// CPU time for each answered message, in microseconds.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / (self.outcome.counted.max(1) as f64)
    }
}

/// Sends to the server `pid` and measures what it used in the measured time.
pub async fn sample(load: Load, pid: u32, run: u32) -> Sample {
    let (flow, warm_up, time) = (load.flow.clone(), load.warm_up, load.time);
    let mark = || (process::cpu(pid), flow.delivered.load(std::sync::atomic::Ordering::Acquire));
    let marks = async {
        sleep(warm_up).await;
        let before = mark();
        sleep(time).await;
        (before, mark())
    };
    let (outcome, (before, after)) = tokio::join!(load.run(run), marks);
    Sample { outcome, cpu: after.0 - before.0, delivered: after.1 - before.1 }
}

/// A reference server as a process of its own.
#[derive(Debug)]
pub struct Beside {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Beside {
    /// Starts this program again as `echo`, `ack` or `durable`, whose file is in `under`.
    pub fn start(kind: &str, under: &Path) -> Result<Beside, Broken> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.args(["reference", kind]).arg(under.join("durable")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line)).transpose()?;
        let address = line.trim().parse();
        let mut beside = Beside { child, address: ([127, 0, 0, 1], 0).into() };
        beside.address =
            address.map_err(|_| Broken::checker(format!("the reference {kind} did not start: {said:?}")))?;
        Ok(beside)
    }

    /// Sends to it.
    pub async fn send(&self, load: Load) -> Sample {
        sample(load, self.child.id(), new_run()).await
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A local address nobody listens on.
pub fn free_address() -> Result<SocketAddr, Broken> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Where it is mounted, device and type of the file system that holds `folder`.
pub fn mounted(folder: &Path) -> (PathBuf, PathBuf, String) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_default();
    let holding = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        folder.starts_with(at).then(|| (PathBuf::from(at), PathBuf::from(device), kind.to_owned()))
    });
    holding.max_by_key(|(at, ..)| at.as_os_str().len()).unwrap_or_default()
}
