//! Keys, cookies, origins.

use super::{Form, Group, OptionSpec, Value};
use crate::secret::Secret;

const ROW: OptionSpec = OptionSpec {
    group: Group::Access,
    reloadable: true,
    ..OptionSpec::ROW
};

pub(super) const ROWS: &[OptionSpec] = &[
    OptionSpec {
        key: "publisher_key",
        form: Form::Key,
        secret: true,
        help: "Key that publishers' tokens are checked with: text, file:PATH or a JWK Set URL",
        why: "PEM text; `file:PATH`, `@PATH` or an existing path with a `/` in it (PEM, JWK Set \
              or the raw secret); `http(s)://…` for a JWK Set; anything else is the HMAC secret \
              itself. Not set: every publish is refused. Prefer a file or the environment: other \
              users of the machine can read a command line.",
        env: &["MERCURE_PUBLISHER_JWT_KEY"],
        set: |s, v| s.publisher_key = v.some_text().map(Secret::new),
        get: |s| Value::from_text(s.publisher_key.as_ref().map(Secret::expose)),
        ..ROW
    },
    OptionSpec {
        key: "publisher_alg",
        form: Form::Algorithm,
        help: "Signature algorithm that publishers' tokens must use",
        why: "Not set: HS256 for a secret given as text, for other keys the one of the key's \
              type. A token with another algorithm is refused.",
        env: &["MERCURE_PUBLISHER_JWT_ALG"],
        set: |s, v| s.publisher_alg = v.some_text(),
        get: |s| Value::from_text(s.publisher_alg.as_deref()),
        ..ROW
    },
    OptionSpec {
        key: "subscriber_key",
        form: Form::Key,
        secret: true,
        help: "Key that subscribers' tokens are checked with: text, file:PATH or a JWK Set URL",
        why: "The forms of `publisher_key`. Not set: with `anonymous` everybody gets public \
              events and tokens are not looked at; without it every subscribe is refused.",
        env: &["MERCURE_SUBSCRIBER_JWT_KEY"],
        set: |s, v| s.subscriber_key = v.some_text().map(Secret::new),
        get: |s| Value::from_text(s.subscriber_key.as_ref().map(Secret::expose)),
        ..ROW
    },
    OptionSpec {
        key: "subscriber_alg",
        form: Form::Algorithm,
        help: "Signature algorithm that subscribers' tokens must use",
        why: "As `publisher_alg`.",
        env: &["MERCURE_SUBSCRIBER_JWT_ALG"],
        set: |s, v| s.subscriber_alg = v.some_text(),
        get: |s| Value::from_text(s.subscriber_alg.as_deref()),
        ..ROW
    },
    OptionSpec {
        key: "anonymous",
        form: Form::Switch,
        default: "false",
        help: "Let subscribers without a token have public events",
        why: "Off by default, as in the reference hub: who may read is the operator's decision.",
        set: |s, v| s.anonymous = v.switch(),
        get: |s| Value::Switch(s.anonymous),
        ..ROW
    },
    OptionSpec {
        key: "subscriptions",
        form: Form::Switch,
        default: "false",
        help: "Publish subscription events and serve the active-subscriptions API",
        why: "Off by default: every connect and disconnect becomes an event in the log, which \
              large audiences pay for. Turned on by a reload, it counts for streams that begin \
              after it.",
        set: |s, v| s.subscriptions = v.switch(),
        get: |s| Value::Switch(s.subscriptions),
        ..ROW
    },
    OptionSpec {
        key: "cookie_name",
        form: Form::CookieName,
        default: "mercureAuthorization",
        help: "Name of the cookie that may carry the token",
        why: "The default is the name of the protocol.",
        set: |s, v| s.cookie_name = v.text(),
        get: |s| Value::Text(s.cookie_name.clone()),
        ..ROW
    },
    OptionSpec {
        key: "cors_origin",
        file_alias: Some("cors_origins"),
        form: Form::Origins,
        help: "Web origin whose pages may read the hub; may be given several times",
        why: "Not set: no CORS headers, so only pages of the hub's own origin can read. `*` \
              allows every origin, but without cookies; one `*` inside, as in \
              `https://*.example.com`, allows a family of them.",
        set: |s, v| s.cors_origins = v.list(),
        get: |s| Value::from_list(&s.cors_origins),
        ..ROW
    },
    OptionSpec {
        key: "publish_origin",
        file_alias: Some("publish_origins"),
        form: Form::Origins,
        help: "Web origin whose pages may publish with the cookie; may be given several times",
        why: "Not set: a publish that is authorised by cookie is refused. This is the protection \
              against cross-site request forgery; tokens in the `Authorization` header do not \
              need it.",
        set: |s, v| s.publish_origins = v.list(),
        get: |s| Value::from_list(&s.publish_origins),
        ..ROW
    },
];
