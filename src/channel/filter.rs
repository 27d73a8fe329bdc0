//! Which messages are taken: `transaction`, what the message is for, `where`, values at paths, and `when`, an expression.
//! All must hold.

use std::sync::Arc;

use crate::{
    hl7::{Message, Path, unescape},
    pcd::{self, Nomenclature, Transaction},
};

use super::Expression;

/// `transaction`, `where` and `when`; all must hold; empty takes everything.
#[derive(Default)]
pub struct Filter {
    transactions: Option<(Vec<Transaction>, Arc<Nomenclature>)>,
    conditions: Vec<Condition>,
    when: Option<Expression>,
}

/// One line of `where`: some value at the path is one of those wanted.
///
/// A path that ends in a field (`MSH-9`) compares component by component: those given must be equal, further ones the
/// message sends are ignored, so `ORU^R01` takes `ORU^R01^ORU_R01`. A path that names a component compares its whole
/// text. The text `""` is met where nothing was sent.
pub struct Condition {
    path: Path,
    whole_field: bool,
    wanted: Vec<Vec<String>>,
}

impl Filter {
    /// Takes what meets all conditions and the expression.
    pub fn new(conditions: Vec<Condition>, when: Option<Expression>) -> Filter {
        Filter { transactions: None, conditions, when }
    }

    /// The same, of these transactions only, as the table of profiles in `nomenclature` tells them.
    pub fn of(self, transactions: Vec<Transaction>, nomenclature: Arc<Nomenclature>) -> Filter {
        Filter { transactions: Some((transactions, nomenclature)), ..self }
    }

    /// Whether it takes the message; the error says why that could not be told, without content.
    pub fn takes(&self, message: &Message) -> Result<bool, String> {
        let told = |nomenclature: &Nomenclature| pcd::recognise(message, nomenclature).transaction;
        let wanted = self.transactions.as_ref().is_none_or(|(wanted, codes)| wanted.contains(&told(codes)));
        if !wanted || !self.conditions.iter().all(|condition| condition.holds(message)) {
            return Ok(false);
        }
        self.when.as_ref().map_or(Ok(true), |when| when.holds(message))
    }

    /// It takes every message.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_none() && self.conditions.is_empty() && self.when.is_none()
    }
}

impl Condition {
    /// Some value at `path` is one of `wanted`.
    pub fn new(path: Path, wanted: &[String]) -> Condition {
        let whole_field = path.component().is_none();
        let split = |text: &String| match whole_field {
            true => text.split('^').map(str::to_owned).collect(),
            false => vec![text.clone()],
        };
        Condition { path, whole_field, wanted: wanted.iter().map(split).collect() }
    }

    fn holds(&self, message: &Message) -> bool {
        let values = message.values(&self.path);
        let wanted_empty = self.wanted.iter().any(|wanted| wanted.iter().all(String::is_empty));
        values.is_empty() && wanted_empty || values.iter().any(|raw| self.equals_any(message, raw))
    }

    fn equals_any(&self, message: &Message, raw: &[u8]) -> bool {
        self.wanted.iter().any(|wanted| match (self.whole_field, wanted.as_slice()) {
            (false, [text]) => message.text(raw) == text.as_str(),
            (_, components) if components.iter().all(String::is_empty) => raw.is_empty(),
            (_, components) => leading_components_equal(message, raw, components),
        })
    }
}

fn leading_components_equal(message: &Message, raw: &[u8], wanted: &[String]) -> bool {
    let delimiters = message.delimiters();
    // Divided as text: in some sets a delimiter's byte can be half a character.
    let Some(sent) = message.charset().ok().and_then(|charset| charset.decode(raw)) else { return false };
    let mut sent = sent.split(char::from(delimiters.component));
    wanted.iter().all(|text| unescape(sent.next().unwrap_or_default(), &delimiters) == text.as_str())
}
