//! A message taken apart by plain splitting: segments, fields, repetitions, components. Nothing is unescaped; blanks
//! around a component count for nothing, and HL7's explicit null is as empty as what is not there.

/// What says that there is nothing, and was not merely left out.
pub const NULL: &str = "\"\"";

/// The parts of a message.
#[derive(Debug, Clone)]
pub struct Message {
    /// MSH-1, the field separator.
    pub separator: char,
    /// MSH-2 as sent.
    pub marks: String,
    segments: Vec<Segment>,
}

/// One segment.
#[derive(Debug, Clone)]
pub struct Segment {
    /// `MSH`, `OBX` …
    pub id: String,
    /// The how manieth of its kind in the message, from 1.
    pub number: usize,
    /// Which OBR came last before it: 0 before the first.
    pub group: usize,
    fields: Vec<String>,
    marks: [char; 3],
}

impl Message {
    /// `None` where the first segment is no MSH with its separators. Segments may end in CR, LF or both.
    pub fn read(bytes: &[u8]) -> Option<Message> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}');
        let mut head = text.strip_prefix("MSH")?.chars();
        let separator = head.next().filter(|c| !c.is_ascii_alphanumeric() && !c.is_control())?;
        let marks: String = head.take_while(|&c| c != separator && !c.is_control()).collect();
        let mut letters = marks.chars();
        let three = [letters.next()?, letters.next().unwrap_or('~'), letters.nth(1).unwrap_or('&')];
        let mut segments: Vec<Segment> = Vec::new();
        let mut group = 0;
        for line in text.split(['\r', '\n']).filter(|line| !line.trim().is_empty()) {
            let mut fields: Vec<String> = line.split(separator).map(str::to_owned).collect();
            let id = fields[0].clone();
            if id == "MSH" {
                // MSH-1 is the separator itself, so that fields are numbered as in every other segment.
                fields.insert(1, separator.to_string());
            }
            group += usize::from(id == "OBR");
            let number = segments.iter().filter(|segment| segment.id == id).count() + 1;
            segments.push(Segment { id, number, group, fields, marks: three });
        }
        Some(Message { separator, marks, segments })
    }

    /// Every segment, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segments of one kind.
    pub fn all<'m>(&'m self, id: &'m str) -> impl Iterator<Item = &'m Segment> + 'm {
        self.segments.iter().filter(move |segment| segment.id == id)
    }

    /// The first segment of a kind.
    pub fn first(&self, id: &str) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.id == id)
    }

    /// A field of MSH.
    pub fn header(&self, number: usize) -> &str {
        self.segments.first().map_or("", |msh| msh.field(number))
    }

    /// A component of a field of MSH.
    pub fn header_part(&self, number: usize, component: usize) -> &str {
        self.segments.first().map_or("", |msh| msh.part(number, component))
    }
}

impl Segment {
    /// A field as sent; empty where there is none, and for HL7's explicit null.
    pub fn field(&self, number: usize) -> &str {
        Some(self.raw(number)).filter(|&sent| sent != NULL).unwrap_or_default()
    }

    /// A field as sent, be it HL7's explicit null.
    pub fn raw(&self, number: usize) -> &str {
        self.fields.get(number).map_or("", String::as_str)
    }

    /// A component of the first repetition of a field.
    pub fn part(&self, number: usize, component: usize) -> &str {
        self.component(self.field(number).split(self.marks[1]).next().unwrap_or(""), component)
    }

    /// The repetitions of a field; none where it is empty.
    pub fn repetitions(&self, number: usize) -> impl Iterator<Item = &str> {
        self.field(number).split(self.marks[1]).filter(move |_| !self.field(number).is_empty())
    }

    /// A component of a repetition.
    pub fn component<'a>(&self, repetition: &'a str, number: usize) -> &'a str {
        let sent = repetition.split(self.marks[0]).nth(number - 1).unwrap_or("").trim();
        Some(sent).filter(|&sent| sent != NULL).unwrap_or_default()
    }

    /// Whether the first repetition of a field is this term, by its number or by its identifier: senders that have no
    /// number for a term send 0 and the identifier.
    pub fn is_term(&self, field: usize, code: &str, refid: &str) -> bool {
        let [number, name] = [1, 2].map(|component| self.part(field, component));
        number == code || name == refid
    }

    /// How many components a repetition has.
    pub fn width(&self, repetition: &str) -> usize {
        repetition.split(self.marks[0]).count()
    }

    /// A subcomponent of a component.
    pub fn subcomponent<'a>(&self, component: &'a str, number: usize) -> &'a str {
        component.split(self.marks[2]).nth(number - 1).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn parts_are_numbered_as_hl7_numbers_them() {
        let text = b"MSH|^~\\&|A^B|||||||ID\rOBR|1\rOBX|1|NM|1^X~2^Y&Z|1.0\nOBR|2\r\nOBX|2\r";
        let message = Message::read(text).unwrap();
        assert_eq!((message.header(1), message.header(2), message.header(10)), ("|", "^~\\&", "ID"));
        assert_eq!(message.header_part(3, 2), "B");
        let obx = message.first("OBX").unwrap();
        assert_eq!(obx.repetitions(3).collect::<Vec<_>>(), ["1^X", "2^Y&Z"]);
        assert_eq!((obx.part(3, 2), obx.field(9), obx.repetitions(9).count()), ("X", "", 0));
        assert_eq!(obx.subcomponent("Y&Z", 2), "Z");
        assert_eq!(message.all("OBX").map(|obx| (obx.number, obx.group)).collect::<Vec<_>>(), [(1, 1), (2, 2)]);
    }

    #[test]
    fn what_does_not_begin_with_a_header_is_no_message() {
        for text in ["", "PID|1", "MSH", "MSH|", "MSHxabc"] {
            assert!(Message::read(text.as_bytes()).is_none(), "{text}");
        }
    }
}
