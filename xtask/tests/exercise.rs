//! Exercises as a learner does them: laid out, answered rightly and wrongly, and marked.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;

use support::{Run, XTASK, assert_has, stdout, text, word};
use test_support::TempDir;

const EXERCISES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/exercises");

/// How many answers are marked at the same time. They mostly sleep.
const SIDE_BY_SIDE: usize = 12;

/// The sections of a level in a Markdown text, by their headings, each on one line.
fn sections(text: &str, level: &str) -> BTreeMap<String, String> {
    let mark = format!("\n{level} ");
    let parts = text.split(&mark).skip(1);
    let section = |part: &str| {
        let (heading, body) = part.split_once('\n').unwrap();
        let body = body.split("\n#").next().unwrap();
        (heading.to_owned(), one_line(body))
    };
    parts.map(section).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names of all exercises.
fn names() -> Vec<String> {
    let folders = fs::read_dir(EXERCISES).unwrap().flatten().filter(|it| it.path().is_dir());
    folders.map(|folder| folder.file_name().into_string().unwrap()).collect()
}

/// The programs in the folder of an exercise.
fn programs(name: &str) -> Vec<String> {
    let files = fs::read_dir(Path::new(EXERCISES).join(name)).unwrap().flatten();
    let files = files.map(|file| file.file_name().into_string().unwrap());
    files.filter_map(|file| Some(file.strip_suffix(".rs")?.to_owned())).collect()
}

fn read(name: &str, file: &str) -> String {
    fs::read_to_string(Path::new(EXERCISES).join(name).join(file)).unwrap()
}

/// Marks the answer in this folder of answers.
fn exercise(run: &Run, answers: &Path, args: &[&str]) -> Output {
    let args = [&["exercise"], args, &["--answers", word(answers)]].concat();
    run.xtask(&args).env("LC_ALL", "C").output().unwrap()
}

/// Builds all programs of all exercises at once, as answers. Returns where each is.
fn build_all(run: &Run, answers: &Path) -> BTreeMap<(String, String), PathBuf> {
    let mut built = BTreeMap::new();
    let target = Path::new(XTASK).parent().unwrap().parent().unwrap();
    for name in names() {
        stdout(&exercise(run, answers, &[&name]), 0); // lays it out
        fs::remove_file(answers.join("src/bin").join(&name).with_extension("rs")).unwrap();
        for program in programs(&name) {
            let binary = format!("{name}-{program}");
            let source = answers.join("src/bin").join(&binary).with_extension("rs");
            fs::write(source, read(&name, &format!("{program}.rs"))).unwrap();
            built.insert((name.clone(), program), target.join("debug").join(binary));
        }
    }
    let output = Command::new(env!("CARGO"))
        .args(["build", "--bins", "--target-dir", word(target), "--manifest-path"])
        .arg(answers.join("Cargo.toml"))
        .output()
        .unwrap();
    let stderr = text(&output.stderr);
    assert!(output.status.success() && !stderr.contains("warning"), "{stderr}");
    built
}

/// What is wrong with the verdict on this program, if anything is.
fn wrong_verdict(name: &str, program: &str, path: &Path) -> Option<String> {
    let run = Run::new();
    fs::create_dir(run.path("built")).unwrap();
    symlink(path, run.path("built").join(name)).unwrap();
    let built = run.path("built");
    let args = [name, "--programs", word(&built)];
    let output = exercise(&run, &run.path("answers"), &args);
    run.assert_nothing_is_left();
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let findings = sections(&read(name, "README.md"), "###");
    let found = |finding: &str| one_line(&printed).contains(&findings[finding]);
    let is_as_it_should_be = match program {
        "solution" => output.status.code() == Some(0) && printed.contains("\nRight: "),
        "start" => {
            let has_finding = findings.keys().any(|finding| found(finding));
            output.status.code() == Some(1) && has_finding && shows_evidence(&printed)
        }
        finding => output.status.code() == Some(1) && found(finding) && shows_evidence(&printed),
    };
    let status = output.status;
    (!is_as_it_should_be).then(|| format!("{name}, {program}: {status}\n{printed}"))
}

/// A snapshot, and what became of a process.
fn shows_evidence(printed: &str) -> bool {
    printed.contains("  ps: ")
        && printed.contains(" COMMAND\n")
        && printed.contains("life of process ")
}

#[test]
fn each_solution_is_right_each_start_is_not_and_each_wrong_answer_has_its_sentence() {
    let (run, answers) = (Run::new(), TempDir::new().unwrap());
    let built = build_all(&run, answers.path());
    for name in names() {
        let wrong =
            programs(&name).into_iter().filter(|it| !["start", "solution"].contains(&it.as_str()));
        assert!(wrong.count() >= 3, "{name} has fewer than three wrong answers");
        let readme = read(&name, "README.md");
        let mut findings: Vec<_> = sections(&readme, "###").into_values().collect();
        let all = findings.len();
        findings.sort_unstable();
        findings.dedup();
        assert_eq!(findings.len(), all, "{name}: two findings have the same sentence");
    }
    let waiting = Mutex::new(built.iter());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().next();
                    let Some(((name, program), path)) = next else { break };
                    let verdict = wrong_verdict(name, program, path); // before the lock
                    wrong.lock().unwrap().extend(verdict);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    for path in built.values() {
        let _ = fs::remove_file(path);
    }
}

#[test]
fn what_a_learner_has_written_is_never_overwritten() {
    let (run, answers) = (Run::new(), TempDir::new().unwrap());
    let answers = answers.path();
    let first = stdout(&exercise(&run, answers, &["never-waits"]), 0);
    let program = answers.join("src/bin/never-waits.rs");
    assert_has(&first, &["A parent that never waits\n", word(&program)]);
    assert_eq!(fs::read_to_string(&program).unwrap(), read("never-waits", "start.rs"));
    assert!(!stdout(&exercise(&run, answers, &[]), 0).contains('✓'));

    let solution = read("never-waits", "solution.rs");
    fs::write(&program, &solution).unwrap();
    let manifest = answers.join("Cargo.toml");
    let changed = fs::read_to_string(&manifest).unwrap() + "\n# mine\n";
    fs::write(&manifest, &changed).unwrap();
    let output = exercise(&run, answers, &["never-waits"]);
    assert_has(&stdout(&output, 0), &["\nRight: ", "Next: cargo xtask exercise "]);
    assert_eq!(fs::read_to_string(&program).unwrap(), solution);
    assert_eq!(fs::read_to_string(&manifest).unwrap(), changed);
    assert!(stdout(&exercise(&run, answers, &[]), 0).contains("✓ never-waits"));
    run.assert_nothing_is_left();
}

#[test]
fn what_does_not_compile_hangs_ends_early_or_forks_for_ever_has_a_sentence() {
    let general =
        sections(&fs::read_to_string(Path::new(EXERCISES).join("README.md")).unwrap(), "###");
    // An exercise for each: programs of the same name would overwrite each other.
    let programs = [
        ("one-wait", "does-not-compile", "let number: i32 = \"one\"; println!(\"{number}\");"),
        ("handler-too-late", "hangs", "std::thread::sleep(std::time::Duration::from_secs(600));"),
        ("waits-in-line", "ends-early", "println!(\"that is all\");"),
        (
            "supervisor",
            "forks-for-ever",
            "loop { std::mem::forget(std::process::Command::new(\"sleep\").arg(\"60\").spawn()); }",
        ),
    ];
    thread::scope(|scope| {
        for (name, finding, program) in programs {
            let sentence = &general[finding];
            scope.spawn(move || {
                let (run, answers) = (Run::new(), TempDir::new().unwrap());
                stdout(&exercise(&run, answers.path(), &[name]), 0);
                let path = answers.path().join("src/bin").join(name).with_extension("rs");
                fs::write(path, format!("fn main() {{ {program} }}")).unwrap();
                let printed = stdout(&exercise(&run, answers.path(), &[name]), 1);
                assert_has(&one_line(&printed), &[sentence, "Not yet."]);
                run.assert_nothing_is_left();
            });
        }
    });
}

#[test]
fn hints_and_solutions_are_printed_in_both_languages() {
    let (run, answers) = (Run::new(), TempDir::new().unwrap());
    for name in names() {
        let solution = read(&name, "solution.rs");
        for (lang, readme, headings) in
            [("en", "README.md", ["Hint", "Solution"]), ("zh", "README.zh-CN.md", ["提示", "答案"])]
        {
            let sections = sections(&read(&name, readme), "##");
            for (option, heading) in ["--hint", "--solution"].into_iter().zip(headings) {
                let args = [&name, option, "--lang", lang];
                let printed = stdout(&exercise(&run, answers.path(), &args), 0);
                let plain = |text: &str| text.replace(char::is_whitespace, "");
                assert_has(&plain(&printed), &[&plain(&sections[heading])]);
                assert!(option == "--hint" || printed.ends_with(&solution));
            }
        }
    }
    assert!(!answers.path().join("src").exists(), "they lay out nothing");
}
