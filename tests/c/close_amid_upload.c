/*
 * A peer is in the middle of an upload when it is answered and its connection closed: what it sends on is taken, and no reset
 * overtakes the answer. When the close is decided the system may have nothing of the upload any more, but the driver has.
 */
#include "support.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* More than one receive takes, and no more than the system holds without anybody reading. */
enum { ROUNDS = 20, UPLOAD_BYTES = 100 * 1024 };

static tally seen = TALLY_INIT;
static latch uploaded = LATCH_INIT;
static _Atomic long round_now;
static char upload[UPLOAD_BYTES];

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    if (len == 1) {
        CHECK_OK(ahoy_send(conn, data, len));
        return;
    }
    /* Once: of what comes after the close nothing is delivered. */
    latch_wait(&uploaded, round_now);
    CHECK_OK(ahoy_send(conn, "no", 2));
    CHECK_OK(ahoy_conn_close(conn));
}

/* Whether the peer's system has taken what was sent. */
static bool is_taken(int fd) {
    int unsent = -1;
    CHECK(!ioctl(fd, SIOCOUTQ, &unsent));
    return !unsent;
}

/* The error that the socket has, and no longer after that. */
static int error_of(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
    return error;
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .on_message = on_message,
                                       .on_close = tally_close));
    long count = rounds(ROUNDS);
    for (long round = 1; round <= count; round++) {
        char got[16];
        round_now = round;
        int fd = dial(server);
        CHECK(!setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(int)));
        /* No longer new: the driver has an order to receive. */
        send_all(fd, "a", 1);
        recv_exact(fd, got, 1);
        send_all(fd, upload, UPLOAD_BYTES);
        latch_add(&uploaded, 1);

        struct pollfd end = {.fd = fd, .events = POLLRDHUP};
        CHECK(poll(&end, 1, -1) == 1);
        CHECK_EQ(error_of(fd), 0);
        send_all(fd, upload, 1);
        WAIT_UNTIL(is_taken(fd));
        CHECK_EQ(error_of(fd), 0);
        CHECK_EQ(recv_until_eof(fd, got, sizeof got), 2);
        CHECK(!memcmp(got, "no", 2));
        close(fd);
        latch_wait(&seen.closed, round);
        CHECK_STATUS(seen.reason, AHOY_OK);
    }
    ahoy_server_free(server);
    return 0;
}
