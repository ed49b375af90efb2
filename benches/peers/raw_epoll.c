/*
 * raw_epoll: what a careful C programmer writes by hand. Level-triggered, one read buffer for all
 * connections, and a buffer of its own only for a connection whose peer does not take what it is owed (such
 * a connection is not read from until it does), or has sent the beginning of a message. All answers to what
 * one read gave go out in one write. A publish is a loop of send(2) over the members.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <gnu/libc-version.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

#define EVENTS_MAX 512

/* What the socket did not take, or what is there of a message. */
struct rest {
    size_t sent, len;
    char bytes[];
};

static char buffer[PEER_READ_BYTES], answers[PEER_READ_BYTES], large[PEER_LARGE_BYTES];
static struct rest **rests, **partials; /* by descriptor */
static int *members, *places, member_count; /* descriptors; the place of each descriptor among them */
static void (*serve)(int fd, size_t len);
static int epoll_fd;

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

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    if (!memory)
        die("calloc");
    return memory;
}

static struct rest *keep(const char *bytes, size_t len)
{
    struct rest *rest = malloc(sizeof *rest + len);
    if (!rest)
        die("malloc");
    rest->sent = 0;
    rest->len = len;
    memcpy(rest->bytes, bytes, len);
    return rest;
}

static void hang_up(int fd)
{
    free(rests[fd]);
    free(partials[fd]);
    rests[fd] = partials[fd] = NULL;
    members[places[fd]] = members[--member_count];
    places[members[places[fd]]] = places[fd];
    if (close(fd)) /* takes it out of the epoll set, too */
        die("close");
}

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            watch(EPOLL_CTL_ADD, fd, EPOLLIN);
            places[fd] = member_count;
            members[member_count++] = fd;
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            die("accept4");
        }
    }
}

/* How much of it the socket took; -1: the connection is over. */
static ssize_t send_some(int fd, const char *bytes, size_t len)
{
    ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
    return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

static void answer(int fd, const char *bytes, size_t len)
{
    ssize_t sent = send_some(fd, bytes, len);
    if (sent < 0) {
        hang_up(fd);
    } else if ((size_t)sent < len) {
        rests[fd] = keep(bytes + sent, len - (size_t)sent);
        watch(EPOLL_CTL_MOD, fd, EPOLLOUT);
    }
}

static void echo(int fd, size_t len)
{
    answer(fd, buffer, len);
}

static void greet(int fd, size_t len)
{
    (void)len;
    send_some(fd, PEER_GREETING, PEER_GREETING_BYTES);
    hang_up(fd);
}

static void echo_framed(int fd, size_t len)
{
    ssize_t done = peer_answer_messages(answers, buffer, len);
    if (done < 0) {
        hang_up(fd);
        return;
    }
    if ((size_t)done < len)
        partials[fd] = keep(buffer + done, len - (size_t)done);
    if (done > 0)
        answer(fd, answers, (size_t)done);
}

/* Who has not yet taken the last message misses this one. Backwards: who is gone leaves his place to the last. */
static void publish(const char *bytes, size_t len)
{
    for (int i = member_count - 1; i >= 0; i--)
        if (!rests[members[i]])
            answer(members[i], bytes, len);
}

static void publish_message(int fd, size_t len)
{
    if (len == PEER_PING_BYTES)
        answer(fd, buffer, len);
    else
        publish(buffer, len);
}

static void publish_large(int fd, size_t len)
{
    if (len == PEER_PING_BYTES)
        answer(fd, buffer, len);
    else
        publish(large, sizeof large);
}

static const struct mode {
    const char *name;
    void (*serve)(int fd, size_t len);
} modes[] = {
    { "echo", echo },
    { "greet", greet },
    { "framed", echo_framed },
    { "publish", publish_message },
    { "publish-large", publish_large },
};

static void readable(int fd)
{
    size_t kept = 0;
    if (partials[fd]) {
        kept = partials[fd]->len;
        memcpy(buffer, partials[fd]->bytes, kept);
    }
    ssize_t len = recv(fd, buffer + kept, sizeof buffer - kept, 0);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len <= 0) {
        hang_up(fd);
        return;
    }
    free(partials[fd]);
    partials[fd] = NULL;
    serve(fd, kept + (size_t)len);
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

int main(int argc, char **argv)
{
    static char version[64];
    snprintf(version, sizeof version, "glibc %s", gnu_get_libc_version());
    struct peer peer = peer_arguments(argc, argv, "echo greet framed publish publish-large ", version);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(peer.mode, modes[i].name))
            serve = modes[i].serve;

    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files))
        die("getrlimit");
    rests = allocate(files.rlim_cur, sizeof *rests);
    partials = allocate(files.rlim_cur, sizeof *partials);
    members = allocate(files.rlim_cur, sizeof *members);
    places = allocate(files.rlim_cur, sizeof *places);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        die("epoll_create1");
    int listener = peer_listen(peer.port);
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
