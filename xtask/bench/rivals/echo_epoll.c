/* A rival in `cargo xtask bench echo`, which compiles it: all connections in one process, by one
 * epoll loop that never blocks on any of them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 16 * 1024, EVENTS = 256 };

/* What a client has not taken yet. Most take everything at once, and have none of it. */
struct client {
    int connection;
    int offset, length;
    char *unsent;
};

static int epoll;

static void watch(struct client *client, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(epoll, operation, client->connection, &event) < 0)
        perror("echo-epoll: cannot watch a connection");
}

static void end(struct client *client) {
    close(client->connection); /* which also ends the watch */
    free(client->unsent);
    free(client);
}

/* How much was taken, 0 if there is no room; -1 if the client has gone. */
static ssize_t send_some(int connection, const char *bytes, int length) {
    ssize_t sent = send(connection, bytes, (size_t)length, MSG_NOSIGNAL);
    return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

static void on_readable(struct client *client) {
    char buffer[BUFFER];
    ssize_t length = read(client->connection, buffer, sizeof buffer);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    ssize_t sent = length > 0 ? send_some(client->connection, buffer, (int)length) : -1;
    if (sent < 0) {
        end(client); /* the end of the stream is the end of ours */
        return;
    }
    if (sent == length)
        return;
    client->length = (int)(length - sent);
    client->offset = 0;
    client->unsent = malloc((size_t)client->length);
    if (!client->unsent) {
        end(client);
        return;
    }
    for (int i = 0; i < client->length; i++)
        client->unsent[i] = buffer[sent + i];
    watch(client, EPOLL_CTL_MOD, EPOLLOUT); /* it gets no more to take before that is gone */
}

static void on_writable(struct client *client) {
    ssize_t sent =
        send_some(client->connection, client->unsent + client->offset, client->length);
    if (sent < 0) {
        end(client);
        return;
    }
    client->offset += (int)sent;
    client->length -= (int)sent;
    if (client->length > 0)
        return;
    free(client->unsent);
    client->unsent = NULL;
    watch(client, EPOLL_CTL_MOD, EPOLLIN);
}

static void on_clients(int listener) {
    int connection;
    while ((connection = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = calloc(1, sizeof *client);
        if (!client) {
            close(connection);
            continue;
        }
        client->connection = connection;
        watch(client, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int listen_on_any_port(void) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 ||
        listen(listener, 4096) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0) {
        perror("echo-epoll: cannot listen");
        exit(1);
    }
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(void) {
    struct epoll_event events[EVENTS];
    struct client listener = {.connection = listen_on_any_port()};
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client == &listener)
                on_clients(client->connection);
            else if (client->unsent)
                on_writable(client);
            else
                on_readable(client);
        }
    }
}
