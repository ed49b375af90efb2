/*
 * A peer resets its connection: while it is received from, while bytes wait for room, while nobody reads from it, with
 * and without something unread, and after it had ended its side. Each is told once, with the reason.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { PEERS = 16, ANSWER_BYTES = 8 << 20 };

static tally seen;
static char answer[ANSWER_BYTES];

/* What a peer's first byte asks for. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    switch (*(const char *)data) {
    case 'p': CHECK_OK(ahoy_conn_pause(conn)); break;
    case 's': CHECK_OK(ahoy_send(conn, answer, sizeof answer)); break;
    case 'b': CHECK_OK(ahoy_conn_pause(conn)), CHECK_OK(ahoy_send(conn, answer, sizeof answer)); break;
    default: CHECK_OK(ahoy_send(conn, "!", 1)); break;
    }
    tally_message(conn, data, len, user);
}

/* One of each kind of peer: what it asks for, whether it says more then, and whether it ends its side first. */
static void resets(int32_t driver, char wish, bool more, bool half_closed) {
    int fds[PEERS];
    char byte;
    long count = rounds(PEERS);
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .driver = driver,
                                       .queue_bytes_max = 2 * ANSWER_BYTES, .queue_total_bytes_max = 2 * PEERS * ANSWER_BYTES,
                                       .message_bytes_max = ANSWER_BYTES,
                                       .on_message = on_message, .on_end = tally_end, .on_close = tally_close));
    for (long i = 0; i < count; i++) {
        fds[i] = dial(server);
        send_all(fds[i], &wish, 1);
    }
    latch_wait(&seen.messages, count);
    /* Under way, or more than the system takes. */
    if (wish != 'p') for (long i = 0; i < count; i++) recv_exact(fds[i], &byte, 1);
    for (long i = 0; i < count; i++) {
        if (more) send_all(fds[i], "more", 4);
        if (half_closed) CHECK(!shutdown(fds[i], SHUT_WR));
    }
    if (half_closed && wish != 'p' && wish != 'b') latch_wait(&seen.ended, count);
    for (long i = 0; i < count; i++) close_reset(fds[i]);
    latch_wait(&seen.closed, count);
    CHECK_EQ(seen.reasons[-AHOY_ERR_RESET], count);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), count);
}

static void all(int32_t driver) {
    for (const char *wish = "!psb"; *wish; wish++) {
        for (int i = 0; i < 4; i++) resets(driver, *wish, i & 1, i & 2);
    }
}

int main(void) {
    all(AHOY_DRIVER_EPOLL);
    need_uring();
    all(AHOY_DRIVER_URING);
    return 0;
}
