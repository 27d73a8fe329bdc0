//! CWE and its relatives: up to three code/text/system triplets and the original text (HL7 v2.6 ch. 2A.13).

use crate::hl7::Repetition;

/// One triplet as sent: raw, still escaped.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Triplet<'m> {
    /// CWE.1, .4 or .10.
    pub code: &'m [u8],
    /// CWE.2, .5 or .11.
    pub text: &'m [u8],
    /// CWE.3, .6 or .12: the name of the coding system, table 0396.
    pub system: &'m [u8],
}

impl Triplet<'_> {
    /// The triplet's code is an ISO/IEEE 11073-10101 one.
    pub fn is_mdc(&self) -> bool {
        self.system == b"MDC"
    }

    fn is_empty(&self) -> bool {
        self.code.is_empty() && self.text.is_empty()
    }
}

/// A coded value as sent.
#[derive(Clone, Copy, Default)]
pub struct Coded<'m> {
    triplets: [Triplet<'m>; 3],
    /// CWE.9, the words the sender had.
    pub original_text: &'m [u8],
}

impl<'m> Coded<'m> {
    /// Reads a repetition in one pass.
    pub fn read(repetition: Repetition<'m>) -> Coded<'m> {
        let mut coded = Coded::default();
        for (i, component) in repetition.components().take(12).enumerate() {
            let raw = if component.raw() == b"\"\"" { b"" } else { component.raw() };
            let [first, second, third] = &mut coded.triplets;
            match i + 1 {
                1 => first.code = raw,
                2 => first.text = raw,
                3 => first.system = raw,
                4 => second.code = raw,
                5 => second.text = raw,
                6 => second.system = raw,
                9 => coded.original_text = raw,
                10 => third.code = raw,
                11 => third.text = raw,
                12 => third.system = raw,
                _ => {}
            }
        }
        coded
    }

    /// The triplets that hold a code or a text, in the order sent.
    pub fn triplets(&self) -> impl Iterator<Item = Triplet<'m>> + use<'m> {
        let triplets = self.triplets;
        triplets.into_iter().filter(|triplet| !triplet.is_empty())
    }

    /// The MDC triplet, wherever it stands.
    pub fn mdc(&self) -> Option<Triplet<'m>> {
        self.triplets().find(Triplet::is_mdc)
    }

    /// The MDC triplet, or the one that says it is MDC by its identifier alone (`68483^MDC_ATTR_…` without a system is
    /// printed so in the framework itself).
    pub fn mdc_or_alike(&self) -> Option<Triplet<'m>> {
        self.mdc()
            .or_else(|| self.triplets().find(|triplet| triplet.system.is_empty() && triplet.text.starts_with(b"MDC")))
    }
}
