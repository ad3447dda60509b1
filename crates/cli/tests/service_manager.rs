//! What a service manager passes to the hub, and what it is told: listening sockets by
//! `LISTEN_FDS`, and datagrams on `NOTIFY_SOCKET`, also over upgrades.

use gush_testkit::{
    Claims, Connection, Curl, Failure, HubBuilder, Outcome, PATIENCE, ProgramLink, Request,
    SseStream, TokenKey, encode_form, eventually, exchange, send_signal, write_certificate,
};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gush");
const HUB: &str = "/.well-known/mercure";
const KEY: &str = "0123456789abcdef0123456789abcdef";
const TOPIC: &str = "https://service.example/1";

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    /// Listens where the hub of this builder will be told to speak.
    fn of(builder: HubBuilder) -> Outcome<(Self, HubBuilder)> {
        let place = builder.directory().join("notify");
        let socket = UnixDatagram::bind(&place)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let builder = builder.env("NOTIFY_SOCKET", &place.display().to_string());
        Ok((Self(socket), builder))
    }

    /// The lines of the next datagram.
    fn next(&self) -> Outcome<Vec<String>> {
        let mut bytes = [0; 1024];
        let count = self.0.recv(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn expect(&self, wanted: &[String]) -> Outcome<()> {
        let got = self.next()?;
        if got == wanted {
            return Ok(());
        }
        Failure::mismatch("notification", format!("{wanted:?}"), format!("{got:?}"))
    }

    /// What systemd takes as the begin of a reload: with the time, in microseconds of the clock
    /// that counts from the machine's start.
    fn expect_reloading(&self) -> Outcome<()> {
        let got = self.next()?;
        if let [first, second] = &got[..]
            && first == "RELOADING=1"
            && let Some(micros) = second.strip_prefix("MONOTONIC_USEC=")
            && let Ok(micros) = micros.parse::<u64>()
        {
            let uptime = std::fs::read_to_string("/proc/uptime")?;
            let seconds = uptime.split('.').next().and_then(|text| text.parse().ok());
            let seconds: u64 = seconds.ok_or_else(|| Failure::new(uptime))?;
            // Suspended time counts in one of the two only.
            if micros > 0 && micros / 1_000_000 <= seconds + 1 {
                return Ok(());
            }
        }
        Failure::mismatch(
            "notification",
            "RELOADING=1 and its time",
            format!("{got:?}"),
        )
    }
}

fn ready(pid: u32) -> Vec<String> {
    vec![format!("MAINPID={pid}"), "READY=1".into()]
}

#[test]
fn a_service_manager_hears_of_start_reload_and_end() -> Outcome<()> {
    let (manager, builder) = Manager::of(HubBuilder::new(PROGRAM)?)?;
    let mut hub = builder.start()?;
    manager.expect(&ready(hub.pid()))?;
    hub.signal("HUP")?;
    manager.expect_reloading()?;
    manager.expect(&ready(hub.pid()))?;
    hub.sigterm()?;
    manager.expect(&["STOPPING=1".into()])?;
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    Ok(())
}

/// The new process is the main one then. The old one does not say that it stops: systemd would
/// take the whole service for stopping, and kill it after `TimeoutStopSec`.
#[test]
fn a_service_manager_hears_of_an_upgrade_and_of_no_end() -> Outcome<()> {
    let (manager, builder) = Manager::of(HubBuilder::new(PROGRAM)?)?;
    let mut hub = builder.start()?;
    manager.expect(&ready(hub.pid()))?;
    let pid = hub.upgrade()?;
    // The socket keeps what it was sent by processes that are gone.
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    manager.expect_reloading()?;
    // Either process says it.
    manager.expect(&ready(pid))?;
    manager.expect(&ready(pid))?;
    // Whatever the old one had said would come first.
    send_signal("HUP", pid)?;
    manager.expect_reloading()?;
    manager.expect(&ready(pid))?;
    send_signal("TERM", pid)?;
    manager.expect(&["STOPPING=1".into()])
}

#[test]
fn a_service_manager_hears_when_an_upgrade_fails() -> Outcome<()> {
    let link = ProgramLink::to(PROGRAM)?;
    let (manager, builder) = Manager::of(HubBuilder::new(link.path())?)?;
    let hub = builder.start()?;
    manager.expect(&ready(hub.pid()))?;
    link.remove()?;
    exchange(hub.admin()?, &upgrade_request())?.expect_status(&[500])?;
    manager.expect_reloading()?;
    manager.expect(&ready(hub.pid()))
}

fn upgrade_request() -> Request {
    Request::new("POST", "/upgrade").header("Content-Length", "0")
}

/// A hub with sockets that were opened for it; killed when dropped.
struct Activated {
    child: Child,
    successors: Vec<u32>,
    public: SocketAddr,
    admin: SocketAddr,
}

impl Drop for Activated {
    fn drop(&mut self) {
        // It may be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in &self.successors {
            let _ = send_signal("KILL", *pid);
        }
    }
}

impl Activated {
    /// The configured addresses are nobody's here: the sockets stand for them.
    fn start(directory: &Path, options: &[String]) -> Outcome<Self> {
        let public = TcpListener::bind("127.0.0.1:0")?;
        let admin = TcpListener::bind("127.0.0.1:0")?;
        let addresses = (public.local_addr()?, admin.local_addr()?);
        // The shell moves them to where the protocol has them.
        let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_PID=$$ LISTEN_FDS=2 \
                      LISTEN_FDNAMES=public:admin exec \"$0\" serve --listen 192.0.2.1:1 \
                      --admin-listen 192.0.2.1:2 --log disk:data \"$@\"";
        let child = Command::new("sh")
            .args(["-c", script, PROGRAM])
            .args(["--publisher-key", KEY, "--subscriber-key", KEY])
            .args(options)
            .current_dir(directory)
            .stdin(Stdio::from(OwnedFd::from(public)))
            .stdout(Stdio::from(OwnedFd::from(admin)))
            .spawn()?;
        Ok(Self {
            child,
            successors: Vec::new(),
            public: addresses.0,
            admin: addresses.1,
        })
    }

    /// The connection waits in the kernel's queue until the hub is there.
    fn wait_ready(&self) -> Outcome<()> {
        exchange(self.admin, &Request::get("/readyz"))?.expect_status(&[200])
    }

    fn upgrade(&mut self) -> Outcome<()> {
        let mut order = Connection::open(self.admin)?;
        order.send_request(&upgrade_request())?;
        let answer = order.read_response_within(4 * PATIENCE)?;
        answer.expect_status(&[200])?;
        let digits: String = answer.text().chars().filter(char::is_ascii_digit).collect();
        let pid = digits.parse().map_err(|_| Failure::new(answer.text()))?;
        self.successors.push(pid);
        if self.successors.len() == 1 {
            eventually("the old process's end", PATIENCE, || {
                Ok(self.child.try_wait()?.map(|_| ()))
            })?;
        }
        Ok(())
    }
}

/// For everything, either way.
fn token() -> Outcome<String> {
    let claims = Claims::new().publish(&["*"]).subscribe(&["*"]);
    TokenKey::hmac("HS256", KEY).sign(&claims)
}

#[test]
fn sockets_of_a_service_manager_are_served_over_upgrades() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let mut hub = Activated::start(directory.path(), &[])?;
    hub.wait_ready()?;
    let target = format!("{HUB}?{}", encode_form(&[("topic", TOPIC)]));
    let token = token()?;
    let mut stream = SseStream::open(hub.public, &Request::get(&target).bearer(&token))?;
    for data in ["one", "two"] {
        hub.upgrade()?;
        hub.wait_ready()?;
        let request = Request::form(HUB, &[("topic", TOPIC), ("data", data)]).bearer(&token);
        exchange(hub.public, &request)?.expect_status(&[200])?;
        stream.expect_data(data)?;
    }
    Ok(())
}

/// The public one speaks TLS before and after, the admin one does not.
#[test]
fn a_tls_listener_of_a_service_manager_is_served_over_an_upgrade() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let files = write_certificate(directory.path(), "hub.example")?;
    let options = [
        "--tls-cert".into(),
        files.certificate.display().to_string(),
        "--tls-key".into(),
        files.key.display().to_string(),
    ];
    let mut hub = Activated::start(directory.path(), &options)?;
    hub.wait_ready()?;
    let token = token()?;
    let url = format!(
        "https://{}{HUB}?{}",
        hub.public,
        encode_form(&[("topic", TOPIC)])
    );
    for _ in 0..2 {
        let _stream = Curl::subscribe(&url, &token, &["--insecure", "--http2"])?;
        hub.upgrade()?;
        hub.wait_ready()?;
    }
    Curl::subscribe(&url, &token, &["--insecure", "--http1.1"]).map(drop)
}
