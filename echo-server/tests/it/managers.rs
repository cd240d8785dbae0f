//! Upgrades under the real programs that start servers: systemd, which follows one to its next
//! process, and those that wait for the one process that they have started.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_support::{Program, processes, stat, wait_until};

use crate::container::{containers_work, unshare};
use crate::models::served;
use crate::server::{BINARY, Client, Model, Server, is_root};
use crate::upgrade::Directory;

/// systemd as process 1 of namespaces and cgroups of its own, with one service. Dropped, it is
/// killed, and with it all that it has started.
struct Systemd {
    /// Whose lines are those of the service.
    server: Server,
    init: Pid,
    /// Dropped last.
    _cgroups: Cgroups,
}

/// Becomes systemd, in namespaces. What the service writes comes out where this script's output
/// goes, and what systemd itself has to say goes to /run/log.
const BECOME_SYSTEMD: &str = r#"
    set -e
    mount -t tmpfs none /run
    mkdir -p /run/systemd/system
    printf '%s\n' "$1" >/run/systemd/system/echo.service
    mkfifo /run/stdout /run/stderr /run/kmsg
    mount --bind /run/kmsg /dev/kmsg
    cat <>/run/stdout &
    cat <>/run/stderr >&2 &
    cat <>/run/kmsg >/run/log &
    # Whatever systemd would set up, it is for nobody else.
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    mount -o remount,bind,ro /
    if [ -d /sys/fs/cgroup/systemd ]; then
        mount -t tmpfs none /sys/fs/cgroup
        mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
        mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd
        mount -t cgroup2 none /sys/fs/cgroup/unified
    else
        mount -t cgroup2 none /sys/fs/cgroup
    fi
    exec env -i PATH="$PATH" container=other /lib/systemd/systemd --system \
        --unit=echo.service --log-target=kmsg --log-level=info --show-status=no
"#;

impl Systemd {
    /// `None` if there can be no systemd here; the reason is printed.
    fn start(service: &str) -> Option<Self> {
        let (program, cgroups) = Self::start_program(service)?;
        let server = Server::of(program);
        let init = server.program.child();
        Some(Self { server, init, _cgroups: cgroups })
    }

    fn start_program(service: &str) -> Option<(Program, Cgroups)> {
        const ENTER: &str = "for group in $1; do echo $$ >$group/cgroup.procs || exit; done; shift
            exec unshare --pid --mount --mount-proc --cgroup --net --ipc --uts --fork --kill-child \
            sh -c \"$@\"";
        if !systemd_works() {
            return None;
        }
        let cgroups = Cgroups::new();
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh", &cgroups.names(), BECOME_SYSTEMD, "sh"]).arg(service);
        Some((Program::start(&mut command), cgroups))
    }

    /// Runs systemctl inside, and returns what it prints.
    #[track_caller]
    fn systemctl(&self, words: &str) -> String {
        systemctl(self.init, words)
    }

    /// The unit's property of this name.
    #[track_caller]
    fn show(&self, property: &str) -> String {
        self.systemctl(&format!("show --value --property {property} echo.service"))
    }

    /// A client that is being served. Its connection is in the network that systemd has to itself.
    #[track_caller]
    fn served(&self) -> Client {
        let mut client = self.connect().unwrap();
        client.assert_echo(b"served");
        client
    }

    fn connect(&self) -> io::Result<Client> {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.init))?;
        let address = self.server.address;
        let connect = move || {
            // Of this thread only.
            setns(network, CloneFlags::CLONE_NEWNET)?;
            Client::connect(address)
        };
        thread::scope(|scope| scope.spawn(connect).join().unwrap())
    }

    /// As an operator does, and waits until another process serves. Returns that one's number, as
    /// systemd sees it.
    #[track_caller]
    fn upgrade(&mut self) -> String {
        self.systemctl("reload echo.service");
        let line = self.server.program.stderr.next_with("has taken over");
        let pid = line.split(' ').find(|word| word.parse::<u32>().is_ok());
        pid.unwrap().to_owned()
    }

    fn log(&self) -> String {
        log(self.init)
    }
}

#[track_caller]
fn systemctl(init: Pid, words: &str) -> String {
    let mut inside = Command::new("nsenter");
    inside.args(["--target", &init.to_string(), "--all", "systemctl"]).args(words.split(' '));
    let output = Program::start(&mut inside).output();
    assert_eq!(output.code, 0, "systemctl {words}: {output:?}");
    output.stdout.join("\n")
}

/// What systemd has said so far.
fn log(init: Pid) -> String {
    fs::read_to_string(format!("/proc/{init}/root/run/log")).unwrap()
}

fn systemd_works() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--pid", "--fork", "--mount", "--cgroup", "--net", "true"]);
    let systemd = fs::exists("/lib/systemd/systemd").unwrap();
    let kmsg = fs::exists("/dev/kmsg").unwrap();
    let parts = [
        (is_root(), "root"),
        (systemd, "/lib/systemd/systemd (Debian's package systemd)"),
        (kmsg, "/dev/kmsg"),
        (Cgroups::work(), "cgroups that can be written to"),
        (is_root() && Program::start(&mut probe).exit_code() == 0, "the right to make namespaces"),
    ];
    let missing = parts.into_iter().find(|(there, _)| !there);
    if let Some((_, what)) = missing {
        println!("skipped: needs {what}");
    }
    missing.is_none()
}

/// A cgroup for a systemd, in each hierarchy that it uses.
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    fn roots() -> Vec<PathBuf> {
        let hybrid = ["systemd", "unified"].map(|name| PathBuf::from("/sys/fs/cgroup").join(name));
        if hybrid[0].is_dir() { hybrid.into() } else { vec!["/sys/fs/cgroup".into()] }
    }

    /// Whether there are cgroups where we expect them, and we may make some.
    fn work() -> bool {
        let is_writable = |root: &PathBuf| {
            let probe = root.join(format!("echo-server-probe-{}", process::id()));
            root.join("cgroup.procs").exists()
                && (fs::create_dir(&probe).is_ok_and(|()| fs::remove_dir(&probe).is_ok())
                    || probe.exists()) // another test is making the same attempt
        };
        Self::roots().iter().all(is_writable)
    }

    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("echo-server-{}-{number}", process::id());
        let paths = Self::roots().into_iter().map(|root| root.join(&name));
        let cgroups = Self(paths.collect());
        for path in &cgroups.0 {
            fs::create_dir(path).unwrap();
        }
        cgroups
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.0.iter().map(|path| path.display().to_string()).collect();
        names.join(" ")
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // The kernel refuses as long as a process is in them, and ends those of a pid namespace some
        // time after process 1.
        let remove = || self.0.iter().all(|path| remove_cgroup(path.clone()));
        if !thread::panicking() {
            wait_until("no cgroup", remove, |gone| *gone);
            return;
        }
        for _ in 0..1000 {
            if remove() {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(3));
        }
    }
}

/// With those inside. Returns whether it is gone.
fn remove_cgroup(path: PathBuf) -> bool {
    for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(entry.path());
        }
    }
    let _ = fs::remove_dir(&path);
    !path.exists()
}

/// With this text in the section `Service`.
fn service(model: Model, options: &str, settings: &str) -> String {
    format!(
        "[Unit]
        DefaultDependencies=no
        [Service]
        ExecStart={BINARY} 127.0.0.1:9190 --model {} {options}
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
    let own = namespace(server.program.child());
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
    assert_eq!(parent, server.program.child(), "process 1");
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
        kill(server.program.child(), Signal::SIGUSR2).unwrap();
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
