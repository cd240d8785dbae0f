//! The filter of system calls, without a kernel: a small interpreter runs it, and the filter that another
//! compiler, seccompiler, makes of the same rules. Both must give the same answer to every call.

use std::collections::BTreeSet;
use std::env::consts::ARCH;

use clap::ValueEnum;
use echo_server::Model;
use echo_server::filter_tree::{Answer, Condition, Rules, Test};
use echo_server::seccomp;
use libc::c_long;
use proptest::prelude::any;
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::{Config, TestRunner};
use proptest::{collection, prop_oneof};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// A system call, as a filter sees it.
#[derive(Clone, Copy, Debug)]
struct Call {
    architecture: u32,
    number: u32,
    args: [u64; 6],
}

impl Call {
    /// The word at this offset of struct seccomp_data, on a little-endian processor. The instruction pointer
    /// is at 8.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            8 | 12 => 0,
            16..64 if offset.is_multiple_of(4) => {
                let (arg, half) = ((offset - 16) / 8, (offset - 16) % 8);
                (self.args[arg as usize] >> (half * 8)) as u32
            }
            _ => panic!("the kernel refuses a load from {offset}"),
        }
    }
}

/// Runs a filter as the kernel would. Returns its answer, and how many instructions that took. Panics at an
/// instruction that this interpreter does not know.
fn run(program: &BpfProgram, call: &Call) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    loop {
        let it = program.get(at).expect("a program must not end without an answer");
        let jump = |yes: bool| usize::from(if yes { it.jt } else { it.jf });
        steps += 1;
        at += 1;
        match it.code {
            0x20 => accumulator = call.word(it.k), // BPF_LD | BPF_W | BPF_ABS
            0x54 => accumulator &= it.k,           // BPF_ALU | BPF_AND | BPF_K
            0x05 => at += it.k as usize,           // BPF_JMP | BPF_JA
            0x15 => at += jump(accumulator == it.k), // BPF_JMP | BPF_JEQ | BPF_K
            0x25 => at += jump(accumulator > it.k), // BPF_JMP | BPF_JGT | BPF_K
            0x35 => at += jump(accumulator >= it.k), // BPF_JMP | BPF_JGE | BPF_K
            0x45 => at += jump(accumulator & it.k != 0), // BPF_JMP | BPF_JSET | BPF_K
            0x06 => return (it.k, steps),          // BPF_RET | BPF_K
            code => panic!("unknown instruction {code:#x} at {}", at - 1),
        }
    }
}

/// What seccompiler makes of the same rules. They must refuse all calls but some below 2048.
fn by_seccompiler(rules: &Rules) -> BpfProgram {
    let chain = |number| match rules.answer(number) {
        Answer::Refuse => None,
        Answer::Allow => Some(Vec::new()),
        Answer::AllowIf(conditions) => Some(conditions.iter().map(rule).collect()),
    };
    let chains = (0..2048).filter_map(|number| Some((i64::from(number), chain(number)?)));
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let architecture = ARCH.try_into().unwrap();
    let filter =
        SeccompFilter::new(chains.collect(), refuse, SeccompAction::Allow, architecture).unwrap();
    filter.try_into().unwrap()
}

fn rule(condition: &Condition) -> SeccompRule {
    let (operator, value) = match condition.test {
        Test::Is(number) => (SeccompCmpOp::Eq, number),
        Test::HasNone(bits) => (SeccompCmpOp::MaskedEq(bits.into()), 0),
    };
    let length = SeccompCmpArgLen::Dword;
    let condition = SeccompCondition::new(condition.argument, length, operator, value.into());
    SeccompRule::new(vec![condition.unwrap()]).unwrap()
}

/// AUDIT_ARCH_* of linux/audit.h.
const X86_64: u32 = 0xc000_003e;
const AARCH64: u32 = 0xc000_00b7;
const RISCV64: u32 = 0xc000_00f3;

fn native() -> u32 {
    match ARCH {
        "x86_64" => X86_64,
        "aarch64" => AARCH64,
        "riscv64" => RISCV64,
        other => panic!("the filter has no processor of the name {other}"),
    }
}

/// Those of all processors of today, and numbers that are close to them.
fn architectures() -> Vec<u32> {
    // 32-bit: i386, ARM, MIPS, PowerPC, S390, SPARC, RISC-V. 64-bit: MIPS, PowerPC, S390, Alpha, LoongArch.
    let machines = [3, 40, 8, 20, 22, 2, 243, 21, 0x9026, 258, 62, 183];
    let flags = [0, 0x4000_0000, 0x8000_0000, 0xc000_0000, 0xe000_0000];
    let all = machines.iter().flat_map(|machine| flags.map(|flags| machine | flags));
    let others = [0, 1, u32::MAX, native() - 1, native() + 1, native().swap_bytes()];
    all.chain(others).collect()
}

/// All numbers of today and of many years, those of x32 (with bit 30), and the limits of their type.
fn numbers() -> Vec<u32> {
    let limits = [0x3fff_ffff, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
    (0..2048).chain((0..2048).map(|number| number | 0x4000_0000)).chain(limits).collect()
}

/// The values of arguments at which a condition may become true or false, with high halves that must not
/// matter.
fn values(conditions: &[Condition]) -> BTreeSet<u64> {
    let of_condition = conditions.iter().flat_map(|condition| {
        let (Test::Is(it) | Test::HasNone(it)) = condition.test;
        [it, it.wrapping_sub(1), it.wrapping_add(1), !it, it << 1, it >> 1]
    });
    let protections = 0..8;
    let requests = 0..16;
    let limits = [0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
    let low = of_condition.chain(protections).chain(requests).chain(limits);
    let high = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    low.flat_map(|low| high.map(|high| u64::from(high) << 32 | u64::from(low))).collect()
}

/// All calls that may tell two filters apart, one of which has these rules.
fn calls(rules: &Rules) -> Vec<Call> {
    let mut calls = Vec::new();
    for number in numbers() {
        let mut add = |args| calls.push(Call { architecture: native(), number, args });
        add([0; 6]);
        add([u64::MAX; 6]);
        if let Answer::AllowIf(conditions) = rules.answer(number) {
            for value in values(conditions) {
                add([value; 6]);
                for argument in 0..6 {
                    for others in [0, u64::MAX] {
                        let mut args = [others; 6];
                        args[argument] = value;
                        add(args);
                    }
                }
            }
        }
    }
    for architecture in architectures() {
        for number in [0, 1, 9, 60, 231, 1023, 0x4000_0000, u32::MAX] {
            calls.push(Call { architecture, number, args: [0; 6] });
        }
    }
    calls
}

fn in_every_models_filter(test: impl Fn(Model, &Rules)) {
    for &model in Model::value_variants() {
        test(model, &seccomp::of_workers(model));
    }
}

#[test]
fn the_tree_answers_as_another_compilers_list() {
    in_every_models_filter(|model, rules| {
        let (tree, list) = (rules.compile().unwrap(), by_seccompiler(rules));
        for call in calls(rules) {
            let (answer, expected) = (run(&tree, &call).0, run(&list, &call).0);
            assert_eq!(answer, expected, "{model}: {call:?}");
        }
    });
}

/// The control of the test above: it finds a single call, a single value of an argument.
#[test]
fn rules_that_differ_are_found() {
    let differ = |one: &Rules, other: &Rules| {
        let (tree, list) = (one.compile().unwrap(), by_seccompiler(other));
        let calls = calls(one).into_iter().chain(calls(other));
        calls.filter(|call| run(&tree, call).0 != run(&list, call).0).count() > 0
    };
    let condition = |argument, test| Answer::AllowIf(vec![Condition { argument, test }]);
    in_every_models_filter(|_, rules| {
        assert!(differ(&rules.clone().and(libc::SYS_execve, Answer::Allow), rules));
        assert!(differ(rules, &rules.clone().and(1023, Answer::Allow)));
        let is_7 = rules.clone().and(500, condition(5, Test::Is(7)));
        assert!(!differ(&is_7, &is_7));
        for test in [Test::Is(6), Test::Is(8), Test::HasNone(!7)] {
            assert!(differ(&is_7, &rules.clone().and(500, condition(5, test))), "{test:?}");
        }
        assert!(differ(&is_7, &rules.clone().and(500, condition(4, Test::Is(7)))));
    });
}

/// The kernel runs it for each number when it is installed: that is why it is a tree.
#[test]
fn the_tree_is_short_for_every_number() {
    in_every_models_filter(|model, rules| {
        let (tree, list) = (rules.compile().unwrap(), by_seccompiler(rules));
        let steps = |program, number| {
            let call = Call { architecture: native(), number, args: [0; 6] };
            run(program, &call).1
        };
        let of_all = |program| (0..470).map(|number| steps(program, number)).sum::<usize>();
        let (all, all_of_list) = (of_all(&tree), of_all(&list));
        println!(
            "{model}: {} instructions, of the list {}; run for 470 numbers: {all}, of the list {all_of_list}",
            tree.len(),
            list.len(),
        );
        let longest = numbers().into_iter().map(|number| steps(&tree, number)).max();
        assert!(longest <= Some(16), "{model}: {longest:?}");
        assert!(all * 3 < all_of_list, "{model}");
    });
}

/// The kernel applies the strictest answer, which is the lowest as a signed number.
fn run_both(first: &BpfProgram, second: &BpfProgram, call: &Call) -> u32 {
    let answers = [first, second].map(|program| run(program, call).0.cast_signed());
    answers.into_iter().min().unwrap().cast_unsigned()
}

/// Asserts that a filter of `wide` and one that narrows it answer as one of `narrow`.
fn assert_narrowed(wide: &Rules, narrow: &Rules) {
    let (first, expected) = (wide.compile().unwrap(), narrow.compile().unwrap());
    let second = wide.narrowed_to(narrow).compile().unwrap();
    assert!(second.len() <= expected.len(), "{} > {}", second.len(), expected.len());
    for call in calls(wide).into_iter().chain(calls(narrow)) {
        assert_eq!(run_both(&first, &second, &call), run(&expected, &call).0, "{call:?}");
    }
}

#[test]
fn a_second_filter_takes_back_what_the_first_allowed_too_much() {
    let makes_processes = Rules::allow(&[
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_wait4,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_mmap,
        libc::SYS_fcntl,
    ]);
    in_every_models_filter(|_, narrow| {
        assert_narrowed(&narrow.union(&makes_processes), narrow);
        for &wider in Model::value_variants() {
            assert_narrowed(&narrow.union(&seccomp::of_workers(wider)), narrow);
        }
    });
}

/// Both filters of a worker of `template` answer as the one of a forked worker.
#[test]
fn the_filters_of_a_template_and_its_copy_are_that_of_fork() {
    let (template, fork) = (seccomp::of_workers(Model::Template), seccomp::of_copies());
    assert_eq!(fork, seccomp::of_workers(Model::Fork));
    assert_narrowed(&template, &fork);
    for call in [libc::SYS_clone3, libc::SYS_accept4, libc::SYS_seccomp, libc::SYS_prctl] {
        let number = u32::try_from(call).unwrap();
        assert_eq!(template.answer(number), &Answer::Allow, "a template needs {call}");
        assert_eq!(fork.answer(number), &Answer::Refuse, "a worker does not need {call}");
    }
}

/// Asserts that both compilers' filters answer alike at each number near one that has a rule.
fn assert_same(rules: &Rules, with_rules: &[u32], values: &[u64]) {
    let (tree, list) = (rules.compile().unwrap(), by_seccompiler(rules));
    for number in with_rules.iter().flat_map(|&number| [number.wrapping_sub(1), number, number + 1])
    {
        for args in values.iter().flat_map(|&a| values.iter().map(move |&b| [a, b, a, b, a, b])) {
            let call = Call { architecture: native(), number, args };
            assert_eq!(run(&tree, &call).0, run(&list, &call).0, "{call:?}");
        }
    }
}

/// Some of its branches are further from the answers than a conditional jump can go.
#[test]
fn a_large_filter_answers_as_another_compilers_list() {
    let mut rules = Rules::allow(&(0..300).map(|number| number * 4).collect::<Vec<_>>());
    for number in 0..60 {
        let tests = [(3, Test::HasNone(number)), (1, Test::Is(number))];
        let conditions = tests.map(|(argument, test)| Condition { argument, test });
        rules = rules.and(c_long::from(number) * 4 + 2, Answer::AllowIf(conditions.to_vec()));
    }
    assert!(rules.compile().unwrap().len() > 512);
    let numbers: Vec<_> = (0..1200).collect();
    assert_same(&rules, &numbers, &[0, 59, u64::MAX]);
}

#[test]
fn any_filter_answers_as_another_compilers_list() {
    let word = || prop_oneof![0..4_u32, any::<u32>()];
    let test = prop_oneof![word().prop_map(Test::Is), word().prop_map(Test::HasNone)];
    let condition = (0..6_u8, test).prop_map(|(argument, test)| Condition { argument, test });
    let answer = prop_oneof![
        3 => Just(Answer::Allow),
        1 => collection::vec(condition, 1..4).prop_map(Answer::AllowIf),
    ];
    let answers = collection::btree_map(0..600_u32, answer, 0..60);
    let values = collection::vec(prop_oneof![0..5_u64, any::<u64>()], 3);
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&(answers, values), |(answers, values)| {
        let rules = answers.iter().fold(Rules::allow(&[]), |rules, (&number, answer)| {
            rules.and(number.into(), answer.clone())
        });
        assert_same(&rules, &answers.keys().copied().collect::<Vec<_>>(), &values);
        Ok(())
    });
    run.unwrap();
}
