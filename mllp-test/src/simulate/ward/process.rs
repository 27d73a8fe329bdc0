//! An engine of its own for the ward: a process in a folder, with a clock that is told through a file.

use super::Host;
use crate::verify::Engine;
use crate::verify::engine::PATIENCE;
use jiff::Timestamp;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The engine as a child process.
#[derive(Debug)]
pub struct Process {
    engine: Engine,
    listener: SocketAddr,
    clock: File,
}

impl Process {
    /// Prepares an engine in an empty `folder`, its clock at `at`; it is not started. The program must be built with the
    /// feature `sabotage`, without which its clock cannot be told.
    pub async fn new(program: &Path, folder: &Path, at: Timestamp) -> Result<Process, String> {
        let address = own_address();
        let (listener, admin) = (SocketAddr::from((address, 2575)), SocketAddr::from((address, 8575)));
        let text = |fault: std::io::Error| format!("{}: {fault}", folder.display());
        configure(folder, listener, admin).map_err(text)?;
        let clock = File::create(folder.join("clock")).map_err(text)?;
        let mut engine = Engine::new(program, folder, admin);
        let version = engine.command(&["--version"]).await.map_err(|fault| fault.to_string())?;
        if !String::from_utf8_lossy(&version.stdout).contains("sabotaged") {
            return Err("the engine's clock cannot be told; build it with --features sabotage".into());
        }
        engine.envs.push(("CANNULA_CLOCK".into(), folder.join("clock").display().to_string()));
        let mut process = Process { engine, listener, clock };
        process.tell(at)?;
        Ok(process)
    }
}

impl Host for Process {
    fn listener(&self) -> SocketAddr {
        self.listener
    }

    fn admin(&self) -> SocketAddr {
        self.engine.admin
    }

    fn tell(&mut self, at: Timestamp) -> Result<(), String> {
        let millis = at.as_millisecond();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&millis.to_le_bytes());
        bytes[8..].copy_from_slice(&(!millis).to_le_bytes());
        self.clock.write_all_at(&bytes, 0).map_err(|fault| format!("clock: {fault}"))
    }

    async fn stop(&mut self) -> Result<(), String> {
        let ended = self.engine.terminate(PATIENCE).await.map_err(|fault| fault.to_string())?;
        if ended.status.success() { Ok(()) } else { Err(format!("the engine ended with {}", ended.status)) }
    }

    async fn start(&mut self) -> Result<(), String> {
        self.engine.start().await.map(drop).map_err(|fault| fault.to_string())
    }
}

/// One channel that takes everything and passes nothing on: the devices are what is watched.
fn configure(folder: &Path, listener: SocketAddr, admin: SocketAddr) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("channels/tables"))?;
    let engine = format!("[store]\npath = \"store\"\nretain = \"0s\"\n[admin]\nlisten = \"{admin}\"\n");
    fs::write(folder.join("cannula.toml"), engine)?;
    fs::write(folder.join("channels/ward.toml"), channel(listener))
}

/// The ward's channel file.
pub fn channel(listener: SocketAddr) -> String {
    format!(
        "[listener]\naddress = \"{listener}\"\n[[destination]]\nname = \"nowhere\"\ntype = \"file\"\ndirectory = \".\"\nwhere = {{ \"MSH-3.1\" = \"NOBODY\" }}\n"
    )
}

/// A loopback address of this process, beside those of other checkers.
fn own_address() -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 192 | (high & 0x3f), low, 1)
}
