/*
 * ahoy_send_owned: the memory is the library's until on_free, which is called exactly once: when it is
 * sent, and also when the connection closes, breaks or the server stops before; never after an error.
 */
#include "support.h"

#include <unistd.h>

enum { PIECE_BYTES = 100000, PIECES = 40 };

static tally seen;
static latch freed;

/* Memory that a sanitizer watches: a use after the free, or a second free, would show. */
static void free_and_count(void *memory) {
    free(memory);
    latch_add(&freed, 1);
}

static ahoy_status send_piece(ahoy_conn conn, size_t len, size_t offset) {
    char *memory = malloc(len);
    pattern_fill(memory, len, offset);
    ahoy_status status = ahoy_send_owned(conn, memory, len, free_and_count, memory);
    if (status) free(memory); /* it stayed ours */
    return status;
}

static ahoy_server begin(int *fd, uint32_t queue_bytes_max) {
    seen = (tally)TALLY_INIT;
    freed = (latch)LATCH_INIT;
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                                       .queue_bytes_max = queue_bytes_max, .drain_ms = 100,
                                       .on_open = tally_open, .on_message = tally_message,
                                       .on_close = tally_close));
    *fd = dial(server);
    latch_wait(&seen.opened, 1);
    return server;
}

/* In the order of the calls, also among copied sends, and whether short or long. */
static void arrive_in_order(void) {
    static char got[PIECES * (PIECE_BYTES + 10)];
    int fd;
    ahoy_server server = begin(&fd, 64 << 20);
    size_t sent = 0;
    for (int i = 0; i < PIECES; i++) {
        char copied[10];
        pattern_fill(copied, sizeof copied, sent);
        CHECK_OK(ahoy_send(tally_conn(&seen), copied, sizeof copied));
        sent += sizeof copied;
        size_t len = i % 3 ? PIECE_BYTES : 1 + (size_t)i;
        CHECK_OK(send_piece(tally_conn(&seen), len, sent));
        sent += len;
    }
    recv_exact(fd, got, sent);
    CHECK(pattern_matches(got, sent, 0));
    latch_wait(&freed, PIECES);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), PIECES);
    close(fd);
}

/* Sends more than the system takes, then lets the connection end in some way. */
static long queue_pieces(ahoy_conn conn) {
    long accepted = 0;
    while (accepted < PIECES) {
        CHECK_OK(send_piece(conn, PIECE_BYTES, 0));
        accepted++;
    }
    return accepted;
}

static void freed_when_the_peer_leaves(void) {
    int fd;
    ahoy_server server = begin(&fd, 64 << 20);
    long accepted = queue_pieces(tally_conn(&seen));
    close(fd);
    latch_wait(&freed, accepted);
    latch_wait(&seen.closed, 1);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), accepted);
}

static void freed_when_a_close_runs_out_of_time(void) {
    int fd;
    ahoy_server server = begin(&fd, 64 << 20);
    long accepted = queue_pieces(tally_conn(&seen));
    CHECK_OK(ahoy_conn_close(tally_conn(&seen)));
    latch_wait(&freed, accepted);
    latch_wait(&seen.closed, 1);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), accepted);
    close(fd);
}

static void freed_when_the_server_goes(bool stop) {
    int fd;
    ahoy_server server = begin(&fd, 64 << 20);
    long accepted = queue_pieces(tally_conn(&seen));
    if (stop) {
        CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
        CHECK_OK(ahoy_server_wait(server));
        CHECK_EQ(latch_count(&freed), accepted);
    }
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), accepted);
    close(fd);
}

static void never_freed_after_an_error(void) {
    int fd;
    ahoy_server server = begin(&fd, 2 * PIECE_BYTES);
    ahoy_conn conn = tally_conn(&seen);
    long accepted = 0;
    /* Until the peer's buffers and the queue are full for good. */
    while (stats_of(server).bytes_queued < PIECE_BYTES + 1) {
        ahoy_status status = send_piece(conn, PIECE_BYTES, 0);
        if (status) CHECK_STATUS(status, AHOY_ERR_AGAIN);
        else accepted++;
    }
    CHECK_STATUS(send_piece(conn, 3 * PIECE_BYTES, 0), AHOY_ERR_TOO_LONG);
    CHECK_OK(ahoy_conn_close(conn));
    ahoy_status status = send_piece(conn, 10, 0);
    CHECK(status == AHOY_ERR_CLOSED || status == AHOY_ERR_STALE);
    close(fd);
    latch_wait(&seen.closed, 1);
    WAIT_UNTIL(send_piece(conn, 10, 0) == AHOY_ERR_STALE);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), accepted);
}

/* Nothing to send is still given back. */
static void empty(void) {
    int fd;
    ahoy_server server = begin(&fd, 0);
    CHECK_OK(send_piece(tally_conn(&seen), 0, 0));
    latch_wait(&freed, 1);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 1);
    close(fd);
}

int main(void) {
    arrive_in_order();
    freed_when_the_peer_leaves();
    freed_when_a_close_runs_out_of_time();
    freed_when_the_server_goes(true);
    freed_when_the_server_goes(false);
    never_freed_after_an_error();
    empty();
    return 0;
}
