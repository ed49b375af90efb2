/*
 * More has happened in one turn than the rings have places for: thousands of connections that nobody reads from are sent
 * to, and their peers end their sides, while the one worker is busy. What the kernel breaks off for want of places goes on
 * later: a reset is still told at once, and one that is read from again tells all that it was sent.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

/* More than the rings have places for, which are 4096. */
enum { PEERS = 6000 };

static tally seen;
static latch busy, go_on;
static _Atomic uint64_t conns[PEERS];
static int fds[PEERS];
static long count;

static void on_open(ahoy_conn conn, void *user) {
    long number = latch_count(&seen.opened);
    if (number < count) {
        conns[number] = conn.id;
        CHECK_OK(ahoy_conn_pause(conn));
    }
    tally_open(conn, user);
}

/* Only the last to come is read from: it says when the worker is to be busy, and when to read from the others again. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    switch (*(const char *)data) {
    case 'b':
        latch_add(&busy, 1);
        latch_wait(&go_on, 1);
        for (long i = 0; i < count; i++) CHECK_OK(ahoy_send((ahoy_conn){ conns[i] }, "!", 1));
        CHECK_OK(ahoy_send(conn, data, len));
        break;
    case 'r':
        for (long i = 0; i < count; i++) CHECK_OK(ahoy_conn_resume((ahoy_conn){ conns[i] }));
        break;
    default:
        tally_message(conn, data, len, user);
    }
}

static ahoy_server begin(int32_t driver) {
    seen = (tally)TALLY_INIT;
    busy = (latch)LATCH_INIT, go_on = (latch)LATCH_INIT;
    return start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .driver = driver, .connections_max = PEERS + 1,
                         .on_open = on_open, .on_message = on_message, .on_end = tally_end, .on_close = tally_close));
}

/* All that come, and the one that the worker listens to; and what they have done while it was busy. */
static int crowd(ahoy_server server, bool speaks) {
    char answer;
    for (long i = 0; i < count; i++) fds[i] = dial(server);
    latch_wait(&seen.opened, count);
    int caller = dial(server);
    send_all(caller, "b", 1);
    latch_wait(&busy, 1);
    for (long i = 0; i < count; i++) {
        if (speaks) send_all(fds[i], "word", 4);
        CHECK(!shutdown(fds[i], SHUT_WR));
    }
    latch_add(&go_on, 1);
    for (long i = 0; i < count; i++) recv_exact(fds[i], &answer, 1);
    recv_exact(caller, &answer, 1);
    return caller;
}

static void resets_are_told(int32_t driver) {
    ahoy_server server = begin(driver);
    int caller = crowd(server, false);
    for (long i = 0; i < count; i++) close_reset(fds[i]);
    latch_wait(&seen.closed, count);
    CHECK_EQ(seen.reasons[-AHOY_ERR_RESET], count);
    CHECK_EQ(latch_count(&seen.ended), 0);
    close(caller);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), count + 1);
}

static void words_are_told(int32_t driver) {
    ahoy_server server = begin(driver);
    int caller = crowd(server, true);
    send_all(caller, "r", 1);
    latch_wait(&seen.ended, count);
    CHECK_EQ(latch_count(&seen.bytes), 4 * count);
    for (long i = 0; i < count; i++) close(fds[i]);
    close(caller);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), count + 1);
}

int main(void) {
    deadline_seconds(120);
    if (!descriptors_allow(2 * PEERS + 100)) skip_test("too few descriptors");
    /* Under a slow tool, too, it has to be more than there are places. */
    count = is_slow() ? PEERS - 1000 : PEERS;
    resets_are_told(AHOY_DRIVER_EPOLL), words_are_told(AHOY_DRIVER_EPOLL);
    need_uring();
    resets_are_told(AHOY_DRIVER_URING), words_are_told(AHOY_DRIVER_URING);
    return 0;
}
