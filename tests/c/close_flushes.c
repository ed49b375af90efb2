/*
 * ahoy_conn_close after a large send delivers everything first, also from another thread; what was sent
 * after the close is refused; a peer that does not take it is cut off after `drain_ms`.
 */
#include "support.h"

#include <unistd.h>

enum { ANSWER_BYTES = 16 * 1024 * 1024 };

static tally seen;
static char answer[ANSWER_BYTES], got[ANSWER_BYTES];

static void send_and_close(ahoy_conn conn) {
    CHECK_OK(ahoy_send(conn, answer, ANSWER_BYTES / 2));
    CHECK_OK(ahoy_send(conn, answer + ANSWER_BYTES / 2, ANSWER_BYTES / 2));
    CHECK_OK(ahoy_conn_close(conn));
    /* By now it may even be over. */
    ahoy_status status = ahoy_send(conn, "late", 4);
    CHECK(status == AHOY_ERR_CLOSED || status == AHOY_ERR_STALE);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    send_and_close(conn);
    CHECK_STATUS(ahoy_send(conn, "late", 4), AHOY_ERR_CLOSED);
    tally_message(conn, data, len, user);
}

static ahoy_server begin(uint32_t drain_ms) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open,
                         .message_bytes_max = ANSWER_BYTES, .queue_bytes_max = 2 * ANSWER_BYTES,
                         .on_message = on_message, .on_close = tally_close,
                         .drain_ms = drain_ms));
}

int main(void) {
    pattern_fill(answer, sizeof answer, 0);
    ahoy_server server = begin(60000);

    /* Inside a callback. The second message, which comes too late, is not handed over. */
    int fd = dial(server);
    send_all(fd, "ask", 3);
    latch_wait(&seen.messages, 1);
    send_all(fd, "more", 4);
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), ANSWER_BYTES);
    CHECK(pattern_matches(got, sizeof got, 0));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(latch_count(&seen.messages), 1);
    close(fd);

    /* From another thread. */
    fd = dial(server);
    latch_wait(&seen.opened, 2);
    send_and_close(tally_conn(&seen));
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), ANSWER_BYTES);
    CHECK(pattern_matches(got, sizeof got, 0));
    latch_wait(&seen.closed, 2);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(stats_of(server).bytes_cut, 0);
    close(fd);
    ahoy_server_free(server);

    /* A peer that does not read does not hold the connection open for ever. */
    server = begin(200);
    fd = dial(server);
    send_all(fd, "ask", 3);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    WAIT_UNTIL(stats_of(server).connections_cut == 1);
    CHECK_EQ(stats_of(server).bytes_out + stats_of(server).bytes_cut, ANSWER_BYTES);
    close(fd);
    ahoy_server_free(server);
    return 0;
}
