/* The C side of `cargo xtask bench spawn`, which compiles it and tells it what to do: see
 * reexec/examples/spawn-bench.rs, whose words it speaks. The child is this same program. */
#define _GNU_SOURCE
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static char *const child[] = {"spawn", "exit", NULL};

static pid_t fork_exec(void) {
    pid_t pid = fork();
    if (pid == 0) {
        execv("/proc/self/exe", child);
        _exit(127);
    }
    return pid;
}

static pid_t vfork_exec(void) {
    pid_t pid = vfork();
    if (pid == 0) {
        execv("/proc/self/exe", child);
        _exit(127);
    }
    return pid;
}

static pid_t by_posix_spawn(void) {
    pid_t pid;
    return posix_spawn(&pid, "/proc/self/exe", NULL, NULL, child, environ) ? -1 : pid;
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Processor time of this process and of the children that it has reaped, in nanoseconds. */
static long long processor_time(void) {
    long long microseconds = 0;
    for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
        struct rusage usage;
        getrusage(who, &usage);
        microseconds += (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL;
        microseconds += usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    }
    return microseconds * 1000;
}

/* Prints how many nanoseconds a CPUID instruction takes: a hypervisor makes it slow, and the start of
 * a program executes dozens. Prints nothing on processors without it. */
static int time_cpuid(void) {
#if defined(__x86_64__)
    const int count = 1000;
    unsigned a, b, c, d;
    long long began = now();
    for (int i = 0; i < count; i++)
        __cpuid_count(0, 0, a, b, c, d);
    printf("%lld\n", (now() - began) / count);
#endif
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "exit") == 0)
        return 0;
    if (argc > 1 && strcmp(argv[1], "cpuid") == 0)
        return time_cpuid();
    if (argc != 2)
        return 2;
    size_t held = (size_t)atol(argv[1]) << 20;
    char *memory = malloc(held);
    if (!memory)
        return 1;
    memset(memory, 1, held);

    char method[32];
    int count;
    while (scanf("%31s %d", method, &count) == 2) {
        long long processor_before = processor_time();
        pid_t (*start)(void) = strcmp(method, "fork-exec") == 0    ? fork_exec
                               : strcmp(method, "vfork-exec") == 0 ? vfork_exec
                                                                   : by_posix_spawn;
        for (int i = 0; i < count; i++) {
            int status;
            long long began = now();
            pid_t pid = start();
            if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
                return 1;
            printf("%lld ", now() - began);
        }
        printf("%lld\n", processor_time() - processor_before);
        fflush(stdout);
    }
    return memory[held - 1] != 1;
}
