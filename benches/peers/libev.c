/*
 * libev: as its documentation does it: a watcher for each connection that reads and writes itself. One read buffer for all, and
 * a buffer of its own only for a connection whose peer does not take what it is owed, or has sent the beginning of a message.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <ev.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

struct kept {
    char *bytes;
    size_t len;
};

struct conn {
    ev_io watcher; /* first: libev hands out a pointer to this one; it reads, or it writes */
    struct kept rest, partial;
};

static char buffer[PEER_READ_BYTES], answers[PEER_READ_BYTES];
static void (*serve)(struct ev_loop *loop, struct conn *conn, size_t len);

static _Noreturn void die(const char *what)
{
    peer_die(what, strerror(errno));
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory)
        die("malloc");
    return memory;
}

static struct kept keep(const char *bytes, size_t len)
{
    return (struct kept){ memcpy(allocate(len), bytes, len), len };
}

static void forget(struct kept *kept)
{
    free(kept->bytes);
    *kept = (struct kept){ NULL, 0 };
}

static void hang_up(struct ev_loop *loop, struct conn *conn)
{
    ev_io_stop(loop, &conn->watcher);
    close(conn->watcher.fd);
    forget(&conn->rest);
    forget(&conn->partial);
    free(conn);
}

static void watch(struct ev_loop *loop, struct conn *conn, int events)
{
    ev_io_stop(loop, &conn->watcher);
    ev_io_modify(&conn->watcher, events);
    ev_io_start(loop, &conn->watcher);
}

/* How much of it the socket took; -1: the connection is over. */
static ssize_t send_some(struct conn *conn, const char *bytes, size_t len)
{
    ssize_t sent = send(conn->watcher.fd, bytes, len, MSG_NOSIGNAL);
    return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

static void answer(struct ev_loop *loop, struct conn *conn, const char *bytes, size_t len)
{
    ssize_t sent = send_some(conn, bytes, len);
    if (sent < 0) {
        hang_up(loop, conn);
    } else if ((size_t)sent < len) {
        conn->rest = keep(bytes + sent, len - (size_t)sent);
        watch(loop, conn, EV_WRITE);
    }
}

static void echo(struct ev_loop *loop, struct conn *conn, size_t len)
{
    answer(loop, conn, buffer, len);
}

static void greet(struct ev_loop *loop, struct conn *conn, size_t len)
{
    (void)len;
    send_some(conn, PEER_GREETING, PEER_GREETING_BYTES);
    hang_up(loop, conn);
}

static void echo_framed(struct ev_loop *loop, struct conn *conn, size_t len)
{
    ssize_t done = peer_answer_messages(answers, buffer, len);
    if (done < 0) {
        hang_up(loop, conn);
        return;
    }
    if ((size_t)done < len)
        conn->partial = keep(buffer + done, len - (size_t)done);
    if (done > 0)
        answer(loop, conn, answers, (size_t)done);
}

static void readable(struct ev_loop *loop, struct conn *conn)
{
    size_t kept = conn->partial.len;
    if (kept > 0)
        memcpy(buffer, conn->partial.bytes, kept);
    ssize_t len = recv(conn->watcher.fd, buffer + kept, sizeof buffer - kept, 0);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len <= 0) {
        hang_up(loop, conn);
        return;
    }
    forget(&conn->partial);
    serve(loop, conn, kept + (size_t)len);
}

static void writable(struct ev_loop *loop, struct conn *conn)
{
    struct kept *rest = &conn->rest;
    ssize_t sent = send_some(conn, rest->bytes, rest->len);
    if (sent < 0) {
        hang_up(loop, conn);
        return;
    }
    rest->len -= (size_t)sent;
    memmove(rest->bytes, rest->bytes + sent, rest->len);
    if (rest->len == 0) {
        forget(rest);
        watch(loop, conn, EV_READ);
    }
}

static void on_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
    if (events & EV_WRITE)
        writable(loop, (struct conn *)watcher);
    else
        readable(loop, (struct conn *)watcher);
}

static void on_connections(struct ev_loop *loop, ev_io *listener, int events)
{
    (void)events;
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            struct conn *conn = allocate(sizeof *conn);
            memset(conn, 0, sizeof *conn);
            ev_io_init(&conn->watcher, on_ready, fd, EV_READ);
            ev_io_start(loop, &conn->watcher);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            die("accept4");
        }
    }
}

int main(int argc, char **argv)
{
    static char version[64];
    snprintf(version, sizeof version, "libev %d.%d", ev_version_major(), ev_version_minor());
    struct peer peer = peer_arguments(argc, argv, "echo greet framed ", version);
    serve = !strcmp(peer.mode, "greet") ? greet : !strcmp(peer.mode, "framed") ? echo_framed : echo;

    struct ev_loop *loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!loop)
        die("ev_default_loop");
    ev_io listener;
    ev_io_init(&listener, on_connections, peer_listen(peer.port), EV_READ);
    ev_io_start(loop, &listener);
    return ev_run(loop, 0);
}
