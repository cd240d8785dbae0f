//! Texts for readers that lie in Markdown files, a section for each subject.

use std::collections::BTreeMap;

use crate::model::bilingual::{Text, text};

/// The texts of a file and of the same in Chinese, by subject and label. A subject is a heading `## subject`,
/// and its section a list with a line for each text: `- Label: text`.
pub(crate) struct Texts(BTreeMap<[&'static str; 2], String>);

impl Texts {
    /// Without backticks, which mark code for those who read the file.
    pub(crate) fn of(files: [&'static str; 2]) -> Self {
        let mut texts = BTreeMap::new();
        for file in files {
            for subject in file.lines().filter_map(|line| line.strip_prefix("## ")) {
                for line in section(file, 2, subject).unwrap_or_default().split('\n') {
                    let item = line.strip_prefix("- ").unwrap_or(line);
                    let (label, text) = item.split_once([':', '：']).unwrap_or((item, ""));
                    texts.insert([subject, label], text.trim_start().replace('`', ""));
                }
            }
        }
        Self(texts)
    }

    /// Empty where there is none: tests compare what there is with what there must be.
    pub(crate) fn get(&'static self, subject: &'static str, label: Text) -> Text {
        let find = |label| self.0.get(&[subject, label]).map_or("", String::as_str);
        text(find(label.en), find(label.zh))
    }

    /// Fails unless these texts are there in both languages, and no others. A line of a section that is no
    /// text counts as a label.
    #[cfg(test)]
    pub(crate) fn expect(&self, places: impl Iterator<Item = (&'static str, Text)>) {
        let mut others = self.0.clone();
        for (subject, label) in places {
            for label in [label.en, label.zh].into_iter().filter(|label| !label.is_empty()) {
                let text = others.remove(&[subject, label]).unwrap_or_default();
                assert!(!text.is_empty(), "{subject} has no text {label:?}");
            }
        }
        assert!(others.is_empty(), "there is more than expected: {others:?}");
    }
}

/// Returns the text below the heading of this level and name, up to the next heading of that level or a
/// higher one, without blank lines around it. `level` 2 is `## name`. `None` if there is no such heading.
pub(crate) fn section<'a>(text: &'a str, level: usize, name: &str) -> Option<&'a str> {
    let wanted = format!("{} {name}", "#".repeat(level));
    let mut begin = None;
    let mut at = 0;
    let mut in_code = false;
    for line in text.split_inclusive('\n') {
        in_code ^= line.starts_with("```");
        let marks = line.len() - line.trim_start_matches('#').len();
        let is_heading = !in_code && (1..=level).contains(&marks);
        match begin {
            None if is_heading && line.trim_end() == wanted => begin = Some(at + line.len()),
            Some(begin) if is_heading => return Some(text[begin..at].trim()),
            _ => {}
        }
        at += line.len();
    }
    Some(text[begin?..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_at_the_next_heading_of_its_level() {
        let text = "# a\n\nb\n\n## c\nd\n### e\n```\n# f\n```\n## g\n";
        assert_eq!(section(text, 2, "c"), Some("d\n### e\n```\n# f\n```"));
        assert_eq!(section(text, 3, "e"), Some("```\n# f\n```"));
        assert_eq!(section(text, 2, "g"), Some(""));
        assert_eq!(section(text, 2, "h"), None);
    }
}
