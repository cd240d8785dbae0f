//! Texts for readers that lie in Markdown files, a section for each subject.

/// What stands below the heading of this level and name, up to the next heading of that level or a higher
/// one, without blank lines around it. `level` 2 is `## name`. `None` if there is no such heading.
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
