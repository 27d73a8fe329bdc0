//! Keys of `tls`: of a listener, and of a destination. Described as in `keys`.

use super::{
    Absent::{Is, Optional, Required},
    Kind::{Map, Text, Texts},
    Table, key, of,
};

pub(super) static LISTENER_TLS: Table = Table {
    title: "tls of [listener]",
    keys: &[
        key(
            "cert",
            Text("file"),
            Required,
            "The listener's certificate in PEM form, with those between it and its authority.",
        ),
        key("key", Text("file"), Required, "The private key of `cert` in PEM form, unencrypted."),
        key(
            "client_ca",
            Text("file"),
            Optional,
            "Authorities in PEM form. With it each gateway must show a certificate of one of them (mutual TLS, IHE ATNA ITI-19); without it, anyone may send who reaches the address.",
        ),
        key(
            "allowed_clients",
            Texts("certificate name"),
            Is(""),
            "Of the gateways that `client_ca` vouches for, those whose certificate has one of these as its CN or a DNS name, letter for letter; none: all of them.",
        ),
        key(
            "senders",
            Map("certificate name = sending applications", true),
            Optional,
            "For a CN or DNS name in a gateway's certificate, the senders (MSH-3.1, or MSH-3.2 where that is empty; in any case of their letters) it may send as. Messages of others are refused (AR or CR 207). A name here is allowed where `allowed_clients` is given; a certificate with none of them may send as anyone.",
        ),
    ],
};

pub(super) static CLIENT_TLS: Table = Table {
    title: "tls",
    keys: &[
        key(
            "ca",
            Text("file"),
            Optional,
            "Certificates in PEM form that are trusted in place of the system's authorities; for the token endpoint too.",
        ),
        key(
            "cert",
            Text("file"),
            Optional,
            "The client's certificate in PEM form, with those between it and its authority.",
        ),
        key("key", Text("file"), Optional, "The private key of `cert` in PEM form, unencrypted."),
        of(
            &["mllp"],
            key(
                "server_name",
                Text("DNS name or IP address"),
                Optional,
                "The name that the receiver's certificate must have; not written: the host of `address`.",
            ),
        ),
    ],
};
