//! Acknowledgement messages (HL7 v2.6 ch. 2.9, 2.13.1; IHE PCD TF-2 B.2, B.3).
//!
//! Reads what answer an ACK gave, and builds ours. Which answer is due is intake's decision; a positive one is made
//! only from a stored message. What must never happen: an ACK echoes a value of the message other than its control id
//! and the routing fields of its header, or matches no message because the control id was changed on the way.

use bytes::Bytes;
use jiff::Timestamp;

use super::{Delimiters, Header, Message, Time, escape};

/// MSA-1, table 0008.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Accept ACK: commit accept.
    CA,
    /// Accept ACK: commit error.
    CE,
    /// Accept ACK: commit reject.
    CR,
    /// Application ACK: accept.
    AA,
    /// Application ACK: error.
    AE,
    /// Application ACK: reject.
    AR,
}

impl Code {
    /// The two letters of the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::CA => "CA",
            Code::CE => "CE",
            Code::CR => "CR",
            Code::AA => "AA",
            Code::AE => "AE",
            Code::AR => "AR",
        }
    }

    /// The code these bytes are, if they are one.
    pub fn parse(raw: &[u8]) -> Option<Code> {
        [Code::CA, Code::CE, Code::CR, Code::AA, Code::AE, Code::AR]
            .into_iter()
            .find(|code| code.as_str().as_bytes() == raw)
    }

    /// The application's answer: AA, AE or AR.
    pub fn is_application(self) -> bool {
        matches!(self, Code::AA | Code::AE | Code::AR)
    }

    /// The message was taken: CA or AA.
    pub fn is_positive(self) -> bool {
        matches!(self, Code::CA | Code::AA)
    }
}

/// One ERR segment. Never carries a value from the message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    /// ERR-2 (ERL): segment, its number, field, repetition, component, subcomponent, as in `MSH^1^9`; always written here
    /// with `^`, whatever the sender's component separator. Empty where no place can be named.
    pub location: String,
    /// ERR-3.1, table 0357.
    pub code: u16,
    /// ERR-5.1, the application's own number for it, such as a pump's reason (9001 to 9033, IHE PCD TF-2 3.3.4.4): one a
    /// receiver told. Empty where none is known.
    pub application_code: String,
    /// ERR-7 and ERR-8: what was wrong and what the sender must do; no field value.
    pub text: String,
}

/// What table 0357 calls `code`; empty where the table has no such code.
pub fn condition(code: u16) -> &'static str {
    match code {
        0 => "Message accepted",
        100 => "Segment sequence error",
        101 => "Required field missing",
        102 => "Data type error",
        103 => "Table value not found",
        104 => "Value too long",
        198 => "Non-Conformant Cardinality",
        199 => "Other HL7 Error",
        200 => "Unsupported message type",
        201 => "Unsupported event code",
        202 => "Unsupported processing id",
        203 => "Unsupported version id",
        204 => "Unknown key identifier",
        205 => "Duplicate key identifier",
        206 => "Application record locked",
        207 => "Application error",
        _ => "",
    }
}

/// Builds an ACK for the message whose header is given, in that message's delimiters: MSH-3/4 and MSH-5/6 swapped, MSH-9
/// `ACK^event^ACK` (the application's answer to RGV^O15 is RRG^O16, HL7 v2.6 ch. 4.14.2), the same MSH-11, MSH-12 and MSH-18 (`P` and `2.6` where the sender gave none), one ERR a fault. `at`
/// is MSH-7, `own_control_id` is MSH-10 of the ACK; MSA-2 is MSH-10 of the message to the byte.
pub fn build(header: &Header<'_>, code: Code, faults: &[Fault], at: Timestamp, own_control_id: &str) -> Bytes {
    let mut ack = Writer { bytes: Vec::with_capacity(256 + 160 * faults.len()), delimiters: header.delimiters };
    ack.msh(header, code, at, own_control_id);
    ack.segment("MSA");
    ack.field(code.as_str().as_bytes());
    ack.field(header.field(10));
    ack.end();
    for fault in faults {
        ack.err(fault);
    }
    ack.bytes.into()
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// MSA-1.
    pub code: Code,
    /// MSA-2, raw.
    pub control_id: Vec<u8>,
    /// ERR-3.1 of the first ERR; before v2.5, ERR-1.4.1 or MSA-6.1.
    pub error_code: Option<String>,
    /// ERR-5.1 of the first ERR that has one.
    pub application_code: Option<String>,
}

/// Reads MSA and ERR of a parsed answer; `None` where it has no MSA with a code of table 0008, so is no answer.
pub fn read(message: &Message) -> Option<Answer> {
    let msa = message.segment("MSA")?;
    let code = Code::parse(msa.field(1).raw().trim_ascii())?;
    let mut errors = message.segments().filter(|segment| segment.id() == "ERR");
    let application = errors.find_map(|err| Some(err.field(5).component(1).raw()).filter(|raw| !raw.is_empty()));
    Some(Answer {
        code,
        control_id: msa.field(2).raw().to_vec(),
        error_code: error_code(message),
        application_code: application.map(|raw| message.text(raw).into_owned()),
    })
}

fn error_code(message: &Message) -> Option<String> {
    let err = message.segment("ERR");
    let of_err = err.map(|err| [err.field(3).component(1).subcomponent(1), err.field(1).component(4).subcomponent(1)]);
    let of_msa = message.segment("MSA").map(|msa| msa.field(6).component(1).subcomponent(1));
    let raw = of_err.into_iter().flatten().chain(of_msa).find(|raw| !raw.is_empty())?;
    Some(message.text(raw).into_owned())
}

/// Writes segments field by field.
struct Writer {
    bytes: Vec<u8>,
    delimiters: Delimiters,
}

impl Writer {
    fn msh(&mut self, header: &Header<'_>, code: Code, at: Timestamp, own_control_id: &str) {
        self.segment("MSH");
        self.bytes.push(self.delimiters.field);
        self.bytes.extend(self.delimiters.encoding_characters());
        for n in [5, 6, 3, 4] {
            self.field(header.field(n));
        }
        self.text(&Time::format(at));
        self.field(b"");
        let answers_order = code.is_application() && is_order(header);
        match header.component(9, 2) {
            _ if answers_order => self.components(&[b"RRG", b"O16", b"RRG_O16"]),
            event if is_code(event) => self.components(&[b"ACK", event, b"ACK"]),
            _ => self.field(b"ACK"),
        }
        self.text(own_control_id);
        self.echo(header.field(11), matches!(header.component(11, 1), b"P" | b"D" | b"T"), "P");
        self.echo(header.field(12), header.component(12, 1).starts_with(b"2."), "2.6");
        let profile: &[u8] = if answers_order && names_pcd_03(header) { ORDER_ANSWER } else { b"" };
        if answers_order || !header.field(18).is_empty() {
            (13..15).for_each(|_| self.field(b""));
            // It is a message of its own: without this it would ask for an answer by original mode.
            (15..17).for_each(|_| self.field(if answers_order { b"NE" } else { b"" }));
            self.field(b"");
            self.field(header.field(18));
        }
        if !profile.is_empty() {
            (19..21).for_each(|_| self.field(b""));
            self.components(&[b"IHE_PCD_PIV_002", b"IHE PCD", profile, b"ISO"]);
        }
        self.end();
    }

    fn err(&mut self, fault: &Fault) {
        let location: Vec<&[u8]> = fault.location.split('^').map(str::as_bytes).collect();
        self.segment("ERR");
        self.field(b"");
        self.components(&location);
        self.components(&[fault.code.to_string().as_bytes(), condition(fault.code).as_bytes(), b"HL70357"]);
        self.field(b"E");
        self.text(&fault.application_code);
        self.field(b"");
        self.text(&fault.text);
        self.text(&fault.text);
        self.end();
    }

    fn segment(&mut self, id: &str) {
        self.bytes.extend_from_slice(id.as_bytes());
    }

    fn field(&mut self, raw: &[u8]) {
        self.bytes.push(self.delimiters.field);
        self.bytes.extend_from_slice(raw);
    }

    /// Our own words, in ASCII, which is part of whatever set MSH-18 names.
    fn text(&mut self, text: &str) {
        let ascii = text.replace(|c: char| !c.is_ascii(), "?");
        let escaped = escape(&ascii, &self.delimiters).into_owned();
        self.field(escaped.as_bytes());
    }

    fn echo(&mut self, raw: &[u8], usable: bool, usual: &str) {
        if usable { self.field(raw) } else { self.text(usual) }
    }

    fn components(&mut self, components: &[&[u8]]) {
        let joined = components.join(&self.delimiters.component);
        self.field(&joined);
    }

    fn end(&mut self) {
        // An echoed value that ends in FS would, before the segment's CR, end the MLLP frame.
        if self.bytes.last() == Some(&0x1C) {
            self.field(b"");
        }
        self.bytes.push(b'\r');
    }
}

fn is_order(header: &Header<'_>) -> bool {
    header.component(9, 1) == b"RGV" && header.component(9, 2) == b"O15"
}

/// MSH-21 says IHE PCD-03 (TF-2 B.1).
fn names_pcd_03(header: &Header<'_>) -> bool {
    let profiles = header.field(21).split(|byte| *byte == header.delimiters.repetition);
    let mut oids = profiles.map(|one| one.split(|byte| *byte == header.delimiters.component).nth(2));
    oids.any(|oid| oid.is_some_and(|oid| oid.trim_ascii() == b"1.3.6.1.4.1.19376.1.6.1.3.1"))
}

/// The profile of RRG^O16 in PCD-03.
const ORDER_ANSWER: &[u8] = b"1.3.6.1.4.1.19376.1.6.1.3.2";

/// A trigger event as the standard forms them, and nothing else that could stand in MSH-9.2.
fn is_code(raw: &[u8]) -> bool {
    (1..=8).contains(&raw.len()) && raw.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn ack(message: &[u8], code: Code, faults: &[Fault]) -> Vec<u8> {
        let at = "2026-03-14T09:26:30Z".parse().expect("a timestamp");
        build(&Header::read(message).0, code, faults, at, "C-1").to_vec()
    }

    fn ack_text(message: &str, code: Code, faults: &[Fault]) -> String {
        String::from_utf8(ack(message.as_bytes(), code, faults)).expect("text")
    }

    const REPORT: &str = "MSH|^~\\&|PUMP^0012210000000001^EUI-64|4W|EHR|HOSP|20260314092629+0000||ORU^R01^ORU_R01|\
        17|P|2.6|||AL|NE||8859/1|||IHE_PCD_001\rPID|1||42||Doe\r";

    #[test]
    fn an_ack_goes_back_to_its_sender_with_its_control_id() {
        assert_eq!(
            ack_text(REPORT, Code::CA, &[]),
            "MSH|^~\\&|EHR|HOSP|PUMP^0012210000000001^EUI-64|4W|20260314092630+0000||ACK^R01^ACK|C-1|P|2.6||||||8859/1\r\
             MSA|CA|17\r"
        );
    }

    #[test]
    fn each_fault_is_an_err_with_its_place_and_its_words_in_the_table() {
        let faults = [
            Fault {
                location: "MSH^1^9".into(),
                code: 200,
                text: "send ORU^R01 | nothing else".into(),
                ..Fault::default()
            },
            Fault { code: 104, text: "too long".into(), ..Fault::default() },
        ];
        let ack = ack_text(REPORT, Code::CR, &faults);
        let text = r"send ORU\S\R01 \F\ nothing else";
        let errs: Vec<&str> = ack.split('\r').skip(2).collect();
        assert_eq!(
            errs,
            [
                format!("ERR||MSH^1^9|200^Unsupported message type^HL70357|E|||{text}|{text}").as_str(),
                "ERR|||104^Value too long^HL70357|E|||too long|too long",
                ""
            ]
        );
        assert!(ack.contains("MSA|CR|17\r"));
    }

    #[test]
    fn an_order_is_answered_by_the_application_with_rrg_o16_and_accepted_with_an_ack() {
        let order = "MSH|^~\\&|CPOE|H|GW|W|20260314||RGV^O15^RGV_O15|17|P|2.6|||AL|AL|||||PIV^IHE PCD^ 1.3.6.1.4.1.19376.1.6.1.3.1^ISO\r";
        let fault = Fault { code: 207, application_code: "9010".into(), text: "refused".into(), ..Fault::default() };
        assert_eq!(
            ack_text(order, Code::AR, &[fault]),
            "MSH|^~\\&|GW|W|CPOE|H|20260314092630+0000||RRG^O16^RRG_O16|C-1|P|2.6|||NE|NE|||||\
             IHE_PCD_PIV_002^IHE PCD^1.3.6.1.4.1.19376.1.6.1.3.2^ISO\rMSA|AR|17\r\
             ERR|||207^Application error^HL70357|E|9010||refused|refused\r"
        );
        assert!(ack_text(order, Code::CA, &[]).contains("||ACK^O15^ACK|C-1|P|2.6\r"));
        let plain = "MSH|^~\\&|CPOE|H|GW|W|20260314||RGV^O15|17|P|2.6\r";
        assert!(ack_text(plain, Code::AA, &[]).contains("||RRG^O16^RRG_O16|C-1|P|2.6|||NE|NE||\r"));
    }

    #[test]
    fn an_ack_speaks_in_the_senders_delimiters() {
        let fault =
            Fault { location: "PID^1^3".into(), code: 101, text: "fill PID-3, 1$ a piece".into(), ..Fault::default() };
        assert_eq!(
            ack_text("MSH$%*#@$A$B$C$D$$$ADT%A01$9$T$2.3.1\rPID$1", Code::AE, &[fault]),
            "MSH$%*#@$C$D$A$B$20260314092630+0000$$ACK%A01%ACK$C-1$T$2.3.1\rMSA$AE$9\r\
             ERR$$PID%1%3$101%Required field missing%HL70357$E$$$fill PID-3, 1#F# a piece$fill PID-3, 1#F# a piece\r"
        );
        assert!(ack_text("MSH|^~\\&#|A||||||ADT^A01|9|P|2.7\r", Code::AA, &[]).starts_with("MSH|^~\\&#|"));
    }

    #[test]
    fn the_control_id_is_echoed_to_the_byte() {
        for id in [&b"a^b&c~d\\e"[..], b"<script>';%s", b"\xE9\xFF\x01", b" 7 ", &[b'9'; 500]] {
            let message = [b"MSH|^~\\&|A||||||ADT^A01|", id, b"|P|2.6\r"].concat();
            let ack = Message::parse(ack(&message, Code::AE, &[])).unwrap();
            assert_eq!(ack.segment("MSA").unwrap().field(2).raw(), id);
        }
    }

    #[test]
    fn no_echo_ends_the_frame_of_the_ack() {
        let ack = ack(b"MSH|^~\\&|A||||||ADT^A01|17\x1C|P|2.6\x1C\r", Code::AE, &[]);
        assert!(!ack.windows(2).any(|pair| pair == b"\x1C\r"));
        assert_eq!(Message::parse(ack).unwrap().segment("MSA").unwrap().field(2).raw(), b"17\x1C");
    }

    #[test]
    fn what_cannot_be_echoed_is_replaced_by_what_is_usual() {
        let ack = ack_text("MSH|^~\\&|A||||||ORU|17|X|two\r", Code::AR, &[]);
        assert_eq!(ack, "MSH|^~\\&|||A||20260314092630+0000||ACK|C-1|P|2.6\rMSA|AR|17\r");
        assert!(ack_text("MSH|^~\\&|A||||||ORU^<x y>|17", Code::AR, &[]).contains("||ACK|C-1|P|2.6\r"));
    }

    #[test]
    fn an_unreadable_header_is_answered_with_usual_delimiters_and_no_control_id() {
        let expected = "MSH|^~\\&|||||20260314092630+0000||ACK|C-1|P|2.6\rMSA|AE|\r";
        for message in ["", "PID|1", "msh|^~\\&|A||||||ORU^R01|17|P|2.6", "{}", "MSHA^~\\&A", "MSH", "MSH|", "MSH|^"] {
            assert_eq!(ack_text(message, Code::AE, &[]), expected, "{message}");
        }
    }

    #[test]
    fn bad_encoding_characters_still_give_the_control_id() {
        let ack = ack_text("MSH|^^\\&|A|B|C|D|||ORU^R01|17|P|2.6\rPID|1", Code::AE, &[]);
        assert_eq!(ack, "MSH|^~\\&|C|D|A|B|20260314092630+0000||ACK^R01^ACK|C-1|P|2.6\rMSA|AE|17\r");
        let ack = ack_text("MSH^^~\\&^A^B^C^D^^^ORU^17", Code::AE, &[]);
        assert!(ack.starts_with("MSH^|~\\&^"), "{ack}");
    }

    #[test]
    fn every_ack_is_itself_a_message_that_reads_as_its_code() {
        for code in [Code::CA, Code::CE, Code::CR, Code::AA, Code::AE, Code::AR] {
            let fault = Fault { location: "PID^1^5".into(), code: 102, text: "größer".into(), ..Fault::default() };
            let faults = if code.is_positive() { vec![] } else { vec![fault] };
            let answer = read(&Message::parse(ack(REPORT.as_bytes(), code, &faults)).unwrap()).unwrap();
            assert_eq!((answer.code, answer.control_id.as_slice()), (code, &b"17"[..]));
            assert_eq!(answer.error_code.as_deref(), if code.is_positive() { None } else { Some("102") });
            assert_eq!(Code::parse(code.as_str().as_bytes()), Some(code));
        }
    }

    #[test]
    fn answers_of_older_versions_are_read_too() {
        let answer = |rest: &str| read(&Message::parse(format!("MSH|^~\\&|A||||||ACK|1|P|2.3\r{rest}")).unwrap());
        assert_eq!(
            answer("MSA|AE|17\rERR|PID^1^5^103&Table value not found").unwrap().error_code.as_deref(),
            Some("103")
        );
        assert_eq!(answer("MSA|AR|17|refused|||207^internal").unwrap().error_code.as_deref(), Some("207"));
        assert_eq!(answer("MSA|AA|17|fine").unwrap().error_code, None);
        let second = answer("MSA|AR|17\rERR|||207|E\rERR|||207|E|9010^No such drug^99PIV").unwrap();
        assert_eq!(second.application_code.as_deref(), Some("9010"));
    }

    #[test]
    fn what_has_no_answer_code_is_no_answer() {
        let parsed = |rest: &str| Message::parse(format!("MSH|^~\\&|A||||||ACK|1|P|2.6\r{rest}")).unwrap();
        for rest in ["", "MSA", "MSA||17", "MSA|OK|17", "MSA|aa|17", "PID|AA|17"] {
            assert_eq!(read(&parsed(rest)), None, "{rest}");
        }
    }
}
