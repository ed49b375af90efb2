/*
 * `message_bytes_max` holds in both directions: longer reads come in parts, none above the limit and none
 * lost; longer sends answer AHOY_ERR_TOO_LONG and queue nothing.
 */
#include "support.h"

#include <unistd.h>

enum { LIMIT = 1000, TOTAL = 1000000 };

static tally seen = TALLY_INIT;
static size_t received;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK(len <= LIMIT);
    CHECK(pattern_matches(data, len, received));
    received += len;
    tally_message(conn, data, len, user);
}

int main(void) {
    static char bytes[TOTAL];
    pattern_fill(bytes, sizeof bytes, 0);
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .message_bytes_max = LIMIT, .on_open = tally_open,
                                       .on_message = on_message, .on_close = tally_close));
    int fd = dial(server);
    send_all(fd, bytes, sizeof bytes);
    latch_wait(&seen.bytes, TOTAL);
    CHECK(latch_count(&seen.messages) >= TOTAL / LIMIT);
    CHECK_EQ(stats_of(server).bytes_in, TOTAL);

    latch freed = LATCH_INIT;
    ahoy_conn conn = tally_conn(&seen);
    CHECK_STATUS(ahoy_send(conn, bytes, LIMIT + 1), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_send(conn, bytes, SIZE_MAX), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_send_owned(conn, bytes, LIMIT + 1, count_free, &freed), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_send_owned(conn, bytes, SIZE_MAX, count_free, &freed), AHOY_ERR_TOO_LONG);
    CHECK_EQ(latch_count(&freed), 0);
    CHECK_EQ(stats_of(server).bytes_queued, 0);

    /* The limit itself is fine. */
    char got[LIMIT];
    CHECK_OK(ahoy_send(conn, bytes, LIMIT));
    recv_exact(fd, got, LIMIT);
    CHECK(pattern_matches(got, LIMIT, 0));
    CHECK_OK(ahoy_send_owned(conn, bytes, LIMIT, count_free, &freed));
    recv_exact(fd, got, LIMIT);
    CHECK(pattern_matches(got, LIMIT, 0));
    latch_wait(&freed, 1);
    close(fd);
    ahoy_server_free(server);

    /* A queue shorter than a message limits as well: such a send could never succeed. */
    seen = (tally)TALLY_INIT;
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .queue_bytes_max = LIMIT,
                           .on_open = tally_open, .on_message = tally_message));
    fd = dial(server);
    latch_wait(&seen.opened, 1);
    CHECK_STATUS(ahoy_send(tally_conn(&seen), bytes, LIMIT + 1), AHOY_ERR_TOO_LONG);
    CHECK_OK(ahoy_send(tally_conn(&seen), bytes, LIMIT));
    recv_exact(fd, got, LIMIT);
    WAIT_UNTIL(stats_of(server).bytes_queued == 0);
    /* 64 bytes more than its length count for an owned send. */
    CHECK_STATUS(ahoy_send_owned(tally_conn(&seen), bytes, LIMIT - 63, NULL, NULL), AHOY_ERR_TOO_LONG);
    CHECK_OK(ahoy_send_owned(tally_conn(&seen), bytes, LIMIT - 64, NULL, NULL));
    recv_exact(fd, got, LIMIT - 64);
    close(fd);
    ahoy_server_free(server);
    return 0;
}
