/*
 * Many peers that do not read: together they hold at most `queue_total_bytes_max`. Each one that was
 * refused gets its on_writable once there is room.
 */
#include "support.h"

#include <unistd.h>

enum { CONNS = 32, PIECE_BYTES = 4 * 1024, QUEUE_BYTES = 256 * 1024, TOTAL_BYTES = 1024 * 1024 };

static tally seen = TALLY_INIT;
static _Atomic uint64_t conns[CONNS];
static atomic_int conns_open;
static atomic_long refused, accepted[CONNS];

static void on_open(ahoy_conn conn, void *user) {
    conns[conns_open++] = conn.id;
    tally_open(conn, user);
}

/* Fills every connection from one callback, where nothing leaves meanwhile: a piece is too short to be sent at once. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    static const char piece[PIECE_BYTES] = { 0 };
    ahoy_server server = ahoy_conn_server(conn);
    long total = 0;
    for (int i = 0; i < CONNS; i++) {
        long pieces = 0;
        ahoy_status status;
        while (!(status = ahoy_send((ahoy_conn){ conns[i] }, piece, sizeof piece))) pieces++;
        CHECK_STATUS(status, AHOY_ERR_AGAIN);
        CHECK(pieces <= QUEUE_BYTES / PIECE_BYTES);
        accepted[i] += pieces * PIECE_BYTES;
        total += pieces * PIECE_BYTES;
        refused++;
        CHECK(stats_of(server).bytes_queued <= TOTAL_BYTES);
    }
    CHECK_EQ(total, TOTAL_BYTES); /* four connections full, nothing for the others */
    tally_message(conn, data, len, user);
}

int main(void) {
    /* One worker, so that nothing leaves while the callback runs. */
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                                       .queue_bytes_max = QUEUE_BYTES,
                                       .queue_total_bytes_max = TOTAL_BYTES, .on_open = on_open,
                                       .on_message = on_message, .on_writable = tally_writable,
                                       .on_close = tally_close));
    int fds[CONNS];
    for (int i = 0; i < CONNS; i++) {
        fds[i] = dial(server);
        latch_wait(&seen.opened, i + 1);
    }
    send_all(fds[0], "go", 2);
    latch_wait(&seen.messages, 1);

    static char buffer[TOTAL_BYTES];
    for (int i = 0; i < CONNS; i++) recv_exact(fds[i], buffer, (size_t)accepted[i]);
    WAIT_UNTIL(latch_count(&seen.writable) == refused);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);

    /* There is room again for all of them. */
    for (int i = 0; i < CONNS; i++) {
        CHECK_OK(ahoy_send((ahoy_conn){ conns[i] }, "more", 4));
        recv_exact(fds[i], buffer, 4);
        CHECK(memcmp(buffer, "more", 4) == 0);
    }
    for (int i = 0; i < CONNS; i++) close(fds[i]);
    latch_wait(&seen.closed, CONNS);
    CHECK_EQ(latch_count(&seen.writable), refused);
    ahoy_server_free(server);
    return 0;
}
