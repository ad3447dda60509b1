//! Addresses and TLS.

use std::path::PathBuf;

use super::{Form, Group, OptionSpec, Value};

const ROW: OptionSpec = OptionSpec {
    group: Group::Listen,
    ..OptionSpec::ROW
};

pub(super) const ROWS: &[OptionSpec] = &[
    OptionSpec {
        key: "listen",
        form: Form::Addresses,
        default: "127.0.0.1:3000",
        help: "Address of the public listener; may be given several times",
        why: "The default is reachable from this machine only, so that a first start exposes \
              nothing. Write `0.0.0.0:3000` or `[::]:3000` to serve others, behind TLS or a proxy \
              that has it. Port 0 takes a free port; the line `listening on …` says which.",
        set: |s, v| s.listen = v.addresses(),
        get: |s| Value::Addresses(s.listen.clone()),
        ..ROW
    },
    OptionSpec {
        key: "admin_listen",
        form: Form::AddressOrOff,
        default: "127.0.0.1:3001",
        help: "Address of the admin listener (page, metrics), or off",
        why: "Metrics and the page have no login of their own, so they stand on a listener of \
              their own that is not reachable from outside by default. It is always plain HTTP.",
        set: |s, v| s.admin_listen = v.addresses().first().copied(),
        get: |s| {
            s.admin_listen
                .map_or(Value::None, |one| Value::Addresses(vec![one]))
        },
        ..ROW
    },
    OptionSpec {
        key: "tls_cert",
        form: Form::Path,
        help: "PEM file with the certificate chain; turns TLS on for the public listeners",
        why: "Not set: plain HTTP, for a proxy in front. Needs `tls_key`. Another path \
              needs a restart; the file itself is read again when it changes and on SIGHUP. Open \
              streams keep the certificate they began with.",
        set: |s, v| s.tls_cert = v.some_text().map(PathBuf::from),
        get: |s| path(s.tls_cert.as_ref()),
        ..ROW
    },
    OptionSpec {
        key: "tls_key",
        form: Form::Path,
        help: "PEM file with the private key of the certificate",
        why: "Needs `tls_cert`. A path, never the key itself. Read again with the certificate.",
        set: |s, v| s.tls_key = v.some_text().map(PathBuf::from),
        get: |s| path(s.tls_key.as_ref()),
        ..ROW
    },
];

fn path(value: Option<&PathBuf>) -> Value {
    value.map_or(Value::None, |path| Value::Text(path.display().to_string()))
}
