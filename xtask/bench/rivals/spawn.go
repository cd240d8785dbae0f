// The Go side of `cargo xtask bench spawn`, which builds it and tells it what to do: see
// reexec/examples/spawn-bench.rs, whose words it speaks. It starts children the way of the
// chapter: this same program again, with another argv[0], tied to the parent by Pdeathsig, Run.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func init() {
	if os.Args[0] == "nothing" {
		os.Exit(0)
	}
}

func spawn() {
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{"nothing"},
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM},
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Processor time of this process and of the children that it has reaped, in nanoseconds.
func processorTime() int64 {
	var total int64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err != nil {
			os.Exit(1)
		}
		total += usage.Utime.Nano() + usage.Stime.Nano()
	}
	return total
}

func main() {
	mib, err := strconv.Atoi(os.Args[1])
	if err != nil {
		os.Exit(2)
	}
	held := make([]byte, mib<<20)
	for i := range held {
		held[i] = 1
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		count, _ := strconv.Atoi(strings.Fields(lines.Text())[1])
		before := processorTime()
		for i := 0; i < count; i++ {
			began := time.Now()
			spawn()
			fmt.Print(time.Since(began).Nanoseconds(), " ")
		}
		fmt.Println(processorTime() - before)
	}
	_ = held[len(held)-1]
}
