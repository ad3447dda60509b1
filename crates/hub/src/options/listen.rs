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
    OptionSpec {
        key: "trusted_proxy",
        file_alias: Some("trusted_proxies"),
        form: Form::Networks,
        reloadable: true,
        help: "Proxy whose word on whom a request is from counts; may be given several times",
        why: "Not set: the other end of the connection is the client, whatever its headers say. \
              Requests from a listed address count for the client that `Forwarded` or \
              `X-Forwarded-For` names; the nearest hop that is not listed is taken, so a client \
              cannot invent another. List only proxies that write one of these headers themselves, \
              such as `10.0.0.0/8` or `127.0.0.1`.",
        set: |s, v| s.trusted_proxies = v.list(),
        get: |s| Value::from_list(&s.trusted_proxies),
        ..ROW
    },
    OptionSpec {
        key: "proxy_protocol",
        form: Form::Switch,
        default: "false",
        reloadable: true,
        help: "Expect a PROXY protocol v2 header on every public connection",
        why: "For proxies that forward bytes, with TLS or without (`send-proxy-v2` in HAProxy). \
              Connections from addresses that `trusted_proxy` does not list, and those that begin \
              with anything else, are closed: the protocol forbids to guess. The admin listener \
              never expects it, so health checks go there. Counts for connections that come after \
              a reload.",
        set: |s, v| s.proxy_protocol = v.switch(),
        get: |s| Value::Switch(s.proxy_protocol),
        ..ROW
    },
];

fn path(value: Option<&PathBuf>) -> Value {
    value.map_or(Value::None, |path| Value::Text(path.display().to_string()))
}
