//! The real binary: what it prints, what it refuses, and how it ends.
#![allow(clippy::unwrap_used)]

#[path = "../../../storage/files/tests/journal/mod.rs"]
mod journal;

use journal::retire::retire;
use journal::{Journal, sums};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;
use tidegate_ids::{StreamId, UserId, WallMs};
use tidegate_storage_log::{NewRecord, Recovered};

/// A directory that every user may use, with a copy of the binary in it: the build's own may be closed to them.
fn open_directory() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let binary = dir.path().join("tidegate");
    std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), &binary).unwrap();
    (dir, binary)
}

fn serve(data: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments(data, more));
    small(&mut command);
    command
}

/// Nothing of the tests' own environment, and segments that are zeroed in no time.
fn small(command: &mut Command) {
    command.env_clear().env("TIDEGATE_STORAGE__SEGMENT_BYTES", "4194304");
}

fn arguments(data: &Path, more: &[&str]) -> Vec<String> {
    let data = data.to_str().unwrap();
    let given = ["serve", "--data", data, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    given.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

/// Another start of the gateway as a user without privileges, with this much locked memory.
fn as_ordinary_user(binary: &Path, memlock_bytes: u64, arguments: &[String]) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--memlock={memlock_bytes}:{memlock_bytes}"));
    small(&mut command);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if rustix::process::getuid().is_root() {
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    command.arg(binary).args(arguments);
    command
}

/// A gateway that has said `ready`; killed when dropped.
struct Running {
    child: Child,
    lines: Vec<String>,
    ws: SocketAddr,
    admin: SocketAddr,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            lines.push(line.unwrap());
            if lines.last().unwrap().starts_with("ready ") {
                break;
            }
        }
        let ready = lines.last().expect("a gateway that starts says so");
        let address = |key: &str| {
            let found = ready.split(' ').find_map(|part| part.strip_prefix(key)).unwrap();
            found.parse().unwrap()
        };
        let (ws, admin) = (address("ws="), address("admin="));
        Self { child, lines, ws, admin }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sentence that a refused start ends with.
#[track_caller]
fn refused(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert_eq!(stdout, "", "nothing is said to be ready");
    stderr.lines().last().unwrap_or_default().to_owned()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A WebSocket on `/echo`.
fn upgrade(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

#[test]
fn it_says_how_to_chat_is_ready_and_stops_cleanly_twice() {
    let dir = tempfile::tempdir().unwrap();
    for shards in ["1", "3"] {
        let gateway = Running::start(serve(dir.path(), &["--shards", shards]));
        assert!(gateway.lines[gateway.lines.len() - 2].contains("tidegate chat"), "{:?}", gateway.lines);
        assert!(get(gateway.admin, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(get(gateway.admin, "/metrics").contains("tidegate_sockets{shard=\"0\"}"));
        assert_eq!(gateway.stop(), Some(0));
    }
}

/// It was a line of the log, which a filter hides.
#[test]
fn a_secret_that_nobody_configured_is_told_of_whatever_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let start = |secret: Option<&str>| {
        let mut command = serve(dir.path(), &["--shards", "1"]);
        command.env("TIDEGATE_LOG__FILTER", "error");
        secret.map(|secret| command.env("TIDEGATE_TOKEN__SECRET", secret));
        let gateway = Running::start(command);
        assert!(gateway.ws.ip().is_loopback());
        let told = gateway.lines.iter().find_map(|line| line.strip_prefix("secret: ")).map(str::to_owned);
        assert_eq!(gateway.stop(), Some(0));
        told
    };
    let data = dir.path().display();
    let expected = |what: &str| Some(format!("{what} in {data}; listening on loopback only"));
    assert_eq!(start(None), expected("made a token secret"));
    assert!(dir.path().join("token.secret").is_file());
    assert_eq!(start(None), expected("tokens are signed with the secret"));
    assert_eq!(start(Some("0123456789abcdef0123456789abcdef")), None);
}

#[test]
fn an_upgrade_is_answered_by_every_shard() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Running::start(serve(dir.path(), &["--shards", "2", "--echo"]));
    for _ in 0..16 {
        let mut stream = upgrade(gateway.ws);
        // "hi", masked with zeroes.
        stream.write_all(&[0x82, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0x82, 2, b'h', b'i']);
    }
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path(), &["--shards", "1", "--echo"]);
    command.env("TIDEGATE_LIMITS__SHUTDOWN_GRACE_MS", "600000");
    let mut gateway = Running::start(command);
    let stays = upgrade(gateway.ws);
    gateway.signal(Signal::INT);
    while !get(gateway.admin, "/readyz").contains("draining") {}
    assert_eq!(gateway.child.try_wait().unwrap(), None, "it waits for its client");
    // One that comes too soon after the first is the first again.
    while gateway.child.try_wait().unwrap().is_none() {
        gateway.signal(Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(gateway.child.wait().unwrap().code(), Some(1));
    drop(stays);
}

#[test]
fn a_second_process_on_the_directory_is_refused_and_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Running::start(serve(dir.path(), &["--shards", "1"]));
    let message = refused(serve(dir.path(), &["--shards", "1"]));
    assert!(message.contains(&format!("process {}", gateway.child.id())), "{message}");
}

#[test]
fn a_taken_port_is_refused_also_if_a_gateway_has_it() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let gateway = Running::start(serve(one.path(), &["--shards", "1"]));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let held = TcpListener::bind(taken).unwrap();
    let check = |flag: &str, address: SocketAddr, what: &str| {
        let data = other.path().to_str().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        small(&mut command);
        command.args(["serve", "--shards", "1", "--data", data]);
        let free = if flag == "--listen" { "--admin" } else { "--listen" };
        command.args([flag, &address.to_string(), free, "127.0.0.1:0"]);
        let message = refused(command);
        assert!(message.contains(what) && message.contains(&address.to_string()), "{message}");
    };
    check("--listen", gateway.ws, "WebSocket");
    check("--listen", held.local_addr().unwrap(), "WebSocket");
    check("--admin", held.local_addr().unwrap(), "admin");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0, "no secret was made");
}

#[test]
fn a_directory_of_somebody_else_is_refused_with_the_way_out() {
    let (dir, binary) = open_directory();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o500)).unwrap();
    let message = refused(as_ordinary_user(&binary, 8 << 20, &arguments(&data, &["--shards", "1"])));
    assert!(message.contains("Permission denied") && message.contains("run it as the owner"), "{message}");
}

/// A supervisor starts a killed gateway again at once, while the kernel still winds up its rings, which hold the
/// listening sockets: the start failed with "address in use".
#[test]
fn a_killed_gateway_comes_back_at_its_address_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Running::start(serve(dir.path(), &["--shards", "4", "--echo"]));
    for shards in ["1", "4", "2"] {
        let clients: Vec<TcpStream> = (0..50).map(|_| upgrade(gateway.ws)).collect();
        gateway.child.kill().unwrap();
        gateway.child.wait().unwrap();
        let (data, listen) = (dir.path().to_str().unwrap(), gateway.ws.to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        small(&mut command);
        command.args(["serve", "--data", data, "--listen", &listen, "--admin", "127.0.0.1:0"]);
        command.args(["--shards", shards, "--echo"]);
        gateway = Running::start(command);
        assert_eq!(gateway.ws.to_string(), listen);
        drop(clients);
    }
}

#[test]
fn beyond_loopback_a_secret_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.env_clear().args([
            "serve",
            "--shards",
            "1",
            "--listen",
            "0.0.0.0:0",
            "--admin",
            "127.0.0.1:0",
        ]);
        command.arg("--data").arg(dir.path());
        command
    };
    let message = refused(command());
    assert!(message.contains("beyond loopback") && message.contains("token.secret"), "{message}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    let mut with_secret = command();
    with_secret.env("TIDEGATE_TOKEN__SECRET", "0123456789abcdef0123456789abcdef");
    assert_eq!(Running::start(with_secret).stop(), Some(0));
}

#[test]
fn a_wrong_configuration_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidegate.toml");
    let check = |text: &str, needle: &str| {
        std::fs::write(&file, text).unwrap();
        let message = refused(serve(dir.path(), &["--config", file.to_str().unwrap()]));
        assert!(message.contains(needle), "{message}");
    };
    check("colour = 1", "colour");
    check("[mesh]\nring_bytes = 1000", "mesh.ring_bytes");
    check("[storage]\nstaging_bytes = 5000", "storage.staging_bytes");
    check("[log]\nfilter = \"=\"", "log.filter");
    check("[log]\nfilter = \"verbose\"", "it must be a level");
    let message = refused(serve(&file, &[]));
    assert!(message.contains("it must be a directory"), "{message}");
}

#[test]
fn an_ordinary_user_starts_four_shards_with_eight_mebibytes_of_locked_memory() {
    let (dir, binary) = open_directory();
    let arguments = arguments(&dir.path().join("data"), &["--shards", "4"]);
    let gateway = Running::start(as_ordinary_user(&binary, 8 << 20, &arguments));
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn too_little_locked_memory_is_refused_and_what_it_says_is_enough() {
    let (dir, binary) = open_directory();
    let arguments = arguments(&dir.path().join("data"), &["--shards", "4"]);
    let message = refused(as_ordinary_user(&binary, 64 << 10, &arguments));
    let kib = message.split("ulimit -l ").nth(1).and_then(|rest| rest.split('`').next());
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).unwrap_or_else(|| panic!("{message}"));
    assert!(message.contains("RLIMIT_MEMLOCK") && message.contains("65536"), "{message}");
    assert_eq!(Running::start(as_ordinary_user(&binary, kib << 10, &arguments)).stop(), Some(0));
}

/// The disk that the log lines went to failed. The logging library said so on standard error, which failed too, and that
/// was a panic: the gateway was gone, although its own disk was another one.
#[test]
fn a_standard_error_that_nobody_reads_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = serve(dir.path(), &["--shards", "1"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stderr(writer);
    assert_eq!(Running::start(command).stop(), Some(0));
}

#[test]
fn a_killed_gateway_starts_again_on_another_number_of_shards() {
    let dir = tempfile::tempdir().unwrap();
    for shards in ["2", "3", "1"] {
        let gateway = Running::start(serve(dir.path(), &["--shards", shards]));
        gateway.signal(Signal::KILL);
    }
    assert_eq!(Running::start(serve(dir.path(), &["--shards", "1"])).stop(), Some(0));
}

#[test]
fn a_token_of_the_command_is_a_token_of_the_directory() {
    use tidegate_node::{config::TokenConfig, token};
    use tidegate_shard::TokenVerifier;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Running::start(serve(dir.path(), &["--shards", "1"])).stop(), Some(0));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().args(["token", "--user", "7", "--device", "3", "--ttl", "1h", "--rate", "unlimited"]);
    let printed = command.arg("--data").arg(dir.path()).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let secret = token::Secret::load(&TokenConfig::default(), dir.path()).unwrap();
    let now = tidegate_node::clock::wall();
    let claims = token::Verifier::new(&secret).verify(printed.stdout.trim_ascii_end(), now).unwrap();
    assert_eq!((claims.user.0, claims.device.map(|device| device.0)), (7, Some(3)));
}

/// A mistyped directory was made, with a secret of its own, and what was printed was a token that no gateway took.
#[test]
fn no_token_is_made_where_no_gateway_was() {
    let dir = tempfile::tempdir().unwrap();
    let typo = dir.path().join("typo");
    let run = |action: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.env_clear().args([action, "--user", "1"]).args(more).arg("--data").arg(&typo);
        command
    };
    let chat = ["--to", "2", "--url", "ws://127.0.0.1:1/ws"];
    for mut command in [run("token", &[]), run("chat", &chat)] {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{message}");
        let way_out = format!("`tidegate serve --data {}`", typo.display());
        assert!(message.contains(&way_out) && message.lines().count() == 1, "{message}");
        assert!(!typo.exists(), "nothing was made");
    }
    let mut with_secret = run("token", &[]);
    with_secret.env("TIDEGATE_TOKEN__SECRET", "0123456789abcdef0123456789abcdef");
    assert!(with_secret.output().unwrap().status.success());
    assert!(!typo.exists(), "a configured secret needs no directory");
}

#[test]
fn damage_that_a_start_finds_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let damage = |gateway: &Running| {
        let metrics = get(gateway.admin, "/metrics");
        let line = metrics.lines().find(|line| line.starts_with("tidegate_recovery_damage")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    let gateway = Running::start(serve(dir.path(), &["--shards", "1"]));
    assert_eq!(damage(&gateway), 0);
    let mut chat = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    chat.args(["chat", "--user", "1", "--to", "2", "--url", &format!("ws://{}/ws", gateway.ws), "--data"]);
    let mut chat = chat.arg(dir.path()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert!(chat.wait().unwrap().success());
    assert_eq!(gateway.stop(), Some(0));
    let segment = dir.path().join("log/1/0/1.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let hello = bytes.windows(5).position(|window| window == b"hello").unwrap();
    bytes[hello] = b'j';
    std::fs::write(&segment, bytes).unwrap();
    let gateway = Running::start(serve(dir.path(), &["--shards", "1"]));
    assert!(damage(&gateway) > 0);
    assert_eq!(gateway.stop(), Some(0));
}

/// The snapshots were lost after retention had rewritten segments: the refusal sent the operator to `tidegate-log repair`, which
/// refuses such a directory as well.
#[test]
fn what_no_repair_can_help_is_not_sent_to_a_repair() {
    let temp = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(temp.path(), 1);
    for at in 0..200 {
        let user = StreamId::user(UserId(7));
        let body: &[&[u8]] = &[&[at; 200]];
        journal.append_record(
            0,
            &NewRecord { stream: user, kind: 35, body_parts: body, ..NewRecord::default() },
        );
        journal.append(0, sums::stream(1), &[at; 600]);
        if at % 5 == 0 {
            journal.commit();
        }
    }
    journal.commit();
    journal.seal();
    let journal = Journal::open(temp.path(), 1);
    let all = |log: &Recovered| Some(log.previous);
    let is_user = |stream: &StreamId| *stream == StreamId::user(UserId(7));
    assert!(retire(&journal, WallMs(1_700_000_001_000), all, is_user).rewritten > 0);
    drop(journal);
    let told = refused(serve(temp.path(), &["--shards", "1"]));
    assert!(told.contains("retention has let bodies go that only they held; put a backup back"), "{told}");
    assert!(!told.contains("tidegate-log repair"), "{told}");
}
