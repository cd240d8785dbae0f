//! The ledger: every claim, once. What the chapter states, whether that is right, what holds instead or
//! more exactly, and the code to read. The scenarios name the claims that they show.

use crate::model::bilingual::{Text, text};
use serde::Serialize;

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

pub(crate) struct Claim {
    /// C1, C2, … are the chapter's, in its order; X1, X2, … go beyond it.
    pub(crate) id: &'static str,
    /// What the chapter says, in our own words.
    pub(crate) chapter: Option<Statement>,
    /// What holds on this machine, if the scenarios that show it succeed.
    pub(crate) here: Text,
    /// What to read: "path: function".
    pub(crate) code: &'static [&'static str],
}

impl Claim {
    /// Whether it has this number, or this word in its texts.
    pub(crate) fn is_about(&self, word: &str) -> bool {
        let says = self.chapter.as_ref().is_some_and(|statement| statement.says.contains(word));
        self.id.eq_ignore_ascii_case(word) || says || self.here.contains(word)
    }

    /// Whether the chapter is right, if it says anything of this.
    pub(crate) fn ruling(&self) -> Option<Ruling> {
        self.chapter.as_ref().map(|statement| statement.ruling)
    }

    pub(crate) fn is_wrong(&self) -> bool {
        self.ruling() == Some(Ruling::Wrong)
    }
}

pub(crate) struct Statement {
    pub(crate) says: Text,
    pub(crate) ruling: Ruling,
}

/// The claim with this number.
pub(crate) fn find(id: &str) -> Option<&'static Claim> {
    ALL.iter().find(|claim| claim.id == id).copied()
}

/// Makes a constant for each claim, and `ALL` of them. A claim of the chapter is its number, its ruling,
/// what the chapter says, what holds here, and the code to read; one beyond it has no ruling, and nothing
/// that the chapter says.
macro_rules! ledger {
    ($($id:ident $($ruling:ident $says:literal / $says_zh:literal)?
        => $here:literal / $here_zh:literal [$($code:literal),*])*) => {
        $(pub(crate) const $id: &Claim = &Claim {
            id: stringify!($id),
            chapter: ledger!(@chapter $($ruling $says $says_zh)?),
            here: text($here, $here_zh),
            code: &[$($code),*],
        };)*
        pub(crate) const ALL: &[&Claim] = &[$($id),*];
    };
    (@chapter) => { None };
    (@chapter $ruling:ident $says:literal $says_zh:literal) => {
        Some(Statement { says: text($says, $says_zh), ruling: Ruling::$ruling })
    };
}

ledger! {
    C1 Right
        "A server that serves all of its clients at once satisfies them better on average, as most \
         of the time goes into the network and not into computing."
        / "同时为所有客户端服务的服务器，平均满意度更高，因为大部分时间花在网络上，而不是计算上。"
        => "a process for each client serves all of them at once, and none is left afterwards"
        / "每个客户端一个进程，就能同时为所有客户端服务；结束后一个进程也不留"
        ["echo-server/examples/echo-mpserv.rs: serve",
         "echo-server/src/server/accept_loop.rs: start"]
    C2 Imprecise
        "There are three models of such servers: many processes, multiplexing, and as many threads \
         as clients."
        / "这样的服务器有三种模型：多进程、多路复用，以及与客户端等量的线程。"
        => "there are more than the three models: a pool of 4 processes serves 20 clients, each in \
         its turn"
        / "不止三种：由 4 个进程组成的进程池轮流为 20 个客户端服务"
        ["echo-server/src/worker/prefork.rs: serve", "echo-server/src/run.rs: choose_dispatch"]
    C3 Right
        "The language hides processes and threads, and offers no plain fork."
        / "语言屏蔽了进程和线程，没有提供单纯的 fork。"
        => "in Go, by its documentation, there is none; here there is one: two processes go on \
         from it, and with a second thread it is refused"
        / "Go 的文档里确实没有；这里有一个：fork 之后两个进程各自往下走，但只要有第二个线程，它\
          就拒绝执行"
        ["reexec/examples/plain-fork.rs: parent", "reexec/src/fork.rs: fork"]
    C4 Right
        "A raw fork in a program with several threads ends in chaos."
        / "在多线程程序里直接调用 fork，会出现各种错乱。"
        => "the copy has only the thread that forked; the lock of the other thread stays locked \
         there, because no thread is left to unlock it"
        / "副本里只有调用 fork 的那个线程；另一个线程持有的锁在副本里永远锁着，因为再也没有谁能\
          解开它"
        ["reexec/examples/fork-with-threads.rs: lock_and_look",
         "reexec/src/threads.rs: require_one"]
    C5 Imprecise
        "A process can be started in three ways only: ForkExec, StartProcess and exec.Cmd."
        / "启动进程只有三种办法：ForkExec、StartProcess 和 exec.Cmd。"
        => "three layers over one mechanism: a clone that borrows its parent's memory, and execve; \
         if something must be done before execve, the clone becomes a fork"
        / "三层封装，底下是同一个机制：借用父进程内存的 clone，加上 execve；如果在 execve 之前还\
          要做别的事，就换成 fork"
        ["reexec/examples/system-calls.rs: start", "reexec/src/spawn.rs: spawn"]
    C6 Right
        "With those, a program cannot branch on the return value of fork, as it does in C."
        / "用这三种办法，程序不能像 C 那样根据 fork 的返回值分成两路。"
        => "a forked child goes on where its parent was, and sees the changed variable; an \
         executed child begins anew, and does not see the change"
        / "fork 出来的子进程从父进程所在的地方继续，能看到改过的变量；用 exec 执行的程序从头开始，\
          看不到"
        ["reexec/examples/plain-fork.rs: parent"]
    C7 Right
        "A command can be used once: not again after Run, Output or CombinedOutput."
        / "一个命令只能用一次：Run、Output 或 CombinedOutput 之后不能再用。"
        => "in Go, by its documentation, a Cmd can be used once; here, in Rust, a Command is a \
         description, and starts one process after another"
        / "按 Go 的文档，Cmd 只能用一次；在 Rust 里，Command 只是一份描述，可以一次又一次地启动\
          进程"
        ["exec-cmd/examples/reuse.rs: start", "reexec/src/spawn.rs: spawn"]
    C8 Right
        "The path is all that a command must have; if it is relative, it counts from the command's \
         working directory."
        / "命令唯一必填的是路径；相对路径以命令的工作目录为准。"
        => "./program is the file of that name in the command's directory, not in ours: here, on \
         Linux; Rust's documentation leaves it open"
        / "在 Linux 上，./program 指命令工作目录里的那个文件，不是我们自己目录里的；Rust 的文档\
          没有规定这一点"
        ["exec-cmd/examples/path-and-args.rs: start"]
    C9 Right
        "The first argument is the command; without arguments, that is its path."
        / "第一个参数就是命令；没有参数时，它就是路径。"
        => "without arguments, the first argument is the path; but it is free text, and does not \
         decide which file is executed"
        / "没有设置参数时，第一个参数就是路径；但它可以随便写，真正执行哪个文件是另一回事"
        ["exec-cmd/examples/path-and-args.rs: start"]
    C10 Right
        "A command for which no environment or directory is set has those of its parent."
        / "没有设置环境变量或目录的命令，沿用父进程的。"
        => "a command has its parent's environment and directory"
        / "命令沿用父进程的环境变量和工作目录"
        ["exec-cmd/examples/inherited.rs: parent"]
    C11 Right
        "A command for which no stdin is set reads from the null device."
        / "没有设置 stdin 的命令，从空设备读取。"
        => "in Go, by its documentation, it has the null device as stdin; here, in Rust, only by \
         output(), else it has its parent's"
        / "按 Go 的文档，stdin 是空设备；在 Rust 里只有 output() 如此，其他情况沿用父进程的 \
          stdin"
        ["exec-cmd/examples/inherited.rs: parent", "exec-cmd/src/main.rs: run"]
    C12 Right
        "If a stream of the command is no file, a goroutine copies it, and Wait waits for that, \
         too."
        / "如果命令的某个流不是文件，会有一个 goroutine 负责复制数据，Wait 也要等它。"
        => "in Go, by its documentation, Wait waits for both; here the status is there at once, \
         but the output has no end as long as anybody has the pipe"
        / "按 Go 的文档，Wait 两样都等；在这里，状态马上就能拿到，但只要还有进程持有管道，输出就\
          没有结尾"
        ["exec-cmd/examples/grandchild-holds-pipe.rs: parent"]
    C13 Right
        "Without stdout and stderr, a command writes to the null device; if both are the same \
         writer, one goroutine at a time writes to it."
        / "没有设置 stdout 和 stderr 的命令，写到空设备；两者相同时，同一时间只有一个 goroutine \
          写入。"
        => "in Go, by its documentation, it has the null device as stdout and stderr; here, in \
         Rust, it has its parent's, and by output() a pipe for each"
        / "按 Go 的文档，stdout 和 stderr 是空设备；在 Rust 里沿用父进程的，用 output() 时则各有\
          一个管道"
        ["exec-cmd/examples/inherited.rs: parent", "exec-cmd/src/main.rs: combined"]
    C14 Right
        "Files beyond the three streams arrive in the command as descriptors 3, 4 and so on."
        / "除了三个标准流，其他文件在命令里是描述符 3、4，依此类推。"
        => "the file is descriptor 3, and there are no others, though its parent has more; in Rust \
         the program must arrange that, because exec closes descriptors"
        / "那个文件是描述符 3；父进程还有别的描述符，但命令里没有：exec 会关闭它们，所以在 Rust \
          里要专门传递"
        ["reexec/examples/extra-descriptors.rs: become_cat",
         "reexec/src/inherited.rs: inherited_fd"]
    C15 Right
        "A started process is there once, and its state is known only after Wait."
        / "启动的进程只有一个，它的状态要在 Wait 之后才知道。"
        => "before the end there is no status; afterwards it distinguishes exit codes from \
         signals, has the lowest 8 bits of a code, and can be asked for again"
        / "结束之前没有状态；结束之后能区分退出码和信号，退出码只有低 8 位，并且可以反复查询"
        ["exec-cmd/examples/status.rs: parent"]
    C16 Right
        "A command is run in three ways: without its output, with both streams in one, and with \
         each apart."
        / "执行命令有三种情况：不要输出、两个流合在一起、两个流分开。"
        => "three ways: nothing arrives; or the lines in the order of writing, as both streams \
         share a pipe; or each stream by itself"
        / "三种办法：什么也收不到；两个流共用一个管道，各行按写入的先后到达；每个流各走各的"
        ["exec-cmd/src/main.rs: run",
         "exec-cmd/src/main.rs: combined",
         "exec-cmd/src/main.rs: separate"]
    C17 Wrong
        "The third example lists the files of /var/log whose names end with .log."
        / "第三个例子列出 /var/log 里名字以 .log 结尾的文件。"
        => "no shell expands the *: the command gets it as it is, fails with exit status 2, and \
         says so on stderr"
        / "没有 shell 来展开 *：命令原样收到它，以退出码 2 失败，并在 stderr 上说明原因"
        ["exec-cmd/src/main.rs: separate"]
    C18 Right
        "exec.Cmd by itself cannot run a function of one's choice in a new process."
        / "exec.Cmd 本身不能在新进程里运行指定的函数。"
        => "a function's name is no program; but a program that executes itself again can choose \
         the function"
        / "函数名不是程序；把程序自己再执行一次，就能在里面选择函数"
        ["reexec/examples/failing-child.rs: parent", "reexec/src/entry.rs: register"]
    C19 Right
        "init functions run before main, in the parent and in the child."
        / "init 函数在 main 之前运行，父进程和子进程都是如此。"
        => "init comes before main, in both processes"
        / "在两个进程里，init 都先于 main"
        ["reexec/examples/fork.rs: init"]
    C20 Right
        "At the first start, argv[0] is the program; in the child, the name that was registered."
        / "第一次启动时 argv[0] 是程序；在子进程里，它是注册过的名字。"
        => "argv[0] is the program in the first start, the entry's name in the child"
        / "第一次启动时 argv[0] 是程序，在子进程里是注册项的名字"
        ["reexec/examples/fork.rs: parent"]
    C21 Imprecise
        "Init returns true in the child, which then exits with 0: the effect is that of fork and \
         another function."
        / "Init 在子进程里返回 true，随后以 0 退出：效果等于 fork 之后执行另一个函数。"
        => "the child is a new program, not a fork; it exits with the function's result, because a \
         child that always exits with 0, as in the chapter, hides its failures"
        / "它是一个新的程序，不是 fork；退出码由函数决定。若像原章那样总以 0 退出，就没人知道函\
          数失败了"
        ["reexec/examples/failing-child.rs: main", "reexec/src/entry.rs: init"]
    C22 Right
        "The lines come in the order init, main, init of the child, child, exit."
        / "各行的顺序是 init、main、子进程的 init、子进程、退出。"
        => "the order is init, main, init of the child, the child, exit, for the parent waits"
        / "顺序是 init、main、子进程的 init、子进程、退出，因为父进程在等待"
        ["reexec/examples/fork.rs: parent"]
    C23 Imprecise
        "The program finds its own file again, by the path that it was started with."
        / "程序用启动时的路径就能再次找到自己的文件。"
        => "the path leads nowhere once the file is renamed, the name once it is deleted; the \
         kernel's link /proc/self/exe still leads to it"
        / "文件改名之后，路径就失效了；删除之后，名字也失效了；内核的链接 /proc/self/exe 仍然指\
          向它"
        ["reexec/examples/self-exe.rs: copy", "reexec/src/program.rs: self_exe"]
    C24 Right
        "A process that has ended, and that its parent has not waited for, is a zombie."
        / "进程已经结束，而父进程还没有等待它，它就是僵尸进程。"
        => "a process that has ended and is not reaped is a zombie"
        / "已经结束、还没有被回收的进程是僵尸进程"
        ["zombie/src/main.rs: parent"]
    C25 Imprecise
        "Zombies take up important resources of the system."
        / "僵尸进程占用系统中的重要资源。"
        => "a zombie has no memory and no files any more; but it counts as a process of its user: \
         with a limit of 6 and 5 zombies no other can be started, until they are waited for"
        / "僵尸进程不再占内存，也没有打开的文件；但它算作其用户的一个进程：上限为 6 时，有 5 个\
          僵尸就再也启动不了别的进程，直到它们被回收"
        ["zombie/examples/resources.rs: fill_up"]
    C26 Right
        "A process ends by a call of exit, by a fatal error, or by a signal that kills it."
        / "进程的结束有三种原因：调用 exit、致命错误、被信号杀死。"
        => "after an exit, a fatal error or a signal that kills, the process is a zombie"
        / "exit、致命错误、致命信号：不管是哪一种，都留下僵尸进程"
        ["zombie/examples/causes.rs: parent"]
    C27 Right
        "Its entry stays so that the parent can read the status, and goes when it is read."
        / "表项保留下来，是为了让父进程读取退出状态；读取之后就消失。"
        => "the status is in the zombie's entry (the last field of /proc/PID/stat); when it has \
         been read, entry and process are gone"
        / "退出状态就在僵尸进程的表项里（/proc/PID/stat 的最后一个字段）；一旦被读取，表项和进程\
          都消失"
        ["zombie/examples/causes.rs: parent", "wait/src/main.rs: parent"]
    C28 Right
        "kill has no effect on a zombie."
        / "kill 对僵尸进程无效。"
        => "SIGKILL to a zombie is accepted, and changes nothing"
        / "发给僵尸进程的 SIGKILL 会被接受，但什么也不改变"
        ["zombie/src/main.rs: parent"]
    C29 Imprecise
        "If the parent ends first, init adopts the child, and waits for it."
        / "如果父进程先结束，init 会收养子进程，并等待它。"
        => "an orphan is adopted by its nearest living ancestor that is a subreaper (here the \
         scenario's own process), not necessarily by init"
        / "收养孤儿进程的是它最近的、还活着的、设为 subreaper 的祖先（这里是场景自己的进程），不\
          一定是 init"
        ["zombie/examples/orphan.rs: parent", "xtask/src/worker/wait.rs: reap"]
    C30 Wrong
        "An orphan runs on, and will not become a zombie."
        / "孤儿进程继续运行，而且不会变成僵尸进程。"
        => "an orphan runs on, and is a zombie from its end until its adopter waits"
        / "孤儿进程继续运行；从它结束到收养者等待它为止，它就是僵尸进程"
        ["zombie/examples/orphan.rs: child_process", "xtask/src/worker/mod.rs: stop_reaping"]
    C31 Imprecise
        "init waits from time to time, and so removes the zombies that it has adopted."
        / "init 周期性地等待，从而清除它收养的僵尸进程。"
        => "an adopter that waits on SIGCHLD reaps a dead orphan at once; an adopter that looks \
         from time to time leaves a zombie until it looks"
        / "如果收养者一收到 SIGCHLD 就等待，孤儿留下的僵尸马上消失；如果它只是隔一段时间看一次，\
          僵尸就留到那时"
        ["zombie/examples/init-waits.rs: adopter",
         "zombie/examples/init-waits.rs: wait_for_all"]
    C32 Right
        "When a child ends, its parent is sent SIGCHLD, which by default is ignored."
        / "子进程结束时，父进程收到 SIGCHLD，默认忽略。"
        => "the kernel sends SIGCHLD when a child ends, and when it is stopped or goes on (unless \
         SA_NOCLDSTOP: the control); by default the signal does nothing, and the status is kept"
        / "子进程结束时会有 SIGCHLD，停止和继续时也有（除非设了 SA_NOCLDSTOP：见对照程序）；默认\
          情况下什么也不发生，退出状态照样保留"
        ["goroutine-wait/examples/sigchld.rs: told", "goroutine-wait/examples/sigchld.rs: by_default"]
    C33 Imprecise
        "Parents usually wait in the handler of that signal."
        / "父进程通常在这个信号的处理程序里等待。"
        => "a parent that waits on SIGCHLD must repeat the wait until no zombie is left: the \
         signals of ten children merge into one, and a single wait leaves nine zombies"
        / "在 SIGCHLD 上等待的父进程必须一直等到没有僵尸为止：十个子进程的信号会合并成一个，只等\
          一次就留下九个僵尸"
        ["goroutine-wait/examples/remove-zombie.rs: remove_zombies"]
    C34 Right
        "If a parent ignores SIGCHLD, or says SA_NOCLDWAIT, its children vanish and their statuses \
         are lost."
        / "如果父进程忽略 SIGCHLD，或者设置了 SA_NOCLDWAIT，子进程就直接消失，退出状态丢失。"
        => "if SIGCHLD is ignored, children leave no zombie and no status, and wait blocks until \
         all have ended, and fails; a zombie from before stays; an executed program ignores \
         SIGCHLD, too"
        / "忽略 SIGCHLD 之后，子进程不留僵尸，也不留状态；wait 阻塞到全部结束，然后失败；之前的\
          僵尸仍然留着；用 exec 执行的程序会继承这种忽略"
        ["goroutine-wait/examples/ignore-sigchld.rs: parent"]
    C35 Right
        "Once a zombie is waited for, its entry and its number can be used again; until then no \
         other process gets the number."
        / "僵尸进程被等待之后，它的表项和进程号才能再用；在此之前，别的进程得不到这个号。"
        => "as long as there is a zombie, its number is skipped; once it has been waited for, \
         another process gets it, with another start time"
        / "只要僵尸还在，它的进程号就会被跳过；被等待之后，另一个进程得到这个号，启动时间则不同"
        ["zombie/examples/pid-reuse.rs: skip_and_use_again"]
    C36 Right
        "ps shows a zombie as Z."
        / "ps 把僵尸进程显示为 Z。"
        => "ps shows it as Z, and as <defunct>"
        / "ps 把它显示为 Z，以及 <defunct>"
        ["xtask/src/probe/ps.rs: snapshot"]
    C37 Wrong
        "A zombie is removed by sending SIGCHLD to its parent by hand."
        / "手工向父进程发送 SIGCHLD，就能清除僵尸进程。"
        => "SIGCHLD sent by hand does nothing if the parent leaves it at default or ignores it; \
         the zombie goes only if the parent waits on SIGCHLD, and installed its handler too late \
         for the first one"
        / "如果父进程对 SIGCHLD 是默认处理或忽略，手工发送什么作用也没有；只有父进程会因它去等待、\
          只是开始得太晚时，僵尸才会消失"
        ["goroutine-wait/examples/late-handler.rs: parent"]
    C38 Right
        "If that does not help, kill the parent: init takes over."
        / "如果还不行，就终止父进程，由 init 接管。"
        => "when the parent is killed, an adopter gets the zombie, which goes when the adopter \
         waits"
        / "终止父进程会把僵尸交给收养者；收养者等待它时，它才消失"
        ["zombie/src/main.rs: parent", "xtask/src/worker/wait.rs: reap"]
    C39 Imprecise
        "The child is a zombie for 30 seconds, as ps au shows; then both vanish."
        / "子进程有 30 秒是僵尸，用 ps au 可以看到；然后两者都消失。"
        => "it stays as long as its parent sleeps, and goes because an adopter reaps it"
        / "父进程睡多久，它就留多久；它消失是因为收养者回收了它"
        ["zombie/src/main.rs: parent", "xtask/src/probe/ps.rs: snapshot"]
    C40 Right
        "Wait blocks until the command has ended: the parent sleeps 5 seconds, the child 10, and \
         the last line comes after 10."
        / "Wait 阻塞到命令结束：父进程睡 5 秒，子进程睡 10 秒，最后一行在 10 秒之后出现。"
        => "wait blocks until the child has ended, and reaps it: the times overlap, the longest \
         counts"
        / "wait 阻塞到子进程结束，并回收它：两段时间重叠，以最长的为准"
        ["wait/src/main.rs: parent"]
    C41 Imprecise
        "To reap without blocking takes a goroutine."
        / "要不阻塞地回收，需要一个 goroutine。"
        => "reaping beside other work takes a thread that blocks in wait (the l in Sl), or no \
         thread: a loop that asks again and again, or a pidfd in poll"
        / "一边干活一边回收，可以用一个阻塞在 wait 里的线程（Sl 里的 l），也可以不用：反复询问，\
          或者在 poll 里等 pidfd"
        ["goroutine-wait/src/main.rs: wait",
         "goroutine-wait/examples/try-wait.rs: parent",
         "goroutine-wait/examples/pidfd.rs: parent"]
    C42 Right
        "After the child's end ps shows nothing of it; and a zombie, if the lines with Wait are \
         taken out."
        / "子进程结束后，ps 里什么也看不到；如果去掉 Wait 那几行，就能看到僵尸进程。"
        => "after the child's end, ps does not list it any more; without the wait, it lists a \
         zombie; and the parents live"
        / "子进程结束后，ps 不再列出它；没有等待，则列出僵尸；两种情况下父进程都还活着"
        ["goroutine-wait/src/main.rs: parent"]
    C43 Imprecise
        "Signals, a concurrent server and split input and output are hard in this language, and \
         are left out."
        / "信号、并发服务器和分割 I/O 在这门语言里不易完成，因此略去。"
        => "signals, which the chapter leaves out as hard, merge, so nothing can be counted by \
         them; a signal that comes just before a wait ends it, if the wait is for signals, too"
        / "原章略去的信号其实是这样：信号会合并，不能用来计数；恰好在等待之前到达的信号，只要等\
          待的对象也包括信号，就能结束这次等待"
        ["goroutine-wait/examples/handler-limits.rs: look_and_wait"]
    C44 Wrong
        "The numbers of processes are integers above 2."
        / "进程号是大于 2 的整数。"
        => "a process can be number 2, and 1: each PID namespace counts its processes from 1, up \
         to pid_max"
        / "进程号可以是 2，也可以是 1：每个 PID 命名空间都从 1 数起，直到 pid_max"
        ["zombie/examples/pid-namespace.rs: enter_namespace"]
    C45 Right
        "fork copies descriptors, with their numbers, but not sockets; a socket goes when all of \
         its descriptors are closed."
        / "fork 复制文件描述符和它的编号，但不复制套接字；所有描述符都关闭时，套接字才消失。"
        => "fork copies the descriptor, with its number, and not the connection, which ends when \
         the last copy is closed"
        / "fork 复制描述符和编号，不复制连接；最后一个副本关闭时，连接才结束"
        ["echo-server/examples/one-close-too-few.rs: serve"]
    C46 Right
        "One close is not enough to end a connection that a forked process also has; shutdown is \
         enough."
        / "如果 fork 出来的进程也有这个连接，关闭一次不足以结束它；shutdown 可以。"
        => "closing one copy does not end the connection; shutting it down for writing does, also \
         if other processes have a copy"
        / "关闭一个副本不会结束连接；关闭写方向（shutdown）会，不管还有谁持有副本"
        ["echo-server/examples/one-close-too-few.rs: child_process"]
    C47 Right
        "A loop that asks with WNOHANG and sleeps 3 seconds runs five times for a child of 15."
        / "用 WNOHANG 询问、每次睡 3 秒的循环，对一个 15 秒的子进程要跑五次。"
        => "the loop runs five times (six, if the child's end is a moment late for the fifth \
         question), for nothing; a pidfd in poll tells once, at once (the control)"
        / "循环跑五次（如果第五次询问时子进程恰好还没结束，就是六次），都是白跑；在 poll 里等 \
          pidfd，只通知一次，而且立刻通知（对照程序）"
        ["goroutine-wait/examples/try-wait.rs: parent"]
    C48 Right
        "A signal ends a sleep early, and it is not resumed."
        / "信号会提前结束睡眠，睡眠不会继续。"
        => "a handled signal ends sleep(3) early, and the sleep is not resumed; Rust's \
         thread::sleep is resumed (the control)"
        / "被处理的信号提前结束 sleep(3)，睡眠不会继续；Rust 标准库的 thread::sleep 则会继续（对\
          照程序）"
        ["goroutine-wait/examples/signal.rs: three_sleeps"]
    C49 Right
        "A client that splits input and output over two processes can send without waiting for the \
         answer."
        / "把收发分到两个进程的客户端，不必等收到的数据就能继续发送。"
        => "a client whose sending and receiving are two processes need not wait for the answer \
         before it goes on sending: 64 MiB come back"
        / "收、发各用一个进程的客户端，不等应答也能一直发：64 MiB 全部回来"
        ["echo-server/src/bin/echo-client/split.rs: run"]
    X1 => "a stopped parent reaps nothing: its child is a zombie until the parent goes on, also if \
         the parent is in wait"
        / "被暂停的父进程什么也不回收：即使它正在等待，子进程也一直是僵尸，直到父进程继续运行"
        ["wait/src/main.rs: parent"]
    X2 => "an upgrade cuts off no client: the new server serves the next client, and the old server \
         serves its own until they leave; then it ends"
        / "平滑升级不中断任何客户端：新服务器服务下一个客户端，旧服务器服务自己的客户端，直到他们\
          离开，然后结束"
        ["echo-server/src/server/supervisor.rs: begin_upgrade",
         "echo-server/src/ops/upgrade/predecessor.rs: take_over"]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_claims_of_each_series_are_numbered_in_order() {
        let mut last = BTreeMap::new();
        for claim in ALL {
            let (series, number) = claim.id.split_at(1);
            assert_eq!(series == "C", claim.chapter.is_some(), "{}", claim.id);
            let number: u32 = number.parse().unwrap();
            let before = last.insert(series, number).unwrap_or(0);
            assert_eq!(number, before + 1, "{} comes after {series}{before}", claim.id);
            assert!(!claim.code.is_empty(), "{} has no code to read", claim.id);
        }
    }

    /// No program in Go runs here, so nothing about it has been shown.
    #[test]
    fn what_go_does_is_said_to_be_from_its_documentation() {
        for claim in ALL.iter().filter(|claim| claim.here.en.contains("Go")) {
            let (source, shown) = ("in Go, by its documentation, ", "; here");
            let is_so = claim.here.en.starts_with(source) && claim.here.en.contains(shown);
            assert!(is_so, "{}: {}", claim.id, claim.here);
        }
    }

    #[test]
    fn the_code_to_read_exists() {
        for code in ALL.iter().flat_map(|claim| claim.code) {
            let (path, function) = code.split_once(": ").unwrap();
            let text = fs::read_to_string(Path::new("..").join(path));
            let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
            let heads = ["(", "<"].map(|next| format!("fn {function}{next}"));
            assert!(heads.iter().any(|head| text.contains(head)), "{code}");
        }
    }
}
