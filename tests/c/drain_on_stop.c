/*
 * A stop sends what is queued before it closes; a peer that never reads is cut off after `drain_ms`, and
 * what it did not get is counted. A later stop can shorten the time, never lengthen it.
 */
#include "support.h"

#include <unistd.h>

enum { ANSWER_BYTES = 8 * 1024 * 1024, DRAIN_MS = 300 };

static tally seen;
static char answer[ANSWER_BYTES], got[ANSWER_BYTES];

/* A server with one connection that has much to send to the client behind `fd`. */
static ahoy_server begin(int *fd) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen,
                                       .message_bytes_max = ANSWER_BYTES,
                                       .queue_bytes_max = ANSWER_BYTES, .on_open = tally_open,
                                       .on_message = tally_message, .on_close = tally_close,
                                       .on_free = tally_free, .drain_ms = DRAIN_MS));
    *fd = dial(server);
    latch_wait(&seen.opened, 1);
    CHECK_OK(ahoy_send(tally_conn(&seen), answer, sizeof answer));
    return server;
}

static bool is_refused(const char *url) {
    int fd = try_dial_url(url);
    if (fd >= 0) close(fd);
    return fd < 0;
}

static void queued_bytes_arrive(void) {
    int fd;
    ahoy_server server = begin(&fd);
    char url[128];
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    CHECK_OK(ahoy_server_stop(server, 60000));
    CHECK_OK(ahoy_server_stop(server, 60000));

    /* It accepts no more, neither a client nor a socket; who came just before is served. */
    WAIT_UNTIL(is_refused(url));
    int pair[2];
    stream_pair(pair);
    CHECK_STATUS(ahoy_server_adopt(server, pair[0], NULL), AHOY_ERR_STOPPED);
    close(pair[0]), close(pair[1]);

    CHECK_EQ(recv_until_eof(fd, got, sizeof got), ANSWER_BYTES);
    CHECK(pattern_matches(got, sizeof got, 0));
    CHECK_OK(ahoy_server_wait(server));
    CHECK(seen.reasons[-AHOY_ERR_STOPPED] >= 1);
    CHECK_EQ(latch_count(&seen.closed), latch_count(&seen.opened));
    CHECK_EQ(latch_count(&seen.freed), 1);
    ahoy_stats stats = stats_of(server); /* also after it has stopped */
    CHECK_EQ(stats.bytes_out, ANSWER_BYTES);
    CHECK_EQ(stats.bytes_cut, 0);
    CHECK_EQ(stats.connections_cut, 0);
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    ahoy_server_free(server);
    close(fd);
}

/* What the peer has got, and what was cut, is all that was queued. */
static void check_cut(ahoy_server server, int fd) {
    CHECK_OK(ahoy_server_wait(server));
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
    ahoy_stats stats = stats_of(server);
    ssize_t arrived = recv_until_eof(fd, got, sizeof got);
    CHECK(stats.bytes_cut > 0);
    CHECK_EQ(stats.connections_cut, 1);
    CHECK_EQ(stats.bytes_out + stats.bytes_cut, ANSWER_BYTES);
    CHECK_EQ(stats.bytes_queued, 0);
    CHECK_EQ(arrived, stats.bytes_out);
    CHECK(pattern_matches(got, (size_t)arrived, 0));
    ahoy_server_free(server);
    close(fd);
}

static void a_peer_that_never_reads_is_cut(void) {
    int fd;
    ahoy_server server = begin(&fd);
    long begin_ms = now_ms();
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    CHECK_OK(ahoy_server_wait(server));
    long spent = now_ms() - begin_ms;
    CHECK(spent >= DRAIN_MS - 20);
    if (!is_slow()) CHECK(spent < DRAIN_MS * 5);
    check_cut(server, fd);
}

static void stop_with_0_cuts_at_once(void) {
    int fd;
    ahoy_server server = begin(&fd);
    CHECK_OK(ahoy_server_stop(server, 0));
    check_cut(server, fd);
}

/* What the system takes at once is not cut, in however many pieces it is queued. */
static void stop_with_0_sends_what_the_system_takes(bool by_free) {
    enum { PIECES = 1000 };
    int fd;
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .on_open = tally_open, .on_message = tally_message));
    fd = dial(server);
    latch_wait(&seen.opened, 1);
    for (int i = 0; i < PIECES; i++) {
        ahoy_status status;
        while ((status = ahoy_send_owned(tally_conn(&seen), answer + i, 1, NULL, NULL)) == AHOY_ERR_AGAIN) {
            wait_moment();
        }
        CHECK_OK(status);
    }
    if (!by_free) CHECK_OK(ahoy_server_stop(server, 0));
    else ahoy_server_free(server);
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), PIECES);
    CHECK(pattern_matches(got, PIECES, 0));
    ahoy_server_free(server);
    close(fd);
}

static void a_later_stop_shortens(void) {
    int fd;
    ahoy_server server = begin(&fd);
    long begin_ms = now_ms();
    CHECK_OK(ahoy_server_stop(server, 60 * 60 * 1000));
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server));
    CHECK(now_ms() - begin_ms < 30000);
    check_cut(server, fd);

    server = begin(&fd);
    CHECK_OK(ahoy_server_stop(server, 100));
    CHECK_OK(ahoy_server_stop(server, 60 * 60 * 1000)); /* does not lengthen */
    check_cut(server, fd);
}

int main(void) {
    pattern_fill(answer, sizeof answer, 0);
    queued_bytes_arrive();
    a_peer_that_never_reads_is_cut();
    stop_with_0_cuts_at_once();
    stop_with_0_sends_what_the_system_takes(false);
    stop_with_0_sends_what_the_system_takes(true);
    a_later_stop_shortens();
    return 0;
}
