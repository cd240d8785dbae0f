//! Upgrades under the real programs that start servers: systemd, which follows one to its next
//! process, and those that wait for the one process that they have started.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_support::{Program, processes, stat, wait_until};

use crate::container::{containers_work, unshare};
use crate::models::served;
use crate::server::{BINARY, Client, Model, Server};
use crate::systemd::{INSTALLED, Systemd};
use crate::upgrade::Directory;

/// With this text in the section `Service`.
fn service(model: Model, options: &str, settings: &str) -> String {
    format!(
        "[Unit]
        DefaultDependencies=no
        [Service]
        ExecStart={INSTALLED} 127.0.0.1:9190 --model {} {options}
        ExecReload=/bin/kill -USR2 $MAINPID
        StandardOutput=file:/run/stdout
        StandardError=file:/run/stderr
        {settings}",
        model.0
    )
}

/// What systemd says of a main process that it cannot wait for.
const ALIEN: &str = "which is not our child";

models!(systemd_follows_every_upgrade);
/// By default systemd asks all processes to end.
fn systemd_follows_every_upgrade(model: Model) {
    follows_every_upgrade(model, "control-group");
}

models!(systemd_that_asks_only_the_main_process_to_end_follows_every_upgrade);
fn systemd_that_asks_only_the_main_process_to_end_follows_every_upgrade(model: Model) {
    follows_every_upgrade(model, "mixed");
}

fn follows_every_upgrade(model: Model, kill_mode: &str) {
    let settings = format!("Type=notify\nNotifyAccess=main\nRestart=always\nKillMode={kill_mode}");
    let Some(mut systemd) = Systemd::start(&service(model, "", &settings)) else {
        return;
    };
    let mut sessions = vec![systemd.served()];
    let mut before = systemd.show("MainPID");
    for _ in 0..3 {
        let pid = systemd.upgrade();
        assert_ne!(pid, before);
        wait_until("the new main process", || systemd.show("MainPID"), |main| *main == pid);
        sessions.push(systemd.served());
        before = pid;
    }
    for session in &mut sessions {
        session.assert_echo(b"not disturbed");
    }
    assert_eq!(systemd.show("ActiveState"), "active");

    // Four servers, each with a session.
    systemd.systemctl("stop --no-block echo.service");
    let stderr = &mut systemd.server.program.stderr;
    stderr.next_with("no new clients; 1 session left");
    stderr.next_with("waiting for the server before this one");
    assert_eq!(systemd.connect().map(drop).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    // The newest first: its server, which is the main process, waits for the others.
    for mut session in sessions.into_iter().rev() {
        session.assert_echo(b"may finish");
        assert_eq!(systemd.show("ActiveState"), "deactivating");
        assert!(session.session(b"the end").unwrap() == b"the end");
    }
    wait_until("the end", || systemd.show("ActiveState"), |it| it != "deactivating");
    let outcome = ["ActiveState", "Result", "ExecMainStatus", "NRestarts"];
    let outcome = outcome.map(|property| systemd.show(property));
    assert_eq!(outcome, ["inactive", "success", "0", "0"], "{}", systemd.log());
    assert!(!systemd.log().contains(ALIEN), "{}", systemd.log());
}

/// The control: so it looks if the new main process is still the child of the old one.
#[test]
fn systemd_complains_about_a_main_process_that_is_not_its_child() {
    let script = "sleep 1000 & systemd-notify --ready MAINPID=$!; wait";
    let service = format!(
        "[Unit]
        DefaultDependencies=no
        [Service]
        Type=notify
        NotifyAccess=all
        ExecStart=/bin/sh -c '{}'",
        script.replace('$', "$$")
    );
    let Some((program, cgroups)) = Systemd::start_program(&service) else {
        return;
    };
    let init = program.child();
    // Until /run is its own.
    let log = || fs::read_to_string(format!("/proc/{init}/root/run/log")).unwrap_or_default();
    wait_until("a complaint", log, |log| log.contains(ALIEN));
    drop(program);
    drop(cgroups);
}

/// Without NotifyAccess, systemd cannot be told, and takes the end of the old server for the end of
/// the service.
#[test]
fn systemd_that_cannot_be_told() {
    let model = Model("fork");
    let Some(mut systemd) = Systemd::start(&service(model, "", "Type=simple")) else {
        return;
    };
    let before = systemd.show("MainPID");
    systemd.systemctl("reload echo.service");
    let line = systemd.server.program.stderr.next_with("no upgrade: ");
    assert!(line.contains("our parent, process 1 (systemd)"), "{line}");
    systemd.served();
    assert_eq!(systemd.show("MainPID"), before);
    drop(systemd);

    // So it is.
    let service = service(model, "--upgrade-anyway", "Type=simple");
    let mut systemd = Systemd::start(&service).unwrap();
    systemd.upgrade();
    let state = || systemd.show("ActiveState");
    wait_until("the end of the service", state, |it| it == "inactive");
    assert!(systemd.connect().is_err());
}

/// What a manager does when the server that it has started is replaced all the same.
enum Fault {
    /// It starts another one.
    StartsAnother,
    /// It ends, and the container with it.
    Ends,
}

/// The command that starts `server` under this manager, which is process 1 only if it has to be.
fn under(name: &str, directory: &Directory, options: &str) -> Command {
    let server = format!("{BINARY} 0 {options}");
    let here = directory.path("");
    let here = here.to_str().unwrap();
    directory.install_script("run", &format!("exec {server}"));
    let config = format!(
        "[supervisord]\nnodaemon=true\nsilent=true\nuser=root\nlogfile=/dev/null\n\
         logfile_maxbytes=0\npidfile={here}/pid\n\
         [program:echo]\ncommand={server}\nautorestart=true\n\
         stdout_logfile=/dev/fd/1\nstdout_logfile_maxbytes=0\n\
         stderr_logfile=/dev/fd/2\nstderr_logfile_maxbytes=0\n"
    );
    fs::write(directory.path("supervisord.conf"), config).unwrap();
    let manager = match name {
        "runsv" | "s6-supervise" => format!("{name} {here}"),
        "supervisord" => format!("supervisord --configuration {here}/supervisord.conf"),
        init => format!("{init} -- {server}"),
    };
    let mut container = unshare();
    let script = match name {
        "catatonit" => format!("exec {manager}"),
        _ => format!("{manager}; exit $?"),
    };
    container.args(["sh", "-c", &script]);
    container
}

/// Refuses under this manager, with a reason, and obeys if it has to; then `fault` shows.
fn an_upgrade_is_refused_under(name: &str, fault: &Fault) {
    let installed = Program::try_start(
        Command::new("sh").args(["-c", "command -v \"$0\"", name]).stdout(Stdio::null()),
    );
    if !containers_work() || installed.unwrap().exit_code() != 0 {
        println!("skipped: needs namespaces and {name}");
        return;
    }
    let directory = Directory::new();
    let mut server = Server::run(&mut under(name, &directory, ""));
    kill(inside(&server), Signal::SIGUSR2).unwrap();
    let line = server.program.stderr.next_with("no upgrade: ");
    assert!(line.contains(&format!(" ({name})")), "{line}");
    assert!(line.ends_with("--upgrade-anyway overrides this; still serving"), "{line}");
    server.assert_serves();
    drop(server);

    let directory = Directory::new();
    let mut server = Server::run(&mut under(name, &directory, "--upgrade-anyway"));
    kill(inside(&server), Signal::SIGUSR2).unwrap();
    server.program.stderr.next_with("has taken over");
    match fault {
        Fault::StartsAnother => {
            let same = server.program.stdout.next_with("listening on ");
            let other = server.program.stdout.next_with("listening on ");
            let address = server.address.to_string();
            assert!(same.contains(&address) && !other.contains(&address));
        }
        Fault::Ends => {
            server.program.end();
            server.program.stdout.rest();
            assert!(Client::connect(server.address).is_err());
        }
    }
}

/// The only server in the process namespace that this program has made.
#[track_caller]
fn inside(server: &Server) -> Pid {
    let namespace = |pid: Pid| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(server.worker());
    let find = || {
        let mut all = processes(|it| it.name == "echo-server");
        all.retain(|pid| namespace(*pid) == own);
        all
    };
    wait_until("the server", find, |all| all.len() == 1)[0]
}

/// Its parent is the process that has adopted it, and never knew the one before it.
#[test]
fn a_server_that_has_taken_over_can_be_replaced_as_well() {
    if !containers_work() {
        return;
    }
    let script = r#"sh -c '"$0" 0; exit $?' "$0" & sleep 1000"#;
    let mut server = Server::run(unshare().args(["sh", "-c", script, BINARY]));
    for _ in 0..3 {
        let before = inside(&server);
        kill(before, Signal::SIGUSR2).unwrap();
        server.program.stderr.next_with("has taken over");
        wait_until(
            "its end",
            || processes(|it| it.name == "echo-server"),
            |all| !all.contains(&before),
        );
        server.assert_serves();
    }
    let parent = stat(inside(&server)).unwrap().parent;
    assert_eq!(parent, server.worker(), "process 1");
}

#[test]
fn runit_would_start_another() {
    an_upgrade_is_refused_under("runsv", &Fault::StartsAnother);
}

#[test]
fn s6_would_start_another() {
    an_upgrade_is_refused_under("s6-supervise", &Fault::StartsAnother);
}

#[test]
fn supervisord_would_start_another() {
    an_upgrade_is_refused_under("supervisord", &Fault::StartsAnother);
}

#[test]
fn tini_would_end() {
    an_upgrade_is_refused_under("tini", &Fault::Ends);
}

#[test]
fn dumb_init_would_end() {
    an_upgrade_is_refused_under("dumb-init", &Fault::Ends);
}

#[test]
fn catatonit_would_end() {
    an_upgrade_is_refused_under("catatonit", &Fault::Ends);
}

/// Those that are documented, whether they are installed here or not; and no other.
#[test]
fn managers_are_known_by_their_names() {
    let directory = Directory::new();
    let start = |name: &str| {
        directory.install(name, |sh| sh.args(["cp \"$(command -v sh)\" \"$1\"", ""]));
        let mut parent = Command::new(directory.path(name));
        let server = Server::run(parent.args(["-c", "\"$0\" 0; exit $?", BINARY]));
        kill(server.worker(), Signal::SIGUSR2).unwrap();
        server
    };
    for name in [
        "runsv",
        "s6-supervise",
        "supervise",
        "supervise-daemon",
        "supervisord",
        "circusd",
        "perpd",
        "tini",
        "tini-static",
        "dumb-init",
        "catatonit",
        "docker-init",
        "podman-init",
        "systemd",
    ] {
        let mut server = start(name);
        let line = server.program.stderr.next_with("no upgrade: ");
        assert!(line.contains(&name[..name.len().min(15)]), "{line}");
        server.assert_serves();
    }
    let mut server = start("bash");
    let _session = served(&server);
    server.program.stderr.next_with("has taken over");
}
