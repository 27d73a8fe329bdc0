//! Gateways that send several messages before they wait for an answer, and send again, with the same control id, what was
//! not acknowledged.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Mutex,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use jiff::Timestamp;

use super::{
    account::{Account, Sent},
    world::DESTINATIONS,
};
use crate::store::{Appended, LaneId, Received, RepeatCheck, Route, SearchKeys, Store, StoreError, simulation::Dice};

/// Messages a gateway has unanswered at most.
const OUTSTANDING_MAX: usize = 4;

type Answer = BoxFuture<'static, Result<Appended, StoreError>>;

pub(super) struct Senders(Vec<Gateway>);

struct Gateway {
    number: u32,
    lanes: Vec<LaneId>,
    sent: u32,
    outstanding: VecDeque<(u32, Answer)>,
    /// To be sent again, the oldest first.
    unacknowledged: BTreeSet<u32>,
}

impl Senders {
    pub(super) fn new(dice: &mut Dice) -> Senders {
        let lane = |(destination, lanes): (&str, u16), dice: &mut Dice| LaneId {
            channel: "pumps".into(),
            destination: destination.into(),
            lane: dice.roll(u64::from(lanes)) as u16,
        };
        let gateways = (0..1 + dice.roll(3) as u32).map(|number| {
            let both = dice.one_in(2);
            let lanes = DESTINATIONS.iter().take(if both { 2 } else { 1 }).map(|each| lane(*each, dice)).collect();
            Gateway { number, lanes, sent: 0, outstanding: VecDeque::new(), unacknowledged: BTreeSet::new() }
        });
        Senders(gateways.collect())
    }

    /// One of the gateways sends.
    pub(super) fn send(
        &mut self,
        dice: &mut Dice,
        store: &dyn Store,
        account: &Mutex<Account>,
        at: Timestamp,
    ) -> Option<String> {
        let choice = dice.roll(self.0.len() as u64) as usize;
        let gateway = &mut self.0[choice];
        let waits = |number: &u32| gateway.outstanding.iter().any(|(outstanding, _)| outstanding == number);
        // One that lost patience sends again what is still outstanding.
        let impatient = dice.one_in(10);
        let again = gateway.unacknowledged.iter().find(|number| impatient || !waits(number)).copied();
        let number = match again {
            Some(number) => number,
            None if gateway.outstanding.len() >= OUTSTANDING_MAX => return None,
            None => gateway.next(),
        };
        let message = message((gateway.number, number));
        account.lock().unwrap().ask((gateway.number, number), message.clone(), gateway.lanes.clone());
        let answer = store.append(received(message, (gateway.number, number), &gateway.lanes, at));
        gateway.outstanding.push_back((number, answer));
        gateway.unacknowledged.insert(number);
        Some(format!("gateway {} sends {number}", gateway.number))
    }

    /// Hears what was answered; what was stored now must be `durable`.
    pub(super) fn hear(&mut self, account: &Mutex<Account>, durable: impl Fn(&[u8]) -> bool) -> Vec<String> {
        let mut account = account.lock().unwrap();
        self.0.iter_mut().flat_map(|gateway| gateway.hear(&mut account, &durable)).collect()
    }

    /// All connections end; no answer comes any more.
    pub(super) fn disconnect(&mut self) {
        self.0.iter_mut().for_each(|gateway| gateway.outstanding.clear());
    }

    /// Messages not acknowledged yet.
    pub(super) fn unanswered(&self) -> usize {
        self.0.iter().map(|gateway| gateway.unacknowledged.len()).sum()
    }
}

impl Gateway {
    fn next(&mut self) -> u32 {
        self.sent += 1;
        self.sent
    }

    fn hear(&mut self, account: &mut Account, durable: &impl Fn(&[u8]) -> bool) -> Vec<String> {
        let mut told = Vec::new();
        self.outstanding.retain_mut(|(number, answer)| {
            let Some(answer) = answer.now_or_never() else { return true };
            let sent = (self.number, *number);
            told.push(format!("gateway {} hears of {number}: {}", self.number, summary(&answer)));
            let (stored, new) = match answer {
                Ok(Appended::New(stored)) => (stored, true),
                Ok(Appended::Repeat(stored)) => (stored, false),
                Err(_) => {
                    account.figures.refused += 1;
                    return false;
                }
            };
            if new && !durable(control_id(sent).as_bytes()) {
                account.breaks(format!("ack: {sent:?} is acknowledged and not durable"));
            }
            account.acknowledge(sent, stored.sequence().as_u64(), new);
            self.unacknowledged.remove(number);
            false
        });
        told
    }
}

fn summary(answer: &Result<Appended, StoreError>) -> String {
    match answer {
        Ok(Appended::New(stored)) => format!("new {}", stored.sequence().as_u64()),
        Ok(Appended::Repeat(stored)) => format!("repeat of {}", stored.sequence().as_u64()),
        Err(fault) => fault.to_string(),
    }
}

fn control_id((sender, number): Sent) -> String {
    format!("|G{sender}-{number}|")
}

/// Some longer than a sector, some shorter.
fn message(sent: Sent) -> Bytes {
    let filler = "x".repeat((sent.1 as usize * 277 + sent.0 as usize * 101) % 900);
    let header = format!("MSH|^~\\&|PUMP|ICU|||20240501||ORU^R01{}P|2.6", control_id(sent));
    format!("{header}\rOBX|1|ST|MDC||{filler}\r").into()
}

fn received(message: Bytes, sent: Sent, lanes: &[LaneId], at: Timestamp) -> Received {
    let key = control_id(sent).into_bytes();
    let route = |lane: &LaneId| Route { destination: lane.destination.clone(), lane: lane.lane };
    Received {
        channel: "pumps".into(),
        at,
        message,
        routes: lanes.iter().map(route).collect(),
        repeat: Some(RepeatCheck { key: key.clone(), window: Duration::from_secs(24 * 3600), content: None }),
        ack: None,
        keys: SearchKeys { control_id: key, ..SearchKeys::default() },
        findings: vec![],
    }
}
