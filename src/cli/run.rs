//! `cannula run`.

use std::io::IsTerminal;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use super::{Common, Failure, Outcome};
use crate::{
    app::{App, Source},
    clock::Clock,
    config::{Config, LogFormat},
    sabotage,
};

/// Open files wanted: every connection of several full listeners.
const OPEN_FILES: u64 = 65_536;

pub(super) fn run(common: &Common) -> Outcome {
    let config = common.load()?;
    log_to_stderr(config.log, "info");
    if cfg!(feature = "sabotage") {
        error!("this build is sabotaged for tests: stop it, and install a release build");
    }
    #[cfg(feature = "sabotage")]
    let clock = super::told_clock::clock()?;
    #[cfg(not(feature = "sabotage"))]
    let clock = Clock::system();
    let source = Source::Files(common.config.clone());
    let open_files = raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(config, source, clock, open_files));
    // What hangs in a call to the system, such as on a dead disk, does not keep a stopped engine from ending.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config, source: Source, clock: Clock, open_files: u64) -> Outcome {
    // From before the start to the end, so that no signal is missed or kills.
    let mut signals = Signals::new()?;
    let app = tokio::select! {
        app = App::start(config, source, clock) => app?,
        () = signals.stop() => {
            info!("stopped while starting");
            return Ok(());
        }
    };
    info!(version = sabotage::VERSION, admin = %app.admin_address(), open_files, "running");
    serve_signals(&app, &mut signals).await?;
    info!("stopping; a second signal stops at once");
    let store = app.store();
    tokio::select! {
        closed = app.stop() => Ok(closed?),
        () = signals.stop() => {
            // Dropping it would wait for its disk.
            std::mem::forget(store);
            Err(Failure::Failed("stopped at once by a second signal; the store recovers what was acknowledged".into()))
        }
    }
}

/// A connection and a segment each need an open file, and the usual soft limit of 1,024 is less than one listener's
/// connections: raises it as far as the system allows. Answers the limit in force, 0 where it is not known.
fn raise_open_files() -> u64 {
    rlimit::increase_nofile_limit(OPEN_FILES).unwrap_or_default()
}

/// Logs as configured; `RUST_LOG` raises or lowers the level.
pub(super) fn log_to_stderr(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let registry = tracing_subscriber::registry().with(filter);
    let set = match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    if let Err(error) = set {
        error!(%error, "logging was set up before");
    }
}

/// Until SIGTERM or SIGINT; SIGHUP reloads.
async fn serve_signals(app: &App, stop: &mut Signals) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            () = stop.stop() => return Ok(()),
            _ = hangup.recv() => {
                // The outcome is logged where it is made.
                let _ = app.reload().await;
            }
        }
    }
}

pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Signals> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Until Ctrl-C or SIGTERM.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
