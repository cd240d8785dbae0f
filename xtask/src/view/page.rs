//! The page: what a zombie is, then each scenario with its timeline and snapshots, then the verdicts. It
//! needs no other file, and there is one in each language.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::model::bilingual::Language::{Chinese, English};
use crate::model::bilingual::{COLON, COMMA, Language, Text, text};
use crate::model::event::{Event, Source, What};
use crate::runner::recording::{CONTROL, EVENTS};
use crate::scenarios::ledger::{self, Claim, Ruling};
use crate::scenarios::{self, SECTIONS, Scenario, Section};
use crate::verdict::Verdict;
use crate::verdict::result::{Counts, ScenarioResult};
use crate::view::machine::Machine;
use crate::view::story::Story;
use crate::view::text::{
    NOTHING_PROVED, TRANSCRIPT, control_command, line, plain_transcript, printable,
};
use crate::view::timeline::{NARROW, WIDE};
use crate::view::{idea, ideas, legend, questions, slider, snapshot, timeline};

const TITLE: Text = text("What the process table says", "进程表怎么说");
const CONTENTS: Text = text("Contents", "目录");
const MINUTE: Text = text("Zombies in a minute", "一分钟看懂僵尸进程");
const LEGEND: Text = text("How to read the timelines", "怎样看时间线");
const SUMMARY: Text = text("What came out", "结果");

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What is written in HTML, with a link to each scenario that it names.
macro_rules! prose {
    ($name:literal) => {
        text(
            include_str!(concat!("page/", $name, ".html")),
            include_str!(concat!("page/", $name, ".zh-CN.html")),
        )
    };
}

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
                    a class="skip" href="#main" { (self.say(text("Skip to the content", "跳到正文"))) }
                    header { (self.head()) }
                    main id="main" tabindex="-1" {
                        section id="in-a-minute" {
                            h2 { (self.say(MINUTE)) }
                            (self.prose(prose!("minute")))
                        }
                        (self.legend())
                        @for section in self.sections() {
                            section {
                                h2 { (self.title(section)) }
                                @for result in self.of(section) { (self.scenario(result)) }
                            }
                        }
                        (self.summary())
                    }
                    (slider::words(self.language))
                    script { (PreEscaped(SCRIPT)) }
                    script { (PreEscaped(questions::SCRIPT)) }
                }
            }
        };
        page.into_string()
    }

    fn head(&self) -> Markup {
        let other = [text(INDEX.zh, INDEX.en), text("简体中文", "English"), text("zh-CN", "en")];
        let [other, name, lang] = other.map(|it| self.say(it));
        html! {
            h1 { (self.say(TITLE)) }
            p class="faint" { a href=(other) hreflang=(lang) lang=(lang) { (name) } }
            (self.prose(prose!("head")))
            p {
                (self.counts()) a href="#summary" { (self.say(text("All claims", "全部论断"))) } (self.stop())
                @if let Some(machine) = self.machine {
                    br; span lang="en" { (machine.text()) "." }
                }
            }
            (self.contents())
        }
    }

    /// The scenarios of each section, which is closed so that the page begins with zombies.
    fn contents(&self) -> Markup {
        html! {
            nav aria-label=(self.say(CONTENTS)) {
                details id="contents" {
                    summary {
                        (self.say(CONTENTS)) (self.colon())
                        (self.results.len()) (self.say(text(" scenarios", " 个场景")))
                    }
                    ul {
                        li { a href="#in-a-minute" { (self.say(MINUTE)) } }
                        li { a href="#legend" { (self.say(LEGEND)) } }
                        @for section in self.sections() {
                            li {
                                (self.title(section)) (self.colon())
                                @for (index, result) in self.of(section).enumerate() {
                                    @let name = result.scenario.name;
                                    @if index > 0 { " · " }
                                    a href=(format!("#{name}")) { (name) }
                                }
                            }
                        }
                        li { a href="#summary" { (self.say(SUMMARY)) } }
                    }
                }
            }
        }
    }

    /// The sections with scenarios on this page: first that of `zombie`, which the others vary, then as in
    /// the text.
    fn sections(&self) -> Vec<&'static Section> {
        let is_here = |section: &&Section| self.of(section).next().is_some();
        let mut sections: Vec<&Section> = SECTIONS.iter().filter(is_here).collect();
        let is_first = |section: &Section| section.scenarios.iter().any(|it| it.name == "zombie");
        sections.sort_by_key(|section| (!is_first(section), section.text.1));
        sections
    }

    fn of(&self, section: &Section) -> impl Iterator<Item = &ScenarioResult> {
        let is_of = |name| section.scenarios.iter().any(|it| it.name == name);
        self.results.iter().filter(move |result| is_of(result.scenario.name))
    }

    fn title(&self, section: &Section) -> String {
        let [before, after] = [text("Section ", "第 "), text(": ", " 节：")].map(|it| self.say(it));
        format!("{before}{}{after}{}", section.text.1, self.say(section.title))
    }

    /// The end of a sentence.
    fn stop(&self) -> &'static str {
        self.say(text(".", "。"))
    }

    fn colon(&self) -> &'static str {
        self.say(COLON)
    }

    /// Such a text; it names a scenario that is not on this page without a link.
    fn prose(&self, text: Text) -> Markup {
        let is_here = |name: &str| self.results.iter().any(|result| result.scenario.name == name);
        let missing = scenarios::all().map(|scenario| scenario.name).filter(|name| !is_here(name));
        let link = |name| format!("<a href=\"#{name}\">{name}</a>");
        let unlinked = |html: String, name| html.replace(&link(name), name);
        PreEscaped(missing.fold(self.say(text).to_owned(), unlinked))
    }

    /// How to read a timeline, which is closed so that a timeline is soon seen.
    fn legend(&self) -> Markup {
        let PreEscaped(prose) = self.prose(prose!("legend"));
        let signs = legend::list(self.language).into_string();
        html! {
            details id="legend" {
                summary { h2 { (self.say(LEGEND)) } }
                (PreEscaped(prose.replace("<!--signs-->", &signs)))
            }
        }
    }

    /// How many claims held.
    fn counts(&self) -> Markup {
        let Counts { held, not_held, skipped, .. } = Counts::of(self.results);
        html! {
            strong { (held) (self.say(text(" held", " 条成立"))) } (self.say(COMMA))
            @if not_held > 0 {
                strong class="bad" { (not_held) (self.say(text(" did NOT hold", " 条不成立"))) }
            } @else {
                (self.say(text("0 did not", "0 条不成立")))
            }
            (self.say(COMMA)) (skipped) (self.say(text(" skipped. ", " 条跳过。")))
        }
    }

    fn summary(&self) -> Markup {
        let Counts { controls_failed, controls_not_failed, .. } = Counts::of(self.results);
        let controls = (controls_failed + controls_not_failed).to_string();
        let prose = self.say(prose!("summary")).replace("{controls}", &controls);
        let prose = prose.replace("{failed}", &controls_failed.to_string());
        let columns = [
            text("claim", "论断"),
            text("the chapter says", "原章怎么说"),
            text("that is", "判断"),
            text("our statement, in this run", "我们的说法，在这次运行里"),
            text("scenario", "场景"),
        ];
        html! {
            section id="summary" {
                h2 { (self.say(SUMMARY)) }
                p { (self.counts()) (prose) }
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
                h3 { a href=(format!("#{name}")) { (name) } }
                p class="about" { (self.say(scenario.about())) }
                @if let Some(times) = self.times(result) { p class="faint" { (times) } }
                (questions::block(result, self.language))
                (self.run(name, name, &result.events))
                h4 { (self.say(text("What ", ""))) (name) (self.say(text(" shows", " 展示什么"))) }
                ul class="claims" { @for one in scenario.claims() { (self.claim(result, one)) } }
                @if scenario.has_control() { (self.control(result)) }
                (self.transcript(name, name, &result.events))
                p class="again" {
                    (self.say(text("By hand", "亲手试试"))) (self.colon()) code { (self.say(scenario.by_hand())) }
                    br;
                    (self.say(text("Again, like this", "再来一次"))) (self.colon()) code { "cargo xtask demo " (name) }
                }
                p { a href="#contents" { "↑ " (self.say(CONTENTS)) } " · " a href="#summary" { "↓ " (self.say(SUMMARY)) } }
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

    /// The timeline, and the snapshots, of a run that is called so.
    fn run(&self, name: &str, folder: &str, events: &[Event]) -> Markup {
        let story = Story::new(events);
        let title = format!("{}{name}", self.say(text("Timeline of ", "时间线：")));
        let label = |source| slider::label(source, self.language);
        let idea = self.idea(name, folder, events);
        html! {
            (idea)
            div class="run" {
                figure class="timeline" {
                    (timeline::inline(&story, &title, WIDE, self.language))
                    (timeline::inline(&story, &title, NARROW, self.language))
                    figcaption class="files" {
                        (label(Source::Proc)) (self.say(text(" states, parents ", " 状态与父进程 ")))
                        (label(Source::Worker)) (self.say(text(" starts, signals, waits · ", " 启动、信号与等待 · ")))
                        (file(folder, self.say(timeline::FILE))) " · " (file(folder, EVENTS))
                    }
                }
                (slider::data(name, events, self.language))
                (self.printed(name, events))
                @for snapshot in snapshot::all(events) {
                    figure class="snapshot" {
                        figcaption {
                            (label(Source::Ps)) " " (circled(snapshot.number)) " " (printable(snapshot.printed.title_in(self.language)).trim_end_matches(['.', '。'])) (self.stop())
                            " " span class="files" { (file(folder, &snapshot.file())) }
                        }
                        (snapshot.html(self.language))
                    }
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
    fn printed(&self, name: &str, events: &[Event]) -> Markup {
        let is_line = |event: &&Event| matches!(event.what, What::Line { .. });
        let lines = events.iter().filter(is_line);
        let lines = lines.filter_map(|event| Some((event.t, line(&event.what, self.language)?)));
        let lines: Vec<(f64, String)> = lines.collect();
        html! {
            @if (1..=FEW_LINES).contains(&lines.len()) {
                details open {
                    summary {
                        (slider::label(Source::Program, self.language))
                        (self.say(text(" What ", " "))) (name) (self.say(text(" printed", " 打印的内容")))
                    }
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
        let (title, folder) = (self.control_of(name), format!("{name}/{CONTROL}"));
        let claims = |good: bool| {
            let wanted = result.verdicts_of(true).filter(|it| it.is_good() == good);
            let ids: Vec<_> = wanted.map(|it| it.claim).collect();
            ids.join(self.say(text(", ", "、")))
        };
        let (failed, not_failed) = (claims(true), claims(false));
        html! {
            details class="control" {
                summary {
                    (title) (self.colon()) (without) (self.say(text(". ", "。")))
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
                (self.transcript(&title, &folder, &result.control_events))
            }
        }
    }

    fn control_of(&self, name: &str) -> String {
        format!("{}{name}{}", self.say(text("control of ", "")), self.say(text("", " 的对照程序")))
    }

    fn transcript(&self, name: &str, folder: &str, events: &[Event]) -> Markup {
        let what = text(
            "Seconds, and what was started, printed, done and seen: ",
            "时间（秒），以及启动、打印、做过、看到的一切：",
        );
        html! {
            details {
                summary { (self.say(text("Transcript of ", "完整记录："))) (name) }
                p class="files" { (self.say(what)) (file(folder, TRANSCRIPT)) }
                pre { (printable(&plain_transcript(events))) }
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
