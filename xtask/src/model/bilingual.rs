//! Texts in the languages of our readers.

use std::{env, fmt};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Language {
    #[default]
    English,
    Chinese,
}

impl Language {
    /// The language that a name such as `zh` or `zh_CN.UTF-8` stands for.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name.split(['_', '-', '.', '@']).next()?.to_lowercase().as_str() {
            "zh" => Some(Language::Chinese),
            "en" | "c" | "posix" => Some(Language::English),
            _ => None,
        }
    }

    /// The reader's, as POSIX looks for it: the first of these variables that is not empty decides.
    pub(crate) fn of_environment() -> Self {
        let mut set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(env::var_os);
        let decides = set.find(|value| !value.is_empty());
        let named = decides.and_then(|name| Self::named(&name.to_string_lossy()));
        named.unwrap_or(Language::English)
    }
}

/// A text in both languages, so that neither can be forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text {
    /// What is recorded, and printed by the commands that speak English only.
    pub(crate) en: &'static str,
    pub(crate) zh: &'static str,
}

pub(crate) const fn text(en: &'static str, zh: &'static str) -> Text {
    Text { en, zh }
}

/// What is no language's, such as a command.
pub(crate) const fn same(text: &'static str) -> Text {
    Text { en: text, zh: text }
}

/// Between a name and what is said of it.
pub(crate) const COLON: Text = text(": ", "：");
pub(crate) const COMMA: Text = text(", ", "，");

impl Text {
    pub(crate) fn to(self, language: Language) -> &'static str {
        match language {
            Language::English => self.en,
            Language::Chinese => self.zh,
        }
    }

    /// Whether one of them contains this word, in whatever case.
    pub(crate) fn contains(self, word: &str) -> bool {
        let word = word.to_lowercase();
        [self.en, self.zh].iter().any(|text| text.to_lowercase().contains(&word))
    }
}

/// In English.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.en)
    }
}
