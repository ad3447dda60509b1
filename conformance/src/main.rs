//! `gush-conformance`: runs the suite against a hub by its base URL.

use gush_conformance::{Report, Target};
use gush_testkit::{Failure, Outcome, TokenKey};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Checks a Mercure hub (protocol 0.x) from outside.

usage: gush-conformance --base-url URL --publisher-key KEY --subscriber-key KEY [options]

  --base-url URL         where the hub is, e.g. http://127.0.0.1:3000 (plain HTTP only)
  --publisher-key KEY    the HMAC secret that signs publisher tokens
  --subscriber-key KEY   the HMAC secret that signs subscriber tokens
  --alg ALG              HS256 (default), HS384 or HS512
  --anonymous            the hub lets subscribers in without a token
  --subscriptions        the hub has subscription events and their API
  --no-history           the hub keeps no events for replay
  --cors-origin ORIGIN   an origin that CORS allows
  --publish-origin ORIGIN  an origin that may publish with a cookie
  --heartbeat MS         the heartbeat interval, if it is at most 5000
  --gush                 the hub is gush: run the gush/ cases too
  --abuse                run the catalogue of abuse instead: hostile input and crowds
  --head-timeout MS      how long the hub waits for a head (10000), for --abuse
  --body-timeout MS      how long it waits for a body (10000), for --abuse
  --pid PID              its process here: the catalogue looks at its memory too
  --admin-url URL        its admin listener
  --only TEXT            only cases whose name contains TEXT (may be repeated)
  --list                 print the cases and their rules, run nothing
  --json                 print the report as JSON

Ends with `N passed, N failed, N skipped`; exit code 1 when a case failed, 2 on wrong usage.";

#[derive(Default)]
struct Options {
    base_url: Option<String>,
    publisher_key: Option<String>,
    subscriber_key: Option<String>,
    algorithm: Option<String>,
    admin_url: Option<String>,
    cors_origin: Option<String>,
    publish_origin: Option<String>,
    heartbeat: Option<Duration>,
    head_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    pid: Option<u32>,
    only: Vec<String>,
    flags: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self::default();
        while let Some(name) = arguments.next() {
            let flags = [
                "--anonymous",
                "--subscriptions",
                "--no-history",
                "--gush",
                "--abuse",
                "--list",
                "--json",
            ];
            if flags.contains(&name.as_str()) || name == "--help" {
                options.flags.push(name);
                continue;
            }
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| Failure::new(format!("{name} needs a value")))
            };
            match name.as_str() {
                "--base-url" => options.base_url = Some(value()?),
                "--publisher-key" => options.publisher_key = Some(value()?),
                "--subscriber-key" => options.subscriber_key = Some(value()?),
                "--alg" => options.algorithm = Some(value()?),
                "--admin-url" => options.admin_url = Some(value()?),
                "--cors-origin" => options.cors_origin = Some(value()?),
                "--publish-origin" => options.publish_origin = Some(value()?),
                "--only" => options.only.push(value()?),
                "--heartbeat" => options.heartbeat = Some(milliseconds(&name, &value()?)?),
                "--head-timeout" => options.head_timeout = Some(milliseconds(&name, &value()?)?),
                "--body-timeout" => options.body_timeout = Some(milliseconds(&name, &value()?)?),
                "--pid" => {
                    let text = value()?;
                    let pid = text.parse();
                    let pid = pid.map_err(|_| Failure::new(format!("--pid {text:?}: a number")))?;
                    options.pid = Some(pid);
                }
                _ => return Err(Failure::new(format!("unknown option {name}; see --help"))),
            }
        }
        Ok(options)
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    fn target(&self) -> Outcome<Target> {
        let needed = |value: &Option<String>, name: &str| {
            value
                .clone()
                .ok_or_else(|| Failure::new(format!("{name} is missing; see --help")))
        };
        let algorithm = self.algorithm.as_deref().unwrap_or("HS256");
        if !["HS256", "HS384", "HS512"].contains(&algorithm) {
            return Err(Failure::new(format!(
                "--alg {algorithm}: HS256, HS384 or HS512"
            )));
        }
        let key = |value, name| Ok::<_, Failure>(TokenKey::hmac(algorithm, &needed(value, name)?));
        let mut target = Target::new(
            Target::resolve(&needed(&self.base_url, "--base-url")?)?,
            key(&self.publisher_key, "--publisher-key")?,
            key(&self.subscriber_key, "--subscriber-key")?,
        );
        target.admin = self.admin_url.as_deref().map(Target::resolve).transpose()?;
        target.anonymous = self.has("--anonymous");
        target.subscriptions = self.has("--subscriptions");
        target.history = !self.has("--no-history");
        target.cors_origin.clone_from(&self.cors_origin);
        target.publish_origin.clone_from(&self.publish_origin);
        target.heartbeat = self.heartbeat;
        target.head_timeout = self.head_timeout.unwrap_or(target.head_timeout);
        target.body_timeout = self.body_timeout.unwrap_or(target.body_timeout);
        target.pid = self.pid;
        Ok(target)
    }
}

fn milliseconds(name: &str, text: &str) -> Outcome<Duration> {
    let number = text.parse();
    number
        .map(Duration::from_millis)
        .map_err(|_| Failure::new(format!("{name} {text:?} is not a number of milliseconds")))
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| suite(&options)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(2)
        }
    }
}

fn suite(options: &Options) -> Outcome<ExitCode> {
    if options.has("--help") {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut cases = if options.has("--abuse") {
        gush_conformance::abuse()
    } else {
        gush_conformance::all()
    };
    if options.has("--gush") {
        cases.extend(gush_conformance::gush());
    }
    cases.retain(|case| {
        options.only.is_empty() || options.only.iter().any(|text| case.name.contains(text))
    });
    if options.has("--list") {
        for case in &cases {
            println!("{}: {}", case.name, case.rule);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let target = options.target()?;
    let report: Report = if options.has("--json") {
        let report = gush_conformance::run(&cases, &target, &mut std::io::sink())?;
        println!("{:#}", report.to_json());
        report
    } else {
        let report = gush_conformance::run(&cases, &target, &mut std::io::stdout())?;
        print!("{}", report.failures());
        println!("{}", report.summary());
        report
    };
    Ok(if report.counts().1 == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
