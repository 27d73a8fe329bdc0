//! The table of bad input: every row that MSH, framing and text decide, whole and in pieces, in both modes.

use super::*;

/// One row: what is made of the usual message, and what it gets: the code in original and in enhanced mode, and ERR-3.
/// A code of `-` is silence.
#[derive(Clone)]
struct Row {
    number: &'static str,
    bytes: Vec<u8>,
    original: &'static str,
    enhanced: &'static str,
    error: &'static str,
}

fn row(
    number: &'static str,
    bytes: impl AsRef<[u8]>,
    original: &'static str,
    enhanced: &'static str,
    error: &'static str,
) -> Row {
    Row { number, bytes: bytes.as_ref().to_vec(), original, enhanced, error }
}

fn rows() -> Vec<Row> {
    [rows_of_the_beginning(), rows_of_msh(), rows_of_segments(), rows_of_content(), rows_of_text_and_size()].concat()
}

fn rows_of_the_beginning() -> Vec<Row> {
    let usual = message("BAD");
    let utf16: Vec<u8> = usual.encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        row("11", with("ANN", "A\x1cN"), "AE", "CE", "102"),
        row("31", [b"\xEF\xBB\xBF", usual.as_bytes()].concat(), "AA", "CA", ""),
        row("32", utf16, "AE", "AE", "100"),
        row("33", "PID|||7\r", "AE", "AE", "100"),
        row("33", "EVN|R01\r", "AE", "AE", "100"),
        row("33", "hello", "AE", "AE", "100"),
        row("34", with("MSH|", "msh|"), "AE", "AE", "100"),
        row("35", "{\"resourceType\":\"Bundle\"}", "AE", "AE", "100"),
        row("35", "<?xml version=\"1.0\"?><ORU_R01/>", "AE", "AE", "100"),
        row("35", "DICM\x02", "AE", "AE", "100"),
        row("36", "MSH", "AE", "AE", "101"),
        row("36", "MSH|", "AE", "AE", "101"),
        row("36", "MSH|^", "AE", "AE", "101"),
        row("37", with("|^~\\&|", "|~\\&|"), "AE", "CE", "102"),
        row("37", with("|^~\\&|", "||"), "AE", "CE", "102"),
        row("38", with("|^~\\&|", "|^^\\&|"), "AE", "CE", "102"),
        row("38", with("|^~\\&|", "|^~^&|"), "AE", "CE", "102"),
        row("39", odd_delimiters(&usual), "AA", "CA", ""),
        row("40", with("|^~\\&|", "|^~\\&#|").replacen("|2.6|", "|2.7|", 1), "AA", "CA", ""),
        row("41", usual.replace('|', "A"), "AE", "AE", "102"),
        row("41", usual.replace('|', "1"), "AE", "AE", "102"),
        row("41", usual.replace('|', "\0"), "AE", "AE", "102"),
        row("41", with_latin(&usual.replace('|', "*")), "AE", "AE", "102"),
    ]
}

fn rows_of_msh() -> Vec<Row> {
    vec![
        row("42", with("ORU^R01^ORU_R01", ""), "AR", "CR", "200"),
        row("43", with("ORU^R01^ORU_R01", "ZZZ^Z99"), "AR", "CR", "200"),
        row("44", with("ORU^R01^ORU_R01", "ORU^R99"), "AR", "CR", "201"),
        row("45", with("ORU^R01^ORU_R01", "ACK^R01^ACK"), "-", "-", ""),
        row("46", with("|BAD|", "||"), "AE", "CE", "101"),
        row("47", with("|BAD|", &format!("|{}|", "x".repeat(200))), "AE", "CE", "104"),
        row("50", with("|BAD|", "|a^b&c\\d<script>'; %s|"), "AA", "CA", ""),
        row("50", with_latin(&with("|BAD|", "|caf*|")), "AA", "CA", ""),
        row("51", with("|P|", "||"), "AR", "CR", "202"),
        row("51", with("|P|", "|X|"), "AR", "CR", "202"),
        row("52", with("|P|", "|T|"), "AR", "CR", "202"),
        row("52", with("|P|", "|D|"), "AR", "CR", "202"),
        row("53", with("|2.6|", "||"), "AR", "CR", "203"),
        row("53", with("|2.6|", "|9.9|"), "AR", "CR", "203"),
        row("53", with("|2.6|", "|two|"), "AR", "CR", "203"),
        row("54", with("20260314101500+0000", "yesterday"), "AA", "CA", ""),
        row("55", with("|||||||\r", "||||||KLINGON\r"), "AE", "CE", "103"),
        row("56", with_latin(&with("|||||||\r", "||||||UNICODE UTF-8\r").replacen("ANN", "*", 1)), "AE", "CE", "102"),
        row("57", with_latin(&with("ANN", "*")), "AA", "CA", ""),
    ]
}

fn rows_of_segments() -> Vec<Row> {
    let usual = message("BAD");
    let patient = format!("||{CANARY}^ANN");
    vec![
        row("61", usual.replace('\r', "\n"), "AA", "CA", ""),
        row("61", usual.replace('\r', "\r\n"), "AA", "CA", ""),
        row("62", usual.replacen('\r', "\r\r\n\r", 1), "AA", "CA", ""),
        row("63", usual.trim_end(), "AA", "CA", ""),
        row("64", format!("{usual}P1|x\r"), "AE", "CE", "100"),
        row("64", format!("{usual}OBX1|x\r"), "AE", "CE", "100"),
        row("64", format!("{usual}|||\r"), "AE", "CE", "100"),
        row("65", format!("{usual}{usual}"), "AE", "CE", "100"),
        row("66", format!("FHS|^~\\&\rBHS|^~\\&\r{usual}BTS|1\rFTS|1\r"), "AR", "AR", "200"),
        row("66", format!("BHS|^~\\&\r{usual}BTS|2\r"), "AR", "AR", "200"),
        row("67", with("OBR|1||||||20260314\r", ""), "AA", "CA", ""),
        row("68", with(&format!("PID|||7^^^H{patient}\r"), ""), "AA", "CA", ""),
        row("69", with("7^^^H", ""), "AA", "CA", ""),
        row("70", format!("{usual}ZXY|1|anything^at~all\r"), "AA", "CA", ""),
    ]
}

fn rows_of_content() -> Vec<Row> {
    vec![
        row("71", with("|NM|", "||"), "AA", "CA", ""),
        row("72", with("|80|", "|NaN|"), "AA", "CA", ""),
        row("73", with("|80|", &format!("|{}|", "9".repeat(400))), "AA", "CA", ""),
        row("74", with("|NM|", "|QQ|"), "AA", "CA", ""),
        row("75", with("2^B^MDC", "nonsense"), "AA", "CA", ""),
        row("76", with("1^A^MDC", "4294967295^NO_SUCH^MDC"), "AA", "CA", ""),
        row("77", with("|||||R|", "|||||Q|"), "AA", "CA", ""),
        row("78", with("OBR|1||||||20260314", "OBR|1||||||20261301"), "AA", "CA", ""),
        row("79", with("|||20260314101500+0000\r", "|||20360314101500+0000\r"), "AA", "CA", ""),
    ]
}

fn rows_of_text_and_size() -> Vec<Row> {
    let many_obx = format!("{}{}", message("BAD"), "OBX|2\r".repeat(100_000));
    vec![
        row("80", with("ANN", "\\X4\\ \\Q\\ \\ \\X0D\\PID|"), "AA", "CA", ""),
        row("81", with("ANN", "A\0N"), "AE", "CE", "102"),
        row("81", with("ANN", "A\x1b[31mN"), "AE", "CE", "102"),
        row("81", with("ANN", "A\x01N"), "AE", "CE", "102"),
        row("81", with("ANN", "A\x1fN"), "AE", "CE", "102"),
        row("82", many_obx, "AE", "CE", "198"),
        row("82", with("ANN", &"~".repeat(1_000_000)), "AA", "CA", ""),
        row("82", with("ANN", &"^".repeat(1_000_000)), "AA", "CA", ""),
        row("82", with("1.1.1.1", &"1.".repeat(1000)), "AA", "CA", ""),
        row("82", with("ANN", &"x".repeat(10 << 20)), "AA", "CA", ""),
        row(
            "83",
            with("ANN", "../../etc/passwd =cmd() ${jndi:ldap://x} <!ENTITY x> http://169.254.169.254/"),
            "AA",
            "CA",
            "",
        ),
    ]
}

/// `MSH$%*#@$`: every delimiter is another one.
fn odd_delimiters(message: &str) -> String {
    let other = |c| match c {
        '|' => '$',
        '^' => '%',
        '~' => '*',
        '\\' => '#',
        '&' => '@',
        c => c,
    };
    message.chars().map(other).collect()
}

/// MSH-15 AL, MSH-16 NE.
fn set_msh(bytes: &[u8], msh_end: usize, separator: u8) -> Vec<u8> {
    let mut fields: Vec<&[u8]> = bytes[..msh_end].split(|b| *b == separator).collect();
    if fields.len() > 15 {
        fields[14] = b"AL";
        fields[15] = b"NE";
    }
    [fields.join(&separator), bytes[msh_end..].to_vec()].concat()
}

/// MSH-10 of the row, to the byte, where its header can be read.
fn control_id(bytes: &[u8]) -> Vec<u8> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if !bytes.starts_with(b"MSH") || bytes.len() < 5 || bytes[3].is_ascii_alphanumeric() || !bytes[3].is_ascii_graphic()
    {
        return vec![];
    }
    let fields: Vec<&[u8]> =
        bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap().split(|b| *b == bytes[3]).collect();
    fields.get(9).map_or_else(Vec::new, |id| id.to_vec())
}

async fn check_row(site: &Site, row: &Row, number: usize, bytes: &[u8], code: &str, sizes: &[usize]) {
    let place = format!("row {} (case {number}, expected {code})", row.number);
    for size in sizes {
        let mut peer = site.connect().await;
        let before = site.store.stats().messages;
        for piece in framed(bytes).chunks(*size) {
            peer.stream.write_all(piece).await.unwrap();
        }
        let good = message(&format!("GOOD{number}-{code}-{size}"));
        peer.send(&good).await;
        let answers = peer.answers_before(&format!("GOOD{number}-{code}-{size}")).await;
        match (code, answers.as_slice()) {
            ("-", []) => {}
            (_, [answer]) => {
                assert_eq!((answer.code.as_str(), answer.error.as_deref().unwrap_or("")), (code, row.error), "{place}");
                assert_eq!(answer.control_id, control_id(bytes), "{place}: MSA-2");
            }
            (_, answers) => panic!("{place}: {answers:?}"),
        }
        let positive = code.ends_with('A');
        let first = positive && size == &sizes[0];
        assert_eq!(site.store.stats().messages - before, 1 + u64::from(first), "{place}: messages stored");
        if first {
            let stored = site.stored().await;
            assert!(stored.iter().any(|message| message == bytes), "{place}: stored as sent");
        }
    }
}

#[tokio::test]
async fn every_kind_of_input_gets_its_answer_and_the_next_good_frame_works() {
    for (number, row) in rows().iter().enumerate() {
        let small = row.bytes.len() < 2000;
        let sizes: &[usize] = if small { &[usize::MAX >> 1, 1, 7] } else { &[usize::MAX >> 1] };
        check_row(&Site::new().await, row, number, &row.bytes, row.original, sizes).await;
        let asked = match bytes_msh_end(&row.bytes) {
            Some((end, separator)) => set_msh(&row.bytes, end, separator),
            None => row.bytes.clone(),
        };
        check_row(&Site::new().await, row, number, &asked, row.enhanced, sizes).await;
    }
}

fn bytes_msh_end(bytes: &[u8]) -> Option<(usize, u8)> {
    let start = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let end = bytes.iter().position(|b| matches!(b, b'\r' | b'\n'))?;
    bytes[start..].starts_with(b"MSH").then(|| (end, bytes[start + 3]))
}
