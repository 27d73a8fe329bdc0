//! Every value of table 0211, over a socket cut at every byte: taken and kept to the byte, or refused with its place.

use super::*;

/// What a value of MSH-18 gets.
enum Verdict {
    /// Taken; the text of PID-5.1 and OBX-5.
    Text(&'static str),
    /// Refused with this code of table 0357.
    Refused(&'static str),
}

use Verdict::{Refused, Text};

/// HL7 v2.6 and later, table 0211, with the repetitions and names that are met for them; bytes in that set, among them,
/// where the set has such, trail bytes that look like `|`, `^`, `~`, `\` and `&`.
const TABLE: [(&str, &[u8], Verdict); 48] = [
    ("ASCII", b"Mueller", Text("Mueller")),
    ("ASCII", b"M\xFCller", Refused("102")),
    ("ISO IR6", b"Mueller", Text("Mueller")),
    ("ISO IR006", b"Mueller", Text("Mueller")),
    ("8859/1", b"M\xFCller", Text("Müller")),
    ("8859/2", b"\xA3ukasz", Text("Łukasz")),
    ("8859/3", b"\xA1a\xB1al", Text("Ħaħal")),
    ("8859/4", b"\xD0\xE0ts", Text("Đāts")),
    ("8859/5", b"\xB8\xD2\xD0\xDD", Text("Иван")),
    ("8859/6", b"\xE5\xCD\xE5\xCF", Text("محمد")),
    ("8859/7", b"\xC1\xE8\xDE\xED\xE1", Text("Αθήνα")),
    ("8859/7", b"\xFF", Refused("102")),
    ("8859/8", b"\xF9\xEC\xE5\xED", Text("שלום")),
    ("8859/9", b"\xDDbrahim", Text("İbrahim")),
    ("8859/15", b"\xA4uro", Text("€uro")),
    ("ISO IR14", b"Yamada", Text("Yamada")),
    ("ISO IR14", b"\x1B(J\\5\x1B(B", Text("¥5")),
    ("ISO IR87", b"\x1B$B;3ED\x1B(B", Text("山田")),
    ("ISO IR87", b"\x1B$B%|%^%~\x1B(B", Refused("102")),
    ("ISO IR87", b"\x1B$B!\\!^!~!|!&\x1B(B", Text("＋±◇●・")),
    ("ISO IR159", b"\x1B$B;3ED\x1B(B", Text("山田")),
    ("ISO IR159", b"\x1B$(D0!\x1B(B", Refused("102")),
    ("~ISO IR87", b"\x1B$B;3ED\x1B(B", Text("山田")),
    ("ASCII~ISO IR14~ISO IR87", b"\x1B$B;3ED\x1B(B", Text("山田")),
    ("GB 18030-2000", b"\xD6\xD0\xCE\xC4", Text("中文")),
    ("GB 18030-2000", b"\x81\x7C\x82\x5E\x83\x7E\x81\x5C\x81\x26", Refused("102")),
    ("GB 18030-2000", b"\x81\x7C\x82\x5E\x83\x7E\x81\x5C", Text("亅俕儈乗")),
    ("GB 18030-2000", b"\x81\x30\x81\x30x", Text("\u{80}x")),
    ("KS X 1001", b"\xB1\xE8\xC3\xB6", Text("김철")),
    ("CNS 11643-1992", b"Wang", Refused("103")),
    ("BIG-5", b"\xA4\xA4\xA4\xE5", Text("中文")),
    ("BIG-5", b"\xA5\x5C\xA6\x7C\xB3\x5E\xA4\x7E", Text("功帆訟才")),
    ("BIG-5", b"\xA5 x", Refused("102")),
    ("UNICODE", b"\xE5\xB1\xB1", Text("山")),
    ("UNICODE UTF-8", b"\xE5\xB1\xB1\xF0\x9F\x98\x80", Text("山😀")),
    ("UNICODE UTF-8", b"\xE5\xB1", Refused("102")),
    ("UNICODE UTF-8", b"\xC0\xAF", Refused("102")),
    ("UNICODE UTF-16", b"X", Refused("103")),
    ("UNICODE UTF-32", b"X", Refused("103")),
    ("8859/1~UNICODE UTF-8", b"M\xFCller", Text("Müller")),
    ("UNICODE UTF-8~8859/1", b"M\xC3\xBCller", Text("Müller")),
    ("8859/1~KLINGON", b"X", Refused("103")),
    ("8859/10", b"X", Refused("103")),
    ("8859/16x", b"X", Refused("103")),
    ("utf-8", b"M\xC3\xBCller", Text("Müller")),
    ("iso-8859-1", b"M\xFCller", Text("Müller")),
    ("windows-1252", b"5 \x80", Text("5 €")),
    ("shift_jis", b"\x83\x7C\x83\x5E\xB1\x83\x5C", Text("ポタｱソ")),
];

/// Short, since it is sent as often as it has bytes.
fn sent(id: &str, set: &str, text: &[u8]) -> Vec<u8> {
    let head = format!("MSH|^~\\&|GW|4W|||20260314||ORU^R01|{id}|P|2.6||||||{set}\r");
    let message = format!("{head}PID|||7||*^ANN\rOBX|1|ST|1^A^L||*||||||F\r");
    let mut parts = message.as_bytes().split(|byte| *byte == b'*');
    let mut bytes = parts.next().unwrap().to_vec();
    parts.for_each(|part| bytes.extend([text, part].concat()));
    bytes
}

fn read(site: &Channel, stored: &Bytes) -> [String; 3] {
    let message = site.read(stored.clone()).unwrap();
    let text = |id: &str, field: usize, component: usize| {
        message.text(message.segment(id).unwrap().field(field).component(component).raw()).into_owned()
    };
    [text("PID", 5, 1), text("OBX", 5, 1), text("PID", 5, 2)]
}

#[tokio::test]
async fn each_set_of_table_0211_is_read_or_refused_however_its_bytes_are_cut() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    peer.stream.set_nodelay(true).unwrap();
    let rules = channel("pumps", &[]);
    for (row, (set, text, verdict)) in TABLE.iter().enumerate() {
        let frame = framed(&sent(&format!("R{row}"), set, text));
        for cut in 1..frame.len() {
            // A message of its own at each cut, or it would be the repeat of the one before.
            let id = format!("R{row}C{cut}");
            let (bytes, good) = (sent(&id, set, text), format!("G{row}C{cut}"));
            let frame = framed(&bytes);
            peer.stream.write_all(&frame[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            peer.stream.write_all(&[&frame[cut..], &framed(&sent(&good, "", b"X"))].concat()).await.unwrap();
            let answer = peer.answer().await.unwrap();
            assert_eq!(answer.control_id, id.as_bytes(), "{set}, cut at {cut}");
            let in_its_set =
                answer.raw.split(|byte| *byte == b'\r').next().unwrap().ends_with(format!("|{set}").as_bytes());
            assert!(in_its_set, "{set}: the answer is in the sender's set");
            match verdict {
                Text(_) => assert_eq!(answer.code, "AA", "{set} {text:X?}, cut at {cut}: {:?}", answer.error),
                Refused(code) => {
                    assert_eq!((answer.code.as_str(), answer.error.as_deref()), ("AE", Some(*code)), "{set} {text:X?}");
                    let place = if *code == "103" { "MSH^1^18" } else { "PID^1^5" };
                    assert_eq!(answer.location, place, "{set} {text:X?}");
                }
            }
            assert!(peer.answers_before(&good).await.is_empty());
            if cut > 1 {
                continue;
            }
            let kept = site.stored_by(&id).await;
            if let Text(wanted) = verdict {
                assert_eq!(kept, [Bytes::from(bytes)], "{set}: kept to the byte");
                assert_eq!(read(&rules, &kept[0]), [*wanted, *wanted, "ANN"], "{set}");
            } else {
                assert_eq!(kept.len(), 0, "{set}");
            }
        }
    }
}

#[tokio::test]
async fn a_wide_character_before_msh_18_does_not_hide_what_is_behind_it() {
    let site = Site::new().await;
    let mut peer = site.connect().await;
    for (set, name) in
        [("BIG-5", &b"\xA6\x7C\xB3\x5E"[..]), ("GB 18030-2000", b"\x81\x7C\x83\x7E"), ("ISO IR87", b"\x1B$B!|!^\x1B(B")]
    {
        let id = format!("W-{set}");
        let text = String::from_utf8(sent(&id, set, b"X")).unwrap();
        let (before, after) = text.split_once("|4W|").unwrap();
        let bytes = [before.as_bytes(), b"|", name, b"|", after.as_bytes()].concat();
        peer.send(&bytes).await;
        let answer = peer.answer().await.unwrap();
        assert_eq!((answer.code.as_str(), answer.control_id), ("AA", id.into_bytes()), "{set}");
        let receiver = [&b"|"[..], name, b"|"].concat();
        assert!(
            answer.raw.windows(receiver.len()).any(|part| part == receiver),
            "{set}: who is answered is named whole"
        );
    }
}
