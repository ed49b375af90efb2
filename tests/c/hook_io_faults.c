/*
 * What the system's calls may answer while a connection lives: passing errors are passed over, lasting ones
 * close that connection, once, with the reason that the header names. The others live on.
 */
#include "hooks.h"
#include "support.h"

#include <errno.h>
#include <unistd.h>

static tally seen = TALLY_INIT;
static ahoy_server server;

static void echo_round(int fd) {
    char echo[4];
    send_all(fd, "echo", 4);
    recv_exact(fd, echo, 4);
    CHECK(memcmp(echo, "echo", 4) == 0);
}

/* The call fails three times, and nobody notices. */
static void passes(const char *call, int error, int bystander) {
    int fd = dial(server);
    echo_round(fd);
    long closed = latch_count(&seen.closed);
    ahoy_test_fail(call, error, 0, 3);
    echo_round(fd);
    echo_round(bystander);
    ahoy_test_fail(call, 0, 0, 0);
    echo_round(fd);
    CHECK_EQ(latch_count(&seen.closed), closed);
    close(fd);
    latch_wait(&seen.closed, closed + 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_EOF);
}

/* The call fails once, and the connection is over. */
static void closes(const char *call, int error, ahoy_status reason, int bystander) {
    char byte;
    int fd = dial(server);
    echo_round(fd);
    long closed = latch_count(&seen.closed);
    ahoy_test_fail(call, error, 0, 1);
    send_all(fd, "echo", 4);
    (void)recv_until_eof(fd, &byte, 1);
    latch_wait(&seen.closed, closed + 1);
    ahoy_test_fail(call, 0, 0, 0);
    if (seen.reason != reason) fprintf(stderr, "%s: %s\n", call, strerror(error));
    CHECK_STATUS(seen.reason, reason);
    close(fd);
    echo_round(bystander);
    CHECK_EQ(latch_count(&seen.closed), closed + 1);
}

/* A connection that cannot be watched is over before it began, or was never there; the server goes on. */
static void not_attached(int error, int bystander) {
    char byte;
    long opened = latch_count(&seen.opened), closed = latch_count(&seen.closed);
    ahoy_test_fail("epoll_ctl", error, 0, 1);
    int fd = dial(server);
    CHECK(recv_until_eof(fd, &byte, 1) <= 0);
    ahoy_test_fail("epoll_ctl", 0, 0, 0);
    close(fd);
    echo_round(bystander);
    WAIT_UNTIL(latch_count(&seen.opened) - opened == latch_count(&seen.closed) - closed);

    /* An adoption as well: whatever it answers, the socket is not lost. */
    int pair[2];
    stream_pair(pair);
    ahoy_test_fail("epoll_ctl", error, 0, 1);
    ahoy_status status = ahoy_server_adopt(server, pair[0], NULL);
    if (status == AHOY_OK) CHECK(recv_until_eof(pair[1], &byte, 1) <= 0);
    else close(pair[0]);
    ahoy_test_fail("epoll_ctl", 0, 0, 0);
    close(pair[1]);
    echo_round(bystander);
    WAIT_UNTIL(latch_count(&seen.opened) - opened == latch_count(&seen.closed) - closed);
}

int main(void) {
    holdings before = holdings_now();
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .on_open = tally_open,
                           .on_message = tally_echo, .on_close = tally_close));
    int bystander = dial(server);
    echo_round(bystander);

    passes("recv", EINTR, bystander);
    passes("recv", EAGAIN, bystander);
    passes("sendmsg", EINTR, bystander);
    passes("sendmsg", EAGAIN, bystander);
    closes("sendmsg", ENOBUFS, AHOY_ERR_MEMORY, bystander);
    passes("epoll_wait", EINTR, bystander);

    closes("recv", ECONNRESET, AHOY_ERR_RESET, bystander);
    closes("recv", ETIMEDOUT, AHOY_ERR_RESET, bystander);
    closes("recv", ENOMEM, AHOY_ERR_MEMORY, bystander);
    closes("recv", EIO, AHOY_ERR_SYSTEM, bystander);
    closes("sendmsg", EPIPE, AHOY_ERR_RESET, bystander);
    closes("sendmsg", ECONNRESET, AHOY_ERR_RESET, bystander);
    closes("sendmsg", EIO, AHOY_ERR_SYSTEM, bystander);

    /* On io_uring there is no call that could fail. */
    if (!strcmp(ahoy_server_driver(server), "epoll")) {
        not_attached(ENOSPC, bystander);
        not_attached(ENOMEM, bystander);
    }

    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.opened), latch_count(&seen.closed));
    close(bystander);
    CHECK_HOLDINGS(before);
    return 0;
}
