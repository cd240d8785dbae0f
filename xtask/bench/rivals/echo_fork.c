/* A rival in `cargo xtask bench echo`, which compiles it: a process for each connection, by fork,
 * as a C server does it that leaves no zombie, drops no byte and does not end at a signal. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* One signal may stand for many children. */
static void reap(int signal) {
    (void)signal;
    int saved = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = saved;
}

static int write_all(int connection, const char *bytes, ssize_t length) {
    while (length > 0) {
        ssize_t written = write(connection, bytes, (size_t)length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -1;
        bytes += written;
        length -= written;
    }
    return 0;
}

static int serve(int connection) {
    char buffer[16 * 1024];
    ssize_t length;
    while ((length = read(connection, buffer, sizeof buffer)) != 0) {
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0 || write_all(connection, buffer, length) < 0)
            return 1;
    }
    shutdown(connection, SHUT_WR); /* its own end of the stream; the client may have ended first */
    return 0;
}

static int listen_on_any_port(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 ||
        listen(listener, 4096) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0) {
        perror("echo-fork: cannot listen");
        exit(1);
    }
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout); /* before the first fork, or each child would write it again */
    return listener;
}

int main(void) {
    struct sigaction on_child = {.sa_handler = reap, .sa_flags = SA_RESTART | SA_NOCLDSTOP};
    sigaction(SIGCHLD, &on_child, NULL);
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on_any_port();
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue; /* the client has gone already, or a signal has come */
        pid_t pid = fork();
        if (pid == 0) {
            close(listener);
            _exit(serve(connection));
        }
        if (pid < 0)
            perror("echo-fork: cannot fork");
        close(connection); /* kept, it would hide the end of the stream from the client */
    }
}
