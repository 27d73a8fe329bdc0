//! Half a day of a small ward in seconds: what goes wrong with its devices is told, and nothing else.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use cannula::{
    app::{App, Source},
    clock::Clock,
    config,
};
use jiff::Timestamp;
use mllp_test::simulate::ward::{self, Host, WardConfig};
use tempfile::TempDir;

/// The engine in this process, with a clock that is told.
struct InProcess {
    folder: TempDir,
    millis: Arc<AtomicI64>,
    listener: SocketAddr,
    admin: SocketAddr,
    app: Option<App>,
}

impl InProcess {
    fn new(at: Timestamp) -> InProcess {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let address = crate::engine::own_address();
        let (listener, admin) = (SocketAddr::from((address, 2575)), SocketAddr::from((address, 8575)));
        let root = folder.path().display();
        let engine = format!(
            "channels = \"{root}/channels\"\ntables = \"{root}/channels/tables\"\n[store]\npath = \"{root}/store\"\nretain = \"0s\"\n[admin]\nlisten = \"{admin}\"\n"
        );
        fs::create_dir_all(folder.path().join("channels/tables")).unwrap();
        fs::write(folder.path().join("cannula.toml"), engine).unwrap();
        fs::write(folder.path().join("channels/ward.toml"), ward::channel(listener)).unwrap();
        InProcess { folder, millis: Arc::new(AtomicI64::new(at.as_millisecond())), listener, admin, app: None }
    }
}

impl Host for InProcess {
    fn listener(&self) -> SocketAddr {
        self.listener
    }

    fn admin(&self) -> SocketAddr {
        self.admin
    }

    fn tell(&mut self, at: Timestamp) -> Result<(), String> {
        self.millis.store(at.as_millisecond(), Ordering::SeqCst);
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), String> {
        self.app.take().unwrap().stop().await.map_err(|error| error.to_string())
    }

    async fn start(&mut self) -> Result<(), String> {
        let file = self.folder.path().join("cannula.toml");
        let config = config::load(Some(&file)).map_err(|faults| faults[0].to_string())?;
        let millis = self.millis.clone();
        let clock = Clock::of(move || Timestamp::from_millisecond(millis.load(Ordering::SeqCst)).unwrap());
        let app = App::start(config, Source::Fixed, clock).await.map_err(|error| error.to_string())?;
        self.app = Some(app);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_on_a_ward_is_told_and_nothing_else_also_over_a_restart() {
    let start: Timestamp = "2026-03-29T00:00:00Z".parse().unwrap();
    let config = WardConfig { devices: 24, minutes: 270, compress: 0.0, restart: true, seed: 2, start };
    let mut host = InProcess::new(start);
    host.start().await.unwrap();
    let report = ward::run(config, &mut host).await.unwrap();
    host.stop().await.unwrap();
    println!("{report}");
    assert!(report.passed(), "{report}");
    assert!(report.faults.len() == 9 && report.silences > 5 && report.lost > 7, "{report}");
}
