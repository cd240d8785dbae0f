//! Compiles rules about system calls to a filter for seccomp(2): a search tree of BPF instructions.
//!
//! When a filter is installed, the kernel runs it once for each system call number, to remember which
//! numbers it always allows. That happens in each worker, so the way to an answer must be short. A list
//! of comparisons has a step for each rule; each step of a tree halves the numbers that are left. If
//! there were 24 numbers, rules that allow 3, 9, 10, 11 and 15 would become:
//!
//! ```text
//!                    number >= 12?
//!                 no /          \ yes
//!         number >= 4?          number == 15?
//!        no /      \ yes         no /   \ yes
//!  number >= 3?  number >= 9?   REFUSE  ALLOW
//!   no /  \ yes   no /  \ yes
//! REFUSE  ALLOW  REFUSE  ALLOW
//! ```
//!
//! 9, 10 and 11 are one range, because they get the same answer. Each answer is in the program once; the
//! leaves of the tree are jumps to it. Jumps of BPF only go forwards, so the program is written from its
//! end to its beginning: what an instruction jumps to is there already.

use std::collections::{BTreeMap, BTreeSet};
use std::env::consts::ARCH;
use std::io;
use std::mem::offset_of;

use libc::{
    BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long,
    seccomp_data,
};
use seccompiler::{BpfProgram, sock_filter};

/// What a filter does with each system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    calls: BTreeMap<u32, Answer>,
    /// For all other numbers.
    others: Answer,
}

/// What a filter does with one system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Lets it happen.
    Allow,
    /// Makes it fail with EPERM.
    Refuse,
    /// Lets it happen if one of these conditions is true.
    AllowIf(Vec<Condition>),
}

/// A condition on the low half of an argument. The kernel ignores the high half of an `int`, so it must
/// not matter here, either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// From 0 to 5.
    pub argument: u8,
    /// What must be true of it.
    pub test: Test,
}

/// What must be true of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is this number.
    Is(u32),
    /// It has none of these bits.
    HasNone(u32),
}

impl Rules {
    /// Allows these calls with any arguments, and no others.
    #[must_use]
    pub fn allow(calls: &[c_long]) -> Self {
        let rules = Self { calls: BTreeMap::new(), others: Answer::Refuse };
        calls.iter().fold(rules, |rules, &call| rules.and(call, Answer::Allow))
    }

    /// Also allows what this answer to a call allows.
    #[must_use]
    pub fn and(mut self, call: c_long, answer: Answer) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as the kernel")]
        let number = call as u32;
        let answer = self.answer(number).clone().or(answer);
        self.calls.insert(number, answer);
        self
    }

    /// Allows what these or the other rules allow.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |one, other| one.clone().or(other.clone()))
    }

    /// Makes rules for a second filter, in a process that has a filter with these rules already. Both
    /// together allow what `narrow` allows, which must be nothing that these rules refuse.
    ///
    /// The second filter looks only for calls about which these rules and `narrow` differ: on its own it
    /// protects from nothing. What both refuse, it answers like the calls around it, so that it is short.
    #[must_use]
    pub fn narrowed_to(&self, narrow: &Self) -> Self {
        let mut rules = self.combine(narrow, |wide, narrow| match wide == narrow {
            true => Answer::Allow,
            false => narrow.clone(),
        });
        if self.others == Answer::Refuse {
            // These rules refuse every call without a rule of its own.
            let refused = rules.calls.iter().filter(|(_, answer)| **answer == Answer::Refuse);
            let mut refused: Vec<u32> = refused.map(|(number, _)| *number).collect();
            refused.retain(|number| !self.refuses(*number) && *number <= NUMBERS);
            for pair in refused.windows(2) {
                let between = pair[0] + 1..pair[1];
                if between.clone().all(|number| self.refuses(number)) {
                    rules.calls.extend(between.map(|number| (number, Answer::Refuse)));
                }
            }
        }
        rules
    }

    fn refuses(&self, number: u32) -> bool {
        *self.answer(number) == Answer::Refuse
    }

    /// Makes a new answer to each call from the answers of both rules.
    fn combine(&self, other: &Self, answer: impl Fn(&Answer, &Answer) -> Answer) -> Self {
        let numbers: BTreeSet<u32> = self.calls.keys().chain(other.calls.keys()).copied().collect();
        let combined = |number| answer(self.answer(number), other.answer(number));
        Self {
            calls: numbers.into_iter().map(|number| (number, combined(number))).collect(),
            others: answer(&self.others, &other.others),
        }
    }

    /// The answer to the call with this number.
    #[must_use]
    pub fn answer(&self, number: u32) -> &Answer {
        self.calls.get(&number).unwrap_or(&self.others)
    }

    /// Compiles the filter. It ends a process that makes a call of another architecture, as a 64-bit
    /// process can make one of a 32-bit process: there, the numbers mean other calls.
    ///
    /// # Errors
    ///
    /// On a processor whose system calls we do not know.
    pub fn compile(&self) -> io::Result<BpfProgram> {
        let architecture = audit_architecture()?;
        let mut program = Program::default();
        let ranges = self.ranges();
        let last = ranges.last().map_or(0, |(first, _)| *first);
        let tree = program.search(&ranges, last.max(NUMBERS));
        // A call of this architecture skips the instruction that ends the process.
        let native = program.load(offset_of!(seccomp_data, nr), tree);
        let foreign = program.give(libc::SECCOMP_RET_KILL_PROCESS);
        let check = program.branch(BPF_JEQ, architecture, native, foreign);
        program.load(offset_of!(seccomp_data, arch), check);
        program.reversed.reverse();
        Ok(program.reversed)
    }

    /// All numbers, as ranges that get the same answer: where each begins, in order.
    fn ranges(&self) -> Vec<Range<'_>> {
        let mut ranges = vec![(0, &self.others)];
        for (&number, answer) in &self.calls {
            begin(&mut ranges, (number, answer));
            if let Some(next) = number.checked_add(1) {
                begin(&mut ranges, (next, &self.others));
            }
        }
        ranges
    }
}

/// More than there are system calls, and not many more.
const NUMBERS: u32 = 512;

/// The first number of a range, and what all its numbers get.
type Range<'a> = (u32, &'a Answer);

/// Lets the last range end, and begins a new one, unless both get the same answer.
fn begin<'a>(ranges: &mut Vec<Range<'a>>, range: Range<'a>) {
    ranges.pop_if(|(first, _)| *first == range.0); // it has no numbers
    if ranges.last().is_none_or(|(_, answer)| *answer != range.1) {
        ranges.push(range);
    }
}

impl Answer {
    /// Allows what either of them allows.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Allow, _) | (_, Self::Allow) => Self::Allow,
            (Self::Refuse, answer) | (answer, Self::Refuse) => answer,
            (Self::AllowIf(mut conditions), Self::AllowIf(others)) => {
                for condition in others {
                    if !conditions.contains(&condition) {
                        conditions.push(condition);
                    }
                }
                Self::AllowIf(conditions)
            }
        }
    }
}

/// A program that is written from its end to its beginning.
#[derive(Default)]
struct Program {
    /// The last instruction comes first.
    reversed: Vec<sock_filter>,
    /// The answers that are in it.
    answers: Vec<(Answer, Label)>,
}

/// An instruction of a [`Program`], as the number of instructions after it.
type Label = usize;

impl Program {
    /// Writes instructions that find the range of the loaded number, and give its answer. The last range
    /// ends before `end`, as far as there are system calls.
    fn search(&mut self, ranges: &[Range<'_>], end: u32) -> Label {
        match *ranges {
            [(_, answer)] => self.answer(answer),
            [(_, low), (number, answer), (next, high)] if low == high && number + 1 == next => {
                let (equal, other) = (self.answer(answer), self.answer(low));
                self.branch(BPF_JEQ, number, equal, other)
            }
            _ => {
                // Halves the numbers and not the ranges, as the kernel tries each number once.
                let middle = ranges[0].0.midpoint(end);
                let cuts = 1..ranges.len();
                let cut = cuts.min_by_key(|&cut| ranges[cut].0.abs_diff(middle)).unwrap_or(1);
                let (low, high) = ranges.split_at(cut);
                let first = high[0].0;
                let (high, low) = (self.search(high, end), self.search(low, first));
                self.branch(BPF_JGE, first, high, low)
            }
        }
    }

    /// Writes instructions that give this answer, unless they are there already.
    fn answer(&mut self, answer: &Answer) -> Label {
        if let Some((_, label)) = self.answers.iter().find(|(known, _)| known == answer) {
            return *label;
        }
        let label = match answer {
            Answer::Allow => self.give(libc::SECCOMP_RET_ALLOW),
            Answer::Refuse => self.give(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
            Answer::AllowIf(conditions) => self.check(conditions),
        };
        self.answers.push((answer.clone(), label));
        label
    }

    /// Writes instructions that allow the call if one of these conditions is true.
    fn check(&mut self, conditions: &[Condition]) -> Label {
        let allow = self.answer(&Answer::Allow);
        let mut otherwise = self.answer(&Answer::Refuse);
        for Condition { argument, test } in conditions.iter().rev() {
            let branch = match *test {
                Test::Is(number) => self.branch(BPF_JEQ, number, allow, otherwise),
                Test::HasNone(bits) => self.branch(BPF_JSET, bits, otherwise, allow),
            };
            // Both halves are in memory as this processor has them: the low one first.
            let offset = offset_of!(seccomp_data, args) + 8 * usize::from(*argument);
            otherwise = self.load(offset, branch);
        }
        otherwise
    }

    /// Writes an instruction that ends the program: what the kernel does with the call.
    fn give(&mut self, action: u32) -> Label {
        self.write(BPF_RET | BPF_K, action, 0, 0)
    }

    /// Writes an instruction that loads a word of the [`seccomp_data`], and goes on at `next`.
    fn load(&mut self, offset: usize, next: Label) -> Label {
        if next != self.newest() {
            self.jump(next);
        }
        self.write(BPF_LD | BPF_W | BPF_ABS, offset as u32, 0, 0)
    }

    /// Writes an instruction that compares the loaded word with `k`, and goes on at one of two others.
    fn branch(&mut self, comparison: u32, k: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.within_reach(yes), self.within_reach(no));
        let distance = |label| (self.newest() - label) as u8;
        let (yes, no) = (distance(yes), distance(no));
        self.write(BPF_JMP | comparison | BPF_K, k, yes, no)
    }

    /// Returns this label, if a branch that is written now can jump there. Otherwise writes a jump without
    /// a condition, which has no limit.
    fn within_reach(&mut self, label: Label) -> Label {
        // One less than a branch can skip, as the jump of its other side may come between.
        const REACH: usize = u8::MAX as usize - 1;
        if self.newest() - label <= REACH { label } else { self.jump(label) }
    }

    /// Writes an instruction that goes on at `label`.
    fn jump(&mut self, label: Label) -> Label {
        self.write(BPF_JMP | BPF_JA, (self.newest() - label) as u32, 0, 0)
    }

    /// The label of the instruction that was written last. One that is written now goes on there, if it
    /// skips no instruction.
    fn newest(&self) -> Label {
        self.reversed.len() - 1
    }

    fn write(&mut self, code: u32, k: u32, jt: u8, jf: u8) -> Label {
        self.reversed.push(sock_filter { code: code as u16, jt, jf, k });
        self.newest()
    }
}

/// The kernel's number of this processor's system calls, `AUDIT_ARCH_*` in linux/audit.h.
fn audit_architecture() -> io::Result<u32> {
    const SIXTY_FOUR_BITS: u32 = 0x8000_0000;
    const LITTLE_ENDIAN: u32 = 0x4000_0000;
    let machine = match ARCH {
        "x86_64" => libc::EM_X86_64,
        "aarch64" => libc::EM_AARCH64,
        "riscv64" => libc::EM_RISCV,
        other => {
            return Err(io::Error::other(format!(
                "cannot compile the filter of system calls: Invalid target arch: {other}."
            )));
        }
    };
    Ok(u32::from(machine) | SIXTY_FOUR_BITS | LITTLE_ENDIAN)
}
