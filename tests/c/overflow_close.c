/*
 * AHOY_OVERFLOW_CLOSE: a connection whose queue is full is closed (AHOY_ERR_OVERFLOW), as by an abort: what is queued
 * is cut and counted, the peer sees a reset. Nobody else notices.
 */
#include "support.h"

#include <errno.h>
#include <unistd.h>

/* Pieces are too short to be sent at once. */
enum { PIECE_BYTES = 8000, QUEUE_BYTES = 200000 };

static tally seen;
static latch refused;
static _Atomic uint64_t accepted;

static const char piece[PIECE_BYTES];

/* Sends until the queue is full; then there is no connection any more. */
static void overflow(ahoy_conn conn) {
    ahoy_status status;
    while (!(status = ahoy_send(conn, piece, sizeof piece))) accepted += sizeof piece;
    CHECK_STATUS(status, AHOY_ERR_OVERFLOW);
    latch_add(&refused, 1);
    status = ahoy_send(conn, "x", 1);
    CHECK(status == AHOY_ERR_CLOSED || status == AHOY_ERR_STALE);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (*(const char *)data == '!') overflow(conn);
    else CHECK_OK(ahoy_send(conn, data, len));
    tally_message(conn, data, len, user);
}

static ahoy_server begin(const char *listen, uint64_t total) {
    seen = (tally)TALLY_INIT;
    refused = (latch)LATCH_INIT;
    accepted = 0;
    return start(OPTIONS(.listen = listen, .workers = 1, .user = &seen, .queue_bytes_max = QUEUE_BYTES,
                         .queue_total_bytes_max = total, .overflow = AHOY_OVERFLOW_CLOSE,
                         .on_open = tally_open, .on_message = on_message, .on_writable = tally_writable,
                         .on_close = tally_close));
}

static void echo_round(int fd) {
    char echo[4];
    send_all(fd, "echo", 4);
    recv_exact(fd, echo, 4);
}

static void check_overflowed(ahoy_server server, int fd, bool tcp) {
    static char got[1 << 20];
    latch_wait(&refused, 1);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_OVERFLOW);
    CHECK_EQ(latch_count(&seen.writable), 0);
    WAIT_UNTIL(stats_of(server).closed == 1);
    ahoy_stats stats = stats_of(server);
    /* What another thread has queued may all be out by the time that the worker hears of the overflow. */
    CHECK_EQ(stats.connections_cut, stats.bytes_cut > 0);
    CHECK_EQ(stats.messages_refused, 1);
    CHECK_EQ(stats.bytes_queued, 0);
    ssize_t end = recv_until_eof(fd, got, sizeof got);
    if (tcp) CHECK_EQ(end, -ECONNRESET);
    else CHECK(end >= 0 && end < QUEUE_BYTES * 4);
    close(fd);
}

static void in_a_callback(const char *listen) {
    ahoy_server server = begin(listen, 0);
    int other = dial(server), fd = dial(server);
    latch_wait(&seen.opened, 2);
    echo_round(other);
    send_all(fd, "!", 1);
    check_overflowed(server, fd, listen[0] == 't');
    /* The callback filled the queue before anything could leave. */
    CHECK_EQ(stats_of(server).bytes_cut, accepted);
    CHECK_EQ(accepted, QUEUE_BYTES);
    echo_round(other);
    CHECK_EQ(latch_count(&seen.closed), 1);
    close(other);
    ahoy_server_free(server);
}

static void from_another_thread(const char *listen) {
    ahoy_server server = begin(listen, 0);
    int other = dial(server);
    latch_wait(&seen.opened, 1);
    int fd = dial(server);
    latch_wait(&seen.opened, 2);
    echo_round(other);
    overflow(tally_conn(&seen));
    check_overflowed(server, fd, listen[0] == 't');
    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.bytes_cut + stats.bytes_out, accepted + 4);
    echo_round(other);
    close(other);
    ahoy_server_free(server);
}

/* When the room of all together is taken, nobody is to blame: a send is refused, and nobody is closed. */
static void over_the_total(void) {
    enum { CONNS = 8, TOTAL_BYTES = 4 * QUEUE_BYTES };
    int fds[CONNS];
    ahoy_conn conns[CONNS];
    ahoy_server server = begin(abstract_url(), TOTAL_BYTES);
    for (int i = 0; i < CONNS; i++) {
        fds[i] = dial(server);
        latch_wait(&seen.opened, i + 1);
        conns[i] = tally_conn(&seen);
    }
    bool full = false;
    for (int i = 0; !full; i = (i + 1) % CONNS) {
        if (ahoy_conn_queued(conns[i]) > QUEUE_BYTES - 2 * PIECE_BYTES) continue;
        ahoy_status status = ahoy_send(conns[i], piece, sizeof piece);
        if (status) CHECK_STATUS(status, AHOY_ERR_AGAIN);
        full = status == AHOY_ERR_AGAIN;
        CHECK(stats_of(server).bytes_queued <= TOTAL_BYTES);
    }
    CHECK_EQ(latch_count(&seen.closed), 0);
    for (int i = 0; i < CONNS; i++) close(fds[i]);
    latch_wait(&seen.closed, CONNS);
    ahoy_server_free(server);
}

int main(void) {
    in_a_callback(LOOPBACK);
    in_a_callback(abstract_url());
    from_another_thread(LOOPBACK);
    from_another_thread(abstract_url());
    over_the_total();
    return 0;
}
