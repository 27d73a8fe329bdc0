//! Several messages of one lane in one send, where its receiver takes that.
//!
//! They are taken or refused together. Refused, they go again in halves, until the one that the receiver refuses goes alone and
//! is dealt with like any other. Where all of them are taken in parts, or no answer came, there were too many: fewer go
//! together then, and one more after each success. What follows a head is translated as if those before it
//! were accepted: it remembers what they make its destination remember. Each is settled by itself, in order, so that a stop
//! between two leaves the rest waiting.
//!
//! What must never happen: a message sent again unmarked. A send without a trusted answer leaves all of it in doubt, and behind
//! a head in doubt after a restart, as many as may have gone along.

use bytes::Bytes;

use super::{
    lane::{Lane, Next, outgoing},
    service::Service,
};
use crate::{
    destination::{Outgoing, TOGETHER_MAX, Verdict},
    sabotage::{self, CrashPoint},
    store::{Sequence, Waiting},
    translate::{EpisodeChange, NOTE_BYTES_MAX, Translated, Unmapped, Unsent},
};

/// How many go together now, and what may have been sent.
pub(super) struct Together {
    most: usize,
    /// Refused together, and how many of them were not taken since.
    refused: Option<(usize, usize)>,
    doubtful_to: Option<Sequence>,
}

/// A message translated for its receiver.
pub(super) struct Ready {
    pub(super) waiting: Waiting,
    pub(super) outgoing: Outgoing,
    pub(super) episodes: Vec<EpisodeChange>,
    unmapped: Vec<Unmapped>,
    /// Why something was left out of it.
    pub(super) doubt: Option<Unsent>,
}

impl Default for Together {
    fn default() -> Together {
        Together { most: TOGETHER_MAX, refused: None, doubtful_to: None }
    }
}

impl Together {
    pub(super) fn is_doubtful(&self, entry: Sequence) -> bool {
        self.doubtful_to.is_some_and(|last| entry <= last)
    }

    fn doubt(&mut self, last: Sequence) {
        self.doubtful_to = self.doubtful_to.max(Some(last));
    }

    fn most(&self) -> usize {
        self.refused.map_or(self.most, |(_, left)| half(left).min(self.most))
    }

    /// So many were taken.
    pub(super) fn taken(&mut self, count: usize) {
        self.most = (self.most + 1).min(TOGETHER_MAX);
        self.refused = match self.refused {
            Some((sent, left)) if left > count => Some((sent, left - count)),
            Some((sent, _)) => {
                self.most = half(sent);
                None
            }
            None => None,
        };
    }

    /// The receiver refuses this one.
    pub(super) fn found(&mut self) {
        self.refused = None;
    }
}

fn half(count: usize) -> usize {
    (count / 2).max(1)
}

impl Ready {
    pub(super) fn new(waiting: Waiting, mut translated: Translated, ambiguous: bool) -> Ready {
        let episodes = std::mem::take(&mut translated.episodes);
        let unmapped = std::mem::take(&mut translated.unmapped);
        let doubt = translated.doubt;
        let outgoing = outgoing(&waiting, translated, ambiguous);
        Ready { waiting, outgoing, episodes, unmapped, doubt }
    }
}

impl Lane {
    /// Behind a head that may have been sent before the lane began, what may have gone along with it or followed it is in doubt too.
    pub(super) fn doubt_behind(&mut self, service: &Service, head: &Waiting) {
        let first = !std::mem::replace(&mut self.has_begun, true);
        let reach = self.board.reach.max(service.receiver.together_max() + service.resend_window - 1);
        if first && head.possible_repeat && reach > 1 {
            let behind = self.store.queued(&self.id, head.entry, reach);
            self.together.doubt(behind.last().map_or(head.entry, |last| last.entry));
        }
    }

    /// Takes along with the head what may go with it; what to send, and how many messages it holds.
    pub(super) fn gather(&self, service: &Service, run: &mut Vec<Ready>) -> Option<Outgoing> {
        let most = self.together.most().min(service.receiver.together_max());
        if most < 2 || self.control.borrow().gate.is_some() {
            return None;
        }
        for waiting in self.store.following(&self.id, run.first()?.waiting.entry, most - 1) {
            let recall = |episode: &[u8]| {
                let along = remembered_by(run.iter().map(|ready| &*ready.episodes), episode);
                along.unwrap_or_else(|| self.recall(episode))
            };
            // What cannot be translated, or is not sent, ends the run: its own turn deals with it.
            let Ok(translated) = service.translated(&waiting, &recall) else { break };
            if !translated.is_sent() {
                break;
            }
            let in_doubt = self.together.is_doubtful(waiting.entry);
            run.push(Ready::new(waiting, translated, in_doubt));
        }
        let outgoing: Vec<_> = run.iter().map(|ready| ready.outgoing.clone()).collect();
        let together = service.receiver.together(&outgoing);
        run.truncate(together.as_ref().map_or(1, |(_, count)| *count));
        together.map(|(outgoing, _)| outgoing)
    }

    /// What the receiver made of several messages.
    pub(super) async fn conclude_together(&mut self, service: &Service, run: Vec<Ready>, verdict: Verdict) -> Next {
        let (count, lane) = (run.len(), self.id.lane);
        let Some((head, last)) = run.first().zip(run.last()) else { return Next::Go };
        match verdict {
            Verdict::Accepted { answer } => {
                sabotage::crash_at(CrashPoint::AfterSendBeforeSettle);
                self.together.taken(count);
                self.accept_together(service, run, &answer);
                self.recorded(service.resend_window - 1).await
            }
            Verdict::Rejected { reason } => {
                self.board.attempted("rejected");
                self.board.reached(lane);
                self.together.refused = Some((count, count));
                let others = format!("together with {} others: {reason}", count - 1);
                self.note(head.waiting.entry, "rejected", &others);
                Next::Go
            }
            Verdict::Unavailable { reason, retry_after } => self.unavailable(&head.waiting, reason, retry_after),
            Verdict::Ambiguous { reason } => {
                self.together.doubt(last.waiting.entry);
                self.together.most = half(count);
                self.ambiguous(&head.waiting, reason)
            }
        }
    }

    fn accept_together(&mut self, service: &Service, run: Vec<Ready>, answer: &str) {
        let answer = format!("{answer}, {} messages in one", run.len());
        for (place, ready) in run.into_iter().enumerate() {
            if place > 0 {
                self.head.go_along(ready.waiting.entry);
                self.count(&ready.unmapped, ready.waiting.id);
            }
            if ready.outgoing.possible_repeat {
                self.repeated(ready.waiting.entry);
            }
            self.accept_sent(service, ready, answer.clone());
        }
    }
}

/// What these changes, in order, make of an episode: `None` where they say nothing of it.
pub(super) fn remembered_by<'a>(
    changes: impl DoubleEndedIterator<Item = &'a [EpisodeChange]>,
    episode: &[u8],
) -> Option<Option<Bytes>> {
    let latest = changes.rev().flat_map(|changes| changes.iter().rev()).find(|change| change.episode == episode)?;
    Some(latest.note.clone().filter(|note| note.len() <= NOTE_BYTES_MAX))
}
