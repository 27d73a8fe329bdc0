//! The end of a group of cycles: everything drains, the engine stops with 0, its files verify, it starts again, and the
//! books of all sides are joined. Each check is made even where one before it failed: the columns must show all that is
//! wrong.

use super::broken::{Broken, Column, ensure};
use super::engine::PATIENCE;
use super::site::{ReceiverPlan, Site};
use crate::account::{Account, Destination, Findings, Route, SenderAccount, SinkAccount};
use crate::id::MessageId;
use crate::v2;
use std::collections::{HashMap, HashSet};

/// Drains, stops, verifies, starts again and joins. What is broken is also in [`Site::broken`].
pub async fn settle(site: &mut Site) -> Result<(), Broken> {
    site.quiet().await;
    let drain = site.plan.drain;
    site.drained(drain).await?;
    limits(site);
    leaks(site).await?;
    site.quit().await?;
    verified(site).await?;
    // What was settled stays settled over a clean stop: the second start must send nothing.
    let before = site.repeats();
    site.start_engine().await?;
    site.drained(PATIENCE).await?;
    let dead = dead_letters(site).await?;
    site.quit().await?;
    let again = site.repeats() - before;
    note(site, ensure(again == 0, Column::Repeats, || format!("{again} messages sent again after a clean stop")));
    join(site, &dead);
    Ok(())
}

/// Joins the books and adds what is found to the tally and to [`Site::broken`]. `dead` are the dead letters and what
/// still waits, by destination.
pub fn join(site: &mut Site, dead: &HashMap<String, HashSet<MessageId>>) -> Account {
    let mut sender = SenderAccount::default();
    let mut unanswered = 0;
    for traffic in &site.traffic {
        let account = traffic.book.account();
        if traffic.plan.mode != super::traffic::Mode::Unanswered {
            unanswered += account.unanswered();
        }
        sender.absorb(account);
    }
    let sinks: Vec<SinkAccount> = site.plan.receivers.iter().map(|it| site.receivers[it.name].account()).collect();
    let routes = site.plan.receivers.iter().zip(&sinks).map(|(receiver, sink)| Route {
        name: receiver.name,
        sink,
        expects: receiver.expects.clone(),
        dead: dead.get(receiver.name).cloned().unwrap_or_default(),
    });
    let account = Account::join(&sender, routes);
    let mut broken = Vec::new();
    if account.acked == 0 {
        broken.push(Broken::checker("nothing was acknowledged, so nothing is proved"));
    }
    site.tally.acked += account.acked;
    site.tally.ack_mismatch += account.wrong_answers + sender.noise;
    count(&mut broken, Column::AckMismatch, "answers fit no message", account.wrong_answers + sender.noise);
    count(&mut broken, Column::Leaked, "answers with a patient's name", sender.leaked);
    count(&mut broken, Column::Liveness, "messages never answered", unanswered);
    if !site.plan.refusals {
        count(&mut broken, Column::Liveness, "messages refused", account.naked);
    }
    broken.extend(account.ledger_faults.iter().map(Broken::checker));
    for ((destination, sink), plan) in account.destinations.iter().zip(&sinks).zip(&site.plan.receivers) {
        found(&mut broken, plan, destination, sink);
        let allowed = plan.lanes * site.tally.faults;
        let repeats = destination.repeats;
        broken.extend(
            ensure(repeats <= allowed, Column::Repeats, || {
                format!("{}: {repeats} repeats, and the faults allow {allowed}", plan.name)
            })
            .err(),
        );
        site.tally.lost += destination.lost.count;
        site.tally.reordered += if plan.ordered { destination.reordered.count } else { 0 };
        site.tally.phantom += destination.phantom.count + destination.misrouted.count + destination.unnamed;
        site.tally.corrupt += destination.changed.count;
        site.tally.repeats += repeats;
        site.tally.dead += destination.dead;
    }
    count(&mut broken, Column::Repeats, "repeats without the engine's mark", site.unmarked());
    site.broken.append(&mut broken);
    account
}

fn found(broken: &mut Vec<Broken>, plan: &ReceiverPlan, destination: &Destination, sink: &SinkAccount) {
    let mut add = |column, what: &str, findings: &Findings| {
        if findings.count > 0 {
            broken.push(Broken::new(column, format!("{}: {what} {findings}", destination.name)));
        }
    };
    add(Column::Lost, "lost", &destination.lost);
    if plan.ordered {
        add(Column::Reordered, "reordered", &destination.reordered);
    }
    add(Column::Phantom, "never sent", &destination.phantom);
    add(Column::Phantom, "belong elsewhere", &destination.misrouted);
    add(Column::Corrupt, "changed", &destination.changed);
    add(Column::Repeats, "observations made twice in the record", &destination.duplicated);
    count(broken, Column::Phantom, &format!("{}: messages without id", destination.name), destination.unnamed);
    count(broken, Column::Corrupt, &format!("{}: bytes outside frames", destination.name), sink.noise);
    broken.extend(sink.shape_faults.keys().map(|fault| Broken::new(Column::Corrupt, fault)));
}

fn count(broken: &mut Vec<Broken>, column: Column, what: &str, count: u64) {
    if count > 0 {
        broken.push(Broken::new(column, format!("{what}: {count}")));
    }
}

fn note(site: &mut Site, kept: Result<(), Broken>) {
    site.broken.extend(kept.err());
}

/// I8: memory and open files stay within their limits.
fn limits(site: &mut Site) {
    site.engine.usage();
    let (peak, plan) = (site.engine.peak, &site.plan);
    let (rss, files) = (plan.rss_bytes_max, plan.open_files_max);
    let memory = ensure(peak.rss_bytes <= rss, Column::Bounded, || {
        format!("{} MiB resident, {} MiB allowed", peak.rss_bytes >> 20, rss >> 20)
    });
    let open = ensure(peak.open_files <= files, Column::Bounded, || {
        format!("{} open files, {files} allowed", peak.open_files)
    });
    note(site, memory);
    note(site, open);
    site.tally.rss_bytes = site.tally.rss_bytes.max(peak.rss_bytes);
    site.tally.open_files = site.tally.open_files.max(peak.open_files);
}

/// I9: the patients' name is nowhere but in messages.
async fn leaks(site: &mut Site) -> Result<(), Broken> {
    let mut seen = vec![("the log".to_owned(), site.engine.log())];
    for path in ["/metrics", "/api/channels", "/api/store", "/api/devices", "/api/dead", "/api/messages", "/api/audit"]
    {
        seen.push((path.to_owned(), text(site.engine.get(path).await?.1)));
    }
    let pid = site.engine.pid()?;
    for file in ["cmdline", "environ"] {
        seen.push((file.to_owned(), text(std::fs::read(format!("/proc/{pid}/{file}"))?)));
    }
    seen.push(("the audit log".to_owned(), text(std::fs::read(site.store().join("audit.ndjson")).unwrap_or_default())));
    for (place, text) in seen {
        let clean = ensure(!text.contains(&site.canary), Column::Leaked, || format!("a patient's name is in {place}"));
        note(site, clean);
    }
    Ok(())
}

/// I11 and the journal's checksums, on the stopped store.
async fn verified(site: &mut Site) -> Result<(), Broken> {
    for command in [["store", "verify"], ["audit", "verify"]] {
        // Without a security event there is no audit log yet.
        if command[0] == "audit" && !site.store().join("audit.ndjson").exists() {
            continue;
        }
        let output = site.engine.command(&command).await?;
        let told = text([output.stdout, output.stderr].concat());
        note(
            site,
            ensure(output.status.success(), Column::Audit, || {
                format!("{} {}: {}", command[0], command[1], told.trim())
            }),
        );
    }
    Ok(())
}

/// Dead letters by destination, by the ids in the messages themselves.
pub async fn dead_letters(site: &Site) -> Result<HashMap<String, HashSet<MessageId>>, Broken> {
    let mut dead: HashMap<String, HashSet<MessageId>> = HashMap::new();
    for letter in site.engine.items("/api/dead").await? {
        let destination = letter["destination"].as_str().unwrap_or_default().to_owned();
        let (status, message) = site.engine.get(&format!("/api/messages/{}/raw", letter["id"])).await?;
        ensure(status == 200, Column::Lost, || format!("a dead letter's message is answered with {status}"))?;
        dead.entry(destination).or_default().extend(v2::message_id(&message));
    }
    Ok(dead)
}

fn text(bytes: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(bytes.as_ref()).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::verify::traffic::TrafficPlan;
    use crate::verify::{Plan, Tools};
    use std::path::PathBuf;

    /// Gateways that send straight to the first of these destinations: an engine could do no better.
    async fn settled(name: &str, receivers: Vec<ReceiverPlan>) -> Site {
        let traffic = TrafficPlan {
            port: receivers[0].port,
            connections: 1,
            rate: 0.0,
            messages: Some(50),
            ..TrafficPlan::USUAL
        };
        let plan = Plan { receivers, traffic: vec![traffic], ..Plan::default() };
        let folder = std::env::temp_dir().join(format!("mllp-test-settle-{}-{name}", std::process::id()));
        let no = PathBuf::from("no-engine");
        let tools = Tools { engine: no, crash_engine: None, report: folder.clone(), release: false };
        let mut site = Site::open(&folder, plan, &tools, 7).await.unwrap();
        site.traffic[0].start();
        site.traffic[0].finished().await;
        join(&mut site, &HashMap::new());
        std::fs::remove_dir_all(&folder).unwrap();
        site
    }

    fn columns(site: &Site) -> Vec<Column> {
        site.broken.iter().map(|broken| broken.column).collect()
    }

    #[tokio::test]
    async fn what_came_as_it_was_sent_is_clean_and_what_came_nowhere_is_lost() {
        let site = settled("clean", vec![ReceiverPlan::mllp("legacy", 6661)]).await;
        assert_eq!((columns(&site), site.tally.acked, site.tally.lost), (vec![], 50, 0));
        let two = vec![ReceiverPlan::mllp("legacy", 6661), ReceiverPlan::mllp("other", 6662)];
        let site = settled("lost", two).await;
        assert_eq!((columns(&site), site.tally.lost), (vec![Column::Lost], 50));
    }

    #[tokio::test]
    async fn a_wrong_answer_is_a_mismatch_and_a_repeat_that_no_fault_explains_is_broken() {
        let script = vec!["nth=20:wrong-msa2".to_owned()];
        let site = settled("mismatch", vec![ReceiverPlan { script, ..ReceiverPlan::mllp("legacy", 6661) }]).await;
        assert_eq!(columns(&site), [Column::AckMismatch, Column::Repeats], "{:?}", site.broken);
        assert!(site.tally.ack_mismatch == 1 && site.tally.repeats > 0 && site.tally.lost == 0);
    }

    #[tokio::test]
    async fn messages_where_they_do_not_belong_and_nothing_acknowledged_are_broken_too() {
        let nowhere = crate::Expect::when(|_, _| false);
        let site =
            settled("misrouted", vec![ReceiverPlan { expects: nowhere, ..ReceiverPlan::mllp("legacy", 6661) }]).await;
        assert_eq!(columns(&site), [Column::Phantom]);
        let script = vec!["AE".to_owned()];
        let site = settled("refused", vec![ReceiverPlan { script, ..ReceiverPlan::mllp("legacy", 6661) }]).await;
        assert_eq!(columns(&site), [Column::Checker, Column::Liveness], "{:?}", site.broken);
    }
}
