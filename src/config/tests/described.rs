//! The keys as described: in docs/CONFIG.md, in the schemas, and by their defaults.

use super::*;

#[test]
fn no_default_is_itself_a_fault() {
    let mut missing = Vec::new();
    every_key(&mut |table, key| {
        let keys::Absent::Is(text) = key.default else { return };
        let right = match &key.kind {
            keys::Kind::Text("duration") => value::duration(text).is_ok(),
            keys::Kind::Text("size") => value::size(text).is_ok(),
            keys::Kind::Text("IP address and port") => value::socket(text).is_ok(),
            keys::Kind::Texts("path") => text.split(", ").all(|path| value::path(path).is_ok()),
            keys::Kind::Choice(choices) => choices.contains(&text),
            keys::Kind::Flag => ["true", "false"].contains(&text),
            keys::Kind::Count(min, max) => text.parse().is_ok_and(|count| (*min..=*max).contains(&count)),
            keys::Kind::Text(_) | keys::Kind::Texts(_) => true,
            _ => false,
        };
        if !right {
            missing.push(format!("{} {}", table.title, key.name));
        }
    });
    assert!(missing.is_empty(), "{missing:?}");
}

/// Visits every key of every table.
fn every_key(visit: &mut dyn FnMut(&'static keys::Table, &'static keys::Key)) {
    fn walk(table: &'static keys::Table, visit: &mut dyn FnMut(&'static keys::Table, &'static keys::Key)) {
        for key in table.keys {
            visit(table, key);
            if let keys::Kind::One(inner) | keys::Kind::Many(inner) = key.kind {
                walk(inner, visit);
            }
        }
    }
    walk(&keys::ENGINE, visit);
    walk(&keys::CHANNEL, visit);
    walk(&keys::SECRET, visit);
}

#[test]
fn every_key_is_documented_with_its_table_and_default() {
    let documented = include_str!("../../../docs/CONFIG.md");
    let mut missing = Vec::new();
    every_key(&mut |table, key| {
        let heading = |section: &&str| section.lines().next().map(|line| line.replace('`', "").to_lowercase());
        let title = table.title.to_lowercase();
        let mut sections = documented.split("\n## ").filter(|section| heading(section).as_deref() == Some(&title));
        let row = documented_row(key);
        if !sections.next().is_some_and(|section| section.lines().any(|line| line == row)) {
            missing.push(format!("{}\n{row}", table.title));
        }
    });
    assert!(missing.is_empty(), "docs/CONFIG.md lacks these rows:\n{}", missing.join("\n"));
}

/// The row of docs/CONFIG.md that describes a key.
fn documented_row(key: &keys::Key) -> String {
    let form = match &key.kind {
        keys::Kind::Choice(choices) => {
            choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ")
        }
        keys::Kind::Count(min, max) => format!("{min} to {max}"),
        keys::Kind::Texts(form) => format!("{form}, or a list"),
        kind => reader::form(kind).to_owned(),
    };
    let default = match key.default {
        keys::Absent::Required => "required".to_owned(),
        keys::Absent::Is(text) if !text.is_empty() => format!("`{text}`"),
        _ => String::new(),
    };
    let only = if key.types.is_empty() { String::new() } else { format!(" Only for type {}.", key.types.join(", ")) };
    format!("| `{}` | {form} | {default} | {}{only} |", key.name, key.about)
}

#[test]
fn the_schema_knows_exactly_the_keys_the_reader_takes() {
    fn properties<'s>(schema: &'s serde_json::Value, name: &str) -> Option<&'s serde_json::Value> {
        schema["properties"]
            .get(name)
            .map(|property| if property["items"].is_object() { &property["items"] } else { property })
    }
    fn same(table: &'static keys::Table, schema: &serde_json::Value) {
        assert_eq!(schema["additionalProperties"], false, "{}", table.title);
        let supported = || table.keys.iter().filter(|key| !matches!(key.kind, keys::Kind::Unsupported));
        assert_eq!(schema["properties"].as_object().unwrap().len(), supported().count(), "{}", table.title);
        for key in supported() {
            let property = properties(schema, key.name).unwrap_or_else(|| panic!("{} {}", table.title, key.name));
            if let keys::Kind::One(inner) | keys::Kind::Many(inner) = key.kind {
                same(inner, property);
            }
        }
    }
    let schemas = schemas();
    same(&keys::ENGINE, &schemas["cannula.toml"]);
    same(&keys::CHANNEL, &schemas["channel"]);
}

#[test]
fn the_shipped_schemas_are_the_ones_printed() {
    let shipped = [
        ("cannula.toml", include_str!("../../../docs/schema/cannula.schema.json")),
        ("channel", include_str!("../../../docs/schema/channel.schema.json")),
    ];
    for (name, text) in shipped {
        let shipped: serde_json::Value = serde_json::from_str(text).unwrap();
        assert!(
            shipped == schemas()[name],
            "write docs/schema again: `cannula check --schema` prints both, this is {name}"
        );
    }
}
