//! Keys of FHIR destinations: `auth`, and how resources are written. Described as in `keys`.

use super::{
    keys::{
        Absent::{Is, Optional, Required},
        FHIR, Key,
        Kind::{self, Choice, Count, One, Text, Texts},
        Table, key, of,
    },
    profiles,
};
use crate::destination::TOGETHER_MAX;

pub(super) const PROFILE: Key = key(
    "profile",
    Choice(profiles::NAMES),
    Is("generic"),
    "What is known of a product: values for the keys below that are not written. The table of profiles follows.",
);

pub(super) const IDEMPOTENCY: Key = of(
    FHIR,
    key(
        "idempotency",
        Choice(&["if-none-exist", "put-id", "none"]),
        Is("if-none-exist"),
        "What makes a repeat harmless: conditional create; an id made of the resource's identity, put under it; or nothing at the server, so that what may have been taken is searched for before it is sent again.",
    ),
);

pub(super) const BUNDLE: Key = of(
    FHIR,
    key(
        "bundle",
        Choice(&["transaction", "batch", "single"]),
        Is("transaction"),
        "What one request holds: the message, all or nothing; the resources that do not refer to each other, each taken or refused by itself; or one resource.",
    ),
);

pub(super) const MESSAGES_PER_BUNDLE: Key = of(
    FHIR,
    key(
        "messages_per_bundle",
        Count(1, TOGETHER_MAX as u64),
        Is("1"),
        "Messages of one lane in one transaction at most, where so many wait; what is in it is taken or refused together. Refused, it is sent again in halves until the message that the server refuses goes alone.",
    ),
);

pub(super) const PATIENT: Key = of(
    FHIR,
    key(
        "patient",
        Choice(&["reference", "lookup", "conditional-create"]),
        Is("reference"),
        "How the patient is named: by identifier, for the server to find within the transaction; by the id of the one patient that a search finds; or by a Patient of that identifier, made where the server has none.",
    ),
);

pub(super) const SEARCH: Key = of(
    FHIR,
    key(
        "search",
        Choice(&["post", "get"]),
        Is("post"),
        "How searches are sent. `get` puts identifiers into URLs, which servers and proxies log: only for a server that takes nothing else.",
    ),
);

pub(super) const REPEAT_SEARCH: Key = of(
    FHIR,
    key(
        "repeat_search",
        Choice(&["identifier", "content"]),
        Is("identifier"),
        "With `idempotency = \"none\"`, what an observation that may have been taken is searched by: its identifier, or its patient, code, time and value.",
    ),
);

pub(super) const CACHE: Key = of(
    FHIR,
    key(
        "cache",
        Text("duration"),
        Is("10m"),
        "How long the patient or device that a search found is believed, at most 10,000 of them; 0s: never. One that makes the server refuse a message is searched again at once. A patient merged into another meanwhile is written to until then where the server still takes it: lower this where registration merges often.",
    ),
);

pub(super) const RATE: Key =
    of(FHIR, key("rate", One(&RATE_TABLE), Optional, "Bound on requests, of all lanes together."));

pub(super) static RATE_TABLE: Table = Table {
    title: "rate",
    keys: &[
        key(
            "per_second",
            Count(1, 10_000),
            Optional,
            "Requests begun in a second; after a pause as many at once. Not written: no bound.",
        ),
        key("concurrent", Count(1, 1024), Optional, "Requests without an answer. Not written: one for each lane."),
    ],
};

const LOGIN: &[&str] = &["smart-backend", "client-secret"];

pub(super) static AUTH: Table = Table {
    title: "auth",
    keys: &[
        key(
            "type",
            Choice(&["smart-backend", "client-secret", "basic", "bearer"]),
            Required,
            "`smart-backend`: SMART Backend Services, a login by an assertion that a private key signs; `client-secret`: OAuth 2.0 client credentials; `basic`: user and password with each request; `bearer`: a token that does not change.",
        ),
        of(LOGIN, key("client_id", Text("text"), Required, "As the EHR registered it.")),
        of(
            &["smart-backend"],
            key(
                "key",
                Kind::Secret,
                Required,
                "Private key in PEM form: RSA of at least 2048 bits (signs by RS384) or EC P-384 (ES384). `cannula jwks` prints its public half to register.",
            ),
        ),
        of(
            &["smart-backend"],
            key(
                "kid",
                Text("text"),
                Optional,
                "Name of the key in the registered set. Not written: its RFC 7638 thumbprint.",
            ),
        ),
        of(&["client-secret"], key("secret", Kind::Secret, Required, "The client's secret.")),
        of(
            &["client-secret"],
            key(
                "secret_in",
                Choice(&["basic", "post"]),
                Is("basic"),
                "Where the secret goes: the Authorization header of the login, or its form.",
            ),
        ),
        of(
            LOGIN,
            key(
                "scopes",
                Texts("scope such as system/Observation.c"),
                Is(""),
                "Asked for; none: those the client is registered for.",
            ),
        ),
        of(
            LOGIN,
            key(
                "token_url",
                Text("URL"),
                Optional,
                "Token endpoint. Not written: what `.well-known/smart-configuration` below `url` names.",
            ),
        ),
        of(&["basic"], key("user", Text("text"), Required, "User.")),
        of(&["basic"], key("password", Kind::Secret, Required, "Password.")),
        of(&["bearer"], key("token", Kind::Secret, Required, "Token, without the word Bearer.")),
    ],
};
