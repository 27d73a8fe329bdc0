//! The report as JUnit XML, which CI systems read: an area is a suite, an input a case.

use super::case::Area;
use super::report::{Report, RowResult, Verdict};
use std::fmt::Write;

impl Report {
    /// The whole file.
    pub fn junit(&self) -> String {
        let [_, failed, skipped] = self.counts();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"mllp-test spec {}\" tests=\"{}\" failures=\"{failed}\" skipped=\"{skipped}\">\n",
            attribute(&self.address),
            self.rows.len()
        );
        let mut areas: Vec<Area> = self.rows.iter().map(|row| row.area).collect();
        areas.dedup();
        for area in areas {
            let rows: Vec<RowResult> = self.rows.iter().filter(|row| row.area == area).cloned().collect();
            let of_area = Report { address: String::new(), rows };
            let [_, failed, skipped] = of_area.counts();
            let tests = of_area.rows.len();
            let _ = writeln!(
                xml,
                "  <testsuite name=\"{area}\" tests=\"{tests}\" failures=\"{failed}\" skipped=\"{skipped}\">"
            );
            of_area.rows.iter().for_each(|row| xml.push_str(&case(row)));
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>\n");
        xml
    }
}

fn case(row: &RowResult) -> String {
    let name = attribute(&format!("{} {}", row.row, row.what));
    let open = format!("    <testcase classname=\"mllp.{}\" name=\"{name}\"", row.area);
    match &row.verdict {
        Verdict::Ok => format!("{open}/>\n"),
        Verdict::Skip(why) => format!("{open}><skipped message=\"{}\"/></testcase>\n", attribute(why)),
        Verdict::Fail(fault) => {
            let text = format!("sent: {}\nanswer: {}\nexpected: {}", row.sent, row.answer, row.expected);
            let (fault, text) = (attribute(fault), attribute(&text));
            format!("{open}><failure message=\"{fault}\">{text}</failure></testcase>\n")
        }
    }
}

/// Text that can stand in XML, in an attribute too; what XML cannot hold at all was escaped before.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
