/*
 * The peer resets the connection while bytes go both ways: on_close says AHOY_ERR_RESET, once, and what
 * was queued is counted as cut.
 */
#include "support.h"

#include <unistd.h>

static tally seen = TALLY_INIT;

static void flood(ahoy_conn conn, const void *data, size_t len, void *user) {
    static const char block[65536] = { 0 };
    while (ahoy_send(conn, block, sizeof block) == AHOY_OK) {}
    tally_message(conn, data, len, user);
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .queue_bytes_max = 64 * 1024 * 1024, .on_open = tally_open,
                                       .on_message = flood, .on_close = tally_close));
    const long total = rounds(50);
    for (long round = 1; round <= total; round++) {
        int fd = dial(server);
        send_all(fd, "half a mess", 11);
        latch_wait(&seen.messages, round); /* more is queued than the system takes */
        close_reset(fd);
        latch_wait(&seen.closed, round);
        CHECK_STATUS(seen.reason, AHOY_ERR_RESET);
    }
    WAIT_UNTIL(stats_of(server).closed == (uint64_t)total);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.opened, total);
    CHECK_EQ(stats.connections, 0);
    CHECK_EQ(stats.connections_cut, total);
    CHECK(stats.bytes_cut > 0);
    CHECK_EQ(stats.bytes_queued, 0);

    /* A reset before anything was said. */
    for (long round = 1; round <= total; round++) {
        int fd = dial(server);
        latch_wait(&seen.opened, total + round);
        close_reset(fd);
        latch_wait(&seen.closed, total + round);
        CHECK_STATUS(seen.reason, AHOY_ERR_RESET);
    }
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.opened), 2 * total);
    CHECK_EQ(latch_count(&seen.closed), 2 * total);
    return 0;
}
