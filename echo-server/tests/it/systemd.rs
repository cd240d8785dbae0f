//! The real systemd, for tests of services.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;
use test_support::{Program, wait_until};

use crate::server::{BINARY, Client, Server, is_root};

/// systemd as process 1 of namespaces and cgroups of its own, with one service. Dropped, it is
/// killed, and with it all that it has started.
pub(crate) struct Systemd {
    /// Whose lines are those of the service.
    pub(crate) server: Server,
    service: &'static str,
    init: Pid,
    /// Dropped last.
    _cgroups: Cgroups,
}

/// A unit, or a drop-in of one: the file's path below systemd's folder, and its text.
pub(crate) type UnitFile<'a> = (&'a str, &'a str);

/// The server, as long as this systemd runs.
pub(crate) const INSTALLED: &str = "/usr/local/bin/echo-server";

/// Becomes systemd, in namespaces. What the service writes comes out where this script's output
/// goes, and what systemd itself has to say goes to /run/log.
const BECOME_SYSTEMD: &str = r#"
    set -e
    mount -t tmpfs none /run
    mkdir -p /run/systemd/system
    server=$1 first=$2
    shift 2
    while [ $# -gt 0 ]; do
        mkdir -p "$(dirname "/run/systemd/system/$1")"
        printf '%s\n' "$2" >"/run/systemd/system/$1"
        shift 2
    done
    # Where the units in deploy/ have it. It may lie in /tmp, which systemd writes to.
    mount -t tmpfs none /usr/local/bin
    touch /usr/local/bin/echo-server
    mount --bind "$server" /usr/local/bin/echo-server
    mount -t tmpfs none /tmp
    mount -t tmpfs none /var/tmp
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
        --unit="$first" --log-target=kmsg --log-level=info --show-status=no
"#;

impl Systemd {
    /// With this text as `echo.service`. `None` if there can be no systemd here; the reason is printed.
    pub(crate) fn start(service: &str) -> Option<Self> {
        let (program, cgroups) = Self::start_program(service)?;
        Some(Self::of(program, cgroups, "echo.service"))
    }

    pub(crate) fn start_program(service: &str) -> Option<(Program, Cgroups)> {
        Self::start_units("echo.service", &[("echo.service", service)])
    }

    /// With these units, of which `first` is started. The server is [`INSTALLED`].
    pub(crate) fn start_units(first: &str, units: &[UnitFile<'_>]) -> Option<(Program, Cgroups)> {
        const ENTER: &str = "for group in $1; do echo $$ >$group/cgroup.procs || exit; done; shift
            exec unshare --pid --mount --mount-proc --cgroup --net --ipc --uts --fork --kill-child \
            sh -c \"$@\"";
        if !systemd_works() {
            return None;
        }
        let cgroups = Cgroups::new();
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh", &cgroups.names(), BECOME_SYSTEMD, "sh", BINARY, first]);
        command.args(units.iter().flat_map(|(name, text)| [name, text]));
        Some((Program::start(&mut command), cgroups))
    }

    /// Waits until `service`, whose output is the program's, says where it listens.
    #[track_caller]
    pub(crate) fn of(program: Program, cgroups: Cgroups, service: &'static str) -> Self {
        let server = Server::of(program);
        let init = server.program.child();
        Self { server, service, init, _cgroups: cgroups }
    }

    /// Runs systemctl inside, and returns what it prints.
    #[track_caller]
    pub(crate) fn systemctl(&self, words: &str) -> String {
        systemctl(self.init, words)
    }

    /// The unit's property of this name.
    #[track_caller]
    pub(crate) fn show(&self, property: &str) -> String {
        self.systemctl(&format!("show --value --property {property} {}", self.service))
    }

    /// A client that is being served. Its connection is in the network that systemd has to itself.
    #[track_caller]
    pub(crate) fn served(&self) -> Client {
        let mut client = self.connect().unwrap();
        client.assert_echo(b"served");
        client
    }

    pub(crate) fn connect(&self) -> io::Result<Client> {
        let address = self.server.address;
        in_network(self.init, move || Client::connect(address))
    }

    /// Its process 1, as we see it.
    pub(crate) fn init(&self) -> Pid {
        self.init
    }

    /// As an operator does, and waits until another process serves. Returns that one's number, as
    /// systemd sees it.
    #[track_caller]
    pub(crate) fn upgrade(&mut self) -> String {
        self.systemctl(&format!("reload {}", self.service));
        let line = self.server.program.stderr.next_with("has taken over");
        let pid = line.split(' ').find(|word| word.parse::<u32>().is_ok());
        pid.unwrap().to_owned()
    }

    pub(crate) fn log(&self) -> String {
        log(self.init)
    }
}

/// Runs this as a thread in the network of this process.
pub(crate) fn in_network<T: Send>(pid: Pid, task: impl FnOnce() -> T + Send) -> T {
    let network = fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    let task = move || {
        setns(network, CloneFlags::CLONE_NEWNET).unwrap(); // of this thread only
        task()
    };
    thread::scope(|scope| scope.spawn(task).join().unwrap())
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
pub(crate) struct Cgroups(Vec<PathBuf>);

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
