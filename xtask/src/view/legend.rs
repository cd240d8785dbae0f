//! The legend of the timelines: what each sign means.

use maud::{Markup, PreEscaped, html};

use crate::model::bilingual::{Language, Text, text};

/// A sign of the legend.
struct Sign {
    /// 44 wide and 16 high.
    svg: String,
    meaning: &'static str,
    /// What only a drawing with this sign contains.
    marker: String,
}

fn signs(language: Language) -> [Sign; 13] {
    let sign = |class: &str, svg: &str, meaning: Text| Sign {
        svg: svg.to_owned(),
        meaning: meaning.to(language),
        marker: format!(r#"class="{class}""#),
    };
    let arrow = |class: &str, meaning: Text| {
        let line = format!(r#"<path class="arrow {class}" d="M2 8H34"/>"#);
        let head = format!(r#"<path class="head {class}" d="M34 3.5v9l7-4.5z"/>"#);
        sign(&format!("head {class}"), &(line + &head), meaning)
    };
    let reaped_at_once = Sign {
        // The words over the step.
        marker: text(">exit, wait", ">退出，回收").to(language).to_owned(),
        ..sign(
            "",
            r#"<path class="arrow wait" d="M9 8H34"/><path class="head wait" d="M34 3.5v9l7-4.5z"/><path class="head exit" d="M10 3.5v9l-7-4.5z"/>"#,
            text("exit, wait: reaped at once", "退出，回收：立刻被回收"),
        )
    };
    [
        sign(
            "lives",
            r#"<rect class="lives" width="44" height="16"/>"#,
            text("lives: runs or sleeps", "活着：在运行或睡眠"),
        ),
        sign("stopped", r#"<path class="stopped" d="M0 8h44"/>"#, text("stopped (T)", "暂停 (T)")),
        sign(
            "zombie",
            r#"<rect class="zombie" x="1" y="1" width="42" height="14"/>"#,
            text("zombie (Z): has ended, nobody has waited", "僵尸 (Z)：已结束，还没有谁等待它"),
        ),
        sign(
            "gone",
            r#"<path class="gone" d="M22 0v16"/>"#,
            text("gone from the process table", "从进程表里消失"),
        ),
        arrow("spawn", text("start, spawn: to the new process", "启动、创建：指向新进程")),
        sign(
            "mark",
            r#"<path class="mark" d="M22 3l5 5-5 5-5-5z"/>"#,
            text("exec, where seen: another program", "exec（看到时）：换成另一个程序"),
        ),
        arrow("signal", text("signal", "信号")),
        arrow("exit", text("exit: has ended", "退出：已结束")),
        arrow("wait", text("wait: reaped, by its parent or adopter", "回收：由父进程或收养者等待")),
        reaped_at_once,
        sign(
            "ignores",
            r#"<circle class="ignores" cx="22" cy="8" r="5.5"/><path class="ignores" d="M18.1 11.9l7.8 -7.8"/>"#,
            text("ignores SIGCHLD, from here at the latest", "忽略 SIGCHLD，最晚从这里开始"),
        ),
        arrow("adoption", text("adopted: to its new parent", "被收养：指向新的父进程")),
        sign(
            "disc",
            r#"<circle class="disc" cx="22" cy="8" r="8"/><text class="number" x="22" y="12.2">1</text>"#,
            text("a snapshot: ps was called", "快照：此刻运行了 ps"),
        ),
    ]
}

/// What the signs mean, as a list for the page.
pub(super) fn list(language: Language) -> Markup {
    html! {
        ul class="legend" {
            @for Sign { svg, meaning, .. } in signs(language) {
                li { svg class="tl sign" viewBox="0 0 44 16" aria-hidden="true" { (PreEscaped(svg)) } (meaning) }
            }
        }
    }
}

/// The same, as the lower part of a file: what this drawing contains. And its height.
pub(super) fn rows(left: f64, width: f64, language: Language, drawn: &str) -> (Markup, f64) {
    const ROW: f64 = 24.0;
    let is_there = |sign: &Sign| drawn.contains(&sign.marker);
    let signs: Vec<Sign> = signs(language).into_iter().filter(is_there).collect();
    let half = signs.len().div_ceil(2);
    let place = |index: usize| {
        let x = left + (index / half) as f64 * width / 2.0;
        format!("translate({x} {})", 8.0 + ROW * (index % half) as f64)
    };
    let svg = html! {
        @for (index, Sign { svg, meaning, .. }) in signs.iter().enumerate() {
            g transform=(place(index)) { (PreEscaped(svg)) text x="54" y="12.2" { (meaning) } }
        }
    };
    (svg, ROW * half as f64 + 16.0)
}
