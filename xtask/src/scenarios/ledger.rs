//! The ledger: every claim, once. What the chapter says, whether that is right, what holds instead or more
//! exactly, and the code to read are in `claims.md`. The scenarios name the claims that they show.

use std::sync::LazyLock;

use serde::Serialize;

use crate::model::bilingual::{Text, text};
use crate::model::markdown::Texts;

static TEXTS: LazyLock<Texts> = LazyLock::new(|| {
    Texts::of([include_str!("../../claims.md"), include_str!("../../claims.zh-CN.md")])
});
const SAYS: Text = text("The chapter says", "原章");
const RULING: Text = text("Ruling", "判断");
const HERE: Text = text("Here", "这里");
/// In the English file alone: code is no language's.
const CODE: Text = text("Code", "");

/// Whether a statement of the chapter is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ruling {
    Right,
    /// Right as far as it goes, or only under conditions that it does not name.
    Imprecise,
    Wrong,
}

impl Ruling {
    pub(crate) fn word(self) -> Text {
        match self {
            Ruling::Right => text("right", "正确"),
            Ruling::Imprecise => text("imprecise", "不够准确"),
            Ruling::Wrong => text("wrong", "有误"),
        }
    }
}

/// One claim; its texts are in the section of its number.
pub(crate) struct Claim {
    /// C1, C2, … are the chapter's, in its order; X1, X2, … go beyond it.
    pub(crate) id: &'static str,
}

impl Claim {
    /// What the chapter says, in our own words; nothing for a claim beyond it.
    pub(crate) fn says(&self) -> Text {
        TEXTS.get(self.id, SAYS)
    }

    /// Whether the chapter is right, if it says anything of this.
    pub(crate) fn ruling(&self) -> Option<Ruling> {
        let all = [Ruling::Right, Ruling::Imprecise, Ruling::Wrong];
        all.into_iter().find(|ruling| ruling.word() == TEXTS.get(self.id, RULING))
    }

    /// What holds on this machine, if the scenarios that show it succeed.
    pub(crate) fn here(&self) -> Text {
        TEXTS.get(self.id, HERE)
    }

    /// What to read: "path: function".
    pub(crate) fn code(&self) -> impl Iterator<Item = &'static str> {
        TEXTS.get(self.id, CODE).en.split(", ")
    }

    /// Whether it has this number, or this word in its texts.
    pub(crate) fn is_about(&self, word: &str) -> bool {
        let texts = [self.says(), self.here()];
        self.id.eq_ignore_ascii_case(word) || texts.iter().any(|text| text.contains(word))
    }
}

/// The claim with this number.
pub(crate) fn find(id: &str) -> Option<&'static Claim> {
    ALL.iter().find(|claim| claim.id == id).copied()
}

/// Makes a constant for each claim, so that a scenario cannot name one that is not there; and `ALL` of them.
macro_rules! ledger {
    ($($id:ident)*) => {
        $(pub(crate) const $id: &Claim = &Claim { id: stringify!($id) };)*
        pub(crate) const ALL: &[&Claim] = &[$($id),*];
    };
}

ledger! {
    C1 C2 C3 C4 C5 C6 C7 C8 C9 C10 C11 C12 C13 C14 C15 C16 C17 C18 C19 C20 C21 C22 C23 C24 C25 C26 C27 C28
    C29 C30 C31 C32 C33 C34 C35 C36 C37 C38 C39 C40 C41 C42 C43 C44 C45 C46 C47 C48 C49 X1 X2 X3 X4 X5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_claim_has_all_its_texts_and_there_are_no_others() {
        let labels = |claim: &&Claim| match claim.id.starts_with('C') {
            true => vec![(claim.id, SAYS), (claim.id, RULING), (claim.id, HERE), (claim.id, CODE)],
            false => vec![(claim.id, HERE), (claim.id, CODE)],
        };
        TEXTS.expect(ALL.iter().flat_map(labels));
        for claim in ALL.iter().filter(|claim| claim.id.starts_with('C')) {
            assert!(claim.ruling().is_some(), "the rulings of {} are not the same word", claim.id);
        }
    }
}
