//! The built command in a folder of its own, started, killed and asked over its API.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// The bound on every wait for the engine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A folder with a configuration, and at most one engine that runs in it.
pub struct Site {
    folder: TempDir,
    pub listener: SocketAddr,
    admin: SocketAddr,
    child: Option<Child>,
    /// Given to the command, beside what this process has.
    pub environment: Vec<(&'static str, String)>,
}

impl Site {
    /// A site whose channels are written with `LISTENER` for the listening address.
    pub fn new(channels: &[(&str, &str)]) -> Site {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let address = own_address();
        let (listener, admin) = (SocketAddr::from((address, 2575)), SocketAddr::from((address, 8575)));
        let engine = format!("[store]\npath = \"store\"\n[admin]\nlisten = \"{admin}\"\n");
        fs::write(folder.path().join("cannula.toml"), engine).unwrap();
        let site = Site { folder, listener, admin, child: None, environment: Vec::new() };
        fs::create_dir_all(site.path("channels/tables")).unwrap();
        channels.iter().for_each(|(name, text)| site.write_channel(name, text));
        site
    }

    /// A site with an empty channels folder and no cannula.toml; the admin address is the default one, if it is free.
    pub fn without_configuration() -> Option<Site> {
        if let Err(taken) = TcpListener::bind((Ipv4Addr::LOCALHOST, 8575)) {
            println!("skipped: the default admin address 127.0.0.1:8575 cannot be had: {taken}");
            return None;
        }
        let mut site = Site::new(&[]);
        fs::remove_file(site.path("cannula.toml")).unwrap();
        site.admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 8575));
        Some(site)
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub fn write_channel(&self, name: &str, text: &str) {
        let text = text.replace("LISTENER", &self.listener.to_string());
        fs::write(self.path("channels").join(format!("{name}.toml")), text).unwrap();
    }

    /// Adds to cannula.toml.
    pub fn configure(&self, text: &str) {
        let path = self.path("cannula.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap() + text).unwrap();
    }

    /// Runs a command to its end: exit code, standard output, standard error.
    pub fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.cannula(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn cannula(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cannula"));
        command.current_dir(self.folder.path()).args(arguments).env_remove("RUST_LOG");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the engine and waits until it is ready.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = self.cannula(&["run"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.unwrap());
        let until = Instant::now() + PATIENCE;
        while self.get("/health/ready").is_none_or(|(status, _)| status != 200) {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "the engine did not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the engine as a power switch would a process: nothing is told to it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The engine's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the engine runs").id()
    }

    /// Tells the engine.
    pub fn signal(&self, name: &str) {
        let engine = self.pid().to_string();
        let told = Command::new("kill").args([&format!("-{name}"), &engine]).status().unwrap();
        assert!(told.success());
    }

    /// Waits until the engine has logged `text`.
    pub fn logged(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "`{text}` is not logged:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> i32 {
        self.signal("TERM");
        let mut child = self.child.take().unwrap();
        child.wait().unwrap().code().unwrap_or(-1)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        self.request("GET", path)
    }

    pub fn post(&self, path: &str) -> (u16, String) {
        self.request("POST", path).expect("the API answers")
    }

    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).expect("the API answers");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// One HTTP/1.1 exchange by hand, so that no client library stands between.
    fn request(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            self.admin
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Waits until nothing waits for delivery.
    pub fn drained(&self) {
        let until = Instant::now() + PATIENCE;
        while self.json("/api/store")["waiting"] != 0 {
            assert!(Instant::now() < until, "messages still wait:\n{}\n{}", self.json("/api/channels"), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A loopback address of this site's own, so that neither tests beside this one nor other programs take its ports
/// between a stop and a start.
pub fn own_address() -> Ipv4Addr {
    static SITES: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, SITES.fetch_add(1, Ordering::Relaxed))
}

/// The folder of real messages, if there is one.
pub fn real_messages() -> Option<std::path::PathBuf> {
    let folder = std::env::var_os("CANNULA_TEST_MESSAGES");
    if folder.is_none() {
        println!("skipped: CANNULA_TEST_MESSAGES is not set");
    }
    folder.map(|folder| Path::new(&folder).to_owned())
}
