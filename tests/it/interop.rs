//! MLLP clients and servers that nobody here wrote, against the built command, where they are installed.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn foreign_clients_and_servers_understand_the_engine_and_nothing_is_lost_or_changed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !root.join("target/interop/installed").exists() {
        println!("skipped: the foreign peers are not installed; tests/interop/install installs them");
        return;
    }
    let mut suite = Command::new(root.join("tests/interop/run")).arg(env!("CARGO_BIN_EXE_cannula")).spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = suite.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            suite.kill().unwrap();
            panic!("the foreign peers took longer than {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success(), "what failed is printed above");
}
