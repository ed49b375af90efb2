/*
 * ahoy_server_free waits: when it has returned, every on_close and on_free has, too, and no thread and no
 * descriptor is left, however busy the server was.
 */
#include "support.h"

#include <unistd.h>

enum { CONNS = 50, WORKERS = 4 };

static tally seen;
static atomic_bool over;

static void on_open(ahoy_conn conn, void *user) {
    CHECK(!over);
    tally_open(conn, user);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK(!over);
    (void)user;
    ahoy_send(conn, data, len);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK(!over);
    tally_close(conn, reason, user);
}

static void on_free(void *user) {
    CHECK(!over);
    CHECK_EQ(latch_count(&seen.opened), latch_count(&seen.closed));
    tally_free(user);
}

int main(void) {
    for (long round = 0; round < rounds(30); round++) {
        holdings before = holdings_now();
        int fds[CONNS];
        seen = (tally)TALLY_INIT;
        over = false;
        ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = WORKERS, .user = &seen,
                                           .on_open = on_open, .on_message = on_message,
                                           .on_close = on_close, .on_free = on_free));
        CHECK_EQ(threads_running(), before.threads + WORKERS);
        for (int i = 0; i < CONNS; i++) fds[i] = dial(server);
        /* Some are being served, some not even accepted. */
        for (int i = 0; i < CONNS; i++) send_all(fds[i], "busy", 4);
        ahoy_server_free(server);
        over = true;
        CHECK_EQ(latch_count(&seen.freed), 1);
        for (int i = 0; i < CONNS; i++) close(fds[i]);
        CHECK_HOLDINGS(before);
    }
    return 0;
}
