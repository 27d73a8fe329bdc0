//! Every key of cannula.toml and of a channel file: name, kind, default and meaning.
//!
//! The reader takes only keys described here, the JSON schema is made from this, and a test holds docs/CONFIG.md
//! against it, so the three cannot come apart.

mod summary;
mod tls;
mod tolerance;

pub(super) use tolerance::TOLERANCE;
#[cfg(test)]
pub(super) use tolerance::TOLERANCE_SENDER;

use self::{
    summary::SUMMARY,
    tls::{CLIENT_TLS, LISTENER_TLS},
};
use super::fhir_keys::AUTH;
use Absent::{Is, Optional, Required};
use Kind::{Choice, Count, Flag, Map, One, Text, Texts};

/// A table and its keys.
pub(super) struct Table {
    /// As a fault and the documentation name it.
    pub title: &'static str,
    pub keys: &'static [Key],
}

/// One key of a table.
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Absent,
    pub about: &'static str,
    /// Destination types it belongs to; empty: all.
    pub types: &'static [&'static str],
}

/// What a key takes.
pub(super) enum Kind {
    /// A string of the form named.
    Text(&'static str),
    /// A string or a list of strings of the form named.
    Texts(&'static str),
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// true or false.
    Flag,
    /// A whole number in this range.
    Count(u64, u64),
    /// A table.
    One(&'static Table),
    /// `[[…]]`: a table each.
    Many(&'static Table),
    /// A table whose keys are the writer's own, with strings (or lists of them where `true`) of the form named.
    Map(&'static str, bool),
    /// A table whose keys are the writer's own, each a secret reference.
    Secrets,
    /// A secret reference.
    Secret,
    /// In the contract, not in this version.
    Unsupported,
}

/// What holds where a key is not written.
#[derive(Clone, Copy)]
pub(super) enum Absent {
    Required,
    Optional,
    Is(&'static str),
}

pub(super) const fn key(name: &'static str, kind: Kind, default: Absent, about: &'static str) -> Key {
    Key { name, kind, default, about, types: &[] }
}

pub(super) const fn of(types: &'static [&'static str], key: Key) -> Key {
    Key { types, ..key }
}

pub(super) const fn later(name: &'static str, about: &'static str) -> Key {
    key(name, Kind::Unsupported, Optional, about)
}

const MLLP: &[&str] = &["mllp"];
pub(super) const FHIR: &[&str] = &["fhir"];
const FILE: &[&str] = &["file"];
const NETWORK: &[&str] = &["mllp", "fhir"];
const MAPPED: &[&str] = &["fhir", "file"];

pub(super) static ENGINE: Table = Table {
    title: "cannula.toml",
    keys: &[
        key("channels", Text("folder"), Is("channels"), "Folder of the channel files."),
        key("tables", Text("folder"), Is("channels/tables"), "Folder of the CSV code tables."),
        key("store", One(&STORE), Optional, "Where messages are kept."),
        key("admin", One(&ADMIN), Optional, "API, metrics and health."),
        key("limits", One(&LIMITS), Optional, "Budgets of the whole engine."),
        key("log", One(&LOG), Optional, "The log, which goes to standard error."),
    ],
};

pub(super) static STORE: Table = Table {
    title: "[store]",
    keys: &[
        key("path", Text("folder"), Is("data"), "Folder of the store; made where it is missing."),
        key(
            "retain",
            Text("duration"),
            Is("30d"),
            "How long delivered messages are kept for browsing and replay. Undelivered ones are never removed.",
        ),
        key(
            "max_bytes",
            Text("size"),
            Is("50GiB"),
            "Disk the store may use, at least eight segments. At the limit messages are refused (AR or CR 207), never dropped.",
        ),
        key(
            "segment_bytes",
            Text("size"),
            Is("64MiB"),
            "Size of one file of the journal, the unit in which disk is given back; at least twice the largest `max_message`.",
        ),
        key(
            "retain_when_full",
            Flag,
            Is("false"),
            "Where room gets short: `false` gives up delivered messages early, oldest first; `true` keeps them for all of `retain` and refuses new ones.",
        ),
        later("key", "Encryption of every record at rest."),
    ],
};

pub(super) static ADMIN: Table = Table {
    title: "[admin]",
    keys: &[
        key("listen", Text("IP address and port"), Is("127.0.0.1:8575"), "Address of the API, metrics and health."),
        key(
            "allow_unauthenticated",
            Flag,
            Is("false"),
            "Allows an address that other machines reach. Anyone who reaches it can read messages: this version has no login.",
        ),
    ],
};

pub(super) static LIMITS: Table = Table {
    title: "[limits]",
    keys: &[
        key(
            "memory",
            Text("size"),
            Is("256MiB"),
            "What the engine plans its memory by: `max_in_flight`, messages kept in memory until delivered (a sixteenth), what repeats and retransmissions are told by (a fifth, some 50 bytes for each of the two). A waiting message takes some 12 bytes of it for each destination.",
        ),
        key(
            "max_in_flight",
            Text("size"),
            Optional,
            "Memory for messages read and not yet answered, over all listeners; at least the largest `max_message`. Each message of a batch counts 2 KiB more than its bytes. Not written: a quarter of `memory`.",
        ),
        key("drain_timeout", Text("duration"), Is("30s"), "How long a stop waits for what was begun."),
        key(
            "hold_when_full",
            Text("duration"),
            Is("10s"),
            "How long a message that finds the store full is held, its connection waiting, before it is refused (AR or CR 207); `0s` refuses at once.",
        ),
    ],
};

pub(super) static LOG: Table =
    Table { title: "[log]", keys: &[key("format", Choice(&["text", "json"]), Is("text"), "Form of a log line.")] };

pub(super) static CHANNEL: Table = Table {
    title: "a channel file",
    keys: &[
        key("description", Text("text"), Is(""), "For people: what sends here and where it goes."),
        key("listener", One(&LISTENER), Required, "Where messages come in."),
        key("accept", One(&ACCEPT), Optional, "Which messages are this channel's; without it, all."),
        key("repeat", One(&REPEAT), Optional, "How a sender's repeat is told."),
        key(
            "device",
            One(&DEVICE),
            Optional,
            "How its devices are told, how often they report, and when one is silent.",
        ),
        key("tolerance", One(&TOLERANCE), Optional, "Which quirks of its senders are accepted and which refused."),
        key("destination", Kind::Many(&DESTINATION), Required, "Where messages go, one table each."),
        key(
            "summary",
            Kind::Many(&SUMMARY),
            Optional,
            "Summaries of each patient's continuous glucose, made by a schedule, a table each.",
        ),
    ],
};

pub(super) static LISTENER: Table = Table {
    title: "[listener]",
    keys: &[
        key(
            "address",
            Text("IP address and port"),
            Required,
            "Address to listen on. Channels may share one: the first, by file name, whose `accept` matches takes the message. They must then have the same limits and `tls`.",
        ),
        key(
            "allow_plaintext",
            Flag,
            Is("false"),
            "Allows an address that other machines reach without `tls`, over which messages then go unencrypted. `allow` is then required.",
        ),
        key("allow", Texts("network such as 10.4.0.0/16"), Is(""), "Peers that may connect; none: all."),
        key("max_message", Text("size"), Is("16MiB"), "Longest message, at most 32MiB."),
        key("max_connections", Count(1, 65_535), Is("1024"), "Open connections on the address."),
        key("max_connections_per_address", Count(1, 65_535), Is("256"), "Open connections from one peer address."),
        key("max_pipelined", Count(1, 65_535), Is("64"), "Messages of one connection taken and not yet answered."),
        key("idle_timeout", Text("duration"), Is("0s"), "Closes a connection without a byte for this long; 0s: never."),
        key(
            "frame_timeout",
            Text("duration"),
            Is("60s"),
            "Closes a connection whose message was begun and not ended within this; 0s: never.",
        ),
        key(
            "write_timeout",
            Text("duration"),
            Is("30s"),
            "Closes a connection that does not take an answer within this; 0s: never.",
        ),
        key(
            "charset",
            Text("charset"),
            Is("msh-18"),
            "`msh-18`: as each message says; a name of table 0211 or a WHATWG label overrides it.",
        ),
        key(
            "charset_default",
            Text("charset"),
            Is("UNICODE UTF-8"),
            "Charset of messages in which MSH-18 is empty. Bytes that are not legal in it are refused (102).",
        ),
        key("processing_ids", Texts("MSH-11 value"), Is("P"), "MSH-11.1 values taken; others are refused (202)."),
        key("versions", Texts("MSH-12 prefix"), Is("2."), "Beginnings of MSH-12.1 taken; others are refused (203)."),
        key(
            "ack",
            Choice(&["stored", "delivered"]),
            Is("stored"),
            "When the application ACK is due: once the message is durable here, or (`delivered`) once every destination took it; AE or AR where one refused it for good. The accept ACK (MSH-15) never waits for a destination.",
        ),
        key(
            "ack_timeout",
            Text("duration"),
            Is("30s"),
            "With `ack = \"delivered\"`, for a sender whose only answer is the application ACK: how long it is kept waiting. Then its connection ends without an answer, and the repeat it sends is answered by what became of the first.",
        ),
        key(
            "ack_keep",
            Text("duration"),
            Is("24h"),
            "With `ack = \"delivered\"`, for a sender that had its accept ACK: how long an application ACK that is due and cannot be sent is owed; over a restart by the wall clock.",
        ),
        key(
            "ack_address",
            Text("host:port"),
            Optional,
            "With `ack = \"delivered\"`: where due application ACKs are sent over MLLP while no connection of their sender is open. Without it they wait for the sender's next message.",
        ),
        key(
            "batch",
            Flag,
            Is("false"),
            "Takes frames that hold a batch (FHS, BHS, messages, BTS, FTS): each message goes its own way, and one batch of ACKs answers, also where there is no message. A batch cut short or with a wrong count is refused whole (AE 102), as is one of more than 10,000 messages (AE 198) or of more than fit half of `limits.max_in_flight` with 2 KiB counted for each beside its bytes (AE 104). `false`: batches are refused (AR 200). Repeats must be told.",
        ),
        key(
            "conformance",
            Choice(&["off", "report", "reject"]),
            Is("off"),
            "Whether messages are held to the rules of docs/CONFORMANCE.md before the answer. `report` never refuses: what a message breaks is counted, by sender too, and kept with it; `reject` refuses a message by the profile's first error.",
        ),
        key(
            "conformance_profile",
            Choice(&["as-received", "strict"]),
            Is("as-received"),
            "What `reject` refuses. `as-received`: what cannot be read or attributed (rules H). `strict`: every error of the IHE PCD framework too, which nearly every real gateway makes.",
        ),
        key(
            "tls",
            One(&LISTENER_TLS),
            Optional,
            "Takes connections over TLS 1.2 or 1.3 alone; without it they are plaintext. Channels that share an address have the same.",
        ),
    ],
};

pub(super) static ACCEPT: Table = Table {
    title: "[accept]",
    keys: &[
        key(
            "transaction",
            Texts("transaction such as PCD-04"),
            Is(""),
            "IHE PCD transactions, as the profile OID in MSH-21, MSH-9 or codes tell them; none: all.",
        ),
        key("where", Map("PATH = value or list of values", true), Optional, "Every path must hold one of its values."),
        key("when", Text("expression"), Optional, "An expression that must be true."),
    ],
};

pub(super) static REPEAT: Table = Table {
    title: "[repeat]",
    keys: &[
        key(
            "key",
            Texts("path"),
            Is("MSH-3, MSH-10"),
            "Places whose values together tell a repeat; an empty list, or a message where all of them are empty: none is told.",
        ),
        key(
            "window",
            Text("duration"),
            Is("24h"),
            "The same values further apart are a new message; 0s: repeats are not told.",
        ),
        key(
            "retransmission",
            Choice(&["mark", "drop", "off"]),
            Is("mark"),
            "What becomes of a message whose content an earlier one within the window had, but for MSH-7, MSH-10 and MSH-13: `mark` delivers it, counts it and says in its timeline which it repeats; `drop` answers and counts it and does not store it; `off` does not look. A message with no time of its own (OBR-7, OBX-14, EVN-2 or MSA-2) is never taken for one.",
        ),
    ],
};

pub(super) static DEVICE: Table = Table {
    title: "[device]",
    keys: &[
        key(
            "expected_interval",
            Text("duration"),
            Optional,
            "Time between two reports of a device. Not written: learned from each device, as what three of four of its last 16 pauses do not exceed.",
        ),
        key(
            "silent_after",
            Count(0, 1_000),
            Is("3"),
            "Reports missed in a row after which a device is silent, and no sooner than after 5 seconds; 0: no device is ever silent.",
        ),
        IDENTITY,
        STRIP_PREFIX,
        key("sender", Kind::Many(&DEVICE_SENDER), Optional, "Senders whose devices are told otherwise, a table each."),
    ],
};

const IDENTITY: Key = key(
    "identity",
    Texts("place"),
    Is("sys-id, obx-18-eui64, obx-18, prt-10"),
    "Places that name a device, best first: `sys-id` (MDC_ATTR_SYS_ID), `obx-18-eui64`, `obx-18` (any other typed identifier), `obx-18-serial-model` (serial number and model), `prt-10`, `obr-3`, `msh-3`.",
);

const STRIP_PREFIX: Key = key(
    "strip_prefix",
    Texts("text"),
    Is(""),
    "Taken off a device's identifier where digits alone remain, for gateways that put a letter before it in some messages only. Two devices whose numbers differ by such a letter become one.",
);

pub(super) static DEVICE_SENDER: Table = Table {
    title: "[[device.sender]]",
    keys: &[key("name", Text("text"), Required, "Its MSH-3.1 or MSH-3.2."), IDENTITY, STRIP_PREFIX],
};

pub(super) static DESTINATION: Table = Table {
    title: "[[destination]]",
    keys: &[
        key("name", Text("name"), Required, "Unique in the channel: letters, digits, `-` and `_`, at most 64."),
        key("type", Choice(&["fhir", "mllp", "file"]), Required, "What is at the other end."),
        of(MLLP, key("address", Text("host:port"), Required, "The receiver.")),
        of(FHIR, key("url", Text("URL"), Required, "Base URL of the FHIR server, without user, query or fragment.")),
        of(
            FHIR,
            key(
                "headers",
                Kind::Secrets,
                Optional,
                "Extra request headers, each a secret reference that holds the whole value (`Bearer …`), such as `Authorization = { env = \"EHR_BEARER\" }`.",
            ),
        ),
        of(FHIR, key("max_response", Text("size"), Is("1MiB"), "Longest answer read, at most 64MiB.")),
        of(
            MAPPED,
            key(
                "fhir",
                One(&super::fhir_mapping::FHIR_MAPPING),
                Optional,
                "Settings of `pcd-to-fhir` and `oru-to-fhir`.",
            ),
        ),
        of(
            FHIR,
            key(
                "auth",
                One(&AUTH),
                Optional,
                "How requests are authorised; not beside an `Authorization` in `headers`.",
            ),
        ),
        of(
            NETWORK,
            key(
                "tls",
                One(&CLIENT_TLS),
                Optional,
                "Type mllp: sends over TLS 1.2 or 1.3 alone, also where it is empty (`tls = {}`); without it, plaintext. Type fhir: certificates of an https connection, and of that to the token endpoint.",
            ),
        ),
        of(
            FILE,
            key(
                "directory",
                Text("folder"),
                Required,
                "Where files are written. It is not made: a folder that is not there may be a mount that is missing, and messages wait for it.",
            ),
        ),
        of(
            FILE,
            key(
                "layout",
                Choice(&["per-message", "ndjson"]),
                Is("per-message"),
                "A file a message, or one growing file with a JSON line a message.",
            ),
        ),
        of(NETWORK, key("allow_plaintext", Flag, Is("false"), "Allows a connection to another machine without TLS.")),
        of(
            NETWORK,
            key("timeout", Text("duration"), Is("30s"), "Longest wait for the connection, and for the answer."),
        ),
        of(
            MLLP,
            key(
                "answer",
                Choice(&["accept", "application"]),
                Is("accept"),
                "Which answer settles a message that asks for both: the accept ACK, or (`application`) the application ACK that follows on the same connection, such as RRG^O16 to RGV^O15. It is asked for in every case: MSH-16 `ER` or `SU` goes out as `AL`, and the sender is told what it asked for. In original mode (MSH-15 and MSH-16 empty) the one answer is the application's, so it is waited for after a CA there too. One that refuses, or does not come within `timeout`, makes a dead letter or holds the lane: nobody has said that the message was acted upon.",
            ),
        ),
        key(
            "translate",
            Choice(&["none", "repaired", "steps", "pcd-to-fhir", "oru-to-fhir"]),
            Optional,
            "How bodies are made: as received, as read where `[tolerance]` repairs, by the steps below, a device's report (IHE PCD) to FHIR R4, or the results of a laboratory (ORU^R01) to FHIR R4. Without it: `steps` where there are steps, `pcd-to-fhir` for a FHIR server, else `none`.",
        ),
        key("step", Kind::Many(&STEP), Optional, "Changes to the message, one verb a step, in order."),
        key(
            "transaction",
            Texts("transaction such as PCD-04"),
            Is(""),
            "Which transactions of the channel's messages go here, as in `[accept]`.",
        ),
        key(
            "where",
            Map("PATH = value or list of values", true),
            Optional,
            "Which of the channel's messages go here, as in `[accept]`.",
        ),
        key("when", Text("expression"), Optional, "An expression that must be true, as in `[accept]`."),
        key(
            "order",
            Text("strict, device, patient or path"),
            Is("strict"),
            "What is kept in order: everything, or messages of one device, of one patient (PID-3.1), or with the same value at a path.",
        ),
        key(
            "lanes",
            Count(1, 1024),
            Is("1"),
            "Ways in parallel; messages with the same `order` value share one. `strict` has one.",
        ),
        key(
            "resend_window",
            Count(1, 256),
            Is("1"),
            "Messages of a lane that its receiver gets again at most after a power failure, in order and marked as possible repeats. With `1` a message goes out once the answer to the one before it is on the disk; with more, a lane is no slower than its receiver where the disk is. Messages sent together count as one.",
        ),
        key("retry", One(&RETRY), Optional, "Waits between two attempts."),
        key(
            "on_reject",
            Choice(&["park", "hold"]),
            Is("park"),
            "A message that is refused or cannot be translated becomes a dead letter and the next is sent, or its lane stops until a person decides.",
        ),
    ],
};

pub(super) static RETRY: Table = Table {
    title: "retry",
    keys: &[
        key("first", Text("duration"), Is("1s"), "First wait; it doubles with each attempt."),
        key(
            "max",
            Text("duration"),
            Is("5m"),
            "Longest wait, unless the receiver asks for longer (`Retry-After`): then that, an hour at most.",
        ),
        key(
            "refused",
            Count(0, 100),
            Is("0"),
            "Times a message that the receiver refused is sent again before `on_reject` applies to it.",
        ),
    ],
};

pub(super) static STEP: Table = Table {
    title: "[[destination.step]]",
    keys: &[
        key("set", One(&SET), Optional, "Writes a text at a path. A segment that is not there is not made."),
        key(
            "copy",
            One(&COPY),
            Optional,
            "Copies a value with its components. Where both paths leave the segments of one id open, each is copied within itself. Where nothing was sent, the target is emptied.",
        ),
        key("map", One(&MAP), Optional, "Replaces codes by a table."),
        key("delete", One(&DELETE), Optional, "Empties a path, or removes every segment of an id."),
        later("replace", "Replaces text."),
        later("date", "Changes the form of a time."),
        later("unit", "Converts a unit."),
        later("keep", "Keeps only some segments."),
        later("drop", "Leaves the message out."),
        later("split", "Makes several messages of one."),
        later("script", "Runs a script."),
    ],
};

pub(super) static SET: Table = Table {
    title: "set",
    keys: &[
        key("path", Text("path"), Required, "Where; every place the path leaves open."),
        key("to", Text("text"), Required, "The text; delimiters in it are escaped."),
    ],
};

pub(super) static COPY: Table = Table {
    title: "copy",
    keys: &[
        key("from", Text("path"), Required, "The value; a field with all its repetitions."),
        key("to", Text("path"), Required, "Where it is written."),
    ],
};

pub(super) static MAP: Table = Table {
    title: "map",
    keys: &[
        key(
            "each",
            Text("segment id"),
            Optional,
            "The segments that hold the code; the same as in `path`, for people.",
        ),
        key(
            "path",
            Text("path"),
            Required,
            "A field, of which component 1 is looked up and components 1 to 3 are written, or a component.",
        ),
        key("table", Text("table"), Required, "File name in the `tables` folder."),
        key(
            "missing",
            Choice(&["keep", "drop", "dead"]),
            Required,
            "A code without a row is kept, its segment is left out, or the message cannot be translated (`on_reject`). Each is counted.",
        ),
    ],
};

pub(super) static DELETE: Table = Table {
    title: "delete",
    keys: &[
        key("path", Text("path"), Optional, "The value to empty; every place the path leaves open."),
        key("segment", Text("segment id"), Optional, "The segments to remove."),
    ],
};

pub(super) static SECRET: Table = Table {
    title: "a secret reference",
    keys: &[
        key("env", Text("name"), Optional, "Environment variable that holds the secret."),
        key("file", Text("file"), Optional, "File that holds the secret; a final line end is not part of it."),
    ],
};
