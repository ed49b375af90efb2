/*
 * ahoy_conn_abort closes at once: the peer of a TCP connection sees a reset, what is queued is cut and counted, and
 * on_close says AHOY_OK, for this program has closed it. Legal everywhere, also while a close still waits.
 */
#include "support.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES = 8 << 20 };

static tally seen;
static latch freed;
static char answer[ANSWER_BYTES], got[ANSWER_BYTES];

static void on_open(ahoy_conn conn, void *user) {
    tally *seen = user;
    tally_open(conn, seen);
    if (latch_count(&seen->opened) == 100) CHECK_OK(ahoy_conn_abort(conn));
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (*(const char *)data == '!') {
        CHECK_OK(ahoy_send(conn, answer, sizeof answer));
        CHECK_OK(ahoy_conn_abort(conn));
        CHECK_STATUS(ahoy_send(conn, "x", 1), AHOY_ERR_CLOSED);
        CHECK_OK(ahoy_conn_abort(conn));
        CHECK_OK(ahoy_conn_close(conn));
    }
    tally_message(conn, data, len, user);
}

static void on_end(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_abort(conn));
    tally_end(conn, user);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    ahoy_status status = ahoy_conn_abort(conn);
    CHECK(status == AHOY_OK || status == AHOY_ERR_STALE);
    tally_close(conn, reason, user);
}

static ahoy_server begin(const char *listen, uint32_t drain_ms) {
    seen = (tally)TALLY_INIT;
    freed = (latch)LATCH_INIT;
    return start(OPTIONS(.listen = listen, .workers = 1, .user = &seen, .message_bytes_max = ANSWER_BYTES,
                         .queue_bytes_max = 2 * ANSWER_BYTES, .drain_ms = drain_ms, .on_open = on_open,
                         .on_message = on_message, .on_end = on_end, .on_close = on_close));
}

/* `cut_least`: so much at least was not sent. */
static void check_aborted(ahoy_server server, int fd, uint64_t queued, uint64_t cut_least) {
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(recv_until_eof(fd, got, sizeof got), -ECONNRESET);
    WAIT_UNTIL(stats_of(server).closed == 1);
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.bytes_out + stats.bytes_cut, queued);
    CHECK(stats.bytes_cut >= cut_least);
    CHECK_EQ(stats.connections_cut, stats.bytes_cut ? 1 : 0);
    CHECK_EQ(stats.bytes_queued, 0);
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
}

static void in_a_callback(void) {
    ahoy_server server = begin(LOOPBACK, 0);
    int fd = dial(server);
    send_all(fd, "!", 1);
    check_aborted(server, fd, ANSWER_BYTES, 1); /* some of a long answer leaves at once */
}

static void *abort_it(void *unused) {
    (void)unused;
    CHECK_OK(ahoy_conn_abort(tally_conn(&seen)));
    return NULL;
}

static void from_another_thread(void) {
    pthread_t thread;
    ahoy_server server = begin(LOOPBACK, 0);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    CHECK_OK(ahoy_send_owned(tally_conn(&seen), answer, sizeof answer, count_free, &freed));
    CHECK(!pthread_create(&thread, NULL, abort_it, NULL) && !pthread_join(thread, NULL));
    check_aborted(server, fd, ANSWER_BYTES, 0);
    CHECK_EQ(latch_count(&freed), 1);
}

static void with_nothing_queued(void) {
    ahoy_server server = begin(LOOPBACK, 0);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    abort_it(NULL);
    check_aborted(server, fd, 0, 0);
}

/* A close would wait for a minute for this peer. */
static void while_a_close_waits(void) {
    ahoy_server server = begin(LOOPBACK, 60000);
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    CHECK_OK(ahoy_send(conn, answer, sizeof answer));
    WAIT_UNTIL(ahoy_send(conn, answer, sizeof answer) == AHOY_OK); /* on its way it may count twice */
    WAIT_UNTIL(stats_of(server).bytes_out > 0);
    CHECK_OK(ahoy_conn_close(conn));
    WAIT_UNTIL(ahoy_conn_abort(conn) == AHOY_ERR_STALE || latch_count(&seen.closed) == 1);
    check_aborted(server, fd, 2 * ANSWER_BYTES, 1);
}

/* In the first callback and in that of the end; and where there is no reset to be seen. */
static void elsewhere(void) {
    ahoy_server server = begin(LOOPBACK, 0);
    latch_add(&seen.opened, 99);
    int fd = dial(server);
    check_aborted(server, fd, 0, 0);

    server = begin(LOOPBACK, 0);
    fd = dial(server);
    send_all(fd, "x", 1);
    latch_wait(&seen.messages, 1);
    CHECK(!shutdown(fd, SHUT_WR));
    check_aborted(server, fd, 0, 0);

    server = begin(abstract_url(), 0);
    fd = dial(server);
    send_all(fd, "!", 1);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(stats_of(server).bytes_out + stats_of(server).bytes_cut, ANSWER_BYTES);
    CHECK(stats_of(server).bytes_cut > 0);
    ssize_t end = recv_until_eof(fd, got, sizeof got); /* what had left is there */
    CHECK(end < 0 || (uint64_t)end == stats_of(server).bytes_out);
    close(fd);
    ahoy_server_free(server);
    CHECK_STATUS(ahoy_conn_abort(tally_conn(&seen)), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_conn_abort((ahoy_conn){ 0 }), AHOY_ERR_STALE);
}

int main(void) {
    in_a_callback();
    from_another_thread();
    with_nothing_queued();
    while_a_close_waits();
    elsewhere();
    return 0;
}
