//! The words of a timeline in Chinese. A recording has the roles of processes in English, and a story is
//! told in English; a picture for Chinese readers replaces them one by one.

use std::borrow::Cow;

use crate::model::bilingual::Language;

/// A line for each word: `English = Chinese`.
const CHINESE: &str = include_str!("words.txt");

/// The same in this language: words that are separated by commas, each perhaps with a number. What has no
/// translation, such as the name of a signal, stays.
pub(crate) fn to(language: Language, words: &str) -> Cow<'_, str> {
    if language == Language::English {
        return words.into();
    }
    words.split(", ").map(chinese).collect::<Vec<_>>().join("，").into()
}

fn chinese(word: &str) -> String {
    let known = |word: &str| {
        let mut all = CHINESE.lines().filter_map(|line| line.split_once(" = "));
        all.find(|(english, _)| *english == word).map(|(_, chinese)| chinese)
    };
    let numbered = |(kind, number)| Some(format!("{} {number}", known(kind)?));
    match known(word) {
        Some(chinese) => chinese.to_owned(),
        None => word.rsplit_once(' ').and_then(numbered).unwrap_or_else(|| word.to_owned()),
    }
}
