//! The page: the verdicts, and for each scenario its timeline and snapshots. It needs no other file, and
//! there is one in each language.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::model::bilingual::Language::{Chinese, English};
use crate::model::bilingual::{COLON, Language, Text, text};
use crate::model::event::{Event, What};
use crate::runner::recording::{CONTROL, EVENTS};
use crate::scenarios::Scenario;
use crate::scenarios::ledger::{self, Claim, Ruling};
use crate::verdict::Verdict;
use crate::verdict::result::{Counts, ScenarioResult};
use crate::view::machine::Machine;
use crate::view::story::Story;
use crate::view::text::{
    NOTHING_PROVED, TRANSCRIPT, control_command, line, plain_transcript, printable,
};
use crate::view::timeline::{NARROW, WIDE};
use crate::view::{idea, ideas, legend, questions, snapshot, timeline};

const TITLE: Text = text("What the process table says", "进程表怎么说");

const STYLE: &str = include_str!("page.css");

/// The section that explains what one must know to understand a timeline.
const MINUTE: &str = "in-a-minute";

/// More lines of the programs than this are in the transcript only.
const FEW_LINES: usize = 12;

/// The file of the page in a language.
pub(super) const INDEX: Text = text("index.html", "index.zh-CN.html");

/// Writes the page in this language. `machine` is where the scenarios ran, if that is known.
pub(super) fn page(
    results: &[ScenarioResult],
    machine: Option<&Machine>,
    language: Language,
) -> String {
    Page { results, machine, language }.whole()
}

struct Page<'a> {
    results: &'a [ScenarioResult],
    machine: Option<&'a Machine>,
    language: Language,
}

impl Page<'_> {
    fn say(&self, text: Text) -> &'static str {
        text.to(self.language)
    }

    fn whole(&self) -> String {
        let dark =
            format!("@media screen and (prefers-color-scheme:dark){{{}}}", timeline::DARK_STYLE);
        let styles = [STYLE, timeline::STYLE, &dark, idea::STYLE].concat();
        let page = html! {
            (DOCTYPE)
            html lang=(self.say(text("en", "zh-CN"))) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.say(TITLE)) }
                    link rel="icon" href="data:,"; // or a browser asks for one
                    style { (PreEscaped(styles)) }
                }
                body {
                    // Not `display: none`: what is not drawn has no pattern to lend.
                    svg width="0" height="0" style="position:absolute" aria-hidden="true" { (timeline::hatching()) }
                    header { (self.head()) }
                    main {
                        (self.minute())
                        (self.how_to_read())
                        (self.summary())
                        @for result in self.results { (self.scenario(result)) }
                    }
                    script { (PreEscaped(questions::SCRIPT)) }
                }
            }
        };
        page.into_string()
    }

    fn head(&self) -> Markup {
        let (other, name, lang) = match self.language {
            English => (INDEX.zh, "简体中文", "zh-CN"),
            Chinese => (INDEX.en, "English", "en"),
        };
        html! {
            h1 { (self.say(TITLE)) }
            p class="faint" { a href=(other) hreflang=(lang) lang=(lang) { (name) } }
            p {
                @match self.language {
                    English => {
                        "The chapter “multi-process servers” makes statements about processes. Here they were put to the test: "
                        "its programs ran, and each statement was judged from what was recorded of them. "
                        "Each timeline is one run, drawn from its recording: a bar is a process, blue while it lives, hatched while it is a zombie. "
                        "A number, as in " (circled(1)) ", is a snapshot: " code { "ps" } " was called, and its output is below."
                    }
                    Chinese => {
                        "「多进程服务器端」这一章对进程下了许多论断。这里逐条检验：运行它的程序，再根据记录逐条判定。"
                        "每条时间线是一次运行，由记录画成：一条横杠是一个进程，活着时是蓝色，成为僵尸后是斜纹。"
                        "带圈的数字（如 " (circled(1)) "）是一次快照：此刻运行了 " code { "ps" } "，输出就在下面。"
                    }
                }
            }
            @if let Some(first) = self.first() {
                p {
                    strong {
                        (self.say(text("Begin with ", "先看 "))) a href=(format!("#{first}")) { (first) } (self.stop())
                    }
                }
            }
            p class="faint" {
                @if let Some(machine) = self.machine {
                    span lang="en" { (machine.text()) } (self.say(text(". ", "。")))
                }
                (self.results.len()) (self.say(text(" scenarios.", " 个场景。")))
            }
        }
    }

    /// The end of a sentence.
    fn stop(&self) -> &'static str {
        self.say(text(".", "。"))
    }

    fn colon(&self) -> &'static str {
        self.say(COLON)
    }

    /// The scenario to look at first: `zombie`, which the others vary, if it is there.
    fn first(&self) -> Option<&'static str> {
        let mut names = self.results.iter().map(|result| result.scenario.name);
        let first = names.clone().next();
        names.find(|name| *name == "zombie").or(first)
    }

    /// A scenario, if it is on the page, after some words.
    fn linked(&self, words: &str, name: &str) -> Markup {
        let is_here = self.results.iter().any(|result| result.scenario.name == name);
        html! {
            @if is_here { (words) a href=(format!("#{name}")) { (name) } (self.stop()) }
        }
    }

    fn see(&self, name: &str) -> Markup {
        self.linked(self.say(text(" See ", "见 ")), name)
    }

    /// What a zombie is, with the scenarios that show it.
    fn minute(&self) -> Markup {
        html! {
            section id=(MINUTE) {
                h2 { (self.say(text("In a minute", "一分钟看懂"))) }
                ol {
                    @match self.language {
                        English => {
                            li {
                                "A process is a " strong { "zombie" } " from its exit until it has been waited for. "
                                "It runs no more and holds no memory; what is left is a line in the process table: its number, and how it ended. "
                                code { "ps" } " shows it as " code { "Z" } " and " code { "<defunct>" } "."
                                (self.see("zombie"))
                            }
                            li {
                                "Only a " strong { "wait" } " removes it, by its parent, or by the process that has adopted it. That is to " strong { "reap" }
                                " it: the process that waits gets the status, and the zombie is gone."
                                (self.see("remove-zombie")) (self.linked(" Reaped at once: ", "wait"))
                            }
                            li { "A signal does not, not even SIGKILL: it is dead already." (self.see("zombie-kill")) }
                            li {
                                "A process whose parent has ended is an " strong { "orphan" } ". Another process " strong { "adopts" }
                                " it, which is to become its parent: mostly init; here the " strong { "worker" }
                                ", the process that has started the programs."
                                (self.see("orphan"))
                                " If it is a zombie, it is gone as soon as that one has waited."
                                (self.see("zombie-parent-kill"))
                            }
                            li {
                                "Where a parent ignores SIGCHLD, the signal that tells of a child's end, "
                                "the children that end from then on never become zombies: nobody has to wait."
                                (self.see("ignore-sigchld"))
                            }
                        }
                        Chinese => {
                            li {
                                "进程从退出到被等待为止，是" strong { "僵尸进程" } "。它不再运行，也不占内存，只在进程表里留下一行：进程号，以及它是怎样结束的。"
                                code { "ps" } " 把它显示为 " code { "Z" } " 和 " code { "<defunct>" } "。"
                                (self.see("zombie"))
                            }
                            li {
                                "只有 " strong { "wait" } " 能除掉它，由父进程或收养它的进程来调用。这就叫" strong { "回收" }
                                "：等待的进程拿到退出状态，僵尸随之消失。"
                                (self.see("remove-zombie")) (self.linked("立刻回收：", "wait"))
                            }
                            li { "信号不行，SIGKILL 也不行：它已经死了。" (self.see("zombie-kill")) }
                            li {
                                "父进程已经结束的进程是" strong { "孤儿进程" } "。另一个进程会" strong { "收养" }
                                "它，成为它的父进程：通常是 init；在这里是 " strong { "worker" } "，也就是启动这些程序的进程。"
                                (self.see("orphan"))
                                "如果它已是僵尸，收养者一等待，它就消失。"
                                (self.see("zombie-parent-kill"))
                            }
                            li {
                                "SIGCHLD 是通知子进程结束的信号。父进程如果忽略它，此后结束的子进程就不会成为僵尸，谁也不必等待。"
                                (self.see("ignore-sigchld"))
                            }
                        }
                    }
                }
            }
        }
    }

    fn how_to_read(&self) -> Markup {
        html! {
            section id="legend" {
                h2 { (self.say(text("How to read the timelines", "怎样看时间线"))) }
                @match self.language {
                    English => {
                        p {
                            "A lane is a process, time goes to the right, and the words over the steps say what happened. "
                            "Short times are drawn wider than they are: read the seconds below. "
                            "The worker is the process that started the programs; orphans are adopted by it, as by init elsewhere. "
                            "Each process is a zombie from its exit to the wait for it, if only for an instant; "
                            "the bar of one that no " code { "ps" } " was there to see is thin."
                        }
                        (legend::list(self.language))
                        p {
                            "“exit, no wait” is the end of a child whose parent ignores SIGCHLD; "
                            "“gone”, of one that was missed when its parent was gone, too; "
                            "“cleared up”, of one that the worker has ended at the end of the run."
                        }
                        p {
                            "In the output of " code { "ps" } ", a row that matters has a letter and a word: "
                            "Z a zombie, T stopped, A adopted. "
                            "PID is the process, PPID its parent, PGID its process group, SID its session. "
                            "STAT is its state: R runs, S sleeps, D sleeps and cannot be woken, T is stopped, Z is a zombie; further letters are details. "
                            "WCHAN is the function of the kernel that it sleeps in, if any. "
                            "The first COMMAND is its name, the second what it was started with."
                        }
                    }
                    Chinese => {
                        p {
                            "一条泳道是一个进程，时间向右，每一步的上方写着发生了什么。短的时间画得比实际宽，秒数写在下方。"
                            "worker 是启动这些程序的进程；孤儿进程由它收养，在别处则是 init。"
                            "每个进程从退出到被等待都是僵尸，哪怕只有一瞬间；没有哪次 " code { "ps" } " 看到的，画成细杠。"
                        }
                        (legend::list(self.language))
                        p {
                            "「退出，不必等待」：父进程忽略 SIGCHLD 的子进程结束了；"
                            "「消失」：父进程已不在，没有看到它怎样结束；"
                            "「清理」：运行结束时由 worker 结束的进程。"
                        }
                        p {
                            "在 " code { "ps" } " 的输出里，要紧的行带有一个字母和说明：Z 僵尸，T 暂停，A 被收养。"
                            "PID 是进程号，PPID 是父进程，PGID 是进程组，SID 是会话。"
                            "STAT 是状态：R 在运行，S 在睡眠，D 在睡眠且不能被唤醒，T 被暂停，Z 是僵尸；后面的字母是细节。"
                            "WCHAN 是它睡在内核的哪个函数里。第一个 COMMAND 是名字，第二个是启动时的命令行。"
                        }
                    }
                }
            }
        }
    }

    fn summary(&self) -> Markup {
        let Counts { held, not_held, skipped, controls_failed, controls_not_failed } =
            Counts::of(self.results);
        let controls = controls_failed + controls_not_failed;
        let columns = [
            text("claim", "论断"),
            text("the chapter says", "原章怎么说"),
            text("that is", "判断"),
            text("our statement, in this run", "我们的说法，在这次运行里"),
            text("scenario", "场景"),
        ];
        html! {
            section id="summary" {
                h2 { (self.say(text("What came out", "结果"))) }
                p {
                    @match self.language {
                        English => {
                            strong { (held) " held" } ", "
                            @if not_held > 0 { strong class="bad" { (not_held) " did NOT hold" } } @else { "0 did not" }
                            ", " (skipped) " skipped. "
                            "Held means: this run showed our own statement, which you find at its scenario. Where the chapter is right, it says the same; where the chapter is imprecise or wrong, it is the correction. "
                            "In a control, a run that lacks what the statement is about, it must fail: so it did for "
                            (controls_failed) " of " (controls) "."
                        }
                        Chinese => {
                            strong { (held) " 条成立" } "，"
                            @if not_held > 0 { strong class="bad" { (not_held) " 条不成立" } } @else { "0 条不成立" }
                            "，" (skipped) " 条跳过。"
                            "成立的意思是：场景里我们自己的说法，在这次运行里看到了。原章正确时，两者一致；原章不够准确或有误时，我们的说法就是更正。"
                            "在缺少那个要点的对照程序里，它必须不成立：" (controls) " 条里有 " (controls_failed) " 条如此。"
                        }
                    }
                }
                table {
                    thead { tr { @for column in columns { th { (self.say(column)) } } } }
                    tbody { @for claim in ledger::ALL { (self.row(claim)) } }
                }
            }
        }
    }

    /// The rows of the table for a claim: one for each scenario here that shows it.
    fn row(&self, claim: &Claim) -> Markup {
        let is_about_it = |result: &&ScenarioResult| result.verdict(claim).is_some();
        let here = self.say(claim.here());
        html! {
            @for result in self.results.iter().filter(is_about_it) {
                tr {
                    td { a href=(format!("#{}", anchor(result, claim))) { (claim.id) } }
                    @match claim.ruling() {
                        Some(ruling) => {
                            td {
                                (self.say(claim.says()))
                                @if ruling == Ruling::Wrong {
                                    br; (self.instead(Ruling::Wrong)) (here) (self.stop())
                                }
                            }
                            td data-narrow=(self.say(text("That is ", "判断："))) { (self.say(ruling.word())) }
                        }
                        None => {
                            td { (self.say(text("Nothing: ", "没有提到："))) (here) (self.stop()) }
                            td data-narrow=(self.say(text("That is ", "判断："))) { (self.say(text("beyond it", "原章之外"))) }
                        }
                    }
                    td data-narrow=(self.say(text("· our statement: ", "· 我们的说法："))) { (self.shown(result.verdict(claim))) }
                    td data-narrow="· " { a href=(format!("#{}", result.scenario.name)) { (result.scenario.name) } }
                }
            }
        }
    }

    fn shown(&self, verdict: Option<&Verdict>) -> Markup {
        html! {
            @match verdict.and_then(|verdict| verdict.held) {
                Some(true) => span class="good" { (self.say(text("✓ held", "✓ 成立"))) },
                Some(false) => span class="bad" { (self.say(text("✗ NOT held", "✗ 不成立"))) },
                None => span { (self.say(text("– skipped", "– 跳过"))) },
            }
        }
    }

    /// Introduces what holds.
    fn instead(&self, ruling: Ruling) -> &'static str {
        match ruling {
            Ruling::Right => "",
            Ruling::Imprecise => self.say(text("More exactly: ", "更准确地说：")),
            Ruling::Wrong => self.say(text("Instead: ", "实际上：")),
        }
    }

    fn scenario(&self, result: &ScenarioResult) -> Markup {
        let scenario = result.scenario;
        let name = scenario.name;
        html! {
            section class="scenario" id=(name) {
                h2 { a href=(format!("#{name}")) { (name) } }
                p class="about" { (self.say(scenario.about())) }
                @if let Some(times) = self.times(result) { p class="faint" { (times) } }
                (questions::block(result, self.language))
                (self.run(name, name, &result.events))
                h3 { (self.say(text("What it shows", "它展示什么"))) }
                ul class="claims" { @for one in scenario.claims() { (self.claim(result, one)) } }
                @if scenario.has_control() { (self.control(result)) }
                (self.transcript(name, &result.events))
                p class="again" {
                    (self.say(text("By hand", "亲手试试"))) (self.colon()) code { (self.say(scenario.by_hand())) }
                    br;
                    (self.say(text("Again, like this", "再来一次"))) (self.colon()) code { "cargo xtask demo " (name) }
                }
                p { a href="#summary" { (self.say(text("↑ all claims", "↑ 全部论断"))) } }
            }
        }
    }

    /// Compares the time with the chapter's.
    fn times(&self, result: &ScenarioResult) -> Option<String> {
        let (chapters, here) = (result.scenario.seconds, result.seconds);
        let is_sooner = here.round() < chapters;
        is_sooner.then(|| match self.language {
            English => {
                format!("With the chapter's times it takes {chapters} s; here it took {here:.1} s.")
            }
            Chinese => format!("按原章的时间要 {chapters} 秒，这里用了 {here:.1} 秒。"),
        })
    }

    /// The timeline, and the snapshots.
    fn run(&self, title: &str, folder: &str, events: &[Event]) -> Markup {
        let story = Story::new(events);
        let idea = self.idea(title, folder, events);
        let title = match self.language {
            English => format!("Timeline of {title}"),
            Chinese => format!("时间线：{title}"),
        };
        html! {
            (idea)
            figure class="timeline" {
                (timeline::inline(&story, &title, WIDE, self.language))
                (timeline::inline(&story, &title, NARROW, self.language))
                figcaption class="files" { (file(folder, self.say(timeline::FILE))) " · " (file(folder, EVENTS)) }
            }
            (self.printed(events))
            @for snapshot in snapshot::all(events) {
                figure class="snapshot" {
                    figcaption {
                        (circled(snapshot.number)) " " (printable(snapshot.title(self.language)).trim_end_matches(['.', '。'])) (self.stop())
                        " " span class="files" { (file(folder, &snapshot.file())) }
                    }
                    (snapshot.html(self.language))
                }
            }
        }
    }

    /// The idea, if this run has one.
    fn idea(&self, title: &str, folder: &str, events: &[Event]) -> Markup {
        html! {
            @if let Some(idea) = ideas::of(events, self.language) {
                figure class="idea" {
                    (idea::inline(&idea, title, WIDE)) (idea::inline(&idea, title, NARROW))
                    figcaption class="files" { (file(folder, self.say(idea::FILE))) }
                }
            }
        }
    }

    /// What the programs have written, if it is little; the transcript has it all.
    fn printed(&self, events: &[Event]) -> Markup {
        let is_line = |event: &&Event| matches!(event.what, What::Line { .. });
        let lines = events.iter().filter(is_line);
        let lines = lines.filter_map(|event| Some((event.t, line(&event.what)?)));
        let lines: Vec<(f64, String)> = lines.collect();
        html! {
            @if (1..=FEW_LINES).contains(&lines.len()) {
                details open {
                    summary { (self.say(text("What was printed", "程序打印的内容"))) }
                    ul class="printed" {
                        @for (t, line) in &lines { li { span class="faint" { (format!("{t:.3} s ")) } code { (printable(line)) } } }
                    }
                }
            }
        }
    }

    fn claim(&self, result: &ScenarioResult, claim: &Claim) -> Markup {
        let verdict = result.verdict(claim);
        let because = verdict.and_then(|verdict| verdict.because.as_ref());
        html! {
            li id=(anchor(result, claim)) {
                strong { (claim.id) } (self.say(text(". ", "：")))
                @if let Some(ruling) = claim.ruling() {
                    (self.say(text("The chapter says: ", "原章说："))) (self.say(claim.says()))
                    span class="ruling" {
                        (self.say(text(" That is ", "判断："))) strong { (self.say(ruling.word())) } (self.stop())
                    }
                    br;
                    (self.instead(ruling))
                }
                (self.shown(verdict)) (self.say(text(" in this run: ", "（在这次运行里）："))) (self.say(claim.here())) (self.say(text(". ", "。")))
                @if let Some(because) = because {
                    br; (self.say(text("Because", "原因"))) (self.colon()) (reason(because))
                }
            }
        }
    }

    fn control(&self, result: &ScenarioResult) -> Markup {
        let Scenario { name, .. } = result.scenario;
        let without = self.say(result.scenario.without());
        let title = title_of_control(result.scenario, self.language);
        let folder = format!("{name}/{CONTROL}");
        let claims = |good: bool| {
            let wanted = result.verdicts_of(true).filter(|it| it.is_good() == good);
            let ids: Vec<_> = wanted.map(|it| it.claim).collect();
            ids.join(self.say(text(", ", "、")))
        };
        let (failed, not_failed) = (claims(true), claims(false));
        html! {
            details class="control" {
                summary {
                    (self.say(text("The control, for comparison: ", "对照程序："))) (without) (self.say(text(". ", "。")))
                    @if !failed.is_empty() {
                        span class="good" {
                            "✓\u{a0}" (failed) (self.say(text(" failed there, as expected. ", " 在那里不成立，符合预期。")))
                        }
                    }
                    @if !not_failed.is_empty() {
                        span class="bad" {
                            "✗\u{a0}" (not_failed) (self.say(text(" should fail there, and did NOT. ", " 在那里应当不成立，却成立了。")))
                        }
                    }
                    @if failed.is_empty() && not_failed.is_empty() { (self.say(text("Skipped.", "跳过。"))) }
                }
                p { code { (printable(control_command(result))) } }
                ul {
                    @for verdict in result.verdicts_of(true) {
                        li { (verdict.claim) (self.colon()) (reason(verdict.because.as_deref().unwrap_or(self.say(NOTHING_PROVED)))) }
                    }
                }
                (self.run(&title, &folder, &result.control_events))
                (self.transcript(&folder, &result.control_events))
            }
        }
    }

    fn transcript(&self, folder: &str, events: &[Event]) -> Markup {
        let what = text(
            "Seconds, and what was started, printed, done and seen: ",
            "时间（秒），以及启动、打印、做过、看到的一切：",
        );
        html! {
            details {
                summary { (self.say(text("Transcript", "完整记录"))) }
                p class="files" { (self.say(what)) (file(folder, TRANSCRIPT)) }
                pre tabindex="0" { (printable(&plain_transcript(events))) }
            }
        }
    }
}

/// Names the control of a scenario.
pub(super) fn title_of_control(scenario: &Scenario, language: Language) -> String {
    let control = text(", control: ", " 的对照程序：");
    format!("{}{}{}", scenario.name, control.to(language), scenario.without().to(language))
}

fn circled(number: usize) -> Markup {
    html! { span class="circled" { (number) } }
}

/// Why a verdict is as it is, which is a diagnosis and so in English.
fn reason(because: &str) -> Markup {
    html! { span lang="en" { (printable(because)) } }
}

fn anchor(result: &ScenarioResult, claim: &Claim) -> String {
    format!("{}-{}", result.scenario.name, claim.id)
}

fn file(folder: &str, name: &str) -> Markup {
    html! { a href=(format!("{folder}/{name}")) { (name) } }
}
