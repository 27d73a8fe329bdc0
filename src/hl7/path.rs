//! Where in a message: `PID-3[2].4.1`, `OBX[3]-5`, `OBX(OBX-3.1=160212)-5`.
//!
//! A path is checked when it is written, so that reading by it cannot fail. What must never happen: a path that means
//! one place reads another; so all numbers count from 1 as the standard does, and there are no wild cards to guess at.

use std::{borrow::Cow, fmt, str::FromStr};

use nom::{
    IResult,
    branch::alt,
    bytes::complete::{is_not, tag, take_while_m_n},
    character::complete::{char, digit1},
    combinator::{cut, map, map_opt, opt, verify},
    error::{ContextError, ErrorKind, ParseError as NomError, context},
    sequence::{delimited, pair, preceded, separated_pair},
};

use super::{Field, Message, Segment};

/// A place in a message, checked when it was written.
///
/// `SEG[i](SEG-f.c=value)-f[r].c.s`: segment id; the number of the segment among those of its id, or what its own field
/// has to be (compared as text, unescaped), or both, then the number counts the matching ones; field; repetition; component; subcomponent.
/// What is left out is open: all segments of the id, all repetitions; without a component the path means all of them, raw.
/// A value with `)` in it is put in double quotes.
///
/// ```
/// use cannula::hl7::Path;
/// let path = Path::parse("OBX(OBX-3.1=160212)-5.1")?;
/// assert_eq!((path.segment(), path.field(), path.component()), ("OBX", 5, Some(1)));
/// # Ok::<(), cannula::hl7::PathError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    segment: String,
    condition: Option<Box<Condition>>,
    index: Option<usize>,
    place: Place,
}

/// The part of a path after the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    field: usize,
    repetition: Option<usize>,
    component: Option<usize>,
    subcomponent: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Condition {
    place: Place,
    value: String,
}

/// Why a text is not a path, and at which character (0-based).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at character {at}")]
pub struct PathError {
    /// What was wrong or expected.
    pub what: String,
    /// The character, counted from 0.
    pub at: usize,
}

impl Path {
    /// Reads a path. Segment numbers end at 99,999, all others at 999, so that an edit by a path stays small.
    pub fn parse(text: &str) -> Result<Path, PathError> {
        match path(text) {
            Ok(("", path)) => Ok(path),
            Ok((rest, _)) => Err(fault("nothing more was expected", text, rest)),
            Err(nom::Err::Error(error) | nom::Err::Failure(error)) => Err(fault(error.what, text, error.rest)),
            Err(nom::Err::Incomplete(_)) => Err(fault("the path ends too early", text, "")),
        }
    }

    /// Segment id, such as `OBX`.
    pub fn segment(&self) -> &str {
        &self.segment
    }

    /// Number of the segment, from 1, where the path fixes it.
    pub fn segment_number(&self) -> Option<usize> {
        self.index
    }

    /// Field number.
    pub fn field(&self) -> usize {
        self.place.field
    }

    /// Repetition, from 1, where the path fixes it.
    pub fn repetition(&self) -> Option<usize> {
        self.place.repetition
    }

    /// Component, from 1; without one the path means them all.
    pub fn component(&self) -> Option<usize> {
        self.place.component
    }

    /// Subcomponent, from 1; without one the path means them all.
    pub fn subcomponent(&self) -> Option<usize> {
        self.place.subcomponent
    }

    /// The path says which of the segments of its id it means.
    pub fn chooses_segment(&self) -> bool {
        self.index.is_some() || self.condition.is_some()
    }

    /// The path ends at a field, so an edit means the field with all its repetitions.
    pub(super) fn means_whole_field(&self) -> bool {
        self.place.repetition.is_none() && self.place.component.is_none()
    }

    /// The segments of `message` this path means, in order sent.
    pub fn segments<'m>(&self, message: &'m Message) -> impl Iterator<Item = Segment<'m>> {
        let of_id = message.segments().filter(|segment| segment.id_bytes() == self.segment.as_bytes());
        let matching =
            of_id.filter(|segment| self.condition.as_ref().is_none_or(|condition| condition.holds(*segment)));
        let (skip, take) = self.index.map_or((0, usize::MAX), |index| (index - 1, 1));
        matching.skip(skip).take(take)
    }

    /// The non-empty values this path means in one segment, of the id it names.
    pub fn values_in<'m>(&self, segment: Segment<'m>) -> impl Iterator<Item = &'m [u8]> + use<'m> {
        self.place.values(segment.field(self.place.field))
    }
}

impl Place {
    fn values<'m>(self, field: Field<'m>) -> impl Iterator<Item = &'m [u8]> + use<'m> {
        let (skip, take) = self.repetition.map_or((0, usize::MAX), |repetition| (repetition - 1, 1));
        let parts = field.repetitions().skip(skip).take(take).map(move |repetition| {
            match (self.component, self.subcomponent) {
                (None, _) => repetition.raw(),
                (Some(component), None) => repetition.component(component).raw(),
                (Some(component), Some(subcomponent)) => repetition.component(component).subcomponent(subcomponent),
            }
        });
        parts.filter(|raw| !raw.is_empty())
    }
}

impl Condition {
    fn holds(&self, segment: Segment<'_>) -> bool {
        let message = segment.message();
        self.place.values(segment.field(self.place.field)).any(|raw| message.text(raw) == self.value)
    }
}

impl Message {
    /// The first value at `path` that is not empty, raw (still escaped). Without a segment index or repetition the path
    /// means the first.
    pub fn first(&self, path: &Path) -> Option<&[u8]> {
        path.segments(self).find_map(|segment| path.values_in(segment).next())
    }

    /// Every non-empty value at `path`: all segments and repetitions the path leaves open, raw, in order sent.
    pub fn values<'m>(&'m self, path: &Path) -> Vec<&'m [u8]> {
        path.segments(self).flat_map(|segment| path.values_in(segment)).collect()
    }

    /// `first`, decoded by the message's character set and unescaped.
    pub fn first_text(&self, path: &Path) -> Option<Cow<'_, str>> {
        self.first(path).map(|raw| self.text(raw))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segment)?;
        if let Some(condition) = &self.condition {
            let quote = if condition.value.contains(')') || condition.value.is_empty() { "\"" } else { "" };
            write!(f, "({}-{}={quote}{}{quote})", self.segment, condition.place, condition.value)?;
        }
        if let Some(index) = self.index {
            write!(f, "[{index}]")?;
        }
        write!(f, "-{}", self.place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.field)?;
        if let Some(repetition) = self.repetition {
            write!(f, "[{repetition}]")?;
        }
        [self.component, self.subcomponent].into_iter().flatten().try_for_each(|part| write!(f, ".{part}"))
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Path, PathError> {
        Path::parse(text)
    }
}

const FIELD_MAX: usize = 999;
const SEGMENT_MAX: usize = 99_999;

/// What was expected where the grammar stopped.
struct Expected<'t> {
    what: &'static str,
    rest: &'t str,
}

impl<'t> NomError<&'t str> for Expected<'t> {
    fn from_error_kind(rest: &'t str, _: ErrorKind) -> Self {
        Expected { what: "this is not part of a path", rest }
    }

    fn append(_: &'t str, _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl<'t> ContextError<&'t str> for Expected<'t> {
    fn add_context(_: &'t str, what: &'static str, other: Self) -> Self {
        Expected { what, ..other }
    }
}

type Parsed<'t, T> = IResult<&'t str, T, Expected<'t>>;

fn fault(what: &str, text: &str, rest: &str) -> PathError {
    PathError { what: what.to_owned(), at: text[..text.len() - rest.len()].chars().count() }
}

fn path(text: &str) -> Parsed<'_, Path> {
    let (rest, segment) = segment_id(text)?;
    let (rest, condition) = opt(condition(segment))(rest)?;
    let (rest, index) = opt(bracketed(SEGMENT_MAX))(rest)?;
    let (rest, place) = preceded(expect_char("`-` and a field number were expected", '-'), place)(rest)?;
    Ok((rest, Path { segment: segment.to_owned(), condition: condition.map(Box::new), index, place }))
}

fn segment_id(text: &str) -> Parsed<'_, &str> {
    let character = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    let id = verify(take_while_m_n(3, 3, character), |id: &str| id.starts_with(|c: char| c.is_ascii_uppercase()));
    context("a segment id, a capital letter and two capital letters or digits, was expected", id)(text)
}

/// `(OBX-3.1=value)`, of the same segment.
fn condition<'t>(segment: &'t str) -> impl FnMut(&'t str) -> Parsed<'t, Condition> {
    let own_segment =
        context("the condition must be on a field of the same segment", cut(pair(tag(segment), char('-'))));
    let equation = separated_pair(preceded(own_segment, place), expect_char("`=` was expected", '='), value);
    map(delimited(char('('), equation, expect_char("`)` was expected", ')')), |(place, value)| Condition {
        place,
        value,
    })
}

fn value(text: &str) -> Parsed<'_, String> {
    let quoted = delimited(char('"'), map(opt(is_not("\"")), Option::unwrap_or_default), char('"'));
    let value = map(alt((quoted, is_not(")\""))), str::to_owned);
    context("a value, in double quotes if it holds `)`, was expected", cut(value))(text)
}

fn place(text: &str) -> Parsed<'_, Place> {
    let (rest, field) = number(FIELD_MAX)(text)?;
    let (rest, repetition) = opt(bracketed(FIELD_MAX))(rest)?;
    let (rest, parts) = opt(pair(dotted, opt(dotted)))(rest)?;
    let (component, subcomponent) =
        parts.map_or((None, None), |(component, subcomponent)| (Some(component), subcomponent));
    Ok((rest, Place { field, repetition, component, subcomponent }))
}

fn dotted(text: &str) -> Parsed<'_, usize> {
    preceded(char('.'), number(FIELD_MAX))(text)
}

fn bracketed<'t>(max: usize) -> impl FnMut(&'t str) -> Parsed<'t, usize> {
    delimited(char('['), number(max), expect_char("`]` was expected", ']'))
}

fn number<'t>(max: usize) -> impl FnMut(&'t str) -> Parsed<'t, usize> {
    let what =
        if max == FIELD_MAX { "a number from 1 to 999 was expected" } else { "a number from 1 to 99999 was expected" };
    let in_range =
        move |digits: &str| digits.parse().ok().filter(|n| (1..=max).contains(n) && !digits.starts_with('0'));
    context(what, cut(map_opt(digit1, in_range)))
}

fn expect_char<'t>(what: &'static str, c: char) -> impl FnMut(&'t str) -> Parsed<'t, char> {
    context(what, cut(char(c)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    fn report() -> Message {
        let segments = [
            r"MSH|^~\&|PUMP|4W|EHR||20260314092630+0000||ORU^R01^ORU_R01|17|P|2.6",
            "PID|||42^^^HOSP&1.2.3&ISO^MR~77^^^SSA^SS||Doe^Jane",
            "OBX|1|NM|157^RATE^MDC||12.5",
            "OBX|2|NM|160212^GLUCOSE^MDC||",
            r"OBX|3|NM|160212^GLU\T\COSE^MDC||88",
            "OBX",
            "OBX|5|ST|9^(odd)^MDC||\"\"",
        ];
        Message::parse(segments.join("\r")).unwrap()
    }

    fn values(path: &str) -> Vec<String> {
        let message = report();
        message
            .values(&Path::parse(path).unwrap())
            .iter()
            .map(|raw| String::from_utf8_lossy(raw).into_owned())
            .collect()
    }

    #[test]
    fn what_a_path_leaves_open_is_every_segment_and_repetition() {
        assert_eq!(values("OBX-5"), ["12.5", "88", "\"\""]);
        assert_eq!(values("PID-3.1"), ["42", "77"]);
        assert_eq!(values("PID-3"), ["42^^^HOSP&1.2.3&ISO^MR", "77^^^SSA^SS"]);
    }

    #[test]
    fn what_a_path_fixes_is_only_that() {
        assert_eq!(values("OBX[3]-5"), ["88"]);
        assert_eq!(values("OBX[2]-5"), [""; 0]);
        assert_eq!(values("PID-3[2].4.1"), ["SSA"]);
        assert_eq!(values("PID-3.4.2"), ["1.2.3"]);
        assert_eq!(values("PID-3[3]"), [""; 0]);
        assert_eq!(values("OBX[4]-3"), [""; 0]);
        assert_eq!(values("ZZZ-1"), [""; 0]);
    }

    #[test]
    fn a_field_is_the_whole_of_it_and_a_component_its_part() {
        assert_eq!(values("MSH-9"), ["ORU^R01^ORU_R01"]);
        assert_eq!(values("MSH-9.1"), ["ORU"]);
        assert_eq!(values("MSH-1"), ["|"]);
        assert_eq!(values("MSH-2"), [r"^~\&"]);
        assert_eq!(values("MSH-2.1"), [r"^~\&"]);
    }

    #[test]
    fn a_condition_is_compared_with_the_unescaped_text() {
        assert_eq!(values("OBX(OBX-3.1=160212)-5"), ["88"]);
        assert_eq!(values("OBX(OBX-3.2=GLU&COSE)-1"), ["3"]);
        assert_eq!(values("OBX(OBX-3.1=160212)[2]-1"), ["3"]);
        assert_eq!(values("OBX(OBX-3.2=\"(odd)\")-1"), ["5"]);
        assert_eq!(values("PID(PID-3.4=SSA)-5.2"), ["Jane"]);
        assert_eq!(values("OBX(OBX-3.1=1602)-5"), [""; 0]);
    }

    #[test]
    fn the_first_value_is_the_first_that_is_not_empty() {
        let message = report();
        let first = |path: &str| message.first_text(&Path::parse(path).unwrap()).map(Cow::into_owned);
        assert_eq!(first("OBX(OBX-3.1=160212)-5").as_deref(), Some("88"));
        assert_eq!(first("OBX[3]-3.2").as_deref(), Some("GLU&COSE"));
        assert_eq!(first("PID-3").as_deref(), Some("42^^^HOSP&1.2.3&ISO^MR"));
        assert_eq!(first("PID-30"), None);
    }

    #[test]
    fn what_is_no_path_is_told_with_its_character() {
        for (text, at, what) in [
            ("", 0, "segment id"),
            ("pid-3", 0, "segment id"),
            ("1AB-3", 0, "segment id"),
            ("PID", 3, "`-`"),
            ("PID3", 3, "`-`"),
            ("PIDX-3", 3, "`-`"),
            ("PID-", 4, "a number from 1 to 999"),
            ("PID-0", 4, "a number from 1 to 999"),
            ("PID-1000", 4, "a number from 1 to 999"),
            ("PID-99999999999999999999999", 4, "a number from 1 to 999"),
            ("PID-3[0]", 6, "a number"),
            ("PID-3[2", 7, "`]`"),
            ("PID-3.", 6, "a number"),
            ("PID-3.1.2.3", 9, "nothing more"),
            ("PID-3 ", 5, "nothing more"),
            ("OBX[x]-5", 4, "99999"),
            ("OBX(OBX-3.1)-5", 11, "`=`"),
            ("OBX(OBX-3.1=)-5", 12, "a value"),
            ("OBX(OBX-3.1=é", 13, "`)`"),
            ("OBX(PID-3=1)-5", 4, "same segment"),
            ("OBX(OBX-3.1=\"é)-5", 12, "a value"),
        ] {
            let error = Path::parse(text).expect_err(text);
            assert!(error.what.contains(what), "{text}: {error}");
            assert_eq!(error.at, at, "{text}: {error}");
        }
    }

    #[test]
    fn a_path_is_written_as_it_was_read() {
        for text in [
            "PID-3[2].4.1",
            "OBX[3]-5",
            "OBX(OBX-3.1=160212)-5",
            "MSH-9",
            "PID-5.1",
            "ZPI-12[3]",
            "OBX(OBX-3[2].1=\"a)b\")[4]-5.2.1",
            "OBX(OBX-5=\"\")-1",
            "Z12-1",
        ] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_refused_inside_it(text in any::<String>()) {
            if let Err(error) = Path::parse(&text) {
                prop_assert!(error.at <= text.chars().count());
            }
        }

        #[test]
        fn display_gives_a_path_back(
            text in r#"[A-Z][A-Z0-9]{2}(\[[1-9][0-9]{0,4}\])?-[1-9][0-9]{0,2}(\[[1-9][0-9]{0,2}\])?(\.[1-9][0-9]{0,2}(\.[1-9])?)?"#
        ) {
            prop_assert_eq!(Path::parse(&text).unwrap().to_string(), text);
        }

        #[test]
        fn display_gives_a_condition_back(value in r#"[^"]{0,12}"#, quoted in any::<bool>()) {
            let text = if quoted { format!("OBX(OBX-3.1=\"{value}\")-5") } else { format!("OBX(OBX-3.1={value})-5") };
            if let Ok(path) = Path::parse(&text) {
                prop_assert_eq!(Path::parse(&path.to_string()).unwrap(), path);
            }
        }
    }
}
