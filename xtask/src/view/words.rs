//! The words of a timeline in Chinese. A recording has the roles of processes in English, and a story is
//! told in English; a picture for Chinese readers replaces them one by one.

use std::borrow::Cow;

use crate::model::bilingual::Language;

const CHINESE: &[(&str, &str)] = &[
    // What happened.
    ("start", "启动"),
    ("spawn", "创建"),
    ("exit", "退出"),
    ("wait", "回收"),
    ("no wait", "不必等待"),
    ("adopted", "被收养"),
    ("gone", "消失"),
    ("unseen", "没有看到"),
    ("cleared up", "清理"),
    ("refused", "被拒绝"),
    ("stopped", "暂停"),
    ("goes on", "继续"),
    ("ignores SIGCHLD", "忽略 SIGCHLD"),
    // What a client saw.
    ("an answer after the upgrade", "升级之后得到应答"),
    ("an answer in its turn", "轮到它时得到应答"),
    ("an answer while all five were connected", "五个客户端都连着时得到应答"),
    ("no answer while another client was served", "在服务另一个客户端时没有应答"),
    // Who it was.
    ("parent", "父进程"),
    ("child", "子进程"),
    ("program", "程序"),
    ("client", "客户端"),
    ("new server", "新服务器"),
    ("old worker", "旧 worker"),
    ("new worker", "新 worker"),
    ("sender", "发送进程"),
    ("grandchild", "孙进程"),
    ("copy", "副本"),
    ("copy of its parent", "父进程的副本"),
    ("forked child", "fork 出来的子进程"),
    ("executed child", "执行程序的子进程"),
    ("early child", "早结束的子进程"),
    ("late child", "晚结束的子进程"),
    ("sweeper", "定期查看者"),
    ("orphan", "孤儿"),
    ("zombie", "僵尸"),
    ("child of spawn", "spawn 的子进程"),
    ("child of output", "output 的子进程"),
    ("child that is waited for", "有人等待的子进程"),
    ("child that is not", "无人等待的子进程"),
    ("child of the one with a thread", "用线程等待的那个的子进程"),
    ("child of the one that asks", "反复询问的那个的子进程"),
    ("child of the one that polls", "用 poll 的那个的子进程"),
    ("child that ended since", "之后结束的子进程"),
    ("child that lives on", "继续活着的子进程"),
    ("zombie from before", "之前的僵尸"),
    ("zombie of the late handler", "处理程序装晚了的僵尸"),
    ("zombie of the default", "默认处理的僵尸"),
    ("zombie of the ignorer", "忽略者的僵尸"),
    ("command whose output goes nowhere", "输出无处可去的命令"),
    ("command with one pipe", "只有一个管道的命令"),
    ("command with two pipes", "有两个管道的命令"),
];

/// The same in this language: words that are separated by commas, each perhaps with a number. What has no
/// translation, such as the name of a signal, stays.
pub(crate) fn to(language: Language, words: &str) -> Cow<'_, str> {
    if language == Language::English {
        return words.into();
    }
    words.split(", ").map(chinese).collect::<Vec<_>>().join("，").into()
}

fn chinese(word: &str) -> String {
    let known = |word: &str| CHINESE.iter().find(|(english, _)| *english == word);
    match (known(word), word.rsplit_once(' ')) {
        (Some((_, chinese)), _) => (*chinese).to_owned(),
        (None, Some((kind, number))) if known(kind).is_some() => {
            format!("{} {number}", chinese(kind))
        }
        _ => word.to_owned(),
    }
}
