/*
 * A connection without traffic in either direction for `idle_ms` is closed with AHOY_ERR_TIMEOUT; traffic
 * in either direction keeps it alive; and without `idle_ms` silence is no reason.
 */
#include "support.h"

#include <unistd.h>

enum { IDLE_MS = 200 };

static tally seen = TALLY_INIT;

/*
 * A worker that was kept busy by the program counts the silence from the last message, not from whenever it
 * last looked at the clock.
 */
static latch gate = LATCH_INIT, reached = LATCH_INIT;
static _Atomic long last_message_ms, closed_ms;

static void keep_busy(ahoy_conn conn, const void *data, size_t len, void *user) {
    switch (*(const char *)data) {
    case 'g': /* both messages that follow come in one turn */
        latch_add(&reached, 1);
        latch_wait(&gate, 1);
        break;
    case 'b':
        for (long begin = now_ms(); now_ms() - begin < 2 * IDLE_MS;) wait_moment();
        break;
    default:
        last_message_ms = now_ms();
    }
    tally_message(conn, data, len, user);
}

static void note_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_STATUS(reason, AHOY_ERR_TIMEOUT);
    closed_ms = now_ms();
    tally_close(conn, reason, user);
}

static void after_a_callback_that_took_long(void) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .idle_ms = IDLE_MS, .on_open = tally_open,
                                       .on_message = keep_busy, .on_close = note_close));
    int gate_fd = dial(server), busy_fd = dial(server), silent_fd = dial(server);
    latch_wait(&seen.opened, 3);
    send_all(gate_fd, "g", 1);
    latch_wait(&reached, 1);
    send_all(busy_fd, "b", 1);
    send_all(silent_fd, "s", 1);
    latch_add(&gate, 1);
    char byte;
    CHECK_EQ(recv_until_eof(silent_fd, &byte, 1), 0);
    latch_wait(&seen.messages, 3);
    latch_wait(&seen.closed, 3);
    CHECK(closed_ms - last_message_ms >= IDLE_MS - 20);
    close(gate_fd), close(busy_fd), close(silent_fd);
    ahoy_server_free(server);
}

int main(void) {
    after_a_callback_that_took_long();
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .idle_ms = IDLE_MS, .on_open = tally_open,
                                       .on_message = tally_message, .on_close = tally_close));
    char byte;

    /* Silent from the start: not before its time, and soon after. */
    long begin = now_ms();
    int fd = dial(server);
    CHECK_EQ(recv_until_eof(fd, &byte, 1), 0);
    long spent = now_ms() - begin;
    CHECK(spent >= IDLE_MS - 20); /* the wheel of timers has teeth */
    if (!is_slow()) CHECK(spent < IDLE_MS * 5);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    close(fd);

    /* Kept alive by what it sends, over several times idle_ms; then it falls silent. */
    fd = dial(server);
    latch_wait(&seen.opened, 2);
    begin = now_ms();
    while (now_ms() - begin < IDLE_MS * 4) {
        send_all(fd, "x", 1);
        wait_moment();
    }
    CHECK_EQ(latch_count(&seen.closed), 1);
    CHECK_EQ(recv_until_eof(fd, &byte, 1), 0);
    latch_wait(&seen.closed, 2);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    close(fd);

    /* Kept alive by what it gets. */
    fd = dial(server);
    latch_wait(&seen.opened, 3);
    ahoy_conn conn = tally_conn(&seen);
    begin = now_ms();
    while (now_ms() - begin < IDLE_MS * 4) {
        CHECK_OK(ahoy_send(conn, "x", 1));
        recv_exact(fd, &byte, 1);
        wait_moment();
    }
    CHECK_EQ(latch_count(&seen.closed), 2);
    latch_wait(&seen.closed, 3);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    close(fd);
    CHECK_EQ(seen.reasons[-AHOY_ERR_TIMEOUT], 3);
    ahoy_server_free(server);

    /* Many at once all go. */
    enum { MANY = 200 };
    int fds[MANY];
    seen = (tally)TALLY_INIT;
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .idle_ms = IDLE_MS,
                           .on_open = tally_open, .on_close = tally_close));
    for (int i = 0; i < MANY; i++) fds[i] = dial(server);
    latch_wait(&seen.closed, MANY);
    CHECK_EQ(seen.reasons[-AHOY_ERR_TIMEOUT], MANY);
    for (int i = 0; i < MANY; i++) close(fds[i]);
    ahoy_server_free(server);
    return 0;
}
