#include "remote.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A loopback address of this process's own. Another program that asks for any free port gets none here, so that
 * a port stays free while nobody listens on it.
 */
static in_addr_t own_host(void) {
    return htonl(0x7f400000 | ((uint32_t)getpid() & 0x3fffff));
}

static int bound(remote *remote, uint16_t port) {
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = port, .sin_addr = { own_host() } };
    socklen_t len = sizeof name;
    char host[INET_ADDRSTRLEN];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    CHECK(fd >= 0);
    CHECK(!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes));
    CHECK(!bind(fd, (struct sockaddr *)&name, len));
    CHECK(!getsockname(fd, (struct sockaddr *)&name, &len));
    CHECK(inet_ntop(AF_INET, &name.sin_addr, host, sizeof host));
    snprintf(remote->url, sizeof remote->url, "tcp://%s:%d", host, ntohs(name.sin_port));
    return fd;
}

remote remote_dead(void) {
    remote remote = { .filler = -1 };
    remote.listener = bound(&remote, 0);
    return remote;
}

remote remote_listening(void) {
    remote remote = remote_dead();
    CHECK(!listen(remote.listener, 100));
    return remote;
}

int remote_accept(const remote *remote) {
    int fd = accept4(remote->listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

/* With a backlog of 0 one connection waits to be accepted; the system throws away what comes after it. */
remote remote_black_hole(void) {
    remote remote = remote_dead();
    CHECK(!listen(remote.listener, 0));
    remote.filler = dial_url(remote.url);
    struct tcp_info info = { 0 };
    socklen_t len = sizeof info;
    do {
        CHECK(!getsockopt(remote.listener, IPPROTO_TCP, TCP_INFO, &info, &len));
    } while (info.tcpi_unacked == 0); /* of a listener: how many wait */
    return remote;
}

/* ---- A process ------------------------------------------------------------------------------- */

/* Runs in a child of a program with threads: system calls only. */
static _Noreturn void serve(int listener, bool reads) {
    enum { MOST = 64 };
    struct pollfd polled[MOST] = { { .fd = listener, .events = POLLIN } };
    static char buffer[65536];
    nfds_t count = 1;
    alarm(120);
    for (;;) {
        poll(polled, count, -1);
        for (nfds_t i = 1; i < count; i++) {
            if (!polled[i].revents) continue;
            ssize_t got = recv(polled[i].fd, buffer, sizeof buffer, 0);
            if (got > 0 && send(polled[i].fd, buffer, (size_t)got, MSG_NOSIGNAL) == got) continue;
            close(polled[i].fd);
            polled[i].fd = -1; /* which poll passes over */
        }
        if (polled[0].revents && count < MOST) {
            polled[count++] = (struct pollfd){ .fd = accept(listener, NULL, NULL), .events = reads ? POLLIN : 0 };
        }
    }
}

void remote_start(remote *remote, bool reads) {
    unsigned port;
    CHECK(sscanf(strrchr(remote->url, ':'), ":%u", &port) == 1);
    int listener = bound(remote, htons((uint16_t)port));
    /* Somebody who reads nothing takes little, too. (What it accepts inherits the size.) */
    int narrow = 4096;
    if (!reads) CHECK(!setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &narrow, sizeof narrow));
    CHECK(!listen(listener, 100));
    remote->process = fork();
    CHECK(remote->process >= 0);
    if (remote->process == 0) {
        /* What the child inherits it would hold open: no peer of this process would see an end. */
        close_range(STDERR_FILENO + 1, (unsigned)listener - 1, 0);
        close_range((unsigned)listener + 1, ~0u, 0);
        serve(listener, reads);
    }
    remote->listener = listener;
}

remote remote_process(bool reads) {
    remote remote = { .url = "tcp://0:0", .listener = -1, .filler = -1 };
    remote_start(&remote, reads);
    return remote;
}

void remote_kill(remote *remote) {
    int status;
    /* It stops to listen first. Otherwise some client might get through to a process that is half dead. */
    CHECK(!shutdown(remote->listener, SHUT_RD));
    CHECK(!kill(remote->process, SIGKILL));
    CHECK(waitpid(remote->process, &status, 0) == remote->process);
    CHECK(WIFSIGNALED(status));
    close(remote->listener);
    remote->process = 0;
    remote->listener = -1;
}

void remote_end(remote *remote) {
    if (remote->process) remote_kill(remote);
    if (remote->listener >= 0) close(remote->listener);
    if (remote->filler >= 0) close(remote->filler);
    remote->listener = remote->filler = -1;
}

ahoy_conn outgoing(ahoy_server server, const char *urls, ahoy_connect_options options) {
    ahoy_conn conn = { 0 };
    CHECK_OK(ahoy_connect(server, urls, &options, &conn));
    CHECK(conn.id != 0);
    return conn;
}
