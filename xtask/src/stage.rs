//! Where one run of a scenario takes place: in a process of its own, which starts the programs
//! from outside as a user does, watches them in /proc, photographs them with `ps`, and writes down
//! everything as events on its stdout.
//!
//! It is a child subreaper: what is orphaned in its run is adopted by it and by nobody else, so
//! that adoption can be seen, and so that nothing can get away from it.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::event::{Event, Process, SKIPPED, Stream, What};
use crate::hold::Hold;
use crate::procfs::state;
use crate::scenarios::Clock;
use crate::threads::start_thread;
use crate::{procfs, ps};

/// Between two looks at /proc.
const TICK: Duration = Duration::from_millis(10);

/// Plenty for a parent that waits. One that does not has its zombie for seconds.
const TIME_TO_REAP: Duration = Duration::from_millis(500);

/// How long nobody of those that were killed may end before the rest is given up: plenty, and less
/// than a stage has to clear up in. Who waits for a disk, or may not be killed by us, could take for
/// ever.
const TIME_TO_END: Duration = Duration::from_millis(1500);

/// How long nothing may be left that could change before a condition is given up.
const IDLE_LIMIT: Duration = Duration::from_secs(1);

/// Why a run does not go on.
pub(crate) enum Stop {
    /// A condition of the story did not come true. The event is recorded; the claims will fail.
    Missed,
    /// The run is to end at once.
    Ordered,
    /// This machine lacks what the run takes.
    Skipped(String),
    /// The stage itself failed.
    Failed(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(error.to_string())
    }
}

/// What a run writes down, shared with the threads that read the programs' output.
struct Log {
    run: String,
    began: Instant,
    lines: Mutex<Vec<String>>,
    /// Set when nobody wants this run any more.
    stopped: AtomicBool,
    /// How often this run was told to go on.
    turns: AtomicUsize,
}

impl Log {
    fn record(&self, what: What) {
        // Held until the line is out, so that the times on our stdout never go backwards.
        let mut lines = self.lines();
        // Whole microseconds, which are read again as the same number.
        let t = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e6;
        if let What::Line {
            stream: Stream::Stdout,
            text,
            ..
        } = &what
        {
            lines.push(text.clone());
        }
        let event = Event {
            scenario: self.run.clone(),
            t,
            source: what.source(),
            what,
        };
        let written = serde_json::to_string(&event)
            .map_err(io::Error::other)
            .and_then(|line| writeln!(io::stdout(), "{line}"));
        if written.is_err() {
            self.stopped.store(true, Ordering::SeqCst);
        }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run of a scenario.
pub(crate) struct Stage {
    log: Arc<Log>,
    programs: BTreeMap<String, PathBuf>,
    /// What this run is about: the scenario's program and arguments, or its twin's.
    program: String,
    args: Vec<String>,
    /// One for each stream of each program; they end with the last process that can write to it.
    readers: Vec<JoinHandle<()>>,
    /// What has been recorded of our descendants, by pid.
    seen: BTreeMap<i32, procfs::Stat>,
    /// When a story that does not come to its end is given up.
    deadline: Instant,
    /// Whether the stage waits for its children. An adopter that does not is part of some stories.
    reaping: bool,
    /// Whether a program has said, by its exit status, that it cannot do its part here.
    skipped: bool,
    /// Why something that a story takes could not be read in /proc. It goes no further then.
    unreadable: Option<io::Error>,
    /// Whether it has been written down that the stage has failed.
    has_failed: bool,
    /// For the programs' files, if there are to be any; removed with the stage.
    folder: Option<PathBuf>,
    /// At how many moments it has waited to be told to go on, if it does that at all.
    pauses: Option<usize>,
    /// For the times of a second program.
    pub(crate) clock: Clock,
}

impl Stage {
    pub(crate) fn new(
        run: &str,
        programs: BTreeMap<String, PathBuf>,
        program: &str,
        args: Vec<String>,
        limit: Duration,
        clock: Clock,
        pauses: bool,
    ) -> io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        let log = Arc::new(Log {
            run: run.to_owned(),
            began: Instant::now(),
            lines: Mutex::default(),
            stopped: AtomicBool::new(false),
            turns: AtomicUsize::new(0),
        });
        let watched = Arc::clone(&log);
        start_thread(move || take_orders(&watched))?;
        let adopter = identify(procfs::own_pid(), procfs::look(procfs::own_pid())?);
        log.record(What::Stage { adopter });
        Ok(Self {
            log,
            programs,
            program: program.to_owned(),
            args,
            readers: Vec::new(),
            seen: BTreeMap::new(),
            deadline: Instant::now() + limit,
            reaping: true,
            skipped: false,
            unreadable: None,
            has_failed: false,
            folder: None,
            pauses: pauses.then_some(0),
            clock,
        })
    }

    /// Starts the program that the run is about.
    pub(crate) fn start(&mut self) -> Result<Process, Stop> {
        let (program, args) = (self.program.clone(), self.args.clone());
        self.start_program(&program, &args)
    }

    /// The same with one more argument, and with the write end of its stdin. What comes out of it is
    /// thrown away.
    pub(crate) fn start_fed(&mut self, last: &str) -> Result<(Process, ChildStdin), Stop> {
        let args = [&self.args[..], &[last.to_owned()]].concat();
        let program = self.program.clone();
        let mut command = self.command(&program, &args)?;
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let (process, stdin) = self.spawn(&program, &args, command)?;
        let stdin = stdin.ok_or_else(|| Stop::Failed(format!("{program} has no stdin")))?;
        Ok((process, stdin))
    }

    /// Starts the program that the run is about, and holds it whenever it waits for Enter.
    pub(crate) fn start_held(&mut self) -> Result<(Process, ChildStdin), Stop> {
        let (program, args) = (self.program.clone(), self.args.clone());
        self.start_program_held(&program, &args)
    }

    /// The same for another program.
    pub(crate) fn start_program_held(
        &mut self,
        program: &str,
        args: &[String],
    ) -> Result<(Process, ChildStdin), Stop> {
        let mut command = self.command(program, args)?;
        command.stdin(Stdio::piped());
        let (process, stdin) = self.spawn(program, args, command)?;
        let stdin = stdin.ok_or_else(|| Stop::Failed(format!("{program} has no stdin")))?;
        Ok((process, stdin))
    }

    /// Lets the programs have a folder for their files, as TMPDIR: one in which a copy of a program
    /// can be run.
    pub(crate) fn give_folder(&mut self) -> Result<(), Stop> {
        let folder = env::temp_dir().join(format!("xtask-stage-{}", procfs::own_pid()));
        // For nobody else: what is in it is run.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        self.folder = made.is_ok().then_some(folder.clone());
        made.and_then(|()| run_copy_in(&folder)).map_err(|error| {
            Stop::Skipped(format!(
                "no copy of a program can be run in {}: {error}; TMPDIR takes another folder",
                folder.display()
            ))
        })
    }

    /// Starts another program.
    pub(crate) fn start_program(
        &mut self,
        program: &str,
        args: &[String],
    ) -> Result<Process, Stop> {
        let command = self.command(program, args)?;
        self.spawn(program, args, command)
            .map(|(process, _)| process)
    }

    fn command(&self, program: &str, args: &[String]) -> Result<Command, Stop> {
        let path = self.programs.get(program);
        let path = path.ok_or_else(|| Stop::Failed(format!("there is no program {program}")))?;
        let mut command = Command::new(path);
        command
            .arg0(program) // not the path, which would fill the picture
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0); // a job of its own, as from a shell
        if let Some(folder) = &self.folder {
            command.env("TMPDIR", folder);
        }
        Ok(command)
    }

    fn spawn(
        &mut self,
        program: &str,
        args: &[String],
        mut command: Command,
    ) -> Result<(Process, Option<ChildStdin>), Stop> {
        let mut child = command
            .spawn()
            .map_err(|error| Stop::Failed(format!("cannot start {program}: {error}")))?;
        let pid = child.id() as i32;
        // Nobody but `reap` waits for it, so its entry is there, whatever it has done since.
        let process = identify(pid, procfs::look(pid)?);
        self.log.record(What::Start {
            process,
            command: shell_words(program, args),
        });
        if let Some(stdout) = child.stdout.take() {
            self.read_lines(process, stdout, Stream::Stdout)?;
        }
        if let Some(stderr) = child.stderr.take() {
            self.read_lines(process, stderr, Stream::Stderr)?;
        }
        Ok((process, child.stdin.take()))
    }

    fn read_lines(
        &mut self,
        program: Process,
        source: impl Read + Send + 'static,
        stream: Stream,
    ) -> io::Result<()> {
        let log = Arc::clone(&self.log);
        self.readers.push(start_thread(move || {
            let mut lines = BufReader::new(source);
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line)
                    .trim_end_matches('\n')
                    .to_owned();
                log.record(What::Line {
                    program,
                    stream,
                    text,
                });
                line.clear();
            }
        })?);
        Ok(())
    }

    /// Waits for the child that says its number, as the chapter's children do.
    pub(crate) fn child_that_says_its_pid(&mut self) -> Result<Process, Stop> {
        self.process_in_line("My pid is: ", "child")
    }

    /// Waits for a child that has become what it is to be: not the copy of its parent that it is
    /// for an instant, nor `exe`, which is what the name of /proc/self/exe makes of it.
    pub(crate) fn child_of(&mut self, parent: Process, role: &str) -> Result<Process, Stop> {
        let mut child = None;
        self.until(&format!("the {role} is there"), |_| {
            let parent_name = procfs::stat(parent.pid).map(|stat| stat.name);
            let children = procfs::children(parent.pid).unwrap_or_default();
            child = children.into_iter().find(|&child| {
                procfs::stat(child).is_some_and(|s| s.name != "exe" && Some(s.name) != parent_name)
            });
            child.is_some()
        })?;
        child.map(|pid| self.found(pid, role)).ok_or(Stop::Missed)
    }

    /// Gives a process its part in the story. Whose number a program has said need not be one of its
    /// own, and a stranger is nobody whom we may signal: then it is as if that process were gone.
    pub(crate) fn found(&mut self, pid: i32, role: &str) -> Process {
        let stat = procfs::look_at_descendant(pid, procfs::own_pid());
        let stat = stat.unwrap_or_else(|error| {
            self.unreadable = Some(error);
            None
        });
        let process = identify(pid, stat);
        self.log.record(What::Found {
            process,
            role: role.to_owned(),
        });
        process
    }

    /// Waits for a line on stdout that begins like this.
    pub(crate) fn line(&mut self, beginning: &str) -> Result<String, Stop> {
        let mut found = None;
        self.until(&format!("the line {beginning:?} is printed"), |stage| {
            found = stage.lines(beginning).into_iter().next();
            found.is_some()
        })?;
        found.ok_or(Stop::Missed)
    }

    /// Waits for a line on stdout that begins like this, and ends with the number of a process.
    pub(crate) fn process_in_line(&mut self, beginning: &str, role: &str) -> Result<Process, Stop> {
        let line = self.line(beginning)?;
        let pid = line.trim_start_matches(beginning).parse();
        let pid = pid.map_err(|_| Stop::Failed(format!("no process number in {line:?}")))?;
        Ok(self.found(pid, role))
    }

    /// The lines on stdout so far that begin like this.
    pub(crate) fn lines(&self, beginning: &str) -> Vec<String> {
        let lines = self.log.lines();
        let wanted = lines.iter().filter(|line| line.starts_with(beginning));
        wanted.cloned().collect()
    }

    /// Waits until `condition` is true. The story cannot go on without it.
    pub(crate) fn until(
        &mut self,
        condition: &str,
        is_true: impl FnMut(&mut Stage) -> bool,
    ) -> Result<(), Stop> {
        if self.watch(self.deadline, is_true)? {
            return Ok(());
        }
        if !self.skipped {
            self.log.record(What::Missed {
                condition: condition.to_owned(),
            });
        }
        Err(Stop::Missed)
    }

    /// Waits until `condition` is true, but not for long: where it is not, the story shows that.
    pub(crate) fn give_time(
        &mut self,
        limit: Duration,
        is_true: impl FnMut(&mut Stage) -> bool,
    ) -> Result<bool, Stop> {
        self.watch(Instant::now() + limit, is_true)
    }

    /// Looks until `is_true`, the deadline, or until nothing can change any more: every process
    /// has ended and all they wrote has been read, some time ago.
    fn watch(
        &mut self,
        deadline: Instant,
        mut is_true: impl FnMut(&mut Stage) -> bool,
    ) -> Result<bool, Stop> {
        let mut idle_since = None;
        loop {
            self.tick()?;
            if is_true(self) {
                return Ok(true);
            }
            let now = Instant::now();
            let idle = self.seen.values().all(|stat| stat.state == 'Z')
                && self.readers.iter().all(JoinHandle::is_finished);
            let idle_since = *idle_since.insert(idle_since.filter(|_| idle).unwrap_or(now));
            if now >= deadline || now - idle_since > IDLE_LIMIT || self.skipped {
                return Ok(false);
            }
            thread::sleep(TICK);
        }
    }

    fn tick(&mut self) -> Result<(), Stop> {
        if self.log.stopped.load(Ordering::SeqCst) {
            return Err(Stop::Ordered);
        }
        self.observe()?;
        if self.reaping {
            self.reap();
        }
        Ok(())
    }

    /// Records what has changed in /proc since the last time.
    fn observe(&mut self) -> io::Result<()> {
        if let Some(error) = self.unreadable.take() {
            return Err(error);
        }
        // First: a child that is gone was gone before its parent ended, and not after.
        let mut gone = Vec::new();
        for pid in self.seen.keys().copied() {
            if procfs::look(pid)?.is_none() {
                gone.push(pid);
            }
        }
        for stat in gone.iter().filter_map(|pid| self.seen.remove(pid)) {
            self.log.record(What::Gone {
                process: stat.process,
            });
        }
        for pid in procfs::descendants(procfs::own_pid())? {
            let Some(stat) = procfs::look(pid)? else {
                continue;
            };
            let known = self.seen.get(&stat.process.pid);
            if known.is_none_or(|known| has_changed(known, &stat)) {
                self.log.record(What::State {
                    process: stat.process,
                    state: stat.state,
                    ppid: stat.ppid,
                    name: stat.name.clone(),
                    raw: stat.raw.clone(),
                });
                self.seen.insert(stat.process.pid, stat);
            }
        }
        Ok(())
    }

    /// Waits for every child that has ended: the programs, and whatever was adopted. Not before it
    /// has been seen to have ended, or one that has just been adopted would be gone without a word.
    fn reap(&mut self) {
        let own = procfs::own_pid();
        let ended = |stat: &&procfs::Stat| stat.state == 'Z' && stat.ppid == own;
        let ended = self.seen.values().filter(ended);
        for process in ended.map(|stat| stat.process) {
            let pid = Pid::from_raw(process.pid);
            let status = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => format!("exit status: {code}"),
                Ok(WaitStatus::Signaled(_, signal, _)) => format!("signal: {signal}"),
                _ => continue,
            };
            self.skipped |= status == SKIPPED;
            self.log.record(What::Reaped { process, status });
        }
    }

    /// From now on, what has ended or is adopted stays a zombie.
    pub(crate) fn stop_reaping(&mut self) {
        self.reaping = false;
    }

    pub(crate) fn reap_again(&mut self) {
        self.reaping = true;
    }

    /// Waits until this process is gone from the process table.
    pub(crate) fn until_gone(&mut self, process: Process) -> Result<(), Stop> {
        self.until(&format!("process {} is gone", process.pid), |_| {
            state(process).is_none()
        })
    }

    /// Waits until this process has ended, and then for a moment in which a parent that reaps
    /// gets around to it.
    pub(crate) fn until_ended(&mut self, process: Process) -> Result<(), Stop> {
        self.until(&format!("process {} has ended", process.pid), |_| {
            matches!(state(process), None | Some('Z'))
        })?;
        self.give_time(TIME_TO_REAP, |_| state(process).is_none())
            .map(drop)
    }

    /// Waits until this process sleeps, or has ended: what it has been told to do, it has done by then.
    /// On a busy processor that may take a while.
    pub(crate) fn until_settled(&mut self, process: Process) -> Result<(), Stop> {
        let condition = format!("process {} sleeps, or has ended", process.pid);
        self.until(&condition, |_| {
            matches!(state(process), None | Some('S' | 'Z'))
        })
    }

    /// Photographs these processes. If the run pauses, that is a moment to do so.
    pub(crate) fn look(&mut self, moment: &str, processes: &[Process]) -> Result<(), Stop> {
        self.photograph(moment, processes, self.pauses.is_some())?;
        self.pause()
    }

    /// The same where it cannot pause: an alarm that comes meanwhile would change the story.
    pub(crate) fn look_in_passing(
        &mut self,
        moment: &str,
        processes: &[Process],
    ) -> Result<(), Stop> {
        self.photograph(moment, processes, false)
    }

    fn photograph(&mut self, moment: &str, processes: &[Process], held: bool) -> Result<(), Stop> {
        let pids: Vec<i32> = processes.iter().map(|process| process.pid).collect();
        self.observe()?;
        let ps::Picture {
            command,
            text,
            exit_code,
        } = ps::photograph(&pids)?;
        let moment = moment.to_owned();
        self.log.record(What::Snapshot {
            moment,
            pids,
            held,
            command,
            text,
            exit_code,
        });
        Ok(())
    }

    /// Holds the processes as they are until it is told to go on.
    fn pause(&mut self) -> Result<(), Stop> {
        let Some(pauses) = &mut self.pauses else {
            return Ok(());
        };
        *pauses += 1;
        let pauses = *pauses;
        let began = Instant::now();
        let held = Hold::on(&procfs::descendants(procfs::own_pid())?);
        while self.log.turns.load(Ordering::SeqCst) < pauses {
            self.tick()?; // somebody may kill one of them meanwhile, from another terminal
            thread::sleep(TICK);
        }
        held.release();
        self.deadline += began.elapsed();
        Ok(())
    }

    /// Reads what a link, a folder or a file in /proc says of a process; of a file, the lines that
    /// begin like one of these.
    pub(crate) fn read(&mut self, process: Process, place: &str, beginnings: &[&str]) {
        let path = format!("/proc/{}/{place}", process.pid);
        let read = match state(process) {
            Some(_) => procfs::read(&path, beginnings),
            None => Err(Errno::ESRCH.into()),
        };
        let error = read.as_ref().err().map(ToString::to_string);
        self.log.record(What::Proc {
            process,
            path,
            text: read.unwrap_or_default(),
            error,
        });
    }

    /// Sends a signal to a process of this run.
    pub(crate) fn signal(&mut self, process: Process, signal: Signal) {
        // Of our descendants none can be replaced by a stranger here: each is either reaped by us,
        // or it is a zombie that the story is about, whose parent does not reap it.
        let error = match procfs::look(process.pid) {
            Ok(Some(stat)) if stat.process == process => kill(Pid::from_raw(process.pid), signal)
                .err()
                .map(|error| error.to_string()),
            Ok(_) => Some(Errno::ESRCH.to_string()),
            Err(error) => Some(error.to_string()), // it may be another by now
        };
        self.log.record(What::Signal {
            process,
            signal: signal.to_string(),
            error,
        });
    }

    /// This machine lacks what the run takes.
    pub(crate) fn skipped(&mut self, why: String) {
        self.log.record(What::Skipped { why });
    }

    /// The stage itself has failed.
    pub(crate) fn failed(&mut self, why: String) {
        self.has_failed = true;
        self.log.record(What::Failed { why });
    }

    pub(crate) fn client(&mut self, number: usize, saw: &str) {
        self.log.record(What::Client {
            number,
            saw: saw.to_owned(),
        });
    }

    /// Ends whatever is left of the run, and writes down how much is left then: nothing, unless it
    /// cannot be ended.
    pub(crate) fn end(mut self) {
        let left = kill_and_reap_all().map_or(0, |left| left.processes);
        if let Err(error) = self.observe()
            && !self.has_failed
        {
            self.failed(error.to_string());
        }
        for reader in self.readers.drain(..) {
            // Who is left may hold the other end for as long as it lives.
            if left == 0 || reader.is_finished() {
                let _ = reader.join();
            }
        }
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
        self.log.record(What::End { left });
    }
}

/// A full disk, or one from which nothing is executed, is found out here, and not in the programs.
/// This one is larger than what they copy.
fn run_copy_in(folder: &Path) -> io::Result<()> {
    let copy = folder.join("copy");
    fs::copy("/proc/self/exe", &copy)?;
    let ran = Command::new(&copy).arg("--version").output().map(drop);
    fs::remove_file(&copy)?;
    ran
}

/// Kills every descendant of this process, which must be a child subreaper.
///
/// No number can be another's meanwhile: we kill only children of our own, which nobody else can
/// reap; and the children of those are adopted by us, and are ours to kill in the next round.
///
/// Returns who is left all the same, if anybody is.
pub(crate) fn kill_and_reap_all() -> Option<Left> {
    let mut deadline = Instant::now() + TIME_TO_END;
    loop {
        let is_late = Instant::now() >= deadline;
        // Not a wait that blocks: the list of children can miss one that has just come to us. And
        // first: without a child there is nobody to kill, whatever a /proc says that is not ours.
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return None,
            Ok(WaitStatus::StillAlive) => {}
            Ok(_) => {
                deadline = Instant::now() + TIME_TO_END;
                continue;
            }
            Err(Errno::EINTR) => continue,
            Err(error) => return Some(Left::unknown(error.into())),
        }
        let children = match procfs::children(procfs::own_pid()) {
            Ok(children) => children,
            Err(error) if is_late => return Some(Left::unknown(error)),
            Err(_) => Vec::new(),
        };
        let mut refused = None;
        for pid in &children {
            if let Err(error) = kill(Pid::from_raw(*pid), Signal::SIGKILL) {
                refused = refused.or(Some((*pid, error)));
            }
        }
        if is_late {
            return Some(Left::of(&children, refused));
        }
        thread::sleep(TICK);
    }
}

/// Who could not be ended.
pub(crate) struct Left {
    /// One, if it is not known how many.
    pub(crate) processes: usize,
    /// A sentence on why, and what helps.
    pub(crate) why: String,
}

impl Left {
    fn of(children: &[i32], refused: Option<(i32, Errno)>) -> Self {
        let processes = match procfs::descendants(procfs::own_pid()) {
            Ok(left) => left.len().max(1), // there is one, also if the list has missed it
            Err(error) => return Self::unknown(error),
        };
        let call = |pid: i32| {
            let name = procfs::stat(pid).map(|stat| format!(" {:?}", stat.name));
            format!("process {pid}{}", name.unwrap_or_default())
        };
        let why = match (refused, children.first()) {
            (Some((pid, error)), _) => {
                let error = io::Error::from(error);
                let who = call(pid);
                format!("{who} cannot be killed: {error}; what helps: kill -9 {pid}, as root")
            }
            (None, Some(&pid)) => format!(
                "{} has been killed, and has not ended within {TIME_TO_END:?}; it ends when what \
                 it waits for in the kernel has come, such as a disk",
                call(pid)
            ),
            (None, None) => "a process has not ended".to_owned(),
        };
        Self { processes, why }
    }

    fn unknown(error: io::Error) -> Self {
        Self {
            processes: 1,
            why: format!("what was started cannot be ended: {error}"),
        }
    }
}

/// A start time of 0 stands for a process that is gone by now.
fn identify(pid: i32, stat: Option<procfs::Stat>) -> Process {
    stat.map_or(Process { pid, start_time: 0 }, |stat| stat.process)
}

/// Presses Enter for a program that waits for it. That fails if the program has ended, which the
/// story will notice.
pub(crate) fn press_enter(mut stdin: &ChildStdin) {
    let _ = stdin.write_all(b"\n");
}

/// Sleeping or running is no change worth a line; stopping, ending, a new parent, name or program,
/// and that it does not want to hear of its children any more, are.
fn has_changed(known: &procfs::Stat, now: &procfs::Stat) -> bool {
    let class = |state| match state {
        'Z' | 'X' => 'Z',
        'T' | 't' => 'T',
        _ => 'S',
    };
    known.process != now.process
        || class(known.state) != class(now.state)
        || known.ppid != now.ppid
        || known.name != now.name
        || known.stack != now.stack
        || known.ignores_sigchld != now.ignores_sigchld
}

/// A line is the order to go on, the end of our stdin the one to stop. That comes also when xtask is
/// killed.
fn take_orders(log: &Log) {
    for _ in io::stdin().lines().map_while(Result::ok) {
        log.turns.fetch_add(1, Ordering::SeqCst);
    }
    log.stopped.store(true, Ordering::SeqCst);
}

/// As one would type it.
fn shell_words(program: &str, args: &[String]) -> String {
    let quoted = args.iter().map(|arg| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:*".contains(c);
        if arg.chars().all(plain) && !arg.is_empty() {
            arg.clone()
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    });
    [program.to_owned()]
        .into_iter()
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}
