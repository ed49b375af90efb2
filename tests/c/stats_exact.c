/* The counts of ahoy_server_stats say exactly what was done, while it runs and after it has stopped. */
#include "support.h"

#include <unistd.h>

enum { CONNS = 20, MESSAGES = 10, BYTES = 300 };

static tally seen = TALLY_INIT;

int main(void) {
    static char bytes[1 << 20];
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 2, .user = &seen,
                                       .connections_max = CONNS, .on_open = tally_open,
                                       .on_message = tally_echo, .on_close = tally_close));
    ahoy_stats stats = stats_of(server);
    const ahoy_stats fresh = { .size = sizeof fresh, .workers = 2, .turns = stats.turns };
    CHECK(memcmp(&stats, &fresh, sizeof stats) == 0); /* nothing else has happened */

    int fds[CONNS];
    for (int i = 0; i < CONNS; i++) fds[i] = dial(server);
    latch_wait(&seen.opened, CONNS);
    for (int message = 1; message <= MESSAGES; message++) {
        for (int i = 0; i < CONNS; i++) {
            send_all(fds[i], bytes, BYTES);
            recv_exact(fds[i], bytes, BYTES);
        }
    }
    int refused = dial(server);
    CHECK_EQ(recv_until_eof(refused, bytes, 1), 0);
    close(refused);

    WAIT_UNTIL(stats_of(server).bytes_out == (uint64_t)CONNS * MESSAGES * BYTES);
    stats = stats_of(server);
    CHECK_EQ(stats.connections, CONNS);
    CHECK(stats.connections_worker_max >= CONNS / 2 && stats.connections_worker_max <= CONNS);
    CHECK_EQ(stats.opened, CONNS);
    CHECK_EQ(stats.closed, 0);
    CHECK_EQ(stats.refused, 1);
    CHECK_EQ(stats.aborted, 0);
    CHECK_EQ(stats.rests, 0);
    CHECK_EQ(stats.messages_in, latch_count(&seen.messages));
    CHECK_EQ(stats.messages_out, stats.messages_in);
    CHECK_EQ(stats.bytes_in, CONNS * MESSAGES * BYTES);
    CHECK_EQ(stats.bytes_queued, 0);
    CHECK_EQ(stats.bytes_cut, 0);
    CHECK_EQ(stats.connections_cut, 0);
    CHECK_EQ(stats.panics, 0);

    /* A peer that does not read keeps bytes queued; when it leaves, they are cut. */
    ahoy_conn conn = tally_conn(&seen);
    uint64_t accepted = 0;
    while (stats_of(server).bytes_queued < 600000) { /* more than the system still takes */
        ahoy_status status = ahoy_send(conn, bytes, 50000);
        if (status == AHOY_OK) accepted += 50000;
        else CHECK_STATUS(status, AHOY_ERR_AGAIN);
    }
    for (int i = 0; i < CONNS; i++) close(fds[i]);
    latch_wait(&seen.closed, CONNS);
    WAIT_UNTIL(stats_of(server).closed == CONNS);
    stats = stats_of(server);
    CHECK_EQ(stats.connections, 0);
    CHECK_EQ(stats.connections_worker_max, 0);
    CHECK_EQ(stats.connections_cut, 1);
    CHECK_EQ(stats.bytes_queued, 0);
    CHECK_EQ(stats.bytes_out + stats.bytes_cut, CONNS * MESSAGES * BYTES + accepted);

    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    ahoy_stats after = stats_of(server);
    CHECK_EQ(after.opened, stats.opened);
    CHECK_EQ(after.closed, stats.closed);
    CHECK_EQ(after.bytes_in, stats.bytes_in);
    CHECK_EQ(after.bytes_out, stats.bytes_out);
    CHECK_EQ(after.bytes_cut, stats.bytes_cut);
    ahoy_server_free(server);
    return 0;
}
