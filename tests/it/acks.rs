//! What a sender is answered, read off the socket of the built engine by plain text splitting: every pair of MSH-15 and
//! MSH-16, what an acknowledgement looks like, and that none of it waits for a destination.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::engine::Site;

/// The bound on every wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A channel whose one destination is a port that nothing listens on.
const TO_NOBODY: &str = r#"
[listener]
address = "LISTENER"
[accept]
where = { "MSH-9" = ["ORU^R01", "ORU^R40", "ORU^R42", "RRG^O16", "ORA^R41"] }
[[destination]]
name = "ehr"
type = "mllp"
address = "127.0.0.1:1"
retry = { first = "20ms", max = "100ms" }
"#;

/// One connection of a gateway.
pub struct Gateway {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Gateway {
    pub fn connect(address: SocketAddr) -> Gateway {
        Gateway::of(TcpStream::connect(address).unwrap())
    }

    pub fn of(stream: TcpStream) -> Gateway {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Gateway { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, message: &str) {
        self.stream.write_all(format!("\x0b{message}\x1c\r").as_bytes()).unwrap();
    }

    /// The next frame's content, or `None` where the connection ends.
    pub fn frame(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\x1c\r") {
                let frame: Vec<u8> = self.buffer.drain(..end + 2).collect();
                assert_eq!(frame[0], 0x0b, "a frame begins with VT");
                return Some(String::from_utf8(frame[1..end].to_vec()).unwrap());
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).expect("an answer in time") {
                0 => return None,
                length => self.buffer.extend_from_slice(&chunk[..length]),
            }
        }
    }

    /// The next acknowledgement.
    pub fn ack(&mut self) -> Ack {
        Ack::read(&self.frame().expect("an answer before the connection ends"))
    }

    /// The acknowledgements before the one to the message `id`, which is sent now and asks for AA alone.
    fn acks_before(&mut self, id: &str) -> Vec<Ack> {
        self.send(&message(id, "", ""));
        let mut acks = Vec::new();
        loop {
            let ack = self.ack();
            if ack.control_id == id {
                assert_eq!(ack.code, "AA");
                return acks;
            }
            acks.push(ack);
        }
    }
}

/// An acknowledgement, split by its own delimiters.
#[derive(Debug)]
pub struct Ack {
    pub code: String,
    pub control_id: String,
    /// ERR-3.1
    pub error: Option<String>,
    msh: Vec<String>,
    component: char,
}

impl Ack {
    pub fn read(text: &str) -> Ack {
        let characters: Vec<char> = text.chars().take(5).collect();
        let (separator, component) = (characters[3], characters[4]);
        let segment = |id: &str| {
            let line = text.split('\r').find(|line| line.starts_with(id))?;
            Some(line.split(separator).map(str::to_owned).collect::<Vec<_>>())
        };
        let (msa, err) = (segment("MSA").expect("MSA"), segment("ERR"));
        Ack {
            code: msa[1].clone(),
            control_id: msa[2].clone(),
            error: err.map(|err| err[3].split(component).next().unwrap().to_owned()),
            msh: segment("MSH").expect("MSH"),
            component,
        }
    }

    /// MSH-`n`.
    fn msh(&self, n: usize) -> &str {
        self.msh.get(n - 1).map_or("", String::as_str)
    }
}

/// A device report that asks for these acknowledgements.
pub fn message(id: &str, accept: &str, application: &str) -> String {
    format!(
        "MSH|^~\\&|GW^0123456789ABCDEF^EUI-64|4W|EHR|H|20260314101500+0000||ORU^R01^ORU_R01|{id}|P|2.6|||{accept}|{application}||8859/1\r\
         PID|||7^^^H||A^ANN\rOBR|1||||||20260314\rOBX|1|NM|1^A^MDC|1.1.1.1|80|2^B^MDC|||||R\r"
    )
}

/// The same in other delimiters and another version.
fn in_other_delimiters(message: &str) -> String {
    let other = |c| match c {
        '|' => '$',
        '^' => '%',
        '~' => '*',
        '\\' => '#',
        '&' => '@',
        c => c,
    };
    message.chars().map(other).collect::<String>().replacen("$P$2.6$", "$P$2.5.1$", 1)
}

/// MSH-15, MSH-16: what a good, an erroneous and a rejected message is answered.
const PAIRS: [(&str, &str, [&str; 3]); 25] = [
    ("", "", ["AA", "AE", "AR"]),
    ("", "AL", ["AA", "AE", "AR"]),
    ("", "NE", ["", "", ""]),
    ("", "ER", ["", "AE", "AR"]),
    ("", "SU", ["AA", "", ""]),
    ("AL", "", ["CA", "CE", "CR"]),
    ("AL", "AL", ["CA AA", "CE", "CR"]),
    ("AL", "NE", ["CA", "CE", "CR"]),
    ("AL", "ER", ["CA", "CE", "CR"]),
    ("AL", "SU", ["CA AA", "CE", "CR"]),
    ("NE", "", ["", "", ""]),
    ("NE", "AL", ["AA", "AE", "AR"]),
    ("NE", "NE", ["", "", ""]),
    ("NE", "ER", ["", "AE", "AR"]),
    ("NE", "SU", ["AA", "", ""]),
    ("ER", "", ["", "CE", "CR"]),
    ("ER", "AL", ["AA", "CE", "CR"]),
    ("ER", "NE", ["", "CE", "CR"]),
    ("ER", "ER", ["", "CE", "CR"]),
    ("ER", "SU", ["AA", "CE", "CR"]),
    ("SU", "", ["CA", "", ""]),
    ("SU", "AL", ["CA AA", "AE", "AR"]),
    ("SU", "NE", ["CA", "", ""]),
    ("SU", "ER", ["CA", "AE", "AR"]),
    ("SU", "SU", ["CA AA", "", ""]),
];

/// What is changed of a good message, and the ERR-3 and event of its answer.
const OUTCOMES: [(&str, &str, Option<&str>, &str); 3] = [
    ("A^ANN", "A^EVE", None, "R01"),
    ("||8859/1\r", "||KLINGON\r", Some("103"), "R01"),
    ("ORU^R01^ORU_R01", "ZZZ^Z99", Some("200"), "Z99"),
];

#[test]
fn every_pair_of_msh_15_and_16_is_answered_as_it_asks_over_a_socket() {
    let mut site = Site::new(&[("pumps", TO_NOBODY)]);
    site.start();
    let mut gateway = Gateway::connect(site.listener);
    let (mut number, mut stored) = (0, 0);
    for (accept, application, due) in PAIRS {
        for ((from, to, error, event), due) in OUTCOMES.into_iter().zip(due) {
            for other in [false, true] {
                number += 1;
                let id = format!("P^{number}~&");
                let usual = message(&id, accept, application).replacen(from, to, 1);
                let sent = if other { in_other_delimiters(&usual) } else { usual };
                gateway.send(&sent);
                let acks = gateway.acks_before(&format!("GOOD{number}"));
                let codes: Vec<&str> = acks.iter().map(|ack| ack.code.as_str()).collect();
                assert_eq!(codes.join(" "), due, "MSH-15 `{accept}`, MSH-16 `{application}`, to {to}, other {other}");
                let id = if other { in_other_delimiters(&id) } else { id };
                acks.iter().for_each(|ack| check(ack, &id, error, event, other));
                stored += 1 + u64::from(error.is_none());
            }
        }
    }
    assert_eq!(
        site.json("/api/store")["messages"],
        stored,
        "what is good is stored, whether an answer is wanted or not"
    );
}

/// All that an acknowledgement owes its message but its code.
fn check(ack: &Ack, id: &str, error: Option<&str>, event: &str, other: bool) {
    assert_eq!(ack.control_id, id, "MSA-2 is MSH-10 to the byte");
    assert_eq!(ack.error.as_deref(), error, "ERR-3");
    let component = if other { '%' } else { '^' };
    assert_eq!(ack.component, component);
    let expected = |text: &str| text.replace('^', &component.to_string());
    assert_eq!(ack.msh(9), expected(&format!("ACK^{event}^ACK")));
    assert_eq!(ack.msh(12), if other { "2.5.1" } else { "2.6" });
    assert_eq!(ack.msh(2), if other { "%*#@" } else { "^~\\&" });
    let routing = [ack.msh(3), ack.msh(4), ack.msh(5), ack.msh(6)].map(str::to_owned);
    assert_eq!(routing, ["EHR", "H", &expected("GW^0123456789ABCDEF^EUI-64"), "4W"].map(str::to_owned));
    assert_eq!([ack.msh(15), ack.msh(16)], ["", ""], "an acknowledgement asks for none");
}

/// IHE PCD ACM: the watchdog of an Alert Reporter, which raises a technical alarm where its CA does not come on the same
/// connection within the seconds it names.
fn watchdog(id: &str, seconds: u32) -> String {
    format!(
        "MSH|^~\\&|AR^0123456789ABCDEF^EUI-64|4W|AM|H|20260314101500+0000||ORU^R40^ORU_R40|{id}|P|2.6|||AL|NE|||||IHE_PCD_ACM_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.4.1^ISO\r\
         OBR|1|||196616^MDC_EVT_ALARM^MDC|||20260314101500+0000\r\
         OBX|1|CWE|196616^MDC_EVT_ALARM^MDC|1.0.0.0.1|196614^MDC_EVT_ACTIVE^MDC||||||R\r\
         OBX|2|NM|67860^MDC_ATTR_CONFIRM_TIMEOUT^MDC|1.0.0.0.2|{seconds}|264320^MDC_DIM_SEC^MDC|||||R\r"
    )
}

#[test]
fn the_alert_watchdog_is_answered_in_time_while_every_destination_is_down() {
    let mut site = Site::new(&[("alarms", TO_NOBODY)]);
    site.start();
    let mut reporter = Gateway::connect(site.listener);
    // A backlog that cannot move, with application acknowledgements asked for: those too wait for no destination.
    for number in 0..200 {
        reporter.send(&message(&format!("B{number}"), "AL", "AL"));
    }
    for number in 0..200 {
        for code in ["CA", "AA"] {
            let ack = reporter.ack();
            assert_eq!((ack.code.as_str(), ack.control_id), (code, format!("B{number}")));
        }
    }
    reporter.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for number in 0..20 {
        let id = format!("W{number}");
        reporter.send(&watchdog(&id, 5));
        let ack = Ack::read(&reporter.frame().expect("CA within the watchdog's time"));
        assert_eq!((ack.code.as_str(), ack.control_id.as_str(), ack.msh(9)), ("CA", id.as_str(), "ACK^R40^ACK"));
    }
    let destination = &site.json("/api/channels/alarms")["destinations"][0];
    assert_eq!(destination["waiting"], 220, "nothing was delivered: {destination}");
}

#[test]
fn an_acknowledgement_is_never_acknowledged_whatever_it_asks_for() {
    let mut site = Site::new(&[("pumps", TO_NOBODY)]);
    site.start();
    let mut gateway = Gateway::connect(site.listener);
    for (number, (accept, application, _)) in PAIRS.into_iter().enumerate() {
        for code in ["CA", "AA", "AE", "CR"] {
            let event = if number % 2 == 0 { "ACK^R01^ACK" } else { "ACK" };
            let ack = message(&format!("A{number}"), accept, application).replacen("ORU^R01^ORU_R01", event, 1);
            gateway.send(&format!("{}MSA|{code}|7\r", &ack[..=ack.find('\r').unwrap()]));
        }
    }
    assert!(gateway.acks_before("GOOD").is_empty(), "an answer to an answer begins a loop");
    assert_eq!(site.json("/api/store")["messages"], 1);
}

/// What a pump gateway and an alert manager send back over a connection of their own, to a listener of ours.
#[test]
fn application_answers_on_a_new_connection_are_messages_like_any_other() {
    let mut site = Site::new(&[("orders", TO_NOBODY)]);
    site.start();
    for (kind, event) in [("RRG^O16^RRG_O16", "O16"), ("ORA^R41^ORA_R41", "R41")] {
        let mut gateway = Gateway::connect(site.listener);
        let answer = message(event, "AL", "NE").replacen("ORU^R01^ORU_R01", kind, 1);
        let (msh, _) = answer.split_once('\r').unwrap();
        gateway.send(&format!("{msh}\rMSA|AA|ORDER-1\r"));
        let ack = gateway.ack();
        assert_eq!((ack.code.as_str(), ack.control_id.as_str()), ("CA", event));
        assert_eq!(ack.msh(9), format!("ACK^{event}^ACK"));
    }
    assert_eq!(site.json("/api/store")["waiting"], 2, "stored, and on its way to its destination");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_reaches_its_destination_message_by_message_and_a_broken_one_not_at_all() {
    let sink = mllp_test::Sink::start("127.0.0.1:0", mllp_test::SinkConfig::default()).await.unwrap();
    let to_sink = TO_NOBODY.replace("127.0.0.1:1", &sink.address().to_string());
    let mut site = Site::new(&[("pumps", &to_sink.replace("[accept]", "batch = true\n[accept]"))]);
    site.start();
    let mut gateway = Gateway::connect(site.listener);
    let messages: String = (0..5).map(|n| message(&format!("B{n}"), "AL", "NE")).collect();
    let batch = |count| format!("FHS|^~\\&|\rBHS|^~\\&|GW|W|EHR|H|20260314||||BATCH-7\r{messages}BTS|{count}\rFTS|1\r");
    gateway.send(&batch(6));
    let ack = gateway.ack();
    assert_eq!((ack.code.as_str(), ack.error.as_deref()), ("AE", Some("102")));
    assert_eq!(site.json("/api/store")["messages"], 0);
    for _ in 0..2 {
        gateway.send(&batch(5));
        let answer = gateway.frame().unwrap();
        assert!(answer.starts_with("FHS|") && answer.ends_with("BTS|5\rFTS|1\r"), "{answer}");
        assert_eq!(answer.matches("MSA|CA|B").count(), 5, "{answer}");
    }
    tokio::task::block_in_place(|| site.drained());
    assert_eq!(sink.account().unnamed, 5, "a repeated batch is delivered once");
}
