//! Quirks of senders on a socket: each accepted and each refused, counted once a message, stored as received.

use super::*;
use crate::pcd::tolerance::{Quirk, Rules, Tolerance, Zone};

/// A message with one quirk, the code of its refusal, and where it is refused.
struct Case {
    quirk: Quirk,
    bytes: Vec<u8>,
    code: &'static str,
    location: &'static str,
}

fn case(quirk: Quirk, bytes: impl AsRef<[u8]>, code: &'static str, location: &'static str) -> Case {
    Case { quirk, bytes: bytes.as_ref().to_vec(), code, location }
}

fn cases() -> Vec<Case> {
    let usual = message("BAD");
    let unzoned = |time: &str| with("20260314101500+0000||ORU", &format!("{time}||ORU"));
    vec![
        case(Quirk::ByteOrderMark, [b"\xEF\xBB\xBF", usual.as_bytes()].concat(), "100", ""),
        case(Quirk::LineFeed, usual.replace('\r', "\n"), "100", ""),
        case(Quirk::BlankLine, usual.replacen('\r', "\r\r", 1), "100", ""),
        case(Quirk::NoTerminator, usual.trim_end(), "100", ""),
        case(Quirk::GluedSegments, with("\rPID|||7", "PID|||7"), "100", "MSH^1^19"),
        case(Quirk::DoubledEscape, with("ANN", "A\\\\F\\\\N"), "102", "PID^1^5"),
        case(Quirk::CharsetUnnamed, with_latin(&with("ANN", "*")), "101", ""),
        case(Quirk::Milliseconds, unzoned("20260314101500000+0000"), "102", "MSH^1^7"),
        case(Quirk::NoZone, unzoned("20260314101500"), "102", "MSH^1^7"),
        case(Quirk::DstFold, unzoned("20261025023000"), "102", "MSH^1^7"),
        case(Quirk::DstGap, unzoned("20260329023000"), "102", "MSH^1^7"),
        case(Quirk::Obx4Form, with("1.1.1.1", "1.1"), "102", "OBX^1^4"),
        case(Quirk::ValueWithX, with("|||||R|", "|||||X|"), "102", "OBX^1^5"),
        case(Quirk::CharsetUnknown, with("|||||||\r", "||||||KLINGON\r"), "103", "MSH^1^18"),
        case(
            Quirk::CharsetWrong,
            with_latin(&with("|||||||\r", "||||||UNICODE UTF-8\r").replacen("ANN", "*", 1)),
            "102",
            "PID^1^5",
        ),
        case(Quirk::ControlCharacter, with("ANN", "A\0N"), "102", "PID^1^5"),
    ]
}

/// Everything a channel can be asked to accept, or with `refused` to refuse.
fn tolerant(refused: Option<Quirk>) -> Rules {
    let charset = Charset::from_label("8859/1");
    let mut rules = Rules {
        accepted: Quirk::settable().collect(),
        zone: Zone::named("Europe/Berlin"),
        charset,
        ..Rules { refused: Quirks::default(), ..Rules::default() }
    };
    if let Some(quirk) = refused {
        rules.accepted.remove(quirk);
        rules.refused.insert(quirk);
    }
    rules
}

async fn site(usual: Rules, senders: Vec<(String, Rules)>) -> Site {
    let mut channel = channel("pumps", &["ORU^R01", "ORU^R40", "RGV^O15"]);
    channel.tolerance = Tolerance { usual, senders };
    channel.listener.conformance = Conformance::Off;
    Site::with(channel).await
}

/// What was counted of a quirk: for the channel, and of its one sender.
fn counted(site: &Site, quirk: Quirk) -> (u64, Option<u64>) {
    let senders = site.conformity.senders.list();
    let met = senders.iter().flat_map(|sender| &sender.quirks).find(|met| met.quirk == quirk);
    (site.count(&site.metrics.quirks, quirk.id()), met.map(|met| met.messages))
}

#[tokio::test]
async fn each_quirk_that_is_accepted_is_counted_once_a_message_and_kept_as_received() {
    assert_eq!(cases().len(), Quirk::settable().count());
    for case in cases() {
        let (site, id) = (site(tolerant(None), vec![]).await, case.quirk.id());
        let mut peer = site.connect().await;
        for _ in 0..2 {
            peer.send(&case.bytes).await;
            let answer = peer.answer().await.unwrap();
            assert_eq!((answer.code.as_str(), &*answer.control_id), ("AA", &b"BAD"[..]), "{id}");
        }
        peer.send(message("GOOD")).await;
        peer.answers_before("GOOD").await;
        assert_eq!(site.stored().await, [Bytes::from(case.bytes), Bytes::from(message("GOOD"))], "{id}");
        assert_eq!(counted(&site, case.quirk), (2, Some(2)), "{id}: two messages had it, the clean one not");
    }
}

#[tokio::test]
async fn each_quirk_that_is_refused_is_refused_where_it_stands_counted_and_not_stored() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (site, id) = (site(tolerant(Some(case.quirk)), vec![]).await, case.quirk.id());
        let mut peer = site.connect().await;
        peer.send(&case.bytes).await;
        let answer = peer.answer().await.unwrap();
        assert_eq!((answer.code.as_str(), answer.error.as_deref()), ("AE", Some(case.code)), "{id}");
        wrong.extend((answer.location != case.location).then_some((id, answer.location)));
        peer.send(message("GOOD")).await;
        peer.answers_before("GOOD").await;
        assert_eq!(site.stored().await, [Bytes::from(message("GOOD"))], "{id}");
        assert_eq!(counted(&site, case.quirk), (1, Some(1)), "{id}");
    }
    assert_eq!(wrong, [], "refused at another place");
}

#[tokio::test]
async fn a_senders_own_setting_is_laid_over_the_channels() {
    let own = vec![("gw".to_owned(), tolerant(None))];
    let site = site(tolerant(Some(Quirk::LineFeed)), own).await;
    let mut peer = site.connect().await;
    for (sender, code) in [("GW^0123456789ABCDEF", "AA"), ("OTHER^0123456789ABCDEF", "AE")] {
        peer.send(with("GW^0123456789ABCDEF", sender).replace('\r', "\n")).await;
        assert_eq!(peer.answer().await.unwrap().code, code, "{sender}");
    }
    let senders = site.conformity.senders.list();
    let names: Vec<_> = senders.iter().map(|sender| (sender.application.as_str(), sender.quirks.len())).collect();
    assert_eq!(names, [("GW^0123456789ABCDEF^EUI-64", 1), ("OTHER^0123456789ABCDEF^EUI-64", 1)]);
}

#[tokio::test]
async fn a_header_that_only_mending_makes_readable_is_answered_by_what_it_says() {
    let site = site(tolerant(None), vec![]).await;
    let mut peer = site.connect().await;
    let escaped = with("|^~\\&|", "|^~\\\\&|").replacen("ANN", "A\\\\F\\\\N", 1);
    // PID stands where MSH-15 and MSH-16 would be read, and so would say whom to answer.
    let glued = asking(&message("GLUED"), "AL", "NE").replace("|||||||\r", "").replace("\rPID|||7", "PID|1||7");
    for sent in [&escaped, &glued] {
        peer.send(sent).await;
    }
    let first = peer.answer().await.unwrap();
    assert_eq!((first.code.as_str(), &*first.control_id), ("AA", &b"BAD"[..]));
    assert!(first.raw.starts_with(b"MSH|^~\\&|"), "the answer's own MSH-2 is right");
    assert_eq!(peer.answer().await.unwrap().code, "CA");
    assert_eq!(site.stored().await, [Bytes::from(escaped), Bytes::from(glued)]);
    for quirk in [Quirk::DoubledEscape, Quirk::GluedSegments] {
        assert_eq!(counted(&site, quirk), (1, Some(1)), "{quirk:?}");
    }
}

#[tokio::test]
async fn noise_between_frames_is_counted_for_who_sends_the_next_one() {
    let site = site(Rules::default(), vec![]).await;
    let mut peer = site.connect().await;
    let noisy =
        [&framed(message("N1").as_bytes())[..], b"\0\0\r\n", &framed(message("N2").as_bytes()), b"\0\0"].concat();
    peer.stream.write_all(&noisy).await.unwrap();
    for _ in 0..2 {
        assert_eq!(peer.answer().await.unwrap().code, "AA");
    }
    assert_eq!(counted(&site, Quirk::Noise), (1, Some(1)));
    peer.send(message("N3")).await;
    peer.answers_before("N3").await;
    assert_eq!(counted(&site, Quirk::Noise), (2, Some(2)), "also where it came long before");
    peer.send(message("N4")).await;
    peer.answers_before("N4").await;
    assert_eq!(counted(&site, Quirk::Noise), (2, Some(2)));
}

#[tokio::test]
async fn guesses_are_not_made_where_nobody_asked_for_them() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    for (bytes, code) in [
        (with("|P|2.6|||||||\rPID|||7", "|P|2.6PID|1||7"), "CE"),
        (with("|^~\\&|", "|^~\\\\&|"), "AE"),
        (with("ANN", "A\\\\N"), "AA"),
        (with("20260314101500+0000||ORU", "20260314101500000||ORU"), "AA"),
    ] {
        peer.send(&bytes).await;
        assert_eq!(peer.answer().await.unwrap().code, code, "{}", bytes.escape_debug());
    }
    assert_eq!(counted(&site, Quirk::DoubledEscape), (1, Some(1)), "counted all the same where it can be read");
    assert_eq!(counted(&site, Quirk::Milliseconds), (1, Some(1)));
}
