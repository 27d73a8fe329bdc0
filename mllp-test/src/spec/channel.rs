//! The engine's own channels under which it passes every row that needs no TLS: settings of other receivers can be read
//! off here.

/// Where the channels listen and deliver.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The usual listener.
    pub usual: String,
    /// The one that checks content.
    pub strict: String,
    /// The one that takes batches.
    pub batch: String,
    /// The one that feeds the outbound rows.
    pub feed: String,
    /// Where `--outbound` listens.
    pub outbound: String,
}

impl Default for Addresses {
    fn default() -> Addresses {
        Addresses {
            usual: "127.0.0.1:2575".to_owned(),
            strict: "127.0.0.1:2576".to_owned(),
            batch: "127.0.0.1:2578".to_owned(),
            feed: "127.0.0.1:2577".to_owned(),
            outbound: "127.0.0.1:6661".to_owned(),
        }
    }
}

/// Each channel's file name and text.
pub fn channels(addresses: &Addresses) -> Vec<(&'static str, String)> {
    let Addresses { usual, strict, batch, feed, outbound } = addresses;
    vec![
        ("spec", channel(usual, LIMITS)),
        ("spec-strict", channel(strict, "conformance = \"reject\"\n")),
        ("spec-batch", channel(batch, "batch = true\n")),
        ("spec-outbound", FEED.replace("@feed", feed).replace("@outbound", outbound)),
    ]
}

fn channel(address: &str, more: &str) -> String {
    format!("[listener]\naddress = \"{address}\"\ncharset_default = \"8859/1\"\n{more}{REST}")
}

/// Short, so that the rows about them are soon over.
const LIMITS: &str = "frame_timeout = \"5s\"\nwrite_timeout = \"3s\"\nmax_connections_per_address = 128\n";

/// A route that no message takes: all are stored and answered, and nothing of them is delivered.
const REST: &str = r#"
[accept]
where = { "MSH-9" = "ORU^R01" }

[[destination]]
name = "nowhere"
type = "mllp"
address = "127.0.0.1:9"
where = { "MSH-3.1" = "NOBODY" }
"#;

const FEED: &str = r#"[listener]
address = "@feed"

[[destination]]
name = "outbound"
type = "mllp"
address = "@outbound"
timeout = "1s"
retry = { first = "100ms", max = "500ms" }
"#;
