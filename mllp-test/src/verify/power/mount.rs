//! Disk images mounted over loop devices. A mount made here is taken away again, whatever happens in between.

use crate::verify::Broken;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An image that is mounted.
#[derive(Debug)]
pub struct Mounted {
    device: String,
    at: PathBuf,
    given_up: bool,
}

impl Mounted {
    /// Attaches the image to a loop device and mounts it.
    pub fn new(image: &Path, at: &Path) -> Result<Mounted, Broken> {
        fs::create_dir_all(at)?;
        let device = command("losetup", &["-f", "--show", &image.display().to_string()])?.trim().to_owned();
        let mounted = Mounted { device, at: at.to_owned(), given_up: false };
        command("mount", &[&mounted.device, &at.display().to_string()])?;
        Ok(mounted)
    }

    /// Unmounts with all that was written. Nobody may have a file open there.
    pub fn unmount(mut self) -> Result<(), Broken> {
        command("umount", &[&self.at.display().to_string()])?;
        self.give_up()
    }

    /// Takes the mount away though its device may be dead; nothing is written.
    pub fn detach(mut self) -> Result<(), Broken> {
        detach(&self.at)?;
        self.give_up()
    }

    fn give_up(&mut self) -> Result<(), Broken> {
        self.given_up = true;
        command("losetup", &["-d", &self.device]).map(drop)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.given_up {
            let _ = detach(&self.at);
            let _ = self.give_up();
        }
    }
}

/// Runs a program to its end and gives what it printed; broken where it fails.
pub fn command(program: &str, arguments: &[&str]) -> Result<String, Broken> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|fault| Broken::checker(format!("{program}: {fault}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Broken::checker(format!("{program} {}: {}", arguments.join(" "), said.trim())))
}

/// Copies an image and keeps its holes.
pub fn copy(from: &Path, to: &Path) -> Result<(), Broken> {
    command("cp", &["--sparse=always", &from.display().to_string(), &to.display().to_string()]).map(drop)
}

/// Whether something is mounted exactly there.
pub fn is_mount_point(path: &Path) -> Result<bool, Broken> {
    Ok(mount_points()?.iter().any(|point| point == path))
}

/// Takes a mount away at once, also where its device is dead or files are open.
pub fn detach(at: &Path) -> Result<(), Broken> {
    if is_mount_point(at)? { command("umount", &["-l", &at.display().to_string()]).map(drop) } else { Ok(()) }
}

/// Takes away all that is mounted in `folder` or attached from a file in it.
pub fn abandon(folder: &Path) -> Result<(), Broken> {
    for point in mount_points()?.iter().rev().filter(|point| point.starts_with(folder)) {
        detach(point)?;
    }
    let attached = command("losetup", &["--list", "--noheadings", "--output", "NAME,BACK-FILE"])?;
    for line in attached.lines() {
        let Some((device, file)) = line.split_once(char::is_whitespace) else { continue };
        if Path::new(file.trim()).starts_with(folder) {
            command("losetup", &["-d", device])?;
        }
    }
    Ok(())
}

fn mount_points() -> Result<Vec<PathBuf>, Broken> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    Ok(points.map(|point| PathBuf::from(point.replace("\\040", " "))).collect())
}
