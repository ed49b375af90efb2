/*
 * A peer that takes nothing of what is queued for it for `write_ms` is closed (AHOY_ERR_TIMEOUT). One that takes a
 * little now and then is not, however long it takes in all; nor is one for which nothing is queued.
 */
#include "support.h"

#include <unistd.h>

enum { WRITE_MS = 200, ANSWER_BYTES = 2 << 20, PIECE_BYTES = 16 << 10 };

static tally seen = TALLY_INIT;
static char answer[ANSWER_BYTES], got[ANSWER_BYTES];
static _Atomic long closed_ms;

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    closed_ms = now_ms();
    tally_close(conn, reason, user);
}

int main(void) {
    pattern_fill(answer, sizeof answer, 0);
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                                       .message_bytes_max = ANSWER_BYTES, .queue_bytes_max = ANSWER_BYTES,
                                       .write_ms = WRITE_MS, .on_open = tally_open,
                                       .on_message = tally_message, .on_close = on_close));
    int quiet = dial(server);
    latch_wait(&seen.opened, 1);
    int slow = dial(server);
    latch_wait(&seen.opened, 2);
    ahoy_conn slow_conn = tally_conn(&seen);
    int stuck = dial(server);
    latch_wait(&seen.opened, 3);

    long begin_ms = now_ms();
    CHECK_OK(ahoy_send(slow_conn, answer, sizeof answer));
    CHECK_OK(ahoy_send(tally_conn(&seen), answer, sizeof answer));

    /* The slow one reads in steps, all of them together much longer than the deadline. */
    size_t read_bytes = 0;
    for (long step = 1; step <= 20; step++) {
        recv_exact(slow, got + read_bytes, 2 * PIECE_BYTES);
        read_bytes += 2 * PIECE_BYTES;
        while (now_ms() - begin_ms < step * WRITE_MS / 5) wait_moment();
    }
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    CHECK(closed_ms - begin_ms >= WRITE_MS);
    if (!is_slow()) CHECK(closed_ms - begin_ms < 5 * WRITE_MS);
    CHECK(ahoy_conn_server(slow_conn).id == server.id);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.connections_cut, 1);
    CHECK(stats.bytes_cut > 0);

    recv_exact(slow, got + read_bytes, sizeof got - read_bytes);
    CHECK(pattern_matches(got, sizeof got, 0));

    /* Once more, after it had nothing to take for a while: the time begins with the new message. */
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    begin_ms = now_ms();
    CHECK_OK(ahoy_send(slow_conn, answer, sizeof answer));
    latch_wait(&seen.closed, 2);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    CHECK(closed_ms - begin_ms >= WRITE_MS);
    if (!is_slow()) CHECK(closed_ms - begin_ms < 5 * WRITE_MS);

    send_all(quiet, "here", 4);
    latch_wait(&seen.bytes, 4);
    CHECK_EQ(latch_count(&seen.closed), 2);
    close(quiet), close(slow), close(stuck);
    ahoy_server_free(server);
    return 0;
}
