//! What a pump was told to give, and whether an event speaks of the same.
//!
//! Standard identifiers decide: the order, then the drug's codes. Words are compared only where there are none, without their
//! spaces, signs and capitals. What one of the two does not say does not count against it.

use serde::{Deserialize, Serialize};

use super::Amount;

/// What a pump was told to give.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::translate::pcd_to_fhir) struct Programme {
    /// The order: system and value.
    pub order: Option<(Option<String>, String)>,
    /// Codes of the drug: system, code, display.
    pub drug: Vec<Code>,
    /// The drug in words.
    pub words: Option<String>,
    /// How much of the drug is in it.
    pub concentration: Option<Amount>,
}

/// System, code, display.
pub(in crate::translate::pcd_to_fhir) type Code = (Option<String>, Option<String>, Option<String>);

/// Bytes of what is remembered of a programme, its concentration aside.
const BYTES_MAX: usize = 240;
/// Bytes of one text of it.
pub(in crate::translate::pcd_to_fhir) const TEXT_MAX: usize = 64;

impl Programme {
    /// Nothing that both say differs.
    pub fn is_same(&self, other: &Programme) -> bool {
        let orders = self.order.as_ref().zip(other.order.as_ref()).map(|(one, two)| is_same_order(one, two));
        let concentrations = self.concentration.as_ref().zip(other.concentration.as_ref());
        let concentrations = concentrations.and_then(|(one, two)| one.compare(two));
        if orders == Some(false) || concentrations.is_some_and(std::cmp::Ordering::is_ne) {
            return false;
        }
        match self.has_same_code(other) {
            Some(same) => same,
            // An order names its drug, however that is spelled.
            None => orders == Some(true) || self.has_same_words(other),
        }
    }

    /// Whether a start of this can be of the other: it names nothing, or something that the other names too. What ran
    /// unnamed does not become a drug by the next start.
    pub fn may_follow(&self, other: &Programme) -> bool {
        let names = self.order.is_some() || self.names_a_drug();
        let orders = self.order.is_some() && other.order.is_some();
        let words = self.words.is_some() && other.words.is_some();
        !names || orders || words || self.has_same_code(other).is_some()
    }

    /// None where no two codes can be compared.
    fn has_same_code(&self, other: &Programme) -> Option<bool> {
        let pairs = self.drug.iter().flat_map(|one| other.drug.iter().map(move |two| (one, two)));
        let comparable = pairs.filter(|(one, two)| one.0.is_none() || two.0.is_none() || one.0 == two.0);
        comparable.map(|(one, two)| one.1 == two.1).reduce(|one, two| one || two)
    }

    fn has_same_words(&self, other: &Programme) -> bool {
        let agree = |(one, two): (&String, &String)| squeezed(one) == squeezed(two);
        self.words.as_ref().zip(other.words.as_ref()).is_none_or(agree)
    }

    /// Whether it says what is given.
    pub fn names_a_drug(&self) -> bool {
        !self.drug.is_empty() || self.words.is_some()
    }

    /// The order, the codes, or without one the words, and the concentration.
    pub fn identifiers(&self) -> impl Serialize {
        let codes: Vec<_> = self.drug.iter().map(|(system, code, _)| (system, code)).collect();
        let words = self.words.as_deref().filter(|_| codes.is_empty()).map(squeezed);
        (&self.order, codes, words, &self.concentration)
    }

    /// Takes what it does not say from another word on the same.
    pub fn complete(&mut self, other: &Programme) {
        if self.order.is_none() {
            self.order.clone_from(&other.order);
        }
        if self.drug.is_empty() && !other.drug.is_empty() {
            (self.drug, self.words) = (other.drug.clone(), other.words.clone().or(self.words.take()));
        }
        if self.words.is_none() {
            self.words.clone_from(&other.words);
        }
        if self.concentration.is_none() {
            self.concentration.clone_from(&other.concentration);
        }
        self.shorten();
    }

    /// Leaves out what is for people first, then further codes, until it can be remembered.
    pub fn shorten(&mut self) {
        while self.bytes() > BYTES_MAX {
            let further = self.drug.len() > 1;
            match self.drug.iter_mut().rev().find(|code| code.2.is_some()) {
                Some(code) => code.2 = None,
                None if further => _ = self.drug.pop(),
                None => return self.words = None,
            }
        }
    }

    fn bytes(&self) -> usize {
        let order = self.order.iter().flat_map(|(system, value)| system.iter().chain([value]));
        let codes = self.drug.iter().flat_map(|(system, code, display)| [system, code, display].into_iter().flatten());
        order.chain(codes).chain(&self.words).map(|text| text.len() + 2).sum()
    }
}

fn is_same_order(one: &(Option<String>, String), two: &(Option<String>, String)) -> bool {
    one.1 == two.1 && one.0.as_ref().zip(two.0.as_ref()).is_none_or(|(one, two)| one == two)
}

/// Letters and digits alone, small.
fn squeezed(words: &str) -> String {
    words.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
