//! `owed`: application ACKs that the running engine owes to senders.

use clap::Subcommand;
use serde_json::Value;

use super::{Common, Outcome, api::Api, block_on};

#[derive(Subcommand)]
pub(super) enum OwedAction {
    /// Oldest first
    List {
        /// Channel name
        #[arg(long)]
        channel: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Give an owed ACK up; this is recorded
    Discard {
        /// Entry, as listed
        #[arg(value_parser = super::number)]
        entry: u64,
    },
}

pub(super) fn owed(common: &Common, action: OwedAction) -> Outcome {
    let api = Api::of(common)?;
    block_on(async {
        match action {
            OwedAction::List { channel, limit } => {
                let pairs = channel.map(|channel| ("channel", channel)).into_iter().collect();
                let owed = api.list("/api/owed-acks", pairs, limit).await?;
                api.print(&owed, line);
            }
            OwedAction::Discard { entry } => {
                api.post(&format!("/api/owed-acks/{entry}/discard")).await?;
                println!("{entry} given up");
            }
        }
        Ok(())
    })
}

fn line(owed: &Value) -> String {
    let text = |key: &str| owed[key].as_str().unwrap_or("-").to_owned();
    let (at, channel, state, code) = (text("received_at"), text("channel"), text("state"), text("code"));
    format!("{:>12}  message {}  {at}  {channel}  {state} {code}", owed["entry"].to_string(), owed["id"])
}
