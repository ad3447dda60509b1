//! nginx and HAProxy as child processes, with the files in `deploy/`.

use gush_testkit::{
    CertificateFiles, Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request,
    Response, SseStream, encode_form, eventually, exchange, own_address, peers::open_from,
    write_certificate,
};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NGINX_MAIN: &str = include_str!("../../../../deploy/nginx/nginx.conf");
const NGINX_SITE: &str = include_str!("../../../../deploy/nginx/gush.conf");
const HAPROXY: &str = include_str!("../../../../deploy/haproxy/haproxy.cfg");

/// The hub's one path.
pub(crate) const HUB: &str = "/.well-known/mercure";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    HaProxy,
}

/// A text of a configuration and what a test has in its place.
pub(crate) type Edit = (&'static str, &'static str);

/// A hub that comes back on the address it had.
pub(crate) fn hub(options: &[(&str, &str)]) -> Outcome<HubProcess> {
    builder(options)?.start()
}

/// The same before its start.
pub(crate) fn builder(options: &[(&str, &str)]) -> Outcome<HubBuilder> {
    let address = own_address().to_string();
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .without_listeners()
        .option("--listen", &address)
        .option("--admin-listen", "127.0.0.1:0");
    let options = options.iter();
    Ok(options.fold(builder, |builder, (name, value)| {
        builder.option(name, value)
    }))
}

/// A running proxy; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Front {
    kind: Kind,
    child: Child,
    directory: tempfile::TempDir,
    files: CertificateFiles,
    hub: SocketAddr,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Drop for Front {
    fn drop(&mut self) {
        // Not SIGKILL: the master ends its workers.
        let _ = self.signal("TERM");
        let _ = self.child.wait();
    }
}

impl Front {
    /// The proxy with its deployed configuration, and these changes to it.
    pub(crate) fn start(kind: Kind, hub: &HubProcess, edits: &[Edit]) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let (plain, tls) = (own_address(), own_address());
        let files = write_certificate(directory.path(), &tls.ip().to_string())?;
        let both = [&files.certificate, &files.key].map(std::fs::read_to_string);
        let [certificate, key] = both;
        std::fs::write(directory.path().join("both.pem"), certificate? + &key?)?;
        let mut command = match kind {
            Kind::Nginx => program("nginx"),
            Kind::HaProxy => program("haproxy"),
        };
        let folder = directory.path();
        match kind {
            Kind::Nginx => command
                .args(["-e", "stderr", "-g", "daemon off;", "-p"])
                .arg(folder)
                .arg("-c")
                .arg(folder.join("nginx.conf")),
            Kind::HaProxy => command.args(["-W", "-f"]).arg(folder.join("haproxy.cfg")),
        };
        write(
            kind,
            folder,
            &places(folder, hub.address(), plain, tls),
            edits,
        )?;
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| Failure::from(e).within(format!("{kind:?} (`make test` installs it)")))?;
        let front = Self {
            kind,
            child,
            directory,
            files,
            hub: hub.address(),
            plain,
            tls,
        };
        eventually("the proxy listens", PATIENCE, || {
            Ok(TcpStream::connect(plain).ok().map(drop))
        })?;
        Ok(front)
    }

    /// Writes the configuration anew with these changes and has it read.
    pub(crate) fn reload(&self, edits: &[Edit]) -> Outcome<()> {
        let folder = self.directory.path();
        let places = places(folder, self.hub, self.plain, self.tls);
        write(self.kind, folder, &places, edits)?;
        self.signal(match self.kind {
            Kind::Nginx => "HUP",
            Kind::HaProxy => "USR2",
        })
    }

    fn signal(&self, name: &str) -> Outcome<()> {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("kill -{name} failed: {status}")))
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.files.certificate.clone()
    }

    /// The hub's URL over TLS.
    pub(crate) fn url(&self) -> String {
        format!("https://{}{HUB}", self.tls)
    }

    /// The hub's URL without TLS, which only tests have.
    pub(crate) fn plain_url(&self) -> String {
        format!("http://{}{HUB}", self.plain)
    }

    /// A request on a connection of its own, and its answer.
    pub(crate) fn exchange(&self, request: &Request) -> Outcome<Response> {
        exchange(self.plain, request)
    }

    /// Subscribes with this request from an address of the loopback.
    pub(crate) fn sent_from(&self, source: [u8; 4], request: &Request) -> Outcome<Connection> {
        let mut connection = open_from(source.into(), self.plain)?;
        connection.send_request(request)?;
        Ok(connection)
    }

    /// A connection whose request has been sent.
    pub(crate) fn sent(&self, request: &Request) -> Outcome<Connection> {
        let mut connection = Connection::open(self.plain)?;
        connection.send_request(request)?;
        Ok(connection)
    }

    /// Subscribes as an `EventSource` does.
    pub(crate) fn subscribe(&self, hub: &HubProcess, topic: &str) -> Outcome<SseStream> {
        SseStream::answered(self.sent(&subscribe(hub, topic)?)?)
    }

    /// What this process wrote about requests, nginx only.
    pub(crate) fn access_log(&self) -> Outcome<String> {
        Ok(std::fs::read_to_string(
            self.directory.path().join("access.log"),
        )?)
    }
}

/// A subscribe as an `EventSource` sends it, with the token in the query.
pub(crate) fn subscribe(hub: &HubProcess, topic: &str) -> Outcome<Request> {
    let token = hub.subscriber_token()?;
    let query = encode_form(&[("topic", topic), ("authorization", &token)]);
    Ok(Request::get(&format!("{HUB}?{query}")).header("Accept", "text/event-stream"))
}

/// Debian puts servers where a user's path does not look.
fn program(name: &str) -> Command {
    let path = Path::new("/usr/sbin").join(name);
    Command::new(if path.exists() { path } else { name.into() })
}

/// The texts of the deployed files that name this machine, and what a test has there.
type Places = Vec<(&'static str, String)>;

fn places(folder: &Path, hub: SocketAddr, plain: SocketAddr, tls: SocketAddr) -> Places {
    let at = |name: &str| folder.join(name).display().to_string();
    vec![
        // nginx.conf
        ("user www-data;", String::new()),
        ("/run/nginx.pid", at("nginx.pid")),
        ("/var/log/nginx/error.log", "stderr".into()),
        (
            "worker_rlimit_nofile 65536;",
            "worker_rlimit_nofile 4096;".into(),
        ),
        (
            "worker_connections 30000;",
            "worker_connections 1000;".into(),
        ),
        ("include /etc/nginx/conf.d/gush.conf;", temporary(folder)),
        // gush.conf
        ("server 127.0.0.1:3000", format!("server {hub}")),
        (
            "listen 443 ssl http2;",
            format!("listen {plain}; listen {tls} ssl http2;"),
        ),
        ("/etc/ssl/hub.example.com.pem", at("cert.pem")),
        ("/etc/ssl/hub.example.com.key", at("key.pem")),
        ("/var/log/nginx/gush.log", at("access.log")),
        // haproxy.cfg
        ("log /dev/log local0", "log stderr format raw local0".into()),
        ("    user haproxy\n", String::new()),
        ("    group haproxy\n", String::new()),
        ("/run/haproxy/admin.sock", at("admin.sock")),
        ("maxconn 15000", "maxconn 400".into()),
        ("bind :443 ssl", format!("bind {plain}\n    bind {tls} ssl")),
        ("/etc/haproxy/gush.pem", at("both.pem")),
        ("server hub 127.0.0.1:3000", format!("server hub {hub}")),
    ]
}

/// Where nginx may write when it is not started by root.
fn temporary(folder: &Path) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let lines = kinds.map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display()));
    format!(
        "{} include {}/gush.conf;",
        lines.join(" "),
        folder.display()
    )
}

/// Writes the files of `kind`. Each text to change has to be there, or the test tests nothing.
fn write(kind: Kind, folder: &Path, places: &Places, edits: &[Edit]) -> Outcome<()> {
    let files: &[(&str, &str)] = match kind {
        Kind::Nginx => &[("nginx.conf", NGINX_MAIN), ("gush.conf", NGINX_SITE)],
        Kind::HaProxy => &[("haproxy.cfg", HAPROXY)],
    };
    for (from, _) in edits {
        if !files.iter().any(|(_, text)| text.contains(from)) {
            return Err(Failure::new(format!(
                "{from:?} is not in the deployed files"
            )));
        }
    }
    for (name, text) in files {
        let mut text = (*text).to_owned();
        for (from, to) in places {
            text = text.replace(from, to);
        }
        for (from, to) in edits {
            text = text.replace(from, to);
        }
        // Workers of nginx run as nobody when root starts it.
        if *name == "nginx.conf" {
            text.insert_str(0, "user root;\n");
        }
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}
