//! A disk whose power can be cut: a real ext4 on a loop device, over a block device that logs every write and FLUSH
//! (qemu-storage-daemon, exported as a file by FUSE). To cut the power is to kill that device.
//!
//! Nothing of it may outlive the checker: what is mounted, attached or running is given up when the value is dropped,
//! and what a killed checker left behind when the same folder is used again.
//!
//! ```text
//! base.img    the medium as it was when the power came on     disk.img   what the device has been given since
//! write.log   every write and FLUSH, in order                 device.img the device itself, while there is power
//! ```

use super::log::{Rebuilt, WriteLog};
use super::mount::{self, Mounted, command};
use crate::verify::Broken;
use crate::verify::chance::Chance;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Room for the log; the file is sparse.
const LOG_BYTES: u64 = 64 << 30;
const PATIENCE: Duration = Duration::from_secs(20);

/// A disk in a folder of its own.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    mounted: Option<Mounted>,
    device: Option<Device>,
}

/// What a cut may leave on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The device has no volatile cache: every write it was given is there.
    Written,
    /// Everything since the last FLUSH is lost.
    Flushed,
    /// Of what came since the last FLUSH some sectors are there, others not.
    Torn,
}

impl Disk {
    /// An empty ext4 of `bytes`; the power is off.
    pub fn format(folder: &Path, bytes: u64) -> Result<Disk, Broken> {
        let disk = Disk { folder: folder.to_owned(), mounted: None, device: None };
        fs::create_dir_all(folder)?;
        disk.abandon()?;
        File::create(disk.file("base.img"))?.set_len(bytes)?;
        command("mkfs.ext4", &["-q", "-F", &disk.name("base.img")])?;
        Ok(disk)
    }

    /// Where its files are while the power is on.
    pub fn mount_point(&self) -> PathBuf {
        self.file("mount")
    }

    /// Switches the power on and mounts.
    pub fn power_on(&mut self) -> Result<(), Broken> {
        mount::copy(&self.file("base.img"), &self.file("disk.img"))?;
        for name in ["write.log", "device.img"] {
            File::create(self.file(name))?;
        }
        File::options().write(true).open(self.file("write.log"))?.set_len(LOG_BYTES)?;
        self.device = Some(Device::start(&self.folder)?);
        self.mounted = Some(Mounted::new(&self.file("device.img"), &self.mount_point())?);
        Ok(())
    }

    /// Cuts the power. Whoever has files open there gets errors from now on; it must end before [`Disk::clear`].
    pub fn cut(&mut self) -> Result<(), Broken> {
        self.device.as_mut().map_or(Ok(()), Device::kill)
    }

    /// Takes the mount of a dead device away.
    pub fn clear(&mut self) -> Result<(), Broken> {
        self.mounted.take().map_or(Ok(()), Mounted::detach)?;
        self.device.take().map_or(Ok(()), Device::clear)
    }

    /// Unmounts in order, as a machine that is shut down, and keeps what was written.
    pub fn shut_down(&mut self) -> Result<(), Broken> {
        self.mounted.take().map_or(Ok(()), Mounted::unmount)?;
        self.cut()?;
        self.clear()?;
        Ok(fs::rename(self.file("disk.img"), self.file("base.img"))?)
    }

    /// Writes the medium as the cut may have left it to `to`; what became of the writes, where they are not all there.
    pub fn image(&self, image: Image, to: &Path, chance: &mut Chance) -> Result<Option<Rebuilt>, Broken> {
        if image == Image::Written {
            mount::copy(&self.file("disk.img"), to)?;
            return Ok(None);
        }
        mount::copy(&self.file("base.img"), to)?;
        let log = WriteLog::open(&self.file("write.log"))?;
        let rebuilt = match image {
            Image::Torn => log.replay_torn(to, || chance.within(0..2) == 0),
            Image::Written | Image::Flushed => log.replay(to),
        };
        Ok(Some(rebuilt?))
    }

    /// The power comes back to this medium, which is given up to the disk.
    pub fn go_on_with(&mut self, image: &Path) -> Result<(), Broken> {
        Ok(fs::rename(image, self.file("base.img"))?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn name(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Gives up what a killed checker may have left in this folder.
    fn abandon(&self) -> Result<(), Broken> {
        mount::abandon(&self.folder)?;
        Device::abandon(&self.folder);
        mount::abandon(&self.folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.cut();
        let _ = self.clear();
    }
}

/// The process that is the block device.
#[derive(Debug)]
struct Device {
    process: Child,
    export: PathBuf,
}

impl Device {
    fn start(folder: &Path) -> Result<Device, Broken> {
        let file = |name: &str| folder.join(name).display().to_string();
        // The device's own files need not survive this machine, so no FLUSH has to wait for its disk.
        let plain = |node: &str, name: &str| {
            format!("driver=file,node-name={node},filename={},cache.no-flush=on", file(name).replace(',', ",,"))
        };
        let export = file("device.img").replace(',', ",,");
        let mut command = Command::new("qemu-storage-daemon");
        command.args(["--blockdev", &plain("disk", "disk.img"), "--blockdev", &plain("log", "write.log")]);
        command.args(["--blockdev", "driver=blklogwrites,node-name=device,file=disk,log=log"]);
        command.args(["--export", &format!("type=fuse,id=export,node-name=device,mountpoint={export},writable=on")]);
        command.args(["--pidfile", &file("device.pid")]);
        let said = File::create(folder.join("device.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let process = command.spawn().map_err(|fault| Broken::checker(format!("qemu-storage-daemon: {fault}")))?;
        let mut device = Device { process, export: folder.join("device.img") };
        device.ready(folder)?;
        Ok(device)
    }

    fn ready(&mut self, folder: &Path) -> Result<(), Broken> {
        let until = Instant::now() + PATIENCE;
        while !mount::is_mount_point(&self.export)? {
            if self.process.try_wait()?.is_some() || Instant::now() > until {
                let said = fs::read_to_string(folder.join("device.log")).unwrap_or_default();
                return Err(Broken::checker(format!("the block device does not start: {}", said.trim())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Broken> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    fn clear(mut self) -> Result<(), Broken> {
        self.kill()?;
        mount::detach(&self.export)
    }

    /// Kills the device of an earlier checker in this folder, told by its command line as well as its id.
    fn abandon(folder: &Path) {
        let Ok(pid) = fs::read_to_string(folder.join("device.pid")) else { return };
        let pid = pid.trim();
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = String::from_utf8_lossy(&command_line).contains(&folder.join("device.img").display().to_string());
        if ours {
            let _ = Command::new("kill").args(["-KILL", pid]).status();
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = mount::detach(&self.export);
    }
}
