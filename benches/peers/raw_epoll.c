/*
 * raw_epoll: what a careful C programmer writes by hand. Level-triggered, one read buffer for all
 * connections, and a buffer of its own only for a connection whose peer does not take what it is owed: such
 * a connection is not read from until it does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

#define EVENTS_MAX 512

/* What the socket did not take. */
struct rest {
    size_t sent, len;
    char bytes[];
};

static char buffer[PEER_READ_BYTES];
static struct rest **rests; /* by descriptor */
static int epoll_fd, greets;

static _Noreturn void die(const char *what)
{
    peer_die(what, strerror(errno));
}

static void watch(int operation, int fd, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.fd = fd };
    if (epoll_ctl(epoll_fd, operation, fd, &event))
        die("epoll_ctl");
}

static void hang_up(int fd)
{
    free(rests[fd]);
    rests[fd] = NULL;
    if (close(fd)) /* takes it out of the epoll set, too */
        die("close");
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            watch(EPOLL_CTL_ADD, fd, EPOLLIN);
        else if (errno == EAGAIN)
            return;
        else if (errno != ECONNABORTED && errno != EINTR)
            die("accept4");
    }
}

/* How much of it the socket took; -1: the connection is over. */
static ssize_t send_some(int fd, const char *bytes, size_t len)
{
    ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
    return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

static void echo(int fd, size_t len)
{
    ssize_t sent = send_some(fd, buffer, len);
    if (sent < 0) {
        hang_up(fd);
    } else if ((size_t)sent < len) {
        struct rest *rest = malloc(sizeof *rest + len - (size_t)sent);
        if (!rest)
            die("malloc");
        rest->sent = 0;
        rest->len = len - (size_t)sent;
        memcpy(rest->bytes, buffer + sent, rest->len);
        rests[fd] = rest;
        watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
    }
}

static void readable(int fd)
{
    ssize_t len = recv(fd, buffer, sizeof buffer, 0);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len <= 0) {
        hang_up(fd);
    } else if (greets) {
        send_some(fd, PEER_GREETING, PEER_GREETING_BYTES);
        hang_up(fd);
    } else {
        echo(fd, (size_t)len);
    }
}

static void writable(int fd)
{
    struct rest *rest = rests[fd];
    ssize_t sent = send_some(fd, rest->bytes + rest->sent, rest->len - rest->sent);
    if (sent < 0) {
        hang_up(fd);
        return;
    }
    rest->sent += (size_t)sent;
    if (rest->sent == rest->len) {
        free(rest);
        rests[fd] = NULL;
        watch(EPOLL_CTL_MOD, fd, EPOLLIN);
    }
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
    };
    socklen_t len = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
        die("setsockopt");
    if (bind(fd, (struct sockaddr *)&address, sizeof address))
        die("bind");
    if (listen(fd, PEER_BACKLOG))
        die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &len))
        die("getsockname");
    peer_listens(ntohs(address.sin_port));
    return fd;
}

int main(int argc, char **argv)
{
    static char version[64];
    snprintf(version, sizeof version, "glibc %s", gnu_get_libc_version());
    struct peer peer = peer_arguments(argc, argv, "echo greet ", version);
    greets = peer.greets;

    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files))
        die("getrlimit");
    rests = calloc(files.rlim_cur, sizeof *rests);
    if (!rests)
        die("calloc");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die("epoll_create1");
    int listener = listen_on(peer.port);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);

    for (;;) {
        static struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(listener);
            else if (rests[fd])
                writable(fd);
            else
                readable(fd);
        }
    }
}
