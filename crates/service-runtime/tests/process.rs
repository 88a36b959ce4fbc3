//! A service as its supervisor sees it: flags, signals, exit codes. The service is `examples/idle.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests fail as the tests do")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longer than anything here takes; only a test that has already failed waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Cargo puts examples beside the folder of the test programs, and builds them with the tests.
fn idle() -> Command {
    let tests = std::env::current_exe().unwrap();
    let path: PathBuf = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples/idle");
    assert!(path.exists(), "{} is missing: cargo build -p service-runtime --examples", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HYBRID_") || name == "RUST_BACKTRACE" {
            command.env_remove(name);
        }
    }
    command
}

fn output(arguments: &[&str]) -> Output {
    idle().args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running service and what it has logged.
struct Service {
    child: Child,
    log: Receiver<String>,
}

impl Service {
    fn start(arguments: &[&str]) -> Self {
        let mut child = idle().args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        Self { child, log }
    }

    /// The next line that contains `text`.
    fn logged(&self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("never logged: {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn ready(&self) -> SocketAddr {
        let line = self.logged("admin listening");
        self.logged("ready=true");
        line.rsplit_once("addr=").unwrap().1.trim().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        // The log ends when the process does; waiting for it first keeps the wait bounded.
        while self.log.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_service_ends_cleanly_when_asked_by_either_signal() {
    for signal in ["TERM", "INT"] {
        let mut service = Service::start(&[]);
        service.ready();
        service.signal(signal);
        service.logged("service ended");
        assert_eq!(service.exit_code(), Some(0), "{signal}");
    }
}

#[test]
fn a_second_signal_exits_at_once() {
    let mut service = Service::start(&["--set", "idle.ending=never"]);
    service.ready();
    service.signal("TERM");
    service.logged("shutdown requested");
    service.signal("TERM");
    assert_eq!(service.exit_code(), Some(130));
}

#[test]
fn a_service_that_does_not_end_is_ended_at_the_deadline() {
    let mut service =
        Service::start(&["--set", "idle.ending=never", "--set", "telemetry.shutdown_deadline_ms=100"]);
    service.ready();
    service.signal("TERM");
    service.logged("service failed service=\"idle\" error=shutdown deadline passed");
    assert_eq!(service.exit_code(), Some(1));
}

#[test]
fn a_failed_task_ends_the_process_with_its_reason() {
    for (ending, reason) in [
        ("task_fails", "error=task doomed failed: nothing left to do"),
        ("task_panics", "error=task doomed panicked: nothing left to do"),
        ("panics", "error=service panicked: nothing left to do"),
    ] {
        let output = output(&["--set", &format!("idle.ending={ending}")]);
        assert_eq!(output.status.code(), Some(1), "{ending}");
        let log = stderr(&output);
        assert_eq!(log.matches(reason).count(), 1, "{ending}: {log}");
    }
}

#[test]
fn json_logs_are_one_object_a_line() {
    let output = output(&["--set", "idle.ending=task_fails", "--set", "telemetry.log_format=json"]);
    let log = stderr(&output);
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed = lines.iter().find(|line| line["message"] == "service failed").unwrap();
    assert_eq!(failed["level"], "ERROR");
    assert_eq!(failed["error"], "task doomed failed: nothing left to do");
}

#[test]
fn a_taken_admin_address_is_reported_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let output = output(&["--set", &format!("idle.admin_listen={addr}")]);
    assert_eq!(output.status.code(), Some(1));
    let log = stderr(&output);
    assert!(log.contains(&format!("cannot listen on {addr} (setting idle.admin_listen)")), "{log}");
}

#[test]
fn the_health_check_asks_the_running_service() {
    let service = Service::start(&[]);
    let listen = format!("idle.admin_listen={}", service.ready());
    let healthy = output(&["--health-check", "--set", &listen]);
    assert_eq!((healthy.status.code(), stderr(&healthy).as_str()), (Some(0), ""));
    drop(service);
    let gone = output(&["--health-check", "--set", &listen]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(stderr(&gone).starts_with("idle: not ready: no answer from 127.0.0.1:"), "{}", stderr(&gone));
    assert_eq!(stderr(&gone).lines().count(), 1);
}

#[test]
fn the_dump_is_the_configuration_of_all_layers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hybrid.toml");
    std::fs::write(&file, "[node]\nmachine = \"pc2\"\n[idle]\napi_key = { file = \"secrets/key\" }\n")
        .unwrap();
    let mut command = idle();
    command.env("HYBRID_CONFIG", &file).env("HYBRID_IDLE__ADMIN_LISTEN", "127.0.0.1:1");
    let output = command.args(["--dump-config", "--set", "idle.ending=never"]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let dump: toml::Table = toml::from_str(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    assert_eq!(dump["node"]["machine"].as_str(), Some("pc2"));
    assert_eq!(dump["idle"]["admin_listen"].as_str(), Some("127.0.0.1:1"));
    assert_eq!(dump["idle"]["ending"].as_str(), Some("never"));
    assert_eq!(dump["idle"]["api_key"]["file"].as_str(), Some("secrets/key"));
    assert_eq!(dump["telemetry"]["log_filter"].as_str(), Some("info"));
}

#[test]
fn the_config_flag_stands_above_the_variable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hybrid.toml");
    std::fs::write(&file, "[idle]\nadmin_listn = \"127.0.0.1:1\"\n").unwrap();
    let mut command = idle();
    command.env("HYBRID_CONFIG", "no/such/file.toml").arg("--config").arg(&file);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(
        error.starts_with(&format!("idle: {}: unknown key `idle.admin_listn`", file.display())),
        "{error}"
    );
}

#[test]
fn version_and_wrong_flags_are_answered_before_anything_else() {
    let version = output(&["--version"]);
    assert_eq!(version.stdout, format!("idle {}\n", service_runtime::VERSION).as_bytes());
    assert_eq!(output(&["--no-such-flag"]).status.code(), Some(2));
    assert_eq!(output(&["--dump-config", "--health-check"]).status.code(), Some(2));
}

#[test]
fn traces_are_sent_at_the_latest_when_the_service_ends() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("telemetry.otlp_endpoint=http://{}", collector.local_addr().unwrap());
    let (received, spans) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = collector.accept()?;
        // An empty SETTINGS frame, so that the connection counts as open.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])?;
        let mut sent = Vec::new();
        let contains = |sent: &[u8], text: &[u8]| sent.windows(text.len()).any(|part| part == text);
        while !(contains(&sent, b"service.instance.id") && contains(&sent, b"start")) {
            let mut part = [0; 4096];
            let length = stream.read(&mut part)?;
            if length == 0 {
                break;
            }
            sent.extend(&part[..length]);
        }
        let _ = received.send(sent);
        // Dropped here: the export fails, which must not matter to the service.
        std::io::Result::Ok(())
    });
    let mut service = Service::start(&["--set", &endpoint]);
    service.ready();
    service.signal("TERM");
    let sent = spans.recv_timeout(PATIENCE).unwrap();
    assert!(sent.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    assert!(
        sent.windows(19).any(|part| part == b"service.instance.id"),
        "the connection ended without a span"
    );
    assert_eq!(service.exit_code(), Some(0));
}

#[test]
fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    // Connections wait in its backlog for ever.
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("telemetry.otlp_endpoint=http://{}", collector.local_addr().unwrap());
    let arguments = ["--set", &endpoint, "--set", "telemetry.shutdown_deadline_ms=500"];
    let mut service = Service::start(&arguments);
    service.ready();
    service.signal("TERM");
    service.logged("last traces were not delivered");
    assert_eq!(service.exit_code(), Some(0));
}
