//! What one peer, and all of them, may cost.

use std::time::Duration;

use super::{Form, Group, OptionSpec, Value, Zero};
use crate::config::DescriptorTables;
use crate::limits::SHARDS_MAX;

const ROW: OptionSpec = OptionSpec {
    group: Group::Limits,
    ..OptionSpec::ROW
};
const TIMEOUT: Form = Form::Duration {
    min: Duration::from_millis(100),
    max: Duration::from_mins(10),
    zero: None,
};

pub(super) const ROWS: &[OptionSpec] = &[
    OptionSpec {
        key: "head_timeout",
        form: TIMEOUT,
        default: "10s",
        reloadable: true,
        help: "Longest wait for a complete request head",
        why: "Long enough for a slow phone, short enough that silent connections do not pile up.",
        set: |s, v| s.head_timeout = v.duration(),
        get: |s| Value::Duration(s.head_timeout),
        ..ROW
    },
    OptionSpec {
        key: "body_timeout",
        form: TIMEOUT,
        default: "10s",
        reloadable: true,
        help: "Longest wait for a complete request body",
        why: "A publisher that needs longer for `max_body` should send less at a time.",
        set: |s, v| s.body_timeout = v.duration(),
        get: |s| Value::Duration(s.body_timeout),
        ..ROW
    },
    OptionSpec {
        key: "max_body",
        form: Form::Bytes {
            min: 1 << 10,
            max: 256 << 20,
            zero: None,
        },
        default: "10MiB",
        reloadable: true,
        help: "Largest body of a publish",
        why: "The reference hub's limit. One event is held whole in memory while it is written; \
              raise it with that in mind, and `window_bytes` with it when `log = memory`.",
        set: |s, v| s.max_body = v.size(),
        get: |s| Value::from_size(s.max_body),
        ..ROW
    },
    OptionSpec {
        key: "max_connections",
        form: Form::Count {
            min: 1,
            max: 1 << 24,
            zero: Some(Zero {
                word: "0",
                means: "as many as descriptors allow",
            }),
        },
        default: "0",
        reloadable: true,
        help: "Most connections open at a time; more get 503",
        why: "One connection is one descriptor; each stream inside HTTP/2 beyond the first counts \
              too. The hub raises its soft limit to the hard one at start and keeps some for \
              files. For more than one table holds, raise the hard limit (`ulimit -Hn`, \
              LimitNOFILE), or see `descriptor_tables`. While the hub runs it can be changed \
              within what the descriptors of its start allow; what is open stays open.",
        set: |s, v| s.max_connections = v.size(),
        get: |s| Value::from_size(s.max_connections),
        ..ROW
    },
    OptionSpec {
        key: "shards",
        form: Form::Count {
            min: 1,
            max: SHARDS_MAX as u64,
            zero: Some(Zero {
                word: "0",
                means: "one per core",
            }),
        },
        default: "0",
        help: "Number of threads that own subscribers",
        why: "One per core keeps all cores busy when an event goes to everybody. More are no help, \
              but where `descriptor_tables` needs them they are made.",
        set: |s, v| s.shards = v.size(),
        get: |s| Value::from_size(s.shards),
        ..ROW
    },
    OptionSpec {
        key: "descriptor_tables",
        form: Form::Choice(&["auto", "shared", "own"]),
        default: "auto",
        help: "Whose descriptor table streams are in: auto, shared or own",
        why: "The descriptor limit counts per table, and a thread can have one of its own. `auto` \
              gives each shard its own, and makes as many shards as are needed, when \
              `max_connections` is more than one table holds. Own tables cost some 5 µs at each \
              connect and nothing afterwards.",
        set: |s, v| {
            s.descriptor_tables = match v.text().as_str() {
                "shared" => DescriptorTables::Shared,
                "own" => DescriptorTables::Own,
                _ => DescriptorTables::Auto,
            };
        },
        get: |s| {
            let word = match s.descriptor_tables {
                DescriptorTables::Auto => "auto",
                DescriptorTables::Shared => "shared",
                DescriptorTables::Own => "own",
            };
            Value::Text(word.into())
        },
        ..ROW
    },
];
