//! `hybridctl up` on real processes: everything comes up, is kept alive, and nothing is ever left behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use e2e::system::{Options, PATIENCE};
use e2e::{Child, System, port, wait, workspace};
use rustix::process::{Pid, Signal, kill_process};
use wire::subject::service;

/// A configuration with ports and folders of this test alone, and a free port for a bus.
struct Machine {
    /// Only its configuration is used, and what serves as a bus where a test wants one that is there already.
    system: System,
    bus: String,
    _block: port::Block,
}

impl Machine {
    async fn new() -> anyhow::Result<Self> {
        let system = System::start(Options::of(&[])).await?;
        let block = port::Block::reserve()?;
        let port = block.all().next().context("a block has ports")?;
        Ok(Self { system, bus: format!("nats://127.0.0.1:{port}"), _block: block })
    }

    /// `hybridctl up` with a bus of its own.
    fn up(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        let mut command = self.command("up")?;
        command.args(["--set", &format!("bus.url={}", self.bus)]);
        command.arg("--nats-server").arg(workspace::nats_server()).args(arguments);
        Child::spawn("hybridctl", &mut command)
    }

    fn command(&self, name: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(workspace::binary("hybridctl")?);
        command.arg(name).arg("--config").arg(self.system.config()).current_dir(workspace::root());
        Ok(command)
    }
}

async fn ready(up: &mut Child) -> anyhow::Result<()> {
    up.line(PATIENCE, |line| line.contains("everything is ready").then_some(())).await
}

/// Everything that `root` has started, and what that has started.
fn descendants(root: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let parents: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent_of(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, other)| *other == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// `pid (name) state ppid …`; a dead one that nobody has collected yet counts as gone.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut rest = rest.split(' ');
    (rest.next()? != "Z").then_some(())?;
    rest.next()?.parse().ok()
}

fn program(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(first).rsplit('/').next().unwrap_or_default().to_owned()
}

async fn gone(pids: &[u32]) -> anyhow::Result<()> {
    let left = || pids.iter().filter(|pid| parent_of(**pid).is_some()).map(|pid| program(*pid));
    wait::until("the end of all", PATIENCE, async || (left().count() == 0).then_some(()))
        .await
        .with_context(|| format!("still there: {}", left().collect::<Vec<_>>().join(", ")))
}

fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process(pid, signal)?)
}

#[tokio::test]
async fn everything_comes_up_answers_and_ends_with_ctrl_c() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let mut up = machine.up(&[])?;
    ready(&mut up).await?;
    let started = descendants(up.pid());
    let names: Vec<String> = started.iter().map(|pid| program(*pid)).collect();
    for name in service::ALL.into_iter().chain(["nats-server"]) {
        assert!(names.iter().any(|other| other == name), "{name} is not among {names:?}");
    }

    let ask = machine.command("ask")?.args(["--nats", &machine.bus, "What is 2+2?"]).output()?;
    assert_eq!(String::from_utf8_lossy(&ask.stdout), "4\n");
    let about = String::from_utf8_lossy(&ask.stderr);
    assert!(about.starts_with("local-cpu · mainpc/llama.cpp/demo · $0.00 · first token "), "{about}");

    let second = machine.up(&[])?.end(PATIENCE).await?;
    assert_eq!(second.code(), Some(1), "a second one started over the first");

    up.signal(Signal::INT)?;
    assert_eq!(up.end(PATIENCE).await?.code(), Some(0));
    assert!(up.stdout().contains("everything is stopped"), "{}", up.stdout());
    gone(&started).await
}

#[tokio::test]
async fn nothing_outlives_a_supervisor_that_was_killed() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let mut up = machine.up(&[])?;
    ready(&mut up).await?;
    let started = descendants(up.pid());
    assert!(started.len() > service::ALL.len(), "{started:?}");
    up.signal(Signal::KILL)?;
    gone(&started).await
}

#[tokio::test]
async fn a_service_that_was_killed_comes_back_and_a_bus_that_is_there_is_left_alone() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let mut up = Child::spawn("hybridctl", &mut machine.command("up")?)?;
    ready(&mut up).await?;
    assert!(up.stdout().contains("answers at nats://"), "{}", up.stdout());
    let find = |pid: u32| descendants(pid).into_iter().find(|pid| program(*pid) == service::VRAM_OPTIMIZER);
    let victim = find(up.pid()).context("no vram-optimizer")?;
    signal(victim, Signal::KILL)?;
    up.line(PATIENCE, |line| {
        line.contains("vram-optimizer ended (signal: 9 (SIGKILL)), again").then_some(())
    })
    .await?;
    let again = async || find(up.pid()).filter(|pid| *pid != victim);
    wait::until("a new vram-optimizer", PATIENCE, again).await?;

    let started = descendants(up.pid());
    up.signal(Signal::TERM)?;
    assert_eq!(up.end(PATIENCE).await?.code(), Some(0));
    gone(&started).await?;
    machine.system.nats.client().await.map(drop)
}

/// A folder of programs in which `name` is a script.
fn programs(folder: &Path, name: &str, script: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    Ok(std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?)
}

fn all_but(name: &str) -> String {
    service::ALL.into_iter().filter(|other| *other != name).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn a_service_that_dies_again_and_again_ends_everything_and_its_last_words_are_shown()
-> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let folder = tempfile::tempdir()?;
    let real = workspace::binary(service::VRAM_OPTIMIZER)?;
    let script = format!(
        "case \"$*\" in *--dump-config*) exec {} \"$@\";; esac; echo 'no such card' >&2; exit 3",
        real.display()
    );
    programs(folder.path(), service::VRAM_OPTIMIZER, &script)?;
    let others = all_but(service::VRAM_OPTIMIZER);
    let folder = folder.path().to_str().context("a folder without a name")?.to_owned();
    let mut up = machine.up(&["--bin-dir", &folder, "--no-services", &others])?;
    assert_eq!(up.end(PATIENCE).await?.code(), Some(1));
    let error = up.stderr();
    assert!(error.contains("vram-optimizer ended") && error.contains("no such card"), "{error}");
    assert_eq!(up.stdout().matches(", again in ").count(), 5, "{}", up.stdout());
    assert_eq!(descendants(up.pid()), [0; 0]);
    Ok(())
}

#[tokio::test]
async fn what_does_not_get_ready_is_named_with_the_reason() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let others = all_but(service::REQUEST_COORDINATOR);
    let mut up = machine.up(&["--no-services", &others, "--wait", "1"])?;
    assert_eq!(up.end(PATIENCE).await?.code(), Some(1));
    let error = up.stderr();
    assert!(error.contains("request-coordinator: routing-snapshot: "), "{error}");
    assert!(error.contains("INFO service_runtime"), "its last lines are missing: {error}");
    Ok(())
}

#[tokio::test]
async fn a_mistake_is_told_before_anything_starts() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    for (arguments, expected) in [
        (["--set", "vram-optimizer.nonsense=1"], "nonsense"),
        (["--set", "observability-hub.admin_listen=127.0.0.1:0"], "a port other than 0"),
        (["--no-services", "hub"], "\"hub\""),
        (["--bin-dir", "/nowhere"], "not built in /nowhere"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
    ] {
        let mut command = Command::new(workspace::binary("hybridctl")?);
        command.arg("up").current_dir(workspace::root());
        if !arguments.contains(&"--config") {
            command.arg("--config").arg(machine.system.config());
        }
        let mut up = Child::spawn("hybridctl", command.args(arguments))?;
        assert_eq!(up.end(PATIENCE).await?.code(), Some(1), "{arguments:?}");
        assert!(up.stderr().contains(expected), "{arguments:?}: {}", up.stderr());
        assert_eq!(up.stdout(), "", "{arguments:?}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_usable_nats_server_it_says_what_is_missing() -> anyhow::Result<()> {
    let machine = Machine::new().await?;
    let folder = tempfile::tempdir()?;
    programs(folder.path(), "nats-server", "echo 'nats-server: v2.9.24'")?;
    let old = folder.path().join("nats-server");
    for (path, expected) in [(Path::new("/nowhere"), "there is no /nowhere"), (&old, "is v2.9.24")] {
        let mut command = machine.command("up")?;
        command.args(["--set", &format!("bus.url={}", machine.bus)]).arg("--nats-server").arg(path);
        let mut up = Child::spawn("hybridctl", &mut command)?;
        assert_eq!(up.end(PATIENCE).await?.code(), Some(1));
        assert!(up.stderr().contains(expected), "{}", up.stderr());
    }
    Ok(())
}
