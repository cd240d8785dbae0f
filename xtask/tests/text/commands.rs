//! The commands of the texts: that their programs, options and scenarios exist, and that they run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use test_support::{Program, TempDir, wait_until_within};

use crate::Fault;
use crate::page::{Page, files};
use crate::support::{XTASK, programs, skip};

/// What is not run, only looked at: words of the command, and why.
const ONLY_NAMED: [(&str, &str); 9] = [
    ("--pause", "needs a terminal"),
    ("--predict", "needs a terminal"),
    ("xtask watch", "needs a terminal"),
    ("xtask demo", "is what the blocks come from"),
    ("xtask bench", "takes minutes"),
    ("xtask soak", "takes minutes"),
    ("xtask rolling", "takes minutes"),
    ("--bin echo-client", "needs a server"),
    ("--upgrade", "needs a server"),
];
/// What a program exits with that this machine cannot run.
const NOT_POSSIBLE: i32 = 77;
/// The longest time for the first line of a program, or for a command whose output a text shows.
const LIMIT: Duration = Duration::from_secs(60);

/// A command of a text as the program that cargo would build and run.
struct Started {
    program: PathBuf,
    args: Vec<String>,
    /// Its first file, unless it is xtask.
    source: String,
}

/// A command where it stands.
struct Found<'a> {
    page: &'a Page,
    line: usize,
    words: Vec<String>,
    /// Whether it is the whole line of a block, so that it can be run as it is.
    is_whole: bool,
}

/// Every command of cargo, in blocks for a shell and between backticks.
fn found(page: &Page) -> Vec<Found<'_>> {
    let mut lines: Vec<(usize, &str, bool)> = Vec::new();
    for fence in page.fences.iter().filter(|fence| fence.language == "sh") {
        let inside = fence.open + 1..fence.close;
        lines.extend(inside.map(|line| (line, page.lines[line].as_str(), true)));
    }
    let codes = page.codes.iter().filter(|(_, code)| code.starts_with("cargo "));
    lines.extend(codes.map(|(line, code)| (*line, code.as_str(), false)));
    let mut found = Vec::new();
    for (line, text, is_block) in lines {
        let all = shlex::split(text).unwrap_or_default();
        for part in all.split(|word| ["|", "&&", ";", "&"].contains(&word.as_str())) {
            let of_cargo = part.iter().position(|word| word == "cargo");
            let is_redirected =
                |word: &String| word.trim_start_matches(['1', '2']).starts_with(['<', '>']);
            let words = part[of_cargo.unwrap_or(part.len())..].iter().cloned();
            let words: Vec<String> = words.filter(|it| !is_redirected(it)).collect();
            if !words.is_empty() {
                let is_whole = is_block && words == all;
                found.push(Found { page, line, words, is_whole });
            }
        }
    }
    found
}

/// A word that stands for another: `SCENARIO`.
fn is_upper(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The program of a command of cargo; nothing if cargo does something else with the package, or a word
/// stands for others.
fn resolved(root: &Path, words: &[String]) -> Result<Option<Started>, String> {
    let mut rest = words.iter().skip(1);
    let command = rest.next().map(String::as_str).unwrap_or_default();
    if command == "xtask" {
        let args = rest.cloned().collect();
        return Ok(Some(Started { program: XTASK.into(), args, source: String::new() }));
    }
    let (mut package, mut binary, mut example) = (None, None, None);
    while let Some(word) = rest.next() {
        let name = match word.as_str() {
            "-p" | "--package" => &mut package,
            "--bin" => &mut binary,
            "--example" => &mut example,
            "--" => break,
            "--release" | "-q" | "--quiet" | "--locked" => continue,
            _ if command == "run" => return Err(format!("the test does not know cargo's {word}")),
            _ => continue,
        };
        // Without a name, the text goes on with a table of them.
        let Some(named) = rest.next().filter(|named| !is_upper(named)) else { return Ok(None) };
        *name = Some(named);
    }
    let Some(package) = package else {
        return match command {
            "run" => Err("cargo run without -p runs nothing here".to_owned()),
            _ => Ok(None),
        };
    };
    let is_it = |file: &PathBuf| {
        let line = format!("name = \"{package}\"");
        fs::read_to_string(file).unwrap().lines().any(|it| it == line)
    };
    let manifest = files(root, "Cargo.toml").into_iter().find(is_it);
    let manifest = manifest.ok_or_else(|| format!("there is no package {package}"))?;
    let (kind, name, paths) = match (example, binary) {
        (Some(name), _) => ("example", name, ["examples/NAME.rs", "examples/NAME/main.rs"]),
        (_, Some(name)) if name != package => {
            ("program", name, ["src/bin/NAME.rs", "src/bin/NAME/main.rs"])
        }
        _ => ("program", package, ["src/main.rs", ""]),
    };
    let mut files = paths.iter().map(|path| manifest.with_file_name(path.replace("NAME", name)));
    let source = files.find_map(|file| fs::read_to_string(file).ok());
    let source = source.ok_or_else(|| format!("{package} has no {kind} {name}"))?;
    let folder = if example.is_some() { "examples" } else { "" };
    let program = programs().join(folder).join(name);
    let args = rest.cloned().collect();
    Ok((command == "run").then_some(Started { program, args, source }))
}

/// What `--help` prints after these words.
fn help(started: &Started, words: &[&str]) -> Option<String> {
    let mut command = Command::new(&started.program);
    let output = command.args(words).arg("--help").stdin(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// Why the arguments do not fit the program.
fn misfit(started: &Started) -> Option<String> {
    let is_xtask = started.program == Path::new(XTASK);
    let own = started.args.iter().map(String::as_str).take_while(|arg| *arg != "--");
    let args: Vec<&str> = own.collect();
    // The smallest programs know one option, and no `--help`.
    let is_in_source = |arg: &&str| started.source.contains(&format!("{arg:?}"));
    if !is_xtask && !args.iter().any(|arg| arg.starts_with("--") && !is_in_source(arg)) {
        return None;
    }
    let subcommand =
        args.iter().take(usize::from(is_xtask)).copied().filter(|it| !it.starts_with('-'));
    let mut words: Vec<&str> = subcommand.collect();
    let name = [&[started.program.file_name()?.to_str()?], &words[..]].concat().join(" ");
    if words.first() == Some(&"bench") {
        words.extend(args.get(1).filter(|it| !it.starts_with('-') && !is_upper(it)));
    }
    let Some(help) = help(started, &words) else {
        return Some(format!("there is no `{name} --help`"));
    };
    if words.first() == Some(&"explain") && !args.iter().any(|arg| is_upper(arg)) {
        let output = Command::new(XTASK).args(&args).output().ok()?;
        return (!output.status.success()).then(|| "it explains nothing".to_owned());
    }
    let mut values = args.iter().skip(words.len());
    while let Some(arg) = values.next() {
        let option = arg.split('=').next()?;
        if option.starts_with("--") {
            let after = |(place, _): (usize, &str)| help[place + option.len()..].chars().next();
            let ends = |next: char| !next.is_ascii_alphanumeric() && next != '-';
            if !help.match_indices(option).filter_map(after).any(ends) {
                return Some(format!("`{name}` has no option {option}"));
            }
            if option == *arg && help.contains(&format!("{option} <")) {
                values.next();
            }
        } else if ["demo", "watch"].contains(words.first()?) && !is_upper(arg) && !is_scenario(arg)
        {
            return Some(format!("there is no scenario {arg}"));
        }
    }
    None
}

/// Whether `demo` knows the scenario.
fn is_scenario(name: &str) -> bool {
    let demo = Started { program: XTASK.into(), args: Vec::new(), source: String::new() };
    let help = help(&demo, &["demo"]).unwrap_or_default();
    let names = help.split("[possible values: all,").nth(1).and_then(|it| it.split(']').next());
    name == "all" || names.unwrap_or_default().split([',', ' ', '\n']).any(|it| it == name)
}

/// Checks the names and options of all commands.
pub(crate) fn check(root: &Path, pages: &[Page]) -> Vec<Fault> {
    let mut known: BTreeMap<Vec<String>, Option<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    for Found { page, line, words, .. } in pages.iter().flat_map(found) {
        let why = known.entry(words.clone()).or_insert_with(|| match resolved(root, &words) {
            Ok(started) => started.as_ref().and_then(misfit),
            Err(why) => Some(why),
        });
        if let Some(why) = why {
            faults.push(Fault::new(page, line, format!("`{}`: {why}", words.join(" "))));
        }
    }
    faults
}

/// Runs each command of the blocks until it ends, which must be with 0, or has printed a line; then what
/// is left of it is ended.
pub(crate) fn run(root: &Path, pages: &[Page]) -> Vec<Fault> {
    let (mut done, mut faults) = (BTreeSet::new(), Vec::new());
    for Found { page, line, words, is_whole } in pages.iter().flat_map(found) {
        let command = words.join(" ");
        let is_only_named = ONLY_NAMED.iter().any(|(part, _)| command.contains(part));
        let is_run = is_whole && !is_only_named && !words.iter().any(|it| is_upper(it));
        if !is_run || !done.insert(words.clone()) {
            continue;
        }
        // What does not exist has been named by `check`.
        let Ok(Some(mut started)) = resolved(root, &words) else { continue };
        let folder = TempDir::new().unwrap();
        if started.args.first().is_some_and(|command| command == "exercise") {
            // Not where a learner has answers.
            let answers = folder.path().join("answers").to_str().unwrap().to_owned();
            started.args.extend(["--answers".to_owned(), answers]);
        }
        let program = start(root, &mut Command::new(&started.program), &started.args, &folder);
        let file = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let end = wait_until_within(
            LIMIT,
            &format!("a line of `{command}`, or its end"),
            || (end(&program), file("stdout").contains('\n')),
            |(end, has_line)| end.is_some() || *has_line,
        );
        let stderr = file("stderr");
        match end.0 {
            None | Some(WaitStatus::Exited(_, 0)) => {}
            Some(WaitStatus::Exited(_, NOT_POSSIBLE)) => skip(&format!("`{command}`: {stderr}")),
            Some(_) if stderr.contains("in use") => skip(&format!("`{command}`: {stderr}")),
            Some(end) => {
                let says = format!("`{command}` does not end with 0: {end:?}; it wrote {stderr:?}");
                faults.push(Fault::new(page, line, says));
            }
        }
    }
    faults
}

/// What a command prints on stdout, in the reader's language.
pub(crate) fn output(root: &Path, command: &str, is_chinese: bool) -> Result<String, String> {
    let started = match shlex::split(command).unwrap_or_default() {
        words if words.first().is_some_and(|it| it == "cargo") => resolved(root, &words)?,
        _ => None,
    };
    let folder = TempDir::new().unwrap();
    let (mut line, args) = match started {
        Some(Started { program, args, .. }) => (Command::new(program), args),
        None => (Command::new("sh"), vec!["-c".to_owned(), command.to_owned()]),
    };
    line.env("LC_ALL", if is_chinese { "zh_CN.UTF-8" } else { "C" });
    let program = start(root, &mut line, &args, &folder);
    let what = format!("the end of `{command}`");
    match wait_until_within(LIMIT, &what, || end(&program), Option::is_some) {
        Some(WaitStatus::Exited(_, 0)) => {
            let text = fs::read_to_string(folder.path().join("stdout"));
            text.map_err(|error| format!("what it prints cannot be read: {error}"))
        }
        end => Err(format!("it does not end with 0: {end:?}")),
    }
}

/// Starts it with its output in files of this folder.
fn start(root: &Path, command: &mut Command, args: &[String], folder: &TempDir) -> Program {
    let file = |name: &str| fs::File::create(folder.path().join(name)).unwrap();
    let command = command.args(args).current_dir(root).env("TMPDIR", folder.path());
    let program = Program::try_start(command.stdout(file("stdout")).stderr(file("stderr")));
    program.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// How it has ended, if so; it stays a zombie until it is dropped.
fn end(program: &Program) -> Option<WaitStatus> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    let status = waitid(Id::Pid(program.pid()), flags).unwrap();
    (status != WaitStatus::StillAlive).then_some(status)
}
