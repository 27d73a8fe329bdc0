//! JSON Schema (2020-12) of cannula.toml and of a channel file, made from the description the reader uses.

use serde_json::{Map, Value, json};

use super::{
    keys::{self, Absent, Key, Kind, Table},
    reader::form,
};

/// JSON schemas of cannula.toml (`cannula.toml`) and of a channel file (`channel`).
pub fn schemas() -> Value {
    json!({ "cannula.toml": document(&keys::ENGINE), "channel": document(&keys::CHANNEL) })
}

fn document(described: &Table) -> Value {
    let mut schema = table(described);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(described.title);
    schema
}

fn table(described: &Table) -> Value {
    let supported = || described.keys.iter().filter(|key| !matches!(key.kind, Kind::Unsupported));
    let properties: Map<String, Value> = supported().map(|key| (key.name.to_owned(), property(key))).collect();
    let always = supported().filter(|key| matches!(key.default, Absent::Required) && key.types.is_empty());
    let required: Vec<&str> = always.map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    let belongs = if key.types.is_empty() { String::new() } else { format!(" (type {})", key.types.join(", ")) };
    schema["description"] = json!(format!("{}{belongs}", key.about));
    if let Absent::Is(text) = key.default {
        schema["default"] = default(&key.kind, text);
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    let string = |of: &str| json!({ "type": "string", "$comment": of });
    let strings = |of: &str| json!({ "anyOf": [string(of), { "type": "array", "items": string(of) }] });
    match kind {
        Kind::Text("duration") => json!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d)$" }),
        Kind::Text("size") => json!({ "type": "string", "pattern": "^[0-9]+ *([KMGT]i)?B$" }),
        Kind::Text(_) => string(form(kind)),
        Kind::Texts(of) => strings(of),
        Kind::Choice(choices) => json!({ "enum": choices }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::One(described) => table(described),
        Kind::Many(described) => json!({ "type": "array", "items": table(described) }),
        Kind::Map(of, true) => json!({ "type": "object", "additionalProperties": strings(of) }),
        Kind::Map(of, false) => json!({ "type": "object", "additionalProperties": string(of) }),
        Kind::Secrets => json!({ "type": "object", "additionalProperties": secret() }),
        Kind::Secret => secret(),
        Kind::Unsupported => json!(false),
    }
}

/// One reference, not two.
fn secret() -> Value {
    let mut schema = table(&keys::SECRET);
    schema["minProperties"] = json!(1);
    schema["maxProperties"] = json!(1);
    schema
}

fn default(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Flag => json!(text == "true"),
        Kind::Count(..) => text.parse::<u64>().map_or(Value::Null, |count| json!(count)),
        Kind::Texts(_) => json!(text.split(", ").filter(|text| !text.is_empty()).collect::<Vec<_>>()),
        _ => json!(text),
    }
}
