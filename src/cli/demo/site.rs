//! The demo's own folder: the sample channels with free ports and the stubs' addresses put in, a store, an alarm file.
//! It is removed when the demo ends.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

const CHANNELS: &[(&str, &str)] = &[
    ("bedside-pumps.toml", include_str!("../../../channels/bedside-pumps.toml")),
    ("cgm-gateway.toml", include_str!("../../../channels/cgm-gateway.toml")),
    ("device-alarms.toml", include_str!("../../../channels/device-alarms.toml")),
];
const TABLES: &[(&str, &str)] =
    &[("mdc-to-flowsheet.csv", include_str!("../../../channels/tables/mdc-to-flowsheet.csv"))];

/// Where everything listens.
pub(super) struct Addresses {
    pub(super) bedside: SocketAddr,
    pub(super) cgm_gateway: SocketAddr,
    pub(super) alarms: SocketAddr,
    admin: SocketAddr,
    ehr: SocketAddr,
    legacy: SocketAddr,
    alarm_manager: SocketAddr,
}

impl Addresses {
    pub(super) fn of(ehr: SocketAddr, legacy: SocketAddr, alarm_manager: SocketAddr) -> io::Result<Addresses> {
        Ok(Addresses {
            bedside: free(2575)?,
            cgm_gateway: free(2576)?,
            alarms: free(2577)?,
            admin: free(8575)?,
            ehr,
            legacy,
            alarm_manager,
        })
    }

    /// The addresses as the sample channels write them, and as they are here.
    fn replacements(&self) -> [(&'static str, SocketAddr); 6] {
        [
            ("127.0.0.1:2575", self.bedside),
            ("127.0.0.1:2576", self.cgm_gateway),
            ("127.0.0.1:2577", self.alarms),
            ("127.0.0.1:8080", self.ehr),
            ("127.0.0.1:6661", self.legacy),
            ("127.0.0.1:6662", self.alarm_manager),
        ]
    }
}

/// The usual port where it is free, else one that is.
fn free(usual: u16) -> io::Result<SocketAddr> {
    let bound =
        TcpListener::bind((Ipv4Addr::LOCALHOST, usual)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    bound?.local_addr()
}

pub(super) struct Site(PathBuf);

impl Site {
    pub(super) fn make(addresses: &Addresses) -> io::Result<Site> {
        let site = Site(std::env::temp_dir().join(format!("cannula-demo-{}", std::process::id())));
        fs::create_dir_all(site.0.join("channels/tables"))?;
        fs::create_dir_all(site.0.join("alarms"))?;
        for (name, text) in TABLES {
            fs::write(site.0.join("channels/tables").join(name), text)?;
        }
        for (name, text) in CHANNELS {
            let replaced = addresses
                .replacements()
                .iter()
                .fold((*text).to_owned(), |text, (sample, here)| text.replace(sample, &here.to_string()));
            fs::write(site.0.join("channels").join(name), replaced)?;
        }
        let engine =
            format!("[store]\npath = \"store\"\nretain = \"30d\"\n[admin]\nlisten = \"{}\"\n", addresses.admin);
        fs::write(site.configuration(), engine)?;
        Ok(site)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.0.join("cannula.toml")
    }

    /// Every line the `study` destination wrote.
    pub(super) fn study(&self) -> io::Result<String> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.0.join("alarms"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()?;
        // Rotated files carry their number; the current one, without, is the last.
        files.sort_by_key(|file| (file.file_stem().is_some_and(|stem| stem == "messages"), file.clone()));
        files.iter().map(fs::read_to_string).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
