/*
 * A peer is in the middle of an upload when it is answered and its connection closed: it gets the answer and the end, and no
 * reset that overtakes them. What it still sends may be with the system by then, or with the driver already.
 */
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { ROUNDS = 200, UPLOAD_BYTES = 512 * 1024 };

static tally seen = TALLY_INIT;
static char upload[UPLOAD_BYTES];

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    tally_message(conn, data, len, user);
    if (len == 1) {
        CHECK_OK(ahoy_send(conn, data, len));
        return;
    }
    /* Once: of what comes after the close nothing is delivered. */
    CHECK_OK(ahoy_send(conn, "no", 2));
    CHECK_OK(ahoy_conn_close(conn));
}

/* Uploads, until it is answered or done. */
static void upload_until_answered(int fd) {
    for (size_t sent = 0; sent < UPLOAD_BYTES;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN | POLLOUT};
        CHECK(poll(&ready, 1, -1) == 1);
        if (ready.revents & POLLIN) return;
        ssize_t count = send(fd, upload + sent, UPLOAD_BYTES - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        CHECK(count > 0 || errno == EAGAIN);
        sent += count > 0 ? (size_t)count : 0;
    }
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .on_message = on_message,
                                       .on_close = tally_close));
    long count = rounds(ROUNDS);
    for (long round = 1; round <= count; round++) {
        char got[16];
        int fd = dial(server);
        /* No longer new: the driver has an order to receive. */
        send_all(fd, "a", 1);
        recv_exact(fd, got, 1);
        upload_until_answered(fd);
        CHECK_EQ(recv_until_eof(fd, got, sizeof got), 2);
        CHECK(!memcmp(got, "no", 2));
        close(fd);
        latch_wait(&seen.closed, round);
        CHECK_STATUS(seen.reason, AHOY_OK);
    }
    ahoy_server_free(server);
    return 0;
}
