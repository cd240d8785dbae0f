//! The data of a slider on the page, which goes through a run event by event. The page's script makes the
//! slider of it; without a script nothing is shown, and nothing is missing.

use std::collections::BTreeMap;

use anstream::adapter::strip_str;
use maud::{Markup, PreEscaped, html};
use serde_json::{Value, json};

use crate::model::bilingual::{Language, Text, text};
use crate::model::event::{Event, Source, What};
use crate::view::text::printable;
use crate::view::tree::Tree;

/// Where something comes from, in a word.
fn word(source: Source) -> Text {
    match source {
        Source::Program => text("program", "程序"),
        Source::Proc => text("/proc", "/proc"),
        Source::Ps => text("ps", "ps"),
        Source::Worker => text("worker", "worker"),
    }
}

/// The same as a label.
pub(super) fn label(source: Source, language: Language) -> Markup {
    html! { span class="source" { (word(source).to(language)) } }
}

/// The words of all sliders; once a page.
pub(super) fn words(language: Language) -> Markup {
    let sources = [Source::Program, Source::Proc, Source::Ps, Source::Worker];
    let words = [
        ("step", text("Step through {} event by event", "逐个事件看 {}")),
        ("event", text("Event", "事件")),
        ("previous", text("Previous event", "上一个事件")),
        ("next", text("Next event", "下一个事件")),
        ("tree", text("Processes now", "此刻的进程")),
        ("printed", text("Printed so far", "到此刻为止的输出")),
        ("nothing", text("Nothing so far.", "还没有。")),
        ("last", text("The last ps: ps at {} s", "最近一次 ps：时间 {} 秒")),
        ("ago", text(", {} s ago", "，{} 秒之前")),
        ("none", text("No ps so far.", "还没有运行 ps。")),
    ];
    let mut all: BTreeMap<&str, Value> =
        words.into_iter().map(|(key, text)| (key, text.to(language).into())).collect();
    all.insert("sources", json!(sources.map(|source| word(source).to(language))));
    html! { script id="words" type="application/json" { (script(&json!(all))) } }
}

/// What a slider shows of a run that is called so: `frames` has the time, the source, the line and the
/// tree of each event, and a tree is the numbers of its `lines`.
pub(super) fn data(name: &str, events: &[Event], language: Language) -> Markup {
    let mut tree = Tree::in_language(language);
    let mut lines: Vec<String> = Vec::new();
    let mut frames = Vec::new();
    for event in events {
        let Some(line) = tree.line(event).or_else(|| over(&event.what, language)) else {
            continue;
        };
        let mut drawn = Vec::new();
        for (is_zombie, line) in tree.lines() {
            let line = printable(&format!("{} {line}", if is_zombie { 'Z' } else { ' ' }));
            let known = lines.iter().position(|known| *known == line);
            drawn.push(known.unwrap_or(lines.len()));
            if known.is_none() {
                lines.push(line);
            }
        }
        let line = printable(&strip_str(&line).to_string());
        let line = match event.source {
            Source::Program => &line,
            _ => line.trim_start_matches(['*', '-', '>', '!', ' ']), // marks of a transcript
        };
        let time = (event.t * 1000.0).round() / 1000.0;
        frames.push(json!([time, event.source as u8, line, drawn]));
    }
    let data = script(&json!({ "lines": lines, "frames": frames }));
    html! { script class="run" type="application/json" data-name=(name) { (data) } }
}

/// The last event of a run.
fn over(what: &What, language: Language) -> Option<String> {
    let What::End { left } = what else { return None };
    let over = text("The run is over. Processes left: {}.", "运行结束。剩下的进程：{} 个。");
    Some(over.to(language).replace("{}", &left.to_string()))
}

/// Escapes JSON for a script element, so that no text in it can end the element.
fn script(data: &Value) -> Markup {
    PreEscaped(data.to_string().replace('<', "\\u003c"))
}
