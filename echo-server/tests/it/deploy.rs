//! The files in `deploy/`, with the programs that read them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use clap::{CommandFactory, Parser};
use echo_server::Options;
use nix::sys::signal::Signal;
use test_support::{Program, TempDir, wait_until};
use yaml_rust2::{Yaml, YamlLoader};

use crate::backlog::assert_serves_who_came_before_term;
use crate::server::{BINARY, Client, Model, Server, flood, is_root, reserved_address};
use crate::systemd::{INSTALLED, Systemd, in_network};

const SOCKET: &str = include_str!("../../deploy/echo-server.socket");
const SERVICE: &str = include_str!("../../deploy/echo-server.service");
const HAPROXY: &str = include_str!("../../deploy/haproxy.cfg");
const CONTAINER: &str = include_str!("../../deploy/Containerfile");
const KUBERNETES: &str = include_str!("../../deploy/kubernetes.yaml");

/// The port of the server, in all of them.
const PORT: &str = "9190";

/// Sessions without a pause.
struct Load {
    stop: Arc<AtomicBool>,
    /// How many there have been.
    count: Arc<AtomicUsize>,
    failures: Option<JoinHandle<Vec<String>>>,
}

impl Load {
    /// `run` has some sessions, and returns what went wrong in any.
    fn start(run: impl Fn(usize) -> Vec<String> + Send + 'static) -> Self {
        const BATCH: usize = 40;
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let run = move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                failures.extend(run(BATCH));
                counted.fetch_add(BATCH, Ordering::Relaxed);
            }
            failures
        };
        Self { stop, count, failures: Some(thread::spawn(run)) }
    }

    /// Waits until more sessions have begun and ended.
    #[track_caller]
    fn goes_on(&self) {
        let count = || self.count.load(Ordering::Relaxed);
        let before = count();
        wait_until("two more batches", count, |now| *now >= before + 80);
    }

    /// Ends it, and returns what went wrong in any session.
    fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.failures.take().unwrap().join().unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// systemd with the two units as they are, but that they pull in nothing else of this machine, and that
/// this is the service's command. The first client has come, and so the server runs.
fn start_units(command: &str) -> Option<(Systemd, Client)> {
    const ALONE: &str = "[Unit]\nDefaultDependencies=no";
    let settings = format!(
        "{ALONE}\n[Service]\nExecStart=\nExecStart={command}\n\
         StandardOutput=file:/run/stdout\nStandardError=file:/run/stderr"
    );
    let units = [
        ("echo-server.socket", SOCKET),
        ("echo-server.socket.d/test.conf", ALONE),
        ("echo-server.service", SERVICE),
        ("echo-server.service.d/test.conf", &settings),
    ];
    let (program, cgroups) = Systemd::start_units("echo-server.socket", &units)?;
    let init = program.child();
    let address = format!("127.0.0.1:{PORT}").parse().unwrap();
    let connect = || in_network(init, move || Client::connect(address));
    let client = wait_until("the port", connect, Result::is_ok);
    let systemd = Systemd::of(program, cgroups, "echo-server.service");
    Some((systemd, client.unwrap()))
}

models!(the_units_refuse_nobody);
/// Neither at an upgrade nor at a restart, and what they forbid is nothing that the server needs.
fn the_units_refuse_nobody(model: Model) {
    let command = format!("{} --model {}", setting(SERVICE, "ExecStart"), model.0);
    let Some((mut systemd, mut session)) = start_units(&command) else {
        return;
    };
    session.assert_echo(b"the first");
    let line = systemd.server.program.stderr.next_with("sandbox: a worker has ");
    assert!(line.contains(", CapEff 0000000000000000, NoNewPrivs 1, Seccomp 2, "), "{line}");
    assert!(!line.contains("Uid 0,"), "{line}");

    let (init, address) = (systemd.init(), systemd.server.address);
    let load = Load::start(move |count| in_network(init, move || flood(address, count, 8)));
    load.goes_on();
    systemd.upgrade();
    load.goes_on();
    session.assert_echo(b"not disturbed");
    assert!(session.session(b"the end").unwrap() == b"the end");
    load.goes_on();
    systemd.systemctl("restart echo-server.service");
    systemd.server.program.stderr.next_with("no new clients");
    load.goes_on();
    assert_eq!(load.end(), [""; 0]);

    // As long as sessions finish, the next clients wait.
    let mut session = systemd.served();
    systemd.systemctl("restart --no-block echo-server.service");
    systemd.server.program.stderr.next_with("no new clients");
    let mut next = systemd.connect().unwrap();
    next.assert_hears_nothing();
    session.assert_echo(b"may finish");
    drop(session);
    next.assert_echo(b"patience");
    drop(next);

    systemd.systemctl("stop echo-server.socket echo-server.service");
    assert_eq!(systemd.connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let outcome = ["ActiveState", "Result", "NRestarts"].map(|property| systemd.show(property));
    assert_eq!(outcome, ["inactive", "success", "0"], "{}", systemd.log());
}

/// The control: the port is closed between two servers.
#[test]
fn without_the_socket_unit_a_restart_refuses_clients() {
    let service = format!(
        "[Unit]
        DefaultDependencies=no
        [Service]
        Type=notify
        ExecStart={INSTALLED}
        StandardOutput=file:/run/stdout
        StandardError=file:/run/stderr"
    );
    let Some(mut systemd) = Systemd::start(&service) else {
        return;
    };
    let _session = systemd.served();
    systemd.systemctl("restart --no-block echo.service");
    systemd.server.program.stderr.next_with("no new clients; 1 session left");
    assert_eq!(systemd.connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !is_installed("systemd-analyze") {
        return;
    }
    let folder = TempDir::new().unwrap();
    let service = folder.path().join("echo-server.service");
    let socket = folder.path().join("echo-server.socket");
    fs::write(&service, SERVICE.replace(INSTALLED, BINARY)).unwrap();
    fs::write(&socket, SOCKET).unwrap();
    let analyze = |words: &[&str], files: &[&Path]| {
        let mut command = Command::new("systemd-analyze");
        let output = Program::start(command.args(words).args(files)).output();
        assert_eq!(output.code, 0, "{output:?}");
        output
    };
    let output = analyze(&["verify", "--man=no"], &[&service, &socket]);
    assert_eq!(output.stderr, [""; 0]);
    // Fails if the service is exposed more than this, in tenths.
    analyze(&["security", "--offline=true", "--threshold=15"], &[&service]);
}

/// HAProxy as configured, but for the addresses: its own, and those of these servers.
struct HaProxy {
    address: SocketAddr,
    folder: TempDir,
    _program: Program,
}

const ADMIN: &str = "/run/haproxy/admin.sock";
const SERVERS: [(&str, &str); 3] =
    [("a", "192.0.2.11:9190"), ("b", "192.0.2.12:9190"), ("c", "192.0.2.13:9190")];

impl HaProxy {
    fn start(servers: [SocketAddr; 3]) -> Self {
        let folder = TempDir::new().unwrap();
        let (_reserved, address) = reserved_address();
        let mut config = HAPROXY.to_owned();
        let mut replace = |before: &str, after: &str| {
            assert_eq!(config.matches(before).count(), 1, "{before}");
            config = config.replace(before, after);
        };
        for ((name, documented), actual) in SERVERS.into_iter().zip(servers) {
            replace(&format!("server {name} {documented}"), &format!("server {name} {actual}"));
        }
        replace(&format!("bind :{PORT}"), &format!("bind {address}"));
        replace(ADMIN, folder.path().join("admin").to_str().unwrap());
        if !is_root() {
            // Nobody else can become another user.
            replace("user haproxy", "");
            replace("group haproxy", "");
        }
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        // -db: in the foreground.
        let program = Program::start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
        let haproxy = Self { address, folder, _program: program };
        let is_there = || UnixStream::connect(haproxy.folder.path().join("admin")).is_ok();
        wait_until("HAProxy", is_there, |there| *there);
        for (name, _) in SERVERS {
            haproxy.wait_for(name, "status", "UP");
        }
        haproxy
    }

    /// Sends a command to the admin socket, and returns the answer.
    #[track_caller]
    fn tell(&self, command: &str) -> String {
        let mut admin = UnixStream::connect(self.folder.path().join("admin")).unwrap();
        writeln!(admin, "{command}").unwrap();
        let mut answer = String::new();
        admin.read_to_string(&mut answer).unwrap();
        answer
    }

    #[track_caller]
    fn set_state(&self, server: &str, state: &str) {
        let answer = self.tell(&format!("set server echo/{server} state {state}"));
        assert_eq!(answer, "\n");
    }

    /// Waits until the statistics of this server have this value.
    #[track_caller]
    fn wait_for(&self, server: &str, column: &str, value: &str) {
        let look = || {
            let table = self.tell("show stat");
            let mut rows = table.trim_start_matches("# ").lines().map(|it| it.split(','));
            let place = rows.next().unwrap().position(|it| it == column).unwrap();
            let mut row = rows.find(|row| row.clone().take(2).eq(["echo", server])).unwrap();
            row.nth(place).unwrap().to_owned()
        };
        wait_until(column, look, |seen| seen == value);
    }
}

/// Serves so few clients at a time that others are in the kernel's queue.
fn start_small(address: SocketAddr, max_children: &str) -> Server {
    let address = address.to_string();
    Server::run(Command::new(BINARY).args([&address, "--max-children", max_children]))
}

/// One server after the other is drained, ended, and started again.
#[test]
fn behind_haproxy_nobody_is_lost_if_servers_are_drained_first() {
    if !is_installed("haproxy") {
        return;
    }
    let reserved = SERVERS.map(|_| reserved_address());
    let mut servers = reserved.each_ref().map(|(_, address)| start_small(*address, "4"));
    let haproxy = HaProxy::start(servers.each_ref().map(|server| server.address));
    let address = haproxy.address;
    let load = Load::start(move |count| flood(address, count, 16));
    for ((name, _), server) in SERVERS.into_iter().zip(&mut servers) {
        load.goes_on();
        haproxy.set_state(name, "drain");
        haproxy.wait_for(name, "scur", "0");
        server.program.signal(Signal::SIGTERM);
        assert_eq!(server.program.exit_code(), 0);
        *server = start_small(server.address, "4");
        haproxy.set_state(name, "ready");
        haproxy.wait_for(name, "status", "UP");
    }
    load.goes_on();
    assert_eq!(load.end(), [""; 0]);
}

/// The control: HAProxy does not send a client to another server once it is in a server's queue.
#[test]
fn behind_haproxy_a_client_is_lost_if_its_server_is_not_drained() {
    if !is_installed("haproxy") {
        return;
    }
    let reserved = SERVERS.map(|_| reserved_address());
    let servers = reserved.each_ref().map(|(_, address)| start_small(*address, "1"));
    let haproxy = HaProxy::start(servers.each_ref().map(|server| server.address));
    for (name, _) in &SERVERS[1..] {
        haproxy.set_state(name, "drain"); // so that all clients come to the first one
    }
    let mut served = Client::connect(haproxy.address).unwrap();
    served.assert_echo(b"served");
    let mut in_queue = Client::connect(haproxy.address).unwrap();
    haproxy.wait_for("a", "scur", "2");
    for (name, _) in &SERVERS[1..] {
        haproxy.set_state(name, "ready");
    }
    servers[0].program.signal(Signal::SIGTERM);
    in_queue.assert_is_cut_off();
    served.assert_echo(b"may finish");
}

#[test]
fn haproxy_finds_nothing_wrong_with_its_configuration() {
    if !is_installed("haproxy") {
        return;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("haproxy.cfg");
    fs::write(&file, HAPROXY).unwrap();
    // -dW: no warnings, either.
    let output = Program::start(Command::new("haproxy").args(["-c", "-dW", "-f"]).arg(file));
    assert_eq!(output.output().code, 0);
}

/// A number that depends on another one fits it.
#[test]
fn the_numbers_fit_the_defaults_of_the_server() {
    let drain = default_of("drain-timeout");
    assert!(number(setting(SERVICE, "TimeoutStopSec")) > drain);
    let idle = default_of("idle-timeout");
    for side in ["timeout client", "timeout server"] {
        assert!(number(setting(HAPROXY, side)) > idle, "{side}");
    }
    let mut server = Server::start(&[]);
    server.program.signal(Signal::SIGUSR1);
    let status = server.program.stderr.next_with("status: ");
    let (_, limit) = status.split_once("limit ").unwrap();
    let (_, maxconn) = setting(HAPROXY, "default-server").split_once(" maxconn ").unwrap();
    assert!(number(maxconn) < number(limit), "{status}");

    let pod = Pod::of_manifest();
    let grace = pod.number("terminationGracePeriodSeconds");
    let pause = pod.container("lifecycle")["preStop"]["sleep"]["seconds"].as_i64().unwrap();
    let args = pod.args();
    let place = args.iter().position(|arg| *arg == "--drain-timeout").unwrap();
    let drain: i64 = args[place + 1].parse().unwrap();
    assert!(grace > pause + drain, "{grace} > {pause} + {drain}");
}

#[test]
fn the_server_understands_its_options() {
    let (program, options) = setting(SERVICE, "ExecStart").split_once(' ').unwrap();
    assert_eq!(program, INSTALLED);
    assert_parsed(options.split(' '));
    assert_parsed(words(setting(CONTAINER, "CMD")));
    assert_parsed(Pod::of_manifest().args().iter().map(String::as_str));
}

/// In a container and under Kubernetes, nobody else has it.
#[test]
fn a_server_that_opens_its_port_itself_serves_its_queue_before_it_ends() {
    let container = words(setting(CONTAINER, "CMD")).into_iter().map(str::to_owned).collect();
    for mut args in [container, Pod::of_manifest().args()] {
        args[0] = "127.0.0.1:0".to_owned();
        let server = Server::run(Command::new(BINARY).args(&args));
        server.assert_serves();
        server.assert_no_worker_is_left();
        assert_serves_who_came_before_term(server);
    }
}

#[test]
fn they_agree() {
    assert_eq!(setting(SOCKET, "ListenStream"), PORT);
    assert_eq!(setting(HAPROXY, "bind"), format!(":{PORT}"));
    assert_eq!(setting(CONTAINER, "EXPOSE"), PORT);
    assert_eq!(words(setting(CONTAINER, "CMD"))[0], format!(":{PORT}"));
    let pod = Pod::of_manifest();
    assert_eq!(pod.args()[0], format!(":{PORT}"));
    let user = |name: &str| pod.spec["securityContext"][name].as_i64().unwrap();
    let user = format!("{}:{}", user("runAsUser"), user("runAsGroup"));
    assert_eq!(setting(CONTAINER, "USER"), user);

    let port = &pod.container("ports")[0];
    assert_eq!(port["containerPort"].as_i64().unwrap().to_string(), PORT);
    assert_eq!(pod.container("readinessProbe")["tcpSocket"]["port"], port["name"]);
    let [deployment, service, budget] = manifest();
    assert_eq!(service["spec"]["ports"][0]["port"].as_i64().unwrap().to_string(), PORT);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
    // All of them are about the same pods.
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert!(!labels.is_badvalue());
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(service["spec"]["selector"], *labels);
    assert_eq!(budget["spec"]["selector"]["matchLabels"], *labels);
    let spread = &pod.spec["topologySpreadConstraints"][0];
    assert_eq!(spread["labelSelector"]["matchLabels"], *labels);
    // Some server is always there.
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"].as_i64(), Some(0));
    assert!(budget["spec"]["maxUnavailable"].as_i64() < deployment["spec"]["replicas"].as_i64());
}

/// The three resources, in their order.
fn manifest() -> [Yaml; 3] {
    let resources: [Yaml; 3] = YamlLoader::load_from_str(KUBERNETES).unwrap().try_into().unwrap();
    let kinds = resources.each_ref().map(|it| it["kind"].as_str().unwrap());
    assert_eq!(kinds, ["Deployment", "Service", "PodDisruptionBudget"]);
    resources
}

/// With a program that has the schema, which is installed with `pip install kubernetes-validate`.
#[test]
fn the_manifest_fits_the_schema_of_kubernetes() {
    if !is_installed("kubernetes-validate") {
        return;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kubernetes.yaml");
    fs::write(&file, KUBERNETES).unwrap();
    // The oldest version that has preStop.sleep by default, and the newest that the program knows.
    for version in ["1.30.0", "1.37.0"] {
        let mut command = Command::new("kubernetes-validate");
        command.args(["--strict", "--kubernetes-version", version]).arg(&file);
        let output = Program::start(&mut command).output();
        assert_eq!(output.code, 0, "{output:?}");
    }
}

/// What the manifest says of each server.
struct Pod {
    spec: Yaml,
}

impl Pod {
    fn of_manifest() -> Self {
        let [deployment, _, _] = manifest();
        Self { spec: deployment["spec"]["template"]["spec"].clone() }
    }

    fn number(&self, name: &str) -> i64 {
        self.spec[name].as_i64().unwrap()
    }

    /// This setting of its one container.
    fn container(&self, name: &str) -> &Yaml {
        assert_eq!(self.spec["containers"].as_vec().unwrap().len(), 1);
        &self.spec["containers"][0][name]
    }

    fn args(&self) -> Vec<String> {
        let args = self.container("args").as_vec().unwrap().iter();
        args.map(|arg| arg.as_str().unwrap().to_owned()).collect()
    }
}

/// What follows this name in the first line that begins with it.
#[track_caller]
fn setting<'a>(text: &'a str, name: &str) -> &'a str {
    let mut lines = text.lines().map(str::trim);
    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', '=']));
    found.unwrap_or_else(|| panic!("no line with {name}"))
}

/// The words of `["a", "b"]`.
fn words(list: &str) -> Vec<&str> {
    let list = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap();
    list.split(", ").map(|word| word.trim_matches('"')).collect()
}

/// The number at the start of the text.
#[track_caller]
fn number(text: &str) -> u64 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or_else(|_| panic!("no number in {text:?}"))
}

/// The default of an option of the server.
fn default_of(option: &str) -> u64 {
    let command = Options::command();
    let option = command.get_arguments().find(|it| it.get_long() == Some(option)).unwrap();
    number(option.get_default_values()[0].to_str().unwrap())
}

#[track_caller]
fn assert_parsed<'a>(words: impl IntoIterator<Item = &'a str>) {
    let words: Vec<_> = ["echo-server"].into_iter().chain(words).collect();
    if let Err(error) = Options::try_parse_from(&words) {
        panic!("{words:?}: {error}");
    }
}

fn is_installed(program: &str) -> bool {
    let mut look = Command::new("sh");
    look.args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null()).stderr(Stdio::null());
    let is_there = Program::try_start(&mut look).unwrap().exit_code() == 0;
    if !is_there {
        println!("skipped: needs {program}");
    }
    is_there
}
